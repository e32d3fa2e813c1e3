#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "messages/errors.hpp"
#include "messages/migration.hpp"
#include "messages/types.hpp"
#include "runtime/storage/shard_store.hpp"

namespace varve {

/// What a lease holder knows of one shard, or of a run of shards that were never touched: an immutable value that the
/// vm_agent hands to the data plane. A route authorises I/O until `valid_until`, by nobody's leave but the clock's.
struct route {
  shard_index first;
  /// 1, except for a run of shards that do not exist (`exists` false): their reads give zeros without more ado.
  uint64_t count = 1;
  bool exists = false;
  /// Writing allowed (a write lease); reading always is.
  bool writable = false;
  std::string tier;
  varve::generation generation;
  epoch fence;
  /// boot_time at which the holder stops using it.
  boot_time valid_until{0};
};

/// What a volume's port asks of its vm_agent, gathered over one round of the reactor.
struct route_need {
  volume_id volume;
  shard_index first;
  uint64_t count = 1;
  bool write = false;
};

/// Per volume, since its port was opened; monotonic.
struct volume_counters {
  uint64_t reads = 0, writes = 0, flushes = 0, trims = 0, zeroes = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t errors = 0;
  /// Requests that waited for a route.
  uint64_t parked = 0;
  uint64_t parked_now = 0;
  uint64_t connections = 0;
  /// Requests that storage refused for their epoch or generation; each was tried again with a new route.
  uint64_t fenced_stale_epoch = 0, fenced_moved = 0;
  /// Requests that `observe` did not tell of, because its sink was too slow.
  uint64_t observations_dropped = 0;
  /// Service time in the data plane (submit to complete): bucket i counts requests of < 2^i microseconds.
  uint64_t latency_us_buckets[24] = {};
  uint64_t latency_us_sum = 0;
};

/// Per shard that is active, for placement and listings; decays are the reader's business.
struct shard_counters {
  shard_id id;
  uint64_t reads = 0, writes = 0, read_bytes = 0, written_bytes = 0;
  uint64_t allocated_bytes = 0;
  bool dirty = false;
  /// Of the home that is active; the sink of a move is none yet and is not listed.
  varve::generation of;
  uint64_t size = 0;
  epoch fence;
};

/// One I/O as the trace recorder and predictors see it.
struct io_observation {
  boot_time when{0};
  uint64_t offset = 0;
  uint32_t length = 0;
  /// block_op as an integer.
  uint8_t op = 0;
};

struct port_options {
  volume_id volume;
  /// The attachment: an earlier process's port of it is this one's predecessor, whose VM goes on.
  holder_id holder;
  std::string name;
  uint64_t size_bytes = 0;
  uint64_t shard_size = shard_size_default;
  bool read_only = false;
  /// NBD: the Unix socket to listen on (mode 0600); an old file there is replaced.
  std::string socket_path;
  /// Which reactor serves the volume: taken modulo their number.
  uint32_t reactor = 0;
  /// What a request does that gets no route: waits (0) or fails after this long.
  std::chrono::nanoseconds error_after{0};
  /// Tells the vm_agent what is needed. Called on the reactor's thread; must only pass it on.
  std::function<void(std::vector<route_need>)> on_need;
};

struct shard_summary {
  errc status = errc::none;
  shard_header header;
  uint64_t allocated_bytes = 0;
};

/// The data path as the actors command it: volumes' ports, shards, routes, gates and copies, on reactors of its own.
/// Any thread may call; each call is carried out on the reactor of its volume, in order per volume, and `done` is
/// called there once: it must only pass the result on (send a message). Runs unchanged over simulated rings.
class data_plane {
public:
  template <class... Ts>
  using callback = std::function<void(Ts...)>;

  virtual ~data_plane() = default;

  // -- ports (commanded by vm_agent)
  // -----------------------------------------------------------------------------------

