#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/chaos/history_log.hpp"

namespace varve::chaos {

struct block_violation {
  uint64_t volume = 0;
  uint64_t block = 0;
  std::string text;
};

struct check_result {
  uint64_t blocks = 0;
  /// The first of each block, by volume and block.
  std::vector<block_violation> violations;
};

/// Each block of it as a register of its own: blocks are independent, and what is linearisable block by block is so as
/// a whole (Herlihy and Wing 1990, locality).
check_result check_history(const history& all);

/// How long requests of these blocks of a volume waited within [from, to], ns.
struct wait_window {
  int64_t from = 0;
  int64_t to = 0;
  uint64_t volume = 0;
  std::set<uint64_t> blocks;
  /// Found: the longest wait, counted only within the window, answered or not.
  int64_t longest = 0;
  /// Answered within the window; ended without a good answer; and still without any at its end.
  uint64_t answered = 0;
  uint64_t refused = 0;
  uint64_t waiting = 0;
};

/// Fills in what the logs say. Throws as read_logs does.
void find_waits(const std::vector<std::filesystem::path>& paths, std::vector<wait_window>& windows);

} // namespace varve::chaos
