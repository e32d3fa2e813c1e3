#pragma once

#include <memory>
#include <utility>

#include "runtime/data_plane/data_plane.hpp"
#include "runtime/data_plane/route_table.hpp"
#include "runtime/reactor/async.hpp"

namespace varve {

/// One home of one shard on this reactor. `tier` is the position of the tier in the data plane's options.
struct shard_key {
  uint16_t tier = 0;
  shard_id id;
  varve::generation generation;

  constexpr auto operator<=>(const shard_key&) const noexcept = default;
};

/// Told of what a VM changed at a shard before the VM is.
class change_follower {
public:
  virtual ~change_follower() = default;
  /// A write, trim or zeroing of these bytes has ended well. The VM is answered when this returns.
  virtual task<void> follow(uint64_t offset, uint64_t length) = 0;
};

#ifdef VARVE_WITHOUT_FENCE
inline constexpr bool fencing = false;
#else
inline constexpr bool fencing = true;
#endif

/// Who changes a shard by this node's own ports.
inline constexpr uint64_t changed_here = ~uint64_t{0};

/// A shard that is open, with its gate. Requests are counted in and out; closing the gate keeps new ones out (they
/// park at their port), draining waits until those inside have left.
struct active_shard {
  explicit active_shard(shard_key k) : key(k) {}

  shard_key key;
  shard_store* store = nullptr;
  std::unique_ptr<varve::shard> shard;
  /// The shard's own header, live; so that the fence check is a load and not a virtual call.
  const shard_header* header = nullptr;

  /// Of one request: may it go in? errc::none, errc::unavailable (gate closed: wait), or what storage refuses it with.
  errc admit(const route_entry& x) const noexcept {
    if (closings != 0)
      return errc::unavailable;
    if (x.generation != header->generation || header->incomplete || header->sealed_by != migration_id{})
      return errc::shard_moved;
    if (fencing && x.fence < header->fence)
      return errc::stale_epoch;
    return errc::none;
  }

  void enter() noexcept {
    ++in_flight;
    touched = true;
  }
  /// May resume who drains; the shard may be gone when it returns.
  void leave() {
    if (--in_flight == 0 && draining)
      quiet.set();
  }
  /// Somebody changes it: a host, by a number that is its own.
  void change_by(uint64_t who) noexcept {
    if (std::exchange(changer, who) != who)
      ++turn;
  }
  /// Whether others have changed it since `who` saw that turn. Of a turn before it was opened nothing is known: no.
  bool changed_since(uint64_t seen, uint64_t who) const noexcept {
    return seen >= opened_turn && turn > seen + (changer == who);
  }
  /// What keeps the shard open without being a request: a flush, a check, a move.
  void use() noexcept { ++users; }
  void unuse() {
    if (--users == 0 && draining)
      quiet.set();
  }

  uint32_t closings = 0; // the gate is open at 0
  uint32_t in_flight = 0;
  uint32_t users = 0;
  /// Leaving the table: nobody may start using it.
  bool leaving = false;
  /// Between switch_move and end_move: its fence must not rise, the sink has got the old one.
  bool switching = false;
  /// In its port's flush_set.
  bool unsynced = false;
  /// By a request, since whoever closes idle shards of other nodes has last looked.
  bool touched = true;
  /// By another node, since it was last synced for the end of such a session.
  bool changed_remotely = false;
  /// Counts on from the time of its opening, so that no two openings have turns in common; see shard::turn.
  uint64_t turn = 0, opened_turn = 0;
  uint64_t changer = 0;
  /// Set while a move mirrors what is changed here.
  change_follower* follower = nullptr;
  uint32_t draining = 0;
  async_event quiet;
  /// One at a time: fence, seal, closing, checks.
  async_mutex control;

  uint64_t reads = 0, writes = 0, read_bytes = 0, written_bytes = 0;
};

/// Waits until no request is inside (and nobody uses it, when `users_too`) or until a time: whether it is so. The gate
/// is closed, or this may never be.
task<bool> drain(ring& on, active_shard& x, bool users_too, boot_time until);

} // namespace varve

template <>
struct std::hash<varve::shard_key> {
  size_t operator()(const varve::shard_key& x) const noexcept {
    return std::hash<varve::shard_id>{}(x.id) * 31 + x.tier * 0x9e3779b9u + x.generation.value();
  }
};
