#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "messages/node.hpp"

namespace varve {

/// The hierarchy of a node's actors as supervisors report it: alive, dead, how often restarted and why. Read by
/// node_root and by the metrics' endpoint, so that a dead actor is seen also when its supervisor hangs. Any thread.
class actor_tree {
public:
  /// The death of an actor that its parent took along: whether it is needed again is for the parent's successor to say.
  static constexpr const char* parent_ended = "parent ended";

  /// A start; counts as a restart when the path was known and dead.
  void started(const std::string& path, const std::string& type, boot_time now) {
    std::lock_guard guard{mutex_};
    auto [at, is_new] = rows_.try_emplace(path);
    auto& row = at->second;
    if (!is_new && !row.info.alive)
      ++row.info.restarts;
    row.info.path = path;
    row.info.type = type;
    row.info.alive = true;
    row.since = now;
  }

  /// A death that is not an orderly end.
  void died(const std::string& path, std::string reason) {
    std::lock_guard guard{mutex_};
    if (auto at = rows_.find(path); at != rows_.end()) {
      at->second.info.alive = false;
      at->second.info.last_error = std::move(reason);
    }
  }

  /// An orderly end: the row goes.
  void removed(const std::string& path) {
    std::lock_guard guard{mutex_};
    rows_.erase(path);
  }

  /// In the order of their paths; `age` counted at `now`.
  std::vector<actor_info> list(boot_time now) const {
    std::lock_guard guard{mutex_};
    std::vector<actor_info> result;
    result.reserve(rows_.size());
    for (const auto& [path, row] : rows_) {
      result.push_back(row.info);
      result.back().age = caf::timespan{(now - row.since).count()};
    }
    return result;
  }

  uint64_t restarts() const {
    std::lock_guard guard{mutex_};
    uint64_t result = 0;
    for (const auto& [path, row] : rows_)
      result += row.info.restarts;
    return result;
  }

private:
  struct row {
    actor_info info;
    boot_time since{0};
  };

  mutable std::mutex mutex_;
  std::map<std::string, row> rows_;
};

} // namespace varve
