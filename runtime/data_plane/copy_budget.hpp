#pragma once

#include <algorithm>
#include <mutex>

#include "messages/types.hpp"

namespace varve {

/// Spreads bytes evenly over time: whoever wants to move some is told from when on it may. A bucket without depth, so
/// that a pause is not made up for by a burst.
class byte_pacer {
public:
  /// When the next `bytes` may start; 0 bytes per second is unlimited.
  boot_time reserve(uint64_t bytes, uint64_t bytes_per_second, boot_time now) noexcept {
    if (bytes_per_second == 0)
      return now;
    const auto start = std::max(now, next_);
    next_ =
      start + boot_time{static_cast<int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(bytes_per_second))};
    return start;
  }

private:
  boot_time next_{0};
};

/// The budget of all background copying, shared by the reactors. Any thread; one lock for each chunk.
class copy_budget {
public:
  void set(uint64_t bytes_per_second) {
    std::lock_guard guard{mutex_};
    bytes_per_second_ = bytes_per_second;
    // What was promised at the old rate is forgotten.
    pacer_ = {};
  }
  boot_time reserve(uint64_t bytes, boot_time now) {
    std::lock_guard guard{mutex_};
    return pacer_.reserve(bytes, bytes_per_second_, now);
  }

private:
  std::mutex mutex_;
  uint64_t bytes_per_second_ = 0;
  byte_pacer pacer_;
};

} // namespace varve
