#include <boost/test/unit_test.hpp>

#include "actors/node_root.hpp"
#include "runtime/catalog/records.hpp"
#include "tests/actors/fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

/// A whole node over a data plane that takes notes and a catalog in memory.
struct node_fixture : actor_fixture {
  node_fixture() {
    for (auto* name : {"ram", "fast", "slow"}) {
      tier_settings x;
      x.store.name = name;
      x.store.kind = std::string{name} == "ram" ? tier_kind::memory : tier_kind::file;
      x.capacity_bytes = 1ull << 40;
      options.tiers.push_back(x);
    }
    options.socket_folder = "/nowhere";
    make_context();
    // What the program does: start the root again when it ends with a reason, events go to the monitor.
    root = spawn(node_root, context);
    advance(1s);
  }

  volume_record make(const std::string& name) {
    volume_spec spec;
    spec.name = name;
    spec.size_bytes = 1ull << 30;
    auto made = ask<volume_record>(find<volume_directory_actor>(path::volumes), atom::create_v, spec);
    BOOST_REQUIRE(made);
    return *made;
  }
  attachment attach(volume_id id) {
    auto attached = ask<attachment>(find<host_supervisor_actor>(path::host), atom::attach_v, id, false);
    BOOST_REQUIRE(attached);
    return *attached;
  }
  /// What a VM's request would bring about: a route with the right.
  bool route_comes(volume_id id, uint64_t index, bool write) {
    for (int i = 0; i < 30; ++i) {
      const auto* route = plane->find_route(id, shard_index{index});
      if (route && (!write || route->writable) && route->valid_until > now())
        return true;
      plane->need(id, shard_index{index}, 1, write);
      advance(1s);
    }
    return false;
  }
  std::vector<std::string> paths() { return context->directory->list(""); }

  node_root_actor root;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(a_node, node_fixture)

BOOST_AUTO_TEST_CASE(all_actors_are_listed_and_alive) {
  auto rows = ask<std::vector<actor_info>>(root, atom::list_v);
  BOOST_REQUIRE(rows);
  std::set<std::string> alive;
  for (const auto& x : *rows)
    if (x.alive)
      alive.insert(x.path);
  for (const auto& x :
       {path::catalog, path::volumes, path::leases, path::placement, path::migrations, path::monitor, path::host,
        path::tier("ram"), path::tier("fast"), path::tier("slow"), std::string{"storage"}, std::string{"management"}})
    BOOST_TEST(alive.count(x) == 1u, x);
  BOOST_TEST(ask<node_status>(find<monitor_actor>(path::monitor), atom::get_v)->health == "ok");
}

BOOST_AUTO_TEST_CASE(killing_what_is_not_there_is_refused) {
  BOOST_TEST((refusal<caf::unit_t>(root, atom::kill_v, std::string{"management/nobody"}) == errc::not_found));
}

// Goal: whichever actor dies, the node comes back with its state, and a VM's I/O gets routes again. Method: one volume,
// attached, with one written shard; kill each actor by its path, one at a time, as `console kill` does.
BOOST_AUTO_TEST_CASE(every_actor_heals_when_it_is_killed) {
  auto v = make("vm1");
  const auto before = attach(v.id);
  BOOST_REQUIRE(route_comes(v.id, 0, true));
  for (const auto& path : paths()) {
    BOOST_TEST_CONTEXT("killing " << path) {
      // It may have ended with another's death before it, as a lease does.
      if (refusal<caf::unit_t>(root, atom::kill_v, path) != errc::none)
        continue;
      advance(1s);
      // Another shard each time: it needs placement, catalog, tier, leases and agent.
      static uint64_t index = 0;
      BOOST_TEST(route_comes(v.id, ++index, true));
      BOOST_TEST(route_comes(v.id, 0, true));
      auto again = ask<attachment>(find<host_supervisor_actor>(path::host), atom::attach_v, v.id, false);
      BOOST_REQUIRE(again);
      BOOST_TEST((again->holder == before.holder));
      auto record = ask<volume_record>(find<volume_directory_actor>(path::volumes), atom::get_v, std::string{"vm1"});
      BOOST_REQUIRE(record);
      BOOST_TEST((record->id == v.id));
      // Its own restart intensity and the leases' terms are not what is tested here.
      advance(60s);
      // A lease may have ended for good with what was killed before.
      if (!path.starts_with(path::leases + "/"))
        BOOST_TEST(!!find<caf::actor>(path));
    }
  }
  BOOST_TEST((refusal<std::vector<actor_info>>(root, atom::list_v) == errc::none));
}

BOOST_AUTO_TEST_CASE(a_child_that_cannot_be_kept_alive_takes_its_supervisor_along_and_that_heals) {
  auto v = make("vm1");
  for (uint64_t i = 0; i <= context->options.restarts.restarts_max; ++i) {
    auto x = find<caf::actor>(path::placement);
    for (int n = 0; !x && n < 100; ++n) {
      advance(100ms);
      x = find<caf::actor>(path::placement);
    }
    BOOST_REQUIRE(!!x);
    kill(x);
  }
  BOOST_TEST(published_count("RESTARTS_EXHAUSTED") >= 1u);
  advance(10s);
  BOOST_TEST(!!find<caf::actor>(path::placement));
  auto record = ask<volume_record>(find<volume_directory_actor>(path::volumes), atom::get_v, std::string{"vm1"});
  BOOST_REQUIRE(record);
  BOOST_TEST((record->id == v.id));
}

BOOST_AUTO_TEST_CASE(a_stop_ends_hosts_first_then_management_then_storage) {
  auto v = make("vm1");
  attach(v.id);
  std::vector<std::string> ended;
  for (const auto& path :
       {std::string{"storage"}, std::string{"management"}, path::host, path::catalog, path::leases, path::tier("fast")})
    caf::actor_cast<caf::abstract_actor*>(find<caf::strong_actor_ptr>(path))->attach_functor([&ended, path] {
      ended.push_back(path);
    });
  BOOST_TEST((ask_for<caf::unit_t>(60s, root, atom::stop_v) == caf::expected<caf::unit_t>{caf::unit}));
  run();
  BOOST_TEST((ended == std::vector<std::string>{path::host, path::leases, path::catalog, "management",
                                                path::tier("fast"), "storage"}));
  BOOST_TEST((refusal<std::vector<actor_info>>(root, atom::list_v) == errc::unavailable));
  BOOST_TEST(context->directory->list("").empty());
  // Attached for good: the next start restores it.
  BOOST_TEST(published_count("ACTOR_KILLED") == 0u);
}

BOOST_AUTO_TEST_CASE(a_killed_root_takes_everything_along_and_the_next_one_finds_all) {
  auto v = make("vm1");
  const auto before = attach(v.id);
  BOOST_REQUIRE(route_comes(v.id, 0, true));
  kill(root);
  advance(1s);
  BOOST_TEST(context->directory->list("").empty());
  root = spawn(node_root, context);
  advance(5s);
  BOOST_TEST(route_comes(v.id, 1, true));
  auto again = ask<attachment>(find<host_supervisor_actor>(path::host), atom::attach_v, v.id, false);
  BOOST_REQUIRE(again);
  BOOST_TEST((again->holder == before.holder));
}

BOOST_AUTO_TEST_SUITE_END()

namespace {

/// A node of several that could manage; told in `leads` whether it may.
struct elected_fixture : actor_fixture {
  elected_fixture() {
    tier_settings x;
    x.store.name = "fast";
    x.store.kind = tier_kind::file;
    x.capacity_bytes = 1ull << 40;
    options.tiers.push_back(x);
    options.socket_folder = "/nowhere";
    make_context();
    auto elected = std::make_shared<node_context>(*context);
    elected->leadership = leads;
    context = std::move(elected);
    root = spawn(node_root, context);
    advance(1s);
  }
  bool manages() {
    for (const auto& x : {path::catalog, path::volumes, path::leases, path::placement, path::migrations, path::monitor})
      if (!find<caf::actor>(x))
        return false;
    return true;
  }
  bool manages_nothing() {
    for (const auto& x : {path::catalog, path::volumes, path::leases, path::placement, path::migrations, path::monitor})
      if (find<caf::actor>(x))
        return false;
    return true;
  }

