#include <boost/test/unit_test.hpp>

#include "tests/actors/management/lease_fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

BOOST_FIXTURE_TEST_SUITE(lease_manager_and_leases, lease_fixture)

BOOST_AUTO_TEST_CASE(a_write_lease_makes_the_shard_exist_and_is_agreed_with_storage) {
  auto grant = one(acquire(ann, 3, lease_mode::write));
  BOOST_TEST(grant.home.exists());
  BOOST_TEST(grant.home.tier == "fast");
  BOOST_TEST((grant.mode == lease_mode::write));
  BOOST_TEST((grant.term == context->options.leases.term));
  BOOST_REQUIRE(tier().fences.size() == 1u);
  BOOST_TEST((tier().fences.front().holder == ann));
  BOOST_TEST(!!find<caf::actor>(path::leases + "/" + std::to_string(grant.id.value())));
}

BOOST_AUTO_TEST_CASE(reads_of_absent_shards_are_one_lease_without_storage) {
  auto grant = one(acquire(ann, 10, lease_mode::read));
  BOOST_TEST(!grant.home.exists());
  BOOST_TEST(grant.count == (1ull << 30) / shard_size_default - 10);
  BOOST_TEST(tier().fences.empty());
  BOOST_TEST(leases().size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_range_gives_one_grant_for_each_shard_and_each_run) {
  acquire(ann, 2, lease_mode::write);
  acquire(ann, 5, lease_mode::write);
  auto all = acquire(ann, 0, lease_mode::read, 10);
  BOOST_REQUIRE(all);
  BOOST_REQUIRE(all->size() == 5u);
  BOOST_TEST((*all)[0].count == 2u);
  BOOST_TEST((*all)[1].home.exists());
  BOOST_TEST((*all)[2].count == 2u);
  BOOST_TEST((*all)[3].home.exists());
}

BOOST_AUTO_TEST_CASE(a_run_is_granted_no_further_than_it_was_found_absent) {
  // Its lease stays the wider run that was granted first, with a shard made in its middle.
  one(acquire(ann, 0, lease_mode::read));
  acquire(ann, 5, lease_mode::write);
  const auto grant = one(acquire(ann, 7, lease_mode::read));
  BOOST_TEST(grant.home.id.index.value() == 7u);
  BOOST_TEST(grant.count == (1ull << 30) / shard_size_default - 7);
  const auto before = one(acquire(ann, 2, lease_mode::read));
  BOOST_TEST(before.home.id.index.value() == 2u);
  BOOST_TEST(before.count == 3u);
}

BOOST_AUTO_TEST_CASE(a_holder_in_the_way_is_asked_to_give_way) {
  auto first = one(acquire(ann, 0, lease_mode::write));
  auto second = one(acquire(ben, 0, lease_mode::write));
  BOOST_TEST(ann_world->revoked.size() == 1u);
  BOOST_TEST((second.holder == ben));
  // It gave way: nobody is to be shut out.
  BOOST_TEST((second.fence == first.fence));
  BOOST_TEST(leases().size() == 1u);
  BOOST_TEST(published_count("LEASE_BROKEN") == 0u);
}

BOOST_AUTO_TEST_CASE(a_holder_that_does_not_give_way_is_fenced_after_the_grace) {
  auto first = one(acquire(ann, 0, lease_mode::write));
  ann_world->gives_way = false;
  auto asked = begin_acquire(ben, 0, lease_mode::write);
  advance(context->options.leases.grace - 100ms);
  BOOST_TEST(!asked.done());
  advance(200ms);
  BOOST_REQUIRE((asked.code() == errc::none));
  const auto second = one(asked.get());
  BOOST_TEST((second.fence > first.fence));
  BOOST_TEST((tier().shards.begin()->second == second.fence));
  BOOST_TEST(published_count("LEASE_BROKEN") == 1u);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_fenced_is_held_until_its_term_ends) {
  acquire(ann, 0, lease_mode::read);
  ann_world->gives_way = false;
  auto asked = begin_acquire(ben, 0, lease_mode::write);
  advance(context->options.leases.acquire_timeout + 1s);
  BOOST_TEST((asked.code() == errc::lease_held));
  advance(40s);
  BOOST_TEST(one(acquire(ben, 0, lease_mode::write)).home.exists());
}

BOOST_AUTO_TEST_CASE(a_run_that_a_dead_agent_could_not_give_back_its_successor_gives_back) {
  acquire(ann, 0, lease_mode::read);
  kill(holders[ann]);
  auto evicted = begin<caf::unit_t>(manager, atom::evict_v, shard_id{v.id, shard_index{0}});
  advance(1s);
  BOOST_TEST(!evicted.done());
  holders[ann] = spawn(fake_holder, ann_world);
  auto asked = begin_acquire(ann, 0, lease_mode::write);
  advance(1s);
  BOOST_TEST(ann_world->revoked.size() == 1u);
  BOOST_TEST((evicted.code() == errc::none));
  BOOST_TEST((asked.code() == errc::none));
}

BOOST_AUTO_TEST_CASE(readers_share_and_a_writer_among_them_is_told_first) {
  acquire(ann, 0, lease_mode::write);
  BOOST_TEST((one(acquire(ben, 0, lease_mode::read)).mode == lease_mode::read));
  BOOST_TEST((one(acquire(ann, 0, lease_mode::read)).mode == lease_mode::read));
  BOOST_TEST(ben_world->revoked.empty());
  BOOST_TEST(leases().size() == 2u);
}

BOOST_AUTO_TEST_CASE(the_same_holder_changes_from_read_to_write_under_the_same_lease) {
  acquire(ann, 0, lease_mode::write);
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::release_v, ann, shard_id{v.id, shard_index{0}}, uint64_t{1}));
  auto read = one(acquire(ann, 0, lease_mode::read));
  auto write = one(acquire(ann, 0, lease_mode::write));
  BOOST_TEST((read.id == write.id));
  BOOST_TEST((write.mode == lease_mode::write));
  BOOST_TEST((tier().fences.back().mode == lease_mode::write));
}

