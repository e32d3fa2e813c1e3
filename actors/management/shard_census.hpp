#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

/// Which shards have their home where.
struct census_result {
  struct tier {
    uint64_t shards = 0;
    /// Of attached volumes.
    uint64_t used = 0;
    /// Some of them.
    std::vector<shard_id> sample;
  };
  std::map<std::string, tier> tiers;
  std::vector<volume_record> volumes;
};

/// Counts the homes of all volumes once, page by page, on behalf of `self`; of each tier in `sampled` it also names up
/// to `sample_max` shards. `done` gets errc::unavailable when somebody was not there to be asked: then nothing is
/// known. A volume that is removed meanwhile has no shards.
template <class Self>
class shard_census : public std::enable_shared_from_this<shard_census<Self>> {
public:
  using callback = std::function<void(const caf::error&, const census_result&)>;

  /// Of one answer.
  static constexpr uint64_t page = 65'536;

  shard_census(Self* self, context_ptr context, std::vector<std::string> sampled, size_t sample_max, callback done)
    : self_(self), context_(std::move(context)), sampled_(std::move(sampled)), sample_max_(sample_max),
      done_(std::move(done)) {}

  void start() {
    auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
    if (!volumes)
      return done_(make_error(errc::unavailable, path::volumes), result_);
    self_->request(volumes, context_->options.request_timeout, atom::list_v)
      .then(
        [me = this->shared_from_this()](std::vector<volume_record>& all) {
          me->result_.volumes = std::move(all);
          me->next_volume();
        },
        failed());
  }

private:
  std::function<void(const caf::error&)> failed() {
    return [me = this->shared_from_this()](const caf::error& e) { me->done_(e, me->result_); };
  }

  void next_volume() {
    if (at_ == result_.volumes.size())
      return done_({}, result_);
    auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
    if (!volumes)
      return done_(make_error(errc::unavailable, path::volumes), result_);
    auto refused = [me = this->shared_from_this()](const caf::error& e) {
      if (code_of(e) != errc::not_found)
        return me->done_(e, me->result_);
      ++me->at_;
      me->next_volume();
    };
    self_->request(volumes, context_->options.request_timeout, atom::open_v, result_.volumes[at_].id)
      .then([me = this->shared_from_this()](const volume_actor& volume) { me->next_page(volume, 0); }, refused);
  }

  void next_page(const volume_actor& volume, uint64_t from) {
    const auto& spec = result_.volumes[at_].spec;
    if (from * spec.shard_size >= spec.size_bytes) {
      ++at_;
      return next_volume();
    }
    self_->request(volume, context_->options.request_timeout, atom::locate_v, shard_index{from}, page)
      .then(
        [me = this->shared_from_this(), volume, from](const shard_map_part& part) {
          me->count(part);
          me->next_page(volume, std::max(part.end.value(), from + 1));
        },
        failed());
  }

  void count(const shard_map_part& part) {
    const bool used = result_.volumes[at_].attached();
    for (const auto& home : part.homes) {
      auto& x = result_.tiers[home.tier];
      ++x.shards;
      x.used += used;
      if (x.sample.size() < sample_max_ && std::find(sampled_.begin(), sampled_.end(), home.tier) != sampled_.end())
        x.sample.push_back(home.id);
    }
  }

  Self* self_;
  context_ptr context_;
  std::vector<std::string> sampled_;
  size_t sample_max_;
  callback done_;
  census_result result_;
  size_t at_ = 0;
};

} // namespace varve
