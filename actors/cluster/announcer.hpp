#pragma once

#include <map>
#include <string>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using announcer_actor = caf::typed_actor<caf::reacts_to<atom::tick>>::extend_with<inspected_actor>;

/// Says to every manager of the cluster, each heartbeat, that this node lives; and once that it stops, when it is ended
/// in an orderly way.
class announcer_state {
public:
  static inline const char* name = "varve.announcer";
  explicit announcer_state(announcer_actor::pointer self) : self_(self) {}
  announcer_actor::behavior_type make_behavior(context_ptr context);

private:
  void announce(bool leaving);

  announcer_actor::pointer self_;
  context_ptr context_;
  std::map<std::string, std::string> refused_; // by manager: what it said last
};

announcer_actor::behavior_type announcer(announcer_actor::stateful_pointer<announcer_state> self, context_ptr context);

} // namespace varve
