#include "runtime/monitoring/seldom.hpp"

#include <boost/test/unit_test.hpp>

using namespace varve;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(seldom_said)

BOOST_AUTO_TEST_CASE(the_same_line_is_said_once_a_minute) {
  seldom x;
  BOOST_TEST(x.say("a", 0s));
  BOOST_TEST(!x.say("a", 59s));
  BOOST_TEST(x.say("b", 59s));
  BOOST_TEST(x.say("a", 60s));
  BOOST_TEST(!x.say("a", 61s));
}

BOOST_AUTO_TEST_CASE(made_up_lines_are_bounded_until_the_old_ones_are_forgotten) {
  seldom x;
  for (size_t i = 0; i < seldom::remembered_max; ++i)
    BOOST_TEST(x.say(std::to_string(i), 1s));
  BOOST_TEST(!x.say("one more", 2s));
  BOOST_TEST(!x.say("0", 2s));
  BOOST_TEST(x.say("one more", 61s));
}

BOOST_AUTO_TEST_SUITE_END()
