#include "runtime/storage/file_shard.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include <fcntl.h>

#include "rdma/checksum.hpp"

namespace varve {

namespace {

// Zeros to write where a file system has no operation for it, and chunks of a scrub.
constexpr uint64_t chunk_bytes = 256 << 10;

bool aligned(uint64_t x) noexcept {
  return x % block_size == 0;
}

} // namespace

errc file_shard::refusal() const noexcept {
  if (failed_)
    return errc::shard_failed;
  return header_.sealed_by == migration_id{} ? errc::none : errc::shard_moved;
}

bool file_shard::in_place(uint64_t offset, std::span<const std::byte> bytes) const noexcept {
  return aligned(offset) && aligned(bytes.size()) &&
         (!file_.direct || aligned(reinterpret_cast<uintptr_t>(bytes.data())));
}

void file_shard::changed(uint64_t first, uint64_t count) noexcept {
  table_.note(first, count);
  pages_.stale(first, count);
  ++acknowledged_;
  last_change_ = device_.now();
}

// -- reading --------------------------------------------------------------------------------------------------------

task<errc> file_shard::read(uint64_t offset, std::span<std::byte> into) {
  assert(offset <= header_.size && into.size() <= header_.size - offset);
  if (auto refused = refusal(); refused != errc::none)
    co_return refused;
  if (into.empty())
    co_return errc::none;
  if (in_place(offset, into))
    co_return co_await read_blocks(offset / block_size, into);
  auto first = offset / block_size;
  auto count = (offset + into.size() - 1) / block_size + 1 - first;
  // Whole blocks are read, since only whole blocks can be verified.
  lent_buffer whole{device_.buffers(), count * block_size};
  auto status = co_await read_blocks(first, whole.bytes());
  if (status == errc::none)
    std::memcpy(into.data(), whole.bytes().data() + offset % block_size, into.size());
  co_return status;
}

task<errc> file_shard::read_blocks(uint64_t first, std::span<std::byte> into) {
  auto end = first + into.size() / block_size;
  auto result = errc::none;
  for (auto at = first; at < end;) {
    auto run = table_.run_end(at, end);
    auto part = into.subspan((at - first) * block_size, (run - at) * block_size);
    if (table_.hole(at)) {
      std::memset(part.data(), 0, part.size());
      at = run;
      continue;
    }
    auto status = co_await device_.read(file_, layout_.block_at(at), part);
    if (status != errc::none)
      co_return status;
    for (auto block = at; block < run; ++block) {
      auto bytes = part.subspan((block - at) * block_size, block_size);
      if (!table_.hole(block) && crc32c(bytes) == table_.crc(block))
        continue;
      status = co_await second_look(block, bytes);
      if (status == errc::checksum_mismatch)
        result = status;
      else if (status != errc::none)
        co_return status;
    }
    at = run;
  }
  co_return result;
}

task<errc> file_shard::second_look(uint64_t block, std::span<std::byte> into) {
  claim held{claims_, block, 1};
  co_await held;
  co_return co_await read_block_held(block, into);
}

task<errc> file_shard::read_block_held(uint64_t block, std::span<std::byte> into) {
  if (table_.hole(block)) {
    std::memset(into.data(), 0, block_size);
    co_return errc::none;
  }
  auto status = co_await device_.read(file_, layout_.block_at(block), into);
  if (status != errc::none)
    co_return status;
  if (crc32c(into) == table_.crc(block))
    co_return errc::none;
  report_mismatch(block);
  co_return errc::checksum_mismatch;
}

void file_shard::report_mismatch(uint64_t block) {
  device_.meter().count_mismatch();
  if (host_->options.on_mismatch)
    host_->options.on_mismatch(header_.id, block * block_size);
}

void file_shard::extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const {
  table_.extents(offset, length, out);
}

task<uint64_t> file_shard::verify(uint64_t offset, uint64_t length, errc& status) {
  status = errc::none;
  uint64_t bad = 0;
  if (length == 0)
    co_return bad;
  auto end = (offset + length - 1) / block_size + 1;
  lent_buffer memory{device_.buffers(), chunk_bytes};
  for (auto first = offset / block_size; first < end && status == errc::none;) {
    auto last = std::min(table_.run_end(first, end), first + chunk_bytes / block_size);
    if (table_.hole(first)) {
      first = table_.run_end(first, end);
      continue;
    }
    if (failed_) {
      status = errc::shard_failed;
      break;
    }
    auto bytes = memory.bytes().first((last - first) * block_size);
    auto read = co_await device_.read(file_, layout_.block_at(first), bytes);
    for (auto block = first; block < last && read == errc::none; ++block) {
      auto part = bytes.subspan((block - first) * block_size, block_size);
      if (!table_.hole(block) && crc32c(part) == table_.crc(block))
        continue;
      read = co_await second_look(block, part);
      if (read == errc::checksum_mismatch) {
        ++bad;
        read = errc::none;
      }
    }
    status = read;
    first = last;
  }
  co_return bad;
}

task<errc> file_shard::read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) {
  assert(aligned(offset) && aligned(into.size()) && into.size() <= header_.size - offset);
  if (failed_)
    co_return errc::shard_failed;
  auto first = offset / block_size, count = into.size() / block_size;
  claim held{claims_, first, count};
  co_await held;
  sums.crcs.assign(table_.sums().crcs.begin() + first, table_.sums().crcs.begin() + first + count);
  sums.states.assign(table_.sums().states.begin() + first, table_.sums().states.begin() + first + count);
  lent_buffer other;
  auto target = into;
  if (!in_place(offset, into)) {
    other.take(device_.buffers(), into.size());
    target = other.bytes();
  }
  auto result = errc::none;
  for (auto at = first; at < first + count;) {
    auto run = table_.run_end(at, first + count);
    auto part = target.subspan((at - first) * block_size, (run - at) * block_size);
    if (table_.hole(at)) {
      std::memset(part.data(), 0, part.size());
    } else {
      auto status = co_await device_.read(file_, layout_.block_at(at), part);
      if (status != errc::none)
        co_return status;
      for (auto block = at; block < run; ++block)
        if (crc32c(part.subspan((block - at) * block_size, block_size)) != table_.crc(block)) {
          report_mismatch(block);
          result = errc::checksum_mismatch;
        }
    }
    at = run;
  }
  if (target.data() != into.data())
    std::memcpy(into.data(), target.data(), into.size());
  co_return result;
}

