#include "actors/migration/migration_supervisor.hpp"

#include <boost/test/unit_test.hpp>

#include "actors/management/volume.hpp"
#include "actors/node_root.hpp"
#include "runtime/catalog/records.hpp"
#include "tests/actors/fixture.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

/// A node with a fake data plane: all real actors, one attached volume "vm1", whose first shards exist on "fast".
struct migration_fixture : actor_fixture {
  migration_fixture() {
    for (auto name : {"fast", "slow", "memory"}) {
      tier_settings x;
      x.store.name = name;
      x.store.kind = std::string(name) == "memory" ? tier_kind::memory : tier_kind::file;
      x.capacity_bytes = 64 << 20;
      options.tiers.push_back(x);
    }
    options.shard_size = shard_size_min;
    options.migrations.running_max = 2;
    make_context();
  }

  void start(uint64_t shards = 3) {
    root = spawn(node_root, context);
    advance(200ms);
    if (store->commits() > 2 && shards == 0)
      return;
    volume_spec spec;
    spec.name = "vm1";
    spec.size_bytes = 64 * shard_size_min;
    spec.shard_size = shard_size_min;
    spec.tier = "fast";
    auto record = ask<volume_record>(find<volume_directory_actor>(path::volumes), atom::create_v, spec);
    BOOST_REQUIRE(record);
    volume = record->id;
    BOOST_REQUIRE(ask<attachment>(find<host_supervisor_actor>(path::host), atom::attach_v, volume, false));
    if (shards > 0) {
      plane->need(volume, shard_index{0}, shards, true);
      advance(500ms);
    }
    for (uint64_t i = 0; i < shards; ++i) {
      BOOST_REQUIRE(route_of(i));
      BOOST_REQUIRE(route_of(i)->tier == "fast");
    }
  }

  migration_supervisor_actor migrations() { return find<migration_supervisor_actor>(path::migrations); }
  const route* route_of(uint64_t index) { return plane->find_route(volume, shard_index{index}); }

  caf::expected<std::vector<migration_id>> move(uint64_t first, uint64_t count, const std::string& to) {
    return ask<std::vector<migration_id>>(migrations(), atom::start_v,
                                          migration_spec{volume, shard_index{first}, count, to});
  }
  errc move_refusal(uint64_t first, uint64_t count, const std::string& to) {
    auto x = move(first, count, to);
    return x ? errc::none : code_of(x.error());
  }
  std::vector<migration_progress> list() {
    auto x = ask<std::vector<migration_progress>>(migrations(), atom::list_v);
    return x ? *x : std::vector<migration_progress>{};
  }
  migration_progress progress(migration_id id) {
    for (auto& x : list())
      if (x.record.id == id)
        return x;
    return {};
  }
  bool over(migration_id id) { return progress(id).record.ended_at != 0; }
  shard_home home_of(uint64_t index) {
    shard_home x;
    auto volumes = find<volume_directory_actor>(path::volumes);
    auto actor = ask<volume_actor>(volumes, atom::open_v, volume);
    auto part = ask<shard_map_part>(*actor, atom::locate_v, shard_index{index}, uint64_t{1});
    for (auto& home : part->homes)
      if (home.id.index.value() == index)
        x = home;
    return x;
  }
  /// Copying takes so many rounds more than one.
  void slow_copy(size_t rounds) {
    for (size_t i = 0; i < rounds; ++i)
      plane->rounds.push_back({.copied_bytes = 4096, .blocks_verified = 1, .remaining_bytes = 4096 * (rounds - i)});
  }
  size_t calls(const std::string& name) const {
    return static_cast<size_t>(std::count(plane->calls.begin(), plane->calls.end(), name));
  }
  /// Answers the data plane's calls one by one until one of that name is waiting.
  void hold_at(const std::string& name, size_t nth = 1) {
    for (int i = 0; i < 10'000 && calls(name) < nth; ++i) {
      run();
      if (calls(name) >= nth)
        break;
      if (!plane->release())
        advance(10ms);
    }
    BOOST_REQUIRE(calls(name) >= nth);
    run();
  }

