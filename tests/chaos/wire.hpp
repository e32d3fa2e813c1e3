#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace varve::chaos {

/// What happens to frames from one node to another.
struct path_faults {
  bool cut = false;
  int64_t delay_ns = 0;
  /// More delay, at most so much, uniform. Frames keep their order.
  int64_t jitter_ns = 0;
  /// Of a frame.
  double loss = 0;
};

/// The rules of a switch between `nodes` nodes, numbered from 1: a plain class that knows no device and no clock. Every
/// direction has faults of its own, drawn from one seed.
class wire {
public:
  wire(unsigned nodes, uint64_t seed);

  unsigned nodes() const noexcept { return nodes_; }

  /// "cut A B", "heal A B", "delay A B MS [JITTER_MS]", "loss A B PERCENT": from A to B only; "*" is every node, and
  /// with "both" before them the other direction too. "clear": no faults at all. What is wrong, for people; empty:
  /// done.
  std::string command(const std::string& line);

  const path_faults& faults(unsigned from, unsigned to) const { return paths_[from - 1][to - 1].faults; }

  /// When a frame sent now from one to the other arrives; -1: never.
  int64_t arrival(unsigned from, unsigned to, int64_t now);

  /// Frames that were dropped so far.
  uint64_t dropped() const noexcept { return dropped_; }

private:
  struct path {
    path_faults faults;
    int64_t latest = 0;
  };

  unsigned nodes_;
  std::vector<std::vector<path>> paths_;
  std::mt19937_64 random_;
  uint64_t dropped_ = 0;
};

} // namespace varve::chaos
