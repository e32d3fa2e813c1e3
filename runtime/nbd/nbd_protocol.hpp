#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

/// The NBD wire protocol: numbers and byte order, nothing else. Names follow the protocol's text (doc/proto.md of the
/// reference implementation), in lower case. Everything on the wire is big-endian.
namespace varve::nbd {

// -- handshake
// ---------------------------------------------------------------------------------------------------------

inline constexpr uint64_t magic = 0x4e42444d41474943;        // "NBDMAGIC"
inline constexpr uint64_t option_magic = 0x49484156454f5054; // "IHAVEOPT"
inline constexpr uint64_t option_reply_magic = 0x0003e889045565a9;

inline constexpr uint16_t flag_fixed_newstyle = 1 << 0;
inline constexpr uint16_t flag_no_zeroes = 1 << 1;

enum class option : uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
};

enum class option_reply : uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  error_unsupported = (1u << 31) + 1,
  error_policy = (1u << 31) + 2,
  error_invalid = (1u << 31) + 3,
  error_platform = (1u << 31) + 4,
  error_tls_required = (1u << 31) + 5,
  error_unknown = (1u << 31) + 6,
  error_shutdown = (1u << 31) + 7,
  error_block_size_required = (1u << 31) + 8,
  error_too_big = (1u << 31) + 9,
};

enum class info : uint16_t { exported = 0, name = 1, description = 2, block_size = 3 };

inline constexpr size_t option_header_size = 16;
/// Of a name or another string, by the protocol.
inline constexpr size_t string_bytes_max = 4096;

inline constexpr std::string_view allocation_context = "base:allocation";
/// Our number for it in replies.
inline constexpr uint32_t allocation_context_id = 1;

// -- transmission
// ------------------------------------------------------------------------------------------------------

inline constexpr uint16_t transmission_has_flags = 1 << 0;
inline constexpr uint16_t transmission_read_only = 1 << 1;
inline constexpr uint16_t transmission_send_flush = 1 << 2;
inline constexpr uint16_t transmission_send_fua = 1 << 3;
inline constexpr uint16_t transmission_send_trim = 1 << 5;
inline constexpr uint16_t transmission_send_write_zeroes = 1 << 6;
inline constexpr uint16_t transmission_send_df = 1 << 7;
inline constexpr uint16_t transmission_can_multi_conn = 1 << 8;
inline constexpr uint16_t transmission_send_cache = 1 << 10;
inline constexpr uint16_t transmission_send_fast_zero = 1 << 11;

inline constexpr uint32_t request_magic = 0x25609513;
inline constexpr uint32_t simple_reply_magic = 0x67446698;
inline constexpr uint32_t structured_reply_magic = 0x668e33ef;

enum class command : uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

inline constexpr uint16_t command_flag_fua = 1 << 0;
inline constexpr uint16_t command_flag_no_hole = 1 << 1;
inline constexpr uint16_t command_flag_df = 1 << 2;
inline constexpr uint16_t command_flag_req_one = 1 << 3;
inline constexpr uint16_t command_flag_fast_zero = 1 << 4;

inline constexpr uint16_t reply_flag_done = 1 << 0;

enum class reply_type : uint16_t {
  none = 0,
  offset_data = 1,
  offset_hole = 2,
  block_status = 5,
  error = (1u << 15) + 1,
  error_offset = (1u << 15) + 2,
};

inline constexpr uint32_t state_hole = 1 << 0;
inline constexpr uint32_t state_zero = 1 << 1;

/// The protocol's own numbers, whatever the platform's errno are.
enum class error : uint32_t {
  none = 0,
  not_permitted = 1,
  io = 5,
  no_memory = 12,
  invalid = 22,
  no_space = 28,
  overflow = 75,
  not_supported = 95,
  shutdown = 108,
};

inline constexpr size_t request_size = 28;
inline constexpr size_t simple_reply_size = 16;
inline constexpr size_t structured_reply_size = 20;

// -- byte order
// --------------------------------------------------------------------------------------------------------

template <class T>
constexpr T swapped(T x) noexcept {
  static_assert(std::endian::native == std::endian::little);
  if constexpr (sizeof(T) == 2)
    return static_cast<T>(__builtin_bswap16(x));
  else if constexpr (sizeof(T) == 4)
    return static_cast<T>(__builtin_bswap32(x));
  else
    return static_cast<T>(__builtin_bswap64(x));
}

template <class T>
T load(const std::byte* from) noexcept {
  T x;
  std::memcpy(&x, from, sizeof(T));
  return swapped(x);
}

/// Returns the end of what was stored.
template <class T>
std::byte* store(std::byte* to, T x) noexcept {
  x = swapped(x);
  std::memcpy(to, &x, sizeof(T));
  return to + sizeof(T);
}

template <std::unsigned_integral T>
void append(std::vector<std::byte>& to, T x) {
  auto at = to.size();
  to.resize(at + sizeof(T));
  store(to.data() + at, x);
}

inline void append(std::vector<std::byte>& to, std::string_view text) {
  auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  to.insert(to.end(), bytes, bytes + text.size());
}

/// One request's header as received.
struct request_header {
  uint32_t magic = 0;
  uint16_t flags = 0;
  command type = command::read;
  uint64_t cookie = 0;
  uint64_t offset = 0;
  uint32_t length = 0;
};

inline request_header load_request(const std::byte* from) noexcept {
  return {
    .magic = load<uint32_t>(from),
    .flags = load<uint16_t>(from + 4),
    .type = static_cast<command>(load<uint16_t>(from + 6)),
    .cookie = load<uint64_t>(from + 8),
    .offset = load<uint64_t>(from + 16),
    .length = load<uint32_t>(from + 24),
  };
}

inline std::byte* store_request(std::byte* to, const request_header& x) noexcept {
  to = store(to, x.magic);
  to = store(to, x.flags);
  to = store(to, static_cast<uint16_t>(x.type));
  to = store(to, x.cookie);
  to = store(to, x.offset);
  return store(to, x.length);
}

inline std::byte* store_simple_reply(std::byte* to, error status, uint64_t cookie) noexcept {
  to = store(to, simple_reply_magic);
  to = store(to, static_cast<uint32_t>(status));
  return store(to, cookie);
}

inline std::byte* store_structured_reply(std::byte* to, uint16_t flags, reply_type type, uint64_t cookie,
                                         uint32_t length) noexcept {
  to = store(to, structured_reply_magic);
  to = store(to, flags);
  to = store(to, static_cast<uint16_t>(type));
  to = store(to, cookie);
  return store(to, length);
}

} // namespace varve::nbd
