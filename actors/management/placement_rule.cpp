#include "actors/management/placement_rule.hpp"

#include <algorithm>
#include <cmath>

#include "messages/errors.hpp"

namespace varve {

namespace {

constexpr uint64_t free_share_divisor = 10;

uint64_t free_bytes(const tier_info& x) {
  return x.capacity_bytes - std::min(x.capacity_bytes, x.used_bytes);
}

bool roomy(const tier_info& x) {
  return free_bytes(x) > x.capacity_bytes / free_share_divisor;
}

bool measured(const tier_info& x) {
  return x.write_latency.count() > 0;
}

/// Latencies within a quarter of each other are noise.
bool faster(const tier_info& a, const tier_info& b) {
  const auto x = a.write_latency.count(), y = b.write_latency.count();
  return measured(a) && measured(b) && x + x / 4 < y;
}

bool as_fast(const tier_info& a, const tier_info& b) {
  if (measured(a) && measured(b))
    return !faster(a, b) && !faster(b, a);
  return a.kind == b.kind && a.io == b.io && a.emulated == b.emulated && a.cost == b.cost;
}

bool better(const tier_info& a, const tier_info& b, workload_profile profile) {
  switch (profile) {
  case workload_profile::latency: return faster(a, b);
  case workload_profile::capacity: return a.cost != b.cost ? a.cost < b.cost : faster(a, b);
  default: return faster(a, b) || (measured(a) && as_fast(a, b) && a.cost < b.cost);
  }
}

bool alike(const tier_info& a, const tier_info& b, workload_profile profile) {
  return as_fast(a, b) && (profile == workload_profile::latency || a.cost == b.cost);
}

const char* kind_of(bool is_volatile) {
  return is_volatile ? "volatile" : "durable";
}

const char* name_of(sensitivity x) {
  return x == sensitivity::high ? "high" : x == sensitivity::normal ? "normal" : "low";
}

/// As good as random, always the same (SplitMix64's finaliser).
uint64_t mixed(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// In (0, 1).
double fraction(uint64_t x) {
  return (static_cast<double>(x >> 11) + 0.5) / 9007199254740992.0; // 2^53
}

/// Of one shard at one tier.
double draw(shard_id shard, const std::string& tier) {
  uint64_t x = std::hash<shard_id>{}(shard);
  for (const char c : tier)
    x = (x ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return fraction(mixed(x));
}

/// Of a class's members one that `may` have the shard, by free space; null: none was met in some tries. Which of all
/// tiers are tried the shard says, whatever class they are of, and each is taken with the share of the largest member's
/// capacity that it has free: so what has gone, or has left the class, changes the answers for its own shards only, as
/// when all were looked at; and where most tiers are alike a thousand are no more work than ten.
template <class F>
const storage_tier* sample(const placement_plan::tier_class& of, const std::vector<storage_tier>& tiers, shard_id shard,
                           F may) {
  // Where all are alike and a third of the space is free one shard of 400,000 meets none.
  constexpr uint64_t tries = 32;
  const auto seed = mixed(std::hash<shard_id>{}(shard));
  for (uint64_t i = 1; i <= tries; ++i) {
    const auto x = mixed(seed + i * 0x9e3779b97f4a7c15ull);
    const auto& tier = tiers[x % tiers.size()];
    if (std::binary_search(of.members.begin(), of.members.end(), x % tiers.size()) && may(tier) &&
        fraction(mixed(x)) * static_cast<double>(of.largest_bytes) < static_cast<double>(free_bytes(tier.info)))
      return &tier;
  }
  return nullptr;
}

} // namespace

placement_request request_of(const volume_spec& volume) {
  return {volume.profile, volume.sensitive, volume.is_volatile, volume.tier};
}

caf::error placement_rule::determine_shard_placement(uint64_t, const placement_request& workload,
                                                     const std::vector<storage_tier>& tiers,
                                                     placement_plan& out) const {
  out = {};
  std::vector<size_t> fit;
  bool untrusted = false;
  const bool any = workload.tier.empty() || std::any_of(tiers.begin(), tiers.end(), [&](auto& x) {
                     return x.cordoned && x.info.name == workload.tier && x.info.is_volatile == workload.is_volatile;
                   });
  for (size_t i = 0; i < tiers.size(); ++i) {
    const auto& x = tiers[i];
    if (x.cordoned)
      continue;
    if (any ? x.info.is_volatile != workload.is_volatile : x.info.name != workload.tier)
      continue;
    if (x.info.is_volatile && !workload.is_volatile)
      return make_error(errc::volatile_tier, "tier " + x.info.name +
                                               " loses its data when the node stops: create the volume with "
                                               "--volatile, or on another tier");
    if (x.accepts < workload.sensitive)
      untrusted = true;
    else
      fit.push_back(i);
  }
  if (fit.empty() && untrusted)
    return make_error(errc::invalid_argument,
                      (any ? "no tier for " + std::string{kind_of(workload.is_volatile)} + " volumes"
                           : "tier " + workload.tier + " is not one that") +
                        " accepts data of sensitivity " + name_of(workload.sensitive));
  if (fit.empty() && std::any_of(tiers.begin(), tiers.end(), [&](auto& x) {
        return x.cordoned && x.info.is_volatile == workload.is_volatile && x.accepts >= workload.sensitive;
      }))
    return make_error(errc::tier_full, "every node with a tier for it is cordoned");
  if (fit.empty() && !any)
    return make_error(errc::not_found, "tier " + workload.tier);
  if (fit.empty())
    return make_error(workload.is_volatile ? errc::not_found : errc::volatile_tier,
                      std::string{"there is no tier for "} + kind_of(workload.is_volatile) + " volumes");
  for (const auto i : fit)
    out.free_bytes += free_bytes(tiers[i].info);
  // What is nearly as fast as what is nearly as fast need not be nearly as fast: so no sort, but one best after
  // another.
  while (!fit.empty()) {
    auto best = fit.front();
    for (const auto i : fit)
      if (better(tiers[i].info, tiers[best].info, workload.profile))
        best = i;
    auto& made = out.classes.emplace_back();
    for (const auto& x : tiers)
      if (x.cordoned && alike(x.info, tiers[best].info, workload.profile))
        made.largest_bytes = std::max(made.largest_bytes, x.info.capacity_bytes);
    std::erase_if(fit, [&](size_t i) {
      const bool same = i == best || alike(tiers[i].info, tiers[best].info, workload.profile);
      if (same) {
        made.members.push_back(i);
        made.largest_bytes = std::max(made.largest_bytes, tiers[i].info.capacity_bytes);
      }
      return same;
    });
  }
  return {};
}

caf::error choose_tier(const placement_plan& plan, const std::vector<storage_tier>& tiers, const volume_spec& volume,
                       shard_id shard, const std::string& near, std::string& out) {
  const storage_tier* waits_for = nullptr;
  for (const bool with_reserve : {true, false})
    for (const auto& of : plan.classes) {
      if (near.empty() || volume.profile != workload_profile::latency)
        if (const auto* found = sample(of, tiers, shard, [&](const storage_tier& x) {
              return x.info.state != "failed" && x.info.state != "refused" && x.info.state != silent_tier &&
                     free_bytes(x.info) >= volume.shard_size && (!with_reserve || roomy(x.info));
            })) {
          out = found->info.name;
          return {};
        }
      const storage_tier* best = nullptr;
      double best_score = 0;
      bool best_near = false;
      for (const auto i : of.members) {
        const auto& x = tiers[i];
        if (x.info.state == "failed" || free_bytes(x.info) < volume.shard_size)
          continue;
        // The tier that was asked for may come back; of several nobody waits for one.
        if (x.info.state == "refused" && volume.tier.empty())
          continue;
        if (x.info.state == silent_tier || x.info.state == "refused") {
          waits_for = &x;
          continue;
        }
        if (with_reserve && !roomy(x.info))
          continue;
        const bool is_near = volume.profile == workload_profile::latency && x.node == near;
        const auto score = -static_cast<double>(free_bytes(x.info)) / std::log(draw(shard, x.info.name));
        if (!best || (is_near && !best_near) || (is_near == best_near && score > best_score)) {
          best = &x;
          best_score = score;
          best_near = is_near;
        }
      }
      if (best) {
        out = best->info.name;
        return {};
      }
    }
  // A VM must not be told that there is no room because a tier is being started again.
  if (waits_for)
    return make_error(errc::unavailable, "tier " + waits_for->info.name + " does not answer");
  return make_error(errc::tier_full, volume.tier.empty()
                                       ? std::string{"every tier for "} + kind_of(volume.is_volatile) + " volumes"
                                       : "tier " + volume.tier);
}

} // namespace varve