  node_root_self root;
  volume_id volume;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(migration_supervisor_, migration_fixture)

BOOST_AUTO_TEST_CASE(a_shard_moves_and_its_vm_follows) {
  start();
  slow_copy(5);
  auto ids = move(1, 1, "slow");
  BOOST_REQUIRE(ids);
  BOOST_REQUIRE(ids->size() == 1u);
  advance(500ms);
  auto x = progress(ids->front());
  BOOST_TEST((x.record.state == migration_state::committed));
  BOOST_TEST(x.percent == 100);
  BOOST_TEST(x.record.ended_at != 0u);
  BOOST_TEST(x.blocks_verified == 5u);
  BOOST_TEST(x.gate_closed.count() > 0);
  BOOST_TEST(home_of(1).tier == "slow");
  BOOST_TEST(home_of(1).of.value() == 2u);
  BOOST_TEST(home_of(0).tier == "fast");
  BOOST_REQUIRE(route_of(1));
  BOOST_TEST(route_of(1)->tier == "slow");
  BOOST_TEST(route_of(1)->generation.value() == 2u);
  BOOST_TEST(route_of(1)->writable);
  auto info = ask<tier_info>(find<tier_actor>(path::tier("slow")), atom::get_v);
  BOOST_TEST(info->shards == 1u);
  BOOST_TEST(info->used_bytes == 0u); // its reservation is given back
}

BOOST_AUTO_TEST_CASE(what_cannot_be_moved_is_refused_and_says_why) {
  start();
  BOOST_TEST((move_refusal(0, 1, "nowhere") == errc::not_found));
  BOOST_TEST((move_refusal(0, 0, "slow") == errc::invalid_argument));
  BOOST_TEST((move_refusal(30, 5, "slow") == errc::not_found));
  BOOST_TEST((move_refusal(0, 1, "memory") == errc::volatile_tier));
  volume = volume_id{99};
  BOOST_TEST((move_refusal(0, 1, "slow") == errc::not_found));
}

BOOST_AUTO_TEST_CASE(what_is_there_already_needs_no_migration) {
  start();
  auto ids = move(0, 3, "fast");
  BOOST_REQUIRE(ids);
  BOOST_TEST(ids->empty());
}

BOOST_AUTO_TEST_CASE(a_full_destination_refuses_before_anything_begins) {
  start();
  BOOST_REQUIRE((refusal<caf::unit_t>(find<tier_actor>(path::tier("slow")), atom::reserve_v,
                                      shard_id{volume_id{50}, shard_index{0}}, uint64_t{64 << 20}) == errc::none));
  BOOST_TEST((move_refusal(0, 3, "slow") == errc::tier_full));
  BOOST_TEST(calls("begin_move") == 0u);
  BOOST_TEST(list().empty());
  // And nothing is left behind: with room it goes.
  BOOST_REQUIRE((refusal<caf::unit_t>(find<tier_actor>(path::tier("slow")), atom::reserve_v,
                                      shard_id{volume_id{50}, shard_index{0}}, uint64_t{0}) == errc::none));
  BOOST_TEST((move_refusal(0, 3, "slow") == errc::none));
}

BOOST_AUTO_TEST_CASE(a_shard_is_moved_by_one_migration_at_a_time) {
  start();
  plane->hold(true);
  auto first = move(0, 1, "slow");
  if (!first) {
    plane->hold(false);
    first = move(0, 1, "slow");
  }
  hold_at("copy_some");
  BOOST_TEST((move_refusal(0, 1, "slow") == errc::already_exists));
  plane->hold(false);
  advance(500ms);
  BOOST_TEST(home_of(0).tier == "slow");
  BOOST_TEST((move_refusal(0, 1, "fast") == errc::none));
  advance(500ms);
  BOOST_TEST(home_of(0).tier == "fast");
  BOOST_TEST(home_of(0).of.value() == 3u);
}

BOOST_AUTO_TEST_CASE(only_so_many_run_at_a_time_and_all_get_their_turn) {
  start(8);
  plane->hold(true);
  auto ids = move(0, 8, "slow");
  BOOST_REQUIRE(ids);
  BOOST_TEST(ids->size() == 8u);
  hold_at("copy_some", 2);
  advance(100ms);
  BOOST_TEST(plane->moves.size() == 2u);
  plane->hold(false);
  advance(3s);
  for (uint64_t i = 0; i < 8; ++i)
    BOOST_TEST(home_of(i).tier == "slow");
}

BOOST_AUTO_TEST_CASE(a_cancelled_migration_ends_at_the_source) {
  start();
  slow_copy(50);
  plane->hold(true);
  auto ids = move(0, 1, "slow");
  BOOST_REQUIRE(ids);
  hold_at("copy_some", 3);
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::cancel_v, ids->front()) == errc::none));
  plane->hold(false);
  advance(500ms);
  auto x = progress(ids->front());
  BOOST_TEST((x.record.state == migration_state::aborted));
  BOOST_TEST(x.record.reason.rfind("cancelled", 0) == 0u);
  BOOST_TEST(x.percent < 100);
  BOOST_TEST(home_of(0).tier == "fast");
  BOOST_TEST(calls("copy_some") == 3u);
  BOOST_TEST(plane->shards.count({"slow", {volume, shard_index{0}}, generation{2}}) == 0u);
  BOOST_TEST(published_count("MIGRATION_ABORTED") == 1u);
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::cancel_v, ids->front()) == errc::conflict));
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::pause_v, migration_id{999}) == errc::not_found));
  // What was given up may be asked for again.
  plane->rounds.clear();
  BOOST_TEST((move_refusal(0, 1, "slow") == errc::none));
  advance(500ms);
  BOOST_TEST(home_of(0).tier == "slow");
}

