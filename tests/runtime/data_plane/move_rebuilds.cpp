#include "move_fixture.hpp"
#include "runtime/recovery/rebuild_rules.hpp"

using namespace varve;
using namespace varve::test;

namespace {

/// A move that runs by itself under writes, while at every moment somebody asks what a catalog made from headers would
/// say if the process died now.
struct rebuilt_move {
  explicit rebuilt_move(uint64_t seed) : on(seed) {}

  static constexpr uint64_t blocks = 8;

  /// Writes a little all the time.
  void poke() {
    for (uint64_t i = 0; i < blocks; ++i) {
      auto& x = writes[i];
      if (x && x->done) {
        BOOST_REQUIRE((x->status == errc::none));
        acknowledged[i] = static_cast<int>(x->bytes[0]);
        x.reset();
      }
      if (!x && on.world.random().below(4) == 0) {
        x =
          std::make_unique<io>(block_op::write, i * block_size, block_size, static_cast<std::byte>(++value % 250 + 1));
        on.submit(*x);
      }
    }
  }

  /// The shard's home as headers tell must have all that was acknowledged.
  void check() {
    rebuild_evidence in;
    for (auto* tier : {"a", "b"})
      for (auto& [key, record] : (*tier == 'a' ? on.a : on.b).shards)
        if (key.first.index == shard_index{0})
          in.files.push_back({tier, record->header});
    const auto out = rebuild(in);
    BOOST_REQUIRE(out.conflicts.empty());
    BOOST_REQUIRE(out.homes.size() == 1u);
    const auto& home = out.homes[0];
    ++homes[home.tier + (in.files.size() > 1 ? " of two" : "")];
    const auto record = on.record(home.tier, 0, home.of);
    BOOST_REQUIRE(record);
    for (uint64_t i = 0; i < blocks; ++i) {
      const auto& x = writes[i];
      const auto is = static_cast<int>(record->bytes[i * block_size]);
      const auto on_its_way = x ? static_cast<int>(x->bytes[0]) : acknowledged[i];
      BOOST_REQUIRE_MESSAGE(is == acknowledged[i] || is == on_its_way,
                            "block " << i << " on " << home.tier << " is " << is << " and not " << acknowledged[i]);
    }
  }

  void step(const move_ends& x) {
    auto next = [this, x](auto&&...) { step(x); };
    switch (steps++) {
    case 0: on.plane->begin_move(x, next); break;
    case 1: on.plane->copy_some(x, 4 * block_size, next); break;
    case 2: on.plane->copy_some(x, ~uint64_t{0}, next); break;
    case 3: on.plane->switch_move(x, next); break;
    case 4:
      if (!aborts)
        on.commit(x);
      on.plane->end_move(x, !aborts, next);
      break;
    default:
      if (!aborts)
        on.plane->set_routes(on.volume, {on.route_to(0)});
      over = true;
    }
  }

  void run() {
    on.open();
    BOOST_REQUIRE((on.write(0, on.shard_size / 2, 1) == errc::none));
    for (auto& x : acknowledged)
      x = 1;
    step(on.ends_of(0));
    for (int rounds = 0; (!over || rounds < 50) && rounds < 100'000; ++rounds) {
      poke();
      on.world.advance(10us);
      check();
    }
    BOOST_REQUIRE(over);
    on.world.run_until([&] {
      for (auto& x : writes)
        if (x && !x->done)
          return false;
      return true;
    });
    check();
  }

  move_fixture on;
  bool aborts = false;
  bool over = false;
  int steps = 0;
  int value = 0;
  std::unique_ptr<io> writes[blocks];
  int acknowledged[blocks] = {};
  std::map<std::string, int> homes;
};

} // namespace

BOOST_AUTO_TEST_SUITE(move_rebuilds)

BOOST_AUTO_TEST_CASE(at_every_moment_of_a_move_headers_tell_the_home_that_has_all_writes) {
  std::map<std::string, int> homes;
  for (uint64_t seed = 1; seed <= 40; ++seed)
    BOOST_TEST_CONTEXT("seed " << seed) {
      rebuilt_move x{seed};
      x.aborts = seed % 4 == 0;
      if (seed % 3 == 0) {
        x.on.shut_down();
        x.on.moves.passes_without_shrinking = 0; // mirrored from the first pass on
        x.on.boot();
      }
      x.run();
      for (auto& [home, times] : x.homes)
        homes[home] += times;
    }
  // Both answers were given while there were two files.
  BOOST_TEST(homes["a of two"] > 100);
  BOOST_TEST(homes["b of two"] > 10);
}

BOOST_AUTO_TEST_SUITE_END()
