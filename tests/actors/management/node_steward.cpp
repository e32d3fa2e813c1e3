#include "actors/management/node_steward.hpp"

#include <boost/test/unit_test.hpp>

#include "runtime/catalog/records.hpp"
#include "tests/actors/management/management_fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

/// Takes what it is asked to move, refuses it, or carries it out as the test says.
struct moves_world {
  std::vector<migration_progress> running;
  std::deque<errc> refusals;
  uint64_t next = 1;
};

migration_supervisor_actor::behavior_type fake_migrations(migration_supervisor_actor::pointer,
                                                          std::shared_ptr<moves_world> w) {
  auto none = [](atom::cancel, migration_id) -> caf::result<migration_progress> { return make_error(errc::not_found); };
  return {
    [w](atom::start, const migration_spec& x) -> caf::result<std::vector<migration_id>> {
      if (auto e = tier_world::next(w->refusals); e != errc::none)
        return make_error(e, "as the test says");
      for (const auto& other : w->running)
        if (other.record.shard == shard_id{x.volume, x.first})
          return make_error(errc::already_exists);
      migration_progress made;
      made.record.id = migration_id{w->next++};
      made.record.shard = {x.volume, x.first};
      made.record.from_tier = "fast";
      made.record.to_tier = x.to_tier;
      w->running.push_back(made);
      return std::vector<migration_id>{made.record.id};
    },
    none,
    [](atom::pause, migration_id) -> caf::result<migration_progress> { return make_error(errc::not_found); },
    [](atom::resume, migration_id) -> caf::result<migration_progress> { return make_error(errc::not_found); },
    [w](atom::list) { return w->running; },
  };
}

membership_actor::behavior_type fake_membership(membership_actor::pointer,
                                                std::shared_ptr<std::vector<member_info>> x) {
  return {
    [](atom::join, const node_announcement&) { return std::string{"a"}; },
    [x](atom::list) { return *x; },
  };
}

/// Node a has "ram" and "fast", node b "far"; a and c manage.
struct steward_fixture : management_fixture {
  steward_fixture() {
    tier_settings far;
    far.store.name = "far";
    far.store.kind = tier_kind::file;
    far.capacity_bytes = 1ull << 40;
    far.node = "b";
    options.name = "a";
    options.tiers.push_back(far);
    options.cluster.name = "lab";
    options.cluster.nodes = {{"a", {true, true, true}, {"h", 1}, {"h", 2}},
                             {"b", {false, true, true}, {"h", 3}, {"h", 4}},
                             {"c", {true, false, false}, {"h", 5}, {"h", 6}}};
    auto& w = tiers["far"] = std::make_shared<tier_world>();
    w->info.name = "far";
    w->info.capacity_bytes = far.capacity_bytes;
    w->info.state = "up";
    // Once more, with the cluster.
    for (auto& path : context->directory->list(""))
      kill(context->directory->get<caf::actor>(path));
    make_context();
    for (auto& [name, world] : tiers)
      put(path::tier(name), spawn(fake_tier, world));
    put(path::catalog, spawn(catalog, context));
    put(path::placement, spawn(placement, context));
    put(path::volumes, spawn(volume_directory, context));
    put(path::migrations, spawn(fake_migrations, moves));
    put(path::membership, spawn(fake_membership, members));
    *members = {member("a", member_state::up), member("b", member_state::up), member("c", member_state::up)};
    start();
  }

  static member_info member(const char* name, member_state state) {
    member_info x;
    x.node = name;
    x.state = state;
    return x;
  }
  void start() {
    steward = put(path::nodes, spawn(node_steward, context));
    advance(2s);
  }
  /// Shards of a volume pinned to "fast", of node a.
  volume_record filled(const std::string& name, uint64_t shards) {
    auto x = spec(name);
    x.tier = "fast";
    auto v = make(x);
    for (uint64_t i = 0; i < shards; ++i)
      BOOST_REQUIRE(ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{i}));
    return v;
  }
  node_condition condition(const std::string& name) {
    auto all = ask<std::vector<node_condition>>(steward, atom::list_v);
    BOOST_REQUIRE(all);
    for (auto& x : *all)
      if (x.node == name)
        return x;
    BOOST_FAIL("no node " + name);
    return {};
  }
  std::string codes(const std::string& node, bool remove) {
    auto verdict = ask<node_verdict>(steward, atom::verify_v, node, remove);
    BOOST_REQUIRE(verdict);
    std::string result;
    for (auto& x : verdict->reasons)
      result += x.code + " ";
    BOOST_TEST(verdict->ok == result.empty());
    return result;
  }
  void change(const std::string& node, bool cordoned, bool draining) {
    BOOST_REQUIRE(ask<node_condition>(steward, atom::change_v, node, cordoned, draining));
  }
  /// Ends the moves that run, as the migration's last step does.
  void finish_moves() {
    for (const auto& x : std::vector<migration_progress>{moves->running}) {
      auto record = x.record;
      auto part = ask<shard_map_part>(volume_of(record.shard.volume), atom::locate_v, record.shard.index, uint64_t{1});
      record.from = part->homes.at(0).of;
      record.to = generation{record.from.value() + 1};
      for (auto state : {migration_state::planned, migration_state::committed}) {
        record.state = state;
        auto made = ask<migration_record>(volume_of(record.shard.volume), atom::commit_v, record);
        if (!made)
          BOOST_FAIL(to_string(code_of(made.error())) + (": " + context_of(made.error())));
      }
      std::erase_if(moves->running, [&](auto& y) { return y.record.id == record.id; });
    }
  }

  std::shared_ptr<moves_world> moves = std::make_shared<moves_world>();
  std::shared_ptr<std::vector<member_info>> members = std::make_shared<std::vector<member_info>>();
  node_steward_actor steward;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(the_node_steward, steward_fixture)

