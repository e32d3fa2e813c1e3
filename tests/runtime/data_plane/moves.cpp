#include <functional>

#include "move_fixture.hpp"

using namespace varve;
using namespace varve::test;

namespace {

/// Keeps writing to one shard, and knows what must be there: of each block, the values that it may have.
struct writer {
  writer(move_fixture& on, uint64_t shard) : on(on), base(shard * on.shard_size), may_be(blocks, {0}) {}

  static constexpr uint64_t blocks = move_fixture::shard_size / block_size;

  /// Starts a random change, if its block has none under way.
  void poke() {
    auto& random = on.world.random();
    const auto block = random.below(blocks);
    if (busy.count(block))
      return;
    const auto kind = random.below(10);
    auto x = std::make_unique<io>(kind == 0   ? block_op::trim
                                  : kind == 1 ? block_op::write_zeroes
                                              : block_op::write,
                                  base + block * block_size, block_size, static_cast<std::byte>(++value % 250 + 1));
    const auto result = kind < 2 ? 0 : static_cast<int>(x->bytes[0]);
    may_be[block].insert(result);
    busy[block] = {std::move(x), result};
    on.submit(*busy[block].first);
  }
  void settle() {
    for (auto at = busy.begin(); at != busy.end();) {
      auto& [x, result] = at->second;
      if (!x->done) {
        ++at;
        continue;
      }
      BOOST_REQUIRE((x->status == errc::none));
      may_be[at->first] = {result};
      ++written;
      at = busy.erase(at);
    }
  }
  void finish() {
    BOOST_REQUIRE(on.world.run_until([&] {
      settle();
      return busy.empty();
    }));
  }
  /// After a crash: what was under way may be there or not.
  void forget() { busy.clear(); }
  void check() {
    for (uint64_t i = 0; i < blocks; ++i) {
      const auto is = on.read(base + i * block_size, block_size);
      BOOST_REQUIRE_MESSAGE(may_be[i].count(is), "block " << i << " reads as " << is);
      may_be[i] = {is};
    }
  }

  move_fixture& on;
  uint64_t base;
  int value = 0;
  uint64_t written = 0;
  std::vector<std::set<int>> may_be;
  std::map<uint64_t, std::pair<std::unique_ptr<io>, int>> busy;
};

} // namespace

BOOST_AUTO_TEST_SUITE(moves)

BOOST_FIXTURE_TEST_CASE(a_move_carries_what_was_written_and_leaves_holes_holes, move_fixture) {
  open();
  BOOST_TEST((write(0, 8192, 1) == errc::none));
  BOOST_TEST((write(shard_size / 2, 4096, 2) == errc::none));
  const auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::none));
  BOOST_TEST((record("b", 0, x.to)->header.incomplete));
  const auto round = copy(x);
  BOOST_TEST((round.status == errc::none));
  BOOST_TEST(round.copied_bytes == 3 * block_size);
  BOOST_TEST(round.blocks_verified == 3u);
  BOOST_TEST(round.remaining_bytes == 0u);
  // Noted while copying: changed, and trimmed.
  BOOST_TEST((write(0, 4096, 3) == errc::none));
  io trim{block_op::trim, shard_size / 2, 4096};
  BOOST_TEST((run(trim) == errc::none));
  BOOST_TEST(copy(x, 1).copied_bytes == block_size);
  const auto switched = switch_over(x);
  BOOST_TEST((switched.status == errc::none));
  BOOST_TEST(switched.copied_bytes == block_size);
  BOOST_TEST(switched.gate_closed.count() > 0);
  BOOST_TEST((record("a", 0, x.from)->header.sealed_by == x.id));
  BOOST_TEST((record("a", 0, x.from)->header.sealed_for == x.to));
  BOOST_TEST(!record("b", 0, x.to)->header.incomplete);
  // Parked while the gate is closed, whatever the agent says.
  io waiting{block_op::write, 0, 4096, std::byte{4}};
  submit(waiting);
  world.advance(50ms);
  BOOST_TEST(!waiting.done);
  commit(x);
  std::chrono::nanoseconds closed{0};
  BOOST_TEST((end(x, true, &closed) == errc::none));
  BOOST_TEST(closed >= switched.gate_closed + 50ms);
  BOOST_TEST(finish(waiting));
  BOOST_TEST(!record("a", 0, x.from));
  BOOST_TEST(read(0, 4096) == 4);
  BOOST_TEST(read(4096, 4096) == 1);
  BOOST_TEST(read(8192, shard_size - 8192) == 0);
  BOOST_TEST((record("b", 0, x.to)->sums.states[shard_size / 2 / block_size] == block_state::hole));
  BOOST_TEST(counters().fenced_moved == 1u);
  BOOST_TEST(counters().errors == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_move_that_is_aborted_leaves_the_source_as_it_was, move_fixture) {
  open();
  BOOST_TEST((write(0, shard_size, 1) == errc::none));
  const auto x = ends_of(0);
  for (int steps = 0; steps < 4; ++steps) {
    if (steps > 0)
      BOOST_TEST((begin(x) == errc::none));
    if (steps > 1)
      BOOST_TEST((copy(x).status == errc::none));
    if (steps > 2)
      BOOST_TEST((switch_over(x).status == errc::none));
    BOOST_TEST((end(x, false) == errc::none));
    BOOST_TEST(!record("b", 0, x.to));
    BOOST_TEST((record("a", 0, x.from)->header.sealed_by == migration_id{0}));
    BOOST_TEST((write(0, 4096, 10 + steps) == errc::none));
    BOOST_TEST(read(0, 4096) == 10 + steps);
    BOOST_TEST((end(x, false) == errc::none)); // again
  }
}

