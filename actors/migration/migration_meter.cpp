#include "actors/migration/migration_meter.hpp"

#include <algorithm>
#include <chrono>

namespace varve {

void migration_meter::round(uint64_t copied, uint64_t changed, caf::timespan took) {
  bytes_done_ += copied;
  bytes_total_ = std::max(bytes_total_, bytes_done_ + changed);
  if (copied > 0 && took.count() > 0) {
    const auto rate = static_cast<double>(copied) / std::chrono::duration<double>(took).count();
    // A mean over some four rounds: steady enough to read, quick enough to see a throttle.
    bytes_per_second_ = bytes_per_second_ == 0 ? rate : bytes_per_second_ + (rate - bytes_per_second_) / 4;
  }
  // What changes meanwhile is copied twice, so the share alone may reach the end too early.
  const auto share = bytes_total_ == 0 ? 1.0 : static_cast<double>(bytes_done_) / static_cast<double>(bytes_total_);
  percent_ = std::max(percent_, std::min(99.0, 99.0 * share));
}

void migration_meter::fill(migration_progress& x) const {
  x.bytes_done = bytes_done_;
  x.bytes_total = std::max(bytes_total_, bytes_done_);
  x.percent = percent_;
  x.bytes_per_second = bytes_per_second_;
  x.remaining = caf::timespan{0};
  if (percent_ < 100 && bytes_per_second_ > 0)
    x.remaining =
      caf::timespan{static_cast<int64_t>(static_cast<double>(x.bytes_total - bytes_done_) / bytes_per_second_ * 1e9)};
  x.throttled_by = budget_ > 0 && bytes_per_second_ >= 0.8 * static_cast<double>(budget_) ? "budget" : "";
}

} // namespace varve
