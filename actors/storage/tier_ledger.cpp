#include "actors/storage/tier_ledger.hpp"

#include <algorithm>
#include <iterator>

namespace varve {

void tier_ledger::put(shard_id id, generation of, const ledger_row& row) {
  auto& at = rows_[{id, of}];
  allocated_bytes_ += row.allocated - at.allocated;
  at = row;
  activate(id, of, row.active);
}

void tier_ledger::erase(shard_id id, generation of) {
  auto at = rows_.find({id, of});
  if (at == rows_.end())
    return;
  allocated_bytes_ -= at->second.allocated;
  rows_.erase(at);
  active_.erase({id, of});
}

void tier_ledger::activate(shard_id id, generation of, bool active) {
  auto at = rows_.find({id, of});
  if (at == rows_.end())
    return;
  at->second.active = active;
  if (active)
    active_.insert(at->first);
  else
    active_.erase(at->first);
}

ledger_row* tier_ledger::find(shard_id id, generation of) {
  auto at = rows_.find({id, of});
  return at == rows_.end() ? nullptr : &at->second;
}

const ledger_row* tier_ledger::find(shard_id id, generation of) const {
  return const_cast<tier_ledger*>(this)->find(id, of);
}

void tier_ledger::measure(shard_id id, generation of, uint64_t allocated, uint64_t operations, boot_time now) {
  auto* row = find(id, of);
  if (!row)
    return;
  allocated_bytes_ += allocated - row->allocated;
  row->allocated = allocated;
  if (row->operations != operations) {
    row->operations = operations;
    row->last_used = now;
  }
}

errc tier_ledger::admit(const shard_home& home) const {
  if (auto* row = find(home.id, home.of))
    // What a crash left between making the shard and recording it is taken over; anything written is somebody's data.
    return row->allocated == 0 && !row->incomplete && row->fence <= home.fence ? errc::none : errc::already_exists;
  return used_bytes() < capacity_bytes_ ? errc::none : errc::tier_full;
}

errc tier_ledger::reserve(shard_id id, uint64_t bytes) {
  auto at = reservations_.find(id);
  const uint64_t before = at == reservations_.end() ? 0 : at->second;
  const auto used_by_others = used_bytes() - before;
  if (bytes > 0 && (used_by_others >= capacity_bytes_ || bytes > capacity_bytes_ - used_by_others))
    return errc::tier_full;
  reserved_bytes_ += bytes - before;
  if (bytes == 0)
    reservations_.erase(id);
  else
    reservations_[id] = bytes;
  return errc::none;
}

errc tier_ledger::check(const lease_grant& x) const {
  const auto& home = x.home;
  auto* row = find(home.id, home.of);
  if (!row) {
    auto newer = rows_.upper_bound({home.id, home.of});
    return newer != rows_.end() && newer->first.first == home.id && !newer->second.incomplete ? errc::shard_moved
                                                                                              : errc::not_found;
  }
  if (row->incomplete)
    return errc::unavailable;
  return x.fence < row->fence ? errc::stale_epoch : errc::none;
}

void tier_ledger::record(const lease_grant& x, boot_time now) {
  auto& of = holders_[x.holder];
  of.until = std::max(of.until, now + x.term);
  auto [at, is_new] = of.grants.insert_or_assign(x.home.id, held{x.id, x.home.of, x.fence, x.manager, x.mode, x.limit});
  if (is_new)
    ++lease_counts_[x.home.id];
  if (lease_counts_[x.home.id] > 1)
    give_way(x, now);
  if (x.mode == lease_mode::migration)
    moving_.insert(x.home.id);
  if (auto* row = find(x.home.id, x.home.of)) {
    row->fence = std::max(row->fence, x.fence);
    row->last_used = now;
  }
}

size_t tier_ledger::renew(holder_id holder, boot_time now, caf::timespan term) {
  auto at = holders_.find(holder);
  if (at == holders_.end())
    return 0;
  at->second.until = std::max(at->second.until, now + term);
  return at->second.grants.size();
}

bool tier_ledger::holds(holder_id holder, shard_id id) const {
  auto at = holders_.find(holder);
  return at != holders_.end() && at->second.grants.count(id) != 0;
}

bool tier_ledger::moving(holder_id holder) const {
  auto at = holders_.find(holder);
  return at != holders_.end() &&
         std::any_of(moving_.begin(), moving_.end(), [&](auto& id) { return at->second.grants.count(id) != 0; });
}

void tier_ledger::release(holder_id holder, shard_id first, uint64_t count, boot_time now) {
  auto at = holders_.find(holder);
  if (at == holders_.end())
    return;
  auto& grants = at->second.grants;
  const auto begin = count == 0 ? grants.begin() : grants.lower_bound(first);
  auto end = begin;
  for (; end != grants.end(); ++end) {
    const auto& id = end->first;
    if (count != 0 && (id.volume != first.volume || id.index.value() - first.index.value() >= count))
      break;
    forget(id, end->second.mode, now);
  }
  grants.erase(begin, end);
  if (grants.empty())
    holders_.erase(at);
}

void tier_ledger::drop(shard_id id) {
  if (lease_counts_.erase(id) == 0)
    return;
  moving_.erase(id);
  for (auto at = holders_.begin(); at != holders_.end();) {
    at->second.grants.erase(id);
    at = at->second.grants.empty() ? holders_.erase(at) : std::next(at);
  }
}

size_t tier_ledger::expire(boot_time now) {
  size_t ended = 0;
  for (auto at = holders_.begin(); at != holders_.end();) {
    if (at->second.until > now) {
      ++at;
      continue;
    }
    ended += at->second.grants.size();
    for (auto& [id, grant] : at->second.grants)
      forget(id, grant.mode, now);
    at = holders_.erase(at);
  }
  return ended;
}

size_t tier_ledger::leases() const noexcept {
  size_t result = 0;
  for (auto& [id, x] : holders_)
    result += x.grants.size();
  return result;
}

const char* tier_ledger::mode_of(shard_id id) const {
  const char* result = "";
  if (!leased(id))
    return result;
  for (auto& [holder, x] : holders_) {
    auto at = x.grants.find(id);
    if (at == x.grants.end())
      continue;
    // A migration's lease stands beside the one that the VM's I/O goes by, which says more.
    if (at->second.mode != lease_mode::migration || *result == 0)
      result = to_string(at->second.mode);
  }
  return result;
}

std::vector<lease_grant> tier_ledger::inventory(boot_time now) {
  std::vector<lease_grant> out;
  expire(now);
  for (auto& [holder, x] : holders_)
    for (auto& [shard, of] : x.grants) {
      auto& grant = out.emplace_back();
      grant.id = of.id;
      grant.holder = holder;
      grant.home.id = shard;
      grant.home.of = of.of;
      grant.home.fence = grant.fence = of.fence;
      grant.mode = of.mode;
      grant.term = x.until - now;
      grant.limit = of.limit;
      grant.manager = of.manager;
    }
  // The order of a hash table is no history to build a simulation on.
  std::sort(out.begin(), out.end(), [](const lease_grant& a, const lease_grant& b) {
    return std::pair{a.home.id, a.holder} < std::pair{b.home.id, b.holder};
  });
  return out;
}

std::vector<tier_ledger::key> tier_ledger::idle(boot_time now, caf::timespan idle) const {
  std::vector<key> result;
  for (const auto& id : active_)
    if (const auto& row = rows_.at(id); !row.incomplete && !leased(id.first) && now - row.last_used >= idle)
      result.push_back(id);
  return result;
}

void tier_ledger::give_way(const lease_grant& to, boot_time now) {
  for (auto at = holders_.begin(); at != holders_.end();) {
    auto& [holder, x] = *at;
    auto mine = x.grants.find(to.home.id);
    if (holder == to.holder || mine == x.grants.end() || compatible(mine->second.mode, to.mode)) {
      ++at;
      continue;
    }
    if (to.mode == lease_mode::read) {
      mine->second.mode = lease_mode::read;
      ++at;
      continue;
    }
    forget(to.home.id, mine->second.mode, now);
    x.grants.erase(mine);
    at = x.grants.empty() ? holders_.erase(at) : std::next(at);
  }
}

void tier_ledger::forget(shard_id id, lease_mode mode, boot_time now) {
  if (mode == lease_mode::migration)
    moving_.erase(id);
  auto at = lease_counts_.find(id);
  if (--at->second == 0)
    lease_counts_.erase(at);
  for (auto row = rows_.lower_bound({id, generation{0}}); row != rows_.end() && row->first.first == id; ++row)
    row->second.last_used = now;
}

} // namespace varve
