#include "actors/management/lease_table.hpp"

#include <iostream>
#include <random>

#include <boost/test/unit_test.hpp>

using namespace varve;
using namespace std::chrono_literals;

namespace {

const holder_id ann{1}, ben{2};
const volume_id volume{7};

shard_id shard(uint64_t i) {
  return {volume, shard_index{i}};
}
shard_home home(uint64_t i, uint64_t of = 1, uint64_t fence = 0) {
  return {shard(i), "fast", generation{of}, epoch{fence}};
}

struct fixture {
  lease_table table{3};

  /// Claims, and storage agrees at once. 0: refused.
  lease_id take(holder_id holder, uint64_t i, lease_mode mode) {
    auto claim = table.ask(holder, home(i), mode);
    if (claim.id.value() != 0)
      table.agree(claim.id, {45s, 45s, 45s}, mode);
    table.check();
    return claim.id;
  }
  bool held(lease_id x) { return x.value() == 0; }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(lease_table_rules, fixture)

BOOST_AUTO_TEST_CASE(readers_share_a_shard_and_its_epoch) {
  auto a = take(ann, 0, lease_mode::read), b = take(ben, 0, lease_mode::read);
  BOOST_TEST(!held(a));
  BOOST_TEST(!held(b));
  BOOST_TEST((table.find(a)->fence == table.find(b)->fence));
}

BOOST_AUTO_TEST_CASE(a_writer_excludes_readers_and_writers_of_other_holders) {
  auto a = take(ann, 0, lease_mode::write);
  for (auto mode : {lease_mode::read, lease_mode::write}) {
    auto refused = table.ask(ben, home(0), mode);
    BOOST_TEST(held(refused.id));
    BOOST_TEST((refused.conflicts == std::vector<lease_id>{a}));
  }
  BOOST_TEST(!held(take(ben, 1, lease_mode::write)));
}

BOOST_AUTO_TEST_CASE(one_migration_stands_beside_a_writer) {
  take(ann, 0, lease_mode::write);
  BOOST_TEST(!held(take(ben, 0, lease_mode::migration)));
  BOOST_TEST(held(take(holder_id{3}, 0, lease_mode::migration)));
}

BOOST_AUTO_TEST_CASE(the_same_holder_upgrades_its_lease_under_the_same_id) {
  auto a = take(ann, 0, lease_mode::read);
  BOOST_TEST((take(ann, 0, lease_mode::write) == a));
  BOOST_TEST((table.find(a)->mode == lease_mode::write));
  // A write lease answers for a read.
  BOOST_TEST((take(ann, 0, lease_mode::read) == a));
  BOOST_TEST((table.find(a)->mode == lease_mode::write));
  BOOST_TEST(table.size() == 1u);
}

BOOST_AUTO_TEST_CASE(an_upgrade_is_refused_while_another_reads) {
  auto a = take(ann, 0, lease_mode::read);
  take(ben, 0, lease_mode::read);
  BOOST_TEST(held(take(ann, 0, lease_mode::write)));
  BOOST_TEST((table.find(a)->mode == lease_mode::read));
}

BOOST_AUTO_TEST_CASE(an_upgrade_that_storage_refuses_falls_back) {
  auto a = take(ann, 0, lease_mode::read);
  auto claim = table.ask(ann, home(0), lease_mode::write);
  BOOST_TEST((claim.id == a));
  BOOST_TEST(held(take(ben, 0, lease_mode::read))); // claimed meanwhile
  table.give_up(a);
  BOOST_TEST((table.find(a)->mode == lease_mode::read));
  BOOST_TEST(!held(take(ben, 0, lease_mode::read)));
}

BOOST_AUTO_TEST_CASE(a_claim_that_storage_refuses_leaves_nothing) {
  auto claim = table.ask(ann, home(0), lease_mode::write);
  table.give_up(claim.id);
  BOOST_TEST(table.size() == 0u);
  BOOST_TEST(!table.holds(ann));
  BOOST_TEST(!held(take(ben, 0, lease_mode::write)));
}

BOOST_AUTO_TEST_CASE(the_epoch_rises_only_after_an_unclean_end) {
  auto a = take(ann, 0, lease_mode::write);
  BOOST_TEST((table.find(a)->fence == epoch{0}));
  table.end(a, true);
  auto b = take(ben, 0, lease_mode::write);
  BOOST_TEST((table.find(b)->fence == epoch{0}));
  table.end(b, false);
  auto c = take(ann, 0, lease_mode::write);
  BOOST_TEST((table.find(c)->fence > epoch{3ull << 32}));
  const auto fence = table.find(c)->fence;
  // Once is enough.
  table.end(c, true);
  auto d = table.ask(ben, home(0, 1, fence.value()), lease_mode::read);
  BOOST_TEST((table.find(d.id)->fence == fence));
}

BOOST_AUTO_TEST_CASE(an_epoch_that_storage_has_not_agreed_to_is_still_to_be_raised) {
  auto a = take(ann, 0, lease_mode::write);
  table.end(a, false);
  // Storage did not answer, and may never have heard of it.
  auto failed = table.ask(ben, home(0), lease_mode::write);
  BOOST_TEST((table.find(failed.id)->fence > epoch{0}));
  table.give_up(failed.id);
  auto b = take(ben, 0, lease_mode::write);
  BOOST_TEST((table.find(b)->fence > epoch{0}));
  // Agreed to: nobody is shut out once more. And one that was shut out is when it ends so again.
  const auto fence = table.find(b)->fence;
  table.end(b, true);
  auto c = table.ask(ann, home(0, 1, fence.value()), lease_mode::write);
  BOOST_TEST((table.find(c.id)->fence == fence));
  table.agree(c.id, {45s, 45s, 45s}, lease_mode::write);
  table.end(c.id, false);
  BOOST_TEST((table.find(take(ben, 0, lease_mode::write))->fence > fence));
}

BOOST_AUTO_TEST_CASE(so_is_one_of_a_shard_of_which_somebody_unknown_may_be_left) {
  auto failed = table.ask(ann, home(0), lease_mode::write, true);
  BOOST_TEST((table.find(failed.id)->fence > epoch{0}));
  table.give_up(failed.id);
  auto again = table.ask(ann, home(0), lease_mode::write, true);
  BOOST_TEST((table.find(again.id)->fence > epoch{0}));
}

BOOST_AUTO_TEST_CASE(what_is_asked_back_is_held_for_as_long_as_its_holder_counts_on_it) {
  auto a = take(ann, 0, lease_mode::write);
  auto run = table.ask_run(ann, shard(10), 4, 45s, 45s).id;
  table.revoking(a);
  table.revoking(run);
  // The holder may not have heard of it, and extends it with all others.
  BOOST_TEST(table.renewable_on(ann, "fast").leases == 1u);
  const auto shards = table.renew(ann, "fast", 30s, {45s, 45s, 45s}, 45s, 1s);
  BOOST_TEST(shards.leases == 1u);
  BOOST_TEST((table.find(a)->until == 76s));
  // Of these nobody can be shut out: they are not renewed, which is said.
  const auto runs = table.renew(ann, {}, 30s, {}, 45s, 1s);
  BOOST_TEST(runs.leases == 0u);
  BOOST_TEST(runs.held_back == 1u);
  BOOST_TEST((table.find(run)->until == 45s));
}

BOOST_AUTO_TEST_CASE(what_a_holder_has_is_renewed_tier_by_tier_wherever_it_has_moved_meanwhile) {
  auto on = [](uint64_t index, uint64_t tier, uint64_t of = 1) {
    auto x = home(index, of);
    x.tier = "t" + std::to_string(tier);
    return x;
  };
  constexpr uint64_t tiers = 300;
  for (uint64_t i = 0; i < 3 * tiers; ++i) {
    auto x = table.ask(i % 2 ? ann : ben, on(i, i % tiers), lease_mode::write);
    table.agree(x.id, {45s, 45s, 45s}, lease_mode::write);
  }
  table.ask_run(ann, shard(5000), 100, 45s, 45s);
  table.check();
  auto all = table.renewable_of(ann);
  BOOST_TEST(all.size() == tiers / 2);
  for (const auto& x : all) {
    BOOST_TEST(x.leases == 3u);
    BOOST_TEST((x.wanted == 45s));
    BOOST_TEST(table.renew(ann, x.tier, 30s, {45s, 45s, 45s}, 45s, 1s).leases == 3u);
  }
  BOOST_TEST(table.renewable_on(ann, "t0").leases == 0u);
  BOOST_TEST(table.renew(ann, "t0", 30s, {45s, 45s, 45s}, 45s, 1s).leases == 0u);
  BOOST_TEST(table.renew(ann, "nowhere", 30s, {45s, 45s, 45s}, 45s, 1s).leases == 0u);
  BOOST_TEST((table.holders_on("t1") == std::vector<holder_id>{ann}));
  // A move, an end, one that is asked for again at another home, and a run that swallows another.
  table.moved(on(1, 2, 2));
  table.end(table.of_holder(ann, shard(301), 1).front(), true);
  table.ask(ann, on(601, 2, 2), lease_mode::write);
  table.ask_run(ann, shard(4900), 300, 45s, 45s);
  table.check();
  BOOST_TEST(table.renewable_on(ann, "t1").leases == 0u);
  BOOST_TEST(table.renewable_on(ann, "t2").leases == 2u);
  BOOST_TEST(table.renewable_on(ben, "t2").leases == 3u);
  BOOST_TEST((table.holders_on("t2") == std::vector<holder_id>{ann, ben}));
  BOOST_TEST(table.renew(ann, {}, 30s, {}, 45s, 1s).leases == 1u);
  // One that storage has not agreed to yet is not renewed; one that is asked back is not recorded again.
  const auto asked = table.ask(ann, on(7000, 299), lease_mode::write);
  const auto before = table.renewable_on(ann, "t299").leases;
  BOOST_TEST(table.renew(ann, "t299", 30s, {45s, 45s, 45s}, 45s, 1s).leases == before);
  BOOST_TEST(table.recorded_on(ann, "t299").size() == before);
  table.agree(asked.id, {45s, 45s, 45s}, lease_mode::write);
  BOOST_TEST(table.renewable_on(ann, "t299").leases == before + 1);
  table.revoking(asked.id);
  BOOST_TEST(table.recorded_on(ann, "t299").size() == before);
  // What a new manager hears from the tier to which it has moved since is one lease, there.
  lease_grant heard;
  heard.id = asked.id;
  heard.holder = ann;
  heard.home = on(7000, 5, 2);
  heard.mode = lease_mode::write;
  heard.term = 45s;
  const auto there = table.renewable_on(ann, "t5").leases;
  table.adopt(heard, 90s);
  table.check();
  BOOST_TEST(table.renewable_on(ann, "t5").leases == there + 1);
  BOOST_TEST(table.renewable_on(ann, "t299").leases == before);
}

BOOST_AUTO_TEST_CASE(a_raised_epoch_is_that_of_all_leases_on_the_shard) {
  auto a = take(ann, 0, lease_mode::read), b = take(ben, 0, lease_mode::read);
  table.end(a, false);
  auto c = take(holder_id{3}, 0, lease_mode::read);
  BOOST_TEST((table.find(c)->fence > epoch{0}));
  BOOST_TEST((table.find(b)->fence == table.find(c)->fence));
}

BOOST_AUTO_TEST_CASE(a_run_of_absent_shards_is_one_lease_that_a_writer_inside_conflicts_with) {
  auto run = table.ask_run(ann, shard(10), 100, 45s, 45s);
  BOOST_TEST(table.size() == 1u);
  // The holder itself writes inside: that shard's own lease counts, beside the run.
  BOOST_TEST(!held(take(ann, 50, lease_mode::write)));
  auto other = table.ask(ben, home(60), lease_mode::write);
  BOOST_TEST((other.conflicts == std::vector<lease_id>{run.id}));
  BOOST_TEST(!held(take(ben, 110, lease_mode::write)));
  BOOST_TEST(!held(take(ben, 9, lease_mode::write)));
}

BOOST_AUTO_TEST_CASE(runs_that_meet_become_one) {
  auto a = table.ask_run(ann, shard(10), 10, 45s, 45s);
  BOOST_TEST((table.ask_run(ann, shard(15), 20, 50s, 45s).id == a.id));
  BOOST_TEST(table.find(a.id)->count == 25u);
  table.check();
  auto b = table.ask_run(ann, shard(0), 1000, 50s, 45s);
  BOOST_TEST(table.size() == 1u);
  BOOST_TEST(table.find(b.id)->count == 1000u);
  table.check();
}

BOOST_AUTO_TEST_CASE(what_is_being_revoked_is_not_granted_again) {
  auto a = take(ann, 0, lease_mode::read);
  table.revoking(a);
  BOOST_TEST((table.ask(ann, home(0), lease_mode::read).conflicts == std::vector<lease_id>{a}));
}

BOOST_AUTO_TEST_CASE(a_renewal_moves_the_end_of_all_leases_of_a_holder_and_of_no_other) {
  auto a = take(ann, 0, lease_mode::read), b = take(ben, 0, lease_mode::read);
  table.ask_run(ann, shard(5), 3, 45s, 45s);
  const auto all = table.renewable_of(ann);
  BOOST_REQUIRE(all.size() == 1u);
  BOOST_TEST(all.front().tier == "fast");
  BOOST_TEST(all.front().leases == 1u);
  BOOST_TEST((all.front().wanted == 45s));
  BOOST_TEST(table.renew(ann, "fast", 100s, {0s, 45s}, 20s, 1s).leases == 1u);
  BOOST_TEST(table.renew(ann, "slow", 100s, {0s, 45s}, 20s, 1s).leases == 0u);
  BOOST_TEST(table.renew(ann, "", 100s, {}, 20s, 1s).leases == 1u);
  BOOST_TEST((table.find(a)->until == 146s));
  BOOST_TEST((table.find(b)->until == 45s));
}

BOOST_AUTO_TEST_CASE(a_release_takes_shards_within_the_range_and_no_part_of_a_run) {
  take(ann, 4, lease_mode::read);
  take(ann, 5, lease_mode::read);
  auto run = table.ask_run(ann, shard(10), 10, 45s, 45s);
  BOOST_TEST(table.of_holder(ann, shard(5), 10).size() == 1u);
  BOOST_TEST((table.of_holder(ann, shard(10), 10) == std::vector<lease_id>{run.id}));
  BOOST_TEST(table.of_holder(ann, shard(0), 0).size() == 3u);
  BOOST_TEST(table.of_holder(ben, shard(0), 0).empty());
}

BOOST_AUTO_TEST_CASE(a_new_home_keeps_lease_and_epoch) {
  auto a = take(ann, 0, lease_mode::write);
  const auto fence = table.find(a)->fence;
  table.moved({shard(0), "slow", generation{2}, epoch{0}});
  BOOST_TEST(table.grant(a).home.tier == "slow");
  BOOST_TEST((table.grant(a).home.of == generation{2}));
  BOOST_TEST((table.grant(a).fence == fence));
  // Late news of an older home.
  table.moved(home(0));
  BOOST_TEST(table.grant(a).home.tier == "slow");
}

// Goal: never two holders with what excludes each other, and epochs that never fall. Method: random claims, answers
// and ends of few holders on few shards, checked after each, against the table's own invariants.
BOOST_AUTO_TEST_CASE(random_operations_never_give_two_holders_what_excludes_each_other) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937 random{seed};
    auto pick = [&](uint64_t n) { return random() % n; };
    lease_table x{1};
    std::map<shard_id, epoch> newest;
    std::map<shard_id, bool> unclean;
    std::vector<lease_id> open;
    for (int i = 0; i < 5000; ++i) {
      const holder_id holder{1 + pick(4)};
      const auto at = pick(12);
      switch (pick(11)) {
      case 0:
      case 1:
      case 2: {
        const auto mode = static_cast<lease_mode>(pick(3));
        auto claim = x.ask(holder, home(at, 1, newest[shard(at)].value()), mode);
        if (claim.id.value() == 0) {
          BOOST_REQUIRE(!claim.conflicts.empty());
          break;
        }
        const auto fence = x.find(claim.id)->fence;
        BOOST_REQUIRE((fence >= newest[shard(at)]));
        // An unclean end shuts the old holder out before anybody else gets in.
        if (unclean[shard(at)])
          BOOST_REQUIRE((fence > newest[shard(at)]));
        unclean[shard(at)] = false;
        newest[shard(at)] = fence;
        open.push_back(claim.id);
        if (pick(4) == 0)
          x.give_up(claim.id);
        else
          x.agree(claim.id, {boot_time{i}, 45s, 45s}, mode);
        break;
      }
      case 3:
        if (auto claim = x.ask_run(holder, shard(12 + at), 1 + pick(6), boot_time{i}, 45s); claim.id.value() != 0)
          open.push_back(claim.id);
        break;
      case 4:
      case 5:
        if (!open.empty()) {
          const auto n = pick(open.size());
          const bool clean = pick(2) == 0;
          if (const auto* row = x.find(open[n]); row && !clean && row->exists() && row->mode != lease_mode::migration)
            unclean[row->first] = true;
          x.end(open[n], clean);
          open.erase(open.begin() + static_cast<ptrdiff_t>(n));
        }
        break;
      case 6:
        if (!open.empty())
          x.revoking(open[pick(open.size())]);
        break;
      case 7: x.renew(holder, "fast", boot_time{i}, {boot_time{0}, 45s}, 20s, 1s); break;
      case 9:
        if (!open.empty())
          x.lower(open[pick(open.size())]);
        break;
      case 10: {
        auto moved = home(at);
        moved.tier = pick(2) == 0 ? "fast" : "slow";
        x.moved(moved);
        break;
      }
      case 8:
        for (auto id : x.of_holder(holder, shard(at), pick(20))) {
          x.end(id, true);
        }
        break;
      }
      try {
        x.check();
      } catch (const std::logic_error& e) {
        BOOST_FAIL("seed " << seed << ", step " << i << ": " << e.what());
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
