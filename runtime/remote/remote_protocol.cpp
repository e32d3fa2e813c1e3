#include "runtime/remote/remote_protocol.hpp"

#include <algorithm>

#include "rdma/checksum.hpp"

namespace varve::remote {

namespace {

constexpr uint32_t handshake_magic = 0x48525656; // "VVRH"
constexpr uint32_t request_magic = 0x51525656;   // "VVRQ"
constexpr uint32_t reply_magic = 0x50525656;     // "VVRP"

/// A frame that is being put together.
class writer {
public:
  writer(frame kind, size_t body_bytes) {
    bytes_.reserve(frame_header_bytes + body_bytes + 4);
    put(handshake_magic);
    put(static_cast<uint8_t>(kind));
    put(uint8_t{0});
    put(uint16_t{0});
    put(uint32_t{0}); // length
    put(uint32_t{0}); // CRC32C
  }
  template <class T>
  void put(T x) {
    std::byte raw[sizeof(T)];
    store(raw, x);
    bytes_.insert(bytes_.end(), raw, raw + sizeof(T));
  }
  void put(const std::array<std::byte, 32>& x) { bytes_.insert(bytes_.end(), x.begin(), x.end()); }
  void put(const std::string& x) {
    put(static_cast<uint16_t>(x.size()));
    auto* from = reinterpret_cast<const std::byte*>(x.data());
    bytes_.insert(bytes_.end(), from, from + x.size());
  }
  std::vector<std::byte> finish() {
    store(bytes_.data() + 8, static_cast<uint32_t>(bytes_.size() - frame_header_bytes));
    store(bytes_.data() + 12, crc32c(std::span{bytes_}.first(12)));
    put(crc32c(std::span{bytes_}.subspan(frame_header_bytes)));
    return std::move(bytes_);
  }

private:
  std::vector<std::byte> bytes_;
};

/// The body of a whole frame, taken apart; `ok` is false once something was not there.
class reader {
public:
  explicit reader(std::span<const std::byte> whole)
    : rest_(whole.subspan(frame_header_bytes, whole.size() - frame_header_bytes - 4)) {}
  template <class T>
  void get(T& x) {
    if (auto from = take(sizeof(T)); !from.empty())
      x = load<T>(from.data());
  }
  void get(std::array<std::byte, 32>& x) {
    if (auto from = take(x.size()); !from.empty())
      std::copy(from.begin(), from.end(), x.begin());
  }
  void get(std::string& x, size_t bytes_max) {
    uint16_t size = 0;
    get(size);
    if (size > bytes_max)
      ok_ = false;
    auto from = take(size);
    x.assign(reinterpret_cast<const char*>(from.data()), from.size());
  }
  /// Nothing was missing.
  bool ok() const { return ok_; }
  /// And all of it was taken.
  bool over() const { return ok_ && rest_.empty(); }

private:
  std::span<const std::byte> take(size_t size) {
    ok_ = ok_ && rest_.size() >= size;
    if (!ok_)
      return {};
    auto result = rest_.first(size);
    rest_ = rest_.subspan(size);
    return result;
  }
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

template <class F>
void for_parts(uint64_t offset, std::span<const std::byte> bytes, F f) {
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min<uint64_t>(bytes.size(), block_size - offset % block_size));
    f(part);
    bytes = bytes.subspan(part.size());
    offset += part.size();
  }
}

bool aligned(uint64_t x) noexcept {
  return x % block_size == 0;
}

/// The flags that an operation may have.
uint8_t flags_of(op x) noexcept {
  switch (x) {
  case op::write:
  case op::trim: return flag_fua;
  case op::write_zeroes: return flag_fua | flag_keep_allocated;
  default: return 0;
  }
}

bool range_fits(const request& x) noexcept {
  if (uint64_t{x.offset} + x.length > shard_size_max)
    return false;
  switch (x.op) {
  case op::read:
  case op::write: return x.length > 0 && x.length <= payload_bytes_max;
  case op::read_with_sums:
  case op::write_with_sums:
    return x.length > 0 && x.length <= payload_bytes_max && aligned(x.offset) && aligned(x.length);
  case op::sums: return x.length > 0 && x.length / block_size <= sums_max && aligned(x.offset) && aligned(x.length);
  case op::trim:
  case op::write_zeroes:
  case op::extents:
  case op::verify: return x.length > 0;
  default: return x.offset == 0 && x.length == 0;
  }
}

bool payload_fits(const request& x) noexcept {
  const auto prefix = prefix_bytes(x.op, x.offset, x.length);
  switch (x.op) {
  case op::write: return x.payload == prefix + x.length;
  case op::write_with_sums: return x.payload == prefix || x.payload == prefix + x.length;
  default: return x.payload == 0;
  }
}

} // namespace