BOOST_FIXTURE_TEST_CASE(a_sealed_source_is_taken_back_also_without_the_tier_of_its_sink, move_fixture) {
  open();
  BOOST_TEST((write(0, 8192, 1) == errc::none));
  auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::none));
  BOOST_TEST((switch_over(x).status == errc::none));
  BOOST_TEST((record("a", 0, x.from)->header.sealed_by == x.id));
  crash();
  x.to_tier = "gone";
  BOOST_TEST((begin(x) == errc::not_found));
  BOOST_TEST((end(x, false) == errc::not_found));
  BOOST_TEST((record("a", 0, x.from)->header.sealed_by == migration_id{}));
  open();
  BOOST_TEST(read(0, 8192) == 1);
}

BOOST_FIXTURE_TEST_CASE(the_fence_travels_with_the_shard, move_fixture) {
  open();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  const auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::none));
  BOOST_TEST((call(&data_plane::raise_fence, std::string{"a"}, x.shard, x.from, epoch{7}) == errc::none));
  BOOST_TEST((switch_over(x).status == errc::none));
  // Too late for the source, whose fence the sink has got.
  BOOST_TEST((call(&data_plane::raise_fence, std::string{"a"}, x.shard, x.from, epoch{8}) == errc::unavailable));
  BOOST_TEST((record("b", 0, x.to)->header.fence == epoch{7}));
  commit(x);
  BOOST_TEST((end(x, true) == errc::none));
  io stale{block_op::write, 0, 4096, std::byte{2}};
  submit(stale);
  world.advance(10ms);
  BOOST_TEST(!stale.done);
  fence = epoch{7};
  BOOST_TEST(finish(stale));
  BOOST_TEST(counters().fenced_stale_epoch >= 1u);
}

BOOST_FIXTURE_TEST_CASE(a_digest_that_differs_seals_nothing_and_opens_the_gate, move_fixture) {
  open();
  BOOST_TEST((write(0, shard_size, 1) == errc::none));
  const auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::none));
  b.lie_about_sums = true;
  BOOST_TEST((switch_over(x).status == errc::checksum_mismatch));
  BOOST_TEST((record("a", 0, x.from)->header.sealed_by == migration_id{0}));
  BOOST_TEST((write(0, 4096, 2) == errc::none));
  b.lie_about_sums = false;
  BOOST_TEST((switch_over(x).status == errc::none));
  commit(x);
  BOOST_TEST((end(x, true) == errc::none));
  BOOST_TEST(read(0, 4096) == 2);
}

BOOST_FIXTURE_TEST_CASE(a_seal_that_fails_opens_the_gate, move_fixture) {
  open();
  BOOST_TEST((write(0, shard_size, 1) == errc::none));
  const auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::none));
  a.fail_seal = true;
  BOOST_TEST((switch_over(x).status == errc::device_failed));
  BOOST_TEST((write(0, 4096, 2) == errc::none));
  a.fail_seal = false;
  BOOST_TEST((switch_over(x).status == errc::none));
  commit(x);
  BOOST_TEST((end(x, true) == errc::none));
  BOOST_TEST(read(0, 4096) == 2);
}

