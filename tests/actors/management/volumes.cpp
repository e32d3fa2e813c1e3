#include <boost/test/unit_test.hpp>

#include "runtime/catalog/records.hpp"
#include "tests/actors/management/management_fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

BOOST_FIXTURE_TEST_SUITE(volumes_and_their_directory, management_fixture)

BOOST_AUTO_TEST_CASE(a_volume_is_found_by_name_and_by_id_also_after_a_restart) {
  auto made = make(spec("vm1"));
  BOOST_TEST(made.id.value() == 1u);
  BOOST_TEST(made.spec.shard_size == shard_size_default);
  restart_volumes();
  for (auto name : {"vm1", "1"}) {
    auto found = ask<volume_record>(volumes(), atom::get_v, std::string{name});
    BOOST_REQUIRE(found);
    BOOST_TEST((found->id == made.id));
    BOOST_TEST(found->created_at == made.created_at);
  }
  BOOST_TEST((refusal<volume_record>(volumes(), atom::get_v, std::string{"vm2"}) == errc::not_found));
  BOOST_TEST((refusal<volume_record>(volumes(), atom::get_v, std::string{"2"}) == errc::not_found));
  BOOST_TEST((refusal<volume_actor>(volumes(), atom::open_v, volume_id{2}) == errc::not_found));
  BOOST_TEST(ask<std::vector<volume_record>>(volumes(), atom::list_v)->size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_name_is_given_once) {
  make(spec("vm1"));
  BOOST_TEST((refusal<volume_record>(volumes(), atom::create_v, spec("vm1")) == errc::already_exists));
}

BOOST_AUTO_TEST_CASE(what_makes_no_volume_is_refused) {
  auto refused = [this](volume_spec x) { return refusal<volume_record>(volumes(), atom::create_v, x); };
  for (auto name : {"", "-a", ".a", "a b", "a/b", "\xc3\xa4"})
    BOOST_TEST((refused(spec(name)) == errc::invalid_argument), name);
  BOOST_TEST((refused(spec(std::string(64, 'a'))) == errc::invalid_argument));
  BOOST_TEST((refused(spec(std::string(63, 'a'))) == errc::none));
  for (uint64_t size : {0ull, 511ull, 1000ull, (64ull << 40) + 512})
    BOOST_TEST((refused(spec("v", size)) == errc::invalid_argument), size);
  auto x = spec("v");
  for (uint64_t size : {1ull << 17, 3ull << 20, 1ull << 31}) {
    x.shard_size = size;
    BOOST_TEST((refused(x) == errc::invalid_argument), size);
  }
  x = spec("v");
  x.tier = "tape";
  BOOST_TEST((refused(x) == errc::not_found));
  x.tier = "ram";
  BOOST_TEST((refused(x) == errc::volatile_tier));
  x.is_volatile = true;
  BOOST_TEST((refused(x) == errc::none));
}

BOOST_AUTO_TEST_CASE(there_is_a_bound_on_volumes) {
  options.volumes_max = 2;
  make_context();
  kill(volumes());
  put(path::volumes, spawn(volume_directory, context));
  make(spec("a"));
  make(spec("b"));
  BOOST_TEST((refusal<volume_record>(volumes(), atom::create_v, spec("c")) == errc::limit_reached));
}

BOOST_AUTO_TEST_CASE(volumes_made_at_the_same_time_get_different_numbers) {
  std::vector<pending<volume_record>> asked;
  for (int i = 0; i < 20; ++i)
    asked.push_back(begin<volume_record>(volumes(), atom::create_v, spec("v" + std::to_string(i % 19))));
  advance(10ms);
  std::set<volume_id> ids;
  for (auto& x : asked)
    if (x.code() == errc::none)
      ids.insert(x.get()->id);
  BOOST_TEST(ids.size() == 19u);
  BOOST_TEST((asked[19].code() == errc::already_exists));
}

BOOST_AUTO_TEST_CASE(a_volume_of_64_TiB_costs_one_commit_and_no_shards) {
  const auto before = store->commits();
  auto made = make(spec("huge", 64ull << 40));
  BOOST_TEST(store->commits() == before + 1);
  auto part = ask<shard_map_part>(volume_of(made.id), atom::locate_v, shard_index{0}, uint64_t{1});
  BOOST_REQUIRE(part);
  BOOST_TEST(part->end.value() == (64ull << 40) / shard_size_default);
  BOOST_TEST(ask<volume_info>(volume_of(made.id), atom::get_v)->shards == 0u);
}

BOOST_AUTO_TEST_CASE(a_shard_is_made_once_and_found_after_a_restart) {
  auto v = make(spec("vm1"));
  // Asked for at the same time: one creation.
  auto one = begin<shard_home>(volume_of(v.id), atom::create_v, shard_index{3});
  auto two = begin<shard_home>(volume_of(v.id), atom::create_v, shard_index{3});
  advance(10ms);
  BOOST_REQUIRE((one.code() == errc::none && two.code() == errc::none));
  BOOST_TEST(one.get()->tier == "fast");
  BOOST_TEST((one.get()->of == generation{1}));
  BOOST_TEST(tiers["fast"]->shards.size() == 1u);
  kill(volume_of(v.id));
  advance(1s);
  auto again = ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{3});
  BOOST_REQUIRE(again);
  BOOST_TEST((again->of == generation{1}));
  auto info = ask<volume_info>(volume_of(v.id), atom::get_v);
  BOOST_TEST(info->shards == 1u);
  BOOST_TEST(info->allocated_bytes == 4096u);
}

