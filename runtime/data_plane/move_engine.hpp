#pragma once

#include <map>

#include "rdma/fabric.hpp"
#include "runtime/data_plane/copy_budget.hpp"
#include "runtime/data_plane/data_plane.hpp"
#include "runtime/data_plane/move_mirror.hpp"
#include "runtime/data_plane/volume_port.hpp"

namespace varve {

struct move_limits {
  /// Bytes of one transfer: with VMs active on the reactor, and without.
  uint64_t chunk_busy = 32u << 10;
  uint64_t chunk_quiet = 256u << 10;
  /// VMs count as active so long after a request.
  std::chrono::nanoseconds busy_for = std::chrono::milliseconds{20};
  /// While VMs are active, copying keeps to the larger of a floor and a share of the rate that a chunk goes at by
  /// itself: that leaves their requests the device and the thread for most of the time, and no migration hangs.
  uint64_t busy_bytes_per_second = 64'000'000;
  double busy_share = 0.75;
  /// How often a chunk that did not arrive as it was sent is sent again.
  unsigned attempts = 4;
  /// Passes in a row over what changed, after each of which as much has changed as after the one before: then changes
  /// are mirrored.
  unsigned passes_without_shrinking = 3;
  mirror_limits mirror;
  /// A switch goes on copying with the gate open until no more than this has changed, at most `passes` times, and as
  /// often again with changes mirrored.
  uint64_t switch_bytes = 256u << 10;
  unsigned switch_passes = 4;
  /// While VMs are active, several moves switch together, up to `switch_group` at each multiple of this on the
  /// reactor's clock: each sync holds up every request of a device, and those of several files at the same time are one
  /// to it.
  std::chrono::nanoseconds switch_together = std::chrono::milliseconds{250};
  unsigned switch_group = 8;
  /// Files are made and removed while no gate is closed, or so much later: the file system's journal is one for all.
  std::chrono::nanoseconds gates_first = std::chrono::milliseconds{50};
};

/// Copies shards from tier to tier beside their VMs' requests: the data path's part of a migration (DESIGN section 7).
/// The migration actor commands each step, journals it, and decides; what a crash leaves is resumed by begin_move or
/// taken back by end_move. Reactor's thread only.
class move_engine {
public:
  move_engine(reactor& on, shard_table& shards, fabric& carrier, copy_budget& budget, foreground_load& load,
              move_limits limits = {});

  task<errc> begin(move_ends ends);
  task<copy_round> copy(move_ends ends, uint64_t bytes_max);
  task<switch_result> switch_over(move_ends ends);
  task<errc> end(move_ends ends, bool committed, std::chrono::nanoseconds& gate_closed);

  /// Ends every copying where it is, as a crash would; the sinks stay as they are, to be resumed or removed.
  task<void> stop();

  size_t moves() const noexcept { return moves_.size(); }

private:
  struct move;
  using move_ptr = std::shared_ptr<move>;

  task<errc> open_ends(move_ptr m);
  task<errc> make_sink(move_ptr m, bool& fresh);
  void compare(move& m);
  void take_changes(move& m);
  /// Where the fabric has no memory for it, the move goes on without.
  void start_mirror(move& m);
  void end_mirror(move& m);
  task<errc> copy_todo(move_ptr m, uint64_t bytes_max, bool paced, copy_round& round);
  task<errc> copy_chunk(move_ptr m, uint64_t offset, uint64_t length, copy_round& round);
  bool busy() const noexcept;
  task<void> pace(uint64_t bytes);
  /// When the next switch of several may begin.
  boot_time next_slot() noexcept;
  task<void> let_gates_open();
  task<errc> switch_gated(move_ptr m, switch_result& out);
  void release(move& m);

  reactor& reactor_;
  shard_table& shards_;
  fabric& fabric_;
  copy_budget& budget_;
  foreground_load& load_;
  move_limits limits_;
  byte_pacer busy_pacer_;
  block_copier copier_;
  double chunk_rate_ = 0;   // bytes per second of a chunk under way; decayed mean
  boot_time slot_{0};       // the last that was given
  unsigned slot_taken_ = 0; // so many times
  std::map<migration_id, move_ptr> moves_;
};

} // namespace varve
