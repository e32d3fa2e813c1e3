#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using data_link_actor = caf::typed_actor<
  // A session with one of the node's reactors has opened, or has not (or no more), and why: (theirs, own, open, why).
  caf::reacts_to<atom::change, uint32_t, uint32_t, bool, std::string>,
  // Timers, with what they were set for: asking for the keys of one of this node's reactors (again); the data still
  // cannot be reached.
  caf::reacts_to<atom::renew, uint32_t, uint64_t>, caf::reacts_to<atom::tick, uint64_t>>::extend_with<inspected_actor>;

/// Keeps this node's right to do I/O on the shards of one other node: gets the keys from its data_keeper, one set for
/// each reactor of this node, hands them to the data path, and renews them at a third of their term. Says when the
/// node's data cannot be reached, and when it can be again.
class data_link_state {
public:
  static inline const char* name = "varve.data-link";
  explicit data_link_state(data_link_actor::pointer self) : self_(self) {}
  data_link_actor::behavior_type make_behavior(context_ptr context, std::string node);

private:
  /// What one of this node's reactors has.
  struct row {
    /// Timers and answers of an earlier one are ignored.
    uint64_t round = 0;
    unsigned attempts = 0;
    bool has_keys = false;
  };

  void renew(uint32_t own);
  void granted(uint32_t own, boot_time asked_at, const data_access& x);
  void again(uint32_t own, caf::timespan in);
  void keeper_down(const caf::down_msg& x);
  void session(uint32_t theirs, uint32_t own, bool open, const std::string& why);
  void look(uint64_t round);
  actor_facts facts() const;

  data_link_actor::pointer self_;
  context_ptr context_;
  std::string node_;
  std::map<uint32_t, row> rows_; // by this node's reactor
  /// The node's reactors, once it said so.
  uint32_t theirs_ = 0;
  caf::actor_addr keeper_;
  std::string refused_; // what was said last, so that it is said once
  /// Sessions that do not open, and why: (theirs, own).
  std::map<std::pair<uint32_t, uint32_t>, std::string> closed_;
  /// Since when something is closed; each time counted.
  uint64_t trouble_ = 0;
  bool told_ = false;
};

data_link_actor::behavior_type data_link(data_link_actor::stateful_pointer<data_link_state> self, context_ptr context,
                                         std::string node);

} // namespace varve
