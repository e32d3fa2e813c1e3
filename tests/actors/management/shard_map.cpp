#include "actors/management/shard_map.hpp"

#include <boost/test/unit_test.hpp>

using namespace varve;

BOOST_AUTO_TEST_SUITE(shard_map_rules)

BOOST_AUTO_TEST_CASE(an_empty_map_is_one_run_to_the_end_of_the_volume) {
  shard_map map{volume_id{1}};
  auto part = map.part(shard_index{5}, 1, 16'777'216, 100);
  BOOST_TEST(part.begin.value() == 5u);
  BOOST_TEST(part.end.value() == 16'777'216u);
  BOOST_TEST(part.homes.empty());
}

BOOST_AUTO_TEST_CASE(a_part_reaches_to_the_next_shard_that_exists_or_to_its_limit) {
  shard_map map{volume_id{1}};
  for (uint64_t i : {3, 4, 9})
    map.put({{volume_id{1}, shard_index{i}}, i == 4 ? "slow" : "fast", generation{i}, epoch{0}}, 100 + i);
  auto part = map.part(shard_index{0}, 4, 20, 100);
  BOOST_TEST(part.homes.size() == 1u);
  BOOST_TEST(part.end.value() == 4u);
  part = map.part(shard_index{0}, UINT64_MAX, 20, 2);
  BOOST_TEST(part.homes.size() == 2u);
  BOOST_TEST(part.homes[1].tier == "slow");
  BOOST_TEST(part.end.value() == 9u);
  part = map.part(shard_index{9}, 1, 20, 2);
  BOOST_TEST(part.homes.size() == 1u);
  BOOST_TEST(part.end.value() == 20u);
  BOOST_TEST(map.revision(shard_index{9}) == 109u);
  BOOST_TEST(map.revision(shard_index{10}) == 0u);
  BOOST_TEST(!map.home(shard_index{10}).exists());
  BOOST_TEST(map.last()->value() == 9u);
}

BOOST_AUTO_TEST_CASE(tiers_are_numbered_once_in_the_order_in_which_they_came) {
  tier_names names;
  for (const auto* name : {"m", "b", "z", "b", "a", "m"})
    (void)names.number(name);
  BOOST_TEST((names.all() == std::vector<std::string>{"m", "b", "z", "a"}));
  for (uint32_t i = 0; i < names.size(); ++i) {
    BOOST_TEST(names.number(names[i]) == i);
    BOOST_TEST(names.find(names[i]).value() == i);
  }
  BOOST_TEST(!names.find("c").has_value());
  BOOST_TEST(names.size() == 4u);
  shard_map map{volume_id{1}};
  for (uint64_t i = 0; i < 1000; ++i)
    map.put({{volume_id{1}, shard_index{i}}, "t" + std::to_string(i * 7 % 100), generation{1}, epoch{0}}, 1);
  BOOST_TEST(map.tiers().size() == 100u);
  for (uint64_t i = 0; i < 1000; ++i)
    BOOST_TEST(map.home(shard_index{i}).tier == "t" + std::to_string(i * 7 % 100));
}

BOOST_AUTO_TEST_SUITE_END()
