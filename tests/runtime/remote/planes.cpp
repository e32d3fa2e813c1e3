// Data planes of several nodes that do I/O on each other's shards.

#include "tests/runtime/remote/cluster_fixture.hpp"

using namespace varve;
using namespace varve::test;

namespace {

constexpr volume_id vm{7};
constexpr shard_id first{vm, shard_index{0}};

} // namespace

BOOST_AUTO_TEST_SUITE(remote_planes)

BOOST_FIXTURE_TEST_CASE(a_volume_lives_on_another_nodes_tier, cluster_fixture) {
  open("a", vm);
  BOOST_TEST((write("a", vm, 1000, 5000, 1) == errc::none));
  BOOST_TEST((write("a", vm, shard_size - 4096, 8192, 2) == errc::none));
  BOOST_TEST(read("a", vm, 1000, 5000) == 1);
  BOOST_TEST(read("a", vm, shard_size - 4096, 8192) == 2);
  BOOST_TEST(read("a", vm, 0, 1000) == 0);
  BOOST_TEST(read("a", vm, 5 * shard_size, 8192) == 0); // never touched: asks nobody
  BOOST_TEST(node("b").disk.unsynced_bytes() > 0u);
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(node("b").disk.unsynced_bytes() == 0u);
  BOOST_TEST(active("b", "b-files").size() == 2u);
  const auto here = counters("a"), there = counters("b");
  BOOST_TEST(here.open_shards_now == 2u);
  BOOST_TEST((here.requests > 0 && here.written_bytes >= 13'192 && here.read_bytes >= 13'192));
  BOOST_TEST((there.served_requests == here.requests && there.served_written_bytes == here.written_bytes));
  BOOST_TEST((here.sessions_now == 2u && there.served_sessions_now == 2u));
  BOOST_TEST((there.refused_sessions == 0u && there.refused_moved == 0u && here.lost_shards == 0u));
}

