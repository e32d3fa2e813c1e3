#include "plane_fixture.hpp"

using namespace varve;
using namespace varve::test;

BOOST_AUTO_TEST_SUITE(flushing)

BOOST_FIXTURE_TEST_CASE(a_flush_syncs_every_shard_that_was_written_and_no_other, plane_fixture) {
  open();
  BOOST_TEST((write(0, 40 * shard_size, 1) == errc::none));
  BOOST_TEST((flush() == errc::none));
  for (auto& [key, x] : a.shards)
    BOOST_TEST(!x->dirty);
  BOOST_TEST(a.flushes == 40u);
  BOOST_TEST((write(5 * shard_size, 512, 2) == errc::none));
  BOOST_TEST((flush() == errc::none));
  BOOST_TEST(a.flushes == 41u);
  BOOST_TEST((flush() == errc::none));
  BOOST_TEST(a.flushes == 41u);
}

BOOST_FIXTURE_TEST_CASE(a_flush_covers_shards_that_lost_their_route_meanwhile, plane_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  BOOST_TEST((call(&data_plane::drop_routes, volume, shard_index{0}, uint64_t{64}) == errc::none));
  answering = false;
  BOOST_TEST((flush() == errc::none));
  BOOST_TEST(!record("a", 0, generation{1})->dirty);
}

BOOST_FIXTURE_TEST_CASE(a_flush_that_fails_says_so_as_long_as_it_does, plane_fixture) {
  open();
  BOOST_TEST((write(0, 3 * shard_size, 1) == errc::none));
  a.fail_flush = true;
  BOOST_TEST((flush() == errc::shard_failed));
  BOOST_TEST((flush() == errc::shard_failed));
  BOOST_TEST((call(&data_plane::close_port, volume, false) == errc::shard_failed));
  // The next attachment does not forget it.
  open();
  BOOST_TEST((flush() == errc::shard_failed));
  a.fail_flush = false;
  BOOST_TEST((flush() == errc::none));
}

BOOST_FIXTURE_TEST_CASE(a_port_that_cannot_listen_forgets_no_unsynced_shard, plane_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  a.fail_flush = true;
  BOOST_TEST((call(&data_plane::close_port, volume, false) == errc::shard_failed));
  a.fail_flush = false;
  port_options options;
  options.volume = volume;
  options.size_bytes = shard_size;
  options.shard_size = shard_size;
  options.socket_path = "/no/such/folder/at/all.sock";
  BOOST_TEST((call(&data_plane::open_port, options) != errc::none));
  open();
  BOOST_TEST((flush() == errc::none));
  BOOST_TEST(!record("a", 0, generation{1})->dirty);
}

BOOST_FIXTURE_TEST_CASE(fua_syncs_the_shards_of_the_request_before_it_answers, plane_fixture) {
  open();
  BOOST_TEST((write(0, shard_size, 1) == errc::none));
  io x{block_op::write, 2 * shard_size - 100, 200, std::byte{1}};
  x.fua = true;
  BOOST_TEST((run(x) == errc::none));
  BOOST_TEST(record("a", 0, generation{1})->dirty);
  BOOST_TEST(!record("a", 1, generation{1})->dirty);
  BOOST_TEST(!record("a", 2, generation{1})->dirty);
  a.fail_flush = true;
  io y{block_op::write, 0, 200, std::byte{1}};
  y.fua = true;
  BOOST_TEST((run(y) == errc::shard_failed));
  a.fail_flush = false;
}

BOOST_FIXTURE_TEST_CASE(fua_to_memory_is_not_answered_before_its_sync_either, plane_fixture) {
  a.fast = true;
  open();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  io x{block_op::write, 0, 4096, std::byte{2}};
  x.fua = true;
  BOOST_TEST((run(x) == errc::none));
  BOOST_TEST(!record("a", 0, generation{1})->dirty);
}

BOOST_FIXTURE_TEST_CASE(closing_a_port_syncs_what_was_written, plane_fixture) {
  open();
  BOOST_TEST((write(0, 3 * shard_size, 1) == errc::none));
  BOOST_TEST((call(&data_plane::close_port, volume, false) == errc::none));
  for (auto& [key, x] : a.shards)
    BOOST_TEST(!x->dirty);
}

BOOST_FIXTURE_TEST_CASE(every_flush_covers_what_was_answered_before_it, plane_fixture) {
  // Random writes, trims and flushes at once. Whatever was answered before a flush was submitted, and not touched
  // since, must be clean when the flush is answered.
  open();
  std::vector<std::unique_ptr<io>> all;
  struct expectation {
    io* flush;
    std::set<uint64_t> shards;
  };
  std::vector<expectation> expected;
  std::map<io*, uint64_t> of;
  auto& random = world.random();
  for (int i = 0; i < 2000; ++i) {
    if (random.chance(0.1)) {
      expectation e;
      for (auto& x : all)
        if (x->done && of.count(x.get()))
          e.shards.insert(of[x.get()]);
      // Only shards that nobody was writing to can be told to be clean.
      for (auto& x : all)
        if (!x->done && of.count(x.get()))
          e.shards.erase(of[x.get()]);
      all.push_back(std::make_unique<io>(block_op::flush, 0, 0));
      e.flush = all.back().get();
      submit(*all.back());
      expected.push_back(std::move(e));
    } else {
      const auto shard = random.below(16);
      const auto op = random.chance(0.2) ? block_op::trim : block_op::write;
      all.push_back(std::make_unique<io>(op, shard * shard_size + random.below(60) * 4096, 4096));
      of[all.back().get()] = shard;
      submit(*all.back());
    }
    world.advance(std::chrono::microseconds{random.below(300)});
    for (auto& e : expected)
      if (e.flush->done)
        for (auto shard : std::exchange(e.shards, {})) {
          const auto busy = std::any_of(all.begin(), all.end(),
                                        [&](auto& x) { return of.count(x.get()) && of[x.get()] == shard && !x->done; });
          const auto later = [&] {
            auto seen = false;
            for (auto& x : all) {
              seen |= x.get() == e.flush;
              if (seen && of.count(x.get()) && of[x.get()] == shard)
                return true;
            }
            return false;
          }();
          if (auto r = record("a", shard, generation{1}); r && !busy && !later)
            BOOST_REQUIRE(!r->dirty);
        }
  }
  BOOST_TEST(world.run_until([&] { return std::all_of(all.begin(), all.end(), [](auto& x) { return x->done; }); }));
  BOOST_TEST((flush() == errc::none));
  for (auto& [key, x] : a.shards)
    BOOST_TEST(!x->dirty);
}

BOOST_AUTO_TEST_SUITE_END()
