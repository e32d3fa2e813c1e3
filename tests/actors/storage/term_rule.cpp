#include "actors/storage/term_rule.hpp"

#include <boost/test/unit_test.hpp>

using namespace varve;
using namespace std::chrono_literals;

namespace {
const term_rule rule{.short_term = 20s, .grants_waiting_max = 10};
}

BOOST_AUTO_TEST_CASE(a_tier_with_little_to_do_accepts_what_is_wished) {
  const auto x = rule.grant({}, 45s, false);
  BOOST_TEST((x.refused == errc::none));
  BOOST_TEST((x.term == 45s));
  BOOST_TEST((x.limit == term_limit::none));
}

BOOST_AUTO_TEST_CASE(what_is_emptied_slow_or_being_moved_is_leased_for_a_short_term) {
  BOOST_TEST((rule.grant({.draining = true}, 45s, false).term == 20s));
  BOOST_TEST((rule.grant({.draining = true}, 45s, true).limit == term_limit::draining));
  BOOST_TEST((rule.grant({.sync_latency_mean = 1s}, 45s, false).limit == term_limit::overloaded));
  BOOST_TEST((rule.grant({}, 45s, true).limit == term_limit::migrating));
  BOOST_TEST((rule.renewal({.draining = true}, 45s, false).term == 20s));
  // What is short already is not made shorter, nor said to be.
  BOOST_TEST((rule.grant({.draining = true}, 7s, false).term == 7s));
  BOOST_TEST((rule.grant({.draining = true}, 7s, false).limit == term_limit::none));
}

BOOST_AUTO_TEST_CASE(a_tier_with_too_much_to_do_refuses_grants_and_renews_on) {
  const auto x = rule.grant({.grants_waiting = 10}, 45s, false);
  BOOST_TEST((x.refused == errc::unavailable));
  BOOST_TEST(x.why.find("overloaded") != std::string::npos);
  BOOST_TEST((rule.renewal({.grants_waiting = 10}, 45s, false).refused == errc::none));
  BOOST_TEST((rule.renewal({.grants_waiting = 10}, 45s, false).term == 45s));
}
