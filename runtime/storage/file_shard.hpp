#pragma once

#include <memory>

#include "runtime/storage/block_claims.hpp"
#include "runtime/storage/checksum_table.hpp"
#include "runtime/storage/intent_map.hpp"
#include "runtime/storage/shard_device.hpp"
#include "runtime/storage/wait_list.hpp"

namespace varve {

class file_shard;

/// What the shards of one file store share; outlives the store while a shard is still at work.
class file_shard_host {
public:
  file_shard_host(reactor& on, shard_store_options with) : options(std::move(with)), device(on, options.emulate) {}
  virtual ~file_shard_host() = default;

  shard_store_options options;
  shard_device device;

  /// The shard got marks: an idle checkpoint will be due.
  virtual void expect_checkpoint() = 0;
  /// The shard's file is closed, or about to be.
  virtual void closed(file_shard& x) = 0;
};

/// One shard file, open. The order of things that every write keeps:
///
///     claim the blocks -> the regions' intent durable -> data -> sums in memory -> claim released -> acknowledged
///
/// and every checkpoint: data and changed table pages synced -> header without the marks -> synced. Whatever is lost in
/// between, each block is either in a marked region, and recomputed, or as the table on disk says.
class file_shard final : public shard, public std::enable_shared_from_this<file_shard> {
public:
  file_shard(std::shared_ptr<file_shard_host> host, shard_file file, const shard_header& header);
  ~file_shard() override;

  /// Writes headers and an empty table to a file of full length, and syncs it. Not an incomplete one's: after a crash
  /// it is compared or made anew. All its regions are marked from the start, since it is to be written from end to end.
  task<errc> format();
  /// Reads and checks headers and table, and recovers what the intent bitmap marks.
  task<errc> load();

  const shard_header& header() const noexcept override { return header_; }

  task<errc> read(uint64_t offset, std::span<std::byte> into) override;
  std::span<const std::byte> pin(uint64_t, uint64_t) noexcept override { return {}; }
  void unpin() noexcept override {}
  task<errc> write(uint64_t offset, std::span<const std::byte> from) override;
  task<errc> trim(uint64_t offset, uint64_t length) override;
  task<errc> write_zeroes(uint64_t offset, uint64_t length, bool keep_allocated) override;
  task<errc> flush() override;
  bool dirty() const noexcept override { return flushed_ < acknowledged_; }
  void extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const override;
  uint64_t allocated_bytes() const noexcept override { return table_.allocated_bytes(); }

  task<errc> checkpoint() override;
  task<errc> raise_fence(epoch to) override;
  task<errc> seal(migration_id by, generation replaced_by) override;
  task<errc> complete(epoch fence) override;
  task<uint64_t> verify(uint64_t offset, uint64_t length, errc& status) override;

  void track_changes(bool on) override { table_.track_changes(on); }
  std::vector<shard_extent> take_changes() override { return table_.take_changes(); }
  void forget_changes(uint64_t offset, uint64_t length) override { table_.forget_changes(offset, length); }
  uint64_t changed_bytes() const noexcept override { return table_.changed_bytes(); }
  task<errc> read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) override;
  task<errc> write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) override;
  const block_sums& sums() const noexcept override { return table_.sums(); }

  /// Has marks, and no write since `since`.
  bool checkpoint_due(boot_time since) const noexcept;
  bool has_marks() const noexcept { return !failed_ && intents_.any(); }
  /// Whether somebody besides an idle checkpoint uses it.
  bool owned() const noexcept { return owned_; }
  void set_owned(bool on) noexcept { owned_ = on; }

private:
  using claim = block_claims::claim;

  // -- data (file_shard.cpp). `_held`: the caller holds a claim on the blocks.
  /// Why requests are refused now; errc::none.
  errc refusal() const noexcept;
  /// Whether bytes can go to or from the file where they lie.
  bool in_place(uint64_t offset, std::span<const std::byte> bytes) const noexcept;
  /// Whole blocks; without a claim, so that a write at the same time is told from a bad block by a second look.
  task<errc> read_blocks(uint64_t first, std::span<std::byte> into);
  task<errc> read_block_held(uint64_t block, std::span<std::byte> into);
  task<errc> second_look(uint64_t block, std::span<std::byte> into);
  void report_mismatch(uint64_t block);
  task<errc> write_blocks_held(uint64_t first, std::span<const std::byte> from, const uint32_t* crcs);
  /// A part of one block: read, merge, write. Null `from`: zeros.
  task<errc> merge_block_held(uint64_t offset, uint64_t length, const std::byte* from);
  task<errc> punch_held(uint64_t first, uint64_t end);
  task<errc> zero_blocks_held(uint64_t first, uint64_t end);
  /// A buffered write must not find the device full after it was acknowledged.
  task<errc> allocate_holes_held(uint64_t first, uint64_t end);
  /// After a failed change: what is on disk now is what the sums are of.
  task<> take_stock_held(uint64_t first, uint64_t end);
  void changed(uint64_t first, uint64_t count) noexcept;

  // -- marks, header, checkpoint (file_shard_control.cpp)
  bool intended(uint64_t first, uint64_t count) noexcept;
  task<errc> intend(uint64_t first, uint64_t count);
  /// The header as it is now in memory, durable.
  task<errc> persist();
  /// `both`: to one slot after the other, for a file whose older header need not survive; one sync.
  task<errc> write_header(bool both = false);
  task<errc> write_whole();
  /// The file's name survives power loss.
  task<errc> sync_name();
  task<errc> sync_now();
  void begin_clearing();
  task<errc> write_checkpoint();
  /// The table's stale pages as they are now, on their way to the file. From here on marks are being cleared; if that
  /// fails, `give_up`.
  struct pages_to_write {
    explicit pages_to_write(file_shard& of);
    std::vector<uint64_t> numbers;
    uint64_t sequence = 0;
    lent_buffer memory;
    /// In `memory`, one for each number.
    std::span<table_record> records;
  };
  /// To those slots that don't count.
  task<errc> write_pages(const pages_to_write& x);
  /// The slots just written count; those before don't.
  void flip(const pages_to_write& x);
  void give_up(const pages_to_write& x);

  // -- opening (file_shard_recovery.cpp)
  task<errc> read_metadata(uint64_t offset, std::span<std::byte> into);
  task<errc> recover();
  task<errc> recover_range(uint64_t first, uint64_t end);
  /// A header may be lost: a hole that isn't zeros was written by a mark that is lost with it.
  task<errc> check_holes();

  std::shared_ptr<file_shard_host> host_;
  shard_device& device_;
  shard_file file_;
  shard_header header_;
  shard_layout layout_;
  block_claims claims_;
  block_table table_;
  table_pages pages_;
  intent_map intents_;

  uint64_t header_sequence_ = 0;
  /// Requests to persist; who asked for number n is served by a header written after it.
  uint64_t persist_asked_ = 0, persist_done_ = 0;
  bool persisting_ = false;
  wait_list persist_ended_;
  /// Of an incomplete file: whether its folder was synced since it was made or opened.
  bool name_durable_ = true;
  /// The older header slot differs from the newer in what it says.
  bool unequal_slots_ = false;

  bool checkpointing_ = false;
  wait_list checkpoint_ended_;

  uint64_t acknowledged_ = 0, flushed_ = 0; // counts of changes
  bool syncing_ = false;
  wait_list sync_ended_;
  boot_time last_change_{0};
  /// A sync failed: nobody knows what is on disk.
  bool failed_ = false;
  bool owned_ = false;
};

} // namespace varve
