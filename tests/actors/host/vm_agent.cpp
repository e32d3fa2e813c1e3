#include "actors/host/vm_agent.hpp"

#include <boost/test/unit_test.hpp>

#include "tests/actors/host/fakes.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr volume_id volume{7};

struct agent_fixture : host_fixture {
  agent_fixture() { record().attachments = {{holder_id{3}, context->options.name}}; }

  void start() {
    agent = spawn(vm_agent, context, volume, holder_id{3});
    advance(1ms); // its first keep-alive
  }
  void need(uint64_t first, uint64_t count, bool write) {
    plane->need(volume, shard_index{first}, count, write);
    run();
  }
  const route* at(uint64_t index) { return plane->find_route(volume, shard_index{index}); }
  size_t calls(const std::string& name) const {
    return static_cast<size_t>(std::count(plane->calls.begin(), plane->calls.end(), name));
  }

  vm_agent_self agent;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(vm_agent_, agent_fixture)

BOOST_AUTO_TEST_CASE(it_opens_the_port_and_says_where) {
  start();
  auto x = ask<attachment>(agent, atom::get_v);
  BOOST_REQUIRE(x);
  BOOST_TEST(x->socket_path == "/run/varve/nbd/vm1.sock");
  BOOST_TEST(x->uri == "nbd+unix:///vm1?socket=/run/varve/nbd/vm1.sock");
  BOOST_TEST(x->holder.value() == 3u);
  BOOST_TEST(plane->ports.at(volume).options.size_bytes == 1ull << 30);
}

BOOST_AUTO_TEST_CASE(the_attachment_is_told_only_once_the_socket_listens) {
  plane->hold(true);
  start();
  auto asked = begin<attachment>(agent, atom::get_v);
  run();
  BOOST_TEST(!asked.done());
  plane->hold(false);
  run();
  BOOST_TEST(asked.done());
}

BOOST_AUTO_TEST_CASE(a_port_that_cannot_be_opened_is_said_and_tried_again) {
  plane->fail_next["open_port"] = errc::device_failed;
  plane->hold(true);
  start();
  auto asked = begin<attachment>(agent, atom::get_v);
  run();
  plane->hold(false);
  run();
  BOOST_TEST((asked.code() == errc::device_failed));
  BOOST_TEST(published_count("PORT_FAILED") == 1u);
  advance(1s);
  BOOST_TEST((refusal<attachment>(agent, atom::get_v) == errc::none));
}

BOOST_AUTO_TEST_CASE(an_agent_of_an_ended_attachment_ends) {
  record().attachments.at(0).holder = holder_id{4};
  start();
  advance(1s);
  BOOST_TEST(plane->ports.empty());
  BOOST_TEST((refusal<attachment>(agent, atom::get_v) == errc::unavailable));
}

BOOST_AUTO_TEST_CASE(a_need_becomes_a_lease_becomes_a_route) {
  start();
  need(5, 1, true);
  BOOST_REQUIRE(at(5));
  BOOST_TEST(at(5)->exists);
  BOOST_TEST(at(5)->writable);
  BOOST_TEST(at(5)->tier == "fast");
  // Counted from the question, and shorter than the term by what clocks may differ.
  BOOST_TEST((at(5)->valid_until == now() + 45s - options.leases.drift_bound));
  need(100, 4, false);
  BOOST_REQUIRE(at(102));
  BOOST_TEST(!at(102)->exists);
  BOOST_TEST(!at(102)->writable);
}

BOOST_AUTO_TEST_CASE(neighbours_needed_in_one_breath_are_asked_for_at_once) {
  start();
  for (uint64_t i = 0; i < 10; ++i)
    plane->need(volume, shard_index{i}, 1, true);
  run();
  BOOST_TEST(management->acquired.size() <= 5u);
  for (uint64_t i = 0; i < 10; ++i)
    BOOST_TEST(at(i));
}

BOOST_AUTO_TEST_CASE(a_refusal_for_now_is_tried_again_without_a_word_to_the_vm) {
  start();
  management->acquire_refusals = {errc::lease_held, errc::unavailable, errc::timed_out, errc::stale_epoch};
  need(5, 1, true);
  BOOST_TEST(!at(5));
  advance(2s);
  BOOST_TEST(at(5));
  BOOST_TEST(plane->refused.empty());
  BOOST_TEST(management->acquired.size() == 5u);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_had_fails_the_requests_that_need_it_and_no_others) {
  start();
  management->bad_shards = {{6, errc::tier_full}};
  need(4, 4, true);
  advance(1s);
  BOOST_TEST(at(4));
  BOOST_TEST(at(5));
  BOOST_TEST(!at(6));
  BOOST_TEST(at(7));
  BOOST_REQUIRE(plane->refused.size() == 1u);
  BOOST_TEST(plane->refused[0].first.first.value() == 6u);
  BOOST_TEST(plane->refused[0].first.count == 1u);
  BOOST_TEST(plane->refused[0].first.write);
  BOOST_TEST((plane->refused[0].second == errc::tier_full));
  // Not asked for again until somebody needs it again.
  const auto asked = management->acquired.size();
  advance(10s);
  BOOST_TEST(management->acquired.size() == asked);
  management->bad_shards.clear();
  need(6, 1, true);
  BOOST_TEST(at(6));
}

BOOST_AUTO_TEST_CASE(one_keep_alive_extends_all_routes_and_nothing_is_polled) {
  start();
  need(5, 1, true);
  need(9, 1, true);
  management->renewals = 0;
  management->acquired.clear();
  advance(90s);
  // Every third of 45 s; the fixture's clock goes in steps of 45 ms, so that each comes a little late.
  BOOST_TEST(management->renewals >= 5u);
  BOOST_TEST(management->renewals <= 6u);
  BOOST_TEST(management->acquired.empty());
  BOOST_TEST(at(5)->valid_until > now());
  BOOST_TEST(at(9)->valid_until > now());
}

BOOST_AUTO_TEST_CASE(what_storage_did_not_renew_ends_in_time_and_all_else_is_extended) {
  start();
  management->homes[6] = {{volume, shard_index{6}}, "slow", generation{1}, epoch{1}};
  need(5, 1, true);
  need(6, 1, true);
  BOOST_REQUIRE(at(6));
  BOOST_TEST(at(6)->tier == "slow");
  advance(1s);
  need(20, 5, false);
  BOOST_REQUIRE(at(20));
  BOOST_REQUIRE(!at(20)->exists);
  const auto run_until = at(20)->valid_until;
  const auto until = at(6)->valid_until;
  management->gaps = {{"slow", "it does not answer"}};
  management->renewals = 0;
  advance(40s);
  BOOST_TEST((at(6)->valid_until == until));
  // Not set anew: shards may have been made inside.
  BOOST_TEST((at(20)->valid_until == run_until));
  BOOST_TEST((at(5)->valid_until > now() + 20s));
  BOOST_TEST(management->renewals > 10u, "it asks again soon");
  management->gaps.clear();
  advance(3s);
  BOOST_TEST((at(6)->valid_until > now() + 20s));
}

BOOST_AUTO_TEST_CASE(what_is_read_already_is_changed_and_not_acquired_for_writing) {
  start();
  management->homes[5] = {{volume, shard_index{5}}, "fast", generation{1}, epoch{1}};
  need(5, 1, false);
  management->acquired.clear();
  need(5, 1, true);
  BOOST_TEST(management->acquired.empty());
  BOOST_REQUIRE(management->changed.size() == 1u);
  BOOST_TEST((management->changed.front().mode == lease_mode::write));
  BOOST_TEST(at(5)->writable);
}

BOOST_AUTO_TEST_CASE(a_lease_that_the_manager_does_not_know_is_acquired_instead_of_changed) {
  start();
  management->homes[5] = {{volume, shard_index{5}}, "fast", generation{1}, epoch{1}};
  need(5, 1, false);
  management->acquired.clear();
  management->change_refusal = errc::not_found;
  need(5, 1, true);
  BOOST_TEST(management->changed.size() == 1u);
  BOOST_TEST(management->acquired.size() == 1u);
  BOOST_TEST(at(5)->writable);
  BOOST_TEST(plane->refused.empty());
}

BOOST_AUTO_TEST_CASE(a_writer_that_is_asked_to_reads_on_once_its_writes_are_over) {
  start();
  need(5, 1, true);
  plane->hold(true);
  auto asked = begin<caf::unit_t>(agent, atom::change_v, shard_id{volume, shard_index{5}});
  run();
  BOOST_TEST(!asked.done());
  plane->hold(false);
  run();
  BOOST_TEST((asked.code() == errc::none));
  BOOST_REQUIRE(at(5));
  BOOST_TEST(!at(5)->writable);
  // What it does not have, or only reads, is none.
  BOOST_TEST((refusal<caf::unit_t>(agent, atom::change_v, shard_id{volume, shard_index{5}}) == errc::none));
  BOOST_TEST((refusal<caf::unit_t>(agent, atom::change_v, shard_id{volume, shard_index{99}}) == errc::none));
}

BOOST_AUTO_TEST_CASE(an_agent_that_holds_nothing_sends_nothing) {
  start();
  management->renew_refusal = errc::not_found;
  // The one that is due says that there is nothing to keep.
  advance(20s);
  management->renewals = 0;
  advance(600s);
  BOOST_TEST(management->renewals == 0u);
}

BOOST_AUTO_TEST_CASE(leases_are_renewed_as_often_as_configured) {
  options.leases.renew = 5s;
  make_context();
  start();
  need(5, 1, true);
  management->renewals = 0;
  advance(51s);
  BOOST_TEST(management->renewals == 10u);
}

BOOST_AUTO_TEST_CASE(a_shorter_term_is_renewed_sooner) {
  start();
  management->term = 9s;
  need(5, 1, true);
  advance(10s);
  management->renewals = 0;
  advance(31s);
  BOOST_TEST(management->renewals == 10u);
}

BOOST_AUTO_TEST_CASE(the_shortest_of_several_terms_brings_the_keep_alive_forward) {
  start();
  need(5, 1, true);
  management->renewals = 0;
  management->shorter_terms = {{6, 9s}};
  for (uint64_t i = 6; i < 9; ++i)
    plane->need(volume, shard_index{i}, 1, true);
  run();
  advance(2s);
  BOOST_TEST(management->renewals == 0u);
  advance(2s);
  BOOST_TEST(management->renewals == 1u);
}

BOOST_AUTO_TEST_CASE(a_keep_alive_that_is_not_answered_is_repeated_and_extends_nothing) {
  start();
  need(5, 1, true);
  const auto until = at(5)->valid_until;
  stop_leases();
  advance(20s);
  BOOST_TEST((at(5)->valid_until == until));
  start_leases();
  advance(3s);
  BOOST_TEST(at(5)->valid_until > until);
}

BOOST_AUTO_TEST_CASE(a_lease_lost_without_a_word_is_asked_for_again_and_not_extended) {
  start();
  need(5, 1, true);
  need(50, 20, false);
  advance(40s); // two renewals: the revision is known
  management->acquired.clear();
  ++management->revision; // something was broken
  const auto extensions = plane->ports.at(volume).extensions;
  advance(16s);
  BOOST_TEST(management->acquired.size() == 2u);
  BOOST_TEST(plane->ports.at(volume).extensions == extensions);
  advance(40s);
  BOOST_TEST(plane->ports.at(volume).extensions > extensions);
}

BOOST_AUTO_TEST_CASE(who_does_not_hold_a_shard_any_more_reads_only_once_its_writes_are_over) {
  start();
  need(5, 1, true);
  plane->hold(true);
  auto asked = begin<caf::unit_t>(agent, atom::change_v, shard_id{volume, shard_index{99}});
  run();
  BOOST_TEST(!asked.done());
  plane->hold(false);
  run();
  BOOST_TEST(asked.done());
}

BOOST_AUTO_TEST_CASE(what_was_lost_is_not_extended_while_something_else_is_being_asked_for) {
  start();
  need(5, 1, true);
  need(6, 1, true);
  // Its answer does not come: whatever is asked for from now on is under way for long.
  ++management->revision;
  management->silent = true;
  const auto until = at(5)->valid_until;
  need(7, 1, true);
  advance(40s);
  BOOST_TEST((!at(5) || at(5)->valid_until == until));
  management->silent = false;
  advance(60s);
  need(5, 1, true);
  BOOST_TEST(at(5)->valid_until > now());
}

BOOST_AUTO_TEST_CASE(what_was_over_before_it_was_asked_for_is_not_extended) {
  start();
  need(5, 1, true);
  const auto until = at(5)->valid_until;
  stop_leases();
  advance(boot_time{until - now()} + 1s);
  // The same manager, as far as the numbers tell, and nothing lost: but it may have ended what it was not asked for.
  start_leases();
  advance(3s);
  BOOST_TEST(!at(5));
}

BOOST_AUTO_TEST_CASE(an_earlier_managers_grants_are_not_used) {
  start();
  management->revision = 7;
  need(5, 1, true);
  management->revision = 6;
  need(6, 1, true);
  BOOST_TEST(!at(6));
  management->revision = 7;
  advance(10s);
  need(6, 1, true);
  BOOST_TEST(at(6));
}

BOOST_AUTO_TEST_CASE(a_manager_that_knows_no_lease_of_ours_is_asked_again) {
  start();
  need(5, 1, true);
  management->renew_refusal = errc::not_found;
  management->acquired.clear();
  advance(16s);
  BOOST_TEST(management->acquired.size() >= 1u);
  management->renew_refusal = errc::none;
  advance(60s);
  BOOST_TEST(at(5)->valid_until > now());
}

BOOST_AUTO_TEST_CASE(a_new_manager_is_asked_for_what_the_old_one_had_granted) {
  start();
  need(50, 20, false);
  advance(20s);
  stop_leases();
  ++management->revision; // it counts from its incarnation on
  start_leases();
  management->acquired.clear();
  advance(16s);
  BOOST_REQUIRE(management->acquired.size() == 1u);
  BOOST_TEST(management->acquired[0].first.index.value() == 50u);
  BOOST_TEST(management->acquired[0].count == 20u);
}

BOOST_AUTO_TEST_CASE(a_revoke_is_answered_once_no_request_uses_the_routes) {
  start();
  need(4, 4, true);
  plane->hold(true);
  auto revoked = begin<caf::unit_t>(agent, atom::revoke_v, shard_id{volume, shard_index{5}}, uint64_t{2});
  run();
  BOOST_TEST(!revoked.done());
  plane->hold(false);
  run();
  BOOST_TEST((revoked.code() == errc::none));
  BOOST_TEST(at(4));
  BOOST_TEST(!at(5));
  BOOST_TEST(!at(6));
  BOOST_TEST(at(7));
}

BOOST_AUTO_TEST_CASE(what_was_revoked_from_a_run_is_not_asked_for_again_with_the_rest) {
  start();
  need(0, 100, false);
  BOOST_TEST(
    (refusal<caf::unit_t>(agent, atom::revoke_v, shard_id{volume, shard_index{40}}, uint64_t{10}) == errc::none));
  management->renew_refusal = errc::not_found;
  management->acquired.clear();
  advance(16s);
  BOOST_REQUIRE(management->acquired.size() == 2u);
  BOOST_TEST(management->acquired[0].count == 40u);
  BOOST_TEST(management->acquired[1].first.index.value() == 50u);
  BOOST_TEST(management->acquired[1].count == 50u);
}

BOOST_AUTO_TEST_CASE(a_late_answer_does_not_call_absent_what_was_made_meanwhile) {
  start();
  management->homes[12] = {{volume, shard_index{12}}, "fast", generation{1}, epoch{1}};
  need(12, 1, true);
  // Found before the shard was made, answered after.
  management->homes.erase(12);
  need(10, 6, false);
  BOOST_REQUIRE(at(12));
  BOOST_TEST(at(12)->exists);
  BOOST_TEST(!at(11)->exists);
  BOOST_TEST(!at(13)->exists);
  for (auto& [first, x] : plane->ports.at(volume).routes)
    BOOST_TEST((x.exists || x.first.value() > 12 || x.first.value() + x.count <= 12));
}

BOOST_AUTO_TEST_CASE(a_new_home_reaches_the_route_under_the_same_lease) {
  start();
  need(5, 1, true);
  const auto until = at(5)->valid_until;
  caf::anon_send(agent, atom::refresh_v, shard_home{{volume, shard_index{5}}, "slow", generation{2}, epoch{1}});
  run();
  BOOST_TEST(at(5)->tier == "slow");
  BOOST_TEST(at(5)->generation.value() == 2u);
  BOOST_TEST((at(5)->valid_until == until));
  BOOST_TEST(at(5)->writable);
  // Old news, and news of what is not held, change nothing.
  caf::anon_send(agent, atom::refresh_v, shard_home{{volume, shard_index{5}}, "fast", generation{1}, epoch{1}});
  caf::anon_send(agent, atom::refresh_v, shard_home{{volume, shard_index{6}}, "slow", generation{2}, epoch{1}});
  run();
  BOOST_TEST(at(5)->tier == "slow");
  BOOST_TEST(!at(6));
}

BOOST_AUTO_TEST_CASE(a_killed_agent_leaves_port_and_routes_and_the_next_one_asks_for_them_anew) {
  start();
  need(5, 1, true);
  kill(agent);
  BOOST_TEST(plane->ports.count(volume) == 1u);
  BOOST_TEST(at(5));
  plane->need(volume, shard_index{6}, 1, true); // lost with its agent; the port says it again to the next
  run();
  start();
  // Nobody can say whether all of these leases are there still.
  BOOST_TEST(!at(5));
  need(5, 1, true);
  advance(40s);
  BOOST_TEST(at(5)->valid_until > now());
  need(6, 1, true);
  BOOST_TEST(at(6));
  BOOST_TEST(management->acquired.back().holder.value() == 3u);
}

BOOST_AUTO_TEST_CASE(a_detach_closes_the_port_gives_back_the_leases_and_records_the_end) {
  start();
  need(5, 1, true);
  BOOST_TEST((refusal<caf::unit_t>(agent, atom::detach_v, false) == errc::none));
  BOOST_TEST(plane->ports.empty());
  BOOST_REQUIRE(management->released.size() == 1u);
  BOOST_TEST(management->released[0].first == 3u);
  BOOST_TEST(management->released[0].second == 0u);
  BOOST_TEST(!record().attached());
  BOOST_TEST((refusal<attachment>(agent, atom::get_v) == errc::unavailable));
}

BOOST_AUTO_TEST_CASE(what_a_dead_manager_was_asked_its_successor_is_asked_at_once) {
  start();
  management->silent = true;
  need(5, 1, true);
  BOOST_TEST(management->acquired.size() == 1u);
  management->silent = false;
  stop_leases();
  start_leases();
  advance(100ms);
  BOOST_TEST(management->acquired.size() == 2u);
  BOOST_TEST(!!at(5));
}

BOOST_AUTO_TEST_CASE(a_detach_does_not_wait_for_a_manager_that_stays_away) {
  start();
  need(5, 1, true);
  stop_leases();
  BOOST_TEST((refusal<caf::unit_t>(agent, atom::detach_v, true) == errc::none));
  BOOST_TEST(!record().attached());
}

BOOST_AUTO_TEST_CASE(a_port_that_cannot_be_closed_stays_attached) {
  start();
  plane->fail_next["close_port"] = errc::timed_out;
  BOOST_TEST((refusal<caf::unit_t>(agent, atom::detach_v, false) == errc::timed_out));
  BOOST_TEST(record().attached());
  BOOST_TEST((refusal<caf::unit_t>(agent, atom::detach_v, true) == errc::none));
  BOOST_TEST(!record().attached());
}

BOOST_AUTO_TEST_CASE(a_resize_reaches_the_port) {
  start();
  BOOST_TEST((refusal<caf::unit_t>(agent, atom::resize_v, uint64_t{2} << 30) == errc::none));
  BOOST_TEST(plane->ports.at(volume).options.size_bytes == 2ull << 30);
  plane->fail_next["resize_port"] = errc::invalid_argument;
  BOOST_TEST((refusal<caf::unit_t>(agent, atom::resize_v, uint64_t{1}) == errc::invalid_argument));
}

BOOST_AUTO_TEST_CASE(a_node_that_stops_closes_the_port_and_leaves_the_attachment) {
  start();
  caf::anon_send_exit(agent, caf::exit_reason::user_shutdown);
  run();
  BOOST_TEST(plane->ports.empty());
  BOOST_TEST(record().attached());
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
