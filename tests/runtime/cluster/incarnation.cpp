#include "runtime/cluster/incarnation.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <boost/test/unit_test.hpp>
#include <sys/stat.h>

using namespace varve;

namespace {

struct folder_fixture {
  folder_fixture() {
    char name[] = "/tmp/varve-incarnation-XXXXXX";
    folder = ::mkdtemp(name);
  }
  ~folder_fixture() { std::filesystem::remove_all(folder); }

  uint64_t begin(uint64_t wall_seconds) { return begin_incarnation(folder, wall_seconds, problem); }

  std::string folder, problem;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(incarnation, folder_fixture)

BOOST_AUTO_TEST_CASE(every_life_has_a_higher_number_whatever_the_clock_says) {
  BOOST_TEST(begin(1000) == 1000u);
  BOOST_TEST(begin(1000) == 1001u); // twice within a second
  BOOST_TEST(begin(5) == 1002u);    // the clock went back
  BOOST_TEST(begin(2000) == 2000u);
  BOOST_TEST(problem == "");
}

BOOST_AUTO_TEST_CASE(what_is_no_number_is_not_guessed_over) {
  for (const auto* text :
       {"", "\n", "12", "x\n", "12 \n", "-1\n", "18446744073709551615\n", "99999999999999999999\n"}) {
    std::ofstream{folder + "/incarnation"} << text;
    BOOST_TEST(begin(7) == 0u, text);
    BOOST_TEST(problem.starts_with(folder + "/incarnation: it holds no number"), problem);
  }
}

BOOST_AUTO_TEST_CASE(a_number_that_cannot_be_kept_is_not_used) {
  BOOST_TEST(begin_incarnation(folder + "/none", 7, problem) == 0u);
  BOOST_TEST(problem.find(folder + "/none") != std::string::npos, problem);
}

BOOST_AUTO_TEST_SUITE_END()
