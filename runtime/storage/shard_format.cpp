#include "runtime/storage/shard_format.hpp"

#include <algorithm>
#include <cstring>

#include "rdma/checksum.hpp"

namespace varve {

namespace {

// The CRC of a record whose field `crc` is taken as 0.
template <class Record>
uint32_t crc_of(const Record& x) noexcept {
  auto bytes = std::as_bytes(std::span{&x, 1});
  constexpr auto at = offsetof(Record, crc);
  const std::byte none[sizeof(x.crc)] = {};
  auto sum = crc32c(bytes.first(at));
  sum = crc32c(none, sum);
  return crc32c(bytes.subspan(at + sizeof(x.crc)), sum);
}

} // namespace

void finish(header_record& x) noexcept {
  x.crc = crc_of(x);
}

void finish(table_record& x) noexcept {
  x.crc = crc_of(x);
}

slot_state check(const header_record& x) noexcept {
  if (x.magic != shard_magic || x.crc != crc_of(x))
    return slot_state::invalid;
  if (x.version > shard_format_version)
    return slot_state::newer;
  return valid_shard_size(x.size) ? slot_state::valid : slot_state::invalid;
}

bool valid(const table_record& x, const shard_header& of, uint64_t page) noexcept {
  if (x.magic == 0) {
    auto bytes = std::as_bytes(std::span{&x, 1});
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
  }
  return x.magic == table_magic && x.crc == crc_of(x) && x.volume == of.id.volume.value() &&
         x.index == of.id.index.value() && x.generation == of.generation.value() && x.page == page && x.sequence != 0;
}

shard_header header_of(const header_record& x) noexcept {
  shard_header result;
  result.id = {volume_id{x.volume}, shard_index{x.index}};
  result.size = x.size;
  result.generation = generation{x.generation};
  result.fence = epoch{x.fence};
  result.incomplete = (x.flags & header_incomplete) != 0;
  result.sealed_by = migration_id{x.sealed_by};
  result.sealed_for = generation{x.sealed_for};
  return result;
}

header_record record_of(const shard_header& x) noexcept {
  header_record result;
  result.volume = x.id.volume.value();
  result.index = x.id.index.value();
  result.size = x.size;
  result.generation = x.generation.value();
  result.fence = x.fence.value();
  result.flags = x.incomplete ? header_incomplete : 0;
  result.sealed_by = x.sealed_by.value();
  result.sealed_for = x.sealed_for.value();
  return result;
}

chosen_header choose_header(const header_record& a, const header_record& b) noexcept {
  auto first = check(a), second = check(b);
  chosen_header result;
  if (first == slot_state::newer || second == slot_state::newer)
    return result;
  if (first == slot_state::invalid && second == slot_state::invalid)
    return result;
  result.status = errc::none;
  result.both = first == second;
  result.slot = result.both ? b.sequence > a.sequence : second == slot_state::valid;
  return result;
}

} // namespace varve
