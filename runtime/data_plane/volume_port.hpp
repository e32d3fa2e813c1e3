#pragma once

#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "runtime/data_plane/data_plane.hpp"
#include "runtime/data_plane/flush_set.hpp"
#include "runtime/data_plane/route_table.hpp"
#include "runtime/data_plane/shard_table.hpp"
#include "runtime/nbd/block_backend.hpp"

namespace varve {

/// How busy a reactor's VMs are; what background copying yields to. Plain numbers: one thread.
struct foreground_load {
  uint32_t in_flight = 0;
  /// When a request last came or ended.
  boot_time last{-1};
};

/// One volume as its VM's front end sees it. Each request is brought to its shards under valid routes; one that finds
/// no route, or that storage refuses, is parked until there is one. Reactor's thread only.
///
///     submit -> look_up(route, fence, gate) -+-> ready: the shard does it
///                   ^                        +-> absent: zeros
///                   |                        +-> park; tell the vm_agent what is needed
///                   +---- set_routes, gate opened, shard opened ----+
class volume_port final : public block_backend {
public:
  volume_port(reactor& on, shard_table& shards, foreground_load& load, port_options options);
  ~volume_port() override;

  // -- block_backend
  uint64_t size_bytes() const noexcept override { return options_.size_bytes; }
  bool read_only() const noexcept override { return options_.read_only; }
  void submit(block_request& x) override;
  task<errc> extents(uint64_t offset, uint64_t length, size_t extents_max, std::vector<volume_extent>& out) override;

  // -- commanded by the data plane
  const port_options& options() const noexcept { return options_; }
  /// A new vm_agent: it is asked at once for all that is parked.
  void adopt(port_options options);
  void resize(uint64_t size_bytes) noexcept { options_.size_bytes = size_bytes; }
  void set_routes(std::vector<route> routes);
  void refuse_needs(shard_index first, uint64_t count, bool write, errc why);
  /// Returns when no request is inside the shards that lost their route. Those of a new route count, too.
  task<void> drop_routes(shard_index first, uint64_t count);
  void extend_routes(boot_time valid_until);
  volume_counters counters() const;
  void observe(std::function<void(std::vector<io_observation>)> sink);
  /// Waits for the requests inside, syncs, stops the timer. `force`: parked requests fail with errc::unavailable, and
  /// so do later ones that would park. Nothing is submitted any more when it has returned.
  task<errc> close(bool force);
  /// Once it is closed: what it could not sync is left to its shards, which may go before this does.
  void leave_unsynced() noexcept { unsynced_.leave(); }
  /// The second thought of a close that waits: fails what is parked.
  void fail_parked();

  // -- told by the shard table
  void retry(uint64_t index);
  void forget(active_shard& x, bool gone);
  /// A shard became active, perhaps with data that a killed predecessor acknowledged but did not sync.
  void opened(active_shard& x) {
    if (x.shard->dirty())
      unsynced_.add(x);
  }

  size_t route_footprint_bytes() const noexcept { return routes_.footprint_bytes(); }

private:
  enum class access : uint8_t {
    read,    // what is absent reads as zeros
    discard, // what is absent stays so; what exists must be writable
    write,   // must exist and be writable
  };
  enum class reach : uint8_t { ready, absent, needs_route, refused, opening, gate };

  struct parked_request;
  class parking;
  struct split;
  /// A change on its way to another node's shard.
  struct unsure_change {
    /// Of the shard, before it was first asked for; see shard::turn.
    uint64_t turn = 0;
    bool maybe_made = false;
  };

  static access access_of(const block_request& x) noexcept;

  // -- routes (routing.cpp)
  reach look_up(uint64_t index, access how, active_shard*& shard);
  bool routed(uint64_t index, access how) const noexcept;
  task<errc> acquire(uint64_t index, uint64_t count, access how, boot_time since, active_shard*& shard);
  /// Whether a request that a shard has ended so is to be tried again: it is at another node, whose refusals are a
  /// gate's and not the VM's.
  task<bool> again(uint64_t index, access how, const shard_key& key, errc status, boot_time since, unsigned& refusals);
  void open_shard(shard_key key);
  task<void> opening(shard_key key);
  void ask(uint64_t first, uint64_t count, bool write);
  void note_run(uint64_t index, bool write);
  void deliver_needs();
  /// Takes those that `which` chooses off the list: from then on only `resume` touches them, and since each counts as
  /// active, the port outlives them. Nothing here may be touched after `resume`.
  template <class Which>
  waiter_list::waiter* unpark(errc outcome, Which which);
  static void resume(waiter_list::waiter* first);
  bool waits_to_write(const parked_request& x) noexcept;
  void ask_for_parked();
  void tick();
  void start_ticking();
  void deliver_observations();

  // -- requests (volume_port.cpp)
  bool fast_read(block_request& x);
  bool fast_write(block_request& x);
  static void release_pin(block_request& x);
  task<void> serve(block_request& x, boot_time since);
  task<errc> serve_all(block_request& x, boot_time since);
  task<errc> serve_piece(block_request& x, uint64_t offset, uint64_t length, boot_time since);
  task<void> lane(block_request& x, split& of);
  task<errc> before_change(active_shard& shard, unsure_change& x);
  task<errc> on_shard(block_request& x, active_shard& shard, uint64_t offset, uint64_t length);
  task<void> serve_flush(block_request& x, boot_time since);
  void observe(const block_request& x);
  void finish(block_request& x, errc status, boot_time since);
  void left();

  reactor& reactor_;
  shard_table& shards_;
  foreground_load& load_;
  port_options options_;
  uint32_t shard_bits_;
  route_table routes_;
  flush_set unsynced_;
  volume_counters counters_;

  uint32_t active_ = 0; // requests, extents and openings that refer to this
  bool failing_ = false;
  bool closed_ = false;
  async_event idle_;

  parked_request* parked_first_ = nullptr;
  parked_request* parked_last_ = nullptr;

  struct asked {
    boot_time at{0};
    bool write = false;
  };
  std::unordered_set<shard_key> opening_;
  std::unordered_map<uint64_t, asked> asked_; // by shard: not asked for again for a while
  std::vector<route_need> needs_;
  bool needs_posted_ = false;

  // A run of neighbouring shards in order: ask for what comes next.
  uint64_t run_last_ = ~uint64_t{0};
  uint32_t run_length_ = 0;

  ring_operation timer_;
  bool ticking_ = false;
  async_event tick_over_;

  std::function<void(std::vector<io_observation>)> sink_;
  std::vector<io_observation> observations_;
  bool observations_posted_ = false;
  std::shared_ptr<volume_port*> self_; // for what was posted: null inside when this is gone
};

} // namespace varve
