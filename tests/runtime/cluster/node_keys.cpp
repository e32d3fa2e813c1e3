#include "runtime/cluster/node_keys.hpp"

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>

#include <boost/test/unit_test.hpp>
#include <sys/stat.h>

using namespace varve;
using namespace std::chrono_literals;

namespace {

struct keys_fixture {
  keys_fixture() {
    char name[] = "/tmp/varve-keys-XXXXXX";
    folder = ::mkdtemp(name);
    ::rmdir(name); // made by make_keys
  }
  ~keys_fixture() { std::filesystem::remove_all(folder); }

  std::string make(std::vector<std::string> nodes, key_options options = {}) {
    made.clear();
    return make_keys(folder, "lab", nodes, options, made);
  }
  /// What is wrong with one of them, as of a time from now.
  std::string problem(const std::string& name, std::chrono::seconds later = 0s) {
    for (auto& x : check_keys(folder, {"a", "b", "c"}, ::time(nullptr) + later.count()))
      if (x.name == name)
        return x.problem;
    return "absent";
  }
  std::string content(const std::string& file) {
    std::ifstream in{folder + '/' + file};
    return {std::istreambuf_iterator<char>{in}, {}};
  }
  unsigned mode(const std::string& file) {
    struct stat x {};
    ::stat((folder + '/' + file).c_str(), &x);
    return x.st_mode & 0777;
  }

  std::string folder;
  std::vector<std::string> made;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(node_keys, keys_fixture)

BOOST_AUTO_TEST_CASE(keys_are_made_once_and_are_good) {
  BOOST_TEST(make({"a"}) == "");
  BOOST_TEST((made == std::vector<std::string>{"ca", "a"}));
  BOOST_TEST(mode("") == 0700u);
  BOOST_TEST(mode("a.key") == 0600u);
  BOOST_TEST(mode("ca.key") == 0600u);
  const auto first = content("a.pem");
  // Another node is added; what is there stays.
  BOOST_TEST(make({"a", "b"}) == "");
  BOOST_TEST((made == std::vector<std::string>{"b"}));
  BOOST_TEST(content("a.pem") == first);
  for (auto* name : {"ca", "a", "b"})
    BOOST_TEST(problem(name) == "", name);
  key_options anew;
  anew.renew = true;
  BOOST_TEST(make({"a"}, anew) == "");
  BOOST_TEST(content("a.pem") != first);
  BOOST_TEST(problem("a") == "");
}

BOOST_AUTO_TEST_CASE(a_node_does_not_need_the_cas_key_and_without_it_makes_no_node) {
  BOOST_TEST(make({"a"}) == "");
  std::filesystem::remove(folder + "/ca.key");
  BOOST_TEST(problem("ca") == "");
  BOOST_TEST(problem("a") == "");
  BOOST_TEST(make({"b"}).find("ca.key: No such file") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(what_is_wrong_with_a_key_is_said) {
  BOOST_TEST(make({"a", "b"}) == "");
  BOOST_TEST(problem("a", 24h * 826).find("a.pem has expired at ") != std::string::npos);
  BOOST_TEST(problem("a", -2h).find("a.pem is not in force before ") != std::string::npos);
  BOOST_TEST(problem("ca", 24h * 826) == "");
  std::filesystem::copy_file(folder + "/b.key", folder + "/a.key", std::filesystem::copy_options::overwrite_existing);
  BOOST_TEST(problem("a").find("a.key is not the key of a.pem") != std::string::npos);
  std::filesystem::remove(folder + "/a.key");
  BOOST_TEST(problem("a").find("a.key: No such file") != std::string::npos);
  BOOST_TEST(make({"b", "c"}) == "");
  ::chmod((folder + "/c.key").c_str(), 0640);
  BOOST_TEST(problem("c").find("c.key can be read by other users: its mode is 0640") != std::string::npos);
  for (auto* part : {".pem", ".key"})
    std::filesystem::copy_file(folder + "/b" + part, folder + "/c" + part,
                               std::filesystem::copy_options::overwrite_existing);
  ::chmod((folder + "/c.key").c_str(), 0600);
  BOOST_TEST(problem("c").find("c.pem is the certificate of \"b\"") != std::string::npos);
  std::ofstream{folder + "/a.pem"} << "nonsense";
  BOOST_TEST(problem("a").find("a.pem is no certificate") != std::string::npos);
  // Of another CA.
  const auto b = content("b.pem"), key = content("b.key");
  std::filesystem::remove_all(folder);
  BOOST_TEST(make({}) == "");
  std::ofstream{folder + "/b.pem"} << b;
  std::ofstream{folder + "/b.key"} << key;
  BOOST_TEST(problem("b").find("b.pem is not signed by ca.pem") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(every_certificate_has_a_number_of_its_own) {
  BOOST_TEST(make({"a", "b"}) == "");
  std::set<std::string> serials;
  for (const auto& x : check_keys(folder, {"a", "b"}, ::time(nullptr))) {
    BOOST_TEST(x.serial.size() == 32u);
    serials.insert(x.serial);
  }
  BOOST_TEST(serials.size() == 3u);
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_made_is_named) {
  folder = "/proc/varve-keys";
  BOOST_TEST(make({"a"}).starts_with("/proc/varve-keys: "));
  folder = "/tmp/varve-keys-none";
}

BOOST_AUTO_TEST_SUITE_END()
