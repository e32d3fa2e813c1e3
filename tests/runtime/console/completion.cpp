#include "runtime/console/completion.hpp"

#include <boost/test/unit_test.hpp>

using namespace varve;
using namespace varve::console;

namespace {

struct few_words : vocabulary {
  std::string node() override { return "n"; }
  std::vector<std::string> paths() override {
    ++asked;
    return {
      "/n",         "/n/host",        "/n/host/1", "/n/management", "/n/management/catalog", "/n/management/leases",
      "/n/storage", "/n/storage/fast"};
  }
  std::vector<actor_message> messages(const std::string& path) override {
    if (path != "/n/storage/fast")
      return {};
    return {{"verify", {{"VOLUME", argument_type::volume}, {"SHARD", argument_type::number}}, ""},
            {"drain", {{"TIER", argument_type::tier}, {"FORCE", argument_type::flag}}, ""}};
  }
  std::vector<std::string> volumes() override { return {"vm1", "vm2", "other"}; }
  std::vector<std::string> tiers() override { return {"fast", "slow"}; }
  int asked = 0;
};

using names = std::vector<std::string>;

names candidates(std::string_view line) {
  few_words words;
  return complete(line, words).candidates;
}

} // namespace

BOOST_AUTO_TEST_SUITE(completing)

BOOST_AUTO_TEST_CASE(knows_the_commands_and_asks_nobody_for_them) {
  few_words words;
  BOOST_TEST((complete("in", words).candidates == names{"inspect"}));
  BOOST_TEST(words.asked == 0);
  BOOST_TEST((complete("", words).candidates.size() == 7u));
  BOOST_TEST(complete("zz", words).candidates.empty());
}

BOOST_AUTO_TEST_CASE(goes_down_the_tree_step_by_step) {
  BOOST_TEST((candidates("inspect /") == names{"/n/"}));
  BOOST_TEST((candidates("inspect /n/") == names{"/n/host/", "/n/management/", "/n/storage/"}));
  BOOST_TEST((candidates("inspect /n/m") == names{"/n/management/"}));
  BOOST_TEST((candidates("inspect /n/management/c") == names{"/n/management/catalog"}));
  // Within the node.
  BOOST_TEST((candidates("kill ") == names{"host/", "management/", "storage/"}));
  BOOST_TEST((candidates("kill storage/") == names{"storage/fast"}));
}

BOOST_AUTO_TEST_CASE(offers_what_a_command_takes_beside_paths) {
  BOOST_TEST((candidates("watch m") == names{"management/", "migrations"}));
  BOOST_TEST((candidates("watch tree --") == names{"--count"}));
  BOOST_TEST((candidates("help tr") == names{"tree"}));
  BOOST_TEST(candidates("quit ").empty());
}

BOOST_AUTO_TEST_CASE(offers_the_messages_that_the_actor_takes_and_values_of_their_types) {
  BOOST_TEST((candidates("send storage/fast ") == names{"drain", "verify"}));
  BOOST_TEST((candidates("send /n/storage/fast v") == names{"verify"}));
  BOOST_TEST(candidates("send /n/host ").empty());
  BOOST_TEST((candidates("send storage/fast verify vm") == names{"vm1", "vm2"}));
  BOOST_TEST(candidates("send storage/fast verify vm1 ").empty());
  BOOST_TEST((candidates("send storage/fast drain ") == names{"fast", "slow"}));
  BOOST_TEST((candidates("send storage/fast drain slow ") == names{"false", "true"}));
  BOOST_TEST(candidates("send storage/fast drain slow true ").empty());
}

BOOST_AUTO_TEST_CASE(replaces_the_word_that_is_typed_with_what_all_have_in_common) {
  few_words words;
  const auto x = complete("tree; send storage/fast verify v", words);
  BOOST_TEST(x.from == 31u);
  BOOST_TEST(x.common() == "vm");
  BOOST_TEST(completion{}.common() == "");
}

BOOST_AUTO_TEST_SUITE_END()