  /// Opens the volume to its VM. Opening what is open updates `on_need` and keeps connections and routes: so a
  /// restarted vm_agent takes over; it is told again what parked requests need.
  virtual void open_port(port_options options, callback<errc> done) = 0;
  /// Stops listening, closes connections, drains, flushes. `force` does not wait for parked requests (they fail).
  virtual void close_port(volume_id volume, bool force, callback<errc> done) = 0;
  virtual void resize_port(volume_id volume, uint64_t size_bytes, callback<errc> done) = 0;
  /// Adds or replaces routes; parked requests that fit go on.
  virtual void set_routes(volume_id volume, std::vector<route> routes) = 0;
  /// What was needed cannot be had: parked requests that need a route of the range (writing: those that need to write)
  /// fail with `why` (errc::tier_full: ENOSPC; others: EIO). Later requests ask again.
  virtual void refuse_needs(volume_id volume, shard_index first, uint64_t count, bool write, errc why) = 0;
  /// Takes routes away; `done` when no request uses them any more.
  virtual void drop_routes(volume_id volume, shard_index first, uint64_t count, callback<errc> done) = 0;
  /// Extends `valid_until` of every route of the volume: the one keep-alive.
  virtual void extend_routes(volume_id volume, boot_time valid_until) = 0;
  virtual void port_counters(callback<std::map<volume_id, volume_counters>> done) = 0;
  /// Calls `sink` with what was asked since the last time, in batches, on the reactor's thread; null ends it.
  virtual void observe(volume_id volume, std::function<void(std::vector<io_observation>)> sink) = 0;

  // -- shards (commanded by shard and tier actors)
  // ---------------------------------------------------------------------

  /// Makes a shard and keeps it active.
  virtual void create_shard(std::string tier, shard_header header, callback<shard_summary> done) = 0;
  /// Makes it active (opens the file). Active already: its summary.
  virtual void activate_shard(std::string tier, shard_id id, generation of, callback<shard_summary> done) = 0;
  /// Drains, checkpoints and closes it; `errc::unavailable` when it is in use by then.
  virtual void passivate_shard(std::string tier, shard_id id, generation of, callback<errc> done) = 0;
  /// Closes the gate, drains, raises the fence durably, opens the gate.
  virtual void raise_fence(std::string tier, shard_id id, generation of, epoch to, callback<errc> done) = 0;
  virtual void remove_shard(std::string tier, shard_id id, generation of, callback<errc> done) = 0;
  virtual void verify_shard(std::string tier, shard_id id, generation of, callback<errc, uint64_t> done) = 0;
  /// The active shards of a tier.
  virtual void list_active(std::string tier, callback<std::vector<shard_counters>> done) = 0;
  virtual void tier_statistics(callback<std::map<std::string, device_statistics>> done) = 0;

  // -- migration (commanded by migration actors)
  // -------------------------------------------------------------------------

  /// Makes the sink (durably incomplete) and starts noting changes at the source. Again after a restart: keeps an
  /// existing sink, and compares checksum tables instead of trusting notes.
  virtual void begin_move(move_ends ends, callback<errc> done) = 0;
  /// Copies what is still to be copied, at most `bytes_max`, no faster than the data plane's budget; then reports.
  virtual void copy_some(move_ends ends, uint64_t bytes_max, callback<copy_round> done) = 0;
  /// Syncs the sink, closes the gate, drains, copies and syncs the rest, compares digests, completes the sink, seals
  /// the source. The gate stays closed until end_move.
  virtual void switch_move(move_ends ends, callback<switch_result> done) = 0;
  /// After the catalog has said which home is current: opens the gate. Committed: requests get errc::shard_moved
  /// inside and fetch a new route (`replacement`, when given, at once). Aborted: the source is unsealed, the sink
  /// closed. The loser's file is removed. Idempotent, also after a restart. Returns how long the gate was closed.
  virtual void end_move(move_ends ends, bool committed, callback<errc, std::chrono::nanoseconds> done) = 0;
  /// Bytes per second of all background copying together; 0 is unlimited.
  virtual void set_copy_budget(uint64_t bytes_per_second) = 0;
};

} // namespace varve
