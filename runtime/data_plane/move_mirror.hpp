#pragma once

#include <memory>
#include <vector>

#include "runtime/data_plane/active_shard.hpp"
#include "runtime/data_plane/block_copier.hpp"
#include "runtime/data_plane/block_ranges.hpp"
#include "runtime/storage/block_claims.hpp"

namespace varve {

struct mirror_limits {
  /// A VM's change waits so long for the sink, and no longer.
  std::chrono::nanoseconds wait = std::chrono::milliseconds{100};
  /// Copies under way at a time, and the bytes of one.
  unsigned lanes = 8;
  uint64_t chunk = 64u << 10;
};

/// Brings what a VM changes at a move's source to its sink before the VM is answered: for a shard that is changed
/// faster than it is copied. What is left for the closed gate is then what could not be brought in time.
///
///     changed at the source, and noted there -> claim -> note forgotten -> read with sums, transfer, verify, write
///                                                                       -> claim given back -> the VM is answered
///
/// Nothing of the request itself goes to the sink. Its blocks are copied as a round of copying copies them, each copy
/// under a claim on its blocks at both ends together: so the copies of one block follow one another, and the last of
/// them has read what the last change left, however changes and copies overlap. A block whose copy fails is `missed`,
/// and another round's. While a copy takes longer than the VM may wait, changes are only noted, as without a mirror.
/// Held by the move and by what it has under way; reactor's thread only.
class move_mirror final : public change_follower, public std::enable_shared_from_this<move_mirror> {
public:
  /// Null when the fabric has no memory for it.
  static std::shared_ptr<move_mirror> make(reactor& on, fabric& carrier, block_copier copier, active_shard& source,
                                           active_shard& sink, mirror_limits limits);
  move_mirror(reactor& on, block_copier copier, active_shard& source, active_shard& sink, mirror_limits limits,
              std::vector<registered_buffer> landings);

  task<void> follow(uint64_t offset, uint64_t length) override;

  /// The move's own copies hold one each.
  block_claims& claims() noexcept { return claims_; }

  uint64_t missed_bytes() const noexcept { return missed_.bytes(); }
  block_ranges take_missed() { return std::exchange(missed_, {}); }
  copy_tally take_tally() { return std::exchange(tally_, {}); }

  /// Waits until nothing is under way to the sink, or until a time: whether it is so. With the gate closed, or it may
  /// never be.
  task<bool> settle(boot_time until);

  /// The move is over: nothing more is begun. What is under way ends by itself, and keeps both ends open until then.
  void end() noexcept;

private:
  /// One change on its way, of who brings it and of who waits.
  struct change {
    bool over = false;
    bool late = false;
    async_event done;
  };

  /// `self` keeps this alive.
  task<void> bring(std::shared_ptr<move_mirror> self, std::shared_ptr<change> x, uint64_t from, uint64_t to);
  task<void> bring_chunk(uint64_t from, uint64_t to);

  reactor& reactor_;
  block_copier copier_;
  active_shard& source_;
  active_shard& sink_;
  mirror_limits limits_;
  block_claims claims_;
  std::vector<registered_buffer> landings_; // of the free lanes
  async_semaphore lanes_;
  block_ranges missed_;
  copy_tally tally_;
  uint32_t under_way_ = 0;
  uint32_t late_ = 0;
  bool ended_ = false;
  async_event settled_;
};

} // namespace varve
