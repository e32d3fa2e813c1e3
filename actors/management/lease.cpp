#include "actors/management/lease.hpp"

#include "runtime/caf/reporting.hpp"

namespace varve {

lease_self::behavior_type lease(lease_self::stateful_pointer<lease_state> self, lease_owner_actor owner, lease_id id,
                                caf::timespan time_left) {
  return self->state.make_behavior(std::move(owner), id, time_left);
}

lease_self::behavior_type lease_state::make_behavior(lease_owner_actor owner, lease_id id, caf::timespan time_left) {
  owner_ = std::move(owner);
  id_ = id;
  renew(time_left);
  return {
    [this](atom::renew, caf::timespan time_left) { renew(time_left); },
    [this](atom::revoke, const lease_holder_actor& holder, shard_id first, uint64_t count, caf::timespan grace) {
      revoke(holder, first, count, grace);
    },
    [this](atom::change, const lease_holder_actor& holder, shard_id shard, caf::timespan grace) {
      lower(holder, shard, grace);
    },
    [this](atom::tick, uint64_t timer) { tick(timer); },
    [this](atom::report) {
      return report_of(self_, {count_fact("lease", id_.value()), flag_fact("revoking", revoking_)});
    },
  };
}

void lease_state::renew(caf::timespan time_left) {
  self_->delayed_send(self_, time_left, atom::tick_v, ++timer_);
}

void lease_state::tick(uint64_t timer) {
  // The manager renews all leases of a holder at once, in its table only: whether this one's time is over it alone
  // knows.
  if (timer == timer_)
    self_->send(owner_, atom::expire_v, id_);
}

void lease_state::revoke(const lease_holder_actor& holder, shard_id first, uint64_t count, caf::timespan grace) {
  if (revoking_)
    return;
  revoking_ = true;
  self_->request(holder, grace, atom::revoke_v, first, count)
    .then([this] { self_->send(owner_, atom::release_v, id_, true); },
          [this](const caf::error&) {
            revoking_ = false; // perhaps the holder has a successor, and is asked again
            self_->send(owner_, atom::release_v, id_, false);
          });
}

void lease_state::lower(const lease_holder_actor& holder, shard_id shard, caf::timespan grace) {
  if (revoking_ || lowering_)
    return;
  lowering_ = true;
  self_->request(holder, grace, atom::change_v, shard)
    .then(
      [this] {
        lowering_ = false;
        self_->send(owner_, atom::change_v, id_, true);
      },
      [this](const caf::error&) {
        lowering_ = false;
        self_->send(owner_, atom::change_v, id_, false);
      });
}

} // namespace varve