BOOST_AUTO_TEST_CASE(what_a_tier_does_not_say_is_unknown_and_not_nothing) {
  auto v = make(spec("vm1"));
  auto info = [&] { return *ask<volume_info>(volume_of(v.id), atom::get_v); };
  // Nobody needs to be asked.
  BOOST_TEST(info().contents_known);
  BOOST_TEST(info().shards_known());
  BOOST_REQUIRE(ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{3}));
  BOOST_TEST(info().contents_known);
  BOOST_TEST(info().allocated_bytes == 4096u);
  tiers["fast"]->list_refusals = {errc::unavailable};
  auto starting = info();
  BOOST_TEST(!starting.contents_known);
  BOOST_TEST(starting.shards == 1u);
  BOOST_TEST(starting.shards_known());
  // It is not waited for as long as who asks for a listing waits.
  tiers["fast"]->silent = true;
  auto silent = ask_for<volume_info>(3s, volume_of(v.id), atom::get_v);
  BOOST_TEST((silent && !silent->contents_known));
  // It has died; then, it is not to be found until it is started again.
  auto dead = find<tier_actor>(path::tier("fast"));
  kill(dead);
  BOOST_TEST(!info().contents_known);
  context->directory->remove(path::tier("fast"), dead.address());
  BOOST_TEST(!info().contents_known);
  BOOST_TEST(info().allocated_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(a_map_larger_than_a_page_is_loaded_whole) {
  auto v = make(spec("vm1", 64ull << 40));
  catalog_batch batch;
  for (uint64_t i = 0; i < 3000; ++i) {
    const shard_home home{{v.id, shard_index{i * 7}}, "fast", generation{1}, epoch{0}};
    batch.changes.push_back({key::shard(home.id), encode(home), false});
  }
  BOOST_REQUIRE(ask<uint64_t>(find<catalog_actor>(path::catalog), atom::commit_v, batch));
  kill(volume_of(v.id));
  advance(1s);
  BOOST_TEST(ask<volume_info>(volume_of(v.id), atom::get_v)->shards == 3000u);
  // A long range is answered in parts.
  auto part = ask<shard_map_part>(volume_of(v.id), atom::locate_v, shard_index{0}, uint64_t{1'000'000});
  BOOST_TEST(part->homes.size() == 1024u);
  BOOST_TEST(part->end.value() == 1024 * 7u);
}

BOOST_AUTO_TEST_CASE(shards_outside_the_volume_are_refused) {
  auto v = make(spec("vm1", 8ull << 20));
  BOOST_TEST((refusal<shard_home>(volume_of(v.id), atom::create_v, shard_index{2}) == errc::invalid_argument));
  BOOST_TEST(
    (refusal<shard_map_part>(volume_of(v.id), atom::locate_v, shard_index{2}, uint64_t{1}) == errc::invalid_argument));
  BOOST_TEST(
    (refusal<shard_map_part>(volume_of(v.id), atom::locate_v, shard_index{0}, uint64_t{0}) == errc::invalid_argument));
}

BOOST_AUTO_TEST_CASE(a_full_tier_refuses_a_new_shard_and_nothing_is_recorded) {
  auto v = make(spec("vm1"));
  tiers["fast"]->create_refusals.assign(10, errc::tier_full);
  BOOST_TEST((refusal<shard_home>(volume_of(v.id), atom::create_v, shard_index{0}) == errc::tier_full));
  tiers["fast"]->create_refusals.clear();
  tiers["fast"]->info.used_bytes = tiers["fast"]->info.capacity_bytes;
  advance(2s);
  BOOST_TEST((refusal<shard_home>(volume_of(v.id), atom::create_v, shard_index{0}) == errc::tier_full));
  tiers["fast"]->info.used_bytes = 0;
  advance(2s);
  BOOST_TEST((refusal<shard_home>(volume_of(v.id), atom::create_v, shard_index{0}) == errc::none));
}

BOOST_AUTO_TEST_CASE(a_file_left_behind_is_passed_over_by_the_next_generation) {
  auto v = make(spec("vm1"));
  tiers["fast"]->create_refusals = {errc::already_exists};
  auto home = ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{0});
  BOOST_REQUIRE(home);
  BOOST_TEST((home->of == generation{2}));
}