BOOST_AUTO_TEST_CASE(a_migration_lease_stands_beside_a_writer_and_another_one_is_refused) {
  acquire(ann, 0, lease_mode::write);
  BOOST_TEST((one(acquire(ben, 0, lease_mode::migration)).mode == lease_mode::migration));
  BOOST_TEST(ann_world->revoked.empty());
  holders[holder_id{3}] = holders[ben];
  BOOST_TEST((code_of(acquire(holder_id{3}, 0, lease_mode::migration).error()) == errc::lease_held));
  BOOST_TEST(ben_world->revoked.empty());
  BOOST_TEST((code_of(acquire(ben, 9, lease_mode::migration).error()) == errc::not_found));
}

BOOST_AUTO_TEST_CASE(a_lease_that_is_not_renewed_ends_with_its_term_and_the_next_epoch_is_higher) {
  auto first = one(acquire(ann, 0, lease_mode::write));
  advance(context->options.leases.term);
  BOOST_TEST(leases().size() == 1u); // the drift bound is not over
  advance(context->options.leases.drift_bound + 100ms);
  BOOST_TEST(leases().empty());
  BOOST_TEST(published_count("LEASE_EXPIRED") == 1u);
  BOOST_TEST(context->directory->count(path::leases + "/") == 0u);
  BOOST_TEST((one(acquire(ben, 0, lease_mode::write)).fence > first.fence));
}

BOOST_AUTO_TEST_CASE(one_keep_alive_renews_all_and_reaches_storage_first) {
  acquire(ann, 0, lease_mode::write);
  acquire(ann, 1, lease_mode::write);
  acquire(ann, 5, lease_mode::read);
  for (int i = 0; i < 10; ++i) {
    advance(15s);
    auto renewal = ask<lease_renewal>(manager, atom::renew_v, ann);
    BOOST_REQUIRE(renewal);
    BOOST_TEST(renewal->renewed == 3u);
    BOOST_TEST((renewal->term == context->options.leases.term));
  }
  BOOST_TEST(leases().size() == 3u);
  BOOST_TEST(tier().renewals.size() == 10u);
  BOOST_TEST((tier().renewals.back().second >= context->options.leases.term));
  BOOST_TEST((refusal<lease_renewal>(manager, atom::renew_v, ben) == errc::not_found));
}

