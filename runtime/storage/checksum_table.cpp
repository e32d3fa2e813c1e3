#include "runtime/storage/checksum_table.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "rdma/checksum.hpp"

namespace varve {

block_table::block_table(uint64_t blocks) {
  sums_.crcs.resize(blocks);
  sums_.states.resize(blocks, block_state::hole);
}

uint64_t block_table::run_end(uint64_t first, uint64_t end) const noexcept {
  auto begin = sums_.states.begin();
  auto state = sums_.states[first];
  return std::find_if(begin + first, begin + end, [=](block_state x) { return x != state; }) - begin;
}

bool block_table::all(block_state state, uint64_t first, uint64_t end) const noexcept {
  return sums_.states[first] == state && run_end(first, end) == end;
}

void block_table::extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const {
  if (length == 0)
    return;
  auto end = (offset + length - 1) / block_size + 1;
  for (auto first = offset / block_size; first < end;) {
    auto last = run_end(first, end);
    auto state = sums_.states[first];
    // Appended to what a caller gathered before: its last extent may go on here.
    if (!out.empty() && out.back().state == state && out.back().offset + out.back().length == first * block_size)
      out.back().length += (last - first) * block_size;
    else
      out.push_back({first * block_size, (last - first) * block_size, state});
    first = last;
  }
}

void block_table::track_changes(bool on) {
  notes_.assign(on ? blocks() : 0, false);
  noted_ = 0;
}

std::vector<shard_extent> block_table::take_changes() {
  std::vector<shard_extent> result;
  for (uint64_t i = 0; i < notes_.size(); ++i) {
    if (!notes_[i])
      continue;
    auto first = i;
    while (i < notes_.size() && notes_[i])
      notes_[i++] = false;
    // The state is the first block's: who copies asks again, under a claim.
    result.push_back({first * block_size, (i - first) * block_size, sums_.states[first]});
  }
  noted_ = 0;
  return result;
}

void block_table::forget_changes(uint64_t offset, uint64_t length) noexcept {
  if (notes_.empty())
    return;
  for (auto i = offset / block_size; i < (offset + length) / block_size; ++i) {
    noted_ -= notes_[i];
    notes_[i] = false;
  }
}

void block_table::note(uint64_t first, uint64_t count) noexcept {
  if (notes_.empty())
    return;
  for (auto i = first; i < first + count; ++i) {
    noted_ += !notes_[i];
    notes_[i] = true;
  }
}

uint32_t crc_of_zeros() noexcept {
  static const uint32_t result = [] {
    const std::byte zeros[block_size] = {};
    return crc32c(zeros);
  }();
  return result;
}

void table_pages::stale(uint64_t first, uint64_t count) noexcept {
  if (count == 0)
    return;
  for (auto page = first / blocks_per_page; page <= (first + count - 1) / blocks_per_page; ++page)
    stale_[page] = true;
}

bool table_pages::any_stale() const noexcept {
  return std::find(stale_.begin(), stale_.end(), true) != stale_.end();
}

std::vector<uint64_t> table_pages::take_stale() {
  std::vector<uint64_t> result;
  for (uint64_t i = 0; i < stale_.size(); ++i)
    if (stale_[i])
      result.push_back(i);
  stale_.assign(stale_.size(), false);
  return result;
}

void table_pages::stale_again(const std::vector<uint64_t>& pages) noexcept {
  for (auto page : pages)
    stale_[page] = true;
}

void table_pages::flip(uint64_t page, uint64_t sequence) noexcept {
  slots_[page] ^= 1;
  sequences_[page] = sequence;
}

uint64_t table_pages::next_sequence() const noexcept {
  return *std::max_element(sequences_.begin(), sequences_.end()) + 1;
}

uint32_t table_pages::digest() const noexcept {
  return crc32c(std::as_bytes(std::span{sequences_}));
}

void table_pages::encode(const block_table& table, const shard_header& of, uint64_t page, uint64_t sequence,
                         table_record& out) {
  out = table_record{};
  out.volume = of.id.volume.value();
  out.index = of.id.index.value();
  out.generation = of.generation.value();
  out.page = page;
  out.sequence = sequence;
  auto first = page * blocks_per_page;
  auto count = std::min(blocks_per_page, table.blocks() - first);
  for (uint64_t i = 0; i < count; ++i) {
    out.crcs[i] = table.crc(first + i);
    out.states[i] = static_cast<uint8_t>(table.state(first + i));
  }
  finish(out);
}

void table_pages::store_slots(header_record& out) const noexcept {
  for (size_t i = 0; i < slots_.size(); ++i)
    out.table_slots[i / 8] |= static_cast<uint8_t>(slots_[i] << i % 8);
  out.table_digest = digest();
}

errc table_pages::load(std::span<const table_record> slot0, std::span<const table_record> slot1,
                       const header_record& header, block_table& table) {
  auto of = header_of(header);
  for (uint64_t page = 0; page < slots_.size(); ++page) {
    slots_[page] = header.table_slots[page / 8] >> page % 8 & 1;
    auto* x = slots_[page] ? &slot1[page] : &slot0[page];
    auto* other = slots_[page] ? &slot0[page] : &slot1[page];
    const auto whole = valid(*x, of, page), other_whole = valid(*other, of, page);
    if (!whole && !other_whole)
      return errc::bad_format;
    // Either way one is spoilt: the next checkpoint writes both again.
    stale_[page] = !whole || !other_whole;
    if (!whole) {
      x = other;
      slots_[page] ^= 1;
    }
    sequences_[page] = x->sequence;
    auto first = page * blocks_per_page;
    auto count = std::min(blocks_per_page, table.blocks() - first);
    for (uint64_t i = 0; i < count; ++i) {
      if (x->states[i] == static_cast<uint8_t>(block_state::written))
        table.set_written(first + i, x->crcs[i]);
      else
        table.set_hole(first + i);
    }
  }
  // A slot of another time than the header counts: an older one would give old sums and call data holes.
  return digest() == header.table_digest ? errc::none : errc::bad_format;
}

} // namespace varve
