#pragma once

#include <cstdint>

#include "messages/migration.hpp"

namespace varve {

/// How far a migration is: turns rounds of copying into the progress that people watch. Percent never falls, stays
/// below 100 until the commit, and is 100 then.
class migration_meter {
public:
  /// What there is to copy as far as is known, and the budget of all copying together (0: none).
  migration_meter(uint64_t bytes_total, uint64_t budget_bytes_per_second)
    : bytes_total_(bytes_total), budget_(budget_bytes_per_second) {}

  /// Copied `copied` bytes in `took`; `changed` are to be copied again.
  void round(uint64_t copied, uint64_t changed, caf::timespan took);
  /// Starts again from nothing (a lost sink): percent stands still until it is where it was.
  void restart() { bytes_done_ = 0; }
  void commit() { percent_ = 100; }

  /// Fills in the numbers.
  void fill(migration_progress& x) const;

private:
  uint64_t bytes_total_;
  uint64_t budget_;
  uint64_t bytes_done_ = 0;
  double bytes_per_second_ = 0;
  double percent_ = 0;
};

} // namespace varve
