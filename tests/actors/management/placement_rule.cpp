#include "actors/management/placement_rule.hpp"

#include <boost/test/unit_test.hpp>

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
  }
  void add(const char* name, bool is_volatile, uint64_t capacity) {
    tier_info x;
    x.name = name;
    x.is_volatile = is_volatile;
    x.capacity_bytes = capacity;
    x.state = "up";
    tiers.push_back(x);
  }
  std::string choose() {
    std::string result;
    if (auto e = placement_rule::choose(volume, tiers, result))
      return to_string(code_of(e));
    return result;
  }
  volume_spec volume;
  std::vector<tier_info> tiers;
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
  tiers[1].state = "refused";
  BOOST_TEST(choose() == "slow");
  volume.tier = "fast";
  BOOST_TEST(choose() == "unavailable");
  volume.tier = "";
  tiers[2].used_bytes = tiers[2].capacity_bytes;
  BOOST_TEST(choose() == "tier_full");
}

BOOST_AUTO_TEST_CASE(a_named_tier_is_taken_or_refused) {
  volume.tier = "slow";
  BOOST_TEST(choose() == "slow");
  tiers[2].used_bytes = tiers[2].capacity_bytes - MiB;
  BOOST_TEST(choose() == "tier_full");
  volume.tier = "tape";
  BOOST_TEST(choose() == "not_found");
}

BOOST_AUTO_TEST_CASE(a_tenth_of_a_tier_is_kept_free_while_another_has_room) {
  tiers[1].used_bytes = 900 * MiB;
  BOOST_TEST(choose() == "slow");
  tiers[2].used_bytes = 9'500 * MiB;
  BOOST_TEST(choose() == "fast");
  tiers[1].used_bytes = 1000 * MiB;
  BOOST_TEST(choose() == "slow");
  tiers[2].used_bytes = 10'000 * MiB;
  BOOST_TEST(choose() == "tier_full");
}

BOOST_AUTO_TEST_CASE(what_was_measured_to_be_faster_is_preferred_and_of_equals_the_cheaper) {
  tiers[1].write_latency = 1ms;
  tiers[2].write_latency = 100us;
  BOOST_TEST(choose() == "slow");
  tiers[2].write_latency = 1ms;
  tiers[1].cost = 2;
  tiers[2].cost = 1;
  BOOST_TEST(choose() == "slow");
}

BOOST_AUTO_TEST_CASE(a_silent_tier_gets_nothing_but_counts_as_room) {
  tiers[1].state = placement_rule::silent;
  BOOST_TEST(choose() == "slow");
  tiers[2].state = placement_rule::silent;
  BOOST_TEST(choose() == "unavailable");
  tiers[2].state = "up";
  tiers[2].used_bytes = tiers[2].capacity_bytes;
  BOOST_TEST(choose() == "unavailable");
  tiers[1].used_bytes = tiers[1].capacity_bytes;
  BOOST_TEST(choose() == "tier_full");
}

BOOST_AUTO_TEST_CASE(a_failed_tier_gets_nothing) {
  tiers[1].state = "failed";
  BOOST_TEST(choose() == "slow");
}

BOOST_AUTO_TEST_SUITE_END()
