#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "messages/errors.hpp"
#include "messages/lease.hpp"
#include "messages/types.hpp"

namespace varve {

/// A size in bytes that is a whole number of blocks, kept as that number: in half the room.
class whole_blocks {
public:
  constexpr whole_blocks() noexcept = default;
  /// Up to 16 TiB, a multiple of block_size.
  constexpr whole_blocks(uint64_t bytes) noexcept : blocks_(static_cast<uint32_t>(bytes / block_size)) {
    assert(uint64_t{blocks_} * block_size == bytes);
  }
  constexpr operator uint64_t() const noexcept { return uint64_t{blocks_} * block_size; }

private:
  uint32_t blocks_ = 0;
};

/// What a tier knows of one of its shards, idle or active. A tier may have millions: keep it small.
struct ledger_row {
  /// Of the shard, in bytes.
  whole_blocks size;
  /// The sink of a migration that is not over.
  bool incomplete = false;
  /// Its data path has it open; changed by `put` and `activate` only.
  bool active = false;
  /// Of its written blocks as last measured, in bytes.
  uint64_t allocated = 0;
  /// The highest epoch that the shard has been fenced with.
  epoch fence;
  /// When a lease last ended or a measurement last showed I/O.
  boot_time last_used{0};
  /// Reads and writes as last measured; a difference says that it is in use.
  uint64_t operations = 0;
  /// Found sealed: the generation that replaces it, if its migration was committed.
  generation sealed_for{0};
};
static_assert(sizeof(ledger_row) <= 48, "an idle shard is to take 256 bytes at most, with all that points at it");

/// The rules of one tier: what room there is, which shards it has, and who holds leases on them. Knows no actor, no
/// clock and no device.
class tier_ledger {
public:
  using key = std::pair<shard_id, generation>;

  explicit tier_ledger(uint64_t capacity_bytes = 0) : capacity_bytes_(capacity_bytes) {}

  // -- shards
  // ----------------------------------------------------------------------------------------------------------

  /// Learnt from storage; replaces what was known.
  void put(shard_id id, generation of, const ledger_row& row);
  void erase(shard_id id, generation of);
  ledger_row* find(shard_id id, generation of);
  const ledger_row* find(shard_id id, generation of) const;
  const std::map<key, ledger_row>& rows() const noexcept { return rows_; }
  /// Has become active, or idle. One that is not there stays so.
  void activate(shard_id id, generation of, bool active);
  size_t active() const noexcept { return active_.size(); }
  /// A measurement of an active shard: also what `used_bytes` counts from now on.
  void measure(shard_id id, generation of, uint64_t allocated, uint64_t operations, boot_time now);

  // -- room
  // ------------------------------------------------------------------------------------------------------------

  uint64_t capacity_bytes() const noexcept { return capacity_bytes_; }
  uint64_t used_bytes() const noexcept { return allocated_bytes_ + reserved_bytes_; }
  /// 0 when the limit is overrun.
  uint64_t free_bytes() const noexcept { return capacity_bytes_ - std::min(capacity_bytes_, used_bytes()); }
  /// Whether a new shard of holes may be made: errc::tier_full, errc::already_exists. Thin: it costs nothing until it
  /// is written, so the last byte may be overrun by what the active shards grow after they were measured.
  errc admit(const shard_home& home) const;
  /// Promises room to a migration's sink, instead of what it was promised before; 0 gives it back. errc::tier_full.
  errc reserve(shard_id id, uint64_t bytes);

  // -- leases
  // ----------------------------------------------------------------------------------------------------------

  /// Whether storage accepts a grant: errc::not_found (no such row), errc::shard_moved (a newer generation is here),
  /// errc::stale_epoch, errc::unavailable (the sink of a migration).
  errc check(const lease_grant& x) const;
  /// Records a grant that was checked, for its term from now.
  void record(const lease_grant& x, boot_time now);
  /// All leases of a holder last until now + term at least; how many there are.
  size_t renew(holder_id holder, boot_time now, caf::timespan term);
  /// Whether it is recorded that the holder has the shard.
  bool holds(holder_id holder, shard_id id) const;
  /// Whether a migration has a lease of the shard; of any shard that the holder has.
  bool moving(shard_id id) const { return moving_.count(id) != 0; }
  bool moving(holder_id holder) const;
  /// A holder's leases of a range end; `count` 0: all of them.
  void release(holder_id holder, shard_id first, uint64_t count, boot_time now);
  /// The shard has left: nobody holds it here any more.
  void drop(shard_id id);
  /// Ends what was not renewed; how many.
  size_t expire(boot_time now);
  bool leased(shard_id id) const { return lease_counts_.count(id) != 0; }
  size_t leases() const noexcept;
  /// "write", "read", "migration" or empty, for listings.
  const char* mode_of(shard_id id) const;
  /// The outstanding grants; without the tier's name, which a ledger does not know.
  std::vector<lease_grant> inventory(boot_time now);
  /// A manager of this incarnation has asked: lower ones have been replaced.
  void heed(uint64_t incarnation) { incarnation_ = std::max(incarnation_, incarnation); }
  bool heeds(uint64_t incarnation) const noexcept { return incarnation >= incarnation_; }

  /// The active shards that nobody holds and nobody has used for `idle`.
  std::vector<key> idle(boot_time now, caf::timespan idle) const;

private:
  /// What of a grant is not said elsewhere: there may be a hundred thousand.
  struct held {
    lease_id id;
    generation of;
    epoch fence;
    uint64_t manager = 0;
    lease_mode mode = lease_mode::read;
    term_limit limit = term_limit::none;
  };
  struct holder {
    /// One keep-alive renews all leases of a holder, so one term is enough: the longest.
    boot_time until{0};
    std::map<shard_id, held> grants;
  };

  void forget(shard_id id, lease_mode mode, boot_time now);
  /// What others have beside a grant that it excludes: the manager has ended or lowered it, and what it said of that
  /// may be lost.
  void give_way(const lease_grant& to, boot_time now);

  uint64_t capacity_bytes_;
  uint64_t allocated_bytes_ = 0;
  uint64_t reserved_bytes_ = 0;
  std::map<key, ledger_row> rows_;
  /// Those that are active: a tier is asked each second, and may have a thousand times as many that are not.
  std::set<key> active_;
  std::unordered_map<shard_id, uint64_t> reservations_;
  std::unordered_map<holder_id, holder> holders_;
  std::unordered_map<shard_id, uint32_t> lease_counts_;
  /// Shards of which a migration has a lease: few at a time.
  std::set<shard_id> moving_;
  uint64_t incarnation_ = 0;
};

} // namespace varve