// -- writing --------------------------------------------------------------------------------------------------------

task<errc> file_shard::write(uint64_t offset, std::span<const std::byte> from) {
  assert(offset <= header_.size && from.size() <= header_.size - offset);
  if (from.empty())
    co_return refusal();
  auto first = offset / block_size;
  auto end = (offset + from.size() - 1) / block_size + 1;
  claim held{claims_, first, end - first};
  co_await held;
  if (auto refused = refusal(); refused != errc::none)
    co_return refused;
  if (in_place(offset, from))
    co_return co_await write_blocks_held(first, from, nullptr);

  lent_buffer whole{device_.buffers(), (end - first) * block_size};
  auto bytes = whole.bytes();
  // The edges' other bytes come from the disk, verified: a bad block must not get a good sum by a write beside it.
  auto head = !aligned(offset);
  auto tail = !aligned(offset + from.size());
  if (head || (tail && end - first == 1)) {
    auto status = co_await read_block_held(first, bytes.first(block_size));
    if (status != errc::none)
      co_return status;
  }
  if (tail && end - first > 1) {
    auto status = co_await read_block_held(end - 1, bytes.last(block_size));
    if (status != errc::none)
      co_return status;
  }
  std::memcpy(bytes.data() + offset % block_size, from.data(), from.size());
  co_return co_await write_blocks_held(first, bytes, nullptr);
}

