// Making and opening a shard file.
#include <algorithm>
#include <cassert>
#include <cstring>

#include <fcntl.h>

#include "rdma/checksum.hpp"
#include "runtime/reactor/io.hpp"
#include "runtime/storage/file_shard.hpp"

namespace varve {

namespace {

constexpr uint64_t chunk_blocks = 256; // 1 MiB

bool zeros(std::span<const std::byte> block) noexcept {
  return block[0] == std::byte{0} && std::memcmp(block.data(), block.data() + 1, block.size() - 1) == 0;
}

} // namespace

file_shard::file_shard(std::shared_ptr<file_shard_host> host, shard_file file, const shard_header& header)
  : host_(std::move(host)), device_(host_->device), file_(file), header_(header), layout_(header.size),
    table_(layout_.blocks), pages_(layout_.pages), intents_(layout_.regions), last_change_(device_.now()) {}

file_shard::~file_shard() {
  host_->closed(*this);
  // The descriptor is given back whenever the ring gets to it; nobody waits.
  start([](ring& on, int fd) -> task<> { (void)co_await close_file(on, fd); }(device_.ring(), file_.fd));
}

task<errc> file_shard::format() {
  // All of it is written, not only allocated: on a full device a later change must not need room for its metadata.
  lent_buffer memory{device_.buffers(), std::min<uint64_t>(layout_.metadata_bytes, 1 << 20)};
  std::memset(memory.bytes().data(), 0, memory.bytes().size());
  for (auto at = 2 * header_slot_bytes; at < layout_.metadata_bytes;) {
    auto part = memory.bytes().first(std::min<uint64_t>(memory.bytes().size(), layout_.metadata_bytes - at));
    auto status = co_await write_fully(device_.ring(), file_.fd, at, part);
    if (status != errc::none)
      co_return status == errc::tier_full ? status : errc::device_failed;
    at += part.size();
  }
  auto headers = memory.bytes().first(2 * header_slot_bytes);
  std::vector<std::byte> marks(header_.incomplete ? (layout_.regions + 7) / 8 : 0, std::byte{0xff});
  if (header_.incomplete)
    intents_.load(marks);
  for (uint64_t sequence = 1; sequence <= 2; ++sequence) {
    auto* record = new (headers.data() + layout_.header_at(sequence % 2)) header_record(record_of(header_));
    record->sequence = sequence;
    pages_.store_slots(*record);
    std::copy(marks.begin(), marks.end(), std::as_writable_bytes(std::span{record->intents}).begin());
    finish(*record);
  }
  header_sequence_ = 2;
  auto status = co_await write_fully(device_.ring(), file_.fd, 0, headers);
  if (status != errc::none)
    co_return status == errc::tier_full ? status : errc::device_failed;
  if (header_.incomplete) {
    name_durable_ = false;
    co_return errc::none;
  }
  // A delayed allocation may find the device full only now.
  status = co_await sync_file(device_.ring(), file_.fd);
  co_return status == errc::none || status == errc::tier_full ? status : errc::device_failed;
}

task<errc> file_shard::read_metadata(uint64_t offset, std::span<std::byte> into) {
  auto status = co_await read_fully(device_.ring(), file_.fd, offset, into);
  co_return status == errc::none || status == errc::bad_format ? status : errc::device_failed;
}

task<errc> file_shard::load() {
  lent_buffer memory{device_.buffers(), layout_.metadata_bytes};
  auto bytes = memory.bytes();
  auto status = co_await read_metadata(0, bytes);
  if (status != errc::none)
    co_return status;
  auto* headers = reinterpret_cast<const header_record*>(bytes.data());
  auto chosen = choose_header(headers[0], headers[1]);
  if (chosen.status != errc::none)
    co_return chosen.status;
  const auto& record = headers[chosen.slot];
  auto found = header_of(record);
  // A file under another's name is nobody's shard.
  if (found.id != header_.id || found.generation != header_.generation || found.size != header_.size)
    co_return errc::bad_format;
  header_ = found;
  name_durable_ = !header_.incomplete;
  header_sequence_ = record.sequence;
  // The next header goes to the slot that does not count.
  if (header_sequence_ % 2 != chosen.slot)
    co_return errc::bad_format;
  auto* pages = reinterpret_cast<const table_record*>(bytes.data() + 2 * header_slot_bytes);
  status = pages_.load({pages, layout_.pages}, {pages + layout_.pages, layout_.pages}, record, table_);
  if (status != errc::none)
    co_return status;
  intents_.load(std::as_bytes(std::span{record.intents}));
  if (!chosen.both) {
    status = co_await check_holes();
    if (status != errc::none)
      co_return status;
  }
  if (intents_.any()) {
    status = co_await recover();
    if (status != errc::none)
      co_return status;
  }
  if (chosen.both && !intents_.any() && !pages_.any_stale())
    co_return errc::none;
  // What was recovered is on disk before anybody builds on it.
  unequal_slots_ = true;
  co_return co_await checkpoint();
}

task<errc> file_shard::recover() {
  for (uint64_t region = 0; region < layout_.regions;) {
    if (!intents_.marked(region)) {
      ++region;
      continue;
    }
    auto run = region;
    while (run < layout_.regions && intents_.marked(run))
      ++run;
    auto status = co_await recover_range(region * blocks_per_region, run * blocks_per_region);
    if (status != errc::none)
      co_return status;
    region = run;
  }
  co_return errc::none;
}

task<errc> file_shard::recover_range(uint64_t first, uint64_t end) {
  lent_buffer memory{device_.buffers(), std::min(chunk_blocks, end - first) * block_size};
  for (auto at = first; at < end;) {
    auto count = std::min(chunk_blocks, end - at);
    auto bytes = memory.bytes().first(count * block_size);
    auto status = co_await device_.read(file_, layout_.block_at(at), bytes);
    if (status != errc::none)
      co_return status;
    for (uint64_t i = 0; i < count;) {
      auto is_hole = zeros(bytes.subspan(i * block_size, block_size));
      auto run = i;
      while (run < count && zeros(bytes.subspan(run * block_size, block_size)) == is_hole)
        ++run;
      auto part = bytes.subspan(i * block_size, (run - i) * block_size);
      if (is_hole) {
        // Trimmed, or allocated for a write that did not come: either way the space is not needed.
        bool unsupported = false;
        status = co_await device_.allocate(file_.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                           layout_.block_at(at + i), part.size(), unsupported);
        if (status != errc::none && !unsupported)
          co_return status;
      } else {
        // A sync that failed before left bytes in a cache that pass for written; written again, the next sync answers
        // for them.
        status = co_await device_.write(file_, layout_.block_at(at + i), part);
        if (status != errc::none)
          co_return status;
      }
      for (; i < run; ++i) {
        auto block = at + i;
        auto sum = is_hole ? 0 : crc32c(bytes.subspan(i * block_size, block_size));
        if (table_.hole(block) == is_hole && table_.crc(block) == sum)
          continue;
        if (is_hole)
          table_.set_hole(block);
        else
          table_.set_written(block, sum);
        pages_.stale(block, 1);
      }
    }
    at += count;
  }
  co_return errc::none;
}

task<errc> file_shard::check_holes() {
  lent_buffer memory{device_.buffers(), chunk_blocks * block_size};
  for (uint64_t at = 0; at < layout_.blocks;) {
    auto run = std::min(table_.run_end(at, layout_.blocks), at + chunk_blocks);
    if (!table_.hole(at)) {
      at = run;
      continue;
    }
    auto bytes = memory.bytes().first((run - at) * block_size);
    auto status = co_await device_.read(file_, layout_.block_at(at), bytes);
    if (status != errc::none)
      co_return status;
    for (auto block = at; block < run; ++block) {
      auto part = bytes.subspan((block - at) * block_size, block_size);
      if (intents_.marked(block / blocks_per_region) || zeros(part))
        continue;
      // Never zeros for what may have been acknowledged, and never unverified bytes: a sum that cannot match.
      table_.set_written(block, ~crc32c(part));
      pages_.stale(block, 1);
    }
    at = run;
  }
  co_return errc::none;
}

} // namespace varve
