#include "runtime/rpc/actor_listing.hpp"

#include <boost/test/unit_test.hpp>

#include "messages/errors.hpp"
#include "runtime/rpc/actor_messages.hpp"

namespace varve {

namespace {

std::vector<actor_info> infos(const std::vector<std::string>& paths) {
  std::vector<actor_info> all;
  for (const auto& x : paths)
    all.push_back({x, "varve.x", true, 0, {}, ""});
  return all;
}

std::vector<std::string> listed(const std::vector<std::string>& paths, const std::string& from = "",
                                uint64_t children_max = 100, uint64_t rows_max = 100) {
  std::vector<std::string> result;
  for (const auto& x : list_actors(infos(paths), *place_of(from), "n", children_max, rows_max))
    result.push_back(x.info.path + (x.hidden ? " +" + std::to_string(x.hidden) : ""));
  return result;
}

using names = std::vector<std::string>;

} // namespace

BOOST_AUTO_TEST_SUITE(a_listing_of_actors)

BOOST_AUTO_TEST_CASE(has_parents_before_children_and_numbers_in_their_order) {
  BOOST_TEST((listed({"storage/fast", "storage/fast-2", "storage/fast/1", "storage", "node", "host/10", "host/9",
                      "host"}) == names{"/n", "/n/host", "/n/host/9", "/n/host/10", "/n/storage", "/n/storage/fast",
                                        "/n/storage/fast/1", "/n/storage/fast-2"}));
}

BOOST_AUTO_TEST_CASE(begins_where_it_is_asked_to) {
  const names all{"node", "storage", "storage/fast", "storage/faster"};
  BOOST_TEST((listed(all, "/n/storage/fast") == names{"/n/storage/fast"}));
  BOOST_TEST((listed(all, "/n/storage/") == names{"/n/storage", "/n/storage/fast", "/n/storage/faster"}));
  BOOST_TEST(listed(all, "/n/none").empty());
}

BOOST_AUTO_TEST_CASE(counts_children_that_it_leaves_off_with_all_below_them) {
  BOOST_TEST((listed({"node", "a", "a/1", "a/2", "a/2/x", "a/3", "a/3/y", "b"}, "", 2) ==
              names{"/n", "/n/a +1", "/n/a/1", "/n/a/2", "/n/a/2/x", "/n/b"}));
  BOOST_TEST((listed({"node", "a", "b", "c"}, "", 1) == names{"/n +2", "/n/a"}));
  BOOST_TEST((listed({"node", "a", "b", "c"}, "", 100, 3) == names{"/n +1", "/n/a", "/n/b"}));
  BOOST_TEST((listed({"node", "a", "a/1"}, "/n/a", 0) == names{"/n/a +1"}));
}

BOOST_AUTO_TEST_CASE(takes_paths_that_begin_with_a_node) {
  BOOST_TEST(place_of("/")->node == "");
  BOOST_TEST(place_of("/n")->local == path::root);
  BOOST_TEST(place_of("/n/a/b/")->local == "a/b");
  BOOST_TEST((code_of(place_of("a/b").error()) == errc::invalid_argument));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(arguments_of_a_message_are_checked_again_at_the_node) {
  const auto all = messages_of("varve.lease-manager");
  BOOST_REQUIRE(all.size() == 1u);
  const auto& x = all[0];
  BOOST_TEST(!check_arguments(x, {std::string{"vm1"}, uint64_t{3}}));
  BOOST_TEST(context_of(check_arguments(x, {std::string{"vm1"}, std::string{"3"}})) ==
             "argument 2 of \"break\" (SHARD) must be a number");
  BOOST_TEST(context_of(check_arguments(x, {std::string{"vm1"}})) == "message \"break\" takes 2 arguments, not 1");
  BOOST_TEST((code_of(check_arguments(x, {std::string{}, uint64_t{3}})) == errc::invalid_argument));
  BOOST_TEST(messages_of("varve.catalog").empty());
}

} // namespace varve
