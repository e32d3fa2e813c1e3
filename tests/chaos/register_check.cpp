#include "tests/chaos/register_check.hpp"

#include <algorithm>
#include <cassert>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace varve::chaos {

namespace {

constexpr int64_t always = std::numeric_limits<int64_t>::min();

/// What is known of one value. Where `first_end` < `last_begin` the block held it from the one to the other.
struct zone {
  stamp value;
  bool written = false;
  int64_t write_begin = 0;
  int64_t first_end = never;
  int64_t last_begin = always;
  /// The earliest end of a read.
  int64_t first_read_end = never;

  bool forward() const noexcept { return first_end < last_begin; }
};

std::string when(int64_t t) {
  return t == always ? "the beginning" : t == never ? "never" : fmt::format("{:.6f} s", static_cast<double>(t) / 1e9);
}

violation out_of_order(const zone& held, const zone& other) {
  auto text = fmt::format("{} was there at {} and again at {}; between these was {}, ", describe(held.value),
                          when(held.first_end), when(held.last_begin), describe(other.value));
  text += other.forward()
            ? fmt::format("there at {} and at {}", when(other.first_end), when(other.last_begin))
            : fmt::format("written and read within {} to {}", when(other.last_begin), when(other.first_end));
  return {violation::kind::out_of_order, held.value, other.value, std::move(text)};
}

std::optional<violation> collect(std::span<const operation> history, std::vector<zone>& zones) {
  std::vector<const operation*> sorted;
  sorted.reserve(history.size());
  for (const auto& x : history)
    if (x.what == operation::kind::write || x.end != never)
      sorted.push_back(&x);
  std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->value < b->value; });
  zones.push_back({.value = blank, .written = true, .write_begin = always, .first_end = always});
  for (const auto* x : sorted) {
    if (zones.back().value != x->value)
      zones.push_back({.value = x->value});
    auto& z = zones.back();
    const auto write = x->what == operation::kind::write;
    if (x->end < x->begin)
      return violation{violation::kind::no_history, x->value, {}, "an operation ends before it begins"};
    if (write && z.written)
      return violation{violation::kind::no_history, x->value, {}, describe(x->value) + " is written twice"};
    if (write) {
      z.written = true;
      z.write_begin = x->begin;
    } else {
      z.first_read_end = std::min(z.first_read_end, x->end);
    }
    z.first_end = std::min(z.first_end, x->end);
    z.last_begin = std::max(z.last_begin, x->begin);
  }
  for (const auto& z : zones) {
    if (!z.written)
      return violation{violation::kind::never_written,
                       z.value,
                       {},
                       describe(z.value) + " was read by " + when(z.first_read_end) + ", and nobody has written it"};
    if (z.first_read_end < z.write_begin)
      return violation{violation::kind::before_its_write,
                       z.value,
                       {},
                       describe(z.value) + " was read by " + when(z.first_read_end) + ", and written from " +
                         when(z.write_begin) + " only"};
  }
  return std::nullopt;
}

} // namespace

std::string describe(const stamp& x) {
  return x == blank ? "nothing" : fmt::format("writer {}, epoch {}, sequence {}", x.writer, x.epoch, x.sequence);
}

std::optional<violation> check_register(std::span<const operation> history) {
  std::vector<zone> zones;
  if (auto wrong = collect(history, zones))
    return wrong;
  const auto backward = std::partition(zones.begin(), zones.end(), [](auto& z) { return z.forward(); });
  std::sort(zones.begin(), backward, [](auto& a, auto& b) { return a.first_end < b.first_end; });
  // What ends at the very moment at which the next begins leaves room for both.
  for (auto z = zones.begin(); z != backward && z + 1 != backward; ++z)
    if ((z + 1)->first_end < z->last_begin)
      return out_of_order(*z, *(z + 1));
  for (auto z = backward; z != zones.end(); ++z) {
    // The forward zones are disjoint now: only the latest that begins before this one can hold all of it.
    auto after = std::partition_point(zones.begin(), backward, [&](auto& f) { return f.first_end < z->last_begin; });
    if (after != zones.begin() && z->first_end < (after - 1)->last_begin)
      return out_of_order(*(after - 1), *z);
  }
  return std::nullopt;
}

bool some_order_explains(std::span<const operation> history) {
  std::vector<operation> all;
  for (const auto& x : history)
    if (x.what == operation::kind::write || x.end != never)
      all.push_back(x);
  assert(all.size() <= 24);
  // What is done already, and what the block holds then: whoever comes here again need not try again.
  std::set<std::pair<uint32_t, stamp>> seen;
  const auto full = (uint32_t{1} << all.size()) - 1;
  auto search = [&](auto& self, uint32_t done, const stamp& held) -> bool {
    auto first_end = never;
    auto answered = false;
    for (size_t i = 0; i < all.size(); ++i)
      if (!(done >> i & 1)) {
        first_end = std::min(first_end, all[i].end);
        answered = answered || all[i].end != never;
      }
    if (done == full || !answered)
      return true; // what is left may never take effect
    if (!seen.insert({done, held}).second)
      return false;
    for (size_t i = 0; i < all.size(); ++i) {
      if (done >> i & 1 || all[i].begin > first_end)
        continue;
      if (all[i].what == operation::kind::write) {
        if (self(self, done | uint32_t{1} << i, all[i].value))
          return true;
      } else if (all[i].value == held && self(self, done | uint32_t{1} << i, held)) {
        return true;
      }
    }
    return false;
  };
  return search(search, 0, blank);
}

} // namespace varve::chaos
