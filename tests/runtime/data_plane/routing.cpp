#include "plane_fixture.hpp"

#include <malloc.h>

using namespace varve;
using namespace varve::test;

BOOST_AUTO_TEST_SUITE(routing)

BOOST_FIXTURE_TEST_CASE(what_was_never_written_reads_as_zeros_and_is_not_made, plane_fixture) {
  open();
  BOOST_TEST(read(shard_size - 4096, 3 * shard_size) == 0);
  BOOST_TEST(a.shards.empty());
  io trim{block_op::trim, 0, 64 * shard_size};
  BOOST_TEST((run(trim) == errc::none));
  io zeroes{block_op::write_zeroes, 100, 5 * shard_size};
  BOOST_TEST((run(zeroes) == errc::none));
  BOOST_TEST(a.shards.empty());
  io allocated{block_op::write_zeroes, 0, 4096};
  allocated.no_hole = true;
  BOOST_TEST((run(allocated) == errc::none));
  BOOST_TEST(a.shards.size() == 1u);
}

BOOST_FIXTURE_TEST_CASE(a_request_over_several_shards_is_split_and_joined, plane_fixture) {
  open();
  BOOST_TEST((write(shard_size - 100, 12 * shard_size, 7) == errc::none));
  BOOST_TEST(read(shard_size - 100, 12 * shard_size) == 7);
  BOOST_TEST(read(0, shard_size - 100) == 0);
  BOOST_TEST(read(13 * shard_size - 100, 100) == 0);
  BOOST_TEST(a.shards.size() == 13u);
  // One failing piece fails the whole.
  record("a", 5, generation{1})->bytes[8] ^= std::byte{1};
  BOOST_TEST(read(shard_size, 10 * shard_size) == -2);
  BOOST_TEST(read(6 * shard_size, shard_size) == 7);
  BOOST_TEST(counters().errors == 1u);
}

BOOST_FIXTURE_TEST_CASE(a_request_without_a_route_waits_and_says_so_once_a_second, plane_fixture) {
  open();
  answering = false;
  io x{block_op::read, 0, 4096};
  io y{block_op::read, 8192, 4096};
  submit(x);
  submit(y);
  world.advance(500ms);
  BOOST_TEST(!x.done);
  BOOST_TEST(needs.size() == 1u); // both of the round, and nothing more for a second
  BOOST_TEST(counters().parked_now == 2u);
  world.advance(3s);
  BOOST_TEST(needs.size() >= 3u);
  BOOST_TEST(needs.size() <= 5u);
  plane->set_routes(volume, {absent(0, 1)});
  BOOST_TEST(finish(x));
  BOOST_TEST(finish(y));
  BOOST_TEST(counters().parked == 2u);
  BOOST_TEST(counters().parked_now == 0u);
  const auto asked = needs.size();
  world.advance(5s);
  BOOST_TEST(needs.size() == asked);
}

BOOST_FIXTURE_TEST_CASE(needs_of_one_round_come_together_with_neighbours_merged, plane_fixture) {
  open();
  answering = false;
  std::vector<std::unique_ptr<io>> all;
  for (uint64_t i : {9, 3, 5, 4, 20}) {
    all.push_back(std::make_unique<io>(block_op::read, i * shard_size, 512));
    submit(*all.back());
  }
  world.advance(10ms);
  BOOST_REQUIRE(needs.size() == 3u);
  BOOST_TEST(needs[0].first.value() == 3u);
  BOOST_TEST(needs[0].count == 3u);
  BOOST_TEST(needs[1].first.value() == 9u);
  BOOST_TEST(needs[2].first.value() == 20u);
  plane->set_routes(volume, {absent(0, 64)});
  for (auto& x : all)
    BOOST_TEST(finish(*x));
}

BOOST_FIXTURE_TEST_CASE(a_route_past_its_term_is_not_used_in_the_middle_of_a_run, plane_fixture) {
  open();
  make_shard(0);
  answering = false;
  plane->set_routes(volume, {route_to(0, 10s)});
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  world.advance(10s);
  needs.clear();
  io late{block_op::write, 0, 4096, std::byte{2}};
  submit(late);
  world.advance(900ms);
  BOOST_TEST(!late.done);
  BOOST_REQUIRE(needs.size() == 1u);
  BOOST_TEST(needs[0].write);
  BOOST_TEST((record("a", 0, generation{1})->bytes[0] == std::byte{1}));
  // A keep-alive does not revive it: others may have had the shard meanwhile.
  plane->extend_routes(volume, world.now() + 10s);
  world.advance(5s);
  BOOST_TEST(!late.done);
  plane->set_routes(volume, {route_to(0, 10s)});
  BOOST_TEST(finish(late));
  BOOST_TEST((record("a", 0, generation{1})->bytes[0] == std::byte{2}));
}

