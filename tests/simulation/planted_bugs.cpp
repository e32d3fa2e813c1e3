#include "tests/simulation/planted_bugs.hpp"

#include <algorithm>

namespace varve::test {

namespace {

class forgetful_shard final : public shard {
public:
  forgetful_shard(planted_bug bug, std::unique_ptr<shard> on) : bug_(bug), on_(std::move(on)) { notice(); }

  const shard_header& header() const noexcept override { return header_; }
  void hold(epoch x) noexcept override { on_->hold(x); }
  task<errc> read(uint64_t offset, std::span<std::byte> into) override { return on_->read(offset, into); }
  bool try_read(uint64_t offset, std::span<std::byte> into, errc& status) noexcept override {
    return on_->try_read(offset, into, status);
  }
  bool try_write(uint64_t offset, std::span<const std::byte> from, errc& status) noexcept override {
    return on_->try_write(offset, from, status);
  }
  std::span<const std::byte> pin(uint64_t offset, uint64_t length) noexcept override {
    return on_->pin(offset, length);
  }
  void unpin() noexcept override { on_->unpin(); }
  task<errc> write(uint64_t offset, std::span<const std::byte> from) override { return on_->write(offset, from); }
  task<errc> trim(uint64_t offset, uint64_t length) override { return on_->trim(offset, length); }
  task<errc> write_zeroes(uint64_t offset, uint64_t length, bool keep_allocated) override {
    return on_->write_zeroes(offset, length, keep_allocated);
  }
  task<errc> flush() override { return on_->flush(); }
  bool dirty() const noexcept override { return on_->dirty(); }
  void extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const override {
    on_->extents(offset, length, out);
  }
  uint64_t allocated_bytes() const noexcept override { return on_->allocated_bytes(); }
  task<errc> checkpoint() override { return on_->checkpoint(); }
  task<errc> raise_fence(epoch to) override {
    if (bug_ == planted_bug::epoch_not_persisted) {
      remembered_ = std::max(remembered_, to);
      notice();
    }
    co_return errc::none;
  }
  task<errc> seal(migration_id by, generation replaced_by) override {
    auto status = co_await on_->seal(by, replaced_by);
    notice();
    co_return status;
  }
  task<errc> complete(epoch fence) override {
    auto status = co_await on_->complete(fence);
    notice();
    co_return status;
  }
  task<uint64_t> verify(uint64_t offset, uint64_t length, errc& status) override {
    return on_->verify(offset, length, status);
  }
  void track_changes(bool on) override { on_->track_changes(on); }
  std::vector<shard_extent> take_changes() override { return on_->take_changes(); }
  void forget_changes(uint64_t offset, uint64_t length) override { on_->forget_changes(offset, length); }
  uint64_t changed_bytes() const noexcept override { return on_->changed_bytes(); }
  task<errc> read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) override {
    return on_->read_with_sums(offset, into, sums);
  }
  task<errc> write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) override {
    return on_->write_with_sums(offset, from, sums);
  }
  const block_sums& sums() const noexcept override { return on_->sums(); }

private:
  void notice() {
    header_ = on_->header();
    header_.fence = std::max(header_.fence, remembered_);
  }

  planted_bug bug_;
  std::unique_ptr<shard> on_;
  shard_header header_;
  epoch remembered_;
};

class forgetful_store final : public shard_store {
public:
  forgetful_store(planted_bug bug, std::unique_ptr<shard_store> on) : bug_(bug), on_(std::move(on)) {}

  const shard_store_options& options() const noexcept override { return on_->options(); }
  task<opened_shard> create(const shard_header& header) override {
    auto x = co_await on_->create(header);
    co_return wrap(std::move(x));
  }
  task<opened_shard> open(shard_id id, generation of) override {
    auto x = co_await on_->open(id, of);
    co_return wrap(std::move(x));
  }
  task<errc> remove(shard_id id, generation of) override { return on_->remove(id, of); }
  device_statistics statistics() const override { return on_->statistics(); }

private:
  opened_shard wrap(opened_shard x) const {
    if (x.shard)
      x.shard = std::make_unique<forgetful_shard>(bug_, std::move(x.shard));
    return x;
  }

  planted_bug bug_;
  std::unique_ptr<shard_store> on_;
};

} // namespace

std::unique_ptr<shard_store> with_bug(planted_bug bug, std::unique_ptr<shard_store> on) {
  if (bug != planted_bug::no_fence && bug != planted_bug::epoch_not_persisted)
    return on;
  return std::make_unique<forgetful_store>(bug, std::move(on));
}

} // namespace varve::test