BOOST_FIXTURE_TEST_CASE(rot_at_the_source_is_not_copied, move_fixture) {
  open();
  BOOST_TEST((write(0, shard_size, 1) == errc::none));
  record("a", 0, generation{1})->bytes[5000] ^= std::byte{4};
  const auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::none));
  const auto round = copy(x);
  BOOST_TEST((round.status == errc::checksum_mismatch));
  BOOST_TEST(round.remaining_bytes == shard_size);
  BOOST_TEST((switch_over(x).status == errc::checksum_mismatch));
  BOOST_TEST((end(x, false) == errc::none));
  BOOST_TEST(read(0, 4096) == 1);
  BOOST_TEST(read(4096, 4096) == -2);
}

BOOST_AUTO_TEST_CASE(what_the_fabric_spoils_is_caught_and_sent_again) {
  move_fixture on{3};
  on.shut_down();
  on.faults.seed = 11;
  on.faults.corrupt = 0.2;
  on.faults.drop = 0.1;
  on.faults.delay = 0.3;
  on.faults.delay_max = 3ms;
  on.moves.chunk_quiet = on.moves.chunk_busy = 8192;
  on.moves.attempts = 20;
  on.boot();
  on.open();
  BOOST_TEST((on.write(0, on.shard_size, 1) == errc::none));
  const auto x = on.ends_of(0);
  BOOST_TEST((on.begin(x) == errc::none));
  const auto round = on.copy(x);
  BOOST_TEST((round.status == errc::none));
  BOOST_TEST(on.carrier->corrupted() > 0u);
  BOOST_TEST(on.carrier->dropped() > 0u);
  BOOST_TEST(round.verify_failures == on.carrier->corrupted());
  BOOST_TEST((on.switch_over(x).status == errc::none));
  on.commit(x);
  BOOST_TEST((on.end(x, true) == errc::none));
  BOOST_TEST(on.read(0, on.shard_size) == 1);
}

BOOST_AUTO_TEST_CASE(a_fabric_that_spoils_everything_fails_the_copy_and_not_the_volume) {
  move_fixture on{3};
  on.shut_down();
  on.faults.corrupt = 1;
  on.boot();
  on.open();
  BOOST_TEST((on.write(0, on.shard_size, 1) == errc::none));
  const auto x = on.ends_of(0);
  BOOST_TEST((on.begin(x) == errc::none));
  const auto round = on.copy(x);
  BOOST_TEST((round.status == errc::checksum_mismatch));
  BOOST_TEST(round.verify_failures == on.moves.attempts);
  BOOST_TEST(round.remaining_bytes == on.shard_size);
  BOOST_TEST((on.end(x, false) == errc::none));
  BOOST_TEST(on.read(0, on.shard_size) == 1);
}

BOOST_AUTO_TEST_CASE(the_copy_budget_holds_over_all_moves) {
  move_fixture on{1};
  on.shut_down();
  on.copy_budget_bytes = 1'000'000;
  on.boot();
  on.open();
  for (uint64_t i = 0; i < 4; ++i)
    BOOST_TEST((on.write(i * on.shard_size, on.shard_size, 1) == errc::none));
  on.world.advance(1s);
  const auto before = on.world.now();
  int over = 0;
  for (uint64_t i = 0; i < 4; ++i) {
    BOOST_TEST((on.begin(on.ends_of(i, i + 1)) == errc::none));
    on.plane->copy_some(on.ends_of(i, i + 1), ~uint64_t{0}, [&](copy_round x) { over += x.status == errc::none; });
  }
  BOOST_TEST(on.world.run_until([&] { return over == 4; }));
  // 1 MiB at 1 MB/s; the last chunk is not waited for.
  const auto took = on.world.now() - before;
  BOOST_TEST(took > std::chrono::microseconds{4 * on.shard_size - on.moves.chunk_quiet}); // at 1 byte in each
  BOOST_TEST(took < 1200ms);
  // Unlimited again.
  on.plane->set_copy_budget(0);
  BOOST_TEST((on.write(0, on.shard_size, 2) == errc::none));
  on.world.advance(1s);
  const auto again = on.world.now();
  BOOST_TEST((on.copy(on.ends_of(0, 1)).status == errc::none));
  BOOST_TEST(on.world.now() - again < 10ms);
}