BOOST_AUTO_TEST_CASE(a_catalog_that_fails_makes_no_shard) {
  auto v = make(spec("vm1"));
  store->fail_commits(1);
  BOOST_TEST((refusal<shard_home>(volume_of(v.id), atom::create_v, shard_index{0}) == errc::device_failed));
  BOOST_TEST(ask<volume_info>(volume_of(v.id), atom::get_v)->shards == 0u);
  BOOST_TEST((refusal<shard_home>(volume_of(v.id), atom::create_v, shard_index{0}) == errc::none));
}

BOOST_AUTO_TEST_CASE(a_commit_that_hangs_is_looked_up_in_the_catalog) {
  auto v = make(spec("vm1"));
  store->hold(true);
  auto asked = begin<shard_home>(volume_of(v.id), atom::create_v, shard_index{0});
  advance(6s);
  BOOST_TEST((asked.code() == errc::unavailable));
  // It is committed after all.
  store->hold(false);
  advance(2s);
  auto info = ask<volume_info>(volume_of(v.id), atom::get_v);
  BOOST_REQUIRE(info);
  BOOST_TEST(info->shards == 1u);
}

BOOST_AUTO_TEST_CASE(a_volume_grows_and_shrinks_only_where_nothing_is) {
  auto v = make(spec("vm1", 64ull << 20));
  auto resize = [&](uint64_t size) { return refusal<volume_record>(volume_of(v.id), atom::resize_v, size); };
  BOOST_TEST((resize(128ull << 20) == errc::none));
  BOOST_TEST((resize(100) == errc::invalid_argument));
  BOOST_TEST((resize(0) == errc::invalid_argument));
  BOOST_TEST((resize((64ull << 40) + 512) == errc::invalid_argument));
  BOOST_REQUIRE(ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{9}));
  BOOST_TEST((resize((40ull << 20) - 512) == errc::invalid_argument));
  BOOST_TEST((resize(40ull << 20) == errc::none));
  BOOST_REQUIRE(ask<volume_record>(volume_of(v.id), atom::attach_v, volume_attachment{holder_id{5}, "h"}, false));
  BOOST_TEST((resize(44ull << 20) == errc::none));
  BOOST_TEST((resize(40ull << 20) == errc::volume_attached));
  auto record = ask<volume_record>(volumes(), atom::get_v, std::string{"vm1"});
  BOOST_TEST(record->spec.size_bytes == 44ull << 20);
}

BOOST_AUTO_TEST_CASE(one_holder_attaches_at_a_time_unless_it_is_shared) {
  auto v = make(spec("vm1"));
  auto attach = [&](uint64_t holder, const char* host = "a", bool shared = false) {
    return refusal<volume_record>(volume_of(v.id), atom::attach_v, volume_attachment{holder_id{holder}, host}, shared);
  };
  BOOST_TEST((attach(0) == errc::invalid_argument));
  BOOST_TEST((attach(5, "") == errc::invalid_argument));
  BOOST_TEST((attach(5) == errc::none));
  BOOST_TEST((attach(5) == errc::none));
  BOOST_TEST((attach(6) == errc::volume_attached));
  restart_volumes();
  auto record = ask<volume_record>(volumes(), atom::get_v, std::string{"vm1"});
  BOOST_REQUIRE(record->of(holder_id{5}));
  BOOST_TEST((attach(6) == errc::volume_attached));
  BOOST_TEST((attach(6, "b") == errc::volume_attached));
  BOOST_TEST((attach(6, "a", true) == errc::volume_attached));
  BOOST_TEST((attach(5, "b", true) == errc::volume_attached));
  BOOST_TEST((attach(6, "b", true) == errc::none));
  BOOST_REQUIRE(ask<volume_record>(volume_of(v.id), atom::detach_v, holder_id{5}));
  BOOST_REQUIRE(ask<volume_record>(volume_of(v.id), atom::detach_v, holder_id{5}));
  record = ask<volume_record>(volumes(), atom::get_v, std::string{"vm1"});
  BOOST_REQUIRE(record->attachments.size() == 1u);
  BOOST_TEST(record->at("b"));
}