BOOST_FIXTURE_TEST_CASE(requests_wait_for_a_node_that_restarts, cluster_fixture) {
  open("a", vm);
  BOOST_TEST((write("a", vm, 0, 8192, 1) == errc::none));
  kill(node("b"));
  io written{block_op::write, 4096, 4096, 2}, seen{block_op::read, 0, 4096}, synced{block_op::flush, 0, 0},
    opened{block_op::write, shard_size, 4096, 3};
  for (auto* x : {&written, &seen, &synced, &opened})
    submit("a", vm, *x);
  world.advance(100s); // longer than a request may take
  for (auto* x : {&written, &seen, &synced, &opened})
    BOOST_TEST(!x->done);
  boot(node("b"));
  for (auto* x : {&written, &seen, &synced, &opened})
    BOOST_TEST((finish(*x, 20s) && x->status == errc::none));
  BOOST_TEST((seen.answer()[0] == std::byte{1}));
  BOOST_TEST(read("a", vm, 4096, 4096) == 2);
  BOOST_TEST(read("a", vm, shard_size, 4096) == 3);
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(node("b").disk.unsynced_bytes() == 0u);
  BOOST_TEST(volume_counters_of("a", vm).errors == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_volume_says_how_long_its_requests_wait, cluster_fixture) {
  open("a", vm, 16 * shard_size, 40s);
  BOOST_TEST((write("a", vm, 0, 8192, 1) == errc::none));
  kill(node("b"));
  io written{block_op::write, 4096, 4096, 2}, synced{block_op::flush, 0, 0};
  submit("a", vm, written);
  submit("a", vm, synced);
  world.advance(39s);
  BOOST_TEST((!written.done && !synced.done));
  BOOST_TEST((finish(written, 40s) && written.status != errc::none));
  BOOST_TEST((finish(synced, 40s) && synced.status != errc::none));
  boot(node("b"));
  // It is still to be synced.
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(node("b").disk.unsynced_bytes() == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_new_route_leads_away_from_a_node_that_does_not_answer, cluster_fixture) {
  open("a", vm);
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  BOOST_REQUIRE(connected());
  wire("a", "b").hold();
  // Another shard, that is to be opened there.
  const shard_id second{vm, shard_index{1}};
  homes[second] = {"b-files", generation{1}, true};
  io seen{block_op::read, shard_size, 4096};
  submit("a", vm, seen);
  world.advance(1s);
  BOOST_TEST(!seen.done);
  homes[second] = {"c-files", generation{2}, true};
  const auto header = header_of(second);
  const auto made = call_for<shard_summary>([&](auto done) { node("c").plane->create_shard("c-files", header, done); });
  BOOST_TEST((made.status == errc::none));
  node("a").plane->set_routes(vm, {route_to(second)});
  BOOST_TEST((finish(seen, 1s) && seen.status == errc::none));
  wire("a", "b").release();
}

BOOST_FIXTURE_TEST_CASE(a_fence_sends_for_a_new_route, cluster_fixture) {
  open("a", vm);
  BOOST_TEST((write("a", vm, 0, 8192, 1) == errc::none));
  BOOST_TEST((raise_fence(first) == errc::none));
  BOOST_TEST((write("a", vm, 0, 4096, 2) == errc::none));
  BOOST_TEST(read("a", vm, 0, 4096) == 2);
  BOOST_TEST(counters("b").refused_stale_epoch == 1u);
  BOOST_TEST(volume_counters_of("a", vm).fenced_stale_epoch == 1u);
  // Who gets no new one gets nothing in.
  granting = false;
  BOOST_TEST((raise_fence(first) == errc::none));
  io late{block_op::write, 0, 4096, 3};
  submit("a", vm, late);
  world.advance(5s);
  BOOST_TEST(!late.done);
  open("b", vm);
  granting = true;
  node("b").plane->set_routes(vm, {route_to(first)});
  BOOST_TEST(read("b", vm, 0, 4096) == 2);
  BOOST_TEST((finish(late, 10s) && late.status == errc::none));
}

BOOST_FIXTURE_TEST_CASE(power_lost_before_the_flush_fails_it, cluster_fixture) {
  open("a", vm);
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  BOOST_TEST((flush("a", vm) == errc::none));
  kill(node("b"), true);
  boot(node("b"));
  // All was flushed: nothing is lost.
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST((write("a", vm, 0, 4096, 2) == errc::none));
  kill(node("b"), true);
  boot(node("b"));
  BOOST_TEST((flush("a", vm) == errc::shard_failed));
  BOOST_TEST((write("a", vm, 8192, 4096, 3) == errc::none));
  BOOST_TEST((flush("a", vm) == errc::shard_failed));
  BOOST_TEST(counters("a").lost_shards == 1u);
  // The end of the port has said so; another one begins anew.
  BOOST_TEST((call(node("a"), [&](auto done) { node("a").plane->close_port(vm, false, done); }) == errc::shard_failed));
  BOOST_TEST(counters("a").open_shards_now == 0u);
  open("a", vm);
  BOOST_TEST(read("a", vm, 8192, 4096) == 3);
  BOOST_TEST((write("a", vm, 0, 4096, 4) == errc::none));
  BOOST_TEST((flush("a", vm) == errc::none));
}

BOOST_FIXTURE_TEST_CASE(a_process_takes_its_memory_with_it, cluster_fixture) {
  first_tier = "b-memory";
  open("a", vm);
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  kill(node("b"));
  boot(node("b"));
  // The manager makes it anew, and empty, under the same name.
  homes[first].exists = false;
  BOOST_TEST((write("a", vm, 4096, 4096, 2) == errc::none));
  BOOST_TEST((flush("a", vm) == errc::shard_failed));
}

BOOST_FIXTURE_TEST_CASE(a_process_takes_nothing_of_its_files_with_it, cluster_fixture) {
  open("a", vm);
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  kill(node("b"));
  boot(node("b"));
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(node("b").disk.unsynced_bytes() == 0u);
  BOOST_TEST(read("a", vm, 0, 4096) == 1);
}

BOOST_AUTO_TEST_CASE(a_volume_is_on_one_reactor_of_its_node) {
  cluster_fixture f{1, {"a", "b"}, 2};
  f.open("a", volume_id{1});
  f.open("a", volume_id{2});
  BOOST_TEST((f.write("a", volume_id{1}, 0, 4096, 1) == errc::none));
  BOOST_TEST((f.write("a", volume_id{2}, 0, 4096, 2) == errc::none));
  BOOST_TEST(f.counters("b").served_sessions_now == 4u);
  // The node comes back with another number of reactors, and its clients think of the old one for a while.
  f.kill(f.node("b"));
  f.node("b").reactors = 3;
  f.known[{"a", "b"}] = {f.node("a").life, 2};
  f.boot(f.node("b"));
  f.world.advance(5s);
  BOOST_TEST(f.session("a", "b", 1).open);
  cluster_fixture::io seen{block_op::read, 0, 4096}, moved{block_op::read, 0, 4096};
  f.submit("a", volume_id{1}, seen);  // 1 of 2, and of 3
  f.submit("a", volume_id{2}, moved); // 0 of 2, 2 of 3
  f.world.advance(5s);
  BOOST_TEST((seen.done && !moved.done));
  // Nothing opened it where it is not.
  BOOST_TEST(f.active("b", "b-files").size() == 1u);
  f.known.clear();
  BOOST_TEST((f.finish(moved, 10s) && moved.status == errc::none && moved.answer()[0] == std::byte{2}));
  BOOST_TEST(f.volume_counters_of("a", volume_id{1}).errors == 0u);
  f.stop(f.node("b"));
  f.node("b").reactors = 1;
  f.boot(f.node("b"));
  BOOST_TEST(f.read("a", volume_id{1}, 0, 4096) == 1);
  BOOST_TEST(f.read("a", volume_id{2}, 0, 4096) == 2);
  BOOST_TEST((f.flush("a", volume_id{2}) == errc::none));
}

BOOST_FIXTURE_TEST_CASE(what_a_node_has_of_others_is_not_for_third_ones, cluster_fixture) {
  BOOST_REQUIRE(connected());
  remote_client_options options;
  options.connect = [this] { return network.connect("b:0"); };
  options.key = [this](session_key& x) {
    x.id = 1'000'000;
    x.initiator = 5;
    x.rights = remote_rights::control;
    x.expires = world.now() + 1h;
    return true;
  };
  options.direct = false;
  session_key key;
  options.key(key);
  node("b").remote->allow(0, key);
  remote_client third{control, options};
  const auto known = third.tier("b-files"), not_known = third.tier("c-files");
  third.start();
  auto ask = [&](uint16_t tier) {
    remote_request x;
    x.header.op = remote::op::look;
    x.header.id = first;
    x.header.generation = generation{1};
    x.tier = tier;
    std::optional<errc> status;
    auto asking = [](remote_client& c, remote_request& x) -> task<errc> { co_return co_await c.perform(x); };
    start(store_result(asking(third, x), status));
    BOOST_REQUIRE(world.run_until([&] { return status.has_value(); }, 30s));
    return *status;
  };
  open("a", vm);
  first_tier = "c-files";
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  BOOST_TEST((ask(not_known) == errc::not_found));
  BOOST_TEST((ask(known) == errc::not_found));
  auto over = false;
  auto closing = [&]() -> task<void> {
    co_await third.close();
    over = true;
  };
  start(closing());
  BOOST_TEST(world.run_until([&] { return over; }, 10s));
}

BOOST_FIXTURE_TEST_CASE(idle_shards_are_flushed_and_closed, cluster_fixture) {
  open("a", vm);
  for (uint64_t i = 0; i < 4; ++i)
    BOOST_TEST((write("a", vm, i * shard_size, 4096, 1) == errc::none));
  BOOST_TEST(counters("a").open_shards_now == 4u);
  BOOST_TEST(node("b").disk.unsynced_bytes() > 0u);
  for (auto i = 0; i < 70; ++i) {
    world.advance(1s);
    BOOST_TEST(read("a", vm, 0, 4096) == 1);
  }
  BOOST_TEST(counters("a").open_shards_now == 1u);
  BOOST_TEST(read("a", vm, shard_size, 4096) == 1);
  BOOST_TEST(counters("a").open_shards_now == 2u);
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(node("b").disk.unsynced_bytes() == 0u);
}

BOOST_FIXTURE_TEST_CASE(what_cannot_be_flushed_stays_open, cluster_fixture) {
  open("a", vm);
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  kill(node("b"), true);
  world.advance(100s);
  BOOST_TEST(counters("a").open_shards_now == 1u);
  boot(node("b"));
  world.advance(100s);
  BOOST_TEST((flush("a", vm) == errc::shard_failed));
}

BOOST_AUTO_TEST_CASE(no_more_shards_are_open_than_may_be) {
  cluster_fixture f;
  f.stop(f.node("a"));
  f.node("a").options.open_max = 8;
  f.boot(f.node("a"));
  f.open("a", vm, 64 * cluster_fixture::shard_size);
  for (auto pass = 0; pass < 2; ++pass)
    for (uint64_t i = 0; i < 40; ++i) {
      BOOST_TEST(
        (f.write("a", vm, i * cluster_fixture::shard_size + 4096 * pass, 4096, static_cast<int>(i) + 1) == errc::none));
      f.world.advance(20ms);
      BOOST_TEST(f.counters("a").open_shards_now <= 9u);
    }
  BOOST_TEST((f.flush("a", vm) == errc::none));
  BOOST_TEST(f.node("b").disk.unsynced_bytes() == 0u);
  for (uint64_t i = 0; i < 40; ++i)
    BOOST_TEST(f.read("a", vm, i * cluster_fixture::shard_size, 8192) == static_cast<int>(i) + 1);
}

BOOST_FIXTURE_TEST_CASE(own_ports_and_other_nodes_use_a_shard_together, cluster_fixture) {
  open("a", vm);
  open("b", vm);
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  BOOST_TEST(read("b", vm, 0, 4096) == 1);
  BOOST_TEST((write("b", vm, 4096, 4096, 2) == errc::none));
  BOOST_TEST(read("a", vm, 4096, 4096) == 2);
  // Both at once, parts of the same blocks: each whole, in some order, and the sums agree.
  std::list<io> all;
  for (auto i = 0; i < 60; ++i) {
    auto& x = all.emplace_back(block_op::write, 8192 + 1000 * (static_cast<uint64_t>(i) % 7), 6000, 10 + i);
    submit(i % 2 ? "a" : "b", vm, x);
  }
  for (auto& x : all)
    BOOST_TEST((finish(x) && x.status == errc::none));
  BOOST_TEST(read("a", vm, 8192, 1000) == read("b", vm, 8192, 1000));
  uint64_t bad = 1;
  auto verified = call_for<errc>([&](auto done) {
    node("b").plane->verify_shard("b-files", first, generation{1}, [&bad, done](errc e, uint64_t n) {
      bad = n;
      done(e);
    });
  });
  BOOST_TEST((verified == errc::none && bad == 0u));
  // Either's flush covers both's.
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(node("b").disk.unsynced_bytes() == 0u);
  BOOST_TEST((write("a", vm, 0, 4096, 3) == errc::none));
  BOOST_TEST((write("b", vm, 4096, 4096, 4) == errc::none));
  BOOST_TEST((flush("b", vm) == errc::none));
  BOOST_TEST(node("b").disk.unsynced_bytes() == 0u);
  // And a fence keeps both out.
  granting = false;
  BOOST_TEST((raise_fence(first) == errc::none));
  io one{block_op::write, 0, 4096, 9}, other{block_op::write, 0, 4096, 9};
  submit("a", vm, one);
  submit("b", vm, other);
  world.advance(3s);
  BOOST_TEST((!one.done && !other.done));
  granting = true;
  BOOST_TEST((finish(one, 10s) && finish(other, 10s)));
}

BOOST_FIXTURE_TEST_CASE(what_a_killed_node_had_written_is_synced_without_it, cluster_fixture) {
  open("a", vm);
  for (uint64_t i = 0; i < 16; ++i)
    BOOST_TEST((write("a", vm, i * 8192, 8192, 1) == errc::none));
  kill(node("a"));
  world.advance(200ms);
  BOOST_TEST(node("b").disk.unsynced_bytes() == 0u);
  boot(node("a"));
  open("a", vm);
  // It knows of nothing to flush, and says so.
  BOOST_TEST((flush("a", vm) == errc::none));
  kill(node("b"), true);
  boot(node("b"));
  BOOST_TEST(read("a", vm, 0, 16 * 8192) == 1);
}

BOOST_FIXTURE_TEST_CASE(a_key_that_is_withdrawn_ends_its_session, cluster_fixture) {
  open("a", vm);
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  keeping = false;
  for (uint64_t id = 1; id <= keys; ++id)
    node("b").remote->disallow(0, id);
  io late{block_op::write, 0, 4096, 2};
  world.advance(1s);
  submit("a", vm, late);
  world.advance(20s);
  BOOST_TEST(!late.done);
  BOOST_TEST(session("a", "b").why == "refused: key");
  BOOST_TEST(counters("b").refused_sessions > 0u);
  introduce(node("a"), node("b"));
  BOOST_TEST((finish(late, 10s) && late.status == errc::none));
}

BOOST_FIXTURE_TEST_CASE(a_node_stops_in_time_although_another_hangs, cluster_fixture) {
  open("a", vm);
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  wire("a", "b").hold();
  io late{block_op::write, 0, 4096, 2}, later{block_op::write, shard_size, 4096, 2};
  submit("a", vm, late);
  submit("a", vm, later);
  world.advance(1s);
  BOOST_TEST(!late.done);
  stop(node("a"), 11s);
  BOOST_TEST((late.done && later.done && late.status != errc::none));
  wire("a", "b").release();
}

BOOST_AUTO_TEST_SUITE_END()
