#include "runtime/trace/trace_format.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "rdma/checksum.hpp"

namespace varve::trace_format {

namespace {

static_assert(std::endian::native == std::endian::little, "integers are copied as they are");

constexpr char magic[8] = {'V', 'A', 'R', 'V', 'T', 'R', 'C', '1'};
constexpr uint32_t block_magic = 0x4b4c4254;
constexpr uint32_t version = 1;
constexpr size_t crc_at_header = 12, name_at = 32, name_bytes = 64;
constexpr size_t crc_at_block = 4;
constexpr uint8_t same_place = 8, same_length = 16, in_bytes = 32;

template <class T>
void put(std::byte* to, T x) {
  std::memcpy(to, &x, sizeof x);
}

template <class T>
T get(const std::byte* from) {
  T x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

void put_varint(std::vector<std::byte>& to, uint64_t x) {
  while (x >= 0x80) {
    to.push_back(static_cast<std::byte>(x | 0x80));
    x >>= 7;
  }
  to.push_back(static_cast<std::byte>(x));
}

bool get_varint(std::span<const std::byte>& from, uint64_t& x) {
  x = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (from.empty())
      return false;
    const auto b = static_cast<uint8_t>(from[0]);
    from = from.subspan(1);
    if (shift == 63 && b > 1)
      return false;
    x |= static_cast<uint64_t>(b & 0x7f) << shift;
    if (b < 0x80)
      return true;
  }
  return false;
}

uint64_t zigzag(int64_t x) {
  return (static_cast<uint64_t>(x) << 1) ^ static_cast<uint64_t>(x >> 63);
}
int64_t unzigzag(uint64_t x) {
  return static_cast<int64_t>(x >> 1) ^ -static_cast<int64_t>(x & 1);
}

// What a record is told relative to.
struct cursor {
  uint64_t time_us = 0;
  uint64_t end = 0;
  uint32_t length = 0;
};

void put_record(std::vector<std::byte>& to, cursor& last, const trace_record& x) {
  const auto at = static_cast<uint64_t>(x.at.count());
  auto head = static_cast<uint8_t>(x.op);
  const auto head_at = to.size();
  to.push_back({});
  put_varint(to, at - last.time_us);
  last.time_us = at;
  if (x.op != block_op::flush) {
    const auto distance = static_cast<int64_t>(x.offset - last.end);
    const bool bytes = distance % 512 != 0 || x.length % 512 != 0;
    const int64_t unit = bytes ? 1 : 512;
    if (bytes)
      head |= in_bytes;
    if (distance == 0)
      head |= same_place;
    else
      put_varint(to, zigzag(distance / unit));
    if (x.length == last.length)
      head |= same_length;
    else
      put_varint(to, x.length / static_cast<uint64_t>(unit));
    last.end = x.offset + x.length;
    last.length = x.length;
  }
  to[head_at] = static_cast<std::byte>(head);
}

bool get_record(std::span<const std::byte>& from, cursor& last, trace_record& x) {
  uint64_t delta = 0;
  if (from.empty())
    return false;
  const auto head = static_cast<uint8_t>(from[0]);
  from = from.subspan(1);
  const auto op = head & 7;
  if (op > static_cast<int>(block_op::cache) || head >= 64 || !get_varint(from, delta))
    return false;
  x.op = static_cast<block_op>(op);
  last.time_us += delta;
  x.at = std::chrono::microseconds{static_cast<int64_t>(last.time_us)};
  x.offset = 0;
  x.length = 0;
  if (x.op == block_op::flush)
    return true;
  const uint64_t unit = head & in_bytes ? 1 : 512;
  uint64_t distance = 0, length = last.length / unit;
  if (!(head & same_place) && !get_varint(from, distance))
    return false;
  if (!(head & same_length) && (!get_varint(from, length) || length > UINT32_MAX / unit))
    return false;
  // Wraps as it did when it was written.
  x.offset = last.end + static_cast<uint64_t>(unzigzag(distance)) * unit;
  x.length = head & same_length ? last.length : static_cast<uint32_t>(length * unit);
  last.end = x.offset + x.length;
  last.length = x.length;
  return true;
}

uint32_t crc_of(std::vector<std::byte> head, std::span<const std::byte> rest, size_t crc_at) {
  put<uint32_t>(head.data() + crc_at, 0);
  return crc32c(rest, crc32c(head));
}

} // namespace

std::vector<std::byte> encode_header(const trace_header& x) {
  std::vector<std::byte> bytes(header_bytes);
  std::memcpy(bytes.data(), magic, sizeof magic);
  put(bytes.data() + 8, version);
  put(bytes.data() + 16, x.volume_bytes);
  put(bytes.data() + 24, x.created_at);
  std::memcpy(bytes.data() + name_at, x.volume.data(), std::min(x.volume.size(), name_bytes - 1));
  put(bytes.data() + crc_at_header, crc_of(bytes, {}, crc_at_header));
  return bytes;
}

std::string decode_header(std::span<const std::byte> bytes, trace_header& x) {
  if (bytes.size() < header_bytes || std::memcmp(bytes.data(), magic, sizeof magic) != 0)
    return "it is not a trace";
  bytes = bytes.first(header_bytes);
  if (get<uint32_t>(bytes.data() + crc_at_header) != crc_of({bytes.begin(), bytes.end()}, {}, crc_at_header))
    return "its header does not match its checksum";
  if (const auto found = get<uint32_t>(bytes.data() + 8); found != version)
    return "it is of version " + std::to_string(found) + ", and this program reads version " + std::to_string(version);
  x.volume_bytes = get<uint64_t>(bytes.data() + 16);
  x.created_at = get<uint64_t>(bytes.data() + 24);
  const auto* name = reinterpret_cast<const char*>(bytes.data() + name_at);
  x.volume.assign(name, strnlen(name, name_bytes));
  return {};
}

std::vector<std::byte> encode_block(std::span<const trace_record> records, uint64_t base_us, uint64_t dropped,
                                    bool resumed) {
  std::vector<std::byte> bytes(block_head_bytes);
  cursor last{base_us, 0, 0};
  for (const auto& x : records)
    put_record(bytes, last, x);
  put(bytes.data(), block_magic);
  put(bytes.data() + 8, static_cast<uint32_t>(bytes.size() - block_head_bytes));
  put(bytes.data() + 12, static_cast<uint32_t>(records.size()));
  put(bytes.data() + 16, base_us);
  put(bytes.data() + 24, dropped);
  put<uint32_t>(bytes.data() + 32, resumed ? 1 : 0);
  put(bytes.data() + crc_at_block, crc32c(bytes));
  return bytes;
}

bool decode_head(std::span<const std::byte> bytes, block_head& x) {
  if (bytes.size() < block_head_bytes || get<uint32_t>(bytes.data()) != block_magic)
    return false;
  x.crc = get<uint32_t>(bytes.data() + crc_at_block);
  x.payload_bytes = get<uint32_t>(bytes.data() + 8);
  x.records = get<uint32_t>(bytes.data() + 12);
  x.base_us = get<uint64_t>(bytes.data() + 16);
  x.dropped = get<uint64_t>(bytes.data() + 24);
  x.resumed = get<uint32_t>(bytes.data() + 32) & 1;
  // A record has two bytes at least.
  return x.payload_bytes <= payload_bytes_max && x.records <= x.payload_bytes / 2;
}

bool decode_block(std::span<const std::byte> head, std::span<const std::byte> payload, std::vector<trace_record>& out) {
  block_head h;
  if (!decode_head(head, h) || payload.size() != h.payload_bytes ||
      h.crc != crc_of({head.begin(), head.begin() + block_head_bytes}, payload, crc_at_block))
    return false;
  cursor last{h.base_us, 0, 0};
  out.reserve(out.size() + h.records);
  for (uint32_t i = 0; i < h.records; ++i) {
    trace_record x;
    if (!get_record(payload, last, x))
      return false;
    out.push_back(x);
  }
  return payload.empty();
}

} // namespace varve::trace_format
