#pragma once

#include "plane_fixture.hpp"

namespace varve::test {

struct move_fixture : plane_fixture {
  explicit move_fixture(uint64_t seed = 1) : plane_fixture(seed) {}

  move_ends ends_of(uint64_t index, uint64_t id = 1) {
    move_ends x;
    x.id = migration_id{id};
    x.shard = {volume, shard_index{index}};
    x.from_tier = homes[index].tier;
    x.to_tier = x.from_tier == "a" ? "b" : "a";
    x.from = homes[index].of;
    x.to = generation{x.from.value() + 1};
    return x;
  }
  errc begin(const move_ends& x) { return call(&data_plane::begin_move, x); }
  copy_round copy(const move_ends& x, uint64_t most = ~uint64_t{0}) {
    return call_for<copy_round>([&](auto done) { plane->copy_some(x, most, done); });
  }
  switch_result switch_over(const move_ends& x) {
    return call_for<switch_result>([&](auto done) { plane->switch_move(x, done); });
  }
  errc end(const move_ends& x, bool committed, std::chrono::nanoseconds* closed = nullptr) {
    auto [status, time] = call_for<std::pair<errc, std::chrono::nanoseconds>>([&](auto done) {
      plane->end_move(x, committed, [done](errc e, std::chrono::nanoseconds t) { done({e, t}); });
    });
    if (closed)
      *closed = time;
    return status;
  }
  /// What the catalog's commit does.
  void commit(const move_ends& x) { homes[x.shard.index.value()] = {x.to_tier, x.to}; }

  /// kill -9: the media stay, everything else is gone.
  void crash() {
    // The fakes apply an operation at one moment, so letting those in flight end is one of the ways it could have been.
    world.run_until_idle();
    shut_down();
    boot();
  }
};

} // namespace varve::test