task<errc> file_shard::write_blocks_held(uint64_t first, std::span<const std::byte> from, const uint32_t* crcs) {
  auto count = from.size() / block_size, end = first + count;
  if (!intended(first, count)) {
    auto status = co_await intend(first, count);
    if (status != errc::none)
      co_return status;
  }
  // Direct: the write itself finds a full device in time. Where it covers old blocks too, these must not change first.
  auto reserve = file_.direct ? table_.run_end(first, end) != end : !table_.all(block_state::written, first, end);
  if (reserve) {
    auto status = co_await allocate_holes_held(first, end);
    if (status != errc::none)
      co_return status;
  }
  auto status = co_await device_.write(file_, layout_.block_at(first), from);
  if (status != errc::none) {
    co_await take_stock_held(first, end);
    co_return status;
  }
  for (uint64_t i = 0; i < count; ++i)
    table_.set_written(first + i, crcs ? crcs[i] : crc32c(from.subspan(i * block_size, block_size)));
  changed(first, count);
  co_return failed_ ? errc::shard_failed : errc::none;
}

task<errc> file_shard::allocate_holes_held(uint64_t first, uint64_t end) {
  for (auto at = first; at < end;) {
    auto run = table_.run_end(at, end);
    if (table_.hole(at)) {
      bool unsupported = false;
      auto status = co_await device_.allocate(file_.fd, FALLOC_FL_KEEP_SIZE, layout_.block_at(at),
                                              (run - at) * block_size, unsupported);
      // A file system that cannot promise space writes and hopes, as it does for everyone.
      if (status != errc::none && !unsupported) {
        co_await take_stock_held(first, end);
        co_return status;
      }
    }
    at = run;
  }
  co_return errc::none;
}

task<> file_shard::take_stock_held(uint64_t first, uint64_t end) {
  lent_buffer block{device_.buffers(), block_size};
  for (auto at = first; at < end;) {
    if (table_.hole(at)) {
      // Holes stay holes, and give back what was allocated or written in vain.
      auto run = table_.run_end(at, end);
      bool unsupported = false;
      auto status = co_await device_.allocate(file_.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                              layout_.block_at(at), (run - at) * block_size, unsupported);
      (void)status; // a hole's bytes are never read
      at = run;
      continue;
    }
    auto status = co_await device_.read(file_, layout_.block_at(at), block.bytes());
    // What cannot be read keeps its sum: a mismatch later says what happened.
    if (status == errc::none)
      table_.set_written(at, crc32c(block.bytes()));
    ++at;
  }
  changed(first, end - first);
}

task<errc> file_shard::write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) {
  assert(aligned(offset) && aligned(from.size()) && from.size() <= header_.size - offset);
  auto first = offset / block_size, count = from.size() / block_size, end = first + count;
  assert(sums.crcs.size() == count && sums.states.size() == count);
  for (uint64_t i = 0; i < count; ++i)
    if (sums.states[i] == block_state::written && crc32c(from.subspan(i * block_size, block_size)) != sums.crcs[i])
      co_return errc::checksum_mismatch;
  claim held{claims_, first, count};
  co_await held;
  if (auto refused = refusal(); refused != errc::none)
    co_return refused;
  lent_buffer other;
  if (!in_place(offset, from)) {
    other.take(device_.buffers(), from.size());
    std::memcpy(other.bytes().data(), from.data(), from.size());
    from = other.bytes();
  }
  for (uint64_t i = 0; i < count;) {
    auto run = i;
    while (run < count && sums.states[run] == sums.states[i])
      ++run;
    auto status = errc::none;
    if (sums.states[i] == block_state::hole)
      status = co_await punch_held(first + i, first + run);
    else
      status = co_await write_blocks_held(first + i, from.subspan(i * block_size, (run - i) * block_size),
                                          sums.crcs.data() + i);
    if (status != errc::none)
      co_return status;
    i = run;
  }
  (void)end;
  co_return errc::none;
}

task<errc> file_shard::merge_block_held(uint64_t offset, uint64_t length, const std::byte* from) {
  lent_buffer whole{device_.buffers(), block_size};
  auto status = co_await read_block_held(offset / block_size, whole.bytes());
  if (status != errc::none)
    co_return status;
  auto* target = whole.bytes().data() + offset % block_size;
  if (from)
    std::memcpy(target, from, length);
  else
    std::memset(target, 0, length);
  co_return co_await write_blocks_held(offset / block_size, whole.bytes(), nullptr);
}

// -- trimming and zeros ---------------------------------------------------------------------------------------------

