// The rules of the switch between the nodes of a test.
#include <boost/test/unit_test.hpp>

#include "tests/chaos/wire.hpp"

using varve::chaos::wire;

BOOST_AUTO_TEST_CASE(a_frame_arrives_at_once_without_faults) {
  wire w(3, 1);
  BOOST_TEST(w.arrival(1, 2, 1000) == 1000);
}

BOOST_AUTO_TEST_CASE(a_cut_is_of_one_direction_unless_both_are_said) {
  wire w(3, 1);
  BOOST_TEST(w.command("cut 1 2") == "");
  BOOST_TEST(w.arrival(1, 2, 1000) == -1);
  BOOST_TEST(w.arrival(2, 1, 1000) == 1000);
  BOOST_TEST(w.arrival(1, 3, 1000) == 1000);
  BOOST_TEST(w.dropped() == 1u);
  BOOST_TEST(w.command("heal 1 2") == "");
  BOOST_TEST(w.arrival(1, 2, 1000) == 1000);
  BOOST_TEST(w.command("both cut 3 *") == "");
  BOOST_TEST(w.arrival(3, 1, 1000) == -1);
  BOOST_TEST(w.arrival(2, 3, 1000) == -1);
  BOOST_TEST(w.arrival(1, 2, 1000) == 1000);
  BOOST_TEST(w.command("clear") == "");
  BOOST_TEST(w.arrival(3, 1, 1000) == 1000);
}

BOOST_AUTO_TEST_CASE(delayed_frames_keep_their_order) {
  wire w(2, 1);
  BOOST_TEST(w.command("delay 1 2 10 5") == "");
  int64_t latest = 0, first = w.arrival(1, 2, 0);
  BOOST_TEST(first >= 10'000'000);
  BOOST_TEST(first <= 15'000'000);
  for (int i = 0; i < 1000; ++i) {
    const auto at = w.arrival(1, 2, i * 1000);
    BOOST_TEST(at >= latest);
    latest = at;
  }
  BOOST_TEST(w.command("delay 1 2 0") == "");
  BOOST_TEST(w.arrival(1, 2, 1'000'000) == latest);
}

BOOST_AUTO_TEST_CASE(loss_is_as_often_as_said_and_the_same_for_the_same_seed) {
  auto lost = [](uint64_t seed) {
    wire w(2, seed);
    BOOST_TEST(w.command("loss 1 2 20") == "");
    std::vector<bool> gone;
    for (int i = 0; i < 10'000; ++i)
      gone.push_back(w.arrival(1, 2, i) == -1);
    return gone;
  };
  const auto a = lost(1);
  const auto count = std::count(a.begin(), a.end(), true);
  BOOST_TEST(count > 1'800);
  BOOST_TEST(count < 2'200);
  BOOST_TEST((a == lost(1)));
  BOOST_TEST((a != lost(2)));
}

BOOST_AUTO_TEST_CASE(what_is_no_command_is_refused_and_changes_nothing) {
  wire w(2, 1);
  for (auto line : {"", "fold 1 2", "cut 1", "cut 0 1", "cut 1 3", "delay 1 2", "delay 1 2 x", "delay 1 2 -1",
                    "loss 1 2 101", "delay 1 2 1 -1"})
    BOOST_TEST(w.command(line) != "", line);
  BOOST_TEST(w.arrival(1, 2, 5) == 5);
}
