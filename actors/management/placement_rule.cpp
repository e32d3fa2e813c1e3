#include "actors/management/placement_rule.hpp"

#include <algorithm>

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

/// Latencies within a quarter of each other are noise; 0 is not measured yet and says nothing.
bool faster(const tier_info& a, const tier_info& b) {
  const auto x = a.write_latency.count(), y = b.write_latency.count();
  return x > 0 && y > 0 && x + x / 4 < y;
}

bool as_fast(const tier_info& a, const tier_info& b) {
  return a.write_latency.count() > 0 && b.write_latency.count() > 0 && !faster(a, b) && !faster(b, a);
}

std::string kind_of(const volume_spec& x) {
  return x.is_volatile ? "volatile" : "durable";
}

} // namespace

caf::error placement_rule::check(const volume_spec& volume, const std::vector<tier_info>& tiers) {
  if (volume.tier.empty()) {
    if (std::none_of(tiers.begin(), tiers.end(), [&](auto& x) { return x.is_volatile == volume.is_volatile; }))
      return make_error(volume.is_volatile ? errc::not_found : errc::volatile_tier,
                        "no tier of this node is for " + kind_of(volume) + " volumes");
    return {};
  }
  auto at = std::find_if(tiers.begin(), tiers.end(), [&](auto& x) { return x.name == volume.tier; });
  if (at == tiers.end())
    return make_error(errc::not_found, "tier " + volume.tier);
  if (at->is_volatile && !volume.is_volatile)
    return make_error(errc::volatile_tier,
                      "tier " + at->name +
                        " loses its data when the node stops: create the volume with --volatile, or on another tier");
  return {};
}

caf::error placement_rule::choose(const volume_spec& volume, const std::vector<tier_info>& tiers, std::string& out) {
  if (auto refused = check(volume, tiers))
    return refused;
  const auto size = volume.shard_size;
  const tier_info* best = nullptr;
  const tier_info* waits_for = nullptr;
  for (const auto& x : tiers) {
    const bool fits = volume.tier.empty() ? x.is_volatile == volume.is_volatile : x.name == volume.tier;
    if (!fits || x.state == "failed" || free_bytes(x) < size)
      continue;
    // The tier that was asked for may come back; of several nobody waits for one.
    if (x.state == "refused" && volume.tier.empty())
      continue;
    if (x.state == silent || x.state == "refused") {
      waits_for = &x;
      continue;
    }
    if (!best || (roomy(x) && !roomy(*best)) ||
        (roomy(x) == roomy(*best) && (faster(x, *best) || (as_fast(x, *best) && x.cost < best->cost))))
      best = &x;
  }
  // A VM must not be told that there is no room because a tier is being started again.
  if (!best && waits_for)
    return make_error(errc::unavailable, "tier " + waits_for->name + " does not answer");
  if (!best)
    return make_error(errc::tier_full,
                      volume.tier.empty() ? "every tier for " + kind_of(volume) + " volumes" : "tier " + volume.tier);
  out = best->name;
  return {};
}

} // namespace varve
