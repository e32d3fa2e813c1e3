#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "runtime/storage/shard.hpp"

namespace varve {

// A shard file. All numbers are little-endian; all checksums CRC32C.
//
//   0                        header slot A
//   4 KiB                    header slot B
//   8 KiB                    checksum table, slot 0 of each page
//   8 KiB + pages * 4 KiB    checksum table, slot 1 of each page
//   data_offset              data, block i at data_offset + i * 4 KiB; sparse
//
// The header with the highest sequence among the valid slots counts; a new one goes to the other slot. It says which
// slot of each table page counts, and `table_digest` ties it to exactly those: a page of another time is noticed. A
// checkpoint writes changed pages to the slots that don't count, syncs, and only then a header that counts them and
// takes the intent marks back; then both slots of pages and headers are made equal, so that a spoilt sector at rest is
// survived. A page that was never written is all zeros in both slots, and means 512 holes.

static_assert(std::endian::native == std::endian::little, "shard files are written as memory holds them");

inline constexpr uint64_t shard_magic = 0x4452485356524156; // "VARVSHRD"
inline constexpr uint32_t table_magic = 0x424d5553;         // "SUMB"
/// Of what this build writes, and the newest that it reads.
inline constexpr uint32_t shard_format_version = 1;

inline constexpr uint64_t header_slot_bytes = 4096;
inline constexpr uint64_t table_page_bytes = 4096;
inline constexpr uint64_t blocks_per_page = 512;
/// What one bit of the intent bitmap stands for, in bytes.
inline constexpr uint64_t region_size = 64ull << 10;
inline constexpr uint64_t blocks_per_region = region_size / block_size;
inline constexpr uint64_t table_pages_max = shard_size_max / block_size / blocks_per_page;

inline constexpr uint32_t header_incomplete = 1;

/// Both header slots hold this. Magic, version and crc stay where they are in all versions to come.
struct header_record {
  uint64_t magic = shard_magic;
  uint32_t version = shard_format_version;
  /// Of the whole slot, with this field 0.
  uint32_t crc = 0;
  uint64_t sequence = 0;
  uint64_t volume = 0;
  uint64_t index = 0;
  uint64_t size = 0;
  uint64_t generation = 0;
  uint64_t fence = 0;
  uint64_t sealed_by = 0;
  uint64_t sealed_for = 0;
  uint32_t flags = 0;
  /// Of the sequences of all table pages that count, in order.
  uint32_t table_digest = 0;
  uint64_t reserved[4] = {};
  /// Bit i: which slot of table page i counts.
  uint8_t table_slots[table_pages_max / 8] = {};
  uint8_t reserved_too[1864] = {};
  /// Bit i: region i may hold data that the table does not know.
  uint8_t intents[shard_size_max / region_size / 8] = {};
};
static_assert(sizeof(header_record) == header_slot_bytes);
static_assert(offsetof(header_record, crc) == 12);
static_assert(offsetof(header_record, sequence) == 16);
static_assert(offsetof(header_record, table_digest) == 84);
static_assert(offsetof(header_record, table_slots) == 120);
static_assert(offsetof(header_record, intents) == 2048);

struct table_record {
  uint32_t magic = table_magic;
  /// Of the whole page, with this field 0.
  uint32_t crc = 0;
  uint64_t volume = 0;
  uint64_t index = 0;
  uint64_t generation = 0;
  uint64_t page = 0;
  /// Of the checkpoint that wrote it; 0 in a page that was never written.
  uint64_t sequence = 0;
  uint64_t reserved[2] = {};
  /// A hole's is 0.
  uint32_t crcs[blocks_per_page] = {};
  /// block_state; never renumbered.
  uint8_t states[blocks_per_page] = {};
  uint8_t reserved_too[1472] = {};
};
static_assert(sizeof(table_record) == table_page_bytes);
static_assert(offsetof(table_record, crcs) == 64);
static_assert(offsetof(table_record, states) == 64 + 4 * blocks_per_page);
static_assert(static_cast<int>(block_state::hole) == 0 && static_cast<int>(block_state::written) == 1);

/// Where things are in the file of a shard of some size.
struct shard_layout {
  explicit constexpr shard_layout(uint64_t size) noexcept
    : blocks(size / block_size), pages((blocks + blocks_per_page - 1) / blocks_per_page), regions(size / region_size),
      metadata_bytes(2 * header_slot_bytes + 2 * pages * table_page_bytes),
      data_offset((metadata_bytes + region_size - 1) / region_size * region_size), file_bytes(data_offset + size) {}

  constexpr uint64_t header_at(unsigned slot) const noexcept { return slot * header_slot_bytes; }
  constexpr uint64_t page_at(unsigned slot, uint64_t page) const noexcept {
    return 2 * header_slot_bytes + (slot * pages + page) * table_page_bytes;
  }
  constexpr uint64_t block_at(uint64_t block) const noexcept { return data_offset + block * block_size; }

  uint64_t blocks;
  uint64_t pages;
  uint64_t regions;
  uint64_t metadata_bytes;
  uint64_t data_offset;
  uint64_t file_bytes;
};
static_assert(shard_layout{shard_size_min}.regions == 4);
static_assert(shard_layout{shard_size_default}.data_offset == 64 << 10);
static_assert(shard_layout{shard_size_max}.pages == table_pages_max);

/// Whether a shard can have this size.
constexpr bool valid_shard_size(uint64_t size) noexcept {
  return std::has_single_bit(size) && size >= shard_size_min && size <= shard_size_max;
}

/// Fills in the CRC.
void finish(header_record& x) noexcept;
void finish(table_record& x) noexcept;

enum class slot_state : uint8_t {
  valid,
  /// Torn, spoilt, or not ours.
  invalid,
  /// Whole, but of a later version of the format.
  newer,
};
slot_state check(const header_record& x) noexcept;

/// Whether `x` is page `page` of that shard, or was never written.
bool valid(const table_record& x, const shard_header& of, uint64_t page) noexcept;

shard_header header_of(const header_record& x) noexcept;
/// All but sequence, table and intents.
header_record record_of(const shard_header& x) noexcept;

/// The two slots of a file, as read.
struct chosen_header {
  /// errc::bad_format when there is no valid slot, or one is of a newer version.
  errc status = errc::bad_format;
  unsigned slot = 0;
  /// The other slot is valid too. If not, a header may have been lost in it: written later than this one.
  bool both = false;
};
chosen_header choose_header(const header_record& a, const header_record& b) noexcept;

} // namespace varve
