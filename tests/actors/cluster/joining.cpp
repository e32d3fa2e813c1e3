#include <boost/test/unit_test.hpp>
#include <caf/forwarding_actor_proxy.hpp>

#include "actors/cluster/announcer.hpp"
#include "actors/cluster/cluster_supervisor.hpp"
#include "actors/cluster/membership.hpp"
#include "actors/cluster/node_gate.hpp"
#include "runtime/caf/cluster_link.hpp"
#include "tests/actors/fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

/// What connects the nodes of a test: which can be cut.
struct fake_network {
  std::map<std::string, node_gate_actor> gates;
  std::set<std::string> cut;
  std::map<std::string, int> tries;
};

class fake_link : public cluster_link {
public:
  fake_link(fake_network& on, std::string node) : on_(on), node_(std::move(node)) {}

  void publish(const node_gate_actor& gate, std::function<void(caf::error)> done) override {
    if (refuse_publish > 0) {
      --refuse_publish;
      done(make_error(errc::unavailable, "port in use"));
      return;
    }
    on_.gates[node_] = gate;
    done({});
  }
  void connect(const std::string& node, std::function<void(caf::expected<node_gate_actor>)> done) override {
    ++on_.tries[node];
    auto at = on_.gates.find(node);
    if (at == on_.gates.end() || on_.cut.count(node) || on_.cut.count(node_))
      done(make_error(errc::unavailable, "no route to " + node));
    else
      done(at->second);
  }

  void disconnect(const std::string& node) override { disconnected.push_back(node); }

  int refuse_publish = 0;
  std::vector<std::string> disconnected;

private:
  fake_network& on_;
  std::string node_;
};

/// One node's part of the cluster beside others in one actor system.
struct node {
  std::shared_ptr<fake_link> link;
  std::shared_ptr<node_context> context;
  std::vector<std::string> said;
  cluster_supervisor_actor supervisor;
  membership_actor managing;

  bool has_said(const std::string& what) const {
    return std::any_of(said.begin(), said.end(), [&](auto& x) { return x.find(what) != std::string::npos; });
  }
  size_t times(const std::string& what) const {
    return static_cast<size_t>(
      std::count_if(said.begin(), said.end(), [&](auto& x) { return x.find(what) != std::string::npos; }));
  }
};

struct joining_fixture : actor_fixture {
  joining_fixture() {
    cluster.name = "lab";
    cluster.heartbeat = 1s;
    cluster.suspect_after = 3s;
    cluster.down_after = 10s;
    cluster.nodes = {{"m", {true, false, false}, {"h", 1}, {"h", 2}},
                     {"n", {true, false, false}, {"h", 3}, {"h", 4}},
                     {"s", {false, true, true}, {"h", 5}, {"h", 6}}};
  }

  ~joining_fixture() {
    for (auto& [name, x] : nodes)
      for (const auto& path : x.context->directory->list(""))
        caf::anon_send_exit(x.context->directory->get<caf::actor>(path), caf::exit_reason::kill);
    run();
    // A peer's timers come to nothing once it is gone.
    for (auto& [name, x] : nodes)
      x.context->directory->clear();
    network.gates.clear();
    nodes.clear();
  }

  node& make(const std::string& name, uint64_t incarnation = 1) {
    auto& x = nodes[name];
    x.link = std::make_shared<fake_link>(network, name);
    x.context = std::make_shared<node_context>(*context);
    x.context->directory = std::make_shared<directory>();
    x.context->tree = std::make_shared<actor_tree>();
    x.context->link = x.link;
    x.context->publish = [&x](std::string code, std::string text) { x.said.push_back(code + ": " + text); };
    auto& o = x.context->options;
    o.name = name;
    o.version = "9.9";
    o.cluster = cluster;
    o.incarnation = incarnation;
    o.roles = cluster.find(name) ? cluster.find(name)->roles : node_roles{};
    return x;
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

  cluster_config cluster;
  fake_network network;
  std::map<std::string, node> nodes;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(joining, joining_fixture)

BOOST_AUTO_TEST_CASE(every_manager_hears_every_node_that_lives) {
  start("m");
  start("s");
  advance(3s);
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:up");
  BOOST_TEST(nodes["s"].has_said("PEER_UNREACHABLE: node n: no route to n"));
  start("n");
  advance(5s);
  BOOST_TEST(seen_by("m") == "m:up n:up s:up");
  BOOST_TEST(seen_by("n") == "m:up n:up s:up");
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
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:suspect");
  advance(8s);
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:down");
  BOOST_TEST(!s.context->directory->get<caf::actor>(path::membership_of("m")));
  network.cut.clear();
  advance(4s);
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:up");
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
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:down");
  nodes.erase("s");
  start("s", 2);
  advance(3s);
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:up");
  auto all = ask<std::vector<member_info>>(nodes["m"].managing, atom::list_v);
  BOOST_REQUIRE(all);
  BOOST_TEST((*all)[2].joins == 2u);
  BOOST_TEST((*all)[2].incarnation == 2u);
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
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:up");
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
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:up");
}

BOOST_AUTO_TEST_CASE(a_node_of_another_protocol_or_cluster_is_left_alone_and_both_are_named) {
  struct strange_gate {
    static node_gate_actor::behavior_type make(node_gate_actor::pointer, node_announcement says) {
      return {[says](atom::get) { return says; },
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
  BOOST_TEST(s.has_said("speaks protocol " + std::to_string(cluster_protocol + 1) + " (10.0), this node " +
                        std::to_string(cluster_protocol) + " (9.9)"));
  says.protocol = cluster_protocol;
  says.node = "n";
  network.gates["m"] = spawn(strange_gate::make, says);
  advance(5s);
  BOOST_TEST(s.has_said("at its address is node n of cluster lab"));
  says.node = "m";
  says.cluster = "farm";
  network.gates["m"] = spawn(strange_gate::make, says);
  advance(5s);
  BOOST_TEST(s.has_said("at its address is node m of cluster farm"));
}

BOOST_AUTO_TEST_CASE(a_node_that_falls_silent_is_given_up_and_connected_to_again) {
  start("m");
  auto& s = start("s");
  advance(3s);
  BOOST_REQUIRE(s.context->directory->get<membership_actor>(path::membership_of("m")));
  // As behind a cut: what is sent gets lost, and nothing says so.
  struct silent_gate {
    static node_gate_actor::behavior_type make(node_gate_actor::pointer self) {
      return {[self](atom::get) -> caf::typed_response_promise<node_announcement> {
                return self->make_response_promise<node_announcement>();
              },
              [self](atom::open, const std::string&) -> caf::typed_response_promise<caf::strong_actor_ptr> {
                return self->make_response_promise<caf::strong_actor_ptr>();
              }};
    }
  };
  const auto gate = network.gates["m"];
  network.gates["m"] = spawn(silent_gate::make);
  kill(s.context->directory->get<caf::actor>(path::peer("m")));
  advance(20s);
  BOOST_TEST(s.times("PEER_UNREACHABLE: node m: it does not say which node it is") >= 1u);
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:down");
  network.gates["m"] = gate;
  advance(10s);
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:up");
}

BOOST_AUTO_TEST_CASE(a_gate_that_answers_no_more_is_disconnected_from) {
  struct tired_gate {
    static node_gate_actor::behavior_type make(node_gate_actor::pointer self, node_announcement says, int answers) {
      auto left = std::make_shared<int>(answers);
      return {[self, says, left](atom::get) {
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
  BOOST_TEST(seen_by("m") == "m:up n:unknown s:unknown");
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

BOOST_AUTO_TEST_SUITE_END()
