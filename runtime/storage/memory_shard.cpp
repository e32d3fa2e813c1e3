#include "runtime/storage/memory_shard.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include <sys/mman.h>

#include "rdma/checksum.hpp"
#include "rdma/copy.hpp"
#include "runtime/reactor/async.hpp"

namespace varve {

// -- contents -------------------------------------------------------------------------------------------------------

std::unique_ptr<memory_contents> memory_contents::make(const shard_header& header) {
  auto* base = mmap(nullptr, header.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED)
    return nullptr;
  // A huge page for one written block would take room that nobody counts.
  (void)madvise(base, header.size, MADV_NOHUGEPAGE);
  return std::unique_ptr<memory_contents>{new memory_contents{header, static_cast<std::byte*>(base)}};
}

memory_contents::~memory_contents() {
  munmap(base_, header.size);
}

void memory_contents::give_back(uint64_t first, uint64_t end) noexcept {
  (void)madvise(base_ + first * block_size, (end - first) * block_size, MADV_DONTNEED);
}

// -- writers behind pins ------------------------------------------------------------------------------------------

struct memory_shard::turn {
  explicit turn(memory_shard& in) noexcept : shard_(in) {}

  bool await_ready() const noexcept { return shard_.pins_ == 0 && shard_.writers_.empty(); }
  void await_suspend(std::coroutine_handle<> waiting) noexcept {
    waiter_.handle = waiting;
    shard_.writers_.push(waiter_);
  }
  void await_resume() const noexcept {}

