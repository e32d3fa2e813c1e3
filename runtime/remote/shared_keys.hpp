#pragma once

#include <mutex>
#include <unordered_map>

#include "runtime/remote/session_keys.hpp"

namespace varve {

/// The keys of one server, filled from any thread: what was allowed is known when the call returns.
class shared_keys final : public session_keys {
public:
  /// A known one gets the new expiry.
  void allow(const session_key& x) {
    std::lock_guard guard{mutex_};
    keys_[x.id] = x;
  }
  void disallow(uint64_t id) {
    std::lock_guard guard{mutex_};
    keys_.erase(id);
  }
  /// Those whose time has run out.
  void expire(boot_time now) {
    std::lock_guard guard{mutex_};
    std::erase_if(keys_, [&](auto& x) { return now >= x.second.expires; });
  }

  // On the server's reactor.
  const session_key* find(uint64_t id) override {
    std::lock_guard guard{mutex_};
    auto at = keys_.find(id);
    if (at == keys_.end())
      return nullptr;
    found_ = at->second;
    return &found_;
  }

private:
  std::mutex mutex_;
  std::unordered_map<uint64_t, session_key> keys_; // guarded by mutex_
  session_key found_;
};

} // namespace varve
