#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>

#include "rdma/checksum.hpp"
#include "runtime/reactor/async.hpp"
#include "runtime/reactor/io.hpp"
#include "runtime/reactor/simulated_world.hpp"
#include "runtime/storage/shard_store.hpp"

namespace varve::test {

/// A shard as its medium keeps it: outlives a crash of the process that had it open.
struct fake_record {
  shard_header header;
  std::vector<std::byte> bytes;
  block_sums sums;
  bool dirty = false;
};

/// What a tier's shards do wrong, or slowly, on purpose.
struct fake_medium {
  std::map<std::pair<shard_id, generation>, std::shared_ptr<fake_record>> shards;
  /// Each operation takes up to this.
  std::chrono::nanoseconds delay_max = std::chrono::microseconds{200};
  bool fast = false; // try_read, try_write
  bool fail_flush = false;
  bool lie_about_sums = false;
  /// While closed, reads and writes hang.
  async_event flowing;
  uint64_t flushes = 0;
  uint64_t opens = 0;
  bool fail_seal = false;
  bool fail_copies = false; // write_with_sums

  fake_medium() { flowing.set(); }
};

class fake_shard final : public shard {
public:
  fake_shard(reactor& on, simulated_random& random, fake_medium& medium, std::shared_ptr<fake_record> record)
    : reactor_(on), random_(random), medium_(medium), record_(std::move(record)) {}
  ~fake_shard() override { *alive_ = false; }

  const shard_header& header() const noexcept override { return record_->header; }

  task<errc> read(uint64_t offset, std::span<std::byte> into) override {
    co_await pause();
    co_return copy_out(offset, into);
  }
  bool try_read(uint64_t offset, std::span<std::byte> into, errc& status) noexcept override {
    if (medium_.fast)
      status = copy_out(offset, into);
    return medium_.fast;
  }
  bool try_write(uint64_t offset, std::span<const std::byte> from, errc& status) noexcept override {
    if (medium_.fast && pins_ == 0) {
      apply(offset, from);
      status = errc::none;
      return true;
    }
    return false;
  }
  std::span<const std::byte> pin(uint64_t offset, uint64_t length) noexcept override {
    if (!medium_.fast || offset % block_size || length % block_size)
      return {};
    ++pins_;
    return std::span{record_->bytes}.subspan(offset, length);
  }
  void unpin() noexcept override { --pins_; }

  task<errc> write(uint64_t offset, std::span<const std::byte> from) override {
    co_await pause();
    apply(offset, from);
    co_return errc::none;
  }
  task<errc> trim(uint64_t offset, uint64_t length) override {
    co_await pause();
    const auto first = (offset + block_size - 1) / block_size;
    const auto last = (offset + length) / block_size;
    for (auto i = first; i < last; ++i)
      punch(i);
    co_return errc::none;
  }
  task<errc> write_zeroes(uint64_t offset, uint64_t length, bool) override {
    co_await pause();
    std::vector<std::byte> zeros(length);
    apply(offset, zeros);
    co_return errc::none;
  }
  task<errc> flush() override {
    const auto covers = writes_;
    co_await pause();
    ++medium_.flushes;
    if (medium_.fail_flush)
      co_return errc::shard_failed;
    if (writes_ == covers)
      record_->dirty = false;
    co_return errc::none;
  }
  bool dirty() const noexcept override { return record_->dirty; }
  void extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const override {
    for (auto i = offset / block_size; i * block_size < offset + length; ++i) {
      const auto state = record_->sums.states[i];
      if (!out.empty() && out.back().state == state)
        out.back().length += block_size;
      else
        out.push_back({i * block_size, block_size, state});
    }
  }
  uint64_t allocated_bytes() const noexcept override {
    return block_size * static_cast<uint64_t>(
                          std::count(record_->sums.states.begin(), record_->sums.states.end(), block_state::written));
  }
  task<errc> checkpoint() override { return flush(); }
  task<errc> raise_fence(epoch to) override {
    co_await pause();
    record_->header.fence = std::max(record_->header.fence, to);
    co_return errc::none;
  }
  task<errc> seal(migration_id by, generation replaced_by) override {
    co_await pause();
    if (medium_.fail_seal)
      co_return errc::device_failed;
    record_->header.sealed_by = by;
    record_->header.sealed_for = replaced_by;
    co_return errc::none;
  }
  task<errc> complete(epoch fence) override {
    co_await pause();
    record_->header.fence = std::max(record_->header.fence, fence);
    record_->dirty = false;
    record_->header.incomplete = false;
    co_return errc::none;
  }
  task<uint64_t> verify(uint64_t, uint64_t, errc& status) override {
    co_await pause();
    status = errc::none;
    uint64_t bad = 0;
    for (size_t i = 0; i < record_->sums.crcs.size(); ++i)
      bad += !good(i);
    co_return bad;
  }
  void track_changes(bool on) override {
    tracking_ = on;
    changes_.clear();
  }
  std::vector<shard_extent> take_changes() override {
    std::vector<shard_extent> out;
    for (auto [block, state] : std::exchange(changes_, {}))
      out.push_back({block * block_size, block_size, state});
    return out;
  }
  void forget_changes(uint64_t offset, uint64_t length) override {
    changes_.erase(changes_.lower_bound(offset / block_size), changes_.lower_bound((offset + length) / block_size));
  }
  uint64_t changed_bytes() const noexcept override { return changes_.size() * block_size; }

