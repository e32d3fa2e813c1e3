// What a node answers for in its cluster.

#include <future>

#include <boost/test/unit_test.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "runtime/rpc/cluster_health.hpp"
#include "runtime/rpc/gateway.hpp"
#include "tests/runtime/rpc/sharing_config.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

struct asked {
  std::string host;
  bool shared = false, force = false;
  uint64_t resized = 0;
};

volume_record vm1() {
  volume_record x;
  x.id = volume_id{7};
  x.spec = {"vm1", 64ull << 20, 4ull << 20, false, "", sensitivity::normal};
  x.attachments = {{holder_id{1}, "a"}, {holder_id{2}, "b"}};
  return x;
}

volume_actor::behavior_type fake_volume(volume_actor::pointer) {
  return {
    [](atom::get) { return volume_info{vm1(), 1, 0, "", 0, true, false}; },
    [](atom::locate, shard_index first, uint64_t count) {
      shard_map_part x{first, shard_index{first.value() + count}, {}};
      if (first.value() == 0)
        x.homes = {{{volume_id{7}, shard_index{1}}, "slow", generation{1}, epoch{1}},
                   {{volume_id{7}, shard_index{2}}, "lost", generation{1}, epoch{1}}};
      return x;
    },
    [](atom::create, shard_index) -> caf::result<shard_home> { return make_error(errc::unsupported); },
    [](atom::commit, const migration_record&) -> caf::result<migration_record> {
      return make_error(errc::unsupported);
    },
    [](atom::resize, uint64_t) { return vm1(); },
    [](atom::attach, const volume_attachment&, bool) { return vm1(); },
    [](atom::detach, holder_id) { return vm1(); },
    [](atom::remove) { return vm1(); },
  };
}

volume_directory_actor::behavior_type fake_volumes(volume_directory_actor::pointer, volume_actor volume) {
  return {
    [](atom::create, const volume_spec&) { return vm1(); },
    [](atom::get, const std::string&) { return vm1(); },
    [volume](atom::open, volume_id) { return volume; },
    [](atom::list) { return std::vector<volume_record>{vm1()}; },
  };
}

attachments_actor::behavior_type fake_attachments(attachments_actor::pointer, std::shared_ptr<asked> seen) {
  return {
    [seen](atom::attach, volume_id id, const std::string& host, bool shared) {
      seen->host = host;
      seen->shared = shared;
      return attachment{id, holder_id{1}, "uri-" + host, "/" + host, host};
    },
    [seen](atom::detach, volume_id, const std::string& host, bool force) {
      seen->host = host;
      seen->force = force;
    },
    [seen](atom::resize, volume_id, uint64_t size) { seen->resized = size; },
    [](atom::list) {
      return std::vector<attachment>{{volume_id{7}, holder_id{1}, "uri-a", "/a", "a"},
                                     {volume_id{7}, holder_id{2}, "uri-b", "/b", "b"}};
    },
  };
}

membership_actor::behavior_type fake_membership(membership_actor::pointer, std::string version) {
  return {
    [](atom::join, const node_announcement&) -> caf::result<std::string> { return make_error(errc::unsupported); },
    [version](atom::list) {
      return std::vector<member_info>{{"a", "manager", member_state::up, 1, version, {}, "", "", 1}};
    },
  };
}

monitor_actor::behavior_type fake_monitor(monitor_actor::pointer, std::string leader) {
  return {
    [leader](atom::get) {
      node_status x;
      x.node = leader;
      x.findings = {{"TIER_FAILED", "error", "slow"}};
      return x;
    },
    [](atom::list, uint64_t) { return std::vector<event>{}; },
    [](atom::publish, const event&) {},
  };
}

/// Node b, with what it would find of its managers a and c.
struct cluster_fixture {
  cluster_fixture() {
    options.timeout = options.timeout_long = 5s;
    options.node = "b";
    options.cluster = "lab";
    options.managers = {"a", "c"};
    options.tiers = {"fast", "slow"};
    options.tier_nodes = {{"fast", "a"}, {"slow", "c"}};
    keep(path::volumes, system.spawn(fake_volumes, system.spawn(fake_volume)));
    keep(path::attachments, system.spawn(fake_attachments, seen));
  }
  ~cluster_fixture() {
    directory->clear();
    system.await_actors_before_shutdown(false);
  }