BOOST_AUTO_TEST_CASE(a_removal_frees_the_name_at_once_and_the_shards_in_the_background) {
  auto v = make(spec("vm1", 4ull << 30));
  for (uint64_t i = 0; i < 200; ++i)
    BOOST_REQUIRE(ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{i}));
  BOOST_REQUIRE(ask<volume_record>(volume_of(v.id), atom::attach_v, volume_attachment{holder_id{5}, "h"}, false));
  BOOST_TEST((refusal<volume_record>(volume_of(v.id), atom::remove_v) == errc::volume_attached));
  BOOST_REQUIRE(ask<volume_record>(volume_of(v.id), atom::detach_v, holder_id{5}));
  tiers["fast"]->remove_refusals = {errc::none, errc::unavailable, errc::device_failed};
  auto removed = ask<volume_record>(volume_of(v.id), atom::remove_v);
  BOOST_REQUIRE(removed);
  BOOST_TEST(removed->removing);
  BOOST_TEST((make(spec("vm1")).id == volume_id{2}));
  advance(5s);
  BOOST_TEST(tiers["fast"]->shards.empty());
  BOOST_TEST(!volume_of(v.id));
  BOOST_TEST((refusal<volume_record>(volumes(), atom::get_v, std::string{"1"}) == errc::not_found));
  auto left =
    ask<catalog_page>(find<catalog_actor>(path::catalog), atom::list_v, key::shards(v.id), std::string{}, uint64_t{10});
  BOOST_TEST(left->entries.empty());
}

BOOST_AUTO_TEST_CASE(a_removal_goes_on_after_a_restart) {
  auto v = make(spec("vm1", 4ull << 30));
  for (uint64_t i = 0; i < 100; ++i)
    BOOST_REQUIRE(ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{i}));
  tiers["fast"]->remove_refusals.assign(60, errc::unavailable);
  BOOST_REQUIRE(ask<volume_record>(volume_of(v.id), atom::remove_v));
  BOOST_TEST((refusal<shard_home>(volume_of(v.id), atom::create_v, shard_index{900}) == errc::not_found));
  restart_volumes();
  advance(10s);
  BOOST_TEST(tiers["fast"]->shards.empty());
  BOOST_TEST(ask<std::vector<volume_record>>(volumes(), atom::list_v)->empty());
}

BOOST_AUTO_TEST_CASE(a_migration_is_journalled_with_the_new_home_in_one_batch) {
  auto v = make(spec("vm1"));
  auto home = *ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{0});
  migration_record x;
  x.id = migration_id{1};
  x.shard = home.id;
  x.from_tier = "fast";
  x.to_tier = "slow";
  x.from = home.of;
  x.to = generation{2};
  auto commit = [&] { return refusal<migration_record>(volume_of(v.id), atom::commit_v, x); };
  for (auto state :
       {migration_state::planned, migration_state::copying, migration_state::catching_up, migration_state::switching}) {
    const auto before = store->lazy_commits();
    x.state = state;
    BOOST_TEST((commit() == errc::none));
    // How far it came nobody relies on.
    BOOST_TEST(store->lazy_commits() == before + 1);
  }
  const auto before = store->commits(), lazy_before = store->lazy_commits();
  x.state = migration_state::committed;
  BOOST_TEST((commit() == errc::none));
  BOOST_TEST(store->commits() == before + 1);
  // Said again after a restart of whoever says it.
  BOOST_TEST((commit() == errc::none));
  auto part = ask<shard_map_part>(volume_of(v.id), atom::locate_v, shard_index{0}, uint64_t{1});
  BOOST_TEST(part->homes.front().tier == "slow");
  BOOST_TEST((part->homes.front().of == generation{2}));
  // To abort it now would throw away the only home.
  x.state = migration_state::aborted;
  BOOST_TEST((commit() == errc::conflict));
  // From where it is not any more.
  x.id = migration_id{2};
  x.to = generation{3};
  x.state = migration_state::planned;
  BOOST_TEST((commit() == errc::conflict));
  x.state = migration_state::aborted;
  BOOST_TEST((commit() == errc::none));
  // How it ended decides where the data is: power loss must not take that back.
  BOOST_TEST(store->lazy_commits() == lazy_before);
}

