#include <boost/test/unit_test.hpp>
#include <caf/forwarding_actor_proxy.hpp>

#include "tests/actors/cluster/cluster_fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

struct node : cluster_test_node {
  cluster_supervisor_actor supervisor;
  membership_actor managing;
};

/// Of each node its part of the cluster, and of a manager its membership. "s" stands first: it connects.
struct joining_fixture : cluster_fixture<node> {
  joining_fixture() {
    cluster.nodes = {{"s", {false, true, true}, {"h", 5}, {"h", 6}},
                     {"m", {true, false, false}, {"h", 1}, {"h", 2}},
                     {"n", {true, false, false}, {"h", 3}, {"h", 4}}};
  }

  node& start(const std::string& name, uint64_t incarnation = 1) {
    auto& x = make(name, incarnation);
    run(x);
    return x;
  }
  void run(node& x) {
    if (x.context->options.roles.manager) {
      x.managing = spawn(membership, x.context);
      x.context->directory->put(path::membership, x.managing);
    }
    x.supervisor = spawn(cluster_supervisor, x.context);
    actor_fixture::run();
  }
  using actor_fixture::run;

  /// "m:up n:unknown s:up", as a manager sees them.
  std::string seen_by(const std::string& manager) {
    auto all = ask<std::vector<member_info>>(nodes[manager].managing, atom::list_v);
    std::string result;
    if (all)
      for (auto& x : *all)
        result += (result.empty() ? "" : " ") + x.node + ':' + to_string(x.state);
    return result;
  }

  /// Something that answers nothing, under a path of a node's directory.
  caf::actor put(node& x, const std::string& path) {
    auto actor = spawn([](caf::event_based_actor*) { return caf::behavior{[](int) {}}; });
    x.context->directory->put(path, actor);
    return actor;
  }
};

