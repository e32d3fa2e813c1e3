// Marks, headers, syncs and checkpoints of a shard file.
#include <algorithm>
#include <cassert>

#include "runtime/reactor/io.hpp"
#include "runtime/storage/file_shard.hpp"

namespace varve {

namespace {

struct regions {
  size_t first, count;
};

regions regions_of(uint64_t first, uint64_t count) noexcept {
  auto begin = first / blocks_per_region;
  return {begin, (first + count - 1) / blocks_per_region + 1 - begin};
}

} // namespace

// -- marks ----------------------------------------------------------------------------------------------------------

bool file_shard::intended(uint64_t first, uint64_t count) noexcept {
  auto x = regions_of(first, count);
  if (!intents_.covers(x.first, x.count))
    return false;
  intents_.touch(x.first, x.count);
  return true;
}

task<errc> file_shard::intend(uint64_t first, uint64_t count) {
  auto x = regions_of(first, count);
  // A checkpoint may take a mark back before its writer gets to run: then it asks again.
  while (!intended(first, count)) {
    intents_.want(x.first, x.count);
    auto status = co_await persist();
    if (status != errc::none)
      co_return status;
  }
  host_->expect_checkpoint();
  co_return errc::none;
}

// -- header ---------------------------------------------------------------------------------------------------------

task<errc> file_shard::persist() {
  auto mine = ++persist_asked_;
  // One header serves all who asked before it was written.
  while (persist_done_ < mine) {
    if (failed_)
      co_return errc::shard_failed;
    if (persisting_) {
      co_await persist_ended_.wait();
      continue;
    }
    persisting_ = true;
    auto serves = persist_asked_;
    auto status = co_await write_header();
    if (status == errc::none)
      persist_done_ = serves;
    persisting_ = false;
    persist_ended_.notify_all();
    if (status != errc::none)
      co_return status;
  }
  co_return errc::none;
}

task<errc> file_shard::write_header(bool both) {
  lent_buffer memory{device_.buffers(), header_slot_bytes};
  auto marks = intents_.begin_persist();
  unequal_slots_ = true;
  const auto last = header_sequence_ + (both ? 2 : 1);
  for (auto sequence = header_sequence_ + 1; sequence <= last; ++sequence) {
    auto* record = new (memory.bytes().data()) header_record(record_of(header_));
    record->sequence = sequence;
    pages_.store_slots(*record);
    intent_map::store(marks, std::as_writable_bytes(std::span{record->intents}));
    finish(*record);
    // A failed write leaves the older slot as it was; the next one goes to the same place.
    auto slot = static_cast<unsigned>(sequence % 2);
    auto status = co_await write_fully(device_.ring(), file_.fd, layout_.header_at(slot), memory.bytes());
    if (status != errc::none)
      co_return errc::device_failed;
  }
  auto status = co_await sync_now();
  if (status != errc::none)
    co_return status;
  header_sequence_ = last;
  intents_.persisted(marks);
  co_return errc::none;
}

task<errc> file_shard::raise_fence(epoch to) {
  if (to <= header_.fence)
    co_return failed_ ? errc::shard_failed : errc::none;
  // It stays raised in memory if the write fails: stricter is safe.
  header_.fence = to;
  co_return co_await persist();
}

task<errc> file_shard::seal(migration_id by, generation replaced_by) {
  auto was_by = header_.sealed_by;
  auto was_for = header_.sealed_for;
  header_.sealed_by = by;
  header_.sealed_for = by == migration_id{} ? generation{} : replaced_by;
  auto status = co_await persist();
  if (status != errc::none) {
    header_.sealed_by = was_by;
    header_.sealed_for = was_for;
  }
  co_return status;
}

task<errc> file_shard::complete(epoch fence) {
  if (!header_.incomplete)
    co_return co_await raise_fence(fence);
  auto status = co_await sync_name();
  if (status != errc::none)
    co_return status;
  while (checkpointing_)
    co_await checkpoint_ended_.wait();
  while (persisting_)
    co_await persist_ended_.wait();
  checkpointing_ = persisting_ = true;
  header_.fence = std::max(header_.fence, fence);
  header_.incomplete = false;
  status = co_await write_whole();
  if (status != errc::none)
    header_.incomplete = true;
  checkpointing_ = persisting_ = false;
  checkpoint_ended_.notify_all();
  persist_ended_.notify_all();
  co_return status;
}

/// Everything with one sync. Until it has returned nobody counts on this file, so that its parts need no order.
task<errc> file_shard::write_whole() {
  if (failed_)
    co_return errc::shard_failed;
  pages_to_write pages{*this};
  auto status = co_await write_pages(pages);
  if (status == errc::none) {
    flip(pages);
    status = co_await write_pages(pages);
  }
  if (status != errc::none) {
    give_up(pages);
    co_return status;
  }
  intents_.finish_clearing();
  status = co_await write_header(true);
  if (status == errc::none)
    unequal_slots_ = false;
  co_return status;
}

task<errc> file_shard::sync_name() {
  if (name_durable_)
    co_return errc::none;
  auto status = co_await sync_folder(device_.ring(), host_->options.directory);
  name_durable_ = status == errc::none;
  co_return name_durable_ ? errc::none : errc::device_failed;
}

// -- sync -----------------------------------------------------------------------------------------------------------

task<errc> file_shard::sync_now() {
  // One at a time: or one that fails could be overtaken by one that reports success for the same bytes.
  while (syncing_)
    co_await sync_ended_.wait();
  if (failed_)
    co_return errc::shard_failed;
  syncing_ = true;
  auto covered = acknowledged_;
  auto status = co_await device_.sync(file_.fd);
  syncing_ = false;
  if (status == errc::none)
    flushed_ = std::max(flushed_, covered);
  else
    failed_ = true; // a second sync would report success for what this one lost
  sync_ended_.notify_all();
  co_return status == errc::none ? errc::none : errc::shard_failed;
}

task<errc> file_shard::flush() {
  if (auto status = co_await sync_name(); status != errc::none)
    co_return status;
  auto mine = acknowledged_;
  while (flushed_ < mine) {
    if (failed_)
      co_return errc::shard_failed;
    // Whose sync was submitted before these changes does not cover them; the next one serves all who wait.
    if (syncing_) {
      co_await sync_ended_.wait();
      continue;
    }
    auto status = co_await sync_now();
    if (status != errc::none)
      co_return status;
  }
  co_return failed_ ? errc::shard_failed : errc::none;
}

// -- checkpoint -----------------------------------------------------------------------------------------------------

bool file_shard::checkpoint_due(boot_time since) const noexcept {
  return !failed_ && !checkpointing_ && intents_.any() && last_change_ <= since;
}

task<errc> file_shard::checkpoint() {
  while (checkpointing_)
    co_await checkpoint_ended_.wait();
  if (failed_)
    co_return errc::shard_failed;
  if (!intents_.any() && !pages_.any_stale() && !unequal_slots_)
    co_return co_await flush();
  checkpointing_ = true;
  auto status = co_await write_checkpoint();
  checkpointing_ = false;
  checkpoint_ended_.notify_all();
  co_return status;
}

/// From here on: what a write touches keeps its mark; what one is in the middle of, too.
void file_shard::begin_clearing() {
  intents_.begin_clearing();
  claims_.for_each_active([this](uint64_t first, uint64_t count) {
    auto x = regions_of(first, count);
    intents_.touch(x.first, x.count);
  });
}

task<errc> file_shard::write_checkpoint() {
  pages_to_write pages{*this};
  auto status = co_await write_pages(pages);
  // Data and pages together: the pages don't count yet.
  if (status == errc::none)
    status = co_await sync_now();
  if (status != errc::none) {
    give_up(pages);
    co_return status;
  }
  flip(pages);
  intents_.finish_clearing();
  status = co_await persist();
  if (status != errc::none)
    co_return status;

  // The same once more in the other slots, so that one spoilt sector at rest is survived.
  auto written = header_sequence_;
  status = co_await write_pages(pages);
  if (status == errc::none)
    status = co_await persist();
  if (status == errc::none)
    unequal_slots_ = header_sequence_ != written + 1;
  co_return status;
}

file_shard::pages_to_write::pages_to_write(file_shard& of) {
  of.begin_clearing();
  numbers = of.pages_.take_stale();
  sequence = of.pages_.next_sequence();
  memory.take(of.device_.buffers(), std::max<size_t>(1, numbers.size()) * table_page_bytes);
  records = {reinterpret_cast<table_record*>(memory.bytes().data()), numbers.size()};
  for (size_t i = 0; i < numbers.size(); ++i)
    table_pages::encode(of.table_, of.header_, numbers[i], sequence, *new (&records[i]) table_record);
}

void file_shard::flip(const pages_to_write& x) {
  for (auto page : x.numbers)
    pages_.flip(page, x.sequence);
}

void file_shard::give_up(const pages_to_write& x) {
  intents_.abandon_clearing();
  pages_.stale_again(x.numbers);
}

task<errc> file_shard::write_pages(const pages_to_write& x) {
  auto bytes = std::as_writable_bytes(x.records);
  const auto& pages = x.numbers;
  for (size_t i = 0; i < pages.size();) {
    // Neighbours in the same slot go together.
    auto slot = pages_.slot(pages[i]);
    auto run = i + 1;
    while (run < pages.size() && pages[run] == pages[run - 1] + 1 && pages_.slot(pages[run]) == slot)
      ++run;
    auto status = co_await write_fully(device_.ring(), file_.fd, layout_.page_at(slot ^ 1u, pages[i]),
                                       bytes.subspan(i * table_page_bytes, (run - i) * table_page_bytes));
    if (status != errc::none)
      co_return status == errc::tier_full ? status : errc::device_failed;
    i = run;
  }
  co_return errc::none;
}

} // namespace varve
