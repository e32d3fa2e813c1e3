#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "messages/volume.hpp"
#include "runtime/storage/shard_store.hpp"

namespace varve {

/// [[tier]]: one pool of storage.
struct tier_config {
  /// As a volume's name; "tier ls" shows it.
  std::string name;
  /// Whose it is: of a node by itself empty.
  std::string node;
  tier_kind kind = tier_kind::file;
  /// Of a file tier: its folder, absolute once read; made when absent.
  std::string path;
  file_io io = file_io::direct;
  uint64_t capacity_bytes = 0;
  /// Of a month and GiB, in whatever currency: only the ratios count.
  double cost = 0;
  /// The highest sensitivity of data that may be placed here.
  sensitivity accepts = sensitivity::high;
  tier_emulation emulate;
  /// Of a file tier: a shard's checksum table goes to disk, and its intent marks end, when it had no write for so long.
  /// Longer spares who writes in bursts the syncs of marking anew; what is marked at a crash is recomputed, unverified.
  std::chrono::nanoseconds checkpoint_after = std::chrono::seconds{15};
};

} // namespace varve