BOOST_FIXTURE_TEST_CASE(a_read_lease_does_not_let_writes_through, plane_fixture) {
  open();
  make_shard(0);
  answering = false;
  auto reading = route_to(0);
  reading.writable = false;
  plane->set_routes(volume, {reading});
  BOOST_TEST(read(0, 4096) == 0);
  for (auto op : {block_op::write, block_op::trim, block_op::write_zeroes}) {
    needs.clear();
    io x{op, 0, 4096, std::byte{3}};
    plane->set_routes(volume, {reading});
    world.step();
    submit(x);
    world.advance(10ms);
    BOOST_TEST(!x.done);
    BOOST_REQUIRE(needs.size() == 1u);
    BOOST_TEST(needs[0].write);
    plane->set_routes(volume, {route_to(0)});
    BOOST_TEST(finish(x));
    world.advance(2s);
  }
}

BOOST_FIXTURE_TEST_CASE(a_stale_epoch_is_refused_and_the_request_goes_on_with_a_new_route, plane_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  BOOST_TEST((call(&data_plane::raise_fence, std::string{"a"}, shard_id{volume, shard_index{0}}, generation{1},
                   epoch{5}) == errc::none));
  answering = false;
  needs.clear();
  io x{block_op::write, 0, 4096, std::byte{2}};
  submit(x);
  world.advance(10ms);
  BOOST_TEST(!x.done);
  BOOST_TEST(needs.size() == 1u);
  BOOST_TEST(counters().fenced_stale_epoch == 1u);
  BOOST_TEST((record("a", 0, generation{1})->bytes[0] == std::byte{1}));
  // An agent that does not learn is refused again and again, but not faster than it can be helped.
  for (int i = 0; i < 50; ++i) {
    plane->set_routes(volume, {route_to(0)});
    world.advance(1ms);
  }
  BOOST_TEST(needs.size() <= 6u);
  fence = epoch{5};
  plane->set_routes(volume, {route_to(0)});
  BOOST_TEST(finish(x));
  BOOST_TEST((x.status == errc::none));
  BOOST_TEST((record("a", 0, generation{1})->bytes[0] == std::byte{2}));
}

BOOST_FIXTURE_TEST_CASE(a_write_after_its_term_ends_at_the_holders_clock_or_else_at_the_fence, plane_fixture) {
  // A holder that stopped for longer than its term comes back with a write, while another has got the lease: its own
  // clock keeps it from storage; when that is not looked at, storage refuses it.
  for (const auto holder_clock : {true, false}) {
    shut_down();
    a.shards.clear();
    homes.clear();
    routes_end = holder_clock;
    boot();
    open();
    make_shard(0);
    answering = false;
    plane->set_routes(volume, {route_to(0, 1s)});
    BOOST_TEST((write(0, 4096, 1) == errc::none));
    world.advance(2s);
    BOOST_TEST((call(&data_plane::raise_fence, std::string{"a"}, shard_id{volume, shard_index{0}}, generation{1},
                     epoch{5}) == errc::none));
    needs.clear();
    io late{block_op::write, 0, 4096, std::byte{2}};
    submit(late);
    world.advance(10ms);
    BOOST_TEST(!late.done);
    BOOST_TEST(counters().fenced_stale_epoch == (holder_clock ? 0u : 1u));
    BOOST_TEST(needs.size() == 1u);
    BOOST_TEST((record("a", 0, generation{1})->bytes[0] == std::byte{1}));
    plane->refuse_needs(volume, shard_index{0}, 1, true, errc::unavailable);
    BOOST_TEST(finish(late));
  }
}