/// As behind a cut: what is sent gets lost, and nothing says so.
struct silent_gate {
  static node_gate_actor::behavior_type make(node_gate_actor::pointer self) {
    return {[self](atom::get) -> caf::typed_response_promise<node_announcement> {
              return self->make_response_promise<node_announcement>();
            },
            [self](atom::join, const node_announcement&,
                   const caf::strong_actor_ptr&) -> caf::typed_response_promise<node_announcement> {
              return self->make_response_promise<node_announcement>();
            },
            [self](atom::open, const std::string&) -> caf::typed_response_promise<caf::strong_actor_ptr> {
              return self->make_response_promise<caf::strong_actor_ptr>();
            }};
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(joining, joining_fixture)

BOOST_AUTO_TEST_CASE(every_manager_hears_every_node_that_lives) {
  start("m");
  start("s");
  advance(3s);
  BOOST_TEST(seen_by("m") == "s:up m:up n:unknown");
  BOOST_TEST(nodes["s"].has_said("PEER_UNREACHABLE: node n: no route to n"));
  start("n");
  advance(5s);
  BOOST_TEST(seen_by("m") == "s:up m:up n:up");
  BOOST_TEST(seen_by("n") == "s:up m:up n:up");
  BOOST_TEST(nodes["m"].has_said("NODE_UP: node s: unknown -> up"));
}

BOOST_AUTO_TEST_CASE(a_node_that_is_cut_off_is_suspect_then_down_and_comes_back_by_itself) {
  start("m");
  auto& s = start("s");
  advance(3s);
  // The connection breaks, and no new one can be made.
  network.cut.insert("s");
  kill(s.context->directory->get<caf::actor>(path::peer("m")));
  advance(3s);
  BOOST_TEST(seen_by("m") == "s:suspect m:up n:unknown");
  advance(8s);
  BOOST_TEST(seen_by("m") == "s:down m:up n:unknown");
  BOOST_TEST(!s.context->directory->get<caf::actor>(path::membership_of("m")));
  network.cut.clear();
  advance(4s);
  BOOST_TEST(seen_by("m") == "s:up m:up n:unknown");
  BOOST_TEST(nodes["m"].times("NODE_SUSPECT") == 1u);
  BOOST_TEST(nodes["m"].times("NODE_DOWN") == 1u);
}

BOOST_AUTO_TEST_CASE(who_tries_for_long_to_connect_says_it_once_and_tries_no_more_than_each_two_seconds) {
  auto& s = start("s");
  advance(60s);
  BOOST_TEST(s.times("PEER_UNREACHABLE: node m") == 1u);
  BOOST_TEST(network.tries["m"] >= 25);
  BOOST_TEST(network.tries["m"] <= 40);
}

BOOST_AUTO_TEST_CASE(an_orderly_end_is_told_and_a_restart_is_another_life) {
  start("m");
  auto& s = start("s");
  advance(3s);
  caf::anon_send_exit(s.supervisor, caf::exit_reason::user_shutdown);
  advance(100ms);
  BOOST_TEST(seen_by("m") == "s:down m:up n:unknown");
  nodes.erase("s");
  start("s", 2);
  advance(3s);
  BOOST_TEST(seen_by("m") == "s:up m:up n:unknown");
  auto all = ask<std::vector<member_info>>(nodes["m"].managing, atom::list_v);
  BOOST_REQUIRE(all);
  BOOST_TEST((*all)[0].joins == 2u);
  BOOST_TEST((*all)[0].incarnation == 2u);
}

BOOST_AUTO_TEST_CASE(an_actor_that_restarts_is_found_again_under_its_path) {
  auto& m = start("m");
  auto& s = start("s");
  advance(3s);
  const auto first = s.context->directory->get<membership_actor>(path::membership_of("m"));
  BOOST_REQUIRE(first);
  kill(m.managing);
  m.managing = spawn(membership, m.context);
  m.context->directory->put(path::membership, m.managing);
  advance(2s);
  const auto second = s.context->directory->get<membership_actor>(path::membership_of("m"));
  BOOST_REQUIRE(second);
  BOOST_TEST((second != first));
  BOOST_TEST(seen_by("m") == "s:up m:up n:unknown");
}

BOOST_AUTO_TEST_CASE(a_gate_that_dies_is_published_again_also_when_the_port_is_taken_for_a_while) {
  auto& m = start("m");
  start("s");
  advance(3s);
  m.link->refuse_publish = 3;
  kill(m.context->directory->get<caf::actor>(path::gate));
  advance(2s);
  BOOST_TEST(m.times("CONTROL_PORT_FAILED: port in use") == 1u);
  BOOST_TEST(nodes["s"].has_said("PEER_UNREACHABLE: node m"));
  advance(8s);
  BOOST_TEST(seen_by("m") == "s:up m:up n:unknown");
}

BOOST_AUTO_TEST_CASE(a_node_of_another_protocol_or_cluster_is_left_alone_and_both_are_named) {
  struct strange_gate {
    static node_gate_actor::behavior_type make(node_gate_actor::pointer, node_announcement says) {
      return {[says](atom::get) { return says; },
              [says](atom::join, const node_announcement&, const caf::strong_actor_ptr&) { return says; },
              [](atom::open, const std::string&) -> caf::result<caf::strong_actor_ptr> {
                BOOST_ERROR("asked for an actor");
                return make_error(errc::not_found);
              }};
    }
  };
  node_announcement says;
  says.cluster = "lab";
  says.node = "m";
  says.version = "10.0";
  says.protocol = cluster_protocol + 1;
  network.gates["m"] = spawn(strange_gate::make, says);
  auto& s = start("s");
  advance(5s);
  BOOST_TEST(s.has_said("node m (10.0) speaks protocol " + std::to_string(cluster_protocol + 1) + ", node s (9.9) " +
                        std::to_string(cluster_protocol)));
  says.protocol = cluster_protocol;
  says.node = "n";
  network.gates["m"] = spawn(strange_gate::make, says);
  advance(5s);
  BOOST_TEST(s.has_said("at its address is node n"));
  says.node = "m";
  says.cluster = "farm";
  network.gates["m"] = spawn(strange_gate::make, says);
  advance(5s);
  BOOST_TEST(s.has_said("node m is of cluster farm, node s of cluster lab"));
}

BOOST_AUTO_TEST_CASE(a_node_that_falls_silent_is_given_up_and_connected_to_again) {
  start("m");
  auto& s = start("s");
  advance(3s);
  BOOST_REQUIRE(s.context->directory->get<membership_actor>(path::membership_of("m")));
  const auto gate = network.gates["m"];
  network.gates["m"] = spawn(silent_gate::make);
  kill(s.context->directory->get<caf::actor>(path::peer("m")));
  advance(20s);
  BOOST_TEST(s.times("PEER_UNREACHABLE: node m: it does not say which node it is") >= 1u);
  BOOST_TEST(seen_by("m") == "s:down m:up n:unknown");
  network.gates["m"] = gate;
  advance(10s);
  BOOST_TEST(seen_by("m") == "s:up m:up n:unknown");
}

BOOST_AUTO_TEST_CASE(a_gate_that_answers_no_more_is_disconnected_from) {
  struct tired_gate {
    static node_gate_actor::behavior_type make(node_gate_actor::pointer self, node_announcement says, int answers) {
      auto left = std::make_shared<int>(answers);
      return {[says](atom::get) { return says; },
              [self, says, left](atom::join, const node_announcement&, const caf::strong_actor_ptr&) {
                auto promise = self->make_response_promise<node_announcement>();
                if ((*left)-- > 0)
                  promise.deliver(says);
                return promise;
              },
              [](atom::open, const std::string&) -> caf::result<caf::strong_actor_ptr> {
                return make_error(errc::not_found);
              }};
    }
  };
  node_announcement says;
  says.cluster = "lab";
  says.node = "m";
  network.gates["m"] = spawn(tired_gate::make, says, 3);
  auto& s = start("s");
  advance(3s);
  BOOST_TEST(s.link->disconnected.empty());
  advance(6s);
  BOOST_TEST((s.link->disconnected == std::vector<std::string>{"m"}));
  BOOST_TEST(s.has_said("PEER_UNREACHABLE: node m: it does not answer"));
}

BOOST_AUTO_TEST_CASE(a_manager_says_once_whom_it_refuses_and_so_does_who_is_refused) {
  auto& m = start("m");
  auto& s = make("s");
  s.context->options.roles = {true, true, true}; // its own file says so
  s.supervisor = spawn(cluster_supervisor, s.context);
  advance(10s);
  BOOST_TEST(m.times("NODE_REFUSED: node s was started as manager,storage,host") == 1u);
  BOOST_TEST(s.times("JOIN_REFUSED: manager m: node s was started as") == 1u);
  BOOST_TEST(seen_by("m") == "s:unknown m:up n:unknown");
}

BOOST_AUTO_TEST_CASE(the_gate_gives_out_no_actor_of_a_third_node) {
  auto& m = start("m");
  // As CAF networking makes one: its messages would go to a broker, here to nobody.
  auto there = caf::make_node_id(7, std::string(40, 'a'));
  BOOST_REQUIRE(there);
  caf::actor_config of_proxy;
  auto stranger = caf::make_actor<caf::forwarding_actor_proxy, caf::actor>(1, *there, &system, of_proxy, caf::actor{});
  BOOST_REQUIRE((stranger.node() != m.supervisor.node()));
  m.context->directory->put(path::leases, stranger);
  auto none = ask<caf::strong_actor_ptr>(network.gates["m"], atom::open_v, path::leases);
  BOOST_TEST((!none && code_of(none.error()) == errc::not_found));
  m.context->directory->remove(path::leases, stranger.address());
}

BOOST_AUTO_TEST_CASE(the_gate_gives_out_this_nodes_own_actors_and_no_supervisor) {
  auto& m = start("m");
  auto gate = network.gates["m"];
  auto found = ask<caf::strong_actor_ptr>(gate, atom::open_v, path::membership);
  BOOST_REQUIRE(found);
  BOOST_TEST((caf::actor_cast<membership_actor>(*found) == m.managing));
  auto none = ask<caf::strong_actor_ptr>(gate, atom::open_v, path::leases);
  BOOST_TEST((!none && code_of(none.error()) == errc::not_found));
  auto closed = ask<caf::strong_actor_ptr>(gate, atom::open_v, path::peer("s"));
  BOOST_TEST((!closed && code_of(closed.error()) == errc::unsupported));
}

BOOST_AUTO_TEST_CASE(who_stands_later_is_reached_over_the_connection_that_the_other_made) {
  auto& m = start("m");
  auto& s = start("s");
  const auto host = put(s, path::host);
  advance(3s);
  BOOST_TEST(network.tries["s"] == 0);
  BOOST_TEST((m.find<caf::actor>(path::host_of("s")) == host));
  BOOST_TEST(m.has_said("PEER_CONNECTED: node s 9.9"));
  // The gate of the one that connects is another: it is handed over with the next heartbeat.
  kill(s.find<caf::actor>(path::gate));
  BOOST_TEST(!m.find<caf::actor>(path::host_of("s")));
  advance(3s);
  BOOST_TEST((m.find<caf::actor>(path::host_of("s")) == host));
  kill(s.supervisor);
  advance(1s);
  BOOST_TEST(!m.find<caf::actor>(path::host_of("s")));
  BOOST_TEST(m.times("PEER_UNREACHABLE: node s: the connection was lost") >= 1u);
}

BOOST_AUTO_TEST_CASE(who_is_waited_for_in_vain_is_told_of_once) {
  auto& m = start("m");
  advance(60s);
  BOOST_TEST(m.times("PEER_UNREACHABLE: node s: it has not connected") == 1u);
  BOOST_TEST(network.tries["s"] == 0);
}

BOOST_AUTO_TEST_CASE(who_connects_is_refused_if_it_is_not_who_it_should_be) {
  auto& m = start("m");
  auto stranger = caf::actor_cast<caf::strong_actor_ptr>(spawn(silent_gate::make));
  auto refused = [&](const node_announcement& x) {
    auto answer = ask<node_announcement>(network.gates["m"], atom::join_v, x, stranger);
    return answer ? std::string{} : std::string{to_string(code_of(answer.error()))} + ": " + context_of(answer.error());
  };
  auto x = announcement("s", 7);
  x.protocol = 9;
  BOOST_TEST(refused(x) ==
             "unsupported: node s (9.9) speaks protocol 9, node m (9.9) " + std::to_string(cluster_protocol));
  x = announcement("s", 7);
  x.cluster = "farm";
  BOOST_TEST(refused(x) == "not_found: node s is of cluster farm, node m of cluster lab");
  BOOST_TEST(refused(announcement("z", 7)) == "not_found: the configuration of node m has no node z");
  // The two would have two connections.
  BOOST_TEST(
    refused(announcement("n", 7)).starts_with("not_found: in the configuration of node m it is not for node n"));
  BOOST_TEST(!m.has_said("PEER_CONNECTED"));
  BOOST_TEST(refused(announcement("s", 7)) == "");
  BOOST_TEST(refused(announcement("s", 6)) == "conflict: a later life of node s was heard already");
  BOOST_TEST(refused(announcement("s", 8)) == "");
  BOOST_TEST(m.times("PEER_CONNECTED: node s") == 2u);
}

BOOST_AUTO_TEST_CASE(who_connected_and_falls_silent_is_given_up) {
  auto& m = start("m");
  auto gate = caf::actor_cast<caf::strong_actor_ptr>(spawn(silent_gate::make));
  BOOST_REQUIRE(ask<node_announcement>(network.gates["m"], atom::join_v, announcement("s"), gate));
  advance(3s);
  BOOST_TEST(m.link->disconnected.empty());
  advance(3s);
  BOOST_TEST((m.link->disconnected == std::vector<std::string>{"s"}));
  BOOST_TEST(m.has_said("PEER_UNREACHABLE: node s: it does not answer"));
}

BOOST_AUTO_TEST_CASE(what_manages_is_that_of_the_manager_who_leads_now) {
  auto lead = [&](const std::string& name) {
    auto& x = make(name);
    x.context->leadership = std::make_shared<leadership>();
    run(x);
    return x.context->leadership;
  };
  auto first = lead("m"), second = lead("n");
  auto& m = nodes["m"];
  auto& n = nodes["n"];
  auto& s = start("s");
  advance(3s);
  BOOST_TEST(!s.find<caf::actor>(path::volumes));
  const auto of_m = put(m, path::volumes);
  first->set({true, {}, 1});
  advance(2s);
  BOOST_TEST((s.find<caf::actor>(path::volumes) == of_m));
  // A manager that does not lead asks the one that does, as all others.
  BOOST_TEST((n.find<caf::actor>(path::volumes) == of_m));
  n.context->directory->remove(path::volumes, of_m.address());
  const auto of_n = put(n, path::volumes);
  // The first does not know yet that it was replaced.
  second->set({true, {}, 2});
  advance(2s);
  BOOST_TEST((s.find<caf::actor>(path::volumes) == of_n));
  BOOST_TEST((m.find<caf::actor>(path::volumes) == of_m));
  kill(s.find<caf::actor>(path::peer("m")));
  advance(5s);
  BOOST_REQUIRE(s.find<caf::actor>(path::membership_of("m")));
  BOOST_TEST((s.find<caf::actor>(path::volumes) == of_n));
  // Once it knows, its own actors go, and it asks the other.
  first->set({false, "n leads"});
  kill(of_m);
  m.context->directory->remove(path::volumes, of_m.address());
  advance(2s);
  BOOST_TEST((m.find<caf::actor>(path::volumes) == of_n));
}

BOOST_AUTO_TEST_CASE(each_role_needs_of_others_what_it_works_with) {
  node_options o;
  o.cluster.nodes = {
    {"m", {true, false, false}, {}, {}}, {"s", {false, true, false}, {}, {}}, {"h", {false, false, true}, {}, {}}};
  tier_settings tier;
  tier.store.name = "fast";
  tier.node = "s";
  o.tiers = {tier};
  auto here = [&](const std::string& node, const std::string& other) {
    std::set<std::string> result;
    for (auto& x : needs_of(o, node, other))
      result.insert(x.here + (x.of_leader ? "*" : ""));
    return result;
  };
  using paths = std::set<std::string>;
  BOOST_TEST((here("m", "s") == paths{path::tier("fast"), path::mover_of("s"), path::console_of("s")}));
  BOOST_TEST((here("m", "h") == paths{path::host_of("h"), path::console_of("h")}));
  const paths managing{path::membership_of("m"), path::catalog + "*",    path::volumes + "*", path::leases + "*",
                       path::placement + "*",    path::migrations + "*", path::monitor + "*", path::attachments + "*",
                       path::nodes + "*",        path::console_of("m")};
  BOOST_TEST((here("s", "m") == managing));
  BOOST_TEST((here("h", "m") == managing));
  BOOST_TEST((here("h", "s") == paths{path::data_keeper_of("s"), path::tier("fast"), path::console_of("s")}));
  BOOST_TEST((here("s", "h") == paths{path::console_of("h")}));
  BOOST_TEST((here("s", "s").empty()));
  BOOST_TEST(need_each_other(o, "s", "h"));
  BOOST_TEST(dials(o.cluster, "m", "h"));
  BOOST_TEST(!dials(o.cluster, "h", "m"));
  BOOST_TEST(!dials(o.cluster, "z", "y"));
}

BOOST_AUTO_TEST_SUITE_END()