const char* to_string(refusal_reason x) noexcept {
  switch (x) {
  case refusal_reason::none: return "none";
  case refusal_reason::version: return "version";
  case refusal_reason::key: return "key";
  case refusal_reason::old_session: return "old_session";
  case refusal_reason::draining: return "draining";
  case refusal_reason::busy: return "busy";
  case refusal_reason::malformed: return "malformed";
  }
  return "unknown";
}

const char* to_string(malformed x) noexcept {
  switch (x) {
  case malformed::none: return "none";
  case malformed::magic: return "magic";
  case malformed::checksum: return "checksum";
  case malformed::op: return "op";
  case malformed::flags: return "flags";
  case malformed::range: return "range";
  case malformed::payload: return "payload";
  case malformed::sequence: return "sequence";
  case malformed::reserved: return "reserved";
  }
  return "unknown";
}

// -- handshake -----------------------------------------------------------------------------------------------------

std::vector<std::byte> encode(const hello& x) {
  writer to{frame::hello, 80};
  to.put(x.version_min);
  to.put(x.version_max);
  to.put(x.features);
  to.put(x.key);
  to.put(x.incarnation);
  to.put(x.session);
  to.put(x.nonce);
  return to.finish();
}

std::vector<std::byte> encode(const challenge& x) {
  writer to{frame::challenge, 64};
  to.put(x.version);
  to.put(x.features);
  to.put(x.nonce);
  return to.finish();
}

std::vector<std::byte> encode(const proof& x) {
  writer to{frame::proof, 32};
  to.put(x.mac);
  return to.finish();
}

std::vector<std::byte> encode(const welcome& x) {
  writer to{frame::welcome, 512};
  to.put(x.mac);
  to.put(x.requests_max);
  to.put(x.bytes_max);
  to.put(static_cast<uint16_t>(x.tiers.size()));
  for (auto& tier : x.tiers) {
    to.put(tier.name);
    to.put(tier.boot);
  }
  return to.finish();
}

std::vector<std::byte> encode(const refusal& x) {
  writer to{frame::refusal, 32};
  to.put(static_cast<uint8_t>(x.reason));
  to.put(x.server_min);
  to.put(x.server_max);
  to.put(x.client_min);
  to.put(x.client_max);
  to.put(x.incarnation);
  to.put(x.session);
  return to.finish();
}

std::optional<uint32_t> frame_rest_bytes(std::span<const std::byte> header) noexcept {
  if (header.size() < frame_header_bytes || load<uint32_t>(header.data()) != handshake_magic ||
      load<uint32_t>(header.data() + 12) != crc32c(header.first(12)))
    return {};
  const auto length = load<uint32_t>(header.data() + 8);
  if (length > handshake_bytes_max)
    return {};
  return length + 4;
}

std::optional<frame> kind_of(std::span<const std::byte> whole) noexcept {
  const auto rest = frame_rest_bytes(whole);
  if (!rest || whole.size() != frame_header_bytes + *rest)
    return {};
  const auto body = whole.subspan(frame_header_bytes, *rest - 4);
  if (load<uint32_t>(whole.data() + whole.size() - 4) != crc32c(body))
    return {};
  const auto kind = load<uint8_t>(whole.data() + 4);
  if (kind < static_cast<uint8_t>(frame::hello) || kind > static_cast<uint8_t>(frame::refusal))
    return {};
  return static_cast<frame>(kind);
}

// A later version may add to it: a server must still be able to refuse it by name.
bool decode(std::span<const std::byte> whole, hello& x) noexcept {
  reader from{whole};
  from.get(x.version_min);
  from.get(x.version_max);
  from.get(x.features);
  from.get(x.key);
  from.get(x.incarnation);
  from.get(x.session);
  from.get(x.nonce);
  return from.ok() && x.version_min <= x.version_max;
}

bool decode(std::span<const std::byte> whole, challenge& x) noexcept {
  reader from{whole};
  from.get(x.version);
  from.get(x.features);
  from.get(x.nonce);
  return from.over();
}