BOOST_AUTO_TEST_CASE(nothing_new_is_placed_on_a_cordoned_node_also_after_restarts) {
  change("a", true, false);
  auto v = filled("vm1", 4); // pinned to a tier of a: but that gets nothing now
  auto part = ask<shard_map_part>(volume_of(v.id), atom::locate_v, shard_index{0}, uint64_t{4});
  for (auto& x : part->homes)
    BOOST_TEST(x.tier == "far");
  kill(find<placement_actor>(path::placement));
  put(path::placement, spawn(placement, context));
  kill(steward);
  start();
  BOOST_TEST(condition("a").cordoned);
  BOOST_TEST(!condition("a").draining);
  BOOST_TEST(ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{9})->tier == "far");
  change("b", true, false);
  BOOST_TEST((refusal<shard_home>(volume_of(v.id), atom::create_v, shard_index{10}) == errc::tier_full));
  change("a", false, false);
  BOOST_TEST(ask<shard_home>(volume_of(v.id), atom::create_v, shard_index{11})->tier == "fast");
  BOOST_TEST((refusal<node_condition>(steward, atom::change_v, std::string{"x"}, true, false) == errc::not_found));
}

BOOST_AUTO_TEST_CASE(a_drain_moves_everything_some_at_a_time_and_says_how_far_it_is) {
  auto v = filled("vm1", 200);
  change("a", false, true);
  BOOST_TEST(condition("a").cordoned);
  advance(4s);
  BOOST_TEST(moves->running.size() == 64u);
  for (auto& x : moves->running)
    BOOST_TEST(x.record.to_tier == "far");
  BOOST_TEST(condition("a").shards == 200u);
  BOOST_TEST(condition("a").moving == 64u);
  BOOST_TEST(published_count("NODE_DRAINED") == 0u);
  for (int i = 0; i < 5; ++i) {
    finish_moves();
    advance(3s);
  }
  BOOST_TEST(condition("a").shards == 0u);
  BOOST_TEST(published_count("NODE_DRAINED") == 1u);
  BOOST_TEST(moves->next == 201u);
}

BOOST_AUTO_TEST_CASE(a_drain_that_is_taken_back_moves_no_more) {
  filled("vm1", 100);
  change("a", false, true);
  advance(3s);
  finish_moves();
  change("a", false, false);
  advance(5s);
  BOOST_TEST(moves->running.empty());
  BOOST_TEST(!condition("a").cordoned);
}

BOOST_AUTO_TEST_CASE(a_drain_goes_on_after_a_restart_and_says_what_does_not_go) {
  filled("vm1", 3);
  change("a", false, true);
  kill(steward);
  start();
  advance(3s);
  BOOST_TEST(condition("a").draining);
  BOOST_TEST(moves->running.size() == 3u);
  moves->running.clear(); // all of them aborted
  moves->refusals = {errc::tier_full, errc::tier_full, errc::already_exists};
  for (int i = 0; i < 50 && condition("a").stuck == 0; ++i)
    advance(100ms);
  BOOST_TEST(condition("a").stuck == 2u);
  BOOST_TEST(condition("a").problem.find("tier_full") == 0u);
  advance(5s);
  BOOST_TEST(moves->running.size() == 3u);
  BOOST_TEST(condition("a").stuck == 0u);
}

BOOST_AUTO_TEST_CASE(nothing_is_stopped_or_taken_away_that_others_need) {
  BOOST_TEST(codes("a", false) == "");
  auto v = filled("vm1", 2);
  // Nobody uses it now.
  BOOST_TEST(codes("a", false) == "");
  BOOST_TEST(codes("a", true) == "NODE_HAS_SHARDS ");
  BOOST_TEST(codes("b", true) == "");
  BOOST_REQUIRE(ask<volume_record>(volume_of(v.id), atom::attach_v, volume_attachment{holder_id{5}, "b"}, false));
  BOOST_TEST(codes("a", false) == "NODE_HAS_USED_SHARDS ");
  BOOST_TEST(codes("b", false) == "NODE_HOSTS_VOLUMES ");
  migration_progress move;
  move.record.from_tier = "far";
  move.record.to_tier = "ram";
  moves->running = {move};
  BOOST_TEST(codes("b", true) == "NODE_HOSTS_VOLUMES NODE_MOVES_SHARDS ");
  BOOST_TEST(codes("a", true) == "NODE_HAS_SHARDS NODE_MOVES_SHARDS ");
  moves->running.clear();
  (*members)[2].state = member_state::suspect;
  BOOST_TEST(codes("a", true) == "NODE_HAS_SHARDS LAST_MANAGER ");
  BOOST_TEST(codes("c", true) == "");
  BOOST_TEST((refusal<node_verdict>(steward, atom::verify_v, std::string{"x"}, true) == errc::not_found));
}

BOOST_AUTO_TEST_SUITE_END()