  task<errc> read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) override {
    co_await pause();
    for (auto i = offset / block_size; i < (offset + into.size()) / block_size; ++i) {
      sums.crcs.push_back(record_->sums.crcs[i]);
      sums.states.push_back(record_->sums.states[i]);
    }
    co_return copy_out(offset, into);
  }
  task<errc> write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) override {
    co_await pause();
    if (medium_.fail_copies)
      co_return errc::device_failed;
    for (size_t i = 0; i < sums.crcs.size(); ++i)
      if (sums.states[i] == block_state::written && crc32c(from.subspan(i * block_size, block_size)) != sums.crcs[i])
        co_return errc::checksum_mismatch;
    for (size_t i = 0; i < sums.crcs.size(); ++i) {
      if (sums.states[i] == block_state::written)
        apply(offset + i * block_size, from.subspan(i * block_size, block_size));
      else
        punch(offset / block_size + i);
    }
    co_return errc::none;
  }
  const block_sums& sums() const noexcept override {
    if (medium_.lie_about_sums) {
      lie_ = record_->sums;
      lie_.crcs[0] ^= 1;
      return lie_;
    }
    return record_->sums;
  }

private:
  task<void> pause() {
    if (!medium_.flowing.is_set())
      co_await medium_.flowing.wait();
    if (medium_.delay_max.count() > 0) {
      const auto time = random_.below(static_cast<uint64_t>(medium_.delay_max.count()));
      auto alive = alive_;
      co_await sleep_for(reactor_, std::chrono::nanoseconds{static_cast<int64_t>(time)});
      if (!*alive)
        throw std::logic_error("the shard was destroyed in the middle of an operation"); // ends the test program
    }
  }
  bool good(uint64_t block) const {
    return record_->sums.states[block] == block_state::hole ||
           crc32c(std::span{record_->bytes}.subspan(block * block_size, block_size)) == record_->sums.crcs[block];
  }
  errc copy_out(uint64_t offset, std::span<std::byte> into) const {
    for (auto i = offset / block_size; i * block_size < offset + into.size(); ++i)
      if (!good(i))
        return errc::checksum_mismatch;
    std::memcpy(into.data(), record_->bytes.data() + offset, into.size());
    return errc::none;
  }
  void apply(uint64_t offset, std::span<const std::byte> from) {
    std::memcpy(record_->bytes.data() + offset, from.data(), from.size());
    for (auto i = offset / block_size; i * block_size < offset + from.size(); ++i) {
      record_->sums.crcs[i] = crc32c(std::span{record_->bytes}.subspan(i * block_size, block_size));
      record_->sums.states[i] = block_state::written;
      note(i, block_state::written);
    }
  }
  void punch(uint64_t block) {
    std::memset(record_->bytes.data() + block * block_size, 0, block_size);
    record_->sums.crcs[block] = 0;
    record_->sums.states[block] = block_state::hole;
    note(block, block_state::hole);
  }
  void note(uint64_t block, block_state state) {
    ++writes_;
    record_->dirty = true;
    if (tracking_)
      changes_[block] = state;
  }

  reactor& reactor_;
  simulated_random& random_;
  fake_medium& medium_;
  std::shared_ptr<fake_record> record_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  bool tracking_ = false;
  std::map<uint64_t, block_state> changes_;
  uint64_t writes_ = 0;
  int pins_ = 0;
  mutable block_sums lie_;
};

class fake_store final : public shard_store {
public:
  fake_store(reactor& on, simulated_random& random, fake_medium& medium, shard_store_options options)
    : reactor_(on), random_(random), medium_(medium), options_(std::move(options)) {}

  const shard_store_options& options() const noexcept override { return options_; }
  task<opened_shard> create(const shard_header& header) override {
    auto mine = header;
    co_await sleep_for(reactor_, std::chrono::microseconds{100});
    opened_shard out;
    auto& place = medium_.shards[{mine.id, mine.generation}];
    if (place) {
      out.status = errc::already_exists;
      co_return out;
    }
    place = std::make_shared<fake_record>();
    place->header = mine;
    place->bytes.resize(mine.size);
    place->sums.crcs.resize(mine.size / block_size);
    place->sums.states.resize(mine.size / block_size);
    out.shard = std::make_unique<fake_shard>(reactor_, random_, medium_, place);
    co_return out;
  }
  task<opened_shard> open(shard_id id, generation of) override {
    ++medium_.opens;
    co_await sleep_for(reactor_, std::chrono::microseconds{100});
    opened_shard out;
    auto at = medium_.shards.find({id, of});
    if (at == medium_.shards.end())
      out.status = errc::not_found;
    else
      out.shard = std::make_unique<fake_shard>(reactor_, random_, medium_, at->second);
    co_return out;
  }
  task<errc> remove(shard_id id, generation of) override {
    co_await sleep_for(reactor_, std::chrono::microseconds{100});
    co_return medium_.shards.erase({id, of}) ? errc::none : errc::not_found;
  }
  device_statistics statistics() const override { return {}; }

private:
  reactor& reactor_;
  simulated_random& random_;
  fake_medium& medium_;
  shard_store_options options_;
};

} // namespace varve::test
