#pragma once

#include <memory>

#include "runtime/storage/shard_store.hpp"

namespace varve::test {

/// What a simulation must find: it would prove nothing if it passed with these.
enum class planted_bug : uint8_t {
  none,
  /// Storage says that it refuses lower epochs, and does not.
  no_fence,
  /// Holders, managers and storage count terms as if all clocks were one.
  no_drift_margin,
  /// Storage forgets the highest epoch that it has seen when it is restarted.
  epoch_not_persisted,
};

/// The store of a tier with that bug: the real one, behind what forgets. `none` and what is not of a store: as it is.
std::unique_ptr<shard_store> with_bug(planted_bug bug, std::unique_ptr<shard_store> on);

} // namespace varve::test