BOOST_AUTO_TEST_CASE(one_that_mirrors_says_so_until_it_is_over) {
  start(1);
  plane->rounds.push_back({.copied_bytes = 4096, .remaining_bytes = 1 << 20, .mirroring = true});
  plane->hold(true);
  auto ids = move(0, 1, "slow");
  BOOST_REQUIRE(ids);
  hold_at("copy_some", 2);
  BOOST_TEST(progress(ids->front()).mirroring);
  plane->hold(false);
  advance(1s);
  BOOST_TEST(over(ids->front()));
  BOOST_TEST(!progress(ids->front()).mirroring);
}

BOOST_AUTO_TEST_CASE(one_that_waits_for_its_turn_can_be_cancelled_and_paused) {
  start(4);
  plane->hold(true);
  auto ids = move(0, 4, "slow");
  BOOST_REQUIRE(ids);
  hold_at("copy_some", 2);
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::pause_v, (*ids)[2]) == errc::none));
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::cancel_v, (*ids)[3]) == errc::none));
  plane->hold(false);
  advance(2s);
  BOOST_TEST(home_of(0).tier == "slow");
  BOOST_TEST(home_of(2).tier == "fast");
  BOOST_TEST(home_of(3).tier == "fast");
  BOOST_TEST(over((*ids)[3]));
  BOOST_TEST(progress((*ids)[2]).paused);
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::resume_v, (*ids)[2]) == errc::none));
  advance(1s);
  BOOST_TEST(home_of(2).tier == "slow");
}

BOOST_AUTO_TEST_CASE(a_paused_migration_copies_nothing_until_it_is_resumed) {
  start();
  slow_copy(50);
  plane->hold(true);
  auto ids = move(0, 1, "slow");
  BOOST_REQUIRE(ids);
  hold_at("copy_some", 2);
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::pause_v, ids->front()) == errc::none));
  plane->hold(false);
  advance(5s);
  BOOST_TEST(calls("copy_some") == 2u);
  BOOST_TEST(progress(ids->front()).paused);
  const auto percent = progress(ids->front()).percent;
  BOOST_TEST(percent > 0);
  // Also when it is started again meanwhile.
  kill(find<caf::actor>(path::migrations + "/" + std::to_string(ids->front().value())));
  advance(5s);
  BOOST_TEST(calls("copy_some") == 2u);
  BOOST_TEST(progress(ids->front()).percent >= percent);
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::resume_v, ids->front()) == errc::none));
  advance(1s);
  BOOST_TEST(home_of(0).tier == "slow");
}

