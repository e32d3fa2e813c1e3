#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "rdma/local_fabric.hpp"
#include "runtime/data_plane/reactor_core.hpp"
#include "runtime/reactor/rings.hpp"

namespace varve {

struct data_plane_options {
  /// At least one; names are unique.
  std::vector<shard_store_options> tiers;
  /// Threads, one ring each.
  uint32_t reactors = 1;
  ring_options ring;
  nbd_options nbd;
  /// As set_copy_budget; 0 is unlimited.
  uint64_t copy_bytes_per_second = 0;
  move_limits moves;
  /// False: routes hold until they are taken away, whatever the clock says. Only for tests, which see by it that
  /// storage refuses what its holder should not have sent.
  bool routes_end = true;
  /// What stopping may take before it leaves a hung device behind.
  std::chrono::nanoseconds stop_time = std::chrono::seconds{10};

  /// For simulation: makes a tier's store (by its kind when empty), and a reactor's fabric (a local_fabric when empty).
  std::function<std::unique_ptr<shard_store>(reactor&, const shard_store_options&)> make_store;
  std::function<std::unique_ptr<fabric>(reactor&)> make_fabric;
  /// Makes what a reactor, by its number, has to do with other nodes. Empty in a node by itself.
  std::function<std::unique_ptr<reactor_peers>(reactor&, uint32_t)> make_peers;
};

/// The data plane over reactors. A volume stays on the reactor that it was first named with: that of open_port, or one
/// by its number when something is done to its shards before. In a cluster always the one by its number, since the
/// other nodes look for its shards there.
class reactor_data_plane final : public data_plane {
public:
  /// On threads of its own. Null, and why in `problem`, when there is no ring or a tier's folder cannot be used.
  static std::unique_ptr<reactor_data_plane> make(data_plane_options options, std::string& problem);
  /// On reactors that somebody else steps: everything runs within their steps.
  reactor_data_plane(data_plane_options options, const std::vector<reactor*>& on);
  /// With threads: stops first (`stop`), within options.stop_time and a little. Without: call `stop` and step before.
  ~reactor_data_plane() override;

  /// Closes ports (parked requests fail) and shards; once. Nothing else may be called afterwards.
  void stop(callback<errc> done);

  /// Why io_uring is not used; empty when it is, or was not asked for.
  const std::string& ring_refusal() const noexcept { return ring_refusal_; }
  /// The front end of an open port, for the replay and tests: on its reactor's thread only. Null when there is none.
  block_backend* backend(volume_id volume);
  /// Which reactor a volume is on.
  uint32_t reactor_of(volume_id volume);
  reactor& reactor_at(uint32_t index) noexcept { return cores_[index]->on(); }

  void open_port(port_options options, callback<errc> done) override;
  void close_port(volume_id volume, bool force, callback<errc> done) override;
  void resize_port(volume_id volume, uint64_t size_bytes, callback<errc> done) override;
  void set_routes(volume_id volume, std::vector<route> routes) override;
  void refuse_needs(volume_id volume, shard_index first, uint64_t count, bool write, errc why) override;
  void drop_routes(volume_id volume, shard_index first, uint64_t count, callback<errc> done) override;
  void extend_routes(volume_id volume, boot_time valid_until) override;
  void port_counters(callback<std::map<volume_id, volume_counters>> done) override;
  void observe(volume_id volume, std::function<void(std::vector<io_observation>)> sink) override;
  void create_shard(std::string tier, shard_header header, callback<shard_summary> done) override;
  void activate_shard(std::string tier, shard_id id, generation of, callback<shard_summary> done) override;
  void passivate_shard(std::string tier, shard_id id, generation of, callback<errc> done) override;
  void raise_fence(std::string tier, shard_id id, generation of, epoch to, callback<errc> done) override;
  void remove_shard(std::string tier, shard_id id, generation of, callback<errc> done) override;
  void verify_shard(std::string tier, shard_id id, generation of, callback<errc, uint64_t> done) override;
  void list_active(std::string tier, callback<std::vector<shard_counters>> done) override;
  void tier_statistics(callback<std::map<std::string, device_statistics>> done) override;
  void begin_move(move_ends ends, callback<errc> done) override;
  void copy_some(move_ends ends, uint64_t bytes_max, callback<copy_round> done) override;
  void switch_move(move_ends ends, callback<switch_result> done) override;
  void end_move(move_ends ends, bool committed, callback<errc, std::chrono::nanoseconds> done) override;
  void set_copy_budget(uint64_t bytes_per_second) override;

private:
  reactor_data_plane(data_plane_options options, std::vector<std::unique_ptr<ring>> rings);
  void make_cores(const std::vector<reactor*>& on);
  void run(size_t index);
  void on_core_of(volume_id volume, std::function<void(reactor_core&)> f);
  /// Runs `each` on every reactor and `done` with what they made of it on the last one.
  template <class T>
  void on_all(std::function<void(reactor_core&, T&)> each, callback<T> done);

  data_plane_options options_;
  copy_budget budget_;
  std::string ring_refusal_;
  std::mutex mutex_;
  std::unordered_map<volume_id, uint32_t> pins_; // guarded by mutex_
  std::vector<std::unique_ptr<ring>> rings_;     // empty when handed in
  std::vector<std::unique_ptr<reactor>> reactors_;
  std::vector<std::unique_ptr<reactor_core>> cores_;
  bool abandon_ = false; // set before the reactors are told to stop
  std::vector<std::thread> threads_;
};

/// See reactor_data_plane::make.
std::unique_ptr<data_plane> make_data_plane(data_plane_options options, std::string& problem);

} // namespace varve
