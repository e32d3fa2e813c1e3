#include "actors/management/placement_policy.hpp"

namespace varve {

std::vector<storage_tier> storage_tiers_of(const node_options& options) {
  std::vector<storage_tier> result;
  for (const auto& x : options.tiers) {
    storage_tier tier;
    tier.info.name = x.store.name;
    tier.info.kind = x.is_volatile() ? "memory" : "file";
    tier.info.io = x.is_volatile() ? "" : x.store.io == file_io::direct ? "direct" : "buffered";
    tier.info.is_volatile = x.is_volatile();
    tier.info.emulated = x.emulated();
    tier.info.capacity_bytes = x.capacity_bytes;
    tier.info.cost = x.cost;
    tier.info.state = "unknown";
    tier.node = x.node.empty() ? options.name : x.node;
    tier.accepts = x.accepts;
    result.push_back(std::move(tier));
  }
  return result;
}

} // namespace varve
