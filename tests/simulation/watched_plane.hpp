#pragma once

#include <memory>
#include <utility>

#include "runtime/data_plane/data_plane.hpp"

namespace varve::test {

/// Told of what the actors of one node do with rights; see cluster_checks.
class plane_watcher {
public:
  virtual ~plane_watcher() = default;
  virtual void routes_set(volume_id volume, const std::vector<route>& routes) = 0;
  virtual void routes_extended(volume_id volume, boot_time valid_until) = 0;
  /// They are to be dropped. The number tells routes that were set before from those that are set while it lasts,
  /// which stay.
  virtual uint64_t drop_began() = 0;
  /// No request uses those any more that were set before that drop began.
  virtual void routes_dropped(volume_id volume, shard_index first, uint64_t count, uint64_t began) = 0;
  virtual void port_closed(volume_id volume) = 0;
  virtual void shard_activated(const std::string& tier, const shard_header& header) = 0;
  /// What storage has agreed to: it refuses lower ones from now on.
  virtual void fence_raised(const std::string& tier, shard_id id, generation of, epoch to) = 0;
};

/// Passes everything on to a data plane, and tells of some.
class watched_plane final : public data_plane {
public:
  watched_plane(std::shared_ptr<data_plane> on, plane_watcher& watcher) : on_(std::move(on)), watcher_(watcher) {}

  void open_port(port_options options, callback<errc> done) override {
    on_->open_port(std::move(options), std::move(done));
  }
  void close_port(volume_id volume, bool force, callback<errc> done) override {
    on_->close_port(volume, force, [this, volume, done = std::move(done)](errc status) {
      if (status == errc::none)
        watcher_.port_closed(volume);
      done(status);
    });
  }
  void resize_port(volume_id volume, uint64_t size_bytes, callback<errc> done) override {
    on_->resize_port(volume, size_bytes, std::move(done));
  }
  void set_routes(volume_id volume, std::vector<route> routes) override {
    watcher_.routes_set(volume, routes);
    on_->set_routes(volume, std::move(routes));
  }
  void refuse_needs(volume_id volume, shard_index first, uint64_t count, bool write, errc why) override {
    on_->refuse_needs(volume, first, count, write, why);
  }
  void drop_routes(volume_id volume, shard_index first, uint64_t count, callback<errc> done) override {
    on_->drop_routes(volume, first, count,
                     [this, volume, first, count, began = watcher_.drop_began(), done = std::move(done)](errc status) {
                       if (status == errc::none || status == errc::not_found)
                         watcher_.routes_dropped(volume, first, count, began);
                       done(status);
                     });
  }
  void extend_routes(volume_id volume, boot_time valid_until) override {
    watcher_.routes_extended(volume, valid_until);
    on_->extend_routes(volume, valid_until);
  }
  void port_counters(callback<std::map<volume_id, volume_counters>> done) override {
    on_->port_counters(std::move(done));
  }
  void observe(volume_id volume, std::function<void(std::vector<io_observation>)> sink) override {
    on_->observe(volume, std::move(sink));
  }
  void create_shard(std::string tier, shard_header header, callback<shard_summary> done) override {
    on_->create_shard(std::move(tier), header, std::move(done));
  }
  void activate_shard(std::string tier, shard_id id, generation of, callback<shard_summary> done) override {
    on_->activate_shard(tier, id, of, [this, tier, done = std::move(done)](const shard_summary& x) {
      if (x.status == errc::none)
        watcher_.shard_activated(tier, x.header);
      done(x);
    });
  }
  void passivate_shard(std::string tier, shard_id id, generation of, callback<errc> done) override {
    on_->passivate_shard(std::move(tier), id, of, std::move(done));
  }
  void raise_fence(std::string tier, shard_id id, generation of, epoch to, callback<errc> done) override {
    on_->raise_fence(tier, id, of, to, [this, tier, id, of, to, done = std::move(done)](errc status) {
      if (status == errc::none)
        watcher_.fence_raised(tier, id, of, to);
      done(status);
    });
  }
  void remove_shard(std::string tier, shard_id id, generation of, callback<errc> done) override {
    on_->remove_shard(std::move(tier), id, of, std::move(done));
  }
  void verify_shard(std::string tier, shard_id id, generation of, callback<errc, uint64_t> done) override {
    on_->verify_shard(std::move(tier), id, of, std::move(done));
  }
  void list_active(std::string tier, callback<std::vector<shard_counters>> done) override {
    on_->list_active(std::move(tier), std::move(done));
  }
  void tier_statistics(callback<std::map<std::string, device_statistics>> done) override {
    on_->tier_statistics(std::move(done));
  }
  void begin_move(move_ends ends, callback<errc> done) override { on_->begin_move(std::move(ends), std::move(done)); }
  void copy_some(move_ends ends, uint64_t bytes_max, callback<copy_round> done) override {
    on_->copy_some(std::move(ends), bytes_max, std::move(done));
  }
  void switch_move(move_ends ends, callback<switch_result> done) override {
    on_->switch_move(std::move(ends), std::move(done));
  }
  void end_move(move_ends ends, bool committed, callback<errc, std::chrono::nanoseconds> done) override {
    on_->end_move(std::move(ends), committed, std::move(done));
  }
  void set_copy_budget(uint64_t bytes_per_second) override { on_->set_copy_budget(bytes_per_second); }

private:
  std::shared_ptr<data_plane> on_;
  plane_watcher& watcher_;
};

} // namespace varve::test