BOOST_AUTO_TEST_CASE(a_paused_migration_can_be_cancelled) {
  start();
  slow_copy(50);
  plane->hold(true);
  auto ids = move(0, 1, "slow");
  BOOST_REQUIRE(ids);
  hold_at("copy_some", 2);
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::pause_v, ids->front()) == errc::none));
  plane->hold(false);
  advance(1s);
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::cancel_v, ids->front()) == errc::none));
  advance(1s);
  BOOST_TEST(over(ids->front()));
  BOOST_TEST(home_of(0).tier == "fast");
}

BOOST_AUTO_TEST_CASE(a_copy_that_fails_for_good_is_aborted_with_the_reason) {
  start();
  plane->fail_next["copy_some"] = errc::tier_full;
  auto ids = move(0, 1, "slow");
  BOOST_REQUIRE(ids);
  advance(500ms);
  auto x = progress(ids->front());
  BOOST_TEST((x.record.state == migration_state::aborted));
  BOOST_TEST(x.record.reason.rfind("tier_full", 0) == 0u);
  BOOST_TEST(home_of(0).tier == "fast");
}

BOOST_AUTO_TEST_CASE(a_copy_that_fails_for_now_is_begun_again) {
  start();
  plane->fail_next["copy_some"] = errc::unavailable;
  auto ids = move(0, 1, "slow");
  BOOST_REQUIRE(ids);
  advance(1s);
  BOOST_TEST(home_of(0).tier == "slow");
  BOOST_TEST(calls("begin_move") == 2u);
}

BOOST_AUTO_TEST_CASE(a_catalog_that_refuses_the_commit_for_a_while_is_asked_again_with_the_gate_closed) {
  start();
  plane->hold(true);
  auto ids = move(0, 1, "slow");
  BOOST_REQUIRE(ids);
  hold_at("switch_move");
  store->fail_commits(2);
  plane->hold(false);
  advance(3s);
  BOOST_TEST(home_of(0).tier == "slow");
  BOOST_TEST((progress(ids->front()).record.state == migration_state::committed));
  BOOST_TEST(calls("switch_move") == 1u);
}

BOOST_AUTO_TEST_CASE(a_migration_that_dies_at_any_step_goes_on) {
  for (auto at : {"begin_move", "copy_some", "switch_move", "end_move"}) {
    migration_fixture x;
    x.start();
    x.slow_copy(3);
    x.plane->hold(true);
    auto ids = x.move(0, 1, "slow");
    BOOST_REQUIRE(ids);
    x.hold_at(at);
    x.kill(x.find<caf::actor>(path::migrations + "/" + std::to_string(ids->front().value())));
    x.plane->hold(false);
    x.advance(3s);
    BOOST_TEST(x.home_of(0).tier == "slow", at);
    BOOST_TEST(x.over(ids->front()), at);
    BOOST_TEST(x.plane->moves.empty(), at);
    BOOST_TEST(x.route_of(0)->tier == "slow", at);
  }
}

BOOST_AUTO_TEST_CASE(a_supervisor_that_dies_resumes_all_from_the_journal) {
  for (auto at : {"begin_move", "copy_some", "switch_move", "end_move"}) {
    migration_fixture x;
    x.start(6);
    x.slow_copy(3);
    x.plane->hold(true);
    auto ids = x.move(0, 6, "slow");
    BOOST_REQUIRE(ids);
    x.hold_at(at);
    x.kill(x.migrations());
    x.plane->hold(false);
    x.advance(5s);
    for (uint64_t i = 0; i < 6; ++i)
      BOOST_TEST(x.home_of(i).tier == "slow", at << " shard " << i);
    BOOST_TEST(x.list().size() == 6u);
    BOOST_TEST(x.plane->moves.empty());
  }
}

