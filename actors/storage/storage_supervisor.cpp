#include "actors/storage/storage_supervisor.hpp"

#include "actors/storage/data_keeper.hpp"
#include "actors/storage/mover.hpp"
#include "actors/storage/tier.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/remote/remote_io.hpp"

namespace varve {

storage_supervisor_actor::behavior_type
storage_supervisor(storage_supervisor_actor::stateful_pointer<storage_supervisor_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

storage_supervisor_actor::behavior_type storage_supervisor_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  children_.emplace(self_, context_, "storage");
  start_mover();
  for (auto& settings : context_->options.tiers)
    if (settings.node.empty())
      children_->start({path::tier(settings.store.name), tier_state::name, [this, settings] {
                          return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(tier, context_, settings));
                        }});
  start_data_keeper();
  return {
    [this](atom::start, const std::string& child) { children_->on_start(child); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [this](atom::report) { return report_of(self_, children_->facts()); },
  };
}

void storage_supervisor_state::start_mover() {
  children_->start({path::mover, mover_state::name, [this, book = std::make_shared<move_book>()] {
                      return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(mover, context_, book));
                    }});
}

void storage_supervisor_state::start_data_keeper() {
  if (!context_->remote)
    return;
  // With predictable secrets anybody could write to this node's shards.
  if (!context_->fill_random) {
    context_->publish("DATA_KEYS_UNAVAILABLE", "there is nothing to make secrets from: no other node does I/O here");
    return;
  }
  auto book = std::make_shared<key_book>(context_->remote->reactors(), context_->fill_random);
  children_->start({path::data_keeper, data_keeper_state::name, [this, book] {
                      return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(data_keeper, context_, book));
                    }});
}

} // namespace varve
