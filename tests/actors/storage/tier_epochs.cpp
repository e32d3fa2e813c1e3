#include "runtime/storage/epoch_log.hpp"
#include "tests/actors/storage/tier_fixture.hpp"
#include "tests/runtime/reactor/simulated_fixture.hpp"

// A tier and the node's epoch log, which outlives shards' files, and the tier's actor.

namespace varve {

namespace {

struct epochs_fixture : tier_fixture {
  epochs_fixture() { open_log(); }

  void open_log() {
    auto log = std::make_shared<epoch_log>(*machine.on, epoch_log_options{"/d", 4096});
    std::string problem;
    BOOST_REQUIRE((machine.run(log->open(problem)) == errc::none));
    epochs = log;
    make_context();
  }
  /// The disk and the actors, in turns.
  void settle() {
    for (int i = 0; i < 10; ++i) {
      run();
      machine.world.run_until_idle();
    }
    run();
  }
  template <class T, class... Ts>
  errc asked(Ts... xs) {
    auto x = begin<T>(tier(), xs...);
    settle();
    return x.code();
  }
  errc fenced(const lease_grant& x) { return asked<lease_grant>(atom::fence_v, x); }
  errc made(const shard_home& x) { return asked<shard_home>(atom::create_v, x, size); }
  /// The node's power fails; what was not synced is lost.
  void power_loss() {
    machine.disk.power_loss();
    // What the lost process leaves behind ends never, and stays in sight.
    static auto& graves = *new std::vector<std::shared_ptr<void>>;
    graves.push_back(std::shared_ptr<void>(machine.on.release(), [](void*) {}));
    graves.push_back(std::shared_ptr<void>(machine.ring.release(), [](void*) {}));
    graves.push_back(epochs);
    kill(supervisor);
    for (auto& path : context->directory->list("storage/"))
      kill(find<caf::actor>(path));
    context->directory->clear();
    machine.boot();
    open_log();
    start();
    settle();
  }
  static lease_grant by(uint64_t manager, lease_grant x) {
    x.manager = manager;
    return x;
  }

