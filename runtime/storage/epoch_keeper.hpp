#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "messages/errors.hpp"
#include "messages/types.hpp"

namespace varve {

/// What a node's storage has promised never to go below, on all its tiers: the highest epoch seen of each shard, and
/// the highest incarnation of a manager. A shard's header says its epoch too; this is for when the file is lost, made
/// anew, or put back from elsewhere. Any thread.
class epoch_keeper {
public:
  using callback = std::function<void(errc)>;

  virtual ~epoch_keeper() = default;

  /// 0: none seen. Also what is not durable yet: enough to refuse by, not to answer by.
  virtual epoch highest(shard_id id) const = 0;
  virtual uint64_t manager() const = 0;

  /// `done` once it is durable that the epoch was seen; errc::stale_epoch when a higher one was, errc::tier_full,
  /// errc::device_failed. Called on a thread of the keeper's, or inline when there is nothing to do.
  virtual void raise(shard_id id, epoch to, callback done) = 0;
  /// Of many shards at once; of those of which a higher one was seen that one stays. Never errc::stale_epoch.
  virtual void raise_all(std::vector<std::pair<shard_id, epoch>> xs, callback done) = 0;
  /// The same for the incarnation of a manager; errc::deposed.
  virtual void note_manager(uint64_t incarnation, callback done) = 0;
};

} // namespace varve
