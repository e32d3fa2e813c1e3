#include "runtime/data_plane/route_table.hpp"

#include <algorithm>

namespace varve {

uint64_t route_table::absent_until(uint64_t index, boot_time now) const noexcept {
  auto end = index;
  auto at = absent_.upper_bound(index);
  if (at == absent_.begin())
    return end;
  // Runs that touch count as one.
  for (--at; at != absent_.end() && at->first <= end && at->second.end > end; ++at) {
    if (!holds(at->second.valid_until, at->second.extensions, now))
      break;
    end = at->second.end;
  }
  return end;
}

void route_table::set(uint64_t index, route_entry entry) {
  punch(index, index + 1);
  auto at = index / page_entries;
  if (at / directory_pages >= root_.size())
    root_.resize(at / directory_pages + 1);
  auto& pages = root_[at / directory_pages];
  if (!pages)
    pages = std::make_unique<directory>();
  auto& into = (*pages)[at % directory_pages];
  if (!into)
    into = std::make_unique<page>();
  auto& old = into->entries[index % page_entries];
  if (!old.exists)
    ++into->used;
  old = entry;
  old.exists = true;
  old.extensions = extensions_;
  soonest_ = std::min(soonest_, entry.valid_until);
}

void route_table::set_absent(uint64_t first, uint64_t count, boot_time valid_until) {
  if (count == 0)
    return;
  drop(first, count);
  const auto end = count > ~first ? ~uint64_t{0} : first + count;
  absent_[first] = {end, valid_until, extensions_};
  soonest_ = std::min(soonest_, valid_until);
}

void route_table::drop(uint64_t first, uint64_t count) {
  const auto end = count > ~first ? ~uint64_t{0} : first + count;
  punch(first, end);
  if (count == 1) {
    erase(first);
    return;
  }
  for (auto at = first / page_entries; at < root_.size() * directory_pages && at * page_entries < end;) {
    if (!root_[at / directory_pages]) {
      at = (at / directory_pages + 1) * directory_pages;
      continue;
    }
    if ((*root_[at / directory_pages])[at % directory_pages]) {
      const auto from = std::max(first, at * page_entries);
      const auto to = std::min(end, (at + 1) * page_entries);
      for (auto index = from; index < to; ++index)
        erase(index);
    }
    ++at;
  }
}

void route_table::drop_all() {
  root_.clear();
  absent_.clear();
}

void route_table::extend(boot_time valid_until, boot_time now) {
  // Only then may anything have ended that an extension would hold for.
  if (soonest_ <= now || extended_until_ <= now)
    mark_ended(now);
  // An extension that ends before an earlier one is not taken: entries set since then were not promised that much.
  if (valid_until <= extended_until_)
    return;
  // Entries are not walked (there may be millions): those set up to now have another count than `extensions_`.
  extended_until_ = valid_until;
  ++extensions_;
  soonest_ = boot_time::max();
}

void route_table::mark_ended(boot_time now) {
  for_each(0, ~uint64_t{0}, [&](uint64_t, route_entry& x) { x.ended = !valid(x, now); });
  std::erase_if(absent_, [&](auto& x) { return !holds(x.second.valid_until, x.second.extensions, now); });
}

size_t route_table::footprint_bytes() const noexcept {
  auto bytes = root_.capacity() * sizeof(root_[0]) + absent_.size() * (sizeof(absent_run) + 48);
  for (auto& pages : root_)
    if (pages) {
      bytes += sizeof(directory);
      for (auto& x : *pages)
        bytes += x ? sizeof(page) : 0;
    }
  return bytes;
}

void route_table::erase(uint64_t index) noexcept {
  auto at = index / page_entries;
  if (at / directory_pages >= root_.size() || !root_[at / directory_pages])
    return;
  auto& of = (*root_[at / directory_pages])[at % directory_pages];
  if (!of || !of->entries[index % page_entries].exists)
    return;
  of->entries[index % page_entries] = {};
  if (--of->used == 0)
    of.reset();
}

void route_table::punch(uint64_t first, uint64_t end) {
  auto at = absent_.upper_bound(first);
  if (at != absent_.begin() && std::prev(at)->second.end > first)
    --at;
  while (at != absent_.end() && at->first < end) {
    auto [from, run] = *at;
    at = absent_.erase(at);
    if (from < first) {
      auto left = run;
      left.end = first;
      absent_[from] = left;
    }
    if (run.end > end)
      at = absent_.emplace(end, run).first, ++at;
  }
}

} // namespace varve
