#include "actors/management/monitor.hpp"

#include <boost/test/unit_test.hpp>

#include "tests/actors/management/management_fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

node_facts healthy() {
  node_facts x;
  x.volumes.emplace();
  x.migrations.emplace();
  x.incarnation = 4;
  x.now_seconds = 10'000;
  return x;
}

std::vector<std::string> codes(const node_status& x) {
  std::vector<std::string> result;
  for (const auto& finding : x.findings)
    result.push_back(finding.code);
  return result;
}

using list = std::vector<std::string>;

} // namespace

BOOST_AUTO_TEST_SUITE(monitor_rules)

BOOST_AUTO_TEST_CASE(a_healthy_node_has_no_findings) {
  auto x = assess(healthy());
  BOOST_TEST(x.health == "ok");
  BOOST_TEST(x.findings.empty());
}

BOOST_AUTO_TEST_CASE(each_finding_has_its_code_and_severity) {
  auto facts = healthy();
  tier_info tier;
  tier.name = "fast";
  tier.state = "up";
  tier.capacity_bytes = 1000;
  tier.used_bytes = 900;
  facts.tiers = {tier};
  BOOST_TEST((codes(assess(facts)) == list{"TIER_NEARLY_FULL"}));
  BOOST_TEST(assess(facts).health == "warning");
  facts.tiers[0].used_bytes = 1000;
  BOOST_TEST((codes(assess(facts)) == list{"TIER_FULL"}));
  BOOST_TEST(assess(facts).health == "error");
  facts.tiers[0].used_bytes = 0;
  facts.tiers[0].state = "failed";
  facts.tiers[0].checksum_mismatches = 1;
  BOOST_TEST((codes(assess(facts)) == list{"TIER_FAILED", "CHECKSUM_MISMATCH"}));
  facts.tiers[0].state = "refused";
  facts.tiers[0].checksum_mismatches = 0;
  BOOST_TEST((codes(assess(facts)) == list{"TIER_REFUSED"}));
  BOOST_TEST(assess(facts).health == "error");
  facts = healthy();
  facts.silent_tiers = {"slow"};
  BOOST_TEST((codes(assess(facts)) == list{"TIER_MISSING"}));
  facts = healthy();
  facts.volumes.reset();
  BOOST_TEST((codes(assess(facts)) == list{"VOLUMES_UNAVAILABLE"}));
  facts = healthy();
  facts.incarnation.reset();
  BOOST_TEST((codes(assess(facts)) == list{"CATALOG_UNAVAILABLE"}));
  facts.incarnation = 0;
  BOOST_TEST(assess(facts).health == "starting");
  facts = healthy();
  facts.actors.emplace_back();
  facts.actors.back().alive = false;
  BOOST_TEST((codes(assess(facts)) == list{"ACTOR_DOWN"}));
}

BOOST_AUTO_TEST_CASE(nodes_that_are_not_heard_and_their_tiers_are_findings) {
  auto facts = healthy();
  facts.down_after = 10s;
  facts.members.resize(2);
  facts.members[0].node = "a";
  facts.members[0].state = member_state::up;
  facts.members[1].node = "b";
  // Not heard yet: for as long as any other may be silent, nothing is wrong.
  facts.listening = 9s;
  BOOST_TEST(assess(facts).findings.empty());
  facts.listening = 10s;
  BOOST_TEST((codes(assess(facts)) == list{"NODE_DOWN"}));
  facts.members[1].state = member_state::suspect;
  BOOST_TEST((codes(assess(facts)) == list{"NODE_SUSPECT"}));
  BOOST_TEST(assess(facts).health == "warning");
  facts.members[1].state = member_state::down;
  facts.silent_tiers = {"fast", "slow"};
  facts.nodes_of_tiers = {{"slow", "b"}};
  BOOST_TEST((codes(assess(facts)) == list{"NODE_DOWN", "TIER_MISSING", "TIER_UNREACHABLE"}));
  BOOST_TEST(assess(facts).health == "error");
}

BOOST_AUTO_TEST_CASE(a_migration_that_failed_is_a_finding_for_an_hour_and_one_cancelled_is_none) {
  auto facts = healthy();
  migration_progress x;
  x.record.state = migration_state::aborted;
  x.record.reason = "device_failed: read";
  x.record.ended_at = 9'000;
  facts.migrations->push_back(x);
  BOOST_TEST((codes(assess(facts)) == list{"MIGRATION_FAILED"}));
  facts.now_seconds = 9'000 + 3600;
  BOOST_TEST(assess(facts).findings.empty());
  facts.now_seconds = 9'001;
  facts.migrations->front().record.reason = "cancelled";
  BOOST_TEST(assess(facts).findings.empty());
  facts.migrations->front().record.state = migration_state::copying;
  BOOST_TEST(assess(facts).migrations_running == 1u);
}

BOOST_FIXTURE_TEST_CASE(the_latest_events_are_kept_up_to_a_bound, management_fixture) {
  options.events_max = 3;
  make_context();
  auto m = spawn(monitor, context);
  for (uint64_t i = 1; i <= 5; ++i)
    caf::anon_send(m, atom::publish_v, event{i, "CODE", "text"});
  run();
  auto all = *ask<std::vector<event>>(m, atom::list_v, uint64_t{100});
  BOOST_REQUIRE(all.size() == 3u);
  BOOST_TEST(all.front().at == 3u);
  auto last = *ask<std::vector<event>>(m, atom::list_v, uint64_t{1});
  BOOST_TEST(last.front().at == 5u);
}

BOOST_FIXTURE_TEST_CASE(a_status_does_not_wait_for_who_does_not_answer, management_fixture) {
  auto m = spawn(monitor, context);
  tiers["fast"]->silent = true;
  auto asked = begin<node_status>(m, atom::get_v);
  advance(1100ms);
  BOOST_REQUIRE(asked.done());
  BOOST_REQUIRE(asked.get());
  BOOST_TEST((codes(*asked.get()) == list{"TIER_MISSING"}));
  make(spec("a"));
  tiers["fast"]->silent = false;
  put(path::leases, spawn(lease_manager, context));
  advance(1s);
  auto status = ask<node_status>(m, atom::get_v);
  BOOST_TEST(status->health == "ok");
  BOOST_TEST(status->volumes == 1u);
  BOOST_TEST(status->manager_incarnation == 1u);
}

BOOST_AUTO_TEST_SUITE_END()
