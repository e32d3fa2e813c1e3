#include "actors/management/lease_table.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>

namespace varve {

namespace {

/// Of runs.
constexpr uint32_t no_tier = UINT32_MAX;

bool overlap(shard_id a, uint64_t a_count, shard_id b, uint64_t b_count) {
  return a.index.value() < b.index.value() + b_count && b.index.value() < a.index.value() + a_count;
}

} // namespace

template <class F>
void lease_table::each_overlapping(shard_id first, uint64_t count, F f) const {
  auto volume = holdings_.find(first.volume);
  if (volume == holdings_.end())
    return;
  const auto end = first.index.value() + std::min(count, UINT64_MAX - first.index.value());
  for (const auto& [holder, x] : volume->second) {
    for (auto at = x.shards.lower_bound(first.index); at != x.shards.end() && at->first.value() < end; ++at)
      f(rows_.at(at->second));
    auto at = x.runs.upper_bound(first.index);
    // The run before may reach in; no two of one holder overlap.
    if (at != x.runs.begin())
      --at;
    for (; at != x.runs.end() && at->first.value() < end; ++at)
      if (const auto& row = rows_.at(at->second); overlap(row.first, row.count, first, count))
        f(row);
  }
}

std::vector<lease_id> lease_table::conflicts(holder_id holder, shard_id first, uint64_t count, lease_mode mode) const {
  std::vector<lease_id> result;
  each_overlapping(first, count, [&](const lease_row& x) {
    // One row cannot be both: a migration is a holder of its own.
    const bool other_kind = (x.mode == lease_mode::migration) != (mode == lease_mode::migration);
    const bool lowered = x.lowering && mode == lease_mode::write;
    if (x.holder == holder ? x.revoking || lowered || other_kind : !compatible(x.mode, mode))
      result.push_back(x.id);
  });
  return result;
}

lease_table::claim lease_table::ask(holder_id holder, const shard_home& home, lease_mode mode, bool doubtful) {
  claim result;
  result.conflicts = conflicts(holder, home.id, 1, mode);
  if (!result.conflicts.empty())
    return result;
  // Before a new row is among them: the epoch that those beside it use.
  epoch shared = home.fence;
  each_overlapping(home.id, 1, [&](const lease_row& x) {
    if (x.exists())
      shared = std::max(shared, x.fence);
  });
  auto& mine = holdings_[home.id.volume][holder].shards;
  auto at = mine.find(home.id.index);
  auto& row = at == mine.end() ? make(holder, home.id, 1, home.of) : rows_.at(at->second);
  row.generation = home.of;
  place(row, tiers_.number(home.tier));
  row.fence = std::max(row.fence, shared);
  if (!row.granted)
    row.mode = row.agreed = mode;
  else if (mode == lease_mode::write)
    row.mode = mode;
  result.id = row.id;
  if (doubtful && certain_.insert(home.id).second)
    unclean_.emplace(home.id, epoch{});
  if (auto needs = unclean_.find(home.id); needs != unclean_.end()) {
    if (needs->second == epoch{})
      needs->second = raise(row.id);
    row.fence = std::max(row.fence, needs->second);
  }
  return result;
}

lease_table::claim lease_table::ask_run(holder_id holder, shard_id first, uint64_t count, boot_time until,
                                        caf::timespan term) {
  claim result;
  result.conflicts = conflicts(holder, first, count, lease_mode::read);
  if (!result.conflicts.empty())
    return result;
  auto& mine = holdings_[first.volume][holder].runs;
  auto at = mine.upper_bound(first.index);
  if (at != mine.begin()) {
    auto before = std::prev(at);
    auto& row = rows_.at(before->second);
    if (overlap(row.first, row.count, first, 1)) {
      // Has its beginning: the run grows to what is asked, and swallows what it meets.
      const auto end = std::max(row.first.index.value() + row.count, first.index.value() + count);
      row.count = end - row.first.index.value();
      row.until = std::max(row.until, until);
      row.term = row.wanted = term;
      result.id = row.id;
    }
  }
  if (result.id.value() == 0) {
    auto& row = make(holder, first, count, {});
    row.granted = true;
    row.until = until;
    row.term = row.wanted = term;
    result.id = row.id;
  }
  auto& kept = rows_.at(result.id);
  for (auto next = mine.upper_bound(kept.first.index);
       next != mine.end() && next->first.value() < kept.first.index.value() + kept.count;) {
    const auto swallowed = next->second;
    const auto& row = rows_.at(swallowed);
    kept.count = std::max(kept.count, row.first.index.value() + row.count - kept.first.index.value());
    holders_.at(holder).by_tier.erase({row.tier, swallowed});
    rows_.erase(swallowed);
    next = mine.erase(next);
  }
  return result;
}

lease_row& lease_table::make(holder_id holder, shard_id first, uint64_t count, generation of) {
  const lease_id id{++ids_};
  auto& row = rows_[id];
  row.id = id;
  row.holder = holder;
  row.first = first;
  row.count = count;
  row.generation = of;
  auto& mine = holdings_[first.volume][holder];
  (row.exists() ? mine.shards : mine.runs)[first.index] = id;
  auto& all = holders_[holder];
  all.volumes.insert(first.volume);
  all.by_tier.insert({row.tier, id});
  return row;
}

void lease_table::place(lease_row& row, uint32_t tier) {
  if (row.tier == tier)
    return;
  auto& all = holders_.at(row.holder).by_tier;
  all.erase({row.tier, row.id});
  row.tier = tier;
  all.insert({tier, row.id});
}

template <class F>
void lease_table::each_on(holder_id holder, uint32_t tier, F f) const {
  const auto of = holders_.find(holder);
  if (of == holders_.end())
    return;
  const auto& all = of->second.by_tier;
  for (auto at = all.lower_bound({tier, lease_id{}}); at != all.end() && at->first == tier; ++at)
    f(rows_.at(at->second));
}

void lease_table::agree(lease_id id, const terms& by, lease_mode mode) {
  auto at = rows_.find(id);
  if (at == rows_.end())
    return;
  auto& row = at->second;
  row.granted = true;
  row.until = by.until;
  row.term = by.term;
  row.wanted = by.wanted;
  row.limit = by.limit;
  if (row.agreed != lease_mode::write)
    row.agreed = mode;
  if (auto needs = unclean_.find(row.first);
      needs != unclean_.end() && needs->second != epoch{} && row.fence >= needs->second)
    unclean_.erase(needs);
}

void lease_table::give_up(lease_id id) {
  auto at = rows_.find(id);
  if (at == rows_.end())
    return;
  if (at->second.granted)
    at->second.mode = at->second.agreed;
  else
    erase(id);
}

epoch lease_table::next_epoch() {
  return epoch{incarnation_ << 32 | ++epochs_};
}

epoch lease_table::raise(lease_id id) {
  const auto shard = rows_.at(id).first;
  const auto fence = next_epoch();
  // Those beside it are compatible and keep their leases; they learn the new epoch when storage refuses the old one.
  each_overlapping(shard, 1, [&](const lease_row& x) {
    if (x.exists())
      rows_.at(x.id).fence = fence;
  });
  return fence;
}

void lease_table::adopt(const lease_grant& x, boot_time until) {
  if (x.holder.value() == 0)
    return;
  auto& mine = holdings_[x.home.id.volume][x.holder].shards;
  auto at = mine.find(x.home.id.index);
  auto& row = at == mine.end() ? make(x.holder, x.home.id, 1, x.home.of) : rows_.at(at->second);
  row.generation = x.home.of;
  place(row, tiers_.number(x.home.tier));
  row.fence = std::max(row.fence, x.fence);
  row.mode = row.agreed = x.mode;
  row.granted = true;
  row.until = std::max(row.until, until);
  row.term = row.wanted = x.term;
  row.limit = x.limit;
}

std::vector<lease_table::renewable> lease_table::renewable_of(holder_id holder) const {
  std::vector<renewable> result;
  const auto of = holders_.find(holder);
  if (of == holders_.end())
    return result;
  const auto& all = of->second.by_tier;
  // Runs, which are of no tier, stand last.
  for (auto at = all.begin(); at != all.end() && at->first < tiers_.size();
       at = all.lower_bound({at->first + 1, lease_id{}})) {
    auto x = renewable_on(holder, tiers_[at->first]);
    if (x.leases > 0)
      result.push_back(std::move(x));
  }
  return result;
}

lease_table::renewable lease_table::renewable_on(holder_id holder, const std::string& tier) const {
  renewable result;
  result.tier = tier;
  if (const auto number = tiers_.find(tier))
    each_on(holder, *number, [&](const lease_row& row) {
      if (!row.granted)
        return;
      ++result.leases;
      result.wanted = std::max(result.wanted, row.wanted);
    });
  return result;
}

std::vector<lease_id> lease_table::recorded_on(holder_id holder, const std::string& tier) const {
  std::vector<lease_id> result;
  if (const auto number = tiers_.find(tier))
    each_on(holder, *number, [&](const lease_row& row) {
      if (row.granted && !row.revoking)
        result.push_back(row.id);
    });
  return result;
}

std::vector<holder_id> lease_table::holders_on(const std::string& tier) const {
  std::vector<holder_id> result;
  for (const auto& [holder, all] : holders_)
    if (renewable_on(holder, tier).leases > 0)
      result.push_back(holder);
  return result;
}

lease_table::renewed lease_table::renew(holder_id holder, const std::string& tier, boot_time now, const terms& accepted,
                                        caf::timespan short_term, caf::timespan drift_bound) {
  renewed result;
  const auto on = tier.empty() ? std::optional{no_tier} : tiers_.find(tier);
  if (!on)
    return result;
  each_on(holder, *on, [&](const lease_row& found) {
    if (!found.granted)
      return;
    auto& row = rows_.at(found.id);
    // Its holder, who may not have heard of it yet, extends it with all others, and must not count on it for longer
    // than the manager does. A fence ends it when it is not given back; a run has none, and is held back.
    if (row.revoking && !row.exists()) {
      ++result.held_back;
      return;
    }
    auto term = row.wanted;
    auto limit = term_limit::none;
    if (!contended_.empty() && short_term < term && contended(row.first, now)) {
      term = short_term;
      limit = term_limit::contended;
    }
    if (row.exists() && accepted.term < term) {
      term = accepted.term;
      limit = accepted.limit;
    }
    // What made management want less is not storage's to say.
    if (limit == term_limit::none && row.limit == term_limit::sensitive)
      limit = row.limit;
    if (limit != row.limit)
      result.changed.push_back(row.id);
    row.limit = limit;
    row.term = term;
    row.until = std::max(row.until, now + term + drift_bound);
    result.term = std::min(result.term, term);
    ++result.leases;
  });
  return result;
}

void lease_table::contend(shard_id id, boot_time until) {
  constexpr size_t contended_max = 4096;
  if (contended_.size() >= contended_max && contended_.count(id) == 0)
    contended_.erase(
      std::min_element(contended_.begin(), contended_.end(), [](auto& a, auto& b) { return a.second < b.second; }));
  contended_[id] = until;
}

bool lease_table::contended(shard_id id, boot_time now) const {
  auto at = contended_.find(id);
  return at != contended_.end() && now < at->second;
}

void lease_table::lower(lease_id id) {
  auto at = rows_.find(id);
  if (at == rows_.end())
    return;
  at->second.lowering = false;
  if (at->second.mode == lease_mode::write)
    at->second.mode = at->second.agreed = lease_mode::read;
}

void lease_table::lowering(lease_id id) {
  if (auto at = rows_.find(id); at != rows_.end())
    at->second.lowering = true;
}

void lease_table::revoking(lease_id id) {
  if (auto at = rows_.find(id); at != rows_.end())
    at->second.revoking = true;
}

void lease_table::end(lease_id id, bool clean) {
  auto at = rows_.find(id);
  if (at == rows_.end())
    return;
  const auto& row = at->second;
  // A migration's lease authorises no VM's I/O; shutting it out would only disturb the VM's.
  if (!clean && row.exists() && row.mode != lease_mode::migration)
    unclean_[row.first] = epoch{};
  erase(id);
}

void lease_table::erase(lease_id id) {
  const auto row = rows_.at(id);
  rows_.erase(id);
  auto& holders = holdings_.at(row.first.volume);
  auto& mine = holders.at(row.holder);
  (row.exists() ? mine.shards : mine.runs).erase(row.first.index);
  const auto all = holders_.find(row.holder);
  all->second.by_tier.erase({row.tier, id});
  if (!mine.shards.empty() || !mine.runs.empty())
    return;
  holders.erase(row.holder);
  if (holders.empty())
    holdings_.erase(row.first.volume);
  all->second.volumes.erase(row.first.volume);
  if (all->second.volumes.empty())
    holders_.erase(all);
}

void lease_table::moved(const shard_home& home) {
  each_overlapping(home.id, 1, [&](const lease_row& x) {
    if (!x.exists() || x.generation >= home.of)
      return;
    auto& row = rows_.at(x.id);
    row.generation = home.of;
    place(row, tiers_.number(home.tier));
    row.fence = std::max(row.fence, home.fence);
  });
}

const lease_row* lease_table::find(lease_id id) const {
  auto at = rows_.find(id);
  return at == rows_.end() ? nullptr : &at->second;
}

std::vector<lease_id> lease_table::overlapping(shard_id first, uint64_t count) const {
  std::vector<lease_id> result;
  each_overlapping(first, count, [&](const lease_row& x) { result.push_back(x.id); });
  return result;
}

std::vector<lease_id> lease_table::of_holder(holder_id holder) const {
  std::vector<lease_id> result;
  auto of = holders_.find(holder);
  if (of == holders_.end())
    return result;
  for (auto volume : of->second.volumes) {
    const auto& mine = holdings_.at(volume).at(holder);
    for (const auto* ids : {&mine.shards, &mine.runs})
      for (const auto& [index, id] : *ids)
        result.push_back(id);
  }
  return result;
}

std::vector<lease_id> lease_table::of_holder(holder_id holder, shard_id first, uint64_t count) const {
  std::vector<lease_id> result;
  auto volume = holdings_.find(first.volume);
  if (volume == holdings_.end() || volume->second.count(holder) == 0)
    return result;
  const auto& mine = volume->second.at(holder);
  const auto begin = count == 0 ? 0 : first.index.value();
  const auto end = count == 0 ? UINT64_MAX : begin + std::min(count, UINT64_MAX - begin);
  for (const auto* ids : {&mine.shards, &mine.runs})
    for (auto at = ids->lower_bound(shard_index{begin}); at != ids->end() && at->first.value() < end; ++at)
      if (rows_.at(at->second).count <= end - at->first.value())
        result.push_back(at->second);
  return result;
}

std::vector<lease_id> lease_table::of_volume(volume_id volume) const {
  std::vector<lease_id> result;
  for (const auto& [id, holders] : holdings_) {
    if (volume.value() != 0 && id != volume)
      continue;
    for (const auto& [holder, x] : holders)
      for (const auto* ids : {&x.shards, &x.runs})
        for (const auto& [index, lease] : *ids)
          result.push_back(lease);
  }
  return result;
}

lease_grant lease_table::grant(lease_id id) const {
  const auto& row = rows_.at(id);
  lease_grant result;
  result.id = id;
  result.holder = row.holder;
  result.home.id = row.first;
  result.home.of = row.generation;
  if (row.exists())
    result.home.tier = tiers_[row.tier];
  result.home.fence = row.fence;
  result.count = row.count;
  result.mode = row.mode;
  result.fence = row.fence;
  result.term = row.term;
  result.limit = row.limit;
  result.manager = incarnation_;
  return result;
}

void lease_table::check() const {
  auto must = [](bool holds, const char* what) {
    if (!holds)
      throw std::logic_error(what);
  };
  size_t indexed = 0;
  for (const auto& [volume, holders] : holdings_)
    for (const auto& [holder, x] : holders) {
      must(holders_.count(holder) && holders_.at(holder).volumes.count(volume), "a holder's volume is not indexed");
      uint64_t free_from = 0;
      for (const auto& [index, id] : x.runs) {
        must(index.value() >= free_from, "two runs of one holder overlap");
        free_from = index.value() + rows_.at(id).count;
      }
      indexed += x.shards.size() + x.runs.size();
    }
  must(indexed == rows_.size(), "a lease is not indexed once");
  indexed = 0;
  for (const auto& [holder, x] : holders_)
    for (const auto& [tier, id] : x.by_tier) {
      const auto row = rows_.find(id);
      must(row != rows_.end() && row->second.holder == holder && row->second.tier == tier,
           "a lease is indexed under another tier or holder");
      must(row->second.exists() == (tier < tiers_.size()), "a run is of a tier, or a shard of none");
      ++indexed;
    }
  must(indexed == rows_.size(), "a lease is not indexed once by its tier");
  for (const auto& [id, row] : rows_)
    each_overlapping(row.first, row.count, [&, mine = &row](const lease_row& other) {
      must(mine->holder == other.holder || compatible(mine->mode, other.mode),
           "two holders have what excludes each other");
    });
}

} // namespace varve