  std::shared_ptr<leadership> leads = std::make_shared<leadership>();
  node_root_actor root;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(a_node_of_several, elected_fixture)

BOOST_AUTO_TEST_CASE(it_manages_while_it_leads_and_its_other_actors_stay) {
  BOOST_TEST(manages_nothing());
  const auto host = find<caf::actor>(path::host), tier = find<caf::actor>(path::tier("fast"));
  BOOST_TEST((host && tier));
  for (int i = 0; i < 3; ++i) {
    leads->set({true, {}});
    advance(10s);
    BOOST_TEST(manages());
    volume_spec spec;
    spec.name = "vm" + std::to_string(i);
    spec.size_bytes = 1ull << 30;
    BOOST_TEST(!!ask<volume_record>(find<volume_directory_actor>(path::volumes), atom::create_v, spec));
    leads->set({false, "node other leads"});
    run(); // no time passes
    BOOST_TEST(manages_nothing());
    advance(30s);
    BOOST_TEST(manages_nothing());
  }
  BOOST_TEST((find<caf::actor>(path::host) == host));
  BOOST_TEST((find<caf::actor>(path::tier("fast")) == tier));
  BOOST_TEST(published_count("ACTOR_RESTARTED") == 3u);
}

BOOST_AUTO_TEST_CASE(leading_again_at_once_starts_all_anew) {
  leads->set({true, {}});
  advance(1s);
  const auto before = find<caf::actor>(path::leases);
  leads->set({false, "lost"});
  leads->set({true, {}});
  advance(10s);
  BOOST_TEST(manages());
  BOOST_TEST((find<caf::actor>(path::leases) != before));
}

BOOST_AUTO_TEST_CASE(it_stops_in_order_also_while_it_waits) {
  BOOST_TEST((ask_for<caf::unit_t>(60s, root, atom::stop_v) == caf::expected<caf::unit_t>{caf::unit}));
  leads->set({true, {}}); // nobody watches any more
  run();
  BOOST_TEST(manages_nothing());
}

BOOST_AUTO_TEST_SUITE_END()
