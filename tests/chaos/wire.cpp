#include "tests/chaos/wire.hpp"

#include <algorithm>
#include <sstream>

#include <fmt/format.h>

namespace varve::chaos {

namespace {

constexpr double delay_max_ms = 60'000;

} // namespace

wire::wire(unsigned nodes, uint64_t seed) : nodes_(nodes), paths_(nodes, std::vector<path>(nodes)), random_(seed) {}

std::string wire::command(const std::string& line) {
  std::istringstream words(line);
  std::string verb;
  words >> verb;
  const auto both = verb == "both";
  if (both)
    words >> verb;
  if (verb == "clear") {
    for (auto& row : paths_)
      for (auto& x : row)
        x.faults = {};
    return {};
  }
  std::string a, b;
  double amount = 0, jitter = 0;
  words >> a >> b;
  if (verb == "delay" || verb == "loss") {
    if (!(words >> amount) || amount < 0 || amount > (verb == "loss" ? 100 : delay_max_ms))
      return fmt::format("\"{}\": expected a number after the nodes, of ms up to {} or of percent", line, delay_max_ms);
    if (verb == "delay" && !(words >> jitter).fail() && (jitter < 0 || jitter > delay_max_ms))
      return fmt::format("\"{}\": the jitter is out of range", line);
  } else if (verb != "cut" && verb != "heal") {
    return fmt::format("\"{}\": expected cut, heal, delay, loss or clear", line);
  }
  auto range = [&](const std::string& name, unsigned& first, unsigned& last) {
    first = 1;
    last = nodes_;
    if (name == "*")
      return true;
    first = last = static_cast<unsigned>(std::strtoul(name.c_str(), nullptr, 10));
    return first >= 1 && first <= nodes_;
  };
  unsigned a1, a2, b1, b2;
  if (!range(a, a1, a2) || !range(b, b1, b2))
    return fmt::format("\"{}\": expected two nodes, 1 to {} or *", line, nodes_);
  auto set = [&](path_faults& x) {
    if (verb == "delay") {
      x.delay_ns = static_cast<int64_t>(amount * 1e6);
      x.jitter_ns = static_cast<int64_t>(jitter * 1e6);
    } else if (verb == "loss") {
      x.loss = amount / 100;
    } else {
      x.cut = verb == "cut";
    }
  };
  for (auto from = a1; from <= a2; ++from)
    for (auto to = b1; to <= b2; ++to)
      if (from != to) {
        set(paths_[from - 1][to - 1].faults);
        if (both)
          set(paths_[to - 1][from - 1].faults);
      }
  return {};
}

int64_t wire::arrival(unsigned from, unsigned to, int64_t now) {
  auto& x = paths_[from - 1][to - 1];
  const auto& f = x.faults;
  if (f.cut || (f.loss > 0 && std::uniform_real_distribution<>(0, 1)(random_) < f.loss)) {
    ++dropped_;
    return -1;
  }
  auto at = now + f.delay_ns;
  if (f.jitter_ns > 0)
    at += std::uniform_int_distribution<int64_t>(0, f.jitter_ns)(random_);
  // A delay that is taken away must not let frames pass earlier ones: TCP would take it for loss.
  x.latest = std::max(x.latest, at);
  return x.latest;
}

} // namespace varve::chaos
