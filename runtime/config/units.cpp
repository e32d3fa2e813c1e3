#include "runtime/config/units.hpp"

#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace varve {

namespace {

struct unit {
  std::string_view name;
  uint64_t factor;
};

// Of equal factors the first is the one that is written; from small to large.
constexpr std::array size_units{
  unit{"B", 1},
  unit{"", 1},
  unit{"KB", 1'000},
  unit{"kB", 1'000},
  unit{"KiB", 1ull << 10},
  unit{"K", 1ull << 10},
  unit{"k", 1ull << 10},
  unit{"MB", 1'000'000},
  unit{"MiB", 1ull << 20},
  unit{"M", 1ull << 20},
  unit{"GB", 1'000'000'000},
  unit{"GiB", 1ull << 30},
  unit{"G", 1ull << 30},
  unit{"TB", 1'000'000'000'000},
  unit{"TiB", 1ull << 40},
  unit{"T", 1ull << 40},
  unit{"PB", 1'000'000'000'000'000},
  unit{"PiB", 1ull << 50},
  unit{"P", 1ull << 50},
  unit{"EiB", 1ull << 60},
};

constexpr std::array duration_units{
  unit{"ns", 1},
  unit{"us", 1'000},
  unit{"ms", 1'000'000},
  unit{"s", 1'000'000'000},
  unit{"min", 60'000'000'000},
  unit{"m", 60'000'000'000},
  unit{"h", 3'600'000'000'000},
  unit{"d", 86'400'000'000'000},
};

using wide = unsigned __int128;

// "1.5" -> 15 / 10. More than 20 digits are refused: times the largest factor they still fit 128 bits.
struct decimal {
  wide digits = 0;
  uint64_t scale = 1;
};

std::optional<decimal> read_decimal(std::string_view& text) {
  decimal x;
  size_t digits = 0, at = 0;
  bool point = false;
  for (; at < text.size(); ++at) {
    if (text[at] == '.' && !point) {
      point = true;
    } else if (text[at] >= '0' && text[at] <= '9') {
      if (digits == 20 || (point && x.scale == 1'000'000'000'000ull))
        return std::nullopt;
      x.digits = x.digits * 10 + static_cast<unsigned>(text[at] - '0');
      digits += x.digits != 0;
      if (point)
        x.scale *= 10;
    } else {
      break;
    }
  }
  if (at == 0 || text[at - 1] == '.' || text[0] == '.')
    return std::nullopt;
  text.remove_prefix(at);
  return x;
}

template <size_t N>
std::optional<uint64_t> parse(std::string_view text, const std::array<unit, N>& units, uint64_t limit,
                              std::string_view what, std::string_view smallest, std::string& problem) {
  const auto whole = text;
  auto number = read_decimal(text);
  if (!number) {
    problem = fmt::format("\"{}\" is not a {}", whole, what);
    return std::nullopt;
  }
  while (!text.empty() && text.front() == ' ')
    text.remove_prefix(1);
  for (const auto& x : units) {
    if (x.name != text)
      continue;
    const wide product = number->digits * x.factor;
    if (product % number->scale != 0) {
      problem = fmt::format("\"{}\" is not a whole number of {}", whole, smallest);
      return std::nullopt;
    }
    if (product / number->scale > limit) {
      problem = fmt::format("\"{}\" is too large", whole);
      return std::nullopt;
    }
    return static_cast<uint64_t>(product / number->scale);
  }
  problem =
    text.empty() ? fmt::format("\"{}\" has no unit", whole) : fmt::format("\"{}\": no unit \"{}\"", whole, text);
  return std::nullopt;
}

} // namespace

std::optional<uint64_t> parse_size(std::string_view text, std::string& problem) {
  return parse(text, size_units, std::numeric_limits<uint64_t>::max(), "size", "bytes", problem);
}

std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text, std::string& problem) {
  if (text == "0")
    return std::chrono::nanoseconds{0};
  auto x = parse(text, duration_units, std::numeric_limits<int64_t>::max(), "duration", "nanoseconds", problem);
  if (!x)
    return std::nullopt;
  return std::chrono::nanoseconds{static_cast<int64_t>(*x)};
}

std::string format_size(uint64_t bytes) {
  constexpr std::string_view names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t i = 0;
  while (bytes != 0 && bytes % 1024 == 0 && i + 1 < std::size(names)) {
    bytes /= 1024;
    ++i;
  }
  return fmt::format("{}{}", bytes, names[i]);
}

std::string format_size_short(double bytes) {
  constexpr std::string_view names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t i = 0;
  // 999.5 would be written with four digits.
  while (bytes >= 999.5 && i + 1 < std::size(names)) {
    bytes /= 1024;
    ++i;
  }
  return i == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.3g} {}", bytes, names[i]);
}

std::string format_duration(std::chrono::nanoseconds x) {
  const auto count = x.count();
  if (count == 0)
    return "0s";
  for (auto at = duration_units.rbegin(); at != duration_units.rend(); ++at)
    if (count % static_cast<int64_t>(at->factor) == 0 && at->name != "min" && at->name != "d")
      return fmt::format("{}{}", count / static_cast<int64_t>(at->factor), at->name);
  return fmt::format("{}ns", count);
}

std::string format_duration_short(std::chrono::nanoseconds x) {
  const double ns = static_cast<double>(x.count());
  if (ns < 999.5)
    return fmt::format("{:.0f} ns", ns);
  if (ns < 999.5e3)
    return fmt::format("{:.3g} us", ns / 1e3);
  if (ns < 999.5e6)
    return fmt::format("{:.3g} ms", ns / 1e6);
  if (ns < 59.95e9)
    return fmt::format("{:.3g} s", ns / 1e9);
  const auto seconds = static_cast<uint64_t>(ns / 1e9 + 0.5);
  if (seconds < 3600)
    return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  if (seconds < 86400)
    return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
  return fmt::format("{} d {} h", seconds / 86400, seconds / 3600 % 24);
}

} // namespace varve
