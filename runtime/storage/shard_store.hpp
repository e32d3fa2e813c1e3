#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/reactor/reactor.hpp"
#include "runtime/storage/shard.hpp"

namespace varve {

enum class tier_kind : uint8_t { memory, file };
enum class file_io : uint8_t { direct, buffered };

/// Added to what the device takes, so that a laptop can show a slow tier. Zero is none.
struct tier_emulation {
  std::chrono::nanoseconds read_latency{0};
  std::chrono::nanoseconds write_latency{0};
  /// 0: as fast as it goes.
  uint64_t bandwidth_bytes_per_second = 0;
};

struct shard_store_options {
  std::string name;
  tier_kind kind = tier_kind::memory;
  /// Of a file tier: an existing directory.
  std::string directory;
  file_io io = file_io::direct;
  tier_emulation emulate;
  /// Table and intent bits are written back when a shard had no write for this long.
  std::chrono::nanoseconds checkpoint_after{std::chrono::seconds{15}};
  /// Told of every block that is not what was written: `offset` in bytes from the shard's start. Called on the
  /// reactor's thread in the middle of a read; must only pass it on. May be empty.
  std::function<void(shard_id, uint64_t offset)> on_mismatch;
};

/// What the device has been seen to do: exponentially decayed means, of this reactor.
struct device_statistics {
  uint64_t reads = 0, writes = 0, syncs = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
  std::chrono::nanoseconds read_latency_mean{0}, write_latency_mean{0}, sync_latency_mean{0};
  double read_bytes_per_second = 0, written_bytes_per_second = 0;
  uint64_t checksum_mismatches = 0;
};

struct opened_shard {
  errc status = errc::none;
  std::unique_ptr<varve::shard> shard;
};

/// The shards of one tier as one reactor sees them: makes, opens and removes them. Reactor's thread only.
class shard_store {
public:
  virtual ~shard_store() = default;

  virtual const shard_store_options& options() const noexcept = 0;

  /// Whether its shards are another node's.
  virtual bool remote() const noexcept { return false; }

  /// Makes a shard of holes, durably (file, header, table and folder entry), and opens it.
  /// errc::already_exists, errc::tier_full, errc::device_failed.
  virtual task<opened_shard> create(const shard_header& header) = 0;

  /// Opens an existing shard; recovers it if it was not closed (recomputes only what the intent bitmap marks).
  /// errc::not_found, errc::bad_format, errc::device_failed.
  virtual task<opened_shard> open(shard_id id, generation of) = 0;

  /// Of a remote store: a shard that is not looked for now. Its storage acknowledged changes under that write verifier
  /// which are not flushed. Null where a shard's own file tells what is not synced.
  virtual std::unique_ptr<shard> inherit(const shard_header&, uint64_t /*verifier*/) { return nullptr; }

  /// Deletes a shard that is not open, durably. errc::not_found is not an error to most callers.
  virtual task<errc> remove(shard_id id, generation of) = 0;

  virtual device_statistics statistics() const = 0;
};

std::unique_ptr<shard_store> make_memory_store(reactor& on, shard_store_options options);
std::unique_ptr<shard_store> make_file_store(reactor& on, shard_store_options options);

/// The headers of all shard files of a directory; unreadable files are named in `problems`. Blocks: not for reactors.
std::vector<shard_header> scan_shard_files(const std::string& directory, std::vector<std::string>& problems);

} // namespace varve
