#pragma once

#include <memory>

#include "runtime/reactor/async.hpp"
#include "runtime/storage/checksum_table.hpp"
#include "runtime/storage/shard_device.hpp"

namespace varve {

/// What a volatile shard holds while it exists, open or not. Memory is taken from the system at the first write of a
/// page and given back by trim.
class memory_contents {
public:
  /// Null when the system refuses the address space.
  static std::unique_ptr<memory_contents> make(const shard_header& header);
  ~memory_contents();
  memory_contents(const memory_contents&) = delete;

  std::span<std::byte> bytes() noexcept { return {base_, header.size}; }
  std::span<std::byte> block(uint64_t i) noexcept { return {base_ + i * block_size, block_size}; }
  void give_back(uint64_t first, uint64_t end) noexcept;

  shard_header header;
  block_table table;
  /// An open shard uses it.
  bool open = false;

private:
  memory_contents(const shard_header& of, std::byte* base) : header(of), table(of.size / block_size), base_(base) {}

  std::byte* base_;
};

/// What the shards of one memory store share.
struct memory_shard_host {
  memory_shard_host(reactor& on, shard_store_options with) : options(std::move(with)), device(on, options.emulate) {}

  shard_store_options options;
  shard_device device;
};

/// An open volatile shard. Every change is made within one turn of the reactor, so that overlapping requests need no
/// claims; only pinned views make writers wait, in order of asking.
class memory_shard final : public shard {
public:
  memory_shard(std::shared_ptr<memory_shard_host> host, std::shared_ptr<memory_contents> contents);
  ~memory_shard() override;

  const shard_header& header() const noexcept override { return contents_.header; }

  task<errc> read(uint64_t offset, std::span<std::byte> into) override;
  bool try_read(uint64_t offset, std::span<std::byte> into, errc& status) noexcept override;
  bool try_write(uint64_t offset, std::span<const std::byte> from, errc& status) noexcept override;
  std::span<const std::byte> pin(uint64_t offset, uint64_t length) noexcept override;
  void unpin() noexcept override;
  task<errc> write(uint64_t offset, std::span<const std::byte> from) override;
  task<errc> trim(uint64_t offset, uint64_t length) override;
  task<errc> write_zeroes(uint64_t offset, uint64_t length, bool keep_allocated) override;
  task<errc> flush() override;
  bool dirty() const noexcept override { return dirty_; }
  void extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const override;
  uint64_t allocated_bytes() const noexcept override { return contents_.table.allocated_bytes(); }

  task<errc> checkpoint() override { return flush(); }
  task<errc> raise_fence(epoch to) override;
  task<errc> seal(migration_id by, generation replaced_by) override;
  task<errc> complete(epoch fence) override;
  task<uint64_t> verify(uint64_t offset, uint64_t length, errc& status) override;

  void track_changes(bool on) override { contents_.table.track_changes(on); }
  std::vector<shard_extent> take_changes() override { return contents_.table.take_changes(); }
  void forget_changes(uint64_t offset, uint64_t length) override { contents_.table.forget_changes(offset, length); }
  uint64_t changed_bytes() const noexcept override { return contents_.table.changed_bytes(); }
  task<errc> read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) override;
  task<errc> write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) override;
  const block_sums& sums() const noexcept override { return contents_.table.sums(); }

private:
  errc refusal() const noexcept;
  bool verified(uint64_t block) noexcept;
  errc read_now(uint64_t offset, std::span<std::byte> into) noexcept;
  errc write_now(uint64_t offset, std::span<const std::byte> from) noexcept;
  /// Null `from`: zeros.
  errc merge_now(uint64_t offset, uint64_t length, const std::byte* from) noexcept;
  void punch_now(uint64_t first, uint64_t end) noexcept;
  void changed(uint64_t first, uint64_t count) noexcept;
  void count(bool write, uint64_t bytes) noexcept;

  // A writer's place behind pins and earlier writers: `co_await turn{*this}`, once it is its turn it runs at once.
  struct turn;
  void let_writers_go() noexcept;

  std::shared_ptr<memory_shard_host> host_;
  std::shared_ptr<memory_contents> shared_;
  memory_contents& contents_;
  bool slow_;
  uint64_t pins_ = 0;
  waiter_list writers_;
  bool dirty_ = false;
};

} // namespace varve
