#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/data_plane/shard_table.hpp"
#include "runtime/data_plane/volume_port.hpp"

namespace varve {

/// A shard of another node with changes that an earlier process of this one acknowledged and did not flush.
struct inherited_shard {
  std::string tier;
  shard_id id;
  generation of;
  /// The storage's write verifier when the first of them was acknowledged.
  uint64_t verifier = 0;
};

/// What a reactor has to do with the reactors of other nodes: it does I/O on their shards for its own ports and moves,
/// and on its own shards for them. Reactor's thread only.
class reactor_peers {
public:
  virtual ~reactor_peers() = default;

  /// The tiers of other nodes, which come behind this node's own in the shard table. Once, before `serve`.
  virtual std::vector<std::unique_ptr<shard_store>> make_stores() = 0;
  /// Begins; `shards` has those stores, and lives until `close` has ended.
  virtual void serve(shard_table& shards, foreground_load& load) = 0;
  /// What an earlier process left unflushed under this attachment of a volume: before its port is opened.
  virtual std::vector<inherited_shard> inherit(volume_id volume, holder_id holder) = 0;
  /// A gate may have opened, as shard_watcher says.
  virtual void retry(const shard_key& key) = 0;

  // -- the end, in this order

  /// What other nodes have not answered by then ends with errc::unavailable, and so does what is asked of them later.
  virtual void give_up_at(boot_time when) = 0;
  /// Ends the other nodes' sessions here: returns when nothing of theirs is under way, or at `deadline`.
  virtual task<void> stop_serving(boot_time deadline) = 0;
  /// Ends this node's sessions at others. Nothing uses their shards any more.
  virtual task<void> close() = 0;
};

} // namespace varve
