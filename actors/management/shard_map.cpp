#include "actors/management/shard_map.hpp"

namespace varve {

void shard_map::put(const shard_home& home, uint64_t revision) {
  rows_[home.id.index] = {home.of, home.fence, revision, tiers_.number(home.tier)};
}

shard_home shard_map::home_of(shard_index index, const row& x) const {
  return {{volume_, index}, tiers_[x.tier], x.generation, x.fence};
}

shard_home shard_map::home(shard_index index) const {
  auto at = rows_.find(index);
  if (at != rows_.end())
    return home_of(index, at->second);
  shard_home none;
  none.id = {volume_, index};
  return none;
}

std::vector<shard_home> shard_map::homes(const std::vector<shard_index>& all) const {
  std::vector<shard_home> result;
  for (const auto index : all)
    if (auto at = rows_.find(index); at != rows_.end())
      result.push_back(home_of(index, at->second));
  return result;
}

uint64_t shard_map::revision(shard_index index) const {
  auto at = rows_.find(index);
  return at == rows_.end() ? 0 : at->second.revision;
}

shard_map_part shard_map::part(shard_index first, uint64_t count, uint64_t shards, size_t homes_max) const {
  shard_map_part result;
  result.begin = first;
  const auto asked_end = count < shards - first.value() ? first.value() + count : shards;
  auto at = rows_.lower_bound(first);
  for (; at != rows_.end() && at->first.value() < asked_end; ++at) {
    if (result.homes.size() == homes_max) {
      result.end = at->first;
      return result;
    }
    result.homes.push_back(home_of(at->first, at->second));
  }
  // Also beyond what was asked, while nothing exists there: a run of absent shards is one answer.
  result.end = at == rows_.end() ? shard_index{shards} : at->first;
  return result;
}

std::optional<shard_index> shard_map::last() const {
  return rows_.empty() ? std::nullopt : std::optional{rows_.rbegin()->first};
}

std::optional<shard_index> shard_map::first() const {
  return rows_.empty() ? std::nullopt : std::optional{rows_.begin()->first};
}

} // namespace varve
