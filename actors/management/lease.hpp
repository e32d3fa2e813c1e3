#pragma once

#include "messages/interfaces.hpp"

namespace varve {

/// What a lease tells its manager.
using lease_owner_actor = caf::typed_actor<
  // The revocation is over: whether the holder has said that it uses the lease no more.
  caf::reacts_to<atom::release, lease_id, bool>,
  // The holder was asked to go on with reading only: whether it has said that it does.
  caf::reacts_to<atom::change, lease_id, bool>>;

/// One granted lease: takes it back when told to, and is what the console shows of it. Its rules and its time are in
/// the manager, which renews a hundred thousand at once; a lease that dies is started again from there.
using lease_actor = caf::typed_actor<
  // Asks the holder to give way (shards, count, grace) and reports.
  caf::reacts_to<atom::revoke, lease_holder_actor, shard_id, uint64_t, caf::timespan>,
  // Asks the holder to go on with reading only (shard, grace) and reports.
  caf::reacts_to<atom::change, lease_holder_actor, shard_id, caf::timespan>>;

using lease_self = lease_actor::extend_with<inspected_actor>;

class lease_state {
public:
  static inline const char* name = "varve.lease";
  explicit lease_state(lease_self::pointer self) : self_(self) {}
  lease_self::behavior_type make_behavior(lease_owner_actor owner, lease_id id);

private:
  void revoke(const lease_holder_actor& holder, shard_id first, uint64_t count, caf::timespan grace);
  void lower(const lease_holder_actor& holder, shard_id shard, caf::timespan grace);

  lease_self::pointer self_;
  lease_owner_actor owner_;
  lease_id id_;
  bool revoking_ = false;
  bool lowering_ = false;
};

lease_self::behavior_type lease(lease_self::stateful_pointer<lease_state> self, lease_owner_actor owner, lease_id id);

} // namespace varve