BOOST_AUTO_TEST_CASE(what_was_committed_and_not_ended_is_ended_after_a_restart) {
  migration_record record;
  record.id = migration_id{5};
  record.shard = {volume_id{1}, shard_index{0}};
  record.from_tier = "fast";
  record.to_tier = "slow";
  record.from = generation{1};
  record.to = generation{2};
  record.state = migration_state::committed;
  catalog_batch batch;
  batch.changes.push_back({key::migration(record.id), encode(record), false});
  auto aborted = record;
  aborted.id = migration_id{6};
  aborted.shard.index = shard_index{1};
  aborted.state = migration_state::aborted;
  batch.changes.push_back({key::migration(aborted.id), encode(aborted), false});
  store->commit(batch, [](catalog_result) {});
  for (auto& tier : {"fast", "slow"})
    for (uint64_t i = 0; i < 2; ++i)
      plane->shards[{tier, {volume_id{1}, shard_index{i}}, generation{tier == std::string("fast") ? 1u : 2u}}];
  root = spawn(node_root, context);
  advance(3s);
  BOOST_TEST(calls("end_move") == 2u);
  BOOST_TEST(plane->shards.count({"fast", record.shard, generation{1}}) == 0u);
  BOOST_TEST(plane->shards.count({"slow", record.shard, generation{2}}) == 1u);
  BOOST_TEST(plane->shards.count({"fast", aborted.shard, generation{1}}) == 1u);
  BOOST_TEST(plane->shards.count({"slow", aborted.shard, generation{2}}) == 0u);
  BOOST_TEST(over(record.id));
  BOOST_TEST(over(aborted.id));
  // Once and for all.
  kill(migrations());
  advance(3s);
  BOOST_TEST(calls("end_move") == 2u);
  BOOST_TEST(list().size() == 2u);
}

BOOST_AUTO_TEST_CASE(unfinished_sinks_of_nobody_are_removed_and_unknown_files_left_alone) {
  start();
  shard_header sink{{volume, shard_index{0}}, shard_size_min, generation{7}};
  sink.incomplete = true;
  const shard_header stray{{volume, shard_index{1}}, shard_size_min, generation{9}};
  // Sealed for the generation that is home: its removal was not durable yet. For another: who knows.
  shard_header replaced{{volume, shard_index{2}}, shard_size_min, generation{5}};
  replaced.sealed_by = migration_id{5};
  replaced.sealed_for = generation{1};
  auto sealed = stray;
  sealed.generation = generation{8};
  sealed.sealed_by = migration_id{5};
  sealed.sealed_for = generation{9};
  const shard_header stranger{{volume_id{77}, shard_index{1}}, shard_size_min, generation{1}};
  scans["slow"].shards = {sink, stray, replaced, sealed, stranger};
  scans["slow"].allocated_bytes = {0, 0, 0, 0, 0};
  for (auto& x : scans["slow"].shards)
    plane->shards[{"slow", x.id, x.generation}].header = x;
  kill(root);
  advance(100ms);
  root = spawn(node_root, context);
  advance(5s);
  BOOST_TEST(plane->shards.count({"slow", sink.id, sink.generation}) == 0u);
  BOOST_TEST(plane->shards.count({"slow", replaced.id, replaced.generation}) == 0u);
  BOOST_TEST(plane->shards.count({"slow", stray.id, stray.generation}) == 1u);
  BOOST_TEST(plane->shards.count({"slow", sealed.id, sealed.generation}) == 1u);
  BOOST_TEST(plane->shards.count({"slow", stranger.id, stranger.generation}) == 1u);
  BOOST_TEST(published_count("LEFTOVER_REMOVED") == 2u);
  BOOST_TEST(published_count("SHARD_FILE_UNKNOWN") == 3u);
}

BOOST_AUTO_TEST_CASE(a_tier_is_swept_again_when_a_volume_could_not_answer) {
  shard_header sink{{volume_id{77}, shard_index{0}}, shard_size_min, generation{7}};
  sink.incomplete = true;
  // What another volume has said is not asked, nor told, again.
  const shard_header stranger{{volume_id{78}, shard_index{1}}, shard_size_min, generation{1}};
  scans["slow"].shards = {sink, stranger};
  scans["slow"].allocated_bytes = {0, 0};
  for (auto& x : scans["slow"].shards)
    plane->shards[{"slow", x.id, x.generation}].header = x;
  // One whose shard map is still being read when it is asked first.
  auto asked = std::make_shared<int>(0);
  context->directory->put(
    path::volume(77), spawn([asked](volume_homes_actor::pointer) {
      return volume_homes_actor::behavior_type{
        [asked](atom::locate, const std::vector<shard_index>&) -> caf::result<std::vector<shard_home>> {
          if (++*asked == 1)
            return make_error(errc::unavailable, "loading");
          return std::vector<shard_home>{};
        }};
    }));
  root = spawn(node_root, context);
  advance(5s);
  BOOST_TEST(*asked == 2);
  BOOST_TEST(published_count("LEFTOVER_REMOVED") == 1u);
  BOOST_TEST(published_count("SHARD_FILE_UNKNOWN") == 1u);
}

