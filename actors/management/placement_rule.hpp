#pragma once

#include <string>
#include <vector>

#include <caf/error.hpp>

#include "messages/tier.hpp"
#include "messages/volume.hpp"

namespace varve {

/// The first rule of placement, without learning: a volatile volume on a volatile tier, a durable one never; a named
/// tier if the volume names one; else the fastest tier (by measured write latency, then by the order of the
/// configuration) of which more than a tenth is free, so that what is there can grow and move; else any with room for
/// the shard. Of equally fast tiers the cheaper.
struct placement_rule {
  /// The state of a tier that did not answer: it gets nothing, but it may have room.
  static constexpr const char* silent = "silent";

  /// The tier's name, or errc::tier_full, errc::unavailable (full but for a silent one: ask again), errc::not_found (a
  /// named tier that is not there), errc::volatile_tier.
  /// `tiers` in the order of the configuration, fastest first as its author meant them.
  static caf::error choose(const volume_spec& volume, const std::vector<tier_info>& tiers, std::string& out);
  /// Whether the volume could ever be placed, whatever the tiers' room.
  static caf::error check(const volume_spec& volume, const std::vector<tier_info>& tiers);
};

} // namespace varve
