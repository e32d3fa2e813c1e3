#pragma once

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

using console_self = console_actor::extend<caf::reacts_to<returned>>::extend_with<inspected_actor>;

/// Shows this node's actors to the consoles of other nodes: passes on what the node's console answers.
class console_state {
public:
  static inline const char* name = "varve.console";
  explicit console_state(console_self::pointer self) : self_(self) {}
  console_self::behavior_type make_behavior(context_ptr context);

private:
  template <class T, class Ask>
  caf::result<T> pass(Ask ask);

  console_self::pointer self_;
  context_ptr context_;
};

console_self::behavior_type console(console_self::stateful_pointer<console_state> self, context_ptr context);

} // namespace varve
