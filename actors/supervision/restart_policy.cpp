#include "actors/supervision/restart_policy.hpp"

#include <algorithm>

namespace varve {

std::optional<caf::timespan> restart_policy::next(boot_time now) {
  while (!deaths_.empty() && deaths_.front() + options_.window <= now)
    deaths_.pop_front();
  if (deaths_.size() >= options_.restarts_max)
    return std::nullopt;
  // Beyond 2^20 the cap has long been reached; the shift must not overflow.
  const auto doublings = std::min<size_t>(deaths_.size(), 20);
  deaths_.push_back(now);
  auto delay = static_cast<double>(options_.delay_min.count()) * static_cast<double>(1ull << doublings);
  delay = std::min(delay, static_cast<double>(options_.delay_max.count()));
  const auto share =
    static_cast<double>(random_() - random_.min()) / static_cast<double>(random_.max() - random_.min());
  return caf::timespan{static_cast<int64_t>(delay * (1.0 - options_.jitter * share))};
}

size_t restart_policy::used(boot_time now) const {
  return static_cast<size_t>(
    std::count_if(deaths_.begin(), deaths_.end(), [&](boot_time at) { return at + options_.window > now; }));
}

} // namespace varve