BOOST_FIXTURE_TEST_CASE(copying_yields_to_the_vm_and_goes_on_all_the_same, move_fixture) {
  open(1024 * shard_size);
  for (uint64_t i = 0; i < 16; ++i)
    BOOST_TEST((write(i * shard_size, shard_size, 1) == errc::none));
  auto copy_all = [&](bool busy) {
    std::unique_ptr<io> x;
    for (uint64_t i = 0; i < 16; ++i)
      BOOST_TEST((begin(ends_of(i, i + 1)) == errc::none));
    if (busy) {
      x = std::make_unique<io>(block_op::read, 0, 4096);
      submit(*x);
    } else {
      world.advance(1s);
    }
    const auto before = world.now();
    int over = 0;
    for (uint64_t i = 0; i < 16; ++i) {
      plane->copy_some(ends_of(i, i + 1), ~uint64_t{0}, [&](copy_round x) { over += x.status == errc::none; });
    }
    BOOST_TEST(world.run_until([&] {
      if (busy && x->done) {
        x = std::make_unique<io>(block_op::read, 0, 4096);
        submit(*x);
      }
      return over == 16;
    }));
    if (x)
      finish(*x);
    const auto took = world.now() - before;
    for (uint64_t i = 0; i < 16; ++i)
      BOOST_TEST((end(ends_of(i, i + 1), false) == errc::none));
    return took;
  };
  world.advance(1s);
  const auto quiet = copy_all(false);
  const auto busy = copy_all(true);
  // Most of the time is left to the VM, and what is taken is at least 25 % and 20 MB/s.
  BOOST_TEST(busy > 2 * quiet);
  BOOST_TEST(busy < std::max(4 * quiet, std::chrono::nanoseconds{16 * shard_size * 50}));
}

namespace {

/// A move of a shard whose VM changes all of it again while it is copied once.
struct flooded_move : move_fixture {
  explicit flooded_move(std::function<void(move_limits&)> with = {}) : move_fixture(5) {
    shut_down();
    moves.switch_bytes = 4 * block_size;
    if (with)
      with(moves);
    boot();
    open();
    BOOST_TEST((write(0, shard_size, 0) == errc::none));
    x = ends_of(0);
    BOOST_TEST((begin(x) == errc::none));
    plane->set_copy_budget(1'000'000);
  }
  /// Keeps a few changes under way until then.
  template <class F>
  void flood(F until) {
    while (!until()) {
      w.settle();
      for (int i = 0; i < 4 && w.busy.size() < 4; ++i)
        w.poke();
      world.advance(50us);
    }
  }
  copy_round flooded_copy() {
    std::optional<copy_round> round;
    plane->copy_some(x, ~uint64_t{0}, [&](copy_round r) { round = r; });
    flood([&] { return round.has_value(); });
    BOOST_TEST((round->status == errc::none));
    return *round;
  }
  switch_result flooded_switch() {
    std::optional<switch_result> switched;
    plane->switch_move(x, [&](switch_result r) { switched = r; });
    flood([&] { return switched.has_value(); });
    BOOST_TEST((switched->status == errc::none));
    return *switched;
  }
  /// Rounds until changes are mirrored.
  void copy_until_mirroring() {
    for (int i = 0; i < 20 && !flooded_copy().mirroring; ++i) {
    }
  }
  void commit_and_check() {
    commit(x);
    BOOST_TEST((end(x, true) == errc::none));
    w.finish();
    w.check();
    BOOST_TEST(counters().errors == 0u);
  }

  move_ends x;
  writer w{*this, 0};
};

} // namespace

BOOST_AUTO_TEST_CASE(a_shard_that_changes_faster_than_it_is_copied_is_mirrored_and_little_is_left_for_the_gate) {
  flooded_move on;
  copy_round round;
  int rounds = 0;
  do
    round = on.flooded_copy();
  while (round.remaining_bytes > on.moves.switch_bytes && ++rounds < 20);
  BOOST_TEST(rounds >= 4);
  BOOST_TEST(round.remaining_bytes <= on.moves.switch_bytes);
  BOOST_TEST(round.mirroring);
  BOOST_TEST(round.shrinking);
  BOOST_TEST(on.flooded_switch().gated_bytes <= on.moves.switch_bytes);
  on.commit_and_check();
}

