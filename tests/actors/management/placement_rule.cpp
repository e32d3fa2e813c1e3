#include "actors/management/placement_rule.hpp"

#include <boost/test/unit_test.hpp>
#include <map>

#include "messages/errors.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

constexpr uint64_t MiB = 1 << 20;

struct fixture {
  fixture() {
    volume.shard_size = 4 * MiB;
    add("ram", true, 1000 * MiB);
    add("fast", false, 1000 * MiB);
    add("slow", false, 10'000 * MiB);
    tiers[1].info.io = "direct";
  }
  storage_tier& add(const char* name, bool is_volatile, uint64_t capacity, const char* node = "a") {
    storage_tier x;
    x.info.name = name;
    x.info.kind = is_volatile ? "memory" : "file";
    x.info.is_volatile = is_volatile;
    x.info.capacity_bytes = capacity;
    x.info.state = "up";
    x.node = node;
    tiers.push_back(x);
    return tiers.back();
  }
  /// Of one shard: the tier's name, or why there is none.
  std::string choose(uint64_t index = 0, const std::string& near = "") {
    std::string result;
    placement_plan plan;
    auto e = placement_rule{}.determine_shard_placement(volume.size_bytes, request_of(volume), tiers, plan);
    if (!e)
      e = choose_tier(plan, tiers, volume, {volume_id{7}, shard_index{index}}, near, result);
    return e ? to_string(code_of(e)) : result;
  }
  /// Of many shards, how many went where.
  std::map<std::string, int> spread(int shards, const std::string& near = "") {
    std::map<std::string, int> result;
    for (int i = 0; i < shards; ++i)
      ++result[choose(static_cast<uint64_t>(i), near)];
    return result;
  }
  volume_spec volume;
  std::vector<storage_tier> tiers;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(placement_rules, fixture)

BOOST_AUTO_TEST_CASE(a_durable_volume_goes_to_the_first_durable_tier_and_a_volatile_one_to_memory) {
  BOOST_TEST(choose() == "fast");
  volume.is_volatile = true;
  BOOST_TEST(choose() == "ram");
}

BOOST_AUTO_TEST_CASE(a_durable_volume_is_never_placed_in_memory) {
  volume.tier = "ram";
  BOOST_TEST(choose() == "volatile_tier");
  volume.tier = "";
  tiers.resize(1);
  BOOST_TEST(choose() == "volatile_tier");
}

BOOST_AUTO_TEST_CASE(a_tier_that_is_not_served_is_waited_for_only_by_what_must_live_there) {
  tiers[1].info.state = "refused";
  BOOST_TEST(choose() == "slow");
  volume.tier = "fast";
  BOOST_TEST(choose() == "unavailable");
  volume.tier = "";
  tiers[2].info.used_bytes = tiers[2].info.capacity_bytes;
  BOOST_TEST(choose() == "tier_full");
}

BOOST_AUTO_TEST_CASE(a_named_tier_is_taken_or_refused) {
  volume.tier = "slow";
  BOOST_TEST(choose() == "slow");
  tiers[2].info.used_bytes = tiers[2].info.capacity_bytes - MiB;
  BOOST_TEST(choose() == "tier_full");
  volume.tier = "tape";
  BOOST_TEST(choose() == "not_found");
}

BOOST_AUTO_TEST_CASE(a_tenth_of_a_tier_is_kept_free_while_another_has_room) {
  tiers[1].info.used_bytes = 900 * MiB;
  BOOST_TEST(choose() == "slow");
  tiers[2].info.used_bytes = 9'500 * MiB;
  BOOST_TEST(choose() == "fast");
  tiers[1].info.used_bytes = 1000 * MiB;
  BOOST_TEST(choose() == "slow");
  tiers[2].info.used_bytes = 10'000 * MiB;
  BOOST_TEST(choose() == "tier_full");
}

BOOST_AUTO_TEST_CASE(what_was_measured_to_be_faster_is_preferred_and_of_equals_the_cheaper) {
  tiers[1].info.write_latency = 1ms;
  tiers[2].info.write_latency = 100us;
  BOOST_TEST(choose() == "slow");
  tiers[2].info.write_latency = 1ms;
  tiers[1].info.cost = 2;
  tiers[2].info.cost = 1;
  BOOST_TEST(choose() == "slow");
}

BOOST_AUTO_TEST_CASE(a_silent_tier_gets_nothing_but_counts_as_room) {
  tiers[1].info.state = silent_tier;
  BOOST_TEST(choose() == "slow");
  tiers[2].info.state = silent_tier;
  BOOST_TEST(choose() == "unavailable");
  tiers[2].info.state = "up";
  tiers[2].info.used_bytes = tiers[2].info.capacity_bytes;
  BOOST_TEST(choose() == "unavailable");
  tiers[1].info.used_bytes = tiers[1].info.capacity_bytes;
  BOOST_TEST(choose() == "tier_full");
}

BOOST_AUTO_TEST_CASE(a_failed_tier_gets_nothing) {
  tiers[1].info.state = "failed";
  BOOST_TEST(choose() == "slow");
}

BOOST_AUTO_TEST_CASE(sensitive_data_goes_only_where_it_is_trusted_whatever_else_is_asked) {
  volume.sensitive = sensitivity::high;
  tiers[1].accepts = sensitivity::normal;
  BOOST_TEST(choose() == "slow");
  tiers[2].info.used_bytes = tiers[2].info.capacity_bytes;
  BOOST_TEST(choose() == "tier_full");
  volume.tier = "fast";
  BOOST_TEST(choose() == "invalid_argument");
  volume.tier = "";
  tiers[2].accepts = sensitivity::low;
  BOOST_TEST(choose() == "invalid_argument");
  volume.sensitive = sensitivity::normal;
  BOOST_TEST(choose() == "fast");
}

BOOST_AUTO_TEST_CASE(the_profile_says_whether_speed_or_money_counts_first) {
  tiers[1].info.write_latency = 100us;
  tiers[1].info.cost = 5;
  tiers[2].info.write_latency = 5ms;
  tiers[2].info.cost = 1;
  BOOST_TEST(choose() == "fast");
  volume.profile = workload_profile::capacity;
  BOOST_TEST(choose() == "slow");
  auto& dear = add("dear", false, 1000 * MiB);
  dear.info.write_latency = 100us;
  dear.info.cost = 9;
  volume.profile = workload_profile::balanced;
  BOOST_TEST((spread(100) == std::map<std::string, int>{{"fast", 100}}));
  volume.profile = workload_profile::latency;
  const auto both = spread(1000);
  BOOST_TEST((both.size() == 2 && both.at("fast") > 400 && both.at("dear") > 400));
}

BOOST_AUTO_TEST_CASE(shards_are_spread_by_free_space_over_tiers_that_are_declared_alike) {
  tiers.clear();
  add("a1", false, 1000 * MiB, "a");
  add("b1", false, 1000 * MiB, "b");
  add("c1", false, 2000 * MiB, "c");
  const auto all = spread(4000);
  BOOST_REQUIRE(all.size() == 3u);
  BOOST_TEST((all.at("a1") > 850 && all.at("a1") < 1150));
  BOOST_TEST((all.at("b1") > 850 && all.at("b1") < 1150));
  BOOST_TEST((all.at("c1") > 1850 && all.at("c1") < 2150));
  // Asked again, the same answers; and one that has gone changes those of its own shards only.
  std::map<uint64_t, std::string> before;
  for (uint64_t i = 0; i < 500; ++i)
    before[i] = choose(i);
  tiers[2].info.state = silent_tier;
  for (uint64_t i = 0; i < 500; ++i)
    BOOST_TEST((choose(i) == before[i] || before[i] == "c1"), i);
  tiers[2].info.state = "up";
  tiers[2].cordoned = true;
  for (uint64_t i = 0; i < 500; ++i)
    BOOST_TEST((choose(i) == before[i] || before[i] == "c1"), i);
  tiers[2].cordoned = false;
  tiers[0].cordoned = true;
  for (uint64_t i = 0; i < 500; ++i)
    BOOST_TEST((choose(i) == before[i] || before[i] == "a1"), i);
}

BOOST_AUTO_TEST_CASE(of_a_thousand_tiers_each_gets_its_share_and_those_without_room_none) {
  tiers.clear();
  // Of ten alike: one is ten times as large, one is silent, one has failed, one is full but for its reserve.
  for (int i = 0; i < 1000; ++i) {
    auto& x = add(("t" + std::to_string(i)).c_str(), false, (i % 10 == 0 ? 10'000 : 1000) * MiB);
    x.info.state = i % 10 == 1 ? silent_tier : i % 10 == 2 ? "failed" : "up";
    x.info.used_bytes = i % 10 == 3 ? 950 * MiB : i % 10 == 4 ? 500 * MiB : 0;
  }
  std::map<int, int> by_kind;
  constexpr uint64_t shards = 16'000;
  placement_plan plan;
  BOOST_REQUIRE(!placement_rule{}.determine_shard_placement(volume.size_bytes, request_of(volume), tiers, plan));
  for (uint64_t i = 0; i < shards; ++i) {
    std::string name;
    BOOST_REQUIRE(!choose_tier(plan, tiers, volume, {volume_id{7}, shard_index{i}}, "", name));
    ++by_kind[std::stoi(name.substr(1)) % 10];
  }
  // 10 large ones' worth, a half, and five whole ones: of 15.5.
  const auto one = shards / 15.5;
  BOOST_TEST((by_kind.size() == 7u && by_kind.count(1) + by_kind.count(2) + by_kind.count(3) == 0));
  BOOST_TEST((by_kind[0] > 9.5 * one && by_kind[0] < 10.5 * one));
  BOOST_TEST((by_kind[4] > 0.4 * one && by_kind[4] < 0.6 * one));
  for (int kind = 5; kind < 10; ++kind)
    BOOST_TEST((by_kind[kind] > 0.85 * one && by_kind[kind] < 1.15 * one), kind);
  // The only one that is left is found, however rarely it is met.
  for (auto& x : tiers)
    x.info.used_bytes = x.info.capacity_bytes;
  tiers[777].info.used_bytes -= 4 * MiB;
  for (uint64_t i = 0; i < 20; ++i)
    BOOST_TEST(choose(i) == "t777");
}

BOOST_AUTO_TEST_CASE(for_latency_a_tier_beside_the_vm_is_preferred_to_others_as_fast_but_not_to_faster_ones) {
  tiers.clear();
  add("a1", false, 1000 * MiB, "a");
  add("b1", false, 1000 * MiB, "b");
  volume.profile = workload_profile::latency;
  BOOST_TEST((spread(100, "b") == std::map<std::string, int>{{"b1", 100}}));
  tiers[1].info.used_bytes = 950 * MiB;
  BOOST_TEST(choose(0, "b") == "a1");
  tiers[1].info.used_bytes = 0;
  tiers[0].info.write_latency = 100us;
  tiers[1].info.write_latency = 5ms;
  BOOST_TEST(choose(0, "b") == "a1");
  volume.profile = workload_profile::balanced;
  tiers[1].info.write_latency = 100us;
  BOOST_TEST(spread(100, "b").size() == 2u);
}

BOOST_AUTO_TEST_SUITE_END()
