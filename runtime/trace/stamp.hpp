#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>

namespace varve {

/// What a replay wrote, so that what it reads can be judged: each 512-byte sector it writes names the volume, the
/// sector and the write, so a lost, stale, misdirected or torn write is told apart from a good one. Whole sectors only:
/// of others, and of trimmed ones, nothing is known.
class stamp_book {
public:
  static constexpr uint64_t sector_bytes = 512;

  explicit stamp_book(uint64_t volume) : volume_(volume) {}

  /// Fills `bytes`, which go to `offset`, and notes them. Call when the write is sent.
  void write(uint64_t offset, std::span<std::byte> bytes);
  /// Zeros from now on.
  void zero(uint64_t offset, uint64_t length);
  /// Unknown from now on: trimmed, or a write failed.
  void forget(uint64_t offset, uint64_t length);

  struct verdict {
    uint64_t sectors = 0, bad = 0;
  };
  /// Judges the whole known sectors of what was read.
  verdict check(uint64_t offset, std::span<const std::byte> bytes) const;

  /// Known sectors and the sequence of the write that made them; 0: zeros.
  const std::unordered_map<uint64_t, uint64_t>& known() const noexcept { return known_; }

private:
  void stamp(uint64_t sector, uint64_t sequence, std::span<std::byte> bytes) const;
  /// Sectors that are touched, but not covered, become unknown; the covered ones are [first, second).
  std::pair<uint64_t, uint64_t> cover(uint64_t offset, uint64_t length);

  uint64_t volume_;
  uint64_t sequence_ = 0;
  std::unordered_map<uint64_t, uint64_t> known_;
};

} // namespace varve
