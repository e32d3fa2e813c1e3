#pragma once

#include <boost/test/unit_test.hpp>

#include "actors/storage/storage_supervisor.hpp"
#include "actors/storage/tier.hpp"
#include "tests/actors/fixture.hpp"

namespace varve {

using namespace std::chrono_literals;

inline constexpr uint64_t size = 1 << 20;

inline shard_home home(uint64_t index, uint64_t of = 1, uint64_t fence = 0, const std::string& tier = "fast") {
  return {{volume_id{1}, shard_index{index}}, tier, generation{of}, epoch{fence}};
}

inline lease_grant grant(uint64_t holder, const shard_home& of, uint64_t fence) {
  lease_grant x;
  x.id = lease_id{holder};
  x.holder = holder_id{holder};
  x.home = of;
  x.mode = lease_mode::write;
  x.fence = epoch{fence};
  x.term = 45s;
  return x;
}

struct tier_fixture : actor_fixture {
  tier_fixture() {
    tier_settings fast, memory;
    fast.store.name = "fast";
    fast.store.kind = tier_kind::file;
    fast.capacity_bytes = 1 << 20;
    memory.store.name = "memory";
    memory.capacity_bytes = 1 << 20;
    options.tiers = {fast, memory};
    make_context();
  }

  void start() { supervisor = spawn(storage_supervisor, context); }

  tier_actor tier(const std::string& name = "fast") { return find<tier_actor>(path::tier(name)); }
  tier_info info(const std::string& name = "fast") { return *ask<tier_info>(tier(name), atom::get_v); }

  void make(const shard_home& x) { BOOST_REQUIRE(ask<shard_home>(tier(x.tier), atom::create_v, x, size)); }
  fake_data_plane::shard_row& row(const shard_home& x) { return plane->shards[{x.tier, x.id, x.of}]; }
  bool there(const shard_home& x) { return plane->shards.count({x.tier, x.id, x.of}) != 0; }
  errc fence(const lease_grant& x) { return refusal<lease_grant>(tier(x.home.tier), atom::fence_v, x); }

  storage_supervisor_actor supervisor;
};

} // namespace varve
