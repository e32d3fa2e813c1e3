#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace varve {

/// Whether this node may manage: where several could, one leads. Any thread.
class leadership {
public:
  struct state {
    bool leads = false;
    /// Why not, for people.
    std::string why_not;
    /// While it leads: higher than of any leader before. 0: nobody else can lead.
    uint64_t term = 0;
  };
  using watcher = std::function<void(bool leads)>;

  state get() const {
    std::lock_guard guard{mutex_};
    return state_;
  }

  void set(state x) {
    std::lock_guard guard{mutex_};
    const bool changed = x.leads != state_.leads;
    state_ = std::move(x);
    if (changed)
      for (auto& [number, tell] : watchers_)
        tell(state_.leads);
  }

  /// Told now, and of each change from now on, as long as the handle lives. It must only pass it on.
  [[nodiscard]] std::shared_ptr<void> watch(watcher x) {
    std::lock_guard guard{mutex_};
    const auto number = ++last_;
    x(state_.leads);
    watchers_.emplace(number, std::move(x));
    return {nullptr, [this, number](void*) {
              std::lock_guard guard{mutex_};
              watchers_.erase(number);
            }};
  }

private:
  mutable std::mutex mutex_;
  state state_{false, "starting"};
  std::map<uint64_t, watcher> watchers_;
  uint64_t last_ = 0;
};

} // namespace varve