BOOST_AUTO_TEST_CASE(a_volume_that_never_answers_is_asked_less_and_less_often) {
  shard_header sink{{volume_id{77}, shard_index{0}}, shard_size_min, generation{7}};
  sink.incomplete = true;
  scans["slow"].shards = {sink};
  scans["slow"].allocated_bytes = {0};
  auto asked = std::make_shared<int>(0);
  context->directory->put(
    path::volume(77), spawn([asked](volume_homes_actor::pointer) {
      return volume_homes_actor::behavior_type{
        [asked](atom::locate, const std::vector<shard_index>&) -> caf::result<std::vector<shard_home>> {
          ++*asked;
          return make_error(errc::unavailable, "loading");
        }};
    }));
  root = spawn(node_root, context);
  advance(600s);
  BOOST_TEST(*asked > 10);
  BOOST_TEST(*asked < 30);
}

BOOST_AUTO_TEST_CASE(a_few_tiers_are_swept_at_a_time) {
  options.tiers.clear();
  shard_header sink{{volume_id{77}, shard_index{0}}, shard_size_min, generation{1}};
  sink.incomplete = true;
  for (uint64_t i = 0; i < 9; ++i) {
    tier_settings x;
    x.store.name = "t" + std::to_string(i);
    x.store.kind = tier_kind::file;
    x.capacity_bytes = 64 << 20;
    options.tiers.push_back(x);
    sink.id.index = shard_index{i};
    scans[x.store.name].shards = {sink};
    scans[x.store.name].allocated_bytes = {0};
  }
  make_context();
  for (auto& [tier, scan] : scans)
    for (auto& x : scan.shards)
      plane->shards[{tier, x.id, x.generation}].header = x;
  // A volume that takes its time.
  using slow_volume = volume_homes_actor::extend<caf::reacts_to<atom::tick>>;
  using homes_promise = caf::typed_response_promise<std::vector<shard_home>>;
  auto waiting = std::make_shared<std::vector<homes_promise>>();
  auto volume_77 = spawn([waiting](slow_volume::pointer self) {
    return slow_volume::behavior_type{[waiting, self](atom::locate, const std::vector<shard_index>&) {
                                        return waiting->emplace_back(
                                          self->make_response_promise<std::vector<shard_home>>());
                                      },
                                      [waiting](atom::tick) {
                                        for (auto& x : std::exchange(*waiting, {}))
                                          x.deliver(std::vector<shard_home>{});
                                      }};
  });
  context->directory->put(path::volume(77), volume_77);
  root = spawn(node_root, context);
  for (const size_t expected : {4u, 4u, 1u}) {
    advance(2s);
    BOOST_TEST(waiting->size() == expected);
    caf::anon_send(volume_77, atom::tick_v);
  }
  advance(1s);
  BOOST_TEST(published_count("LEFTOVER_REMOVED") == 9u);
}

