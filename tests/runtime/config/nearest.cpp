#include "runtime/config/nearest.hpp"

#include <boost/test/unit_test.hpp>

namespace varve {

BOOST_AUTO_TEST_CASE(a_typo_finds_the_word_that_was_meant) {
  const std::vector<std::string> verbs{"create", "ls", "show", "resize", "rm", "attach", "detach"};
  BOOST_TEST(nearest("craete", verbs) == "create");
  BOOST_TEST(nearest("atach", verbs) == "attach");
  BOOST_TEST(nearest("sl", verbs) == "ls");
  BOOST_TEST(nearest("resiz", verbs) == "resize");
  BOOST_TEST(nearest("det", verbs) == "detach");
}

BOOST_AUTO_TEST_CASE(a_word_far_from_all_finds_none) {
  const std::vector<std::string> verbs{"create", "ls", "show"};
  BOOST_TEST(nearest("banana", verbs).empty());
  BOOST_TEST(nearest(std::string(100000, 'c'), verbs).empty());
  BOOST_TEST(nearest("x", {}).empty());
}

} // namespace varve
