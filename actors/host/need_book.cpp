#include "actors/host/need_book.hpp"

#include <algorithm>
#include <iterator>

namespace varve {

namespace {

/// Attempts of a range that must stay as it is.
constexpr unsigned apart = ~0u;

} // namespace

void need_book::add(uint64_t first, uint64_t count, bool write, boot_time now) {
  if (count != 0 && !covered(first, count, write))
    put({first, count, write, 0, now});
}

void need_book::add_apart(uint64_t first, uint64_t count, bool write, boot_time now) {
  insert({first, count, write, apart, now});
}

std::optional<need_book::range> need_book::next(boot_time now) {
  if (in_flight_.size() >= options_.in_flight_max || order_.empty())
    return std::nullopt;
  // The longest wait first: sequential runs beside a random one must not starve it.
  const auto [since, first, kind] = *order_.begin();
  if (since > now)
    return std::nullopt;
  auto at = waiting_[kind].lower_bound(first);
  while (at->second.not_before != since)
    ++at; // of those apart several may begin alike
  auto rest = at->second;
  remove(kind, at);
  auto result = rest;
  result.count = std::min(result.count, result.write ? options_.write_count_max : options_.read_count_max);
  if (result.count < rest.count) {
    rest.first += result.count;
    rest.count -= result.count;
    insert(rest);
  }
  in_flight_.push_back(result);
  return result;
}

std::optional<boot_time> need_book::wake_at() const {
  // With acquires under way at their bound, one of them ending is what goes on.
  if (in_flight_.size() >= options_.in_flight_max || order_.empty())
    return std::nullopt;
  return std::get<0>(*order_.begin());
}

void need_book::done(const range& asked, const std::vector<range>& granted, boot_time now) {
  auto at = std::find_if(in_flight_.begin(), in_flight_.end(), [&](const range& x) {
    return x.first == asked.first && x.count == asked.count && x.write == asked.write;
  });
  if (at == in_flight_.end())
    return; // given up meanwhile
  in_flight_.erase(at);
  // What others may have been granted in the same breath is theirs to report; here only the gaps count.
  auto parts = granted;
  std::sort(parts.begin(), parts.end(), [](const range& a, const range& b) { return a.first < b.first; });
  auto rest = asked;
  rest.attempts = rest.attempts == apart ? 1 : rest.attempts + 1;
  rest.not_before = now + back_off(rest.attempts);
  auto position = asked.first;
  for (auto& part : parts) {
    if (asked.write && !part.write)
      continue;
    if (part.first > position && position < asked.end()) {
      rest.first = position;
      rest.count = std::min(part.first, asked.end()) - position;
      put(rest);
    }
    position = std::max(position, part.end());
  }
  if (position < asked.end()) {
    rest.first = position;
    rest.count = asked.end() - position;
    put(rest);
  }
}

size_t need_book::kind_of(const range& x) {
  return (x.attempts == apart ? kinds_apart : x.attempts == 0 ? 0 : 2) + (x.write ? 1 : 0);
}

bool need_book::covered(uint64_t first, uint64_t count, bool write) const {
  const auto covers = [&](const range& x) {
    return x.first <= first && first + count <= x.end() && (x.write || !write);
  };
  if (std::any_of(in_flight_.begin(), in_flight_.end(), covers))
    return true;
  for (size_t kind = 0; kind < kinds_apart; ++kind)
    // Of those that do not overlap it can only be the last that begins before.
    if (auto at = waiting_[kind].upper_bound(first); at != waiting_[kind].begin() && covers(std::prev(at)->second))
      return true;
  // Few at a time: halves of what was refused for good.
  return std::any_of(waiting_.begin() + kinds_apart, waiting_.end(), [&](const ranges& all) {
    return std::any_of(all.begin(), all.upper_bound(first), [&](auto& x) { return covers(x.second); });
  });
}

void need_book::put(range x) {
  // Joins what overlaps or touches, but not a new need to one that was refused and waits for its next try.
  const auto kind = kind_of(x);
  auto& all = waiting_[kind];
  auto at = all.upper_bound(x.first);
  if (at != all.begin() && std::prev(at)->second.end() >= x.first)
    --at;
  while (at != all.end() && at->first <= x.end()) {
    const auto& other = at->second;
    const auto end = std::max(other.end(), x.end());
    x.first = std::min(other.first, x.first);
    x.count = end - x.first;
    x.attempts = std::max(other.attempts, x.attempts);
    x.not_before = std::min(other.not_before, x.not_before);
    remove(kind, at++);
  }
  insert(x);
}

void need_book::insert(const range& x) {
  waiting_[kind_of(x)].emplace(x.first, x);
  order_.emplace(x.not_before, x.first, kind_of(x));
}

void need_book::remove(size_t kind, ranges::iterator at) {
  order_.erase(order_.find({at->second.not_before, at->first, kind}));
  waiting_[kind].erase(at);
}

caf::timespan need_book::back_off(unsigned attempts) const {
  auto result = options_.retry_min;
  for (unsigned i = 1; i < attempts && result < options_.retry_max; ++i)
    result *= 2;
  return std::min(result, options_.retry_max);
}

} // namespace varve
