#include "actors/supervision/restart_policy.hpp"

#include <boost/test/unit_test.hpp>

using namespace varve;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(restart_policy_rules)

BOOST_AUTO_TEST_CASE(each_restart_waits_longer_until_the_cap) {
  restart_options options;
  options.jitter = 0;
  options.delay_min = 10ms;
  options.delay_max = 100ms;
  restart_policy policy{options, 1};
  const caf::timespan expected[] = {10ms, 20ms, 40ms, 80ms, 100ms, 100ms};
  for (auto x : expected)
    BOOST_TEST((policy.next(boot_time{0}) == x));
}

BOOST_AUTO_TEST_CASE(too_many_restarts_within_the_window_are_refused) {
  restart_options options;
  options.restarts_max = 3;
  options.window = 10s;
  restart_policy policy{options, 1};
  for (int i = 0; i < 3; ++i)
    BOOST_TEST(policy.next(1s).has_value());
  BOOST_TEST(!policy.next(10'999ms).has_value());
  // The window has passed: everything is forgotten, also the back-off.
  BOOST_TEST((*policy.next(11s) <= options.delay_min));
}

BOOST_AUTO_TEST_CASE(jitter_takes_off_at_most_its_share_and_comes_from_the_seed) {
  restart_options options;
  options.jitter = 0.5;
  options.restarts_max = 1000;
  restart_policy one{options, 7}, same{options, 7}, other{options, 8};
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const auto at = i * 100s;
    const auto delay = *one.next(at);
    BOOST_TEST((delay >= options.delay_min / 2 && delay <= options.delay_min));
    BOOST_TEST((delay == *same.next(at)));
    differs |= delay != *other.next(at);
  }
  BOOST_TEST(differs);
}

BOOST_AUTO_TEST_SUITE_END()
