#include "actors/cluster/cluster_supervisor.hpp"

#include <chrono>

#include <caf/send.hpp>

#include "actors/cluster/announcer.hpp"
#include "actors/cluster/console.hpp"
#include "actors/cluster/data_link.hpp"
#include "actors/cluster/needs.hpp"
#include "actors/cluster/node_gate.hpp"
#include "actors/cluster/peer.hpp"
#include "runtime/caf/cluster_link.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/remote/remote_io.hpp"

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
  children_->start({path::console, console_state::name,
                    [this] { return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(console, context_)); }});
  start_peers();
  if (context_->remote)
    start_data_links();
  children_->start({path::announcer, announcer_state::name,
                    [this] { return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(announcer, context_)); }});
  return {
    [this](atom::start, const std::string& child) { children_->on_start(child); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [this](atom::publish) { publish(); },
    [](const returned& x) { x.run(); },
    [this](atom::report) { return report_of(self_, children_->facts()); },
  };
}

void cluster_supervisor_state::start_peers() {
  const auto& options = context_->options;
  for (const auto& other : options.cluster.nodes) {
    if (other.name == options.name || !need_each_other(options, options.name, other.name))
      continue;
    children_->start({path::peer(other.name), peer_state::name,
                      [this, node = other.name, needs = needs_of(options, options.name, other.name)] {
                        return caf::actor_cast<caf::strong_actor_ptr>(
                          self_->spawn(peer, context_, node, needs, leaders_));
                      }});
  }
}

void cluster_supervisor_state::start_data_links() {
  const auto& options = context_->options;
  if (!options.roles.storage && !options.roles.host)
    return;
  // It is called for as long as the data path lives, which is longer than this actor does: it finds the link of now.
  context_->remote->on_session([directory = context_->directory](const std::string& node, uint32_t theirs, uint32_t own,
                                                                 const remote_session_state& state) {
    if (auto link = directory->get<data_link_actor>(path::data_link(node)))
      caf::anon_send(link, atom::change_v, theirs, own, state.open, state.why);
  });
  for (const auto& other : options.cluster.nodes)
    if (other.name != options.name && other.roles.storage)
      children_->start({path::data_link(other.name), data_link_state::name, [this, node = other.name] {
                          return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(data_link, context_, node));
                        }});
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

} // namespace varve
