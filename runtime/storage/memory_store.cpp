#include <map>

#include "runtime/storage/memory_shard.hpp"
#include "runtime/storage/shard_format.hpp"

namespace varve {

namespace {

/// Keeps volatile shards for as long as it lives, open or not.
class memory_store final : public shard_store {
public:
  memory_store(reactor& on, shard_store_options options)
    : host_(std::make_shared<memory_shard_host>(on, std::move(options))) {}

  const shard_store_options& options() const noexcept override { return host_->options; }

  task<opened_shard> create(const shard_header& header) override {
    opened_shard result;
    auto at = key{header.id, header.generation};
    if (!valid_shard_size(header.size)) {
      result.status = errc::invalid_argument;
    } else if (shards_.contains(at)) {
      result.status = errc::already_exists;
    } else if (std::shared_ptr<memory_contents> contents = memory_contents::make(header)) {
      shards_[at] = contents;
      result.shard = std::make_unique<memory_shard>(host_, std::move(contents));
    } else {
      result.status = errc::tier_full;
    }
    co_return result;
  }

  task<opened_shard> open(shard_id id, generation of) override {
    opened_shard result;
    auto found = shards_.find({id, of});
    if (found == shards_.end())
      result.status = errc::not_found;
    else if (found->second->open)
      result.status = errc::unavailable;
    else
      result.shard = std::make_unique<memory_shard>(host_, found->second);
    co_return result;
  }

  task<errc> remove(shard_id id, generation of) override {
    auto found = shards_.find({id, of});
    if (found == shards_.end())
      co_return errc::not_found;
    if (found->second->open)
      co_return errc::unavailable;
    shards_.erase(found);
    co_return errc::none;
  }

  device_statistics statistics() const override { return host_->device.meter().statistics(host_->device.now()); }

private:
  using key = std::pair<shard_id, generation>;

  std::shared_ptr<memory_shard_host> host_;
  std::map<key, std::shared_ptr<memory_contents>> shards_;
};

} // namespace

std::unique_ptr<shard_store> make_memory_store(reactor& on, shard_store_options options) {
  return std::make_unique<memory_store>(on, std::move(options));
}

} // namespace varve
