#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "messages/types.hpp"

namespace varve {

struct active_shard;

/// A route as the port keeps it: what the lease allows, and the active shard that it leads to once that was looked up.
struct route_entry {
  epoch fence;
  varve::generation generation;
  boot_time valid_until{0};
  /// Null until the first request, and again when the shard stops being active.
  active_shard* shard = nullptr;
  /// The route_table's count of extensions when the entry was set: later ones hold for it too.
  uint32_t extensions = 0;
  uint16_t tier = 0;
  bool exists = false;
  bool writable = false;
  /// It was over when others were extended: no later extension holds for it. It stays, since who drops it may have to
  /// wait for what is inside its shard.
  bool ended = false;
};

/// The routes of one volume: existing shards in pages of 256 entries below a sparse root, shards that were never
/// touched as runs. Costs nothing for what was never asked for. Only its volume's reactor looks at it, so entries are
/// replaced where they are.
class route_table {
public:
  /// A run of shards that do not exist.
  struct absent_run {
    uint64_t end = 0; // exclusive
    boot_time valid_until{0};
    uint32_t extensions = 0;
  };

  /// The entry of an existing shard, valid or not; null when there is none.
  route_entry* find(uint64_t index) noexcept {
    auto at = index / page_entries;
    if (at / directory_pages >= root_.size() || !root_[at / directory_pages])
      return nullptr;
    auto* found = (*root_[at / directory_pages])[at % directory_pages].get();
    if (!found)
      return nullptr;
    auto& entry = found->entries[index % page_entries];
    return entry.exists ? &entry : nullptr;
  }

  bool valid(const route_entry& x, boot_time now) const noexcept {
    return !x.ended && holds(x.valid_until, x.extensions, now);
  }

  /// Where the run of absent shards ends that `index` lies in under a valid route; `index` itself when it lies in none.
  uint64_t absent_until(uint64_t index, boot_time now) const noexcept;

  void set(uint64_t index, route_entry entry);
  void set_absent(uint64_t first, uint64_t count, boot_time valid_until);
  void drop(uint64_t first, uint64_t count);
  void drop_all();

  /// Every route that holds now does so until then, at least. What is over is not revived.
  void extend(boot_time valid_until, boot_time now);

  /// Calls `f(index, entry)` for the existing shards of a range.
  template <class F>
  void for_each(uint64_t first, uint64_t count, F f) {
    const auto end = count > ~first ? ~uint64_t{0} : first + count;
    for (auto at = first / page_entries; at < root_.size() * directory_pages && at * page_entries < end;) {
      if (!root_[at / directory_pages]) {
        at = (at / directory_pages + 1) * directory_pages;
        continue;
      }
      if (auto* found = (*root_[at / directory_pages])[at % directory_pages].get())
        for (uint64_t i = 0; i < page_entries; ++i)
          if (auto index = at * page_entries + i; index >= first && index < end && found->entries[i].exists)
            f(index, found->entries[i]);
      ++at;
    }
  }

  /// Memory taken, in bytes.
  size_t footprint_bytes() const noexcept;

private:
  static constexpr uint64_t page_entries = 256;
  static constexpr uint64_t directory_pages = 512;

  struct page {
    route_entry entries[page_entries];
    uint32_t used = 0;
  };
  using directory = std::array<std::unique_ptr<page>, directory_pages>;

  bool holds(boot_time until, uint32_t extensions, boot_time now) const noexcept {
    return now < until || (extensions != extensions_ && now < extended_until_);
  }
  void mark_ended(boot_time now);
  void erase(uint64_t index) noexcept;
  void punch(uint64_t first, uint64_t end);

  std::vector<std::unique_ptr<directory>> root_;
  std::map<uint64_t, absent_run> absent_; // by first index; disjoint
  /// When the first of what was set since the last extension ends.
  boot_time soonest_ = boot_time::max();
  boot_time extended_until_{0};
  uint32_t extensions_ = 0;
};

} // namespace varve
