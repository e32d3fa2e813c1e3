#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using monitor_self = monitor_actor::extend_with<inspected_actor>;

/// What a status is made from; empty where the actor asked gave no answer.
struct node_facts {
  std::vector<tier_info> tiers;
  std::vector<std::string> silent_tiers;
  /// Of those, the ones of other nodes: tier, node.
  std::map<std::string, std::string> nodes_of_tiers;
  /// Of a cluster.
  std::vector<member_info> members;
  /// How long this manager has listened for them, and how long one may be silent.
  caf::timespan listening{0}, down_after{0};
  std::optional<std::vector<volume_record>> volumes;
  std::optional<std::vector<migration_progress>> migrations;
  std::optional<uint64_t> incarnation;
  std::vector<actor_info> actors;
  uint64_t leases = 0;
  uint64_t now_seconds = 0;
};

/// The rules of health. Codes are stable:
///   CATALOG_UNAVAILABLE, VOLUMES_UNAVAILABLE (error); TIER_FAILED, TIER_MISSING (error); TIER_UNREACHABLE (error: of
///   another node), NODE_DOWN (error), NODE_SUSPECT (warning); TIER_FULL (error),
///   TIER_NEARLY_FULL (warning); CHECKSUM_MISMATCH (error); ACTOR_DOWN (warning); MIGRATION_FAILED (warning; of the
///   last hour).
node_status assess(const node_facts& facts);

/// Answers `status` from what others say of themselves at that moment, and keeps the latest events.
class monitor_state {
public:
  static inline const char* name = "varve.monitor";
  explicit monitor_state(monitor_self::pointer self) : self_(self) {}
  monitor_self::behavior_type make_behavior(context_ptr context);

private:
  caf::typed_response_promise<node_status> status();
  std::vector<event> events(uint64_t count) const;
  void publish(const event& x);
  actor_facts facts() const;

  monitor_self::pointer self_;
  context_ptr context_;
  boot_time listening_since_{0};
  /// Oldest first.
  std::deque<event> events_;
};

monitor_self::behavior_type monitor(monitor_self::stateful_pointer<monitor_state> self, context_ptr context);

} // namespace varve
