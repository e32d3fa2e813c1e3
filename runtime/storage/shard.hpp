#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "messages/errors.hpp"
#include "messages/types.hpp"
#include "runtime/reactor/task.hpp"

namespace varve {

/// What a shard's header says: enough to rebuild a catalog from headers alone.
struct shard_header {
  shard_id id;
  /// In bytes, a power of two within shard_size_min..shard_size_max.
  uint64_t size = 0;
  varve::generation generation;
  /// The highest epoch seen; lower ones are refused.
  varve::epoch fence;
  /// The sink of a migration that is not over: serves nothing, may be deleted once the migration is known to be
  /// aborted.
  bool incomplete = false;
  /// The migration that took this home away (0: none), and the generation that replaced it. A sealed shard serves
  /// nothing.
  migration_id sealed_by;
  varve::generation sealed_for;
};

enum class block_state : uint8_t { hole = 0, written = 1 };

/// A run of blocks in one state, in bytes from the start of the shard; whole blocks.
struct shard_extent {
  uint64_t offset = 0;
  uint64_t length = 0;
  block_state state = block_state::hole;
};

/// The checksums of a run of blocks as stored: one per block; a hole's is 0 and its state says so.
struct block_sums {
  std::vector<uint32_t> crcs;
  std::vector<block_state> states;
};

/// One active shard on one reactor thread: the storage side of the data path. It checksums every 4 KiB block, orders
/// overlapping requests by block-range claims, and keeps what was acknowledged over `kill -9`. Offsets are bytes from
/// the shard's start; ranges must lie within `header().size` (asserted). Nothing here checks leases or epochs: its
/// caller does, with `header().fence`. A shard at another node is checked there, too: what it is asked may end with
/// errc::stale_epoch or shard_moved, and with errc::unavailable or timed_out while that node does not answer. Every
/// task must have ended before the shard is destroyed.
class shard {
public:
  virtual ~shard() = default;

  virtual const shard_header& header() const noexcept = 0;

  /// The epoch of the lease under which later requests are made. For a shard at another node, which checks it there.
  virtual void hold(epoch) noexcept {}

  // A change that another node has not answered may have been made or not. Made again when others have changed the
  // same bytes meanwhile, it would undo what they did.

  /// Of a shard at another node: rises whenever another host than before changes it. As last heard since `hold`; 0: not
  /// heard yet.
  virtual uint64_t turn() const noexcept { return 0; }
  /// Asks for it.
  virtual task<errc> look() { co_return errc::none; }
  /// The next change was begun before, at that turn (0: it is not known), and may have been made: errc::conflict, and
  /// nothing is done, if others have changed the shard since.
  virtual void repeat(uint64_t) noexcept {}

  // -- data ------------------------------------------------------------------------------------------------------

  /// Any alignment. errc::checksum_mismatch when a block is not what was written (also after a second look under a
  /// claim).
  virtual task<errc> read(uint64_t offset, std::span<std::byte> into) = 0;

  /// Reads or writes at once, without a task, where nothing has to be waited for (a volatile shard, no claim or pin in
  /// the way): true, and `status` says how it went, as `read` and `write` would. False: nothing was done, use the task.
  virtual bool try_read(uint64_t, std::span<std::byte>, errc&) noexcept { return false; }
  virtual bool try_write(uint64_t, std::span<const std::byte>, errc&) noexcept { return false; }

  /// Block-aligned bytes of a volatile shard where they lie, verified, without a copy; empty where that cannot be (not
  /// aligned, not contiguous, another kind of shard, or a claim is on it). Until `unpin` is called as often, writes
  /// to the shard wait and it is not destroyed.
  virtual std::span<const std::byte> pin(uint64_t offset, uint64_t length) noexcept = 0;
  virtual void unpin() noexcept = 0;

  /// Any alignment; edge blocks are read, verified, merged and written. Returns once it survives `kill -9`.
  /// errc::tier_full: nothing was acknowledged, and the old contents stand.
  virtual task<errc> write(uint64_t offset, std::span<const std::byte> from) = 0;

  /// Makes whole blocks holes; partial edge blocks are left as they are. Works on a full device.
  virtual task<errc> trim(uint64_t offset, uint64_t length) = 0;

  /// Any alignment. Blocks become holes unless `keep_allocated`, then they stay (or become) allocated zeros.
  virtual task<errc> write_zeroes(uint64_t offset, uint64_t length, bool keep_allocated) = 0;

  /// Everything acknowledged before survives power loss. After a failed sync always errc::shard_failed.
  virtual task<errc> flush() = 0;

  /// Whether anything was acknowledged since the last successful flush.
  virtual bool dirty() const noexcept = 0;

  /// Appends the extents of a range, merged; edges are widened to whole blocks.
  virtual void extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const = 0;

  /// Bytes in written blocks.
  virtual uint64_t allocated_bytes() const noexcept = 0;

  // -- control -----------------------------------------------------------------------------------------------------

  /// Flush, then the checksum table and a clean intent bitmap on disk: what passivation does, and idleness.
  virtual task<errc> checkpoint() = 0;

  /// Raises `header().fence` durably. Lower or equal: nothing happens. The caller has drained.
  virtual task<errc> raise_fence(epoch to) = 0;

  /// Durably takes the shard out of service for a migration, or (migration_id{0}) puts it back.
  virtual task<errc> seal(migration_id by, generation replaced_by) = 0;

  /// Durably marks a migration's sink as a whole shard, with everything written before and at least that fence; writes
  /// may go on. Until it returned with errc::none, a crash may leave a file that calls itself whole and is not: only
  /// then may its source be sealed.
  virtual task<errc> complete(epoch fence) = 0;

  /// Reads every written block of a range and compares; the number of bad blocks, or errc by `status`.
  virtual task<uint64_t> verify(uint64_t offset, uint64_t length, errc& status) = 0;

  // -- migration ---------------------------------------------------------------------------------------------------

  /// Starts (or ends) noting ranges written, trimmed or zeroed; at block granularity. Starting forgets the old notes.
  virtual void track_changes(bool on) = 0;
  /// What was noted since the last call, merged and in order; forgets it.
  virtual std::vector<shard_extent> take_changes() = 0;
  /// Takes whole blocks off the notes: they are about to be copied.
  virtual void forget_changes(uint64_t offset, uint64_t length) = 0;
  /// Bytes noted so far.
  virtual uint64_t changed_bytes() const noexcept = 0;

  /// Whole blocks under a claim, with the stored checksums, verified after the read.
  virtual task<errc> read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) = 0;
  /// Whole blocks; each is verified against `sums` before it is written; holes are punched.
  virtual task<errc> write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) = 0;
  /// The stored sums of all blocks, for comparing two homes.
  virtual const block_sums& sums() const noexcept = 0;
  /// Of a shard at another node: fetches its sums and keeps them here as it is changed, or no longer. Until then `sums`
  /// and `extents` know nothing of it. At home they are always known.
  virtual task<errc> mirror_sums(bool) { co_return errc::none; }
};

} // namespace varve
