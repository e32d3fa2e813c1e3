#pragma once

#include "tests/actors/management/management_fixture.hpp"

namespace varve {

using namespace std::chrono_literals;

/// Gives way as the test says.
struct holder_world {
  std::vector<std::pair<shard_id, uint64_t>> revoked;
  std::vector<shard_home> refreshed;
  std::vector<shard_id> lowered;
  bool gives_way = true;
  /// Whether it says that it goes on with reading only.
  bool reads_only = true;
};

inline lease_holder_actor::behavior_type fake_holder(lease_holder_actor::pointer self,
                                                     std::shared_ptr<holder_world> w) {
  return {
    [self, w](atom::revoke, shard_id first, uint64_t count) -> caf::result<void> {
      w->revoked.emplace_back(first, count);
      if (!w->gives_way)
        return self->make_response_promise<void>();
      return caf::unit;
    },
    [self, w](atom::change, shard_id shard) -> caf::result<void> {
      w->lowered.push_back(shard);
      if (!w->reads_only)
        return self->make_response_promise<void>();
      return caf::unit;
    },
    [w](atom::refresh, const shard_home& home) { w->refreshed.push_back(home); },
  };
}

using grants = std::vector<lease_grant>;
inline const holder_id ann{1}, ben{2};

struct lease_fixture : management_fixture {
  lease_fixture() {
    manager = put(path::leases, spawn(lease_manager, context));
    for (auto* w : {&ann_world, &ben_world})
      *w = std::make_shared<holder_world>();
    holders[ann] = spawn(fake_holder, ann_world);
    holders[ben] = spawn(fake_holder, ben_world);
    v = make(spec("vm1"));
    BOOST_REQUIRE(
      ask<volume_record>(volume_of(v.id), atom::attach_v, volume_attachment{ann, context->options.name}, false));
    // Past the time in which a new manager cannot know all leases.
    advance(46s);
  }

  lease_request request(holder_id holder, uint64_t first, lease_mode mode, uint64_t count = 1) {
    lease_request x;
    x.holder = holder;
    x.first = {v.id, shard_index{first}};
    x.count = count;
    x.mode = mode;
    return x;
  }
  caf::expected<grants> acquire(holder_id holder, uint64_t first, lease_mode mode, uint64_t count = 1) {
    return ask<grants>(manager, atom::acquire_v, request(holder, first, mode, count), holders[holder]);
  }
  pending<grants> begin_acquire(holder_id holder, uint64_t first, lease_mode mode, uint64_t count = 1) {
    return begin<grants>(manager, atom::acquire_v, request(holder, first, mode, count), holders[holder]);
  }
  /// Of the only lease that is expected.
  lease_grant one(const caf::expected<grants>& x) {
    BOOST_REQUIRE(x);
    BOOST_REQUIRE(x->size() == 1u);
    return x->front();
  }
  std::vector<lease_info> leases() { return *ask<std::vector<lease_info>>(manager, atom::list_v, v.id); }
  tier_world& tier() { return *tiers["fast"]; }
  void restart_manager() {
    kill(manager);
    manager = put(path::leases, spawn(lease_manager, context));
  }

  lease_manager_actor manager;
  std::shared_ptr<holder_world> ann_world, ben_world;
  std::map<holder_id, lease_holder_actor> holders;
  volume_record v;
};

} // namespace varve
