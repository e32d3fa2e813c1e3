#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "actors/management/placement_policy.hpp"
#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using placement_self = placement_actor::extend_with<inspected_actor>;

/// Chooses by its policy over what the tiers last said of themselves: asked again when that is older than a second,
/// or when the same shard is asked for twice (then the first choice was refused).
class placement_state {
public:
  static inline const char* name = "varve.placement";
  explicit placement_state(placement_self::pointer self) : self_(self) {}
  placement_self::behavior_type make_behavior(context_ptr context);

private:
  struct question {
    volume_record volume;
    shard_id shard;
    caf::typed_response_promise<std::string> promise;
  };

  caf::typed_response_promise<std::string> place(const volume_record& volume, shard_index index);
  void cordon(const std::vector<std::string>& nodes);
  void refresh();
  actor_facts facts() const;
  void refreshed(uint64_t round);
  void answer(question& x);

  placement_self::pointer self_;
  context_ptr context_;
  /// In the order of the configuration.
  std::vector<storage_tier> tiers_;
  std::unique_ptr<placement_policy> policy_;
  boot_time asked_at_{0};
  bool known_ = false;
  uint64_t round_ = 0;
  size_t unanswered_ = 0;
  std::deque<question> waiting_;
  /// Made since the last refresh: of those volumes that shards were placed of.
  std::map<std::pair<uint64_t, placement_request>, placement_plan> plans_;
  /// Placed since the last refresh.
  std::set<shard_id> placed_;
};

placement_self::behavior_type placement(placement_self::stateful_pointer<placement_state> self, context_ptr context);

} // namespace varve
