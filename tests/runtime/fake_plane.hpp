#pragma once

#include <mutex>

#include "runtime/data_plane/data_plane.hpp"

namespace varve {

/// A data plane of which only observing and counting work, at once and on the caller's thread.
class fake_plane : public data_plane {
public:
  void observe(volume_id volume, std::function<void(std::vector<io_observation>)> sink) override {
    std::lock_guard guard{mutex};
    observed = volume;
    this->sink = std::move(sink);
  }
  void port_counters(callback<std::map<volume_id, volume_counters>> done) override { done(counters); }
  void tier_statistics(callback<std::map<std::string, device_statistics>> done) override { done({}); }

  void open_port(port_options, callback<errc>) override {}
  void close_port(volume_id, bool, callback<errc>) override {}
  void resize_port(volume_id, uint64_t, callback<errc>) override {}
  void set_routes(volume_id, std::vector<route>) override {}
  void drop_routes(volume_id, shard_index, uint64_t, callback<errc>) override {}
  void refuse_needs(volume_id, shard_index, uint64_t, bool, errc) override {}
  void extend_routes(volume_id, boot_time) override {}
  void create_shard(std::string, shard_header, callback<shard_summary>) override {}
  void activate_shard(std::string, shard_id, generation, callback<shard_summary>) override {}
  void passivate_shard(std::string, shard_id, generation, callback<errc>) override {}
  void raise_fence(std::string, shard_id, generation, epoch, callback<errc>) override {}
  void remove_shard(std::string, shard_id, generation, callback<errc>) override {}
  void verify_shard(std::string, shard_id, generation, callback<errc, uint64_t>) override {}
  void list_active(std::string, callback<std::vector<shard_counters>>) override {}
  void begin_move(move_ends, callback<errc>) override {}
  void copy_some(move_ends, uint64_t, callback<copy_round>) override {}
  void switch_move(move_ends, callback<switch_result>) override {}
  void end_move(move_ends, bool, callback<errc, std::chrono::nanoseconds>) override {}
  void set_copy_budget(uint64_t) override {}

  std::mutex mutex;
  volume_id observed;
  std::function<void(std::vector<io_observation>)> sink;
  std::map<volume_id, volume_counters> counters;
};

} // namespace varve
