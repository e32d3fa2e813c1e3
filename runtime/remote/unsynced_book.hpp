#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "messages/types.hpp"
#include "runtime/data_plane/reactor_peers.hpp"

namespace varve {

/// Which shards of other nodes hold changes that this node has acknowledged to a VM and not flushed, written down where
/// a killed process leaves it behind: so its successor's FLUSH covers them, or fails when their storage has lost power
/// meanwhile. It need not survive power loss, which takes the VM, too. Any thread.
class unsynced_book {
public:
  static constexpr size_t record_bytes = 256;
  /// Writes record_bytes at `slot` * record_bytes, without waiting for a device; false when it cannot.
  using writer = std::function<bool(uint64_t slot, std::span<const std::byte> record)>;

  /// `found`: what an earlier process left, record by record from slot 0. What it noted under another boot of this
  /// machine does not count, and neither does a record whose sum is wrong.
  unsynced_book(uint64_t machine_boot, std::span<const std::byte> found, writer write);

  /// A port was opened under this attachment: what an earlier process noted under it. What was noted under others of
  /// the volume is forgotten: their VMs are gone.
  std::vector<inherited_shard> begin(volume_id volume, holder_id holder);
  /// Before the first of a shard's changes is acknowledged. Of a volume without `begin`: nothing. False when it could
  /// not be written down.
  bool note(const inherited_shard& x);
  /// All that was noted of it is durable.
  void forget(const inherited_shard& x);

  size_t size() const;
  /// Notes that could not be written down, so far.
  uint64_t failures() const;

private:
  struct key {
    shard_id id;
    generation of;
    std::string tier;
    auto operator<=>(const key&) const = default;
  };
  struct entry {
    uint64_t slot = 0;
    holder_id holder;
    /// The storage's write verifier.
    uint64_t verifier = 0;
  };

  static key key_of(const inherited_shard& x) { return {x.id, x.of, x.tier}; }
  void encode(const key& k, const entry& x, std::byte* to) const;
  bool decode(std::span<const std::byte> from, key& k, entry& x) const;
  void erase(std::map<key, entry>::iterator at);

  const uint64_t machine_boot_;
  writer write_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::map<key, entry> entries_;
  std::map<volume_id, holder_id> holders_; // of the open ports
  std::vector<uint64_t> free_;
  uint64_t slots_ = 0;
  uint64_t failures_ = 0;
};

/// One in a file (mode 0600), which is made when it is not there. Blocks while it reads. Null with a `problem`.
std::shared_ptr<unsynced_book> open_unsynced_book(const std::string& path, uint64_t machine_boot, std::string& problem);

} // namespace varve
