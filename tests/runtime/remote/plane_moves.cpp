// Moves of shards between nodes, run by the source's data plane.

#include "tests/runtime/remote/cluster_fixture.hpp"

using namespace varve;
using namespace varve::test;

namespace {

constexpr volume_id vm{7};
constexpr shard_id first{vm, shard_index{0}};

struct moving_cluster : cluster_fixture {
  /// A VM at `at`, which is neither end, or one of them.
  void begin_at(const std::string& at) {
    vm_at = at;
    open(at, vm);
    BOOST_TEST((write(at, vm, 0, 100'000, 1) == errc::none));
    BOOST_TEST((write(at, vm, 200'000, 5000, 2) == errc::none));
  }
  void check(int value) {
    BOOST_TEST(read(vm_at, vm, 0, 8192) == 1);
    BOOST_TEST(read(vm_at, vm, 8192, 4096) == value);
    BOOST_TEST(read(vm_at, vm, 12288, 100'000 - 12288) == 1);
    BOOST_TEST(read(vm_at, vm, 150'000, 5000) == 0);
    BOOST_TEST(read(vm_at, vm, 200'000, 5000) == 2);
  }
  void copy_all(const move_ends& x, int value) {
    for (;;) {
      auto round = copy(x, 64 << 10);
      BOOST_REQUIRE((round.status == errc::none));
      BOOST_TEST(round.verify_failures == 0u);
      BOOST_TEST((write(vm_at, vm, 8192, 4096, value) == errc::none));
      if (round.remaining_bytes == 0)
        break;
    }
  }
  void move_to(const std::string& tier, uint64_t number, int value) {
    const auto x = ends_of(first, tier, number);
    BOOST_REQUIRE((begin(x) == errc::none));
    copy_all(x, value);
    BOOST_REQUIRE((switch_over(x).status == errc::none));
    commit(x);
    BOOST_TEST((end(x, true) == errc::none));
    verify();
  }
  void verify() {
    const auto& h = homes[first];
    uint64_t bad = 1;
    auto status = call_for<errc>([&](auto done) {
      node_of(h.tier).plane->verify_shard(h.tier, first, h.of, [&bad, done](errc e, uint64_t n) {
        bad = n;
        done(e);
      });
    });
    BOOST_TEST((status == errc::none && bad == 0u));
  }
  std::string vm_at;
};

} // namespace

BOOST_AUTO_TEST_SUITE(remote_plane_moves)

BOOST_FIXTURE_TEST_CASE(a_shard_moves_between_nodes_under_the_vm_of_a_third, moving_cluster) {
  begin_at("a");
  move_to("c-files", 1, 11);
  check(11);
  BOOST_TEST(counters("b").refused_moved >= 1u); // who came to the old home was told
  BOOST_TEST(volume_counters_of("a", vm).errors == 0u);
  BOOST_TEST(node("b").disk.list("/b").empty());
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(node("c").disk.unsynced_bytes() == 0u);
  move_to("b-memory", 2, 12);
  check(12);
  move_to("b-files", 3, 13);
  check(13);
  BOOST_TEST(node("c").disk.list("/c").empty());
  BOOST_TEST((flush("a", vm) == errc::none));
}

BOOST_FIXTURE_TEST_CASE(a_shard_comes_to_its_vm_and_goes_away, moving_cluster) {
  begin_at("a");
  move_to("a-files", 1, 11);
  check(11);
  move_to("c-files", 2, 12);
  check(12);
  // What was the sink of a move is a plain shard now: a write is one request.
  const auto before = counters("a").requests;
  BOOST_TEST((write("a", vm, 8192, 4096, 13) == errc::none));
  BOOST_TEST(counters("a").requests == before + 1);
  check(13);
  // What only the VM's host knew to be unsynced is durable since the move.
  BOOST_TEST((flush("a", vm) == errc::none));
}

BOOST_FIXTURE_TEST_CASE(what_was_not_flushed_is_durable_once_it_has_moved, moving_cluster) {
  begin_at("a");
  BOOST_TEST((write("a", vm, 8192, 4096, 5) == errc::none));
  move_to("c-files", 1, 6);
  kill(node("c"), true);
  boot(node("c"));
  kill(node("b"));
  boot(node("b"));
  // Nothing was written since the move, and the move made all durable: nothing is lost.
  BOOST_TEST((flush("a", vm) == errc::none));
  check(6);
}

BOOST_FIXTURE_TEST_CASE(a_move_goes_on_after_the_sink_has_restarted, moving_cluster) {
  begin_at("a");
  const auto x = ends_of(first, "c-files");
  BOOST_REQUIRE((begin(x) == errc::none));
  BOOST_TEST((copy(x, 32 << 10).status == errc::none));
  kill(node("c"));
  BOOST_TEST((write("a", vm, 8192, 4096, 3) == errc::none)); // the VM does not notice
  boot(node("c"));
  copy_all(x, 4);
  kill(node("c"));
  boot(node("c"));
  BOOST_REQUIRE((switch_over(x).status == errc::none));
  kill(node("c"));
  boot(node("c"));
  commit(x);
  BOOST_TEST((end(x, true) == errc::none));
  check(4);
  verify();
}

BOOST_FIXTURE_TEST_CASE(a_move_goes_on_after_the_source_has_restarted, moving_cluster) {
  begin_at("a");
  const auto x = ends_of(first, "c-files");
  BOOST_REQUIRE((begin(x) == errc::none));
  BOOST_TEST((copy(x, 32 << 10).status == errc::none));
  kill(node("b"));
  boot(node("b"));
  BOOST_REQUIRE(connected());
  BOOST_TEST((copy(x).status == errc::not_found));
  BOOST_REQUIRE((begin(x) == errc::none));
  copy_all(x, 4);
  BOOST_REQUIRE((switch_over(x).status == errc::none));
  kill(node("b"));
  boot(node("b"));
  // Sealed: it serves nothing, and the catalog has the say.
  io late{block_op::read, 0, 4096};
  submit("a", vm, late);
  world.advance(3s);
  BOOST_TEST(!late.done);
  BOOST_REQUIRE(connected());
  BOOST_REQUIRE((begin(x) == errc::none));
  BOOST_REQUIRE((switch_over(x).status == errc::none));
  commit(x);
  BOOST_TEST((end(x, true) == errc::none));
  BOOST_TEST((finish(late, 10s) && late.status == errc::none));
  check(4);
  verify();
}

BOOST_FIXTURE_TEST_CASE(a_sink_that_lost_power_becomes_no_home, moving_cluster) {
  begin_at("a");
  const auto x = ends_of(first, "c-files");
  BOOST_REQUIRE((begin(x) == errc::none));
  copy_all(x, 4);
  kill(node("c"), true);
  boot(node("c"));
  BOOST_REQUIRE(connected());
  BOOST_TEST((switch_over(x).status != errc::none));
  BOOST_TEST((end(x, false) == errc::none));
  BOOST_TEST(node("c").disk.list("/c").empty());
  check(4);
  move_to("c-files", 2, 5);
  check(5);
}

BOOST_FIXTURE_TEST_CASE(a_move_that_is_given_up_leaves_nothing, moving_cluster) {
  begin_at("c");
  const auto x = ends_of(first, "c-files");
  BOOST_REQUIRE((begin(x) == errc::none));
  BOOST_TEST((copy(x, 32 << 10).status == errc::none));
  kill(node("c"));
  boot(node("c"));
  open("c", vm);
  BOOST_REQUIRE(connected());
  BOOST_TEST((end(x, false) == errc::none));
  BOOST_TEST(node("c").disk.list("/c").empty());
  BOOST_TEST((write("c", vm, 8192, 4096, 3) == errc::none));
  check(3);
}

BOOST_FIXTURE_TEST_CASE(a_sink_that_does_not_answer_ends_no_move_and_no_request, moving_cluster) {
  begin_at("a");
  const auto x = ends_of(first, "c-files");
  BOOST_REQUIRE((begin(x) == errc::none));
  BOOST_TEST((copy(x, 32 << 10).status == errc::none));
  wire("b", "c").hold();
  BOOST_TEST((copy(x).status == errc::timed_out));
  BOOST_TEST((write("a", vm, 8192, 4096, 3) == errc::none));
  wire("b", "c").release();
  BOOST_REQUIRE(connected());
  copy_all(x, 4);
  BOOST_REQUIRE((switch_over(x).status == errc::none));
  commit(x);
  BOOST_TEST((end(x, true) == errc::none));
  check(4);
  verify();
}

BOOST_AUTO_TEST_SUITE_END()
