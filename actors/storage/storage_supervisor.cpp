#include "actors/storage/storage_supervisor.hpp"

#include "actors/storage/tier.hpp"
#include "runtime/caf/reporting.hpp"

namespace varve {

storage_supervisor_actor::behavior_type
storage_supervisor(storage_supervisor_actor::stateful_pointer<storage_supervisor_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

storage_supervisor_actor::behavior_type storage_supervisor_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  children_.emplace(self_, context_, "storage");
  for (auto& settings : context_->options.tiers)
    if (settings.node.empty())
      children_->start({path::tier(settings.store.name), tier_state::name, [this, settings] {
                          return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(tier, context_, settings));
                        }});
  return {
    [this](atom::start, const std::string& child) { children_->on_start(child); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [this](atom::report) { return report_of(self_, children_->facts()); },
  };
}

} // namespace varve