BOOST_AUTO_TEST_CASE(a_switch_that_is_asked_for_early_mirrors_by_itself) {
  flooded_move on;
  BOOST_TEST(on.flooded_switch().gated_bytes <= on.moves.switch_bytes);
  on.commit_and_check();
}

BOOST_AUTO_TEST_CASE(a_set_that_does_not_shrink_and_cannot_be_mirrored_is_reported) {
  flooded_move on{[](move_limits& x) { x.mirror.lanes = 0; }};
  copy_round round;
  int rounds = 0;
  do
    round = on.flooded_copy();
  while (round.shrinking && ++rounds < 20);
  BOOST_TEST(rounds >= 3);
  BOOST_TEST(!round.shrinking);
  BOOST_TEST(!round.mirroring);
  BOOST_TEST(on.flooded_switch().gated_bytes > on.moves.switch_bytes);
  on.commit_and_check();
}

BOOST_AUTO_TEST_CASE(a_sink_that_fails_while_changes_are_mirrored_fails_no_write) {
  flooded_move on;
  on.copy_until_mirroring();
  on.w.finish();
  on.b.fail_copies = true;
  BOOST_TEST((on.write(0, 3 * block_size, 0) == errc::none));
  on.w.may_be[0] = on.w.may_be[1] = on.w.may_be[2] = {0};
  const auto round = on.copy(on.x);
  BOOST_TEST((round.status == errc::device_failed));
  BOOST_TEST(round.remaining_bytes >= 3 * block_size);
  on.b.fail_copies = false;
  BOOST_TEST((on.copy(on.x).status == errc::none));
  on.flooded_switch();
  on.commit_and_check();
}

BOOST_AUTO_TEST_CASE(a_sink_that_hangs_delays_a_mirrored_write_once_and_no_longer_than_said) {
  flooded_move on;
  on.copy_until_mirroring();
  on.w.finish();
  on.b.flowing.reset();
  auto took = [&](uint64_t block) {
    const auto before = on.world.now();
    BOOST_TEST((on.write(block * block_size, block_size, 0) == errc::none));
    on.w.may_be[block] = {0};
    return on.world.now() - before;
  };
  const auto first = took(0);
  BOOST_TEST(first >= on.moves.mirror.wait);
  BOOST_TEST(first < on.moves.mirror.wait + 5ms);
  // Noted only: also where the copy that hangs is of the same block.
  BOOST_TEST(took(0) < 5ms);
  BOOST_TEST(took(1) < 5ms);
  // The gate stays open for as long as the sink hangs.
  std::optional<switch_result> switched;
  on.plane->switch_move(on.x, [&](switch_result r) { switched = r; });
  on.world.advance(500ms);
  BOOST_TEST(took(2) < 5ms);
  BOOST_TEST(!switched.has_value());
  on.b.flowing.set();
  on.flood([&] { return switched.has_value(); });
  BOOST_TEST((switched->status == errc::none));
  on.commit_and_check();
}

BOOST_AUTO_TEST_CASE(a_mirrored_move_can_be_cancelled_while_its_sink_hangs) {
  flooded_move on;
  on.copy_until_mirroring();
  on.b.flowing.reset();
  auto steps = 0;
  on.flood([&] { return ++steps > 20; });
  std::optional<errc> ended;
  on.plane->end_move(on.x, false, [&](errc e, std::chrono::nanoseconds) { ended = e; });
  on.world.advance(200ms);
  // The sink's file waits for what is under way to it, and the VM for nothing.
  BOOST_TEST(!ended.has_value());
  on.w.finish();
  on.b.flowing.set();
  on.flood([&] { return ended.has_value(); });
  BOOST_TEST((*ended == errc::none));
  on.w.finish();
  on.w.check();
  BOOST_TEST(!on.record("b", 0, on.x.to));
}

