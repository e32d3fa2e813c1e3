#include "runtime/console/rendering.hpp"

#include <boost/test/unit_test.hpp>

using namespace varve;
using namespace varve::console;
using namespace std::chrono_literals;

namespace {

actor_row row(std::string path, std::string kind, uint64_t mailbox = 0) {
  actor_row x;
  x.info = {std::move(path), "varve." + kind, true, 0, 2s, ""};
  x.mailbox = mailbox;
  return x;
}

std::vector<actor_row> rows() {
  auto silent = row("/n/storage/fast", "tier");
  silent.condition = actor_condition::silent;
  auto dead = row("/n/management/catalog", "catalog");
  dead.condition = actor_condition::restarting;
  dead.info.alive = false;
  dead.info.restarts = 3;
  dead.info.last_error = "killed";
  auto many = row("/n/management/leases", "lease-manager", 7);
  many.hidden = 40;
  return {row("/n", "node-root"),
          row("/n/management", "management-supervisor"),
          dead,
          many,
          row("/n/management/leases/1", "lease"),
          row("/n/storage", "storage-supervisor"),
          silent};
}

} // namespace

BOOST_AUTO_TEST_CASE(the_tree_shows_who_runs_who_restarts_and_who_is_silent) {
  BOOST_TEST(
    draw_tree(rows(), {true, true}) ==
    "ACTOR                KIND                   STATE       MAILBOX  RESTARTS  AGE  NOTE\n"
    "/n                   node-root              running           0         0  2 s\n"
    "├── management       management-supervisor  running           0         0  2 s\n"
    "│   ├── catalog      catalog                restarting        -         3  2 s  killed\n"
    "│   └── leases       lease-manager          running           7         0  2 s\n"
    "│       ├── 1        lease                  running           0         0  2 s\n"
    "│       └── 40 more                                                             tree /n/management/leases\n"
    "└── storage          storage-supervisor     running           0         0  2 s\n"
    "    └── fast         tier                   silent            -         0  2 s  does not answer\n");
}

BOOST_AUTO_TEST_CASE(a_part_of_the_tree_begins_with_its_whole_path) {
  const auto text =
    draw_tree({row("/n/storage", "storage-supervisor"), row("/n/storage/fast", "tier")}, {false, false});
  BOOST_TEST(text == "/n/storage  storage-supervisor  running  0  0  2 s\n"
                     "`-- fast    tier                running  0  0  2 s\n");
}

BOOST_AUTO_TEST_CASE(facts_are_read_in_their_units) {
  BOOST_TEST(value_of(bytes_fact("b", 20ull << 30)) == "20 GiB");
  BOOST_TEST(value_of(time_fact("t", 5ms)) == "5 ms");
  BOOST_TEST(value_of(flag_fact("f", true)) == "yes");
  BOOST_TEST(value_of(count_fact("c", 7)) == "7");
  BOOST_TEST(value_of(text_fact("t", "")) == "-");
  BOOST_TEST(draw_facts({count_fact("a", 1), text_fact("longer", "x")}) == "a       1\nlonger  x\n");
}

BOOST_AUTO_TEST_CASE(json_has_numbers_and_null_for_what_is_not_known) {
  auto x = to_json(rows()[2]);
  BOOST_TEST(x["state"] == "restarting");
  BOOST_TEST(x["mailbox"].is_null());
  BOOST_TEST(x["restarts"] == 3);
  x = to_json(rows()[3]);
  BOOST_TEST(x["mailbox"] == 7);
  BOOST_TEST(x["age"] == 2.0);
  const auto facts = to_json(actor_facts{bytes_fact("size", 4096), time_fact("t", 1500ms), flag_fact("f", false),
                                         count_fact("migration", 1), count_fact("migration", 2)});
  BOOST_TEST(facts["size"] == 4096);
  BOOST_TEST(facts["t"] == 1.5);
  BOOST_TEST(facts["f"] == false);
  BOOST_TEST((facts["migration"] == nlohmann::json{1, 2}));
}

BOOST_AUTO_TEST_CASE(help_for_an_actor_lists_messages_with_the_types_of_their_arguments) {
  const auto text = draw_messages("/n/management/volumes/1", {{"resize", {{"SIZE", argument_type::size}}, "Larger"}});
  BOOST_TEST(text == "send /n/management/volumes/1 resize SIZE\n"
                     "    Larger\n"
                     "    SIZE: a size in bytes, such as 20GiB\n");
  BOOST_TEST(draw_messages("/n", {}) == "/n can be sent nothing\n");
}