BOOST_FIXTURE_TEST_CASE(a_fence_waits_for_the_requests_inside_and_keeps_new_ones_out, plane_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  a.flowing.reset(); // a device that hangs
  io inside{block_op::write, 0, 4096, std::byte{2}};
  submit(inside);
  std::optional<errc> raised;
  plane->raise_fence("a", {volume, shard_index{0}}, generation{1}, epoch{9}, [&](errc x) { raised = x; });
  world.advance(100ms);
  io outside{block_op::write, 4096, 4096, std::byte{3}};
  submit(outside);
  world.advance(1s);
  BOOST_TEST(!raised.has_value());
  BOOST_TEST(!outside.done);
  BOOST_TEST((record("a", 0, generation{1})->header.fence == epoch{1}));
  a.flowing.set();
  BOOST_TEST(world.run_until([&] { return raised.has_value(); }));
  BOOST_TEST((*raised == errc::none));
  BOOST_TEST(inside.done);
  BOOST_TEST((record("a", 0, generation{1})->header.fence == epoch{9}));
  // The one outside had the old epoch.
  fence = epoch{9};
  BOOST_TEST(finish(outside));
  BOOST_TEST(counters().fenced_stale_epoch >= 1u);
}

BOOST_FIXTURE_TEST_CASE(a_device_that_hangs_delays_a_fence_and_never_permits_it, plane_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  a.flowing.reset();
  io inside{block_op::write, 0, 4096, std::byte{2}};
  submit(inside);
  BOOST_TEST((call(&data_plane::raise_fence, std::string{"a"}, shard_id{volume, shard_index{0}}, generation{1},
                   epoch{9}) == errc::unavailable));
  BOOST_TEST((record("a", 0, generation{1})->header.fence == epoch{1}));
  a.flowing.set();
  BOOST_TEST(finish(inside));
  BOOST_TEST((write(0, 4096, 4) == errc::none)); // the gate is open again
}

BOOST_FIXTURE_TEST_CASE(a_request_that_never_gets_a_route_fails_after_its_time, plane_fixture) {
  open(64 * shard_size, 3s);
  answering = false;
  io x{block_op::read, 0, 4096};
  submit(x);
  world.advance(2900ms);
  BOOST_TEST(!x.done);
  world.advance(200ms);
  BOOST_TEST(x.done);
  BOOST_TEST((x.status == errc::timed_out));
}

BOOST_FIXTURE_TEST_CASE(refused_needs_fail_those_who_wait_for_them_and_no_others, plane_fixture) {
  open();
  make_shard(0);
  answering = false;
  io reading{block_op::read, 0, 4096};
  io writing{block_op::write, 0, 4096};
  io elsewhere{block_op::write, shard_size, 4096};
  for (auto* x : {&reading, &writing, &elsewhere})
    submit(*x);
  world.advance(1ms);
  plane->refuse_needs(volume, shard_index{0}, 1, true, errc::tier_full);
  world.advance(1ms);
  BOOST_TEST(writing.done);
  BOOST_TEST((writing.status == errc::tier_full));
  BOOST_TEST(!reading.done);
  BOOST_TEST(!elsewhere.done);
  needs.clear();
  io again{block_op::write, 0, 4096};
  submit(again);
  world.advance(1ms);
  BOOST_TEST(needs.size() == 1u);
  answering = true;
  for (auto* x : {&reading, &elsewhere, &again})
    BOOST_TEST(finish(*x));
}

BOOST_FIXTURE_TEST_CASE(closing_by_force_fails_what_is_parked_and_without_waits_for_it, plane_fixture) {
  open();
  answering = false;
  io x{block_op::read, 0, 4096};
  submit(x);
  world.advance(10ms);
  std::optional<errc> closed;
  plane->close_port(volume, false, [&](errc e) { closed = e; });
  world.advance(10s);
  BOOST_TEST(!x.done);
  BOOST_TEST(!closed.has_value());
  BOOST_TEST((call(&data_plane::close_port, volume, true) == errc::none));
  BOOST_TEST(world.run_until([&] { return closed.has_value(); }));
  BOOST_TEST(x.done);
  BOOST_TEST((x.status == errc::unavailable));
  BOOST_TEST(plane->backend(volume) == nullptr);
  BOOST_TEST((call(&data_plane::close_port, volume, false) == errc::none)); // again: nothing to do
}

BOOST_FIXTURE_TEST_CASE(a_new_agent_is_told_at_once_what_waits, plane_fixture) {
  open();
  answering = false;
  io x{block_op::read, 0, 4096};
  submit(x);
  world.advance(10ms);
  needs.clear();
  answering = true;
  open();
  BOOST_TEST(finish(x, 10ms));
}

