#include "actors/management/management_supervisor.hpp"

#include <caf/actor_system.hpp>

#include "actors/management/catalog.hpp"
#include "actors/management/lease_manager.hpp"
#include "actors/management/monitor.hpp"
#include "actors/management/placement.hpp"
#include "actors/management/volume_directory.hpp"
#include "actors/migration/migration_supervisor.hpp"

namespace varve {

management_supervisor_actor::behavior_type
management_supervisor(management_supervisor_actor::stateful_pointer<management_supervisor_state> self,
                      context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

management_supervisor_actor::behavior_type management_supervisor_state::make_behavior(context_ptr context) {
  children_.emplace(self_, context, "management");
  auto child = [this, context](const std::string& path, const char* type, auto function, caf::timespan grace) {
    children_->start({path, type,
                      [this, context, function] {
                        return caf::actor_cast<caf::strong_actor_ptr>(self_->system().spawn(function, context));
                      },
                      grace});
  };
  // Each uses those above it, so the last is stopped first. Parents of others have longer to stop.
  const auto grace = context->options.stop_grace;
  child(path::monitor, monitor_state::name, monitor, grace);
  child(path::catalog, catalog_state::name, catalog, grace);
  child(path::placement, placement_state::name, placement, grace);
  child(path::volumes, volume_directory_state::name, volume_directory, 2 * grace);
  child(path::leases, lease_manager_state::name, lease_manager, grace);
  child(path::migrations, migration_supervisor_state::name, migration_supervisor, 2 * grace);
  return {
    [this](atom::start, const std::string& path) { children_->on_start(path); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
  };
}

} // namespace varve
