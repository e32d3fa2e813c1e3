#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <random>

#include "actors/node_context.hpp"

namespace varve {

/// When to start a child again that died: later each time, never in step with its siblings, and not for ever.
class restart_policy {
public:
  restart_policy(const restart_options& options, uint64_t seed) : options_(options), random_(seed) {}

  /// How long to wait before the restart after a death at `now`; none: more than `restarts_max` within the window, so
  /// the supervisor has to fail. Back-off counts the deaths within the window and thus forgets by itself.
  std::optional<caf::timespan> next(boot_time now);

  /// Deaths within the window that ends at `now`.
  size_t used(boot_time now) const;

private:
  restart_options options_;
  std::minstd_rand random_;
  std::deque<boot_time> deaths_;
};

} // namespace varve