BOOST_FIXTURE_TEST_CASE(cancelling_in_the_middle_of_a_copy_ends_it, move_fixture) {
  open();
  BOOST_TEST((write(0, shard_size, 1) == errc::none));
  const auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::none));
  plane->set_copy_budget(100'000);
  std::optional<copy_round> round;
  moves.chunk_quiet = 4096;
  plane->copy_some(x, ~uint64_t{0}, [&](copy_round r) { round = r; });
  world.step();
  BOOST_TEST((end(x, false) == errc::none));
  BOOST_TEST(round.has_value());
  BOOST_TEST((copy(x).status == errc::not_found));
  BOOST_TEST((switch_over(x).status == errc::not_found));
}

BOOST_FIXTURE_TEST_CASE(a_node_stops_at_once_in_the_middle_of_a_move, move_fixture) {
  open();
  BOOST_TEST((write(0, shard_size, 1) == errc::none));
  const auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::none));
  plane->set_copy_budget(1'000'000);
  std::optional<copy_round> round;
  plane->copy_some(x, ~uint64_t{0}, [&](copy_round r) { round = r; });
  world.step();
  const auto before = world.now();
  crash();
  BOOST_TEST(world.now() - before < 1s);
  BOOST_TEST((round && round->status != errc::none));
  open();
  BOOST_TEST((begin(x) == errc::none));
  BOOST_TEST((switch_over(x).status == errc::none));
  commit(x);
  BOOST_TEST((end(x, true) == errc::none));
  BOOST_TEST(read(0, shard_size) == 1);
}

BOOST_FIXTURE_TEST_CASE(what_cannot_be_moved_is_refused, move_fixture) {
  open();
  auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::not_found)); // no such shard
  homes.clear();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  x = ends_of(0);
  x.to_tier = "c";
  BOOST_TEST((begin(x) == errc::not_found));
  x = ends_of(0);
  x.to = x.from;
  BOOST_TEST((begin(x) == errc::invalid_argument));
  x = ends_of(0);
  BOOST_TEST((copy(x).status == errc::not_found));
  BOOST_TEST((begin(x) == errc::none));
  BOOST_TEST((begin(x) == errc::none)); // again
  BOOST_TEST((call(&data_plane::passivate_shard, x.from_tier, x.shard, x.from) == errc::unavailable));
  BOOST_TEST((switch_over(x).status == errc::none));
  BOOST_TEST((switch_over(x).status == errc::none)); // again
  auto other = x;
  other.id = migration_id{2};
  other.to = generation{9};
  BOOST_TEST((begin(other) == errc::shard_moved)); // sealed by another
  BOOST_TEST((end(x, false) == errc::none));
}