  test::simulated_machine machine{1};
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(tier_epochs, epochs_fixture)

BOOST_AUTO_TEST_CASE(an_epoch_is_in_the_log_before_the_shard_is_fenced) {
  start();
  BOOST_REQUIRE((made(home(1)) == errc::none));
  plane->calls.clear();
  auto x = begin<lease_grant>(tier(), atom::fence_v, grant(1, home(1), 5));
  run(); // and the disk stands still
  BOOST_TEST(!x.done());
  BOOST_TEST(std::count(plane->calls.begin(), plane->calls.end(), "raise_fence") == 0);
  settle();
  BOOST_TEST((x.code() == errc::none));
  BOOST_TEST(std::count(plane->calls.begin(), plane->calls.end(), "raise_fence") == 1);
  BOOST_TEST(epochs->highest(home(1).id).value() == 5u);
}

BOOST_AUTO_TEST_CASE(a_log_that_fails_grants_nothing) {
  start();
  BOOST_REQUIRE((made(home(1)) == errc::none));
  simulated_fault fault;
  fault.op = ring_op::sync;
  fault.count = 100;
  machine.disk.inject(fault);
  plane->calls.clear();
  BOOST_TEST((fenced(grant(1, home(1), 5)) == errc::device_failed));
  BOOST_TEST(std::count(plane->calls.begin(), plane->calls.end(), "raise_fence") == 0);
}

BOOST_AUTO_TEST_CASE(a_shard_made_again_begins_at_the_highest_epoch_seen) {
  start();
  BOOST_REQUIRE((made(home(1)) == errc::none));
  BOOST_REQUIRE((fenced(grant(1, home(1), 5)) == errc::none));
  BOOST_REQUIRE((asked<caf::unit_t>(atom::remove_v, home(1).id, generation{1}) == errc::none));
  BOOST_REQUIRE((made(home(1)) == errc::none));
  BOOST_TEST(row(home(1)).header.fence.value() == 5u);
  BOOST_TEST((fenced(grant(1, home(1), 4)) == errc::stale_epoch));
  BOOST_TEST((fenced(grant(2, home(1), 5)) == errc::none));
}

BOOST_AUTO_TEST_CASE(a_file_put_back_at_a_lower_epoch_is_fenced_before_anybody_is_granted_it) {
  start();
  BOOST_REQUIRE((made(home(1)) == errc::none));
  BOOST_REQUIRE((fenced(grant(1, home(1), 5)) == errc::none));
  // From a backup of the folder: the header is of another time.
  shard_header old{home(1).id, size, generation{1}, epoch{2}};
  row(home(1)).header = old;
  row(home(1)).active = false;
  scans["fast"].shards = {old};
  scans["fast"].allocated_bytes = {0};
  power_loss();
  BOOST_TEST(row(home(1)).header.fence.value() == 5u);
  BOOST_TEST((fenced(grant(1, home(1), 2)) == errc::stale_epoch));
  BOOST_TEST((fenced(grant(1, home(1), 4)) == errc::stale_epoch));
}

BOOST_AUTO_TEST_CASE(what_headers_know_and_the_log_does_not_is_learnt) {
  shard_header x{home(1).id, size, generation{1}, epoch{7}};
  plane->shards[{"fast", x.id, x.generation}].header = x;
  scans["fast"].shards = {x};
  scans["fast"].allocated_bytes = {0};
  start();
  settle();
  BOOST_TEST(epochs->highest(home(1).id).value() == 7u);
}

BOOST_AUTO_TEST_CASE(epochs_come_with_a_shard_that_moves_here) {
  shard_header x{home(1).id, size, generation{2}, epoch{9}};
  plane->shards[{"fast", x.id, x.generation}].header = x;
  start();
  settle();
  caf::anon_send(tier(), atom::publish_v, home(1, 2, 8), true);
  settle();
  // The header's is higher than what the move began with.
  BOOST_TEST(epochs->highest(home(1).id).value() == 9u);
}

BOOST_AUTO_TEST_CASE(a_replaced_manager_is_not_heeded_also_after_power_loss) {
  start();
  BOOST_REQUIRE((made(home(1)) == errc::none));
  auto first = begin<tier_inventory>(tier(), atom::inventory_v, uint64_t{7});
  run();
  BOOST_TEST(!first.done(), "it is durable before it is answered");
  settle();
  BOOST_REQUIRE((first.code() == errc::none));
  BOOST_TEST((fenced(by(6, grant(1, home(1), 1))) == errc::deposed));
  BOOST_TEST((fenced(by(7, grant(1, home(1), 1))) == errc::none));
  BOOST_TEST(
    (asked<std::vector<renewal_terms>>(atom::renew_v, tier_renewal{6, {{holder_id{1}, 45s}}}) == errc::deposed));
  power_loss();
  BOOST_TEST((asked<tier_inventory>(atom::inventory_v, uint64_t{6}) == errc::deposed));
  BOOST_TEST((fenced(by(6, grant(1, home(1), 9))) == errc::deposed));
  BOOST_TEST(
    (asked<std::vector<renewal_terms>>(atom::renew_v, tier_renewal{6, {{holder_id{1}, 45s}}}) == errc::deposed));
  BOOST_TEST((asked<tier_inventory>(atom::inventory_v, uint64_t{8}) == errc::none));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(tier_terms, tier_fixture)

BOOST_AUTO_TEST_CASE(a_tier_that_is_emptied_grants_for_a_short_term_and_takes_no_new_shard) {
  start();
  make(home(1));
  caf::anon_send(tier(), atom::drain_v, true);
  run();
  BOOST_TEST(info().state == "draining");
  BOOST_TEST((refusal<shard_home>(tier(), atom::create_v, home(2), size) == errc::unavailable));
  auto x = ask<lease_grant>(tier(), atom::fence_v, grant(1, home(1), 1));
  BOOST_REQUIRE(x);
  BOOST_TEST((x->term == context->options.leases.term_sensitive));
  BOOST_TEST((x->limit == term_limit::draining));
  auto terms = ask<std::vector<renewal_terms>>(tier(), atom::renew_v, tier_renewal{0, {{holder_id{1}, 45s}}});
  BOOST_REQUIRE(terms);
  BOOST_TEST((terms->front().term == context->options.leases.term_sensitive));
  BOOST_TEST((terms->front().limit == term_limit::draining));
  caf::anon_send(tier(), atom::drain_v, false);
  run();
  terms = ask<std::vector<renewal_terms>>(tier(), atom::renew_v, tier_renewal{0, {{holder_id{1}, 45s}}});
  BOOST_TEST((terms->front().term == 45s));
}

BOOST_AUTO_TEST_CASE(a_shard_beside_a_move_is_leased_for_a_short_term) {
  start();
  make(home(1));
  auto move = grant(9, home(1), 1);
  move.mode = lease_mode::migration;
  BOOST_REQUIRE((fence(move) == errc::none));
  auto x = ask<lease_grant>(tier(), atom::fence_v, grant(1, home(1), 1));
  BOOST_TEST((x->limit == term_limit::migrating));
  BOOST_TEST((x->term == context->options.leases.term_sensitive));
}

BOOST_AUTO_TEST_CASE(leases_of_idle_shards_touch_no_device_until_something_is_wrong) {
  shard_header x{home(1).id, size, generation{1}, epoch{3}};
  plane->shards[{"fast", x.id, x.generation}].header = x;
  scans["fast"].shards = {x};
  scans["fast"].allocated_bytes = {0};
  start();
  advance(10ms);
  plane->calls.clear();
  BOOST_TEST((fence(grant(1, home(1), 3)) == errc::none));
  BOOST_TEST(std::count(plane->calls.begin(), plane->calls.end(), "activate_shard") == 0);
  BOOST_TEST(!row(home(1)).active);
  // Who has it and asks again could not use it.
  plane->shards.clear();
  BOOST_TEST((fence(grant(1, home(1), 3)) == errc::not_found));
  BOOST_TEST(published_count("SHARD_MISSING") == 1u);
}

BOOST_AUTO_TEST_CASE(a_renewal_says_how_many_leases_it_is_for) {
  start();
  make(home(1));
  make(home(2));
  BOOST_REQUIRE((fence(grant(1, home(1), 1)) == errc::none));
  BOOST_REQUIRE((fence(grant(1, home(2), 1)) == errc::none));
  auto terms =
    ask<std::vector<renewal_terms>>(tier(), atom::renew_v, tier_renewal{0, {{holder_id{1}, 45s}, {holder_id{2}, 45s}}});
  BOOST_REQUIRE(terms);
  BOOST_TEST(terms->at(0).leases == 2u);
  BOOST_TEST(terms->at(1).leases == 0u);
  BOOST_TEST((terms->at(1).term == 0s));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
