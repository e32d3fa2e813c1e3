#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <utility>

namespace varve {

/// Ranges of bytes, merged, in order.
class block_ranges {
public:
  void add(uint64_t from, uint64_t to) {
    if (from >= to)
      return;
    auto at = ranges_.upper_bound(from);
    if (at != ranges_.begin() && std::prev(at)->second >= from)
      --at;
    while (at != ranges_.end() && at->first <= to) {
      from = std::min(from, at->first);
      to = std::max(to, at->second);
      bytes_ -= at->second - at->first;
      at = ranges_.erase(at);
    }
    ranges_[from] = to;
    bytes_ += to - from;
  }
  /// Takes at most `bytes_max` from the front. Not of none.
  std::pair<uint64_t, uint64_t> take(uint64_t bytes_max) {
    auto at = ranges_.begin();
    auto [from, to] = *at;
    ranges_.erase(at);
    const auto end = std::min(to, from + bytes_max);
    if (end < to)
      ranges_[end] = to;
    bytes_ -= end - from;
    return {from, end};
  }
  bool empty() const noexcept { return ranges_.empty(); }
  uint64_t bytes() const noexcept { return bytes_; }

private:
  std::map<uint64_t, uint64_t> ranges_; // first -> end
  uint64_t bytes_ = 0;
};

} // namespace varve
