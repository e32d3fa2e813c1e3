#include "actors/host/need_book.hpp"

#include <algorithm>

namespace varve {

namespace {

/// Attempts of a range that must stay as it is.
constexpr unsigned apart = ~0u;

} // namespace

void need_book::add(uint64_t first, uint64_t count, bool write, boot_time now) {
  if (count == 0 || covered(waiting_, first, count, write) || covered(in_flight_, first, count, write))
    return;
  put({first, count, write, 0, now});
}

void need_book::add_apart(uint64_t first, uint64_t count, bool write, boot_time now) {
  insert({first, count, write, apart, now});
}

std::optional<need_book::range> need_book::next(boot_time now) {
  if (in_flight_.size() >= options_.in_flight_max)
    return std::nullopt;
  auto at = std::find_if(waiting_.begin(), waiting_.end(), [&](const range& x) { return x.not_before <= now; });
  if (at == waiting_.end())
    return std::nullopt;
  // The longest wait first: sequential runs beside a random one must not starve it.
  for (auto other = at + 1; other != waiting_.end(); ++other)
    if (other->not_before < at->not_before)
      at = other;
  auto result = *at;
  result.count = std::min(result.count, result.write ? options_.write_count_max : options_.read_count_max);
  if (result.count == at->count) {
    waiting_.erase(at);
  } else {
    at->first += result.count;
    at->count -= result.count;
  }
  in_flight_.push_back(result);
  return result;
}

std::optional<boot_time> need_book::wake_at() const {
  std::optional<boot_time> result;
  // With acquires under way at their bound, one of them ending is what goes on.
  if (in_flight_.size() < options_.in_flight_max)
    for (auto& x : waiting_)
      result = std::min(result.value_or(x.not_before), x.not_before);
  return result;
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

bool need_book::covered(const std::vector<range>& by, uint64_t first, uint64_t count, bool write) const {
  return std::any_of(by.begin(), by.end(), [&](const range& x) {
    return x.first <= first && first + count <= x.end() && (x.write || !write);
  });
}

void need_book::put(range x) {
  // Joins what overlaps or touches, but not a new need to one that was refused and waits for its next try.
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    if (at->write != x.write || at->end() < x.first || x.end() < at->first || at->attempts == apart ||
        (at->attempts == 0) != (x.attempts == 0)) {
      ++at;
      continue;
    }
    const auto end = std::max(at->end(), x.end());
    x.first = std::min(at->first, x.first);
    x.count = end - x.first;
    x.attempts = std::max(at->attempts, x.attempts);
    x.not_before = std::min(at->not_before, x.not_before);
    at = waiting_.erase(at);
  }
  insert(x);
}

void need_book::insert(const range& x) {
  waiting_.insert(std::find_if(waiting_.begin(), waiting_.end(), [&](const range& y) { return y.first > x.first; }), x);
}

caf::timespan need_book::back_off(unsigned attempts) const {
  auto result = options_.retry_min;
  for (unsigned i = 1; i < attempts && result < options_.retry_max; ++i)
    result *= 2;
  return std::min(result, options_.retry_max);
}

} // namespace varve