BOOST_AUTO_TEST_CASE(numbers_that_many_ask_for_at_once_are_taken_in_few_commits_and_never_given_twice) {
  auto catalog = find<catalog_actor>(path::catalog);
  const std::string counter = "meta/next-thing";
  BOOST_TEST(*ask<uint64_t>(catalog, atom::acquire_v, counter, uint64_t{3}) == 1u);
  BOOST_TEST(*ask<uint64_t>(catalog, atom::acquire_v, counter, uint64_t{1}) == 4u);
  const auto commits = store->commits();
  std::vector<pending<uint64_t>> asked;
  for (uint64_t i = 0; i < 1000; ++i)
    asked.push_back(begin<uint64_t>(catalog, atom::acquire_v, counter, i % 3 + 1));
  run();
  std::set<uint64_t> given;
  for (uint64_t i = 0; i < 1000; ++i) {
    BOOST_REQUIRE((asked[i].code() == errc::none));
    for (uint64_t n = 0; n <= i % 3; ++n)
      BOOST_TEST(given.insert(*asked[i].get() + n).second);
  }
  BOOST_TEST(*given.begin() == 5u);
  BOOST_TEST(*given.rbegin() == 4 + given.size());
  BOOST_TEST(store->commits() - commits <= 3u);
  // Another manager is faster, a few times; too often; and the catalog is damaged.
  auto other_takes = [&](const std::string& left) {
    catalog_batch batch;
    batch.changes.push_back({counter, left, false});
    store->commit(batch, [](catalog_result) {});
  };
  for (const int races : {3, 100}) {
    auto x = begin<uint64_t>(catalog, atom::acquire_v, counter, uint64_t{1});
    uint64_t next = 10'000;
    for (int i = 0; i < races && !x.done() && sched.has_job(); ++i) {
      sched.run_once();
      other_takes(std::to_string(++next));
    }
    run();
    BOOST_TEST((x.code() == (races == 3 ? errc::none : errc::conflict)));
    if (races == 3)
      BOOST_TEST(*x.get() > 10'000u);
  }
  other_takes("0");
  BOOST_TEST((refusal<uint64_t>(catalog, atom::acquire_v, counter, uint64_t{1}) == errc::bad_format));
  other_takes("7");
  store->fail_commits(1);
  BOOST_TEST((refusal<uint64_t>(catalog, atom::acquire_v, counter, uint64_t{1}) == errc::device_failed));
  BOOST_TEST(*ask<uint64_t>(catalog, atom::acquire_v, counter, uint64_t{1}) == 7u);
  // At its end it does not begin anew.
  other_takes(std::to_string(UINT64_MAX - 2));
  BOOST_TEST((refusal<uint64_t>(catalog, atom::acquire_v, counter, uint64_t{5}) == errc::limit_reached));
  BOOST_TEST(*ask<uint64_t>(catalog, atom::acquire_v, counter, uint64_t{2}) == UINT64_MAX - 2);
  BOOST_TEST((refusal<uint64_t>(catalog, atom::acquire_v, counter, uint64_t{1}) == errc::limit_reached));
}

BOOST_AUTO_TEST_CASE(only_so_many_wait_for_numbers_of_a_counter) {
  auto catalog = find<catalog_actor>(path::catalog);
  uint64_t refused = 0, given = 0;
  system.spawn([&](caf::event_based_actor* self) {
    for (int i = 0; i < 65'540; ++i)
      self->request(catalog, caf::infinite, atom::acquire_v, std::string{"meta/next-thing"}, uint64_t{1})
        .then([&](uint64_t) { ++given; }, [&](const caf::error& e) { refused += code_of(e) == errc::limit_reached; });
  });
  run();
  BOOST_TEST(given + refused == 65'540u);
  BOOST_TEST(refused == 4u);
}

BOOST_AUTO_TEST_CASE(an_incarnation_is_higher_each_time) {
  auto catalog = find<catalog_actor>(path::catalog);
  const auto first = *ask<uint64_t>(catalog, atom::get_v);
  kill(catalog);
  catalog = put(path::catalog, spawn(varve::catalog, context));
  BOOST_TEST(*ask<uint64_t>(catalog, atom::get_v) == first + 1);
  catalog_batch batch;
  batch.compare.push_back({key::incarnation, 1});
  BOOST_TEST((refusal<uint64_t>(catalog, atom::commit_v, batch) == errc::conflict));
  store->fail_commits(1);
  BOOST_TEST((refusal<uint64_t>(catalog, atom::get_v) == errc::device_failed));
}

BOOST_AUTO_TEST_SUITE_END()
