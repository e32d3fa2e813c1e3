#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include <caf/timespan.hpp>

#include "messages/types.hpp"

namespace varve {

struct need_book_options {
  /// Acquires under way at a time, and shards asked for with one of them: reading may ask for long runs of shards that
  /// do not exist, writing makes each of its shards exist first.
  size_t in_flight_max = 4;
  uint64_t read_count_max = 1ull << 20;
  uint64_t write_count_max = 64;
  caf::timespan retry_min = std::chrono::milliseconds{20};
  caf::timespan retry_max = std::chrono::seconds{2};
};

/// What a volume's port needs and its agent has not got yet: gathers needs into contiguous ranges, says what to ask for
/// next, and when to try again what was refused. Knows no actor and no clock.
class need_book {
public:
  /// A range of shards, to read or also to write.
  struct range {
    uint64_t first = 0;
    uint64_t count = 0;
    bool write = false;
    unsigned attempts = 0;
    boot_time not_before{0};

    uint64_t end() const noexcept { return first + count; }
  };

  explicit need_book(need_book_options options = {}) : options_(options) {}

  /// What is covered by a range that waits or is asked for already changes nothing.
  void add(uint64_t first, uint64_t count, bool write, boot_time now);

  /// As `add`, but never joined with its neighbours: to find the one of them that is refused.
  void add_apart(uint64_t first, uint64_t count, bool write, boot_time now);

  /// What to ask for now, if there is anything and not too much is under way. Ends with `done`.
  std::optional<range> next(boot_time now);

  /// When `next` has something again by the passing of time alone.
  std::optional<boot_time> wake_at() const;

  /// An acquire has been answered: `granted` are the parts that were granted, the rest is tried again after a while.
  void done(const range& asked, const std::vector<range>& granted, boot_time now);

  size_t in_flight() const noexcept { return in_flight_.size(); }
  size_t waiting() const noexcept { return order_.size(); }

private:
  /// By `first`.
  using ranges = std::multimap<uint64_t, range>;
  /// Reading and writing, each new, refused before, or to stay apart. Those of a kind that are not to stay apart
  /// neither overlap nor touch.
  static constexpr size_t kinds = 6, kinds_apart = 4;
  static size_t kind_of(const range& x);

  bool covered(uint64_t first, uint64_t count, bool write) const;
  void put(range x);
  void insert(const range& x);
  void remove(size_t kind, ranges::iterator at);
  caf::timespan back_off(unsigned attempts) const;

  need_book_options options_;
  // Bounded by the requests that the port parks, each range stands for one at least; or, where a manager is asked again
  // for all that is held, by that: a hundred thousand ranges.
  std::array<ranges, kinds> waiting_;
  /// Those that wait, in the order in which they are asked for: since when, where, of which kind.
  std::multiset<std::tuple<boot_time, uint64_t, size_t>> order_;
  std::vector<range> in_flight_;
};

} // namespace varve
