#pragma once

#include <string>

#include <caf/error.hpp>

#include "messages/migration.hpp"
#include "messages/volume.hpp"

/// How the catalog's keys and values are written. Values are compact JSON with field names: a field that a reader does
/// not know is ignored, one that is missing has its default, so that versions side by side can read each other.
namespace varve {

/// The version of keys and values together; a newer one is refused.
inline constexpr uint64_t catalog_schema = 1;

namespace key {
inline const std::string schema = "meta/schema";
inline const std::string incarnation = "meta/incarnation";
inline const std::string next_volume = "meta/next-volume";
inline const std::string next_migration = "meta/next-migration";
inline const std::string next_holder = "meta/next-holder";
inline const std::string volumes = "volume/";
inline const std::string migrations = "migration/";
/// Of all volumes.
inline const std::string all_shards = "shard/";
inline const std::string meta = "meta/";
inline const std::string tiers = "tier/";
/// What is wanted of a node.
inline const std::string nodes = "node/";
/// Tiers that were given up: an id that stands here is not served again.
inline const std::string former_tiers = "former-tier/";
std::string volume(volume_id id);
std::string volume_name(const std::string& name);
/// All shards of a volume, in order of their index.
std::string shards(volume_id id);
std::string shard(shard_id id);
std::string migration(migration_id id);
std::string tier(const std::string& name);
std::string former_tier(const std::string& id);
std::string node(const std::string& name);
} // namespace key

/// A file tier as the catalog knows it; its name stands in the key. Of a former tier: its last name.
struct tier_record {
  /// What its folder says (tier_identity).
  std::string id;
  std::string name;
};

/// What is wanted of a node, whose name stands in the key.
struct node_record {
  bool cordoned = false;
  bool draining = false;
};

/// Decoding answers errc::bad_format, with what was expected in the context; `out` is then unspecified.
std::string encode(const volume_record& x);
caf::error decode(const std::string& value, volume_record& out);

/// The shard itself stands in the key.
std::string encode(const shard_home& x);
caf::error decode(const std::string& shard_key, const std::string& value, shard_home& out);

std::string encode(const migration_record& x);
caf::error decode(const std::string& value, migration_record& out);

std::string encode(const tier_record& x);
caf::error decode(const std::string& value, tier_record& out);

std::string encode(const node_record& x);
caf::error decode(const std::string& value, node_record& out);

/// A number that stands alone (the meta keys).
std::string encode(uint64_t x);
caf::error decode(const std::string& value, uint64_t& out);

} // namespace varve
