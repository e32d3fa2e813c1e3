#pragma once

#include <memory>
#include <optional>

#include "actors/node_context.hpp"
#include "actors/supervision/children.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

/// Keeps the actors of the role manager. Nobody asks it anything: they are found in the directory. Where managers are
/// elected it starts them when this node leads, and ends, with them, when it does not any more: the next one waits.
using management_supervisor_actor =
  caf::typed_actor<VARVE_SUPERVISOR_MESSAGES, caf::reacts_to<returned>>::extend_with<inspected_actor>;

class management_supervisor_state {
public:
  static inline const char* name = "varve.management-supervisor";
  explicit management_supervisor_state(management_supervisor_actor::pointer self) : self_(self) {}
  management_supervisor_actor::behavior_type make_behavior(context_ptr context);

private:
  void on_leadership(bool leads);
  void start_all();
  actor_facts facts() const;

  context_ptr context_;
  /// Started, and so to be ended.
  bool managing_ = false;
  std::shared_ptr<void> watch_;
  management_supervisor_actor::pointer self_;
  std::optional<children> children_;
};

management_supervisor_actor::behavior_type
management_supervisor(management_supervisor_actor::stateful_pointer<management_supervisor_state> self,
                      context_ptr context);

} // namespace varve
