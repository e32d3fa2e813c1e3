#pragma once

#include <string>
#include <vector>

#include <caf/error.hpp>

#include "actors/node_context.hpp"
#include "messages/tier.hpp"
#include "messages/volume.hpp"

namespace varve {

/// A tier as placement sees it: what it last said of itself, and what the configuration says.
struct storage_tier {
  tier_info info;
  /// Whose it is.
  std::string node;
  /// The highest sensitivity that it may hold.
  sensitivity accepts = sensitivity::high;
  /// Its node gets nothing new.
  bool cordoned = false;
};

/// All that are configured, of which nothing was heard yet.
std::vector<storage_tier> storage_tiers_of(const node_options& options);

/// What placement knows of how a volume will be used.
struct placement_request {
  workload_profile profile = workload_profile::balanced;
  sensitivity sensitive = sensitivity::normal;
  bool is_volatile = false;
  /// Where all of it must go; empty: the policy decides.
  std::string tier;

  auto operator<=>(const placement_request&) const = default;
};

/// Where a volume's new shards go: spread over the tiers of the first class that has room, then of the next.
struct placement_plan {
  struct tier_class {
    /// Positions in the list of tiers; all are as good.
    std::vector<size_t> members;
    /// The capacity of the largest, in bytes; also of one that is cordoned and would be a member.
    uint64_t largest_bytes = 0;
  };
  /// Best first.
  std::vector<tier_class> classes;
  /// What all of them have free, in bytes.
  uint64_t free_bytes = 0;
};

/// Decides which tiers suit a volume. One that is cordoned suits none: then a volume that names it is as one that
/// names none. What stands behind it may be a rule or something that has learnt; which tier of a
/// plan gets a shard is not its business. Used by one actor.
class placement_policy {
public:
  virtual ~placement_policy() = default;

  /// `volume_size` in bytes, as a VM sees it: volumes are thin. The tiers in the order of the configuration, fastest
  /// first as its author meant them; those that do not answer are planned with, too.
  /// errc::not_found: none is for such volumes, or not the one that is named; errc::volatile_tier;
  /// errc::invalid_argument: those that would be are not trusted with data as sensitive.
  virtual caf::error determine_shard_placement(uint64_t volume_size, const placement_request& workload,
                                               const std::vector<storage_tier>& tiers, placement_plan& out) const = 0;
};

} // namespace varve