bool decode(std::span<const std::byte> whole, proof& x) noexcept {
  reader from{whole};
  from.get(x.mac);
  return from.over();
}

bool decode(std::span<const std::byte> whole, welcome& x) {
  reader from{whole};
  from.get(x.mac);
  from.get(x.requests_max);
  from.get(x.bytes_max);
  uint16_t tiers = 0;
  from.get(tiers);
  if (tiers > tiers_max)
    return false;
  x.tiers.resize(tiers);
  for (auto& tier : x.tiers) {
    from.get(tier.name, tier_name_bytes_max);
    from.get(tier.boot);
  }
  return from.over() && x.requests_max > 0;
}

bool decode(std::span<const std::byte> whole, refusal& x) noexcept {
  reader from{whole};
  uint8_t reason = 0;
  from.get(reason);
  from.get(x.server_min);
  from.get(x.server_max);
  from.get(x.client_min);
  from.get(x.client_max);
  from.get(x.incarnation);
  from.get(x.session);
  x.reason = static_cast<refusal_reason>(reason);
  return from.over() && reason > 0 && reason <= static_cast<uint8_t>(refusal_reason::malformed);
}

// -- requests and replies ------------------------------------------------------------------------------------------

void encode(const request& x, std::byte* to) noexcept {
  auto* const begin = to;
  to = store(to, request_magic);
  to = store(to, static_cast<uint8_t>(x.op));
  to = store(to, x.flags);
  to = store(to, x.tier);
  to = store(to, x.sequence);
  to = store(to, x.tag);
  to = store(to, x.offset);
  to = store(to, x.length);
  to = store(to, x.payload);
  to = store(to, x.id.volume.value());
  to = store(to, x.id.index.value());
  to = store(to, x.generation.value());
  to = store(to, x.epoch.value());
  to = store(to, x.argument);
  to = store(to, x.argument2);
  to = store(to, uint32_t{0});
  store(to, crc32c({begin, request_bytes - 4}));
}

malformed decode(std::span<const std::byte> from, request& x) noexcept {
  const auto* at = from.data();
  if (load<uint32_t>(at) != request_magic)
    return malformed::magic;
  if (load<uint32_t>(at + request_bytes - 4) != crc32c(from.first(request_bytes - 4)))
    return malformed::checksum;
  const auto op = load<uint8_t>(at + 4);
  if (op == 0 || op > op_last)
    return malformed::op;
  x.op = static_cast<remote::op>(op);
  x.flags = load<uint8_t>(at + 5);
  x.tier = load<uint16_t>(at + 6);
  x.sequence = load<uint64_t>(at + 8);
  x.tag = load<uint32_t>(at + 16);
  x.offset = load<uint32_t>(at + 20);
  x.length = load<uint32_t>(at + 24);
  x.payload = load<uint32_t>(at + 28);
  x.id = {volume_id{load<uint64_t>(at + 32)}, shard_index{load<uint64_t>(at + 40)}};
  x.generation = varve::generation{load<uint64_t>(at + 48)};
  x.epoch = varve::epoch{load<uint64_t>(at + 56)};
  x.argument = load<uint64_t>(at + 64);
  x.argument2 = load<uint64_t>(at + 72);
  if (load<uint32_t>(at + 80) != 0)
    return malformed::reserved;
  if (x.flags & ~flags_of(x.op))
    return malformed::flags;
  if (!range_fits(x))
    return malformed::range;
  if (!payload_fits(x))
    return malformed::payload;
  if (x.sequence == 0)
    return malformed::sequence;
  return malformed::none;
}

void encode(const reply& x, std::byte* to) noexcept {
  auto* const begin = to;
  to = store(to, reply_magic);
  to = store(to, static_cast<uint8_t>(x.status));
  to = store(to, x.flags);
  to = store(to, uint16_t{0});
  to = store(to, x.sequence);
  to = store(to, x.tag);
  to = store(to, x.payload);
  to = store(to, x.boot);
  to = store(to, x.argument);
  to = store(to, uint32_t{0});
  store(to, crc32c({begin, reply_bytes - 4}));
}