BOOST_AUTO_TEST_CASE(random_writes_during_a_move_are_all_there_afterwards) {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      move_fixture on{seed};
      auto& random = on.world.random();
      if (seed % 2) {
        // Mirrored from the first pass on, sometimes with a VM that hardly waits.
        on.shut_down();
        on.moves.passes_without_shrinking = 0;
        on.moves.mirror.lanes = 1 + seed / 2 % 3;
        if (seed % 3 == 0)
          on.moves.mirror.wait = 150us;
        on.boot();
      }
      on.a.fast = random.chance(0.3);
      on.b.fast = random.chance(0.3);
      on.open();
      writer w{on, 0};
      BOOST_REQUIRE((on.write(0, 4096, 0) == errc::none));
      auto busily = [&](auto&& until) {
        while (!until()) {
          w.settle();
          if (random.chance(0.7))
            w.poke();
          on.world.advance(std::chrono::microseconds{random.below(200)});
        }
      };
      for (int i = 0; i < 50; ++i)
        busily([&, n = 0]() mutable { return n++ > 2; });
      for (uint64_t id = 1; id <= 3; ++id) {
        const auto x = on.ends_of(0, id);
        std::optional<errc> begun;
        on.plane->begin_move(x, [&](errc e) { begun = e; });
        busily([&] { return begun.has_value(); });
        BOOST_REQUIRE((*begun == errc::none));
        const auto rounds = random.below(4);
        for (uint64_t i = 0; i < rounds; ++i) {
          std::optional<copy_round> round;
          on.plane->copy_some(x, random.chance(0.5) ? ~uint64_t{0} : 65536, [&](copy_round r) { round = r; });
          busily([&] { return round.has_value(); });
          BOOST_REQUIRE((round->status == errc::none));
        }
        const auto aborted = random.chance(0.3);
        if (!aborted || random.chance(0.5)) {
          std::optional<switch_result> switched;
          on.plane->switch_move(x, [&](switch_result r) { switched = r; });
          busily([&] { return switched.has_value(); });
          BOOST_REQUIRE((switched->status == errc::none));
        }
        if (!aborted)
          on.commit(x);
        std::optional<errc> ended;
        on.plane->end_move(x, !aborted, [&](errc e, std::chrono::nanoseconds) { ended = e; });
        busily([&] { return ended.has_value(); });
        BOOST_REQUIRE((*ended == errc::none));
      }
      w.finish();
      w.check();
      BOOST_REQUIRE_EQUAL(on.a.shards.size() + on.b.shards.size(), 1u);
      BOOST_REQUIRE_EQUAL(on.counters().errors, 0u);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_crash_at_any_step_of_a_move_can_be_resumed_or_taken_back) {
  // The process dies after `step` commands (and writes go on in between); the next one either begins again and
  // goes through, or takes the move back. Whichever home is left must hold what was written.
  for (uint64_t seed = 1; seed <= 120; ++seed) {
    const auto step = static_cast<int>(seed % 5);
    const auto resume = seed / 5 % 2 == 0;
    BOOST_TEST_CONTEXT("seed " << seed << " step " << step << " resume " << resume) {
      move_fixture on{seed};
      if (seed % 3) {
        on.shut_down();
        on.moves.passes_without_shrinking = 0; // mirrored from the first pass on
        on.boot();
      }
      on.open();
      writer w{on, 0};
      BOOST_REQUIRE((on.write(0, 4096, 0) == errc::none));
      auto churn = [&] {
        for (int i = 0; i < 20; ++i) {
          w.poke();
          on.world.advance(50us);
          w.settle();
        }
      };
      churn();
      w.finish();
      const auto x = on.ends_of(0);
      if (step > 0)
        BOOST_REQUIRE((on.begin(x) == errc::none));
      churn();
      if (step > 1)
        BOOST_REQUIRE((on.copy(x, 65536).status == errc::none));
      churn();
      if (step > 2)
        BOOST_REQUIRE((on.copy(x).status == errc::none));
      churn();
      w.finish();
      if (step > 3)
        BOOST_REQUIRE((on.switch_over(x).status == errc::none));
      // A crash in the middle of a command.
      if (step == 2)
        on.plane->copy_some(x, ~uint64_t{0}, [](copy_round) {});
      if (step == 3 && seed % 2)
        on.record("b", 0, x.to)->header.incomplete = false; // it came between completing and sealing
      on.crash();
      w.forget();
      on.open();
      if (step < 4) {
        // The VM goes on before the move does.
        churn();
        w.finish();
      }
      if (resume) {
        BOOST_REQUIRE((on.begin(x) == errc::none));
        if (step < 4)
          churn();
        w.finish();
        BOOST_REQUIRE((on.copy(x).status == errc::none));
        BOOST_REQUIRE((on.switch_over(x).status == errc::none));
        on.commit(x);
        if (seed % 3 == 0)
          on.crash(), on.open(); // committed, and dead before the loser was removed
        BOOST_REQUIRE((on.end(x, true) == errc::none));
        BOOST_REQUIRE((on.end(x, true) == errc::none));
      } else {
        BOOST_REQUIRE((on.end(x, false) == errc::none));
        BOOST_REQUIRE((on.end(x, false) == errc::none));
      }
      churn();
      w.finish();
      w.check();
      BOOST_REQUIRE_EQUAL(on.a.shards.size(), resume ? 0u : 1u);
      BOOST_REQUIRE_EQUAL(on.b.shards.size(), resume ? 1u : 0u);
    }
  }
}

BOOST_FIXTURE_TEST_CASE(after_a_restart_only_what_differs_is_copied, move_fixture) {
  open();
  BOOST_TEST((write(0, shard_size, 1) == errc::none));
  const auto x = ends_of(0);
  BOOST_TEST((begin(x) == errc::none));
  BOOST_TEST((copy(x).status == errc::none));
  BOOST_TEST((write(4096, 4096, 2) == errc::none));
  crash();
  open();
  BOOST_TEST((begin(x) == errc::none));
  const auto round = copy(x);
  BOOST_TEST((round.status == errc::none));
  BOOST_TEST(round.copied_bytes == block_size);
  BOOST_TEST((end(x, false) == errc::none));
}

BOOST_AUTO_TEST_SUITE_END()