BOOST_AUTO_TEST_CASE(sinks_of_nobody_are_found_among_thousands_of_shards_on_many_tiers) {
  // Shards of one volume, more than a part of its map, on more tiers than are swept at a time, on one more than its
  // volume is asked for at once; one of each, the last, is a sink.
  constexpr uint64_t tiers = 9, crowd = 4600, shards = crowd + 9 * 60;
  for (uint64_t i = 0; i < tiers; ++i) {
    tier_settings x;
    x.store.name = "t" + std::to_string(i);
    x.store.kind = tier_kind::file;
    x.capacity_bytes = 1ull << 40;
    options.tiers.push_back(x);
  }
  make_context();
  volume_record record;
  record.id = volume_id{1};
  record.spec.name = "large";
  record.spec.shard_size = shard_size_min;
  record.spec.size_bytes = shards * shard_size_min;
  catalog_batch batch;
  batch.changes.push_back({key::volume(record.id), encode(record), false});
  for (uint64_t i = 0; i < shards; ++i) {
    shard_header x{{record.id, shard_index{i}}, shard_size_min, generation{1}};
    const auto tier = "t" + std::to_string(i < crowd ? 0 : i % tiers);
    batch.changes.push_back({key::shard(x.id), encode(shard_home{x.id, tier, x.generation, {}}), false});
    auto add = [&](const std::string& to) {
      scans[to].shards.push_back(x);
      scans[to].allocated_bytes.push_back(0);
      plane->shards[{to, x.id, x.generation}].header = x;
    };
    add(tier);
    if (i < shards - tiers)
      continue;
    x.generation = generation{2};
    x.incomplete = true;
    add("t" + std::to_string((i + 1) % tiers));
  }
  store->commit(batch, [](catalog_result) {});
  root = spawn(node_root, context);
  advance(5s);
  BOOST_TEST(published_count("LEFTOVER_REMOVED") == tiers);
  BOOST_TEST(published_count("SHARD_FILE_UNKNOWN") == 0u);
  BOOST_TEST(plane->shards.size() == shards);
}

BOOST_AUTO_TEST_CASE(of_those_that_ended_only_the_latest_are_kept) {
  options.migrations.ended_max = 3;
  make_context();
  start(6);
  BOOST_REQUIRE(move(0, 6, "slow"));
  advance(3s);
  BOOST_TEST(list().size() == 3u);
  kill(migrations());
  advance(3s);
  BOOST_TEST(list().size() == 3u);
}

BOOST_AUTO_TEST_CASE(a_long_journal_is_pruned_in_batches_that_every_store_takes) {
  options.migrations.ended_max = 3;
  make_context();
  catalog_batch batch;
  for (uint64_t i = 1; i <= 300; ++i) {
    migration_record record;
    record.id = migration_id{i};
    record.shard = {volume_id{1}, shard_index{i}};
    record.state = migration_state::committed;
    record.ended_at = 1;
    batch.changes.push_back({key::migration(record.id), encode(record), false});
  }
  store->commit(batch, [](catalog_result) {});
  store->refuse_larger(127); // as etcd does
  root = spawn(node_root, context);
  advance(3s);
  BOOST_TEST(list().size() == 3u);
  size_t left = 0;
  store->list(key::migrations, {}, 1000, [&](const catalog_result& x) { left = x.entries.size(); });
  BOOST_TEST(left == 3u);
}

BOOST_FIXTURE_TEST_CASE(a_move_whose_source_is_not_served_stands_and_keeps_nobody_waiting, migration_fixture) {
  start();
  auto ids = move(0, 1, "slow");
  BOOST_REQUIRE(ids);
  advance(5s);
  BOOST_REQUIRE(over(ids->front()));
  // As a crash in the middle of the next leaves it, on a disk that is not there at the next start.
  migration_record left;
  left.id = migration_id{100};
  left.shard = {volume, shard_index{1}};
  left.from_tier = "fast";
  left.to_tier = "slow";
  left.from = generation{1};
  left.to = generation{2};
  left.state = migration_state::copying;
  kill(root);
  advance(100ms);
  bool taken = false;
  store->commit({{}, {{key::migration(left.id), encode(left), false}}},
                [&](const catalog_result& x) { taken = x.status == errc::none; });
  BOOST_REQUIRE(taken);
  options.tiers[0].refused = "not mounted";
  make_context();
  root = spawn(node_root, context);
  advance(10s);
  auto x = progress(left.id);
  BOOST_TEST((x.record.state == migration_state::copying));
  BOOST_TEST(x.last_error == "tier fast is not served");
  BOOST_TEST((refusal<migration_progress>(migrations(), atom::cancel_v, left.id) == errc::unavailable));
  BOOST_TEST((move_refusal(2, 1, "slow") == errc::unavailable));
  // What lives elsewhere serves: what was moved away, and new shards.
  plane->need(volume, shard_index{0}, 1, true);
  advance(2s);
  BOOST_REQUIRE(route_of(0));
  BOOST_TEST(route_of(0)->tier == "slow");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
