#pragma once

#include <algorithm>
#include <mutex>

#include "actors/node_context.hpp"

namespace varve {

/// Under which number this node manages; 0: it does not. As node_announcement::leads.
inline uint64_t leads_as(const node_context& context) {
  if (!context.options.roles.manager)
    return 0;
  if (!context.leadership)
    return 1;
  const auto x = context.leadership->get();
  return x.leads && context.now() < x.until ? std::max<uint64_t>(x.term, 1) : 0;
}

/// The highest number under which any node was heard to manage: shared by a node's peers, so that a manager that was
/// replaced and does not know it yet is no longer listened to. Any thread.
class leader_watch {
public:
  /// Whether nobody later is known; from then on nobody earlier is admitted.
  bool admits(uint64_t term) {
    std::lock_guard guard{mutex_};
    highest_ = std::max(highest_, term);
    return term == highest_;
  }

private:
  std::mutex mutex_;
  uint64_t highest_ = 0;
};

} // namespace varve
