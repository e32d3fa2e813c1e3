#include "tests/chaos/stamped_block.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace varve::chaos {

namespace {

constexpr uint64_t magic = 0x56524d504d415453; // "STAMPMRV"

/// At the start of every sector, so that a torn block shows where.
struct sector_head {
  uint64_t magic = 0;
  uint64_t volume = 0;
  uint64_t block = 0;
  uint64_t sector = 0;
  stamp value;
};
static_assert(sizeof(sector_head) == 48);

uint64_t next(uint64_t& state) {
  auto x = state += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

} // namespace

void fill_block(std::span<std::byte, block_bytes> to, uint64_t volume, uint64_t block, const stamp& value) {
  constexpr size_t sector_bytes = 512;
  for (size_t sector = 0; sector < block_bytes / sector_bytes; ++sector) {
    auto* at = to.data() + sector * sector_bytes;
    const sector_head head{magic, volume, block, sector, value};
    std::memcpy(at, &head, sizeof head);
    auto state = volume * 31 + block * 17 + sector + (uint64_t{value.writer} << 48) + (uint64_t{value.epoch} << 32) +
                 value.sequence * 8;
    for (size_t i = sizeof head; i < sector_bytes; i += 8) {
      const auto word = next(state);
      std::memcpy(at + i, &word, 8);
    }
  }
}

std::optional<stamp> read_block(std::span<const std::byte, block_bytes> from, uint64_t volume, uint64_t block) {
  sector_head head;
  std::memcpy(&head, from.data(), sizeof head);
  if (head.magic == 0) {
    if (std::all_of(from.begin(), from.end(), [](auto x) { return x == std::byte{0}; }))
      return blank;
    return std::nullopt;
  }
  std::array<std::byte, block_bytes> expected;
  fill_block(expected, volume, block, head.value);
  if (std::memcmp(expected.data(), from.data(), block_bytes) != 0)
    return std::nullopt;
  return head.value;
}

} // namespace varve::chaos
