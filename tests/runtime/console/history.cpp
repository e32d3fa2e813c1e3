#include "runtime/console/history.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <boost/test/unit_test.hpp>
#include <sys/stat.h>

using namespace varve::console;

namespace {

struct folder_fixture {
  folder_fixture() {
    char name[] = "/tmp/varve-history-XXXXXX";
    folder = ::mkdtemp(name);
    path = folder + "/state/varve/history";
  }
  ~folder_fixture() { std::filesystem::remove_all(folder); }

  static unsigned rights(const std::string& of) {
    struct stat s {};
    BOOST_REQUIRE(::stat(of.c_str(), &s) == 0);
    return s.st_mode & 0777u;
  }

  std::string folder, path;
};

using lines = std::vector<std::string>;

} // namespace

BOOST_FIXTURE_TEST_SUITE(the_history, folder_fixture)

BOOST_AUTO_TEST_CASE(is_kept_in_a_file_that_only_its_owner_reads) {
  history x{path};
  BOOST_TEST(x.load().empty());
  x.add("tree");
  x.add("tree"); // the same again says nothing new
  x.add("");
  x.add("inspect /n");
  BOOST_TEST(x.problem() == "");
  BOOST_TEST(rights(path) == 0600u);
  BOOST_TEST(rights(folder + "/state/varve") == 0700u);
  BOOST_TEST((history{path}.load() == lines{"tree", "inspect /n"}));
  // Also one that was made otherwise.
  ::chmod(path.c_str(), 0644);
  history{path}.add("quit");
  BOOST_TEST(rights(path) == 0600u);
}

BOOST_AUTO_TEST_CASE(of_two_consoles_loses_no_line) {
  history a{path}, b{path};
  a.add("1");
  b.add("2");
  a.add("3");
  BOOST_TEST((history{path}.load() == lines{"1", "2", "3"}));
}

BOOST_AUTO_TEST_CASE(is_cut_when_it_has_grown) {
  {
    history x{path};
    std::ofstream file{path};
    for (size_t i = 0; i < 2 * history::lines_max + 1; ++i)
      file << i << '\n';
  }
  const auto latest = history{path}.load();
  BOOST_TEST(latest.size() == history::lines_max);
  BOOST_TEST(latest.back() == std::to_string(2 * history::lines_max));
  std::ifstream file{path};
  BOOST_TEST(static_cast<size_t>(std::count(std::istreambuf_iterator<char>{file}, {}, '\n')) == history::lines_max);
  BOOST_TEST(rights(path) == 0600u);
}

BOOST_AUTO_TEST_CASE(that_cannot_be_kept_says_why_and_fails_nothing) {
  std::ofstream{folder + "/file"} << "no folder";
  history x{folder + "/file/history"};
  x.add("tree");
  BOOST_TEST(x.problem() != "");
  BOOST_TEST(x.load().empty());
  BOOST_TEST(history{""}.problem() != "");
}

BOOST_AUTO_TEST_CASE(stands_in_the_folder_for_state) {
  ::setenv("XDG_STATE_HOME", "/s", 1);
  BOOST_TEST(default_history_path() == "/s/varve/history");
  ::unsetenv("XDG_STATE_HOME");
  ::setenv("HOME", "/h", 1);
  BOOST_TEST(default_history_path() == "/h/.local/state/varve/history");
}

BOOST_AUTO_TEST_SUITE_END()
