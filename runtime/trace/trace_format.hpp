#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/nbd/block_backend.hpp"

/// A trace: what one volume was asked, in the order in which it was asked.
///
///     file    = header block*
///     header  = "VARVTRC1"  u32 version  u32 crc  u64 volume_bytes  u64 created_at  char name[64]  zeros; 128 bytes.
///               crc is the CRC32C of the 128 bytes with crc as 0. created_at: seconds since 1970. A reader refuses
///               versions that it does not know.
///     block   = u32 0x4b4c4254 ("TBLK")  u32 crc  u32 payload_bytes  u32 records  u64 base_us  u64 dropped  u32 flags
///     u32 0
///               payload; the head has 40 bytes. crc is the CRC32C of head (crc as 0) and payload.
///               base_us: microseconds since the recording began. dropped: requests before this block that were not
///               recorded. flags bit 0: another recording, appended; its time goes on where the last one's ended.
///     record  = u8 head  varint delta_us  [zigzag varint distance]  [varint length]
///               head bits 0..2: the op (block_op's number). Bit 3: `distance` is absent, and 0. Bit 4: `length` is
///               absent, and the last record's. Bit 5: distance and length count bytes, not 512 bytes. delta_us: since
///               the last record (the first: since base_us). distance: from the end of the last request to the start of
///               this one. A flush has neither.
///
/// Integers are little-endian. A block stands alone: its first record follows offset 0, length 0. So a file is appended
/// to block by block, and what a crash leaves of the last one is recognised by its CRC and cut. About six bytes a
/// request.
namespace varve {

struct trace_record {
  /// Since the recording began.
  std::chrono::microseconds at{0};
  block_op op = block_op::read;
  uint64_t offset = 0;
  uint32_t length = 0;

  bool operator==(const trace_record&) const = default;
};

struct trace_header {
  std::string volume;
  uint64_t volume_bytes = 0;
  /// Seconds since 1970.
  uint64_t created_at = 0;
};

namespace trace_format {

inline constexpr size_t header_bytes = 128;
inline constexpr size_t block_head_bytes = 40;
/// Of one block; a larger claim is a broken file.
inline constexpr size_t payload_bytes_max = 1u << 20;
/// The largest record.
inline constexpr size_t record_bytes_max = 1 + 10 + 10 + 5;

std::vector<std::byte> encode_header(const trace_header& x);
/// What is wrong with it, or empty.
std::string decode_header(std::span<const std::byte> bytes, trace_header& x);

struct block_head {
  uint32_t crc = 0;
  uint32_t payload_bytes = 0;
  uint32_t records = 0;
  uint64_t base_us = 0;
  uint64_t dropped = 0;
  bool resumed = false;
};

/// Head and payload of records in the order of time, none before base_us.
std::vector<std::byte> encode_block(std::span<const trace_record> records, uint64_t base_us, uint64_t dropped,
                                    bool resumed);
/// False: these are not the first bytes of a block.
bool decode_head(std::span<const std::byte> bytes, block_head& x);
/// False: the CRC does not match, or records are not what the head says.
bool decode_block(std::span<const std::byte> head, std::span<const std::byte> payload, std::vector<trace_record>& out);

} // namespace trace_format
} // namespace varve
