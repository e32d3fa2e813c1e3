#pragma once

#include <deque>
#include <functional>
#include <string>

#include <caf/typed_event_based_actor.hpp>

#include "actors/node_context.hpp"
#include "messages/atoms.hpp"
#include "messages/errors.hpp"
#include "messages/interfaces.hpp"
#include "messages/types.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

/// What an active shard says of itself.
struct shard_summary_info {
  uint64_t size = 0;
  uint64_t allocated_bytes = 0;
  epoch fence;
  bool incomplete = false;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, shard_summary_info& x) {
  return f(caf::meta::type_name("varve::shard_summary_info"), x.size, x.allocated_bytes, x.fence, x.incomplete);
}

/// One shard while it is active: child of its tier, who alone talks to it. Each request waits for the one before.
using shard_keeper_actor = caf::typed_actor<
  // Activates the shard and raises its fence if this epoch is higher; epoch 0 only activates. errc::stale_epoch for a
  // lower one, errc::not_found, errc::device_failed, errc::bad_format, errc::shard_moved for a sealed shard.
  caf::replies_to<atom::fence, epoch>::with<shard_summary_info>,
  // Passivates, then ends. errc::unavailable while it is in use: it goes on.
  caf::replies_to<atom::stop>::with<void>,
  // Deletes the shard, then ends. One that is not there is deleted.
  caf::replies_to<atom::remove>::with<void>,
  // Activates, reads all and compares: the number of bad blocks.
  caf::replies_to<atom::verify>::with<uint64_t>>;

using shard_keeper_self = shard_keeper_actor::extend<caf::reacts_to<returned>>::extend_with<inspected_actor>;

class shard_keeper_state {
public:
  static inline const char* name = "varve.shard";
  explicit shard_keeper_state(shard_keeper_self::pointer self) : self_(self) {}
  shard_keeper_self::behavior_type make_behavior(context_ptr context, std::string tier, shard_id id, generation of);

private:
  caf::typed_response_promise<shard_summary_info> fence(epoch to);
  caf::typed_response_promise<void> stop();
  caf::typed_response_promise<void> remove();
  caf::typed_response_promise<uint64_t> verify();

  /// Queues an act; `then` is called with the shard active, or with why it cannot be.
  void when_active(std::function<void(errc)> then);
  void queue(std::function<void()> act);
  /// What follows an act after which the shard is closed: the answer, then the end, unless more was asked meanwhile.
  std::function<void(errc)> ending(caf::typed_response_promise<void> promise);
  void next();
  caf::error refusal(errc code) const;
  actor_facts facts() const;

  shard_keeper_self::pointer self_;
  context_ptr context_;
  std::string tier_;
  shard_id id_;
  generation of_;
  bool active_ = false;
  shard_summary_info summary_;
  /// The first is under way. Bounded by the tier, which has one request of a kind under way for each holder.
  std::deque<std::function<void()>> acts_;
};

shard_keeper_self::behavior_type shard_keeper(shard_keeper_self::stateful_pointer<shard_keeper_state> self,
                                              context_ptr context, std::string tier, shard_id id, generation of);

} // namespace varve
