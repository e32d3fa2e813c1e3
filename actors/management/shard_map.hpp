#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/management/tier_names.hpp"
#include "messages/volume.hpp"

namespace varve {

/// Which shards of one volume exist, and where: the rules of the table, no actor. Only existing shards cost memory
/// (about 96 bytes each); a volume of 64 TiB that was never written costs none.
class shard_map {
public:
  struct row {
    varve::generation generation;
    epoch fence;
    /// Of the catalog's entry.
    uint64_t revision = 0;
    uint32_t tier = 0;
  };

  explicit shard_map(volume_id volume = {}) : volume_(volume) {}

  void put(const shard_home& home, uint64_t revision);
  void erase(shard_index index) { rows_.erase(index); }
  /// One that does not exist: generation 0, no tier.
  shard_home home(shard_index index) const;
  /// Those of these shards that exist, in order.
  std::vector<shard_home> homes(const std::vector<shard_index>& all) const;
  /// 0 for one that does not exist.
  uint64_t revision(shard_index index) const;
  /// At most `homes_max` homes of the range; `end` tells how far the answer reaches. `shards` is the size of the
  /// volume.
  shard_map_part part(shard_index first, uint64_t count, uint64_t shards, size_t homes_max) const;
  /// The last shard that exists.
  std::optional<shard_index> last() const;
  std::optional<shard_index> first() const;
  size_t size() const noexcept { return rows_.size(); }
  /// The tiers that hold any shard now, or did.
  const std::vector<std::string>& tiers() const noexcept { return tiers_.all(); }

private:
  shard_home home_of(shard_index index, const row& x) const;

  volume_id volume_;
  std::map<shard_index, row> rows_;
  tier_names tiers_;
};

} // namespace varve