BOOST_AUTO_TEST_CASE(the_revision_rises_with_what_a_holder_lost_without_its_word) {
  acquire(ann, 0, lease_mode::write);
  auto revision = [this] {
    auto x = ask<lease_renewal>(manager, atom::renew_v, ann);
    BOOST_REQUIRE(x);
    return x->revision;
  };
  const auto first = revision();
  BOOST_TEST(one(acquire(ann, 1, lease_mode::write)).revision == first);
  // Given back.
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::evict_v, shard_id{v.id, shard_index{1}}));
  BOOST_TEST(revision() == first);
  ann_world->gives_way = false;
  acquire(ann, 1, lease_mode::write);
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::evict_v, shard_id{v.id, shard_index{1}}));
  const auto second = revision();
  BOOST_TEST(second > first);
  // Also after it had nothing at all for a while.
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::release_v, ann, shard_id{v.id, {}}, uint64_t{0}));
  BOOST_TEST(one(acquire(ann, 0, lease_mode::write)).revision >= second);
  const auto third = one(acquire(ann, 0, lease_mode::write)).revision;
  restart_manager();
  advance(2s);
  BOOST_TEST(one(acquire(ann, 0, lease_mode::write)).revision > third);
}

BOOST_AUTO_TEST_CASE(a_sensitive_volume_gets_a_shorter_term_and_storage_may_shorten_any) {
  auto x = spec("secret");
  x.sensitive = sensitivity::high;
  v = make(x);
  BOOST_TEST((one(acquire(ann, 0, lease_mode::write)).term == context->options.leases.term_sensitive));
  tier().term_max = 7s;
  BOOST_TEST((one(acquire(ann, 1, lease_mode::write)).term == 7s));
  BOOST_TEST((ask<lease_renewal>(manager, atom::renew_v, ann)->term == 7s));
}

BOOST_AUTO_TEST_CASE(what_is_given_back_is_free_at_once) {
  auto first = one(acquire(ann, 0, lease_mode::write));
  acquire(ann, 1, lease_mode::write);
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::release_v, ann, shard_id{v.id, {}}, uint64_t{0}));
  BOOST_TEST(leases().empty());
  BOOST_TEST(!tier().releases.empty());
  auto second = one(acquire(ben, 0, lease_mode::write));
  BOOST_TEST(ann_world->revoked.empty());
  BOOST_TEST((second.fence == first.fence));
}

BOOST_AUTO_TEST_CASE(an_evicted_holder_is_fenced_at_storage) {
  auto first = one(acquire(ann, 0, lease_mode::write));
  ann_world->gives_way = false;
  auto asked = begin<caf::unit_t>(manager, atom::evict_v, shard_id{v.id, shard_index{0}});
  advance(context->options.leases.grace + 100ms);
  BOOST_REQUIRE((asked.code() == errc::none));
  BOOST_TEST(leases().empty());
  BOOST_TEST((tier().shards.begin()->second > first.fence));
  BOOST_TEST((refusal<caf::unit_t>(manager, atom::evict_v, shard_id{v.id, shard_index{0}}) == errc::none));
}

BOOST_AUTO_TEST_CASE(a_higher_epoch_at_storage_is_overtaken) {
  acquire(ann, 0, lease_mode::write);
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::release_v, ann, shard_id{v.id, {}}, uint64_t{0}));
  // As a manager before us may have left it.
  tier().shards.begin()->second = epoch{5};
  BOOST_TEST((one(acquire(ann, 0, lease_mode::write)).fence > epoch{5}));
}

BOOST_AUTO_TEST_CASE(a_shard_that_moves_while_storage_is_asked_is_looked_up_again) {
  acquire(ann, 0, lease_mode::write);
  tier().fence_refusals = {errc::shard_moved, errc::shard_moved};
  BOOST_TEST(one(acquire(ann, 0, lease_mode::write)).home.exists());
  tier().fence_refusals.assign(100, errc::not_found);
  BOOST_TEST((code_of(acquire(ann, 0, lease_mode::write).error()) == errc::unavailable));
}

