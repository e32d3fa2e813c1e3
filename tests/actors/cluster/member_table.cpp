#include "actors/cluster/member_table.hpp"

#include <boost/test/unit_test.hpp>

#include "messages/errors.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

struct table_fixture {
  table_fixture() : table(cluster()) {}

  static cluster_config cluster() {
    cluster_config x;
    x.name = "lab";
    x.suspect_after = 3s;
    x.down_after = 10s;
    x.nodes = {{"a", {true, false, false}, {"h", 1}, {"h", 2}}, {"b", {false, true, true}, {"h", 3}, {"h", 4}}};
    return x;
  }
  static node_announcement words(std::string node, uint64_t incarnation) {
    node_announcement x;
    x.cluster = "lab";
    x.incarnation = incarnation;
    x.version = "1.2";
    x.roles = node == "a" ? "manager" : "storage,host";
    x.node = std::move(node);
    return x;
  }
  errc hear(const node_announcement& x, boot_time at) { return code_of(said = table.hear(x, at, changes)); }
  /// What has changed since it was last asked for: "b up, ".
  std::string changed() {
    std::string result;
    for (auto& x : changes)
      result += x.node + ' ' + to_string(x.to) + (x.another_life ? "*, " : ", ");
    changes.clear();
    return result;
  }

  member_table table;
  std::vector<member_table::change> changes;
  caf::error said;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(member_tables, table_fixture)

BOOST_AUTO_TEST_CASE(silence_makes_a_node_suspect_then_down_and_a_word_brings_it_back) {
  BOOST_TEST((table.next_look() == boot_time::max()));
  BOOST_TEST((hear(words("b", 7), 100s) == errc::none));
  BOOST_TEST(changed() == "b up*, ");
  BOOST_TEST((table.next_look() == 103s));
  table.look(103s - 1ns, changes);
  BOOST_TEST(changed() == "");
  table.look(103s, changes);
  BOOST_TEST(changed() == "b suspect, ");
  BOOST_TEST((table.next_look() == 110s));
  table.look(110s - 1ns, changes);
  BOOST_TEST(changed() == "");
  BOOST_TEST((hear(words("b", 7), 109s) == errc::none));
  BOOST_TEST(changed() == "b up, ");
  table.look(119s, changes); // suspended meanwhile: straight to down
  BOOST_TEST(changed() == "b down, ");
  BOOST_TEST((table.next_look() == boot_time::max()));
  table.look(200s, changes);
  BOOST_TEST(changed() == "");
  BOOST_TEST((hear(words("b", 7), 201s) == errc::none));
  BOOST_TEST(changed() == "b up, ");
}

BOOST_AUTO_TEST_CASE(a_node_never_heard_is_unknown_and_stays_so) {
  table.look(1000s, changes);
  BOOST_TEST(changed() == "");
  auto all = table.list(1000s);
  BOOST_REQUIRE(all.size() == 2u);
  BOOST_TEST((all[0].state == member_state::unknown && all[0].incarnation == 0 && all[0].silent.count() == 0));
  BOOST_TEST(all[1].roles == "storage,host");
  BOOST_TEST(all[1].data == "h:4");
}

BOOST_AUTO_TEST_CASE(another_life_of_a_node_is_told_even_if_it_never_seemed_gone) {
  BOOST_TEST((hear(words("b", 7), 1s) == errc::none));
  changed();
  BOOST_TEST((hear(words("b", 8), 2s) == errc::none));
  BOOST_TEST(changed() == "b up*, ");
  BOOST_TEST(table.list(2s)[1].joins == 2u);
  // A word of the earlier life that was long under way.
  BOOST_TEST((hear(words("b", 7), 3s) == errc::conflict));
  BOOST_TEST(changed() == "");
  BOOST_TEST(table.list(3s)[1].incarnation == 8u);
}

BOOST_AUTO_TEST_CASE(a_node_that_says_it_stops_is_down_at_once) {
  auto x = words("b", 7);
  BOOST_TEST((hear(x, 1s) == errc::none));
  x.leaving = true;
  BOOST_TEST((hear(x, 2s) == errc::none));
  BOOST_TEST(changed() == "b up*, b down, ");
}

BOOST_AUTO_TEST_CASE(who_does_not_belong_here_is_refused_and_told_why) {
  auto x = words("b", 7);
  x.protocol = cluster_protocol + 1;
  BOOST_TEST((hear(x, 1s) == errc::unsupported));
  // Both are named.
  BOOST_TEST(context_of(said).find("protocol " + std::to_string(cluster_protocol + 1)) != std::string::npos);
  BOOST_TEST(context_of(said).find("this manager " + std::to_string(cluster_protocol)) != std::string::npos);
  x = words("b", 7);
  x.cluster = "other";
  BOOST_TEST((hear(x, 1s) == errc::not_found));
  BOOST_TEST((hear(words("c", 7), 1s) == errc::not_found));
  x = words("b", 7);
  x.roles = "manager";
  BOOST_TEST((hear(x, 1s) == errc::invalid_argument));
  BOOST_TEST(changed() == "");
  BOOST_TEST((table.list(1s)[1].state == member_state::unknown));
}

BOOST_AUTO_TEST_SUITE_END()
