// Everything that a network and a process can do to a session, from seeds.

#include "tests/runtime/remote/remote_fixture.hpp"

using namespace varve;
using namespace varve::test;

namespace {

constexpr uint64_t region = 32u << 10;
constexpr int lanes = 8;

struct lane_state {
  std::vector<std::byte> model = std::vector<std::byte>(region);
  int left = 0;
};

/// One after the other in a region of its own: what is acknowledged is there from then on.
task<void> lane(shard& x, uint64_t base, simulated_random random, lane_state& of) {
  for (; of.left > 0; --of.left) {
    const auto length = random.chance(0.5) ? block_size * random.between(1, 4) : random.between(1, 9000);
    auto offset = random.below(region - length + 1);
    if (random.chance(0.5))
      offset = offset / block_size * block_size;
    const auto what = random.below(10);
    auto status = errc::none;
    if (what < 5) {
      std::vector<std::byte> bytes(length);
      for (auto& b : bytes)
        b = static_cast<std::byte>(random.next());
      status = co_await x.write(base + offset, bytes);
      std::copy(bytes.begin(), bytes.end(), of.model.begin() + static_cast<ptrdiff_t>(offset));
    } else if (what < 6) {
      status = co_await x.write_zeroes(base + offset, length, random.chance(0.5));
      std::fill_n(of.model.begin() + static_cast<ptrdiff_t>(offset), length, std::byte{0});
    } else if (what < 9) {
      std::vector<std::byte> bytes(length);
      status = co_await x.read(base + offset, bytes);
      BOOST_TEST(std::equal(bytes.begin(), bytes.end(), of.model.begin() + static_cast<ptrdiff_t>(offset)),
                 "what was acknowledged is not there");
    } else {
      status = co_await x.flush();
    }
    BOOST_TEST((status == errc::none), "ends with " << to_string(status));
  }
}

struct outcome {
  uint64_t sessions = 0, sent_again = 0, mistreated = 0, history = 0;
};

outcome run_seed(uint64_t seed) {
  BOOST_TEST_CONTEXT("seed " << seed) {
    remote_fixture f{seed};
    auto& random = f.world.random();
    f.server_options.requests_max = static_cast<uint32_t>(random.between(2, 16));
    f.stop_server();
    f.boot_server();
    f.make_shard(seed % 4 ? "files" : "memory", false);
    f.wire.delay_chance = 0.2;
    f.wire.delay_max = std::chrono::milliseconds{random.between(1, 20)};
    f.wire.cut_chance = 0.004;
    f.wire.repeat_chance = seed % 3 == 0 ? 0.002 : 0;
    f.wire.garble_chance = seed % 3 == 1 ? 0.004 : 0;
    lane_state all[lanes];
    for (auto i = 0; i < lanes; ++i) {
      all[i].left = 60;
      start(lane(*f.x, static_cast<uint64_t>(i) * region, simulated_random{random.next()}, all[i]));
    }
    auto over = [&] { return std::all_of(std::begin(all), std::end(all), [](auto& x) { return x.left == 0; }); };
    for (auto crashes = seed % 2 ? 0 : 2; !over(); --crashes) {
      const auto time =
        crashes > 0 ? std::chrono::nanoseconds{std::chrono::milliseconds{random.between(1, 200)}} : 10min;
      const auto done = f.world.run_until(over, time);
      if (crashes <= 0) {
        BOOST_REQUIRE(done);
      } else if (!done && seed % 4) { // a killed process takes its memory with it
        f.crash_server(false, 1);
        f.wire.cut();
      }
    }
    // And it is in the server's own storage.
    f.wire.cut_chance = f.wire.repeat_chance = f.wire.garble_chance = 0;
    BOOST_TEST((f.run(f.x->flush()) == errc::none));
    std::vector<std::byte> bytes(lanes * region);
    BOOST_REQUIRE((f.run(f.at_server(seed % 4 ? "files" : "memory")->shard->read(0, bytes)) == errc::none));
    for (auto i = 0; i < lanes; ++i)
      BOOST_TEST(std::equal(all[i].model.begin(), all[i].model.end(),
                            bytes.begin() + static_cast<ptrdiff_t>(static_cast<uint64_t>(i) * region)));
    return {f.client->counters().sessions, f.client->counters().sent_again, f.wire.mistreated, f.world.history_hash()};
  }
  return {};
}

} // namespace

BOOST_AUTO_TEST_SUITE(remote_seeds)

BOOST_AUTO_TEST_CASE(every_acknowledged_write_is_there) {
  outcome all;
  for (uint64_t seed = 1; seed <= 70; ++seed) {
    const auto one = run_seed(seed);
    all.sessions += one.sessions;
    all.sent_again += one.sent_again;
    all.mistreated += one.mistreated;
  }
  // It was hard enough.
  BOOST_TEST(all.sessions > 300u);
  BOOST_TEST(all.sent_again > 500u);
  BOOST_TEST(all.mistreated > 50u);
}

BOOST_AUTO_TEST_CASE(one_seed_is_one_history) {
  for (uint64_t seed : {2, 3, 4})
    BOOST_TEST(run_seed(seed).history == run_seed(seed).history);
}

BOOST_AUTO_TEST_SUITE_END()
