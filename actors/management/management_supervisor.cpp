#include "actors/management/management_supervisor.hpp"

#include <caf/actor_system.hpp>

#include "actors/cluster/membership.hpp"
#include "actors/management/attachments.hpp"
#include "actors/management/catalog.hpp"
#include "actors/management/lease_manager.hpp"
#include "actors/management/monitor.hpp"
#include "actors/management/node_steward.hpp"
#include "actors/management/placement.hpp"
#include "actors/management/volume_directory.hpp"
#include "actors/migration/migration_supervisor.hpp"
#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"

namespace varve {

management_supervisor_actor::behavior_type
management_supervisor(management_supervisor_actor::stateful_pointer<management_supervisor_state> self,
                      context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

management_supervisor_actor::behavior_type management_supervisor_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  children_.emplace(self_, context_, "management");
  // Whoever leads: each manager hears for itself which nodes live.
  if (context_->link)
    children_->start({path::membership, membership_state::name, [this] {
                        return caf::actor_cast<caf::strong_actor_ptr>(self_->system().spawn(membership, context_));
                      }});
  if (context_->leadership)
    watch_ = context_->leadership->watch(returning<bool>(self_, [this](bool leads) { on_leadership(leads); }));
  else
    start_all();
  return {
    [this](atom::start, const std::string& path) { children_->on_start(path); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [](const returned& x) { x.run(); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts management_supervisor_state::facts() const {
  auto facts = children_->facts();
  facts.insert(facts.begin(), flag_fact("managing", managing_));
  return facts;
}

void management_supervisor_state::on_leadership(bool leads) {
  if (leads && !managing_ && !children_->stopping())
    start_all();
  else if (!leads && managing_ && !children_->stopping())
    // At once, children and all: what they still would do is refused. The next supervisor learns anew.
    self_->quit(make_error(errc::unavailable, context_->leadership->get().why_not));
}

void management_supervisor_state::start_all() {
  managing_ = true;
  auto child = [this](const std::string& path, const char* type, auto function, caf::timespan grace) {
    children_->start(
      {path, type,
       [this, function] { return caf::actor_cast<caf::strong_actor_ptr>(self_->system().spawn(function, context_)); },
       grace});
  };
  // Each uses those above it, so the last is stopped first. Parents of others have longer to stop.
  const auto grace = context_->options.stop_grace;
  child(path::monitor, monitor_state::name, monitor, grace);
  child(path::catalog, catalog_state::name, catalog, grace);
  child(path::placement, placement_state::name, placement, grace);
  child(path::volumes, volume_directory_state::name, volume_directory, 2 * grace);
  child(path::leases, lease_manager_state::name, lease_manager, grace);
  child(path::attachments, attachments_state::name, attachments, grace);
  child(path::migrations, migration_supervisor_state::name, migration_supervisor, 2 * grace);
  child(path::nodes, node_steward_state::name, node_steward, grace);
}

} // namespace varve
