#pragma once

#include <map>
#include <optional>
#include <string>

#include "actors/cluster/member_table.hpp"
#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using membership_self = membership_actor::extend<caf::reacts_to<atom::tick>>::extend_with<inspected_actor>;

/// Of a manager: hears the heartbeats of all nodes, and tells when one falls silent or is back.
class membership_state {
public:
  static inline const char* name = "varve.membership";
  explicit membership_state(membership_self::pointer self) : self_(self) {}
  membership_self::behavior_type make_behavior(context_ptr context);

private:
  caf::result<std::string> join(const node_announcement& x);
  void look();
  actor_facts facts() const;
  void tell(const std::vector<member_table::change>& changes);

  membership_self::pointer self_;
  context_ptr context_;
  std::optional<member_table> table_;
  /// What was refused last, by node: said once, not at each heartbeat.
  std::map<std::string, std::string> refused_;
};

membership_self::behavior_type membership(membership_self::stateful_pointer<membership_state> self,
                                          context_ptr context);

} // namespace varve
