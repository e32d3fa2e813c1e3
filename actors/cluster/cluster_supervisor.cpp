#include "actors/cluster/cluster_supervisor.hpp"

#include <chrono>

#include "actors/cluster/announcer.hpp"
#include "actors/cluster/node_gate.hpp"
#include "runtime/caf/cluster_link.hpp"

namespace varve {

using namespace std::chrono_literals;

cluster_supervisor_actor::behavior_type
cluster_supervisor(cluster_supervisor_actor::stateful_pointer<cluster_supervisor_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

cluster_supervisor_actor::behavior_type cluster_supervisor_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  children_.emplace(self_, context_, "cluster");
  // A gate that died is found at the port no more: the new one is published.
  children_->start({path::gate, node_gate_state::name, [this] {
                      auto gate = self_->spawn(node_gate, context_);
                      self_->send(self_, atom::publish_v);
                      return caf::actor_cast<caf::strong_actor_ptr>(gate);
                    }});
  const auto& cluster = context_->options.cluster;
  for (const auto& other : cluster.nodes) {
    auto needs = needs_of(cluster, context_->options.name, other.name);
    if (!needs.empty())
      children_->start({path::peer(other.name), peer_state::name, [this, node = other.name, needs] {
                          return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(peer, context_, node, needs));
                        }});
  }
  children_->start({path::announcer, announcer_state::name,
                    [this] { return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(announcer, context_)); }});
  return {
    [this](atom::start, const std::string& child) { children_->on_start(child); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [this](atom::publish) { publish(); },
    [](const returned& x) { x.run(); },
  };
}

void cluster_supervisor_state::publish() {
  auto gate = children_->get<node_gate_actor>(path::gate);
  if (!gate || children_->stopping())
    return; // the next one says so itself
  context_->link->publish(gate, returning<caf::error>(self_, [this](const caf::error& e) {
                            if (!e) {
                              trouble_.clear();
                              return;
                            }
                            const auto why = context_of(e);
                            if (std::exchange(trouble_, why) != why)
                              context_->publish("CONTROL_PORT_FAILED", why);
                            self_->delayed_send(self_, 1s, atom::publish_v);
                          }));
}

std::vector<remote_path> needs_of(const cluster_config& cluster, const std::string& node, const std::string& other) {
  std::vector<remote_path> result;
  const auto* from = cluster.find(node);
  const auto* to = cluster.find(other);
  if (!from || !to || node == other)
    return result;
  if (to->roles.manager)
    result.push_back({path::membership, path::membership_of(other)});
  return result;
}

} // namespace varve
