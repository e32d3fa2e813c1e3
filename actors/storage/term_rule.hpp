#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <caf/timespan.hpp>

#include "messages/errors.hpp"
#include "messages/lease.hpp"

namespace varve {

/// How a tier is, as far as leases go.
struct tier_load {
  /// It is to be emptied.
  bool draining = false;
  /// Grants that wait for its device.
  uint64_t grants_waiting = 0;
  /// Of its device.
  std::chrono::nanoseconds sync_latency_mean{0};
};

/// What storage says to a wished term.
struct term_answer {
  /// errc::unavailable: refused, and `why` says so.
  errc refused = errc::none;
  std::string why;
  caf::timespan term{0};
  term_limit limit = term_limit::none;
};

/// When storage accepts, shortens or refuses. Short is one length, the configuration's: shorter ones could not outlast
/// a manager's failover.
struct term_rule {
  caf::timespan short_term{std::chrono::seconds{20}};
  /// Grants that may wait: more would time out at their managers, and be asked for again.
  uint64_t grants_waiting_max = 4096;
  /// A device that takes longer for a sync may be given up soon.
  std::chrono::nanoseconds slow_sync = std::chrono::seconds{1};

  /// `moving`: a migration has a lease beside it.
  term_answer grant(const tier_load& load, caf::timespan wished, bool moving) const;
  /// Renewals are never refused: what waits is not made shorter by ending what goes on.
  term_answer renewal(const tier_load& load, caf::timespan wished, bool moving) const;
};

} // namespace varve
