#pragma once

#include <chrono>
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
    /// Since boot, also while suspended. From then on another may lead, even if nobody here has been told yet, as after
    /// a process was stopped for a while.
    std::chrono::nanoseconds until = std::chrono::nanoseconds::max();
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

  /// It leads for longer, if it still does so under that term.
  void extend(uint64_t term, std::chrono::nanoseconds until) {
    std::lock_guard guard{mutex_};
    if (state_.leads && state_.term == term)
      state_.until = until;
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
