#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/catalog/catalog_store.hpp"
#include "runtime/config/node_config.hpp"
#include "runtime/storage/tier_identity.hpp"

namespace varve {

/// What is known of a file tier before it is served: what its folder says, and what the catalog says.
struct tier_evidence {
  std::string tier;
  std::string node;
  std::string folder;
  /// Of the folder's identity file: errc::none with `found`, errc::not_found, or what `problem` tells.
  errc identity = errc::not_found;
  tier_identity found;
  std::string problem;
  /// The folder has a file with the name of a shard's.
  bool has_shards = false;
  /// The id that the catalog has for this tier; empty: none.
  std::string known;
  /// Shards whose home is on this tier, as the catalog says.
  uint64_t homes = 0;
  /// False: `catalog` is only what a node keeps of its tiers' ids; `homes` says nothing.
  bool homes_known = true;
  /// The other tier to which the found id belongs, as the catalog says: also since a moment ago.
  std::string owner;
  /// The found id is that of a tier that was given up.
  bool given_up = false;
};

enum class tier_verdict : uint8_t {
  serve,
  /// Serve it, and record the id found in the catalog.
  serve_and_record,
  /// Serve it under a new id.
  serve_as_new,
  /// Not served; the decision's `why` says what is the matter and what can be done.
  refuse,
};

struct tier_decision {
  tier_verdict verdict = tier_verdict::refuse;
  std::string why;
};

/// The rule: a tier is who its folder says it is, wherever that is mounted; a folder that says nothing is taken only
/// where nothing is expected of it.
tier_decision judge(const tier_evidence& x);

/// What came of one file tier when the node started.
struct tier_claim {
  std::string tier;
  /// Its id, when it is served.
  std::string id;
  /// Why it is not served; empty: it is.
  std::string refused;
  /// A new id was given.
  bool is_new = false;
};

/// Looks at every file tier's folder and at the catalog, decides, and writes what was decided: identity files first,
/// then the catalog. Makes the folders of those that are served (0700). False with a `problem` when the catalog does
/// not answer. Blocks; before the data path has opened anything. `homes_known` as of tier_evidence.
bool claim_tiers(const std::vector<tier_config>& tiers, const std::string& node, catalog_store& catalog,
                 std::vector<tier_claim>& claims, std::string& problem, bool homes_known = true);

/// The evidence of one tier as it is now. Blocks.
bool gather_evidence(const tier_config& tier, const std::string& node, catalog_store& catalog, tier_evidence& out,
                     std::string& problem);

/// Asks a store and waits. Must not be called on the store's own thread.
catalog_result list_now(catalog_store& store, const std::string& prefix);
catalog_result commit_now(catalog_store& store, catalog_batch batch);

} // namespace varve
