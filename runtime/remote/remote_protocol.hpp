#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "messages/errors.hpp"
#include "runtime/storage/shard.hpp"

/// How one node does I/O on the shards of another, over a stream: TCP, plain or within TLS. All integers are
/// little-endian. Every length is checked against a limit before a byte of it is waited for, every header and every
/// payload carries CRC32C.
///
///     client                                       server
///       hello (versions, key, incarnation, session)  ->
///                                                    <- challenge (version, boot, nonce)    or refusal, and the end
///       proof (of the key, over all that was said)   ->
///                     ... the initiator's older session is closed and drained ...
///                                                    <- welcome (proof, credits, tiers)     or refusal, and the end
///       requests, numbered from 1 on                 ->
///                                                    <- replies, in any order
///
/// Who opens a session is its *initiator*: one reactor of one node, named by the key that the control channel handed
/// out. A session is (incarnation of the initiator, number), and only ever a higher one is accepted: when the welcome
/// comes, nothing of the older ones is or will be carried out any more. So what is sent again cannot land on what was
/// written later.
///
/// The payload of a range, in requests and replies: one CRC32C for each block that the range touches, over those of the
/// block's bytes that travel, then the bytes. Of whole blocks these are the sums that shards store, so neither end
/// computes one twice. With the blocks' states (`read_with_sums`, `write_with_sums`, `sums`) a bit for each block
/// follows the sums, 1 for a written one; the bytes are left out when all are holes.
namespace varve::remote {

inline constexpr uint16_t version_min = 1;
inline constexpr uint16_t version_max = 1;
/// Bits that both ends know; a session uses those that both said. None yet.
inline constexpr uint64_t features_known = 0;

/// Bytes of a range whose payload travels in one frame.
inline constexpr uint32_t payload_bytes_max = 8u << 20;
/// Blocks in one answer to `sums`, and extents in one to `extents`.
inline constexpr uint32_t sums_max = 16384;
inline constexpr uint32_t extents_max = 4096;
/// Bytes of a handshake frame's body.
inline constexpr uint32_t handshake_bytes_max = 16u << 10;
inline constexpr uint16_t tiers_max = 128;
inline constexpr uint16_t tier_name_bytes_max = 64;

// -- little-endian -------------------------------------------------------------------------------------------------

template <class T>
std::byte* store(std::byte* to, T x) noexcept {
  static_assert(std::endian::native == std::endian::little);
  std::memcpy(to, &x, sizeof(x));
  return to + sizeof(x);
}
template <class T>
T load(const std::byte* from) noexcept {
  T x;
  std::memcpy(&x, from, sizeof(x));
  return x;
}

// -- handshake -----------------------------------------------------------------------------------------------------

enum class frame : uint8_t { hello = 1, challenge = 2, proof = 3, welcome = 4, refusal = 5 };

using nonce = std::array<std::byte, 32>;
using mac = std::array<std::byte, 32>;

struct hello {
  uint16_t version_min = remote::version_min;
  uint16_t version_max = remote::version_max;
  uint64_t features = features_known;
  uint64_t key = 0;
  uint64_t incarnation = 0;
  uint64_t session = 0;
  remote::nonce nonce{};
};

struct challenge {
  uint16_t version = 0;
  uint64_t features = 0;
  remote::nonce nonce{};
};

struct proof {
  remote::mac mac{};
};

struct served_tier {
  std::string name;
  /// The write verifier, which each reply about one of its shards carries, too.
  uint64_t boot = 0;