BOOST_AUTO_TEST_CASE(storage_that_refuses_leaves_no_lease_behind) {
  acquire(ann, 0, lease_mode::write);
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::release_v, ann, shard_id{v.id, {}}, uint64_t{0}));
  tier().fence_refusals = {errc::device_failed};
  BOOST_TEST((code_of(acquire(ann, 0, lease_mode::write).error()) == errc::device_failed));
  BOOST_TEST(leases().empty());
  tier().fence_refusals = {errc::timed_out};
  BOOST_TEST((code_of(acquire(ann, 0, lease_mode::write).error()) == errc::timed_out));
  BOOST_TEST(leases().empty());
  BOOST_TEST(one(acquire(ben, 0, lease_mode::write)).home.exists());
}

BOOST_AUTO_TEST_CASE(each_question_that_storage_leaves_unanswered_has_a_time_of_its_own) {
  for (uint64_t shard : {0, 1})
    acquire(ann, shard, lease_mode::write);
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::release_v, ann, shard_id{v.id, {}}, uint64_t{0}));
  tier().fence_refusals = {errc::timed_out, errc::timed_out};
  const auto patience = context->options.request_timeout;
  auto first = begin_acquire(ann, 0, lease_mode::write);
  advance(patience / 2);
  auto second = begin_acquire(ann, 1, lease_mode::write);
  advance(patience / 2 + 100ms);
  BOOST_TEST((first.done() && first.code() == errc::timed_out));
  BOOST_TEST(!second.done());
  advance(patience / 2);
  BOOST_TEST((second.done() && second.code() == errc::timed_out));
  // And when there was nothing to wait for meanwhile.
  tier().fence_refusals = {errc::timed_out};
  auto third = begin_acquire(ann, 0, lease_mode::write);
  advance(patience + 100ms);
  BOOST_TEST((third.done() && third.code() == errc::timed_out));
}

BOOST_AUTO_TEST_CASE(impossible_requests_are_refused) {
  BOOST_TEST((code_of(acquire(ann, 1'000'000, lease_mode::read).error()) == errc::invalid_argument));
  auto x = request(holder_id{0}, 0, lease_mode::read);
  BOOST_TEST((refusal<grants>(manager, atom::acquire_v, x, holders[ann]) == errc::invalid_argument));
  x = request(ann, 0, lease_mode::read);
  x.first.volume = volume_id{99};
  BOOST_TEST((refusal<grants>(manager, atom::acquire_v, x, holders[ann]) == errc::not_found));
  tier().create_refusals.assign(10, errc::tier_full);
  BOOST_TEST((code_of(acquire(ann, 7, lease_mode::write).error()) == errc::tier_full));
}

BOOST_AUTO_TEST_CASE(leases_have_a_bound) {
  options.leases.leases_max = 2;
  make_context();
  restart_manager();
  acquire(ann, 0, lease_mode::write);
  acquire(ann, 1, lease_mode::write);
  BOOST_TEST((code_of(acquire(ann, 2, lease_mode::write).error()) == errc::limit_reached));
}

BOOST_AUTO_TEST_CASE(holders_are_told_of_a_new_home_and_keep_lease_and_epoch) {
  auto before = one(acquire(ann, 0, lease_mode::write));
  auto home = before.home;
  home.of = generation{2};
  tier().shards[{home.id, home.of}] = before.fence;
  caf::anon_send(manager, atom::refresh_v, home);
  run();
  BOOST_REQUIRE(ann_world->refreshed.size() == 1u);
  BOOST_TEST((ann_world->refreshed.front().of == generation{2}));
  BOOST_TEST((tier().fences.back().home.of == generation{2}));
  BOOST_TEST((leases().front().grant.id == before.id));
  BOOST_TEST((leases().front().grant.fence == before.fence));
}

