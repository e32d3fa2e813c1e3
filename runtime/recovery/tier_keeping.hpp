#pragma once

#include <map>
#include <string>

#include "runtime/recovery/stopped_node.hpp"

namespace varve {

struct tier_loss {
  std::string tier;
  /// As the catalog knows it; empty: not at all.
  std::string id;
  uint64_t shards = 0;
  /// By the names of volumes: how many shards each loses.
  std::map<std::string, uint64_t> volumes;
};

/// What is lost when a tier is given up: the shards whose home is there. errc::not_found when the catalog has neither
/// the tier nor a shard on it.
caf::error weigh_tier(catalog_store& catalog, const std::string& tier, tier_loss& out);

/// Gives a tier up for good: its shards are forgotten and read as zeros from then on, and its id is not served again.
/// All or nothing. `out` is what was lost.
caf::error forget_tier(catalog_store& catalog, const std::string& tier, tier_loss& out);

struct tier_acceptance {
  std::string id;
  /// The folder had no identity, and got this one.
  bool is_new = false;
  /// What the catalog had for the tier before; empty: nothing.
  std::string before;
  /// Shards whose home is on the tier; those of them that its folder does not have.
  uint64_t homes = 0, missing = 0;
  /// Whose the folder was, if it said another.
  std::string was_called;
};

/// Takes the folder that a tier has now for that tier. Without `confirmed` only says what that would mean, with
/// errc::needs_confirmation. errc::already_exists when it is the tier's already, errc::invalid_argument for a folder
/// that is another tier's or was given up, errc::not_found.
caf::error accept_tier(const stopped_node& node, catalog_store& catalog, const std::string& tier, bool confirmed,
                       tier_acceptance& out);

} // namespace varve