BOOST_FIXTURE_TEST_CASE(a_sequential_run_is_asked_for_ahead, plane_fixture) {
  open();
  for (uint64_t i = 0; i < 6; ++i)
    BOOST_TEST((write(i * shard_size, shard_size, 1) == errc::none));
  world.advance(10ms);
  const auto before = counters().parked;
  for (uint64_t i = 6; i < 9; ++i)
    BOOST_TEST((write(i * shard_size, shard_size, 1) == errc::none));
  BOOST_TEST(counters().parked == before);
  // A random walk is not a run.
  needs.clear();
  for (uint64_t i : {40, 30, 50, 20, 60})
    BOOST_TEST(read(i * shard_size, 4096) == 0);
  for (auto& x : needs)
    BOOST_TEST(x.count == 1u);
  BOOST_TEST(needs.size() == 5u);
}

BOOST_FIXTURE_TEST_CASE(dropped_routes_are_used_no_more_when_that_is_answered, plane_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  answering = false;
  a.flowing.reset();
  io inside{block_op::write, 0, 4096, std::byte{2}};
  submit(inside);
  std::optional<errc> dropped;
  plane->drop_routes(volume, shard_index{0}, 64, [&](errc x) { dropped = x; });
  world.advance(20s);
  BOOST_TEST(!dropped.has_value());
  io after{block_op::read, 0, 4096};
  submit(after);
  a.flowing.set();
  BOOST_TEST(world.run_until([&] { return dropped.has_value(); }));
  BOOST_TEST(inside.done);
  world.advance(100ms);
  BOOST_TEST(!after.done);
  answering = true;
  BOOST_TEST(finish(after));
}

BOOST_FIXTURE_TEST_CASE(a_passive_shard_is_opened_again_by_the_first_request, plane_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 6) == errc::none));
  const shard_id id{volume, shard_index{0}};
  a.flowing.reset();
  io busy{block_op::read, 0, 4096};
  submit(busy);
  BOOST_TEST((call(&data_plane::passivate_shard, std::string{"a"}, id, generation{1}) == errc::unavailable));
  a.flowing.set();
  BOOST_TEST(finish(busy));
  BOOST_TEST((call(&data_plane::passivate_shard, std::string{"a"}, id, generation{1}) == errc::none));
  BOOST_TEST(call_for<std::vector<shard_counters>>([&](auto done) { plane->list_active("a", done); }).empty());
  needs.clear();
  // Several at once open it once.
  io x{block_op::read, 0, 4096}, y{block_op::read, 4096, 4096};
  submit(x);
  submit(y);
  BOOST_TEST(finish(x));
  BOOST_TEST(finish(y));
  BOOST_TEST((x.answer()[0] == std::byte{6}));
  BOOST_TEST(a.opens == 1u);
  BOOST_TEST(needs.empty());
}

BOOST_FIXTURE_TEST_CASE(a_write_during_a_passivation_is_not_lost, plane_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 6) == errc::none));
  a.delay_max = 5ms;
  std::optional<errc> closed;
  plane->passivate_shard("a", {volume, shard_index{0}}, generation{1}, [&](errc x) { closed = x; });
  world.step();
  io x{block_op::write, 0, 4096, std::byte{7}};
  submit(x);
  BOOST_TEST(finish(x));
  BOOST_TEST(world.run_until([&] { return closed.has_value(); }));
  BOOST_TEST(read(0, 4096) == 7);
}

BOOST_FIXTURE_TEST_CASE(a_route_to_a_home_that_is_gone_is_given_up, plane_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 6) == errc::none));
  BOOST_TEST(
    (call(&data_plane::remove_shard, std::string{"a"}, shard_id{volume, shard_index{0}}, generation{1}) == errc::none));
  homes.clear();
  BOOST_TEST(read(0, 4096) == 0);
  // Also when the agent is the one who is wrong.
  homes[1] = home{"a", generation{4}};
  io x{block_op::read, shard_size, 4096};
  submit(x);
  world.advance(100ms);
  BOOST_TEST(!x.done);
  homes.erase(1);
  BOOST_TEST(finish(x));
  BOOST_TEST((x.status == errc::none));
}