malformed decode(std::span<const std::byte> from, reply& x) noexcept {
  const auto* at = from.data();
  if (load<uint32_t>(at) != reply_magic)
    return malformed::magic;
  if (load<uint32_t>(at + reply_bytes - 4) != crc32c(from.first(reply_bytes - 4)))
    return malformed::checksum;
  x.status = static_cast<errc>(load<uint8_t>(at + 4));
  x.flags = load<uint8_t>(at + 5);
  x.sequence = load<uint64_t>(at + 8);
  x.tag = load<uint32_t>(at + 16);
  x.payload = load<uint32_t>(at + 20);
  x.boot = load<uint64_t>(at + 24);
  x.argument = load<uint64_t>(at + 32);
  if (load<uint16_t>(at + 6) != 0 || load<uint32_t>(at + 40) != 0)
    return malformed::reserved;
  if (x.flags & ~(flag_dirty | flag_zeros | flag_broken))
    return malformed::flags;
  if (x.payload >
      payload_bytes_max + sums_bytes(payload_bytes_max / block_size + 1) + states_bytes(payload_bytes_max / block_size))
    return malformed::payload;
  if (x.sequence == 0)
    return malformed::sequence;
  return malformed::none;
}

// -- payloads ------------------------------------------------------------------------------------------------------

void store_sums(uint64_t offset, std::span<const std::byte> bytes, std::byte* to) noexcept {
  for_parts(offset, bytes, [&to](auto part) { to = store(to, crc32c(part)); });
}

bool sums_match(uint64_t offset, std::span<const std::byte> bytes, const std::byte* sums) noexcept {
  auto same = true;
  for_parts(offset, bytes, [&](auto part) {
    same = same && load<uint32_t>(sums) == crc32c(part);
    sums += 4;
  });
  return same;
}

void store_states(const block_sums& x, std::byte* to) noexcept {
  const auto blocks = static_cast<uint32_t>(x.crcs.size());
  std::memcpy(to, x.crcs.data(), sums_bytes(blocks));
  to += sums_bytes(blocks);
  std::memset(to, 0, states_bytes(blocks));
  for (uint32_t i = 0; i < blocks; ++i)
    if (x.states[i] == block_state::written)
      to[i / 8] |= std::byte{1} << i % 8;
}

void load_states(const std::byte* from, uint32_t blocks, block_sums& x) {
  const auto* bits = from + sums_bytes(blocks);
  for (uint32_t i = 0; i < blocks; ++i) {
    const auto written = (bits[i / 8] >> i % 8 & std::byte{1}) != std::byte{0};
    // A hole's sum is 0, whatever was sent: or two tables could differ in what has no meaning.
    x.crcs.push_back(written ? load<uint32_t>(from + sums_bytes(i)) : 0);
    x.states.push_back(written ? block_state::written : block_state::hole);
  }
}

void store_summary(const shard_header& x, uint64_t allocated_bytes, std::byte* to) noexcept {
  to = store(to, x.id.volume.value());
  to = store(to, x.id.index.value());
  to = store(to, x.size);
  to = store(to, x.generation.value());
  to = store(to, x.fence.value());
  to = store(to, x.sealed_by.value());
  to = store(to, x.sealed_for.value());
  to = store(to, uint64_t{x.incomplete});
  to = store(to, allocated_bytes);
  store(to, uint64_t{0});
}

void load_summary(const std::byte* from, shard_header& x, uint64_t& allocated_bytes) noexcept {
  x.id = {volume_id{load<uint64_t>(from)}, shard_index{load<uint64_t>(from + 8)}};
  x.size = load<uint64_t>(from + 16);
  x.generation = generation{load<uint64_t>(from + 24)};
  x.fence = epoch{load<uint64_t>(from + 32)};
  x.sealed_by = migration_id{load<uint64_t>(from + 40)};
  x.sealed_for = generation{load<uint64_t>(from + 48)};
  x.incomplete = load<uint64_t>(from + 56) != 0;
  allocated_bytes = load<uint64_t>(from + 64);
}

// Shards are at most 1 GiB, so 31 bits hold any length.
constexpr uint32_t written_bit = 1u << 31;
static_assert(shard_size_max < written_bit);

void store_extent(const shard_extent& x, std::byte* to) noexcept {
  to = store(to, static_cast<uint32_t>(x.offset));
  store(to, static_cast<uint32_t>(x.length) | (x.state == block_state::written ? written_bit : 0));
}

shard_extent load_extent(const std::byte* from) noexcept {
  const auto length = load<uint32_t>(from + 4);
  return {load<uint32_t>(from), length & ~written_bit, length & written_bit ? block_state::written : block_state::hole};
}

} // namespace varve::remote
