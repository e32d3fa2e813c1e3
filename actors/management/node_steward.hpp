#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "actors/management/shard_census.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using node_steward_self = node_steward_actor::extend<caf::reacts_to<atom::tick>>::extend_with<inspected_actor>;

/// Takes nodes out of use: remembers in the catalog which are cordoned or draining, keeps placement from them, and
/// moves what a draining node holds to tiers that placement chooses, whatever tier its volumes name. A shard leaves a
/// node by a migration only, so that its only copy is never dropped.
class node_steward_state {
public:
  static inline const char* name = "varve.node-steward";
  explicit node_steward_state(node_steward_self::pointer self) : self_(self) {}
  node_steward_self::behavior_type make_behavior(context_ptr context);

private:
  using condition_promise = caf::typed_response_promise<node_condition>;
  using verdict_promise = caf::typed_response_promise<node_verdict>;

  struct node {
    node_condition info;
    uint64_t revision = 0;
    bool changing = false;
    /// Of the last count, and not asked to move yet.
    std::deque<shard_id> to_move;
    uint64_t asked = 0;
    uint64_t refused = 0;
  };

  void load();
  caf::result<node_condition> change(const std::string& name, bool cordoned, bool draining);
  void tell_placement();
  caf::result<node_verdict> verify(const std::string& name, bool remove);
  void judge(const std::string& name, bool remove, const census_result& census, verdict_promise promise);
  actor_facts facts() const;

  void tick();
  void count_moves();
  void count_shards();
  void counted(const census_result& x, boot_time began);
  void move_some(node& x);
  void move_one(const std::string& node, shard_id shard);
  void place(const std::string& node, shard_id shard);
  void refused(const std::string& node, const caf::error& e);

  std::vector<std::string> tiers_of(const std::string& node) const;
  std::string node_of(const std::string& tier) const;
  bool any_draining() const;

  node_steward_self::pointer self_;
  context_ptr context_;
  /// By name: all that are configured.
  std::map<std::string, node> nodes_;
  bool loaded_ = false;
  bool counting_ = false;
  boot_time count_at_{0};
  /// Records of volumes, of the last count.
  std::map<volume_id, volume_record> volumes_;
  uint64_t moving_ = 0;
};

node_steward_self::behavior_type node_steward(node_steward_self::stateful_pointer<node_steward_state> self,
                                              context_ptr context);

} // namespace varve
