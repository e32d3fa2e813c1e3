#include "runtime/trace/stamp.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace varve {

void stamp_book::write(uint64_t offset, std::span<std::byte> bytes) {
  ++sequence_;
  const auto [first, end] = cover(offset, bytes.size());
  std::array<std::byte, sector_bytes> sector;
  const auto last = (offset + bytes.size() + sector_bytes - 1) / sector_bytes;
  for (auto s = offset / sector_bytes; s < last; ++s) {
    stamp(s, sequence_, sector);
    const auto from = std::max(offset, s * sector_bytes), to = std::min(offset + bytes.size(), (s + 1) * sector_bytes);
    std::memcpy(bytes.data() + (from - offset), sector.data() + from % sector_bytes, to - from);
    if (s >= first && s < end)
      known_[s] = sequence_;
  }
}

void stamp_book::zero(uint64_t offset, uint64_t length) {
  const auto [first, end] = cover(offset, length);
  for (auto s = first; s < end; ++s)
    known_[s] = 0;
}

void stamp_book::forget(uint64_t offset, uint64_t length) {
  const auto end = (offset + length + sector_bytes - 1) / sector_bytes;
  const auto first = offset / sector_bytes;
  if (end - first > known_.size())
    std::erase_if(known_, [=](const auto& x) { return x.first >= first && x.first < end; });
  else
    for (auto s = first; s < end; ++s)
      known_.erase(s);
}

stamp_book::verdict stamp_book::check(uint64_t offset, std::span<const std::byte> bytes) const {
  verdict result;
  std::array<std::byte, sector_bytes> expected;
  const auto end = (offset + bytes.size()) / sector_bytes;
  for (auto s = (offset + sector_bytes - 1) / sector_bytes; s < end; ++s) {
    const auto at = known_.find(s);
    if (at == known_.end())
      continue;
    stamp(s, at->second, expected);
    ++result.sectors;
    result.bad += std::memcmp(expected.data(), bytes.data() + (s * sector_bytes - offset), sector_bytes) != 0;
  }
  return result;
}

void stamp_book::stamp(uint64_t sector, uint64_t sequence, std::span<std::byte> bytes) const {
  // Eight words of 64 bytes, so that a torn sector shows wherever it tears.
  uint64_t words[8] = {};
  if (sequence != 0)
    for (uint64_t i = 0; i < 8; ++i)
      words[i] = i % 4 == 0 ? 0x455652415645525full : i % 4 == 1 ? volume_ : i % 4 == 2 ? sector : sequence;
  for (size_t at = 0; at < sector_bytes; at += sizeof words)
    std::memcpy(bytes.data() + at, words, sizeof words);
}

std::pair<uint64_t, uint64_t> stamp_book::cover(uint64_t offset, uint64_t length) {
  const auto first = (offset + sector_bytes - 1) / sector_bytes, end = (offset + length) / sector_bytes;
  if (offset % sector_bytes)
    known_.erase(offset / sector_bytes);
  if ((offset + length) % sector_bytes)
    known_.erase((offset + length) / sector_bytes);
  return {first, std::max(first, end)};
}

} // namespace varve