  bool operator==(const served_tier&) const = default;
};

struct welcome {
  remote::mac mac{};
  /// Credits: what may be unanswered at a time.
  uint32_t requests_max = 0;
  uint64_t bytes_max = 0;
  /// By position, as requests name them.
  std::vector<served_tier> tiers;
};

/// Why a handshake ends. Numbers are never used again.
enum class refusal_reason : uint8_t {
  none = 0,
  /// No version in common; the refusal names both sides' versions.
  version = 1,
  /// Key unknown, expired or not proven: which of them is the server's business only.
  key = 2,
  /// The initiator already had this session or a newer one.
  old_session = 3,
  /// An older session is not drained yet. Try again.
  draining = 4,
  /// Too many connections, or the server stops. Try again.
  busy = 5,
  malformed = 6,
};
const char* to_string(refusal_reason x) noexcept;

struct refusal {
  refusal_reason reason = refusal_reason::none;
  uint16_t server_min = remote::version_min, server_max = remote::version_max;
  uint16_t client_min = 0, client_max = 0;
  /// Of old_session: the newest that the server has seen.
  uint64_t incarnation = 0, session = 0;
};

/// A header of 16 bytes (magic, kind, length of the body, CRC32C of these), the body, its CRC32C.
inline constexpr size_t frame_header_bytes = 16;

std::vector<std::byte> encode(const hello& x);
std::vector<std::byte> encode(const challenge& x);
std::vector<std::byte> encode(const proof& x);
std::vector<std::byte> encode(const welcome& x);
std::vector<std::byte> encode(const refusal& x);

/// Of what follows the header, CRC32C included; none when it is not a frame of this protocol or too long.
std::optional<uint32_t> frame_rest_bytes(std::span<const std::byte> header) noexcept;
/// A whole frame: its kind; none when its sums are wrong.
std::optional<frame> kind_of(std::span<const std::byte> whole) noexcept;

/// Of whole frames of that kind; false when the body is not as long as it must be or a value is out of range.
bool decode(std::span<const std::byte> whole, hello& x) noexcept;
bool decode(std::span<const std::byte> whole, challenge& x) noexcept;
bool decode(std::span<const std::byte> whole, proof& x) noexcept;
bool decode(std::span<const std::byte> whole, welcome& x);
bool decode(std::span<const std::byte> whole, refusal& x) noexcept;

// -- requests ------------------------------------------------------------------------------------------------------

/// Numbers are never used again.
enum class op : uint8_t {
  read = 1,
  write = 2,
  trim = 3,
  write_zeroes = 4,
  flush = 5,
  read_with_sums = 6,
  write_with_sums = 7,
  /// The extents of a range: as many as fit; the answer's argument says how many bytes of the range they cover.
  extents = 8,
  /// The stored sums and states of whole blocks, without their bytes.
  sums = 9,
  /// Opens the shard and says what its header says.
  look = 19,
  // -- of the control side: keys without remote_rights::control are refused with errc::unsupported
  /// argument: size in bytes; argument2: 1 for a migration's sink. The epoch is its first fence.
  create = 10,
  activate = 11,
  checkpoint = 12,
  passivate = 13,
  /// argument: the fence.
  complete = 14,
  /// argument: migration (0 takes the seal off); argument2: the generation that replaces this one.
  seal = 15,
  remove = 16,
  /// argument: the new fence.
  raise_fence = 17,
  /// The answer's argument: the number of bad blocks.
  verify = 18,
};
inline constexpr uint8_t op_last = 19;
/// Whether it takes remote_rights::control.
constexpr bool of_control(op x) noexcept {
  return (x >= op::create && x <= op::verify) || x == op::read_with_sums || x == op::write_with_sums || x == op::sums;
}

enum request_flags : uint8_t {
  /// write, write_zeroes, trim: answered once it survives power loss.
  flag_fua = 1,
  /// write_zeroes: the blocks stay allocated.
  flag_keep_allocated = 2,
};

inline constexpr size_t request_bytes = 88;

struct request {
  remote::op op = op::read;
  uint8_t flags = 0;
  /// Position in the welcome's list.
  uint16_t tier = 0;
  /// Comes back in the reply; the client's own.
  uint32_t tag = 0;
  /// 1, 2, 3, ... within a session.
  uint64_t sequence = 0;
  shard_id id;
  varve::generation generation;
  varve::epoch epoch;
  /// Within the shard.
  uint32_t offset = 0;
  uint32_t length = 0;
  /// Bytes that follow the header.
  uint32_t payload = 0;
  uint64_t argument = 0;
  uint64_t argument2 = 0;
};

void encode(const request& x, std::byte* to) noexcept;

enum class malformed : uint8_t { none, magic, checksum, op, flags, range, payload, sequence, reserved };
const char* to_string(malformed x) noexcept;

/// What is wrong with a header of request_bytes; checks everything that can be known without the shard.
malformed decode(std::span<const std::byte> from, request& x) noexcept;

// -- replies -------------------------------------------------------------------------------------------------------

enum reply_flags : uint8_t {
  /// The shard holds acknowledged changes that may not survive power loss.
  flag_dirty = 1,
  /// read: all of the range is holes, and no payload follows.
  flag_zeros = 2,
  /// With errc::checksum_mismatch: the request's payload is not what its sums say. Nothing was done; send it again.
  flag_broken = 4,
};

inline constexpr size_t reply_bytes = 48;

struct reply {
  errc status = errc::none;
  uint8_t flags = 0;
  uint32_t tag = 0;
  uint64_t sequence = 0;
  uint32_t payload = 0;
  /// Changes when what was acknowledged and not flushed may be lost (as NFS's write verifier).
  uint64_t boot = 0;
  uint64_t argument = 0;
};

void encode(const reply& x, std::byte* to) noexcept;
malformed decode(std::span<const std::byte> from, reply& x) noexcept;

// -- payloads ------------------------------------------------------------------------------------------------------

/// Blocks that a range touches.
constexpr uint32_t blocks_of(uint64_t offset, uint64_t length) noexcept {
  return length == 0 ? 0 : static_cast<uint32_t>((offset + length - 1) / block_size - offset / block_size + 1);
}
constexpr uint32_t sums_bytes(uint32_t blocks) noexcept {
  return blocks * 4;
}
constexpr uint32_t states_bytes(uint32_t blocks) noexcept {
  return (blocks + 7) / 8;
}
constexpr bool with_states(op x) noexcept {
  return x == op::read_with_sums || x == op::write_with_sums || x == op::sums;
}
/// What precedes the bytes.
constexpr uint32_t prefix_bytes(op x, uint64_t offset, uint64_t length) noexcept {
  const auto blocks = blocks_of(offset, length);
  return sums_bytes(blocks) + (with_states(x) ? states_bytes(blocks) : 0);
}

/// What a request counts for against the credit of bytes: what its payload takes in either direction.
constexpr uint64_t cost_of(const request& x) noexcept {
  switch (x.op) {
  case op::read:
  case op::read_with_sums: return uint64_t{x.length} + prefix_bytes(x.op, x.offset, x.length);
  case op::sums: return prefix_bytes(x.op, x.offset, x.length);
  case op::extents: return uint64_t{extents_max} * 8;
  default: return x.payload;
  }
}

/// Writes the CRC32C of each touched block's part of `bytes`.
void store_sums(uint64_t offset, std::span<const std::byte> bytes, std::byte* to) noexcept;
/// Whether each part is what its CRC32C says.
bool sums_match(uint64_t offset, std::span<const std::byte> bytes, const std::byte* sums) noexcept;

/// Sums, then a bit for each state.
void store_states(const block_sums& x, std::byte* to) noexcept;
/// Appends `blocks` of them.
void load_states(const std::byte* from, uint32_t blocks, block_sums& x);

/// What control requests answer: the shard's header and its allocated bytes.
inline constexpr size_t summary_bytes = 80;
void store_summary(const shard_header& x, uint64_t allocated_bytes, std::byte* to) noexcept;
void load_summary(const std::byte* from, shard_header& x, uint64_t& allocated_bytes) noexcept;

inline constexpr size_t extent_bytes = 8;
void store_extent(const shard_extent& x, std::byte* to) noexcept;
shard_extent load_extent(const std::byte* from) noexcept;

} // namespace varve::remote