  template <class Actor>
  void keep(const std::string& at, Actor actor) {
    directory->put(at, actor);
  }

  template <class T, class Ask>
  std::pair<caf::error, T> ask(Ask ask) {
    gateway::parts parts;
    parts.system = &system;
    parts.directory = directory;
    parts.why_not_managing = [] { return "joined to nobody"; };
    parts.leader = [this] { return leader; };
    gateway to{parts, options};
    auto said = std::make_shared<std::promise<std::pair<caf::error, T>>>();
    auto result = said->get_future();
    ask(to, answer<T>{[said](caf::error e, T x) { said->set_value({std::move(e), std::move(x)}); }});
    BOOST_REQUIRE((result.wait_for(20s) == std::future_status::ready));
    return result.get();
  }
  std::pair<caf::error, cluster_view> status() {
    return ask<cluster_view>([](gateway& to, auto done) { to.cluster_status(done); });
  }
  std::pair<caf::error, attachment> attach(const std::string& host, bool shared = false) {
    return ask<attachment>([=](gateway& to, auto done) { to.volume_attach("vm1", host, shared, done); });
  }

  sharing_config config;
  caf::actor_system system{config};
  std::shared_ptr<varve::directory> directory = std::make_shared<varve::directory>();
  std::shared_ptr<asked> seen = std::make_shared<asked>();
  gateway_options options;
  std::string leader;
};

