#pragma once

#include <vector>

#include "runtime/storage/shard.hpp"
#include "runtime/storage/shard_format.hpp"

namespace varve {

/// The sums and states of a shard's blocks in memory, and what is derived from them: extents, allocated bytes, and the
/// notes of changes for a migration. One reactor thread.
class block_table {
public:
  explicit block_table(uint64_t blocks);

  uint64_t blocks() const noexcept { return sums_.crcs.size(); }
  const block_sums& sums() const noexcept { return sums_; }
  block_state state(uint64_t block) const noexcept { return sums_.states[block]; }
  bool hole(uint64_t block) const noexcept { return sums_.states[block] == block_state::hole; }
  uint32_t crc(uint64_t block) const noexcept { return sums_.crcs[block]; }

  void set_written(uint64_t block, uint32_t crc) noexcept {
    written_ += hole(block);
    sums_.crcs[block] = crc;
    sums_.states[block] = block_state::written;
  }
  void set_hole(uint64_t block) noexcept {
    written_ -= !hole(block);
    sums_.crcs[block] = 0;
    sums_.states[block] = block_state::hole;
  }

  /// The end of the run of blocks in the state of `first`, at most `end`.
  uint64_t run_end(uint64_t first, uint64_t end) const noexcept;
  bool all(block_state state, uint64_t first, uint64_t end) const noexcept;

  uint64_t allocated_bytes() const noexcept { return written_ * block_size; }
  void extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const;

  void track_changes(bool on);
  std::vector<shard_extent> take_changes();
  void forget_changes(uint64_t offset, uint64_t length) noexcept;
  uint64_t changed_bytes() const noexcept { return noted_ * block_size; }
  /// Blocks changed; noted where changes are tracked.
  void note(uint64_t first, uint64_t count) noexcept;

private:
  block_sums sums_;
  uint64_t written_ = 0;
  std::vector<bool> notes_; // empty: not tracked
  uint64_t noted_ = 0;
};

/// The CRC of a block of zeros.
uint32_t crc_of_zeros() noexcept;

/// Which pages of a shard's table on disk are out of date, and which of their two slots counts.
class table_pages {
public:
  explicit table_pages(uint64_t pages) : sequences_(pages), slots_(pages), stale_(pages) {}

  /// Blocks of the table changed in memory.
  void stale(uint64_t first, uint64_t count) noexcept;
  bool any_stale() const noexcept;
  /// The stale pages, in order; they count as fresh from here on. A failed checkpoint marks them stale again.
  std::vector<uint64_t> take_stale();
  void stale_again(const std::vector<uint64_t>& pages) noexcept;

  unsigned slot(uint64_t page) const noexcept { return slots_[page]; }
  /// Page `page` with `sequence` in its other slot is durable, and counts with the next header.
  void flip(uint64_t page, uint64_t sequence) noexcept;
  uint64_t next_sequence() const noexcept;
  uint32_t digest() const noexcept;

  static void encode(const block_table& table, const shard_header& of, uint64_t page, uint64_t sequence,
                     table_record& out);
  void store_slots(header_record& out) const noexcept;

  /// Takes over both slots of all pages as read from a file: into `table`. Where the slot that counts is spoilt, the
  /// other will do if it is of the same time; its page is stale then. errc::bad_format when the table is not what
  /// `header` counts.
  errc load(std::span<const table_record> slot0, std::span<const table_record> slot1, const header_record& header,
            block_table& table);

private:
  std::vector<uint64_t> sequences_;
  std::vector<uint8_t> slots_;
  std::vector<bool> stale_;
};

} // namespace varve