BOOST_AUTO_TEST_CASE(a_killed_lease_goes_on_from_the_table) {
  auto grant = one(acquire(ann, 0, lease_mode::write));
  const auto at = path::leases + "/" + std::to_string(grant.id.value());
  kill(find<caf::actor>(at));
  run();
  BOOST_REQUIRE(!!find<caf::actor>(at));
  BOOST_TEST(leases().size() == 1u);
  advance(46s);
  BOOST_TEST(leases().empty());
  // In the middle of a revocation.
  grant = one(acquire(ann, 0, lease_mode::write));
  ann_world->gives_way = false;
  auto asked = begin_acquire(ben, 0, lease_mode::write);
  advance(500ms);
  kill(find<caf::actor>(path::leases + "/" + std::to_string(grant.id.value())));
  advance(3s);
  BOOST_TEST((asked.code() == errc::none));
}

BOOST_AUTO_TEST_CASE(a_new_manager_takes_over_what_storage_knows_for_a_full_term) {
  auto before = one(acquire(ann, 0, lease_mode::write));
  tier().outstanding = {before};
  tier().outstanding.front().term = 1s; // as storage counts
  restart_manager();
  advance(1s);
  BOOST_TEST(context->directory->count(path::leases + "/") == 1u);
  BOOST_REQUIRE(leases().size() == 1u);
  BOOST_TEST((leases().front().remaining > 40s));
  // The holder's keep-alive goes on as if nothing had happened.
  BOOST_TEST((refusal<lease_renewal>(manager, atom::renew_v, ann) == errc::none));
  // Its vm_agent is found by path.
  auto agent_world = std::make_shared<holder_world>();
  put(path::vm_agent(v.id.value()), spawn(fake_holder, agent_world));
  auto asked = begin_acquire(ben, 0, lease_mode::write);
  advance(9s);
  BOOST_TEST((asked.code() == errc::timed_out)); // others wait for one term
  advance(2s);
  BOOST_TEST((asked.code() == errc::lease_held));
  for (int i = 0; i < 3; ++i) {
    advance(15s);
    BOOST_REQUIRE(ask<lease_renewal>(manager, atom::renew_v, ann));
  }
  const auto after = one(acquire(ben, 0, lease_mode::write));
  BOOST_TEST(agent_world->revoked.size() == 1u);
  BOOST_TEST((after.fence >= before.fence));
}

BOOST_AUTO_TEST_CASE(a_tier_that_was_started_again_is_told_of_leases_with_the_next_keep_alive) {
  const auto mine = one(acquire(ann, 0, lease_mode::write));
  acquire(ann, 1, lease_mode::write);
  BOOST_REQUIRE(ask<lease_renewal>(manager, atom::renew_v, ann));
  BOOST_TEST(tier().fences.size() == 2u);
  kill(find<tier_actor>(path::tier("fast")));
  put(path::tier("fast"), spawn(fake_tier, tiers["fast"]));
  tier().fences.clear();
  BOOST_REQUIRE(ask<lease_renewal>(manager, atom::renew_v, ann));
  BOOST_REQUIRE(tier().fences.size() == 2u);
  for (const auto& x : tier().fences) {
    BOOST_TEST((x.holder == ann));
    BOOST_TEST((x.mode == lease_mode::write));
    BOOST_TEST((x.fence == mine.fence));
  }
  // Once, unless storage did not take it.
  BOOST_REQUIRE(ask<lease_renewal>(manager, atom::renew_v, ann));
  BOOST_TEST(tier().fences.size() == 2u);
  kill(find<tier_actor>(path::tier("fast")));
  put(path::tier("fast"), spawn(fake_tier, tiers["fast"]));
  tier().fences.clear();
  tier().fence_refusals = {errc::unavailable};
  BOOST_REQUIRE(ask<lease_renewal>(manager, atom::renew_v, ann));
  BOOST_TEST(tier().fences.size() == 1u);
  BOOST_REQUIRE(ask<lease_renewal>(manager, atom::renew_v, ann));
  BOOST_TEST(tier().fences.size() == 3u);
}

