#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "actors/cluster/cluster_supervisor.hpp"
#include "actors/cluster/membership.hpp"
#include "actors/cluster/needs.hpp"
#include "actors/cluster/node_gate.hpp"
#include "actors/cluster/peer.hpp"
#include "runtime/caf/cluster_link.hpp"
#include "tests/actors/fixture.hpp"

namespace varve {

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

/// One node beside others in one actor system, each with a directory of its own.
struct cluster_test_node {
  std::shared_ptr<fake_link> link;
  std::shared_ptr<node_context> context;
  std::vector<std::string> said;

  bool has_said(const std::string& what) const { return times(what) > 0; }
  size_t times(const std::string& what) const {
    return static_cast<size_t>(
      std::count_if(said.begin(), said.end(), [&](auto& x) { return x.find(what) != std::string::npos; }));
  }
  template <class Handle>
  Handle find(const std::string& path) const {
    return context->directory->get<Handle>(path);
  }
};

/// A cluster's nodes over fake links; what runs on each is the test's.
template <class Node>
struct cluster_fixture : actor_fixture {
  cluster_fixture() {
    cluster.name = "lab";
    cluster.heartbeat = std::chrono::seconds{1};
    cluster.suspect_after = std::chrono::seconds{3};
    cluster.down_after = std::chrono::seconds{10};
  }

  ~cluster_fixture() {
    for (auto& [name, x] : nodes)
      end(x);
    run();
    // A peer's timers come to nothing once it is gone.
    for (auto& [name, x] : nodes)
      x.context->directory->clear();
    network.gates.clear();
    nodes.clear();
  }

  void end(Node& x) {
    for (const auto& path : x.context->directory->list(""))
      caf::anon_send_exit(x.context->directory->template get<caf::actor>(path), caf::exit_reason::kill);
  }

  Node& make(const std::string& name, uint64_t incarnation = 1) {
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

  node_announcement announcement(const std::string& node, uint64_t incarnation = 1) {
    node_announcement x;
    x.cluster = cluster.name;
    x.node = node;
    x.incarnation = incarnation;
    x.version = "9.9";
    x.roles = to_string(cluster.find(node) ? cluster.find(node)->roles : node_roles{});
    return x;
  }

  cluster_config cluster;
  fake_network network;
  std::map<std::string, Node> nodes;
};

} // namespace varve
