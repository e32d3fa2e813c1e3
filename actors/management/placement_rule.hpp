#pragma once

#include "actors/management/placement_policy.hpp"

namespace varve {

/// The first policy, without learning. Before anything else: no tier that is not trusted with data as sensitive, a
/// volatile volume on volatile tiers only, a durable one never. Then a named tier if the volume names one. Else classes
/// of tiers by the declared profile:
///   latency   the fastest, whatever they cost
///   balanced  the fastest, of equally fast ones the cheapest
///   capacity  the cheapest, of equally cheap ones the fastest
/// Speed is the measured write latency. Tiers that were not measured are as fast as each other when they are declared
/// alike (kind, io, cost), and stand in the order of the configuration otherwise.
class placement_rule final : public placement_policy {
public:
  caf::error determine_shard_placement(uint64_t volume_size, const placement_request& workload,
                                       const std::vector<storage_tier>& tiers, placement_plan& out) const override;
};

/// The state of a tier that did not answer: it gets nothing, but it may have room.
inline constexpr const char* silent_tier = "silent";

placement_request request_of(const volume_spec& volume);

/// The tier of a plan that gets a new shard: of the first class with one of which more than a tenth is free, so that
/// what is there can grow and move; else of the first with one that has room at all. Within a class shards are spread
/// by free space, by sampling; where that meets none with room, by rendezvous hashing (Thaler and Ravishankar, 1998;
/// weighted as by Schindelhauer and Schomaker, 2005). A shard that is asked for again mostly gets the same answer.
/// `near`: a node at which the volume is attached; for the latency profile a tier there is preferred within its class.
/// errc::tier_full, errc::unavailable (full but for one that does not answer: ask again).
caf::error choose_tier(const placement_plan& plan, const std::vector<storage_tier>& tiers, const volume_spec& volume,
                       shard_id shard, const std::string& near, std::string& out);

} // namespace varve
