#include "actors/cluster/node_gate.hpp"

#include <algorithm>

namespace varve {

namespace {

/// What other nodes may talk to: not the supervisors, which start and stop by exit messages.
constexpr const char* open_to_others[] = {"management/", "storage/", "host"};

} // namespace

node_gate_actor::behavior_type node_gate(node_gate_actor::stateful_pointer<node_gate_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

node_gate_actor::behavior_type node_gate_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  return {
    [this](atom::get) { return announcement_of(*context_); },
    [this](atom::open, const std::string& path) { return open(path); },
  };
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
  return x;
}

} // namespace varve
