#pragma once

#include <string>
#include <vector>

#include <caf/timespan.hpp>

#include "messages/types.hpp"

namespace varve {

/// One tier for `tier ls` and placement.
struct tier_info {
  std::string name;
  /// "memory" or "file".
  std::string kind;
  bool is_volatile = false;
  /// "direct" or "buffered"; empty for memory.
  std::string io;
  std::string directory;
  uint64_t capacity_bytes = 0;
  /// Promised to shards: allocated bytes plus reservations of moves under way.
  uint64_t used_bytes = 0;
  uint64_t shards = 0;
  uint64_t active_shards = 0;
  /// Of a month and GiB, in the config's currency; for placement.
  double cost = 0;
  bool emulated = false;
  /// "up", "failed" (with `problem`), "refused" (with `problem`: its folder is not the one that the catalog knows, or
  /// is not there; nothing on it is touched) or "unknown".
  std::string state;
  std::string problem;
  /// Measured, decayed means.
  caf::timespan read_latency{0}, write_latency{0}, sync_latency{0};
  double read_bytes_per_second = 0, written_bytes_per_second = 0;
  uint64_t reads = 0, writes = 0, syncs = 0, read_bytes = 0, written_bytes = 0;
  uint64_t checksum_mismatches = 0;
  /// Of a file tier: its identity, 32 hexadecimal digits; empty while it is refused.
  std::string id;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, tier_info& x) {
  return f(caf::meta::type_name("varve::tier_info"), x.name, x.kind, x.is_volatile, x.io, x.directory, x.capacity_bytes,
           x.used_bytes, x.shards, x.active_shards, x.cost, x.emulated, x.state, x.problem, x.read_latency,
           x.write_latency, x.sync_latency, x.read_bytes_per_second, x.written_bytes_per_second, x.reads, x.writes,
           x.syncs, x.read_bytes, x.written_bytes, x.checksum_mismatches, x.id);
}

} // namespace varve
