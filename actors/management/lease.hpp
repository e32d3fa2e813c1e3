#pragma once

#include "messages/interfaces.hpp"

namespace varve {

/// What a lease tells its manager.
using lease_owner_actor = caf::typed_actor<
  // The time given to it is over: answered with more time, or with the lease's end.
  caf::reacts_to<atom::expire, lease_id>,
  // The revocation is over: whether the holder has said that it uses the lease no more.
  caf::reacts_to<atom::release, lease_id, bool>,
  // The holder was asked to go on with reading only: whether it has said that it does.
  caf::reacts_to<atom::change, lease_id, bool>>;

/// One granted lease: counts its time and takes it back when told to. The rules are in the manager's lease_table; a
/// lease that dies is started again from there.
using lease_actor = caf::typed_actor<
  // There is so much time left.
  caf::reacts_to<atom::renew, caf::timespan>,
  // Asks the holder to give way (shards, count, grace) and reports.
  caf::reacts_to<atom::revoke, lease_holder_actor, shard_id, uint64_t, caf::timespan>,
  // Asks the holder to go on with reading only (shard, grace) and reports.
  caf::reacts_to<atom::change, lease_holder_actor, shard_id, caf::timespan>>;

/// The interface, and what the actor says to itself.
using lease_self = lease_actor::extend<caf::reacts_to<atom::tick, uint64_t>>::extend_with<inspected_actor>;

class lease_state {
public:
  static inline const char* name = "varve.lease";
  explicit lease_state(lease_self::pointer self) : self_(self) {}
  lease_self::behavior_type make_behavior(lease_owner_actor owner, lease_id id, caf::timespan time_left);

private:
  void renew(caf::timespan time_left);
  void tick(uint64_t timer);
  void revoke(const lease_holder_actor& holder, shard_id first, uint64_t count, caf::timespan grace);
  void lower(const lease_holder_actor& holder, shard_id shard, caf::timespan grace);

  lease_self::pointer self_;
  lease_owner_actor owner_;
  lease_id id_;
  /// Of the newest timer: older ones that fire are ignored.
  uint64_t timer_ = 0;
  bool revoking_ = false;
  bool lowering_ = false;
};

lease_self::behavior_type lease(lease_self::stateful_pointer<lease_state> self, lease_owner_actor owner, lease_id id,
                                caf::timespan time_left);

} // namespace varve
