#include "actors/cluster/node_gate.hpp"

#include <algorithm>

#include "actors/cluster/leading.hpp"
#include "actors/cluster/needs.hpp"
#include "actors/cluster/peer.hpp"
#include "runtime/caf/reporting.hpp"

namespace varve {

namespace {

/// What other nodes may talk to: not the supervisors, which start and stop by exit messages.
constexpr const char* open_to_others[] = {"management/", "storage/", "host", "data/", "cluster/console"};

} // namespace

node_gate_self::behavior_type node_gate(node_gate_self::stateful_pointer<node_gate_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

node_gate_self::behavior_type node_gate_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  return {
    [this](atom::get) { return announcement_of(*context_); },
    [this](atom::join, const node_announcement& x, const caf::strong_actor_ptr& gate) { return join(x, gate); },
    [this](atom::open, const std::string& path) { return open(path); },
    [this](atom::report) {
      return report_of(self_, {count_fact("incarnation", context_->options.incarnation),
                               text_fact("roles", to_string(context_->options.roles)),
                               flag_fact("leads", leads_as(*context_) != 0)});
    },
  };
}

caf::result<node_announcement> node_gate_state::join(const node_announcement& x, const caf::strong_actor_ptr& gate) {
  const auto& own = context_->options;
  if (auto refused = check(x, *context_))
    return refused;
  if (!gate || !dials(own.cluster, x.node, own.name))
    return make_error(errc::not_found, "in the configuration of node " + own.name + " it is not for node " + x.node +
                                         " to connect to it");
  auto peer = context_->directory->get<peer_actor>(path::peer(x.node));
  if (!peer)
    return make_error(errc::unavailable, "node " + own.name + " is starting");
  return self_->delegate(peer, atom::join_v, x, gate);
}

caf::result<caf::strong_actor_ptr> node_gate_state::open(const std::string& path) {
  if (std::none_of(std::begin(open_to_others), std::end(open_to_others),
                   [&](auto* prefix) { return path.starts_with(prefix); }))
    return make_error(errc::unsupported, path + " is not for other nodes");
  auto actor = context_->directory->get<caf::strong_actor_ptr>(path);
  // A proxy would be an actor of a third node, of which this one may know less than who asks.
  if (!actor || actor->node() != self_->node())
    return make_error(errc::not_found, "no actor " + path + " on node " + context_->options.name);
  return actor;
}

node_announcement announcement_of(const node_context& context) {
  node_announcement x;
  x.cluster = context.options.cluster.name;
  x.node = context.options.name;
  x.incarnation = context.options.incarnation;
  x.version = context.options.version;
  x.roles = to_string(context.options.roles);
  x.leads = leads_as(context);
  return x;
}

caf::error check(const node_announcement& x, const node_context& context) {
  const auto& own = context.options;
  if (x.protocol != cluster_protocol)
    return make_error(errc::unsupported, "node " + x.node + " (" + x.version + ") speaks protocol " +
                                           std::to_string(x.protocol) + ", node " + own.name + " (" + own.version +
                                           ") " + std::to_string(cluster_protocol));
  if (x.cluster != own.cluster.name)
    return make_error(errc::not_found, "node " + x.node + " is of cluster " + x.cluster + ", node " + own.name +
                                         " of cluster " + own.cluster.name);
  if (!own.cluster.find(x.node))
    return make_error(errc::not_found, "the configuration of node " + own.name + " has no node " + x.node);
  return {};
}

} // namespace varve
