// That the rules of a simulated cluster find what breaks them, and nothing else.

#include <boost/test/unit_test.hpp>

#include "runtime/catalog/records.hpp"
#include "tests/simulation/block_history.hpp"
#include "tests/simulation/cluster_checks.hpp"

namespace varve::test {

using namespace std::chrono_literals;

namespace {

std::vector<uint64_t> whole(uint64_t value) {
  return std::vector<uint64_t>(8, value);
}

struct rights_fixture {
  rights_fixture() {
    a = &checks.add([this] { return world.now() + ahead[0]; });
    b = &checks.add([this] { return world.now() + ahead[1]; });
  }
  route of(uint64_t shard, bool writable, uint64_t fence, boot_time lasts = 10s) {
    route x;
    x.first = shard_index{shard};
    x.exists = true;
    x.writable = writable;
    x.generation = generation{1};
    x.fence = epoch{fence};
    x.valid_until = world.now() + lasts;
    return x;
  }
  route run(uint64_t first, uint64_t count, boot_time lasts = 10s) {
    route x;
    x.first = shard_index{first};
    x.count = count;
    x.valid_until = world.now() + lasts;
    return x;
  }
  bool well() const { return checks.violations.empty(); }

  simulated_world world{1};
  boot_time ahead[2]{};
  cluster_checks checks{world};
  plane_watcher *a, *b;
  const volume_id volume{1};
};

} // namespace

BOOST_AUTO_TEST_SUITE(cluster_rules)

BOOST_AUTO_TEST_CASE(a_block_reads_as_the_last_write_that_ended_or_as_one_that_is_under_way) {
  block_history x;
  BOOST_TEST(x.read(whole(0), 1s, 1s) == "");
  x.begin(1, 0, 2s);
  BOOST_TEST(x.read(whole(0), 2s, 3s) == "");
  BOOST_TEST(x.read(whole(1), 2s, 3s) == "");
  x.acknowledged(1, false, 4s);
  BOOST_TEST(x.read(whole(1), 5s, 6s) == "");
  BOOST_TEST(x.read(whole(0), 5s, 6s) != "");
  BOOST_TEST(x.read(whole(7), 5s, 6s) != "");
}

BOOST_AUTO_TEST_CASE(what_one_host_has_seen_another_does_not_see_undone) {
  block_history x;
  x.begin(1, 0, 1s);
  // No answer yet, but it was seen.
  BOOST_TEST(x.read(whole(1), 2s, 3s) == "");
  BOOST_TEST(x.read(whole(0), 4s, 5s) != "");
}

BOOST_AUTO_TEST_CASE(writes_of_two_hosts_at_once_may_stand_in_either_order_but_not_change_it) {
  block_history x;
  x.begin(1, 0, 1s);
  x.begin(2, 1, 1s);
  x.acknowledged(1, false, 5s);
  x.acknowledged(2, false, 5s);
  BOOST_TEST(x.read(whole(1), 6s, 7s) == "");
  // A later write ends the question.
  x.begin(3, 0, 8s);
  x.acknowledged(3, false, 9s);
  BOOST_TEST(x.read(whole(2), 10s, 11s) != "");
  BOOST_TEST(x.read(whole(3), 10s, 11s) == "");
}

BOOST_AUTO_TEST_CASE(power_loss_may_take_what_was_not_flushed_and_nothing_else) {
  block_history x;
  x.begin(1, 0, 1s);
  x.acknowledged(1, false, 2s);
  x.flushed(0, 3s);
  x.begin(2, 0, 4s);
  x.acknowledged(2, false, 5s);
  x.power_lost(5s);
  BOOST_TEST(x.read(whole(2), 6s, 7s) == "");
  BOOST_TEST(x.read(whole(0), 6s, 7s) != "");
  block_history y;
  y.begin(1, 0, 1s);
  y.acknowledged(1, false, 2s);
  y.power_lost(2s);
  std::vector<uint64_t> torn{0, 1, 1, 1, 0, 0, 0, 0};
  BOOST_TEST(y.read(torn, 3s, 4s) == "");
  BOOST_TEST(y.read(whole(0), 3s, 4s) == "");
}

BOOST_AUTO_TEST_CASE(a_flush_does_not_answer_for_whom_power_loss_took_with_his_machine) {
  for (bool at_home : {true, false}) {
    block_history x;
    x.begin(1, 0, 1s);
    x.acknowledged(1, false, 2s);
    x.power_lost(2s, at_home ? 0 : 1);
    // At home it is of a successor. What it writes itself it answers for.
    x.flushed(0, 3s);
    BOOST_TEST((x.read(whole(0), 4s, 5s) == "") == at_home);
    x.begin(2, 0, 6s);
    x.acknowledged(2, false, 7s);
    x.flushed(0, 8s);
    x.power_lost(9s, 0);
    BOOST_TEST(x.read(whole(2), 10s, 11s) == "");
    BOOST_TEST(x.read(whole(1), 10s, 11s) != "");
  }
}

BOOST_AUTO_TEST_CASE(what_was_seen_just_before_power_loss_may_be_gone_after_it) {
  block_history x;
  x.begin(1, 0, 1s);
  x.acknowledged(1, false, 2s);
  x.power_lost(4s, 1);
  // Its answer was on its way when power was lost.
  BOOST_TEST(x.read(whole(1), 3s, 5s) == "");
  BOOST_TEST(x.read(whole(0), 6s, 7s) == "");
}

BOOST_AUTO_TEST_CASE(a_flush_that_lies_is_found) {
  block_history x;
  x.begin(1, 0, 1s);
  x.acknowledged(1, false, 2s);
  x.power_lost(2s);
  // It is gone, and the flush says that it is safe.
  x.flushed(0, 3s);
  BOOST_TEST(x.read(whole(0), 4s, 5s) != "");
  block_history y;
  y.begin(1, 0, 1s);
  y.acknowledged(1, false, 2s);
  y.power_lost(2s);
  y.flush_failed(0, 3s);
  y.flushed(0, 4s);
  BOOST_TEST(y.read(whole(0), 5s, 6s) == "");
}

BOOST_AUTO_TEST_CASE(a_block_is_torn_only_by_power_loss) {
  block_history x;
  x.begin(1, 0, 1s);
  std::vector<uint64_t> torn{0, 1, 1, 1, 1, 1, 1, 1};
  BOOST_TEST(x.read(torn, 2s, 3s) != "");
}

BOOST_FIXTURE_TEST_CASE(two_may_read_a_shard_and_one_may_write_it, rights_fixture) {
  a->routes_set(volume, {of(0, false, 5)});
  b->routes_set(volume, {of(0, false, 5)});
  BOOST_TEST(well());
  a->routes_set(volume, {of(0, true, 5)});
  BOOST_TEST(!well());
}

BOOST_FIXTURE_TEST_CASE(a_fence_takes_the_right_of_who_does_not_know_it_yet, rights_fixture) {
  a->routes_set(volume, {of(0, true, 5)});
  b->fence_raised("t", {volume, shard_index{0}}, generation{1}, epoch{6});
  b->routes_set(volume, {of(0, true, 6)});
  BOOST_TEST(well());
  const auto before = world.now();
  world.set_now(before + 1s);
  // Asked before: it may have been in time.
  checks.done(0, {volume, shard_index{0}}, true, before);
  BOOST_TEST(well());
  checks.done(0, {volume, shard_index{0}}, true, world.now());
  BOOST_TEST(!well());
}

BOOST_FIXTURE_TEST_CASE(without_a_fence_the_old_right_must_be_over, rights_fixture) {
  a->routes_set(volume, {of(0, true, 5)});
  b->routes_set(volume, {of(0, true, 5)});
  BOOST_TEST(!well());
}

BOOST_FIXTURE_TEST_CASE(a_right_that_was_given_back_or_is_over_is_none, rights_fixture) {
  a->routes_set(volume, {of(0, true, 5), of(1, true, 5, 2s)});
  a->routes_dropped(volume, shard_index{0}, 1, a->drop_began());
  b->routes_set(volume, {of(0, true, 5)});
  world.set_now(world.now() + 3s);
  b->routes_set(volume, {of(1, true, 5)});
  BOOST_TEST(well());
  checks.done(0, {volume, shard_index{1}}, true, world.now());
  BOOST_TEST(!well());
}

BOOST_FIXTURE_TEST_CASE(a_right_that_is_given_while_an_older_one_is_dropped_stays, rights_fixture) {
  a->routes_set(volume, {run(0, 4)});
  const auto began = a->drop_began();
  a->routes_set(volume, {of(2, true, 5)});
  a->routes_dropped(volume, shard_index{0}, 4, began);
  world.set_now(world.now() + 1s);
  checks.done(0, {volume, shard_index{2}}, true, world.now());
  BOOST_TEST(well());
  b->routes_set(volume, {of(2, false, 5)});
  BOOST_TEST(!well());
}

BOOST_FIXTURE_TEST_CASE(a_right_to_write_ends_when_only_reading_is_left_of_it, rights_fixture) {
  const auto before = world.now();
  a->routes_set(volume, {of(0, true, 5)});
  world.set_now(before + 1s);
  a->routes_set(volume, {of(0, false, 5)});
  checks.done(0, {volume, shard_index{0}}, true, before);
  BOOST_TEST(well());
  world.set_now(before + 2s);
  checks.done(0, {volume, shard_index{0}}, true, world.now());
  BOOST_TEST(!well());
}

BOOST_FIXTURE_TEST_CASE(who_reads_what_was_never_written_has_stopped_before_another_writes_it, rights_fixture) {
  a->routes_set(volume, {run(0, 8)});
  a->routes_dropped(volume, shard_index{3}, 1, a->drop_began());
  b->routes_set(volume, {of(3, true, 5)});
  BOOST_TEST(well());
  b->routes_set(volume, {of(4, true, 5)});
  BOOST_TEST(!well());
}

BOOST_FIXTURE_TEST_CASE(the_holders_own_clock_says_when_its_right_is_over, rights_fixture) {
  ahead[0] = -2s; // slow: it counts on it for longer
  a->routes_set(volume, {run(0, 8, 5s)});
  world.set_now(world.now() + 6s);
  b->routes_set(volume, {of(4, true, 5)});
  BOOST_TEST(!well());
}

BOOST_FIXTURE_TEST_CASE(a_manager_ends_no_lease_that_its_holder_counts_on, rights_fixture) {
  checks.attached(holder_id{7}, 0);
  a->routes_set(volume, {of(2, true, 5, 3s)});
  checks.lease_expired("holder 8, shard 1.2");
  BOOST_TEST(well());
  checks.lease_expired("holder 7, shard 1.2");
  BOOST_TEST(!well());
  checks.violations.clear();
  world.set_now(world.now() + 4s);
  checks.lease_expired("holder 7, shard 1.2");
  BOOST_TEST(well());
}

BOOST_FIXTURE_TEST_CASE(storage_remembers_the_epochs_that_it_agreed_to, rights_fixture) {
  shard_header x;
  x.id = {volume, shard_index{0}};
  x.generation = generation{1};
  x.fence = epoch{3};
  a->shard_activated("t", x);
  a->fence_raised("t", x.id, x.generation, epoch{6});
  BOOST_TEST(well());
  a->shard_activated("t", x);
  BOOST_TEST(!well());
}

BOOST_FIXTURE_TEST_CASE(a_generation_has_one_home_and_none_comes_back, rights_fixture) {
  auto commit = [&](const std::string& tier, uint64_t of) {
    shard_home home{{volume, shard_index{0}}, tier, generation{of}, epoch{1}};
    catalog_batch batch;
    batch.changes.push_back({key::shard(home.id), encode(home), false});
    checks.committed(batch);
  };
  commit("t", 1);
  commit("u", 2);
  commit("u", 2);
  BOOST_TEST(well());
  commit("t", 2);
  BOOST_TEST(!well());
  checks.violations.clear();
  commit("t", 1);
  BOOST_TEST(!well());
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve::test
