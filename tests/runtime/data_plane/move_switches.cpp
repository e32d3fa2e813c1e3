#include "move_fixture.hpp"

using namespace varve;
using namespace varve::test;

BOOST_AUTO_TEST_SUITE(move_switches)

BOOST_FIXTURE_TEST_CASE(several_moves_switch_together_a_group_at_a_time, move_fixture) {
  open(1024 * shard_size);
  const uint64_t count = moves.switch_group + 2;
  for (uint64_t i = 0; i < count; ++i) {
    BOOST_TEST((write(i * shard_size, block_size, 1) == errc::none));
    BOOST_TEST((begin(ends_of(i, i + 1)) == errc::none));
    BOOST_TEST((copy(ends_of(i, i + 1)).status == errc::none));
  }
  std::vector<boot_time> ended;
  auto switch_all = [&](bool busy) {
    ended.clear();
    for (uint64_t i = 0; i < count; ++i)
      plane->switch_move(ends_of(i, i + 1), [&](const switch_result& x) {
        BOOST_TEST((x.status == errc::none));
        ended.push_back(world.now());
      });
    while (ended.size() < count) {
      if (busy)
        (void)read(count * shard_size, block_size); // a shard that nobody moves
      world.advance(1ms);
    }
  };
  const auto began = world.now();
  switch_all(true);
  const auto first = (began / moves.switch_together + 1) * moves.switch_together;
  auto in_slot = [&](boot_time slot) {
    return static_cast<uint64_t>(std::count_if(
      ended.begin(), ended.end(), [&](auto x) { return x >= slot && x < slot + moves.switch_together / 2; }));
  };
  BOOST_TEST(in_slot(first) == moves.switch_group);
  BOOST_TEST(in_slot(first + moves.switch_together) == 2u);
  for (uint64_t i = 0; i < count; ++i)
    BOOST_TEST((end(ends_of(i, i + 1), false) == errc::none));

  // Nobody is there to be held up: nobody waits.
  for (uint64_t i = 0; i < count; ++i)
    BOOST_TEST((begin(ends_of(i, i + 1)) == errc::none));
  world.advance(1s);
  const auto again = world.now();
  switch_all(false);
  BOOST_TEST(ended.back() - again < moves.switch_together / 4);
}

BOOST_FIXTURE_TEST_CASE(files_are_made_and_removed_while_no_gate_is_closed, move_fixture) {
  open();
  for (uint64_t i = 0; i < 3; ++i)
    BOOST_TEST((write(i * shard_size, block_size, 1) == errc::none));
  const auto first = ends_of(0, 1), second = ends_of(1, 2), third = ends_of(2, 3);
  for (auto& x : {first, second})
    BOOST_TEST((begin(x) == errc::none));
  BOOST_TEST((switch_over(first).status == errc::none));
  BOOST_TEST((switch_over(second).status == errc::none));

  auto begun = false, removed = false;
  plane->begin_move(third, [&](errc status) { begun = status == errc::none; });
  commit(first);
  plane->end_move(first, true, [&](errc status, std::chrono::nanoseconds) { removed = status == errc::none; });
  world.advance(moves.gates_first / 2);
  BOOST_TEST(!begun);
  BOOST_TEST(!removed);
  BOOST_TEST((record("a", 0, first.from) != nullptr));
  // What waits at the first gate went on all the same.
  BOOST_TEST(read(0, block_size) == 1);

  BOOST_TEST((end(second, false) == errc::none));
  world.advance(5ms);
  BOOST_TEST(begun);
  BOOST_TEST(removed);
  BOOST_TEST((record("a", 0, first.from) == nullptr));
}

BOOST_FIXTURE_TEST_CASE(a_gate_that_stays_closed_holds_up_the_making_of_files_for_a_while_only, move_fixture) {
  open();
  for (uint64_t i = 0; i < 2; ++i)
    BOOST_TEST((write(i * shard_size, block_size, 1) == errc::none));
  BOOST_TEST((begin(ends_of(0, 1)) == errc::none));
  BOOST_TEST((switch_over(ends_of(0, 1)).status == errc::none));
  const auto before = world.now();
  BOOST_TEST((begin(ends_of(1, 2)) == errc::none));
  BOOST_TEST(world.now() - before >= moves.gates_first);
  BOOST_TEST(world.now() - before < 2 * moves.gates_first);
}

BOOST_AUTO_TEST_SUITE_END()
