#pragma once

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using node_gate_self = node_gate_actor::extend_with<inspected_actor>;

/// What the other nodes of the cluster find when they connect: looks up this node's own actors for them, and hands the
/// gates of those that have connected to the peers that stand for them. What stands in the directory on behalf of
/// another node is not passed on.
class node_gate_state {
public:
  static inline const char* name = "varve.node-gate";
  explicit node_gate_state(node_gate_self::pointer self) : self_(self) {}
  node_gate_self::behavior_type make_behavior(context_ptr context);

private:
  caf::result<node_announcement> join(const node_announcement& x, const caf::strong_actor_ptr& gate);
  caf::result<caf::strong_actor_ptr> open(const std::string& path);

  node_gate_self::pointer self_;
  context_ptr context_;
};

node_gate_self::behavior_type node_gate(node_gate_self::stateful_pointer<node_gate_state> self, context_ptr context);

/// What this node says of itself.
node_announcement announcement_of(const node_context& context);

/// Whether what another node says of itself fits this cluster: errc::unsupported for another protocol, errc::not_found
/// for another cluster or a node that it does not have.
caf::error check(const node_announcement& x, const node_context& context);

} // namespace varve