  memory_shard& shard_;
  waiter_list::waiter waiter_;
};

std::span<const std::byte> memory_shard::pin(uint64_t offset, uint64_t length) noexcept {
  // Writers that wait are let through: or reads without a gap would keep them out for ever.
  if (slow_ || !writers_.empty() || refusal() != errc::none || length == 0 || offset % block_size ||
      length % block_size)
    return {};
  assert(offset <= contents_.header.size && length <= contents_.header.size - offset);
  // A bad block is left to `read`, which says which one. A hole has no memory to show: touching it would make some.
  for (auto block = offset / block_size; block < (offset + length) / block_size; ++block)
    if (contents_.table.hole(block) || crc32c(contents_.block(block)) != contents_.table.crc(block))
      return {};
  ++pins_;
  count(false, length);
  return contents_.bytes().subspan(offset, length);
}

void memory_shard::unpin() noexcept {
  assert(pins_ > 0);
  if (--pins_ == 0)
    let_writers_go();
}

void memory_shard::let_writers_go() noexcept {
  // All are taken before one runs: the last of them may end the shard's life. None of them waits again before it has
  // written, so what is pinned meanwhile is pinned after or before, never in the middle.
  waiter_list::waiter* first = nullptr;
  auto** last = &first;
  while (auto* x = writers_.pop()) {
    x->next = nullptr;
    *last = x;
    last = &x->next;
  }
  while (auto* x = first) {
    first = x->next;
    waiter_list::run(*x);
  }
}

// -- data -----------------------------------------------------------------------------------------------------------

memory_shard::memory_shard(std::shared_ptr<memory_shard_host> host, std::shared_ptr<memory_contents> contents)
  : host_(std::move(host)), shared_(std::move(contents)), contents_(*shared_), slow_(host_->device.emulated()) {
  contents_.open = true;
}

memory_shard::~memory_shard() {
  contents_.open = false;
}

errc memory_shard::refusal() const noexcept {
  return contents_.header.sealed_by == migration_id{} ? errc::none : errc::shard_moved;
}

void memory_shard::count(bool write, uint64_t bytes) noexcept {
  // An emulated device's time is counted where it passes.
  auto kind = write ? device_meter::kind::write : device_meter::kind::read;
  auto latency = write ? host_->options.emulate.write_latency : host_->options.emulate.read_latency;
  host_->device.meter().count(kind, bytes, latency, host_->device.now());
}

bool memory_shard::verified(uint64_t block) noexcept {
  if (crc32c(contents_.block(block)) == contents_.table.crc(block))
    return true;
  host_->device.meter().count_mismatch();
  if (host_->options.on_mismatch)
    host_->options.on_mismatch(contents_.header.id, block * block_size);
  return false;
}

void memory_shard::changed(uint64_t first, uint64_t count) noexcept {
  contents_.table.note(first, count);
  dirty_ = true;
}

errc memory_shard::read_now(uint64_t offset, std::span<std::byte> into) noexcept {
  assert(offset <= contents_.header.size && into.size() <= contents_.header.size - offset);
  auto result = errc::none;
  auto bytes = into.size();
  while (!into.empty()) {
    auto block = offset / block_size;
    auto part = into.first(std::min<uint64_t>(into.size(), block_size - offset % block_size));
    if (contents_.table.hole(block))
      std::memset(part.data(), 0, part.size());
    else if (verified(block))
      std::memcpy(part.data(), contents_.bytes().data() + offset, part.size());
    else
      result = errc::checksum_mismatch;
    into = into.subspan(part.size());
    offset += part.size();
  }
  count(false, bytes);
  return result;
}

errc memory_shard::merge_now(uint64_t offset, uint64_t length, const std::byte* from) noexcept {
  auto block = offset / block_size;
  auto bytes = contents_.block(block);
  if (contents_.table.hole(block)) {
    // Its memory is zeros, or was never taken.
  } else if (!verified(block)) {
    return errc::checksum_mismatch;
  }
  if (from)
    std::memcpy(bytes.data() + offset % block_size, from, length);
  else
    std::memset(bytes.data() + offset % block_size, 0, length);
  contents_.table.set_written(block, crc32c(bytes));
  return errc::none;
}

errc memory_shard::write_now(uint64_t offset, std::span<const std::byte> from) noexcept {
  assert(offset <= contents_.header.size && from.size() <= contents_.header.size - offset);
  auto first = offset / block_size, end = (offset + from.size() + block_size - 1) / block_size;
  auto bytes = from.size();
  while (!from.empty()) {
    auto part = from.first(std::min<uint64_t>(from.size(), block_size - offset % block_size));
    if (part.size() == block_size) {
      // The sum is of what was given, so that a fault on the way into memory is seen.
      auto crc = crc32c(part);
      copy_bytes(contents_.block(offset / block_size), part);
      contents_.table.set_written(offset / block_size, crc);
    } else if (auto status = merge_now(offset, part.size(), part.data()); status != errc::none) {
      changed(first, end - first);
      return status;
    }
    from = from.subspan(part.size());
    offset += part.size();
  }
  changed(first, end - first);
  count(true, bytes);
  return errc::none;
}

bool memory_shard::try_read(uint64_t offset, std::span<std::byte> into, errc& status) noexcept {
  if (slow_)
    return false;
  status = refusal();
  if (status == errc::none)
    status = read_now(offset, into);
  return true;
}

bool memory_shard::try_write(uint64_t offset, std::span<const std::byte> from, errc& status) noexcept {
  if (slow_ || pins_ != 0 || !writers_.empty())
    return false;
  status = refusal();
  if (status == errc::none && !from.empty())
    status = write_now(offset, from);
  return true;
}

task<errc> memory_shard::read(uint64_t offset, std::span<std::byte> into) {
  if (slow_)
    co_await host_->device.pass_time(false, into.size());
  auto status = refusal();
  co_return status == errc::none ? read_now(offset, into) : status;
}

task<errc> memory_shard::write(uint64_t offset, std::span<const std::byte> from) {
  if (slow_)
    co_await host_->device.pass_time(true, from.size());
  co_await turn{*this};
  auto status = refusal();
  co_return status == errc::none && !from.empty() ? write_now(offset, from) : status;
}

void memory_shard::punch_now(uint64_t first, uint64_t end) noexcept {
  if (first >= end || contents_.table.all(block_state::hole, first, end))
    return;
  contents_.give_back(first, end);
  for (auto block = first; block < end; ++block)
    contents_.table.set_hole(block);
  changed(first, end - first);
}

task<errc> memory_shard::trim(uint64_t offset, uint64_t length) {
  assert(offset <= contents_.header.size && length <= contents_.header.size - offset);
  co_await turn{*this};
  auto status = refusal();
  if (status == errc::none)
    punch_now((offset + block_size - 1) / block_size, (offset + length) / block_size);
  co_return status;
}

task<errc> memory_shard::write_zeroes(uint64_t offset, uint64_t length, bool keep_allocated) {
  assert(offset <= contents_.header.size && length <= contents_.header.size - offset);
  co_await turn{*this};
  auto status = refusal();
  for (auto end = offset + length; status == errc::none && offset < end;) {
    auto block = offset / block_size;
    auto part = std::min(end - offset, block_size - offset % block_size);
    if (part == block_size && !keep_allocated) {
      auto inner_end = end / block_size;
      punch_now(block, inner_end);
      offset = inner_end * block_size;
      continue;
    }
    if (part == block_size) {
      std::memset(contents_.block(block).data(), 0, block_size);
      contents_.table.set_written(block, crc_of_zeros());
      changed(block, 1);
    } else if (keep_allocated || !contents_.table.hole(block)) {
      status = merge_now(offset, part, nullptr);
      changed(block, 1);
    }
    offset += part;
  }
  co_return status;
}

task<errc> memory_shard::flush() {
  // Volatile is what its owner asked for.
  dirty_ = false;
  co_return errc::none;
}

void memory_shard::extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const {
  contents_.table.extents(offset, length, out);
}

// -- control --------------------------------------------------------------------------------------------------------

task<errc> memory_shard::raise_fence(epoch to) {
  contents_.header.fence = std::max(contents_.header.fence, to);
  co_return errc::none;
}

task<errc> memory_shard::seal(migration_id by, generation replaced_by) {
  contents_.header.sealed_by = by;
  contents_.header.sealed_for = by == migration_id{} ? generation{} : replaced_by;
  co_return errc::none;
}

task<errc> memory_shard::complete(epoch fence) {
  contents_.header.fence = std::max(contents_.header.fence, fence);
  contents_.header.incomplete = false;
  co_return errc::none;
}

task<uint64_t> memory_shard::verify(uint64_t offset, uint64_t length, errc& status) {
  status = errc::none;
  uint64_t bad = 0;
  if (length > 0)
    for (auto block = offset / block_size; block <= (offset + length - 1) / block_size; ++block)
      bad += !contents_.table.hole(block) && !verified(block);
  co_return bad;
}

task<errc> memory_shard::read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) {
  assert(offset % block_size == 0 && into.size() % block_size == 0);
  if (slow_)
    co_await host_->device.pass_time(false, into.size());
  auto first = offset / block_size, end = first + into.size() / block_size;
  auto& mine = contents_.table.sums();
  sums.crcs.assign(mine.crcs.begin() + first, mine.crcs.begin() + end);
  sums.states.assign(mine.states.begin() + first, mine.states.begin() + end);
  co_return read_now(offset, into);
}

task<errc> memory_shard::write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) {
  assert(offset % block_size == 0 && from.size() % block_size == 0);
  auto first = offset / block_size, count_of = from.size() / block_size;
  assert(sums.crcs.size() == count_of && sums.states.size() == count_of);
  for (uint64_t i = 0; i < count_of; ++i)
    if (sums.states[i] == block_state::written && crc32c(from.subspan(i * block_size, block_size)) != sums.crcs[i])
      co_return errc::checksum_mismatch;
  if (slow_)
    co_await host_->device.pass_time(true, from.size());
  co_await turn{*this};
  if (auto refused = refusal(); refused != errc::none)
    co_return refused;
  for (uint64_t i = 0; i < count_of; ++i) {
    if (sums.states[i] == block_state::hole) {
      punch_now(first + i, first + i + 1);
      continue;
    }
    copy_bytes(contents_.block(first + i), from.subspan(i * block_size, block_size));
    contents_.table.set_written(first + i, sums.crcs[i]);
    changed(first + i, 1);
  }
  count(true, from.size());
  co_return errc::none;
}

} // namespace varve
