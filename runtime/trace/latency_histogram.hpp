#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <cstdint>

namespace varve {

/// Latencies to three percent, in fixed memory: 32 buckets for each power of two of nanoseconds.
class latency_histogram {
public:
  void add(std::chrono::nanoseconds x) noexcept {
    const auto ns = x.count() < 0 ? 0 : static_cast<uint64_t>(x.count());
    ++buckets_[bucket_of(ns)];
    ++count_;
    if (ns > max_)
      max_ = ns;
  }

  uint64_t count() const noexcept { return count_; }
  std::chrono::nanoseconds max() const noexcept { return std::chrono::nanoseconds{static_cast<int64_t>(max_)}; }

  /// The latency that `share` (0 to 1) of all do not exceed; zero when there are none.
  std::chrono::nanoseconds percentile(double share) const noexcept {
    auto left = static_cast<uint64_t>(share * static_cast<double>(count_) + 0.999999);
    for (size_t i = 0; i < buckets_.size(); ++i) {
      if (buckets_[i] >= left && left != 0)
        return std::chrono::nanoseconds{static_cast<int64_t>(top_of(i) < max_ ? top_of(i) : max_)};
      left -= buckets_[i];
    }
    return max();
  }

private:
  static constexpr uint64_t steps = 32;
  static constexpr size_t bucket_of(uint64_t ns) noexcept {
    if (ns < steps)
      return ns;
    const auto shift = static_cast<unsigned>(std::bit_width(ns)) - 6;
    return (shift + 1) * steps + ((ns >> shift) - steps);
  }
  static constexpr uint64_t top_of(size_t i) noexcept {
    if (i < steps)
      return i;
    const auto shift = i / steps - 1;
    return ((i % steps + steps + 1) << shift) - 1;
  }

  std::array<uint64_t, 60 * steps> buckets_{};
  uint64_t count_ = 0, max_ = 0;
};

} // namespace varve