BOOST_AUTO_TEST_CASE(what_a_restarted_tier_has_forgotten_is_over_after_one_term) {
  const auto before = one(acquire(ann, 0, lease_mode::write));
  restart_manager(); // the tier tells of nothing
  auto asked = begin_acquire(ben, 0, lease_mode::write);
  advance(context->options.leases.acquire_timeout + 1s);
  BOOST_TEST((asked.code() == errc::lease_held));
  // Its holder learns that nothing is renewed, and is granted at once what it asks for again.
  BOOST_TEST((refusal<lease_renewal>(manager, atom::renew_v, ann) == errc::not_found));
  BOOST_TEST((one(acquire(ann, 0, lease_mode::write)).fence >= before.fence));
}

BOOST_AUTO_TEST_CASE(a_shard_nobody_is_known_to_hold_is_fenced_when_it_is_taken_away) {
  const auto before = one(acquire(ann, 0, lease_mode::write));
  restart_manager(); // the tier tells of nothing
  advance(1s);
  BOOST_TEST((refusal<caf::unit_t>(manager, atom::evict_v, shard_id{v.id, shard_index{0}}) == errc::none));
  BOOST_TEST((tier().shards.begin()->second > before.fence));
}

BOOST_AUTO_TEST_CASE(an_outstanding_lease_nobody_renews_is_fenced_by_a_higher_epoch) {
  auto before = one(acquire(ann, 0, lease_mode::write));
  tier().outstanding = {before};
  restart_manager();
  advance(50s);
  BOOST_TEST(leases().empty());
  const auto after = one(acquire(ben, 0, lease_mode::write));
  BOOST_TEST((after.fence > before.fence));
  // Above everything of the manager before.
  BOOST_TEST(after.fence.value() >> 32 == 2u);
}

BOOST_AUTO_TEST_CASE(the_attached_holder_does_not_wait_for_a_new_manager) {
  acquire(ann, 0, lease_mode::read);
  restart_manager();
  auto asked = begin_acquire(ann, 0, lease_mode::write);
  advance(500ms);
  BOOST_TEST((asked.code() == errc::none));
}

BOOST_AUTO_TEST_CASE(a_tier_that_does_not_tell_what_is_outstanding_gets_no_grants) {
  acquire(ann, 0, lease_mode::write);
  tier().silent = true;
  restart_manager();
  BOOST_TEST((code_of(acquire(ann, 0, lease_mode::write).error()) == errc::unavailable));
  tier().silent = false;
  advance(10s);
  BOOST_TEST(one(acquire(ann, 0, lease_mode::write)).home.exists());
}

BOOST_AUTO_TEST_CASE(what_a_new_manager_does_not_know_of_is_not_extended) {
  acquire(ann, 0, lease_mode::write);
  acquire(ann, 100, lease_mode::read); // a run, which no storage knows of
  tier().silent = true;
  restart_manager();
  advance(46s); // it does not wait for that tier any longer
  BOOST_REQUIRE(acquire(ann, 200, lease_mode::read));
  auto x = ask<lease_renewal>(manager, atom::renew_v, ann);
  BOOST_REQUIRE(x);
  // Its holder may have leases there: nobody has renewed those.
  BOOST_REQUIRE(x->gaps.size() == 1u);
  BOOST_TEST(x->gaps.front().tier == "fast");
  tier().silent = false;
  advance(10s);
  x = ask<lease_renewal>(manager, atom::renew_v, ann);
  BOOST_REQUIRE(x);
  BOOST_TEST(x->gaps.empty());
}

BOOST_AUTO_TEST_CASE(a_manager_that_has_been_replaced_ends) {
  restart_manager();
  advance(1s);
  tier().incarnation = 1000;
  BOOST_TEST((code_of(acquire(ann, 0, lease_mode::write).error()) == errc::deposed));
  BOOST_TEST((refusal<lease_renewal>(manager, atom::renew_v, ann) == errc::unavailable));
}

BOOST_AUTO_TEST_CASE(a_lease_is_small) {
  const auto actor = sizeof(caf::actor_storage<std::remove_pointer_t<lease_self::stateful_pointer<lease_state>>>);
  BOOST_TEST_MESSAGE("lease actor " << actor << ", row " << sizeof(lease_row));
  BOOST_TEST(actor + sizeof(lease_row) < 2048u);
}

BOOST_AUTO_TEST_SUITE_END()