task<errc> file_shard::trim(uint64_t offset, uint64_t length) {
  assert(offset <= header_.size && length <= header_.size - offset);
  auto first = (offset + block_size - 1) / block_size;
  auto end = (offset + length) / block_size;
  if (first >= end)
    co_return refusal();
  claim held{claims_, first, end - first};
  co_await held;
  if (auto refused = refusal(); refused != errc::none)
    co_return refused;
  co_return co_await punch_held(first, end);
}

task<errc> file_shard::punch_held(uint64_t first, uint64_t end) {
  if (table_.all(block_state::hole, first, end))
    co_return errc::none;
  // Before the punch: or after a crash the table on disk would expect data where zeros are.
  if (!intended(first, end - first)) {
    auto status = co_await intend(first, end - first);
    if (status != errc::none)
      co_return status;
  }
  bool unsupported = false;
  auto status = co_await device_.allocate(file_.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, layout_.block_at(first),
                                          (end - first) * block_size, unsupported);
  if (unsupported) {
    // Zeros must be zeros after a crash too, so they are written where there is something else.
    for (auto at = first; at < end;) {
      auto run = table_.run_end(at, end);
      if (!table_.hole(at)) {
        status = co_await zero_blocks_held(at, run);
        if (status != errc::none)
          co_return status;
      }
      at = run;
    }
    co_return errc::none;
  }
  if (status != errc::none) {
    co_await take_stock_held(first, end);
    co_return errc::device_failed;
  }
  for (auto block = first; block < end; ++block)
    table_.set_hole(block);
  changed(first, end - first);
  co_return failed_ ? errc::shard_failed : errc::none;
}

task<errc> file_shard::zero_blocks_held(uint64_t first, uint64_t end) {
  if (!intended(first, end - first)) {
    auto status = co_await intend(first, end - first);
    if (status != errc::none)
      co_return status;
  }
  bool unsupported = false;
  auto status = co_await device_.allocate(file_.fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, layout_.block_at(first),
                                          (end - first) * block_size, unsupported);
  if (unsupported) {
    lent_buffer zeros{device_.buffers(), std::min(chunk_bytes, (end - first) * block_size)};
    std::memset(zeros.bytes().data(), 0, zeros.bytes().size());
    for (auto at = first; at < end;) {
      auto count = std::min(end - at, zeros.bytes().size() / block_size);
      status = co_await write_blocks_held(at, zeros.bytes().first(count * block_size), nullptr);
      if (status != errc::none)
        co_return status;
      at += count;
    }
    co_return errc::none;
  }
  if (status != errc::none) {
    co_await take_stock_held(first, end);
    co_return status;
  }
  for (auto block = first; block < end; ++block)
    table_.set_written(block, crc_of_zeros());
  changed(first, end - first);
  co_return failed_ ? errc::shard_failed : errc::none;
}

task<errc> file_shard::write_zeroes(uint64_t offset, uint64_t length, bool keep_allocated) {
  assert(offset <= header_.size && length <= header_.size - offset);
  if (length == 0)
    co_return refusal();
  auto first = offset / block_size, end = (offset + length - 1) / block_size + 1;
  claim held{claims_, first, end - first};
  co_await held;
  if (auto refused = refusal(); refused != errc::none)
    co_return refused;
  // Edges first: they need room and may fail, and then nothing has changed.
  auto inner = (offset + block_size - 1) / block_size * block_size;
  auto inner_end = (offset + length) / block_size * block_size;
  auto status = errc::none;
  if (inner > inner_end) { // within one block
    if (keep_allocated || !table_.hole(first))
      status = co_await merge_block_held(offset, length, nullptr);
    co_return status;
  }
  if (inner > offset && (keep_allocated || !table_.hole(first)))
    status = co_await merge_block_held(offset, inner - offset, nullptr);
  if (status == errc::none && inner_end < offset + length && (keep_allocated || !table_.hole(end - 1)))
    status = co_await merge_block_held(inner_end, offset + length - inner_end, nullptr);
  if (status != errc::none || inner == inner_end)
    co_return status;
  if (keep_allocated)
    co_return co_await zero_blocks_held(inner / block_size, inner_end / block_size);
  co_return co_await punch_held(inner / block_size, inner_end / block_size);
}

} // namespace varve