BOOST_FIXTURE_TEST_CASE(memory_is_answered_within_the_call, plane_fixture) {
  a.fast = true;
  open();
  BOOST_TEST((write(0, 2 * 65536, 9) == errc::none));
  io x{block_op::read, 4096, 4096};
  submit(x);
  BOOST_TEST(x.done);
  BOOST_TEST((x.answer()[0] == std::byte{9}));
  io y{block_op::write, 4096, 100, std::byte{8}};
  submit(y);
  BOOST_TEST(y.done);
  io large{block_op::read, 65536, 65536};
  submit(large);
  BOOST_TEST(large.done);
  BOOST_TEST(!large.view.empty());
  // What is lent keeps writers and closing out.
  io z{block_op::write, 65536, 512, std::byte{7}};
  submit(z);
  BOOST_TEST((call(&data_plane::passivate_shard, std::string{"a"}, shard_id{volume, shard_index{0}}, generation{1}) ==
              errc::unavailable));
  BOOST_TEST((large.answer()[0] == std::byte{9}));
  BOOST_TEST(finish(z));
  BOOST_TEST((call(&data_plane::passivate_shard, std::string{"a"}, shard_id{volume, shard_index{0}}, generation{1}) ==
              errc::none));
}

BOOST_FIXTURE_TEST_CASE(block_status_tells_holes_and_absent_shards_from_data, plane_fixture) {
  open();
  BOOST_TEST((write(2 * shard_size + 8192, 4096, 1) == errc::none));
  std::vector<volume_extent> out;
  auto ask = [&](uint64_t offset, uint64_t length, size_t most) {
    std::optional<errc> status;
    start([](task<errc> x, std::optional<errc>& into) -> task<void> {
      into = co_await std::move(x);
    }(backend().extents(offset, length, most, out), status));
    BOOST_TEST(world.run_until([&] { return status.has_value(); }));
    return *status;
  };
  BOOST_TEST((ask(0, 64 * shard_size, 100) == errc::none));
  BOOST_REQUIRE(out.size() == 3u);
  BOOST_TEST(out[0].hole);
  BOOST_TEST(out[0].length == 2 * shard_size + 8192);
  BOOST_TEST(!out[1].hole);
  BOOST_TEST(out[1].length == 4096u);
  BOOST_TEST(out[2].length == 62 * shard_size - 12288);
  BOOST_TEST((ask(2 * shard_size + 8200, 200, 1) == errc::none));
  BOOST_REQUIRE(out.size() == 1u);
  BOOST_TEST(out[0].length == 200u);
  BOOST_TEST((ask(0, 64 * shard_size, 1) == errc::none));
  BOOST_TEST(out.size() == 1u);
}

BOOST_FIXTURE_TEST_CASE(a_port_for_64_tib_takes_less_than_16_mib, plane_fixture) {
  const auto before = mallinfo2().uordblks;
  open(volume_size_max);
  answering = false;
  plane->set_routes(volume, {absent(0, volume_size_max / shard_size)});
  BOOST_TEST(read(volume_size_max - 4096, 4096) == 0);
  io trim{block_op::trim, 0, volume_size_max};
  submit(trim);
  BOOST_TEST(trim.done); // 256 million absent shards are one step
  std::vector<volume_extent> out;
  BOOST_TEST(mallinfo2().uordblks - before < 16u << 20);
}

BOOST_FIXTURE_TEST_CASE(what_was_asked_is_told_in_batches_and_losses_are_counted, plane_fixture) {
  open();
  std::vector<io_observation> seen;
  plane->observe(volume, [&](std::vector<io_observation> x) { seen.insert(seen.end(), x.begin(), x.end()); });
  world.step();
  BOOST_TEST(read(4096, 512) == 0);
  BOOST_TEST((flush() == errc::none));
  world.advance(200ms);
  BOOST_REQUIRE(seen.size() == 2u);
  BOOST_TEST(seen[0].offset == 4096u);
  BOOST_TEST(seen[0].length == 512u);
  BOOST_TEST(seen[1].op == static_cast<uint8_t>(block_op::flush));
  // More in one round than the ring holds.
  for (int i = 0; i < 9000; ++i) {
    io x{block_op::read, 4096, 512};
    submit(x);
    BOOST_REQUIRE(x.done);
  }
  world.advance(200ms);
  const auto dropped = counters().observations_dropped;
  BOOST_TEST(dropped > 0u);
  BOOST_TEST(seen.size() + dropped == 9002u);
  plane->observe(volume, nullptr);
}

BOOST_AUTO_TEST_SUITE_END()