std::vector<std::string> codes(const cluster_view& x) {
  std::vector<std::string> all;
  for (const auto& f : x.findings)
    all.push_back(f.code);
  return all;
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(rpc_in_a_cluster, cluster_fixture)

BOOST_AUTO_TEST_CASE(a_volume_is_attached_at_the_host_that_is_named_or_at_the_one_that_is_asked) {
  BOOST_TEST(attach("").second.host == "b");
  BOOST_TEST(!seen->shared);
  BOOST_TEST(attach("a", true).second.uri == "uri-a");
  BOOST_TEST(seen->shared);
  BOOST_TEST(!ask<nothing>([](gateway& to, auto done) { to.volume_detach("vm1", true, "a", done); }).first);
  BOOST_TEST((seen->host == "a" && seen->force));
  // The only one, whichever that is: who knows it decides.
  BOOST_TEST(!ask<nothing>([](gateway& to, auto done) { to.volume_detach("vm1", false, "", done); }).first);
  BOOST_TEST((seen->host.empty() && !seen->force));
  options.is_host = false;
  const auto refused = attach("").first;
  BOOST_TEST((code_of(refused) == errc::invalid_argument));
  BOOST_TEST(context_of(refused) == "node b is no host: say at which node");
  BOOST_TEST(attach("a").second.host == "a");
}

BOOST_AUTO_TEST_CASE(every_host_is_told_of_a_new_size) {
  auto x = ask<volume_info>([](gateway& to, auto done) { to.volume_resize("vm1", 64 << 20, done); });
  BOOST_TEST(!x.first);
  BOOST_TEST(seen->resized == 64u << 20);
  // Attached at two: shown as it is here.
  BOOST_TEST(x.second.uri == "uri-b");
}

BOOST_AUTO_TEST_CASE(shards_and_tiers_say_whose_they_are) {
  auto shards = ask<shard_rows>([](gateway& to, auto done) { to.shard_list("vm1", 0, 10, done); }).second.shards;
  BOOST_REQUIRE(shards.size() == 2u);
  BOOST_TEST(shards[0].node == "c");
  BOOST_TEST(shards[1].node == ""); // on a tier that the configuration does not have
  auto tiers = ask<std::vector<tier_row>>([](gateway& to, auto done) { to.tier_list(done); }).second;
  BOOST_REQUIRE(tiers.size() == 2u);
  BOOST_TEST(tiers[0].node == "a");
  BOOST_TEST(tiers[1].node == "c");
}

BOOST_AUTO_TEST_CASE(a_volume_that_two_hosts_have_is_listed_with_the_address_that_is_here) {
  auto all = ask<std::vector<volume_info>>([](gateway& to, auto done) { to.volume_list(done); }).second;
  BOOST_REQUIRE(all.size() == 1u);
  BOOST_TEST(all[0].uri == "uri-b");
  options.node = "d";
  all = ask<std::vector<volume_info>>([](gateway& to, auto done) { to.volume_list(done); }).second;
  BOOST_TEST(!all[0].uri.empty());
  BOOST_TEST(!all[0].clients_known); // only the host counts them
}

BOOST_AUTO_TEST_CASE(the_members_are_those_that_the_leader_sees) {
  keep(path::membership_of("a"), system.spawn(fake_membership, "of-a"));
  keep(path::membership_of("c"), system.spawn(fake_membership, "of-c"));
  keep(path::monitor, system.spawn(fake_monitor, "c"));
  auto x = status();
  BOOST_REQUIRE(!x.first);
  BOOST_TEST(x.second.leader == "c");
  BOOST_TEST(x.second.seen_by == "c");
  BOOST_TEST(x.second.members.at(0).version == "of-c");
  BOOST_TEST(x.second.cluster == "lab");
  BOOST_TEST(x.second.node == "b");
  BOOST_TEST((codes(x.second) == std::vector<std::string>{"TIER_FAILED"}));
  BOOST_TEST(x.second.health == "error");
}

BOOST_AUTO_TEST_CASE(without_a_leader_any_manager_tells_of_the_members) {
  auto x = status();
  BOOST_TEST((code_of(x.first) == errc::unavailable));
  BOOST_TEST(context_of(x.first) == "node b reaches no manager of cluster lab: joined to nobody");
  keep(path::membership_of("c"), system.spawn(fake_membership, "of-c"));
  x = status();
  BOOST_REQUIRE(!x.first);
  BOOST_TEST(x.second.leader == "");
  BOOST_TEST(x.second.seen_by == "c");
  BOOST_TEST((codes(x.second) == std::vector<std::string>{"NO_LEADER"}));
  // A manager that waits knows who leads, though it does not have that one's actors.
  options.node = "a";
  leader = "c";
  keep(path::membership, system.spawn(fake_membership, "of-a"));
  x = status();
  BOOST_TEST(x.second.leader == "c");
  BOOST_TEST(x.second.seen_by == "c");
  directory->remove(path::membership_of("c"), directory->get<caf::actor>(path::membership_of("c")).address());
  BOOST_TEST(status().second.seen_by == "a");
  BOOST_TEST(status().second.health == "ok");
}

BOOST_AUTO_TEST_CASE(what_is_wrong_with_a_cluster_has_stable_codes) {
  cluster_view x;
  x.leader = "a";
  x.members = {{"a", "manager", member_state::up, 1, "1", {}, "", "", 1},
               {"b", "host", member_state::suspect, 1, "2", {}, "", "", 1},
               {"c", "storage", member_state::unknown, 0, "", {}, "", "", 0},
               {"d", "storage", member_state::down, 1, "3", {}, "", "", 1}};
  auto y = x;
  assess(y);
  BOOST_TEST((codes(y) == std::vector<std::string>{"NODE_DOWN", "NODE_SUSPECT", "NODE_NEVER_SEEN", "VERSIONS_DIFFER"}));
  BOOST_TEST(y.health == "error");
  BOOST_TEST(y.findings.back().text == "the nodes run 1, 2"); // one that is down runs nothing
  // What the manager has said of a node already is not said again.
  y = x;
  y.members.erase(y.members.begin() + 1, y.members.begin() + 3);
  y.findings = {{"NODE_DOWN", "error", "node d is down: its tiers are"}};
  assess(y);
  BOOST_TEST((codes(y) == std::vector<std::string>{"NODE_DOWN"}));
  y = x;
  y.members.resize(1);
  assess(y);
  BOOST_TEST(y.health == "ok");
  y.leader.clear();
  assess(y);
  BOOST_TEST(y.health == "error");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
