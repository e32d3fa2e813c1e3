#pragma once

#include <optional>

#include <caf/typed_event_based_actor.hpp>

#include "actors/node_context.hpp"
#include "actors/supervision/children.hpp"
#include "messages/interfaces.hpp"

namespace varve {

/// Keeps one tier actor for each of this node's tiers, the mover, and, where other nodes do I/O here, the data_keeper.
/// Nobody asks it anything: they are found in the directory.
using storage_supervisor_actor = caf::typed_actor<VARVE_SUPERVISOR_MESSAGES>::extend_with<inspected_actor>;

class storage_supervisor_state {
public:
  static inline const char* name = "varve.storage-supervisor";
  explicit storage_supervisor_state(storage_supervisor_actor::pointer self) : self_(self) {}
  storage_supervisor_actor::behavior_type make_behavior(context_ptr context);

private:
  void start_mover();
  void start_data_keeper();

  storage_supervisor_actor::pointer self_;
  context_ptr context_;
  std::optional<children> children_;
};

storage_supervisor_actor::behavior_type
storage_supervisor(storage_supervisor_actor::stateful_pointer<storage_supervisor_state> self, context_ptr context);

} // namespace varve
