#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/data_plane/data_plane.hpp"

namespace varve::bench {

/// What the disk of one node's tier holds of its shards: of each its header, 32 bytes in a file, and nothing in memory.
class scale_disk {
public:
  struct row {
    uint64_t volume = 0, index = 0, generation = 0, fence = 0;
  };

  explicit scale_disk(std::string path) : path_(std::move(path)) {}
  ~scale_disk() { flush(); }
  scale_disk(const scale_disk&) = delete;

  /// What is written later counts.
  void write(const row& x);
  void flush();
  /// In the order of volumes, shards and generations.
  std::vector<row> read();
  std::optional<row> find(shard_id id, generation of);

private:
  std::vector<row> all();

  std::string path_;
  /// Not in the file yet.
  std::vector<row> pending_;
};

/// The data path of a simulated node: shards are headers on its disk, ports know which shards have routes. Nothing is
/// read or written, so no shard is ever active. Answers at once.
class scale_plane final : public data_plane {
public:
  /// `disk` null: the node has no tier. `shard_size` of all its shards, in bytes.
  scale_plane(scale_disk* disk, uint64_t shard_size) : disk_(disk), shard_size_(shard_size) {}

  // -- what a VM would do, and see
  struct port {
    std::function<void(std::vector<route_need>)> on_need;
    /// By index: whether there is a route by which it can be written.
    std::vector<bool> routed;
    uint64_t routes = 0;
    /// Keep-alives without a gap; the latest says until when.
    uint64_t extensions = 0;
    boot_time extended_until{0};
  };
  /// Null: not open.
  const port* find(volume_id volume) const;
  /// Parked requests would write these shards.
  void need(volume_id volume, shard_index first, uint64_t count);

  // -- data_plane
  void open_port(port_options options, callback<errc> done) override;
  void close_port(volume_id volume, bool force, callback<errc> done) override;
  void resize_port(volume_id, uint64_t, callback<errc> done) override { done(errc::none); }
  void set_routes(volume_id volume, std::vector<route> routes) override;
  void refuse_needs(volume_id, shard_index, uint64_t, bool, errc) override {}
  void drop_routes(volume_id volume, shard_index first, uint64_t count, callback<errc> done) override;
  void extend_routes(volume_id volume, boot_time valid_until) override;
  void port_counters(callback<std::map<volume_id, volume_counters>> done) override { done({}); }
  void observe(volume_id, std::function<void(std::vector<io_observation>)>) override {}

  void create_shard(std::string tier, shard_header header, callback<shard_summary> done) override;
  void activate_shard(std::string tier, shard_id id, generation of, callback<shard_summary> done) override;
  void passivate_shard(std::string, shard_id, generation, callback<errc> done) override { done(errc::none); }
  void raise_fence(std::string tier, shard_id id, generation of, epoch to, callback<errc> done) override;
  void remove_shard(std::string, shard_id, generation, callback<errc> done) override { done(errc::unsupported); }
  void verify_shard(std::string, shard_id, generation, callback<errc, uint64_t> done) override {
    done(errc::unsupported, 0);
  }
  void list_active(std::string, callback<std::vector<shard_counters>> done) override { done({}); }
  void tier_statistics(callback<std::map<std::string, device_statistics>> done) override { done({}); }

  void begin_move(move_ends, callback<errc> done) override { done(errc::unsupported); }
  void copy_some(move_ends, uint64_t, callback<copy_round> done) override { done({errc::unsupported}); }
  void switch_move(move_ends, callback<switch_result> done) override { done({errc::unsupported}); }
  void end_move(move_ends, bool, callback<errc, std::chrono::nanoseconds> done) override {
    done(errc::unsupported, std::chrono::nanoseconds{0});
  }
  void set_copy_budget(uint64_t) override {}

private:
  scale_disk* disk_;
  uint64_t shard_size_;
  std::map<volume_id, port> ports_;
};

} // namespace varve::bench
