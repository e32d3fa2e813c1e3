#pragma once

#include <optional>

#include "actors/node_context.hpp"
#include "actors/supervision/children.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using node_root_self = node_root_actor::extend<VARVE_SUPERVISOR_MESSAGES>::extend_with<inspected_actor>;

/// The root of a node: its part of the cluster, storage, management and host, as far as its roles ask for them, in that
/// order; each is stopped before what it uses. It ends with a
/// reason when one of them cannot be kept alive; the program then starts it again, and the ports of the data plane stay
/// open meanwhile.
class node_root_state {
public:
  static inline const char* name = "varve.node-root";
  explicit node_root_state(node_root_self::pointer self) : self_(self) {}
  node_root_self::behavior_type make_behavior(context_ptr context);

private:
  actor_facts facts() const;
  caf::result<void> kill(const std::string& path);
  caf::typed_response_promise<void> stop();

  node_root_self::pointer self_;
  context_ptr context_;
  std::optional<children> children_;
};

node_root_self::behavior_type node_root(node_root_self::stateful_pointer<node_root_state> self, context_ptr context);

} // namespace varve
