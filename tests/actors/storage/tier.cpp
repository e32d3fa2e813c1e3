#include "tests/actors/storage/tier_fixture.hpp"

namespace varve {

BOOST_FIXTURE_TEST_SUITE(tier_, tier_fixture)

BOOST_AUTO_TEST_CASE(a_shard_is_made_and_made_again_only_while_it_is_empty) {
  start();
  make(home(1));
  BOOST_TEST(there(home(1)));
  make(home(1)); // by the same act after a crash
  row(home(1)).allocated_bytes = 4096;
  advance(1100ms);
  BOOST_TEST((refusal<shard_home>(tier(), atom::create_v, home(1), size) == errc::already_exists));
}

BOOST_AUTO_TEST_CASE(an_orphan_on_the_device_is_adopted_while_it_is_empty) {
  plane->shards[{"memory", home(1).id, generation{1}}].header = {home(1).id, size, generation{1}};
  auto& full = plane->shards[{"memory", home(2).id, generation{1}}];
  full.header = {home(2).id, size, generation{1}};
  full.allocated_bytes = 4096;
  start();
  BOOST_TEST((refusal<shard_home>(tier("memory"), atom::create_v, home(1, 1, 0, "memory"), size) == errc::none));
  BOOST_TEST(
    (refusal<shard_home>(tier("memory"), atom::create_v, home(2, 1, 0, "memory"), size) == errc::already_exists));
}

BOOST_AUTO_TEST_CASE(a_full_tier_makes_no_shard_and_promises_no_room) {
  start();
  make(home(1));
  row(home(1)).allocated_bytes = 1 << 20;
  advance(1100ms);
  BOOST_TEST(info().used_bytes == 1u << 20);
  BOOST_TEST((refusal<shard_home>(tier(), atom::create_v, home(2), size) == errc::tier_full));
  BOOST_TEST((refusal<caf::unit_t>(tier(), atom::reserve_v, home(3).id, uint64_t{1}) == errc::tier_full));
  row(home(1)).allocated_bytes = 0;
  advance(1100ms);
  BOOST_TEST((refusal<caf::unit_t>(tier(), atom::reserve_v, home(3).id, uint64_t{4096}) == errc::none));
  BOOST_TEST(info().used_bytes == 4096u);
  BOOST_TEST((refusal<caf::unit_t>(tier(), atom::reserve_v, home(3).id, uint64_t{0}) == errc::none));
  BOOST_TEST(info().used_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(near_its_capacity_a_tier_looks_before_it_makes_a_shard) {
  start();
  make(home(1));
  row(home(1)).allocated_bytes = 1 << 20;
  // In the same moment: the next measurement is a second away.
  BOOST_TEST((refusal<shard_home>(tier(), atom::create_v, home(2), size) == errc::tier_full));
  row(home(1)).allocated_bytes = 1 << 19;
  BOOST_TEST((refusal<shard_home>(tier(), atom::create_v, home(2), size) == errc::none));
}

BOOST_AUTO_TEST_CASE(far_from_its_capacity_a_tier_does_not_look) {
  options.tiers[0].capacity_bytes = 1ull << 40;
  make_context();
  start();
  plane->calls.clear();
  make(home(1));
  BOOST_TEST((plane->calls == std::vector<std::string>{"create_shard"}));
}

BOOST_AUTO_TEST_CASE(a_listing_shows_what_was_done_a_moment_ago) {
  start();
  make(home(1));
  row(home(1)).reads = 2;
  row(home(1)).writes = 3;
  row(home(1)).allocated_bytes = 4096;
  auto rows = ask<std::vector<shard_info>>(tier(), atom::list_v, volume_id{1});
  BOOST_REQUIRE(rows);
  BOOST_REQUIRE(rows->size() == 1u);
  BOOST_TEST(rows->front().reads == 2u);
  BOOST_TEST(rows->front().writes == 3u);
  BOOST_TEST(rows->front().allocated_bytes == 4096u);
}

BOOST_AUTO_TEST_CASE(a_listing_does_not_wait_for_a_data_path_that_hangs) {
  start();
  make(home(1));
  plane->hold(true);
  auto rows = ask_for<std::vector<shard_info>>(2s, tier(), atom::list_v, volume_id{1});
  BOOST_REQUIRE(rows);
  BOOST_TEST(rows->size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_failed_device_shows_and_is_forgotten_once_it_works) {
  start();
  plane->fail_next["create_shard"] = errc::device_failed;
  BOOST_TEST((refusal<shard_home>(tier(), atom::create_v, home(1), size) == errc::device_failed));
  BOOST_TEST(info().state == "failed");
  BOOST_TEST(published_count("TIER_FAILED") == 1u);
  make(home(1));
  BOOST_TEST(info().state == "up");
}

BOOST_AUTO_TEST_CASE(a_grant_raises_the_fence_and_lower_ones_are_refused) {
  start();
  make(home(1));
  BOOST_TEST((fence(grant(1, home(1), 5)) == errc::none));
  BOOST_TEST(row(home(1)).header.fence.value() == 5u);
  BOOST_TEST((fence(grant(2, home(1), 4)) == errc::stale_epoch));
  BOOST_TEST((fence(grant(2, home(1), 5)) == errc::none));
  BOOST_TEST((fence(grant(2, home(9), 5)) == errc::not_found));
  BOOST_TEST(published_count("SHARD_MISSING") == 1u);
  make(home(2, 3));
  BOOST_TEST((fence(grant(2, home(2, 2), 5)) == errc::shard_moved));
  row(home(1)).fence_fails = errc::device_failed;
  BOOST_TEST((fence(grant(1, home(1), 6)) == errc::device_failed));
  BOOST_TEST(info().state == "failed");
}

BOOST_AUTO_TEST_CASE(a_sealed_shard_gets_no_lease) {
  start();
  plane->shards[{"fast", home(1).id, generation{1}}].header = {home(1).id, size, generation{1}};
  row(home(1)).header.sealed_by = migration_id{3};
  BOOST_TEST((fence(grant(1, home(1), 1)) == errc::shard_moved));
}

BOOST_AUTO_TEST_CASE(a_volatile_shard_that_is_gone_is_no_alarm) {
  start();
  BOOST_TEST((fence(grant(1, home(1, 1, 0, "memory"), 1)) == errc::not_found));
  BOOST_TEST(published_count("SHARD_MISSING") == 0u);
}

BOOST_AUTO_TEST_CASE(the_folder_is_read_before_anything_is_made_and_unreadable_files_are_told_of) {
  scans["fast"].shards = {{home(1).id, size, generation{1}, epoch{4}}};
  scans["fast"].allocated_bytes = {8192};
  scans["fast"].problems = {"1-2.shard: no header"};
  plane->shards[{"fast", home(1).id, generation{1}}].header = scans["fast"].shards[0];
  plane->hold(true);
  start();
  BOOST_TEST((refusal<shard_home>(tier(), atom::create_v, home(2), size) == errc::unavailable));
  BOOST_TEST((refusal<std::vector<shard_info>>(tier(), atom::list_v, volume_id{1}) == errc::unavailable));
  BOOST_TEST(info().state == "unknown");
  plane->hold(false);
  run();
  BOOST_TEST(info().state == "up");
  BOOST_TEST(info().shards == 1u);
  BOOST_TEST(info().used_bytes == 8192u);
  BOOST_TEST(published_count("SHARD_FILE_UNREADABLE") == 1u);
  BOOST_TEST((fence(grant(1, home(1), 3)) == errc::stale_epoch));
}

BOOST_AUTO_TEST_CASE(an_idle_shard_is_passivated_and_a_leased_one_is_not) {
  start();
  make(home(1));
  make(home(2));
  BOOST_TEST((fence(grant(1, home(1), 1)) == errc::none));
  for (int i = 0; i < 15; ++i) {
    const auto terms = ask<std::vector<renewal_terms>>(tier(), atom::renew_v, tier_renewal{0, {{holder_id{1}, 45s}}});
    BOOST_REQUIRE(terms);
    BOOST_TEST(terms->front().leases == 1u);
    advance(10s);
  }
  BOOST_TEST(row(home(1)).active);
  BOOST_TEST(!row(home(2)).active);
  BOOST_TEST(info().active_shards == 1u);
  BOOST_TEST(context->directory->list("storage/fast/").size() == 1u); // its keeper has ended
  // Without renewal the lease ends, and an idle time later the shard is closed.
  advance(120s);
  BOOST_TEST(!row(home(1)).active);
  // A passive shard is opened by the next lease.
  BOOST_TEST((fence(grant(1, home(1), 2)) == errc::none));
  BOOST_TEST(row(home(1)).active);
}

BOOST_AUTO_TEST_CASE(what_is_in_use_stays_open) {
  start();
  make(home(1));
  advance(50s);
  plane->fail_next["passivate_shard"] = errc::unavailable;
  advance(30s);
  BOOST_TEST(row(home(1)).active);
  advance(70s);
  BOOST_TEST(!row(home(1)).active);
}

BOOST_AUTO_TEST_CASE(a_shard_that_has_moved_is_here_or_gone) {
  start();
  make(home(1));
  BOOST_TEST((fence(grant(1, home(1), 1)) == errc::none));
  plane->shards.erase({"fast", home(1).id, generation{1}});
  plane->shards[{"memory", home(1).id, generation{2}}].header = {home(1).id, size, generation{2}};
  plane->shards[{"memory", home(1).id, generation{2}}].allocated_bytes = 12288;
  BOOST_TEST((refusal<caf::unit_t>(tier("memory"), atom::reserve_v, home(1).id, uint64_t{50'000}) == errc::none));
  caf::anon_send(tier(), atom::publish_v, home(1), false);
  caf::anon_send(tier("memory"), atom::publish_v, home(1, 2, 0, "memory"), true);
  run();
  BOOST_TEST(info().shards == 0u);
  BOOST_TEST(info("memory").shards == 1u);
  BOOST_TEST(info("memory").used_bytes == 12288u);
  BOOST_TEST(context->directory->list("storage/fast/").empty());
  auto rows = ask<std::vector<shard_info>>(tier("memory"), atom::list_v, volume_id{1});
  BOOST_REQUIRE(rows);
  BOOST_REQUIRE(rows->size() == 1u);
  BOOST_TEST(rows->front().allocated_bytes == 12288u);
  BOOST_TEST(rows->front().offset == size);
}

BOOST_AUTO_TEST_CASE(removing_what_is_gone_is_done) {
  start();
  make(home(1));
  BOOST_TEST((refusal<caf::unit_t>(tier(), atom::remove_v, home(1).id, generation{1}) == errc::none));
  BOOST_TEST(!there(home(1)));
  BOOST_TEST((refusal<caf::unit_t>(tier(), atom::remove_v, home(1).id, generation{1}) == errc::none));
  BOOST_TEST(info().shards == 0u);
  make(home(2));
  plane->fail_next["remove_shard"] = errc::unavailable;
  BOOST_TEST((refusal<caf::unit_t>(tier(), atom::remove_v, home(2).id, generation{1}) == errc::unavailable));
  BOOST_TEST((refusal<caf::unit_t>(tier(), atom::remove_v, home(2).id, generation{1}) == errc::none));
}

BOOST_AUTO_TEST_CASE(verifying_reads_and_a_missing_shard_is_refused) {
  start();
  make(home(1));
  BOOST_TEST(*ask<uint64_t>(tier(), atom::verify_v, home(1).id, generation{1}) == 0u);
  BOOST_TEST((refusal<uint64_t>(tier(), atom::verify_v, home(2).id, generation{1}) == errc::not_found));
}

BOOST_AUTO_TEST_CASE(a_new_manager_learns_the_outstanding_leases_and_the_old_one_does_not) {
  start();
  make(home(1));
  BOOST_TEST((fence(grant(7, home(1), 1)) == errc::none));
  auto grants = ask<tier_inventory>(tier(), atom::inventory_v, uint64_t{2});
  BOOST_REQUIRE(grants);
  BOOST_REQUIRE(grants->grants.size() == 1u);
  BOOST_TEST(grants->complete);
  BOOST_TEST(grants->grants.front().holder.value() == 7u);
  BOOST_TEST((refusal<tier_inventory>(tier(), atom::inventory_v, uint64_t{1}) == errc::deposed));
  caf::anon_send(tier(), atom::release_v, holder_id{7}, home(1).id, uint64_t{0});
  BOOST_TEST(ask<tier_inventory>(tier(), atom::inventory_v, uint64_t{2})->grants.empty());
}

BOOST_AUTO_TEST_CASE(a_killed_tier_comes_back_knowing_its_shards) {
  start();
  make(home(1));
  row(home(1)).allocated_bytes = 8192;
  BOOST_TEST((fence(grant(1, home(1), 3)) == errc::none));
  kill(tier());
  advance(1s);
  BOOST_REQUIRE(!!tier());
  BOOST_TEST(info().used_bytes == 8192u);
  BOOST_TEST((fence(grant(1, home(1), 2)) == errc::stale_epoch));
  BOOST_TEST((fence(grant(1, home(1), 3)) == errc::none));
  // It does not know who holds what: for a term nothing is closed.
  advance(40s);
  BOOST_TEST(row(home(1)).active);
}

BOOST_AUTO_TEST_CASE(a_killed_keeper_is_started_again_and_its_shard_serves) {
  start();
  make(home(1));
  BOOST_TEST((fence(grant(1, home(1), 3)) == errc::none));
  auto keepers = context->directory->list("storage/fast/");
  BOOST_REQUIRE(keepers.size() == 1u);
  kill(find<caf::actor>(keepers[0]));
  BOOST_TEST((fence(grant(2, home(1), 4)) == errc::none));
  advance(1s);
  BOOST_TEST((fence(grant(2, home(1), 5)) == errc::none));
  BOOST_TEST(row(home(1)).header.fence.value() == 5u);
}

BOOST_AUTO_TEST_CASE(a_killed_storage_supervisor_takes_its_tiers_along) {
  start();
  auto before = tier();
  kill(supervisor);
  BOOST_TEST(!tier());
  start();
  BOOST_REQUIRE(!!tier());
  make(home(1));
}

BOOST_AUTO_TEST_CASE(a_hung_device_is_not_asked_again_and_again) {
  start();
  make(home(1));
  plane->hold(true);
  plane->calls.clear();
  advance(30s);
  BOOST_TEST(plane->calls.size() <= 3u); // one look at each tier
  plane->hold(false);
  run();
  advance(5s);
  BOOST_TEST(plane->calls.size() > 3u);
}

BOOST_AUTO_TEST_CASE(a_tier_that_is_refused_touches_nothing_and_says_why) {
  options.tiers[0].refused = "wrong disk";
  make_context();
  scans["fast"].shards = {{home(1).id, size, generation{1}}};
  start();
  advance(3s);
  BOOST_TEST(info().state == "refused");
  BOOST_TEST(info().problem == "wrong disk");
  BOOST_TEST(info().shards == 0u);
  BOOST_TEST(published_count("TIER_REFUSED") == 1u);
  BOOST_TEST(info("memory").state == "up");
  plane->calls.clear();
  BOOST_TEST((refusal<shard_home>(tier(), atom::create_v, home(1), size) == errc::unavailable));
  BOOST_TEST((fence(grant(1, home(1), 1)) == errc::unavailable));
  BOOST_TEST((refusal<caf::unit_t>(tier(), atom::reserve_v, home(1).id, uint64_t{1}) == errc::unavailable));
  BOOST_TEST((refusal<caf::unit_t>(tier(), atom::remove_v, home(1).id, generation{1}) == errc::unavailable));
  BOOST_TEST((refusal<uint64_t>(tier(), atom::verify_v, home(1).id, generation{1}) == errc::unavailable));
  BOOST_TEST((refusal<std::vector<shard_info>>(tier(), atom::list_v, volume_id{1}) == errc::unavailable));
  caf::anon_send(tier(), atom::publish_v, home(1), true);
  run();
  // A new manager must not wait for it: nothing of it is leased.
  auto outstanding = ask<tier_inventory>(tier(), atom::inventory_v, uint64_t{1});
  BOOST_REQUIRE(outstanding);
  BOOST_TEST(outstanding->grants.empty());
  BOOST_TEST(plane->calls.empty());
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
