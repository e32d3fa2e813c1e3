#include "actors/management/lease.hpp"

#include "runtime/caf/reporting.hpp"

namespace varve {

lease_self::behavior_type lease(lease_self::stateful_pointer<lease_state> self, lease_owner_actor owner, lease_id id) {
  return self->state.make_behavior(std::move(owner), id);
}

lease_self::behavior_type lease_state::make_behavior(lease_owner_actor owner, lease_id id) {
  owner_ = std::move(owner);
  id_ = id;
  return {
    [this](atom::revoke, const lease_holder_actor& holder, shard_id first, uint64_t count, caf::timespan grace) {
      revoke(holder, first, count, grace);
    },
    [this](atom::change, const lease_holder_actor& holder, shard_id shard, caf::timespan grace) {
      lower(holder, shard, grace);
    },
    [this](atom::report) {
      return report_of(self_, {count_fact("lease", id_.value()), flag_fact("revoking", revoking_)});
    },
  };
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
