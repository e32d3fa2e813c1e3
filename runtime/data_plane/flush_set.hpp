#pragma once

#include <vector>

#include "runtime/data_plane/active_shard.hpp"

namespace varve {

/// The shards of one volume that hold acknowledged changes which may not survive power loss yet, whether or not there
/// still is a route to them. A shard leaves only through its own successful sync (or with its home, once a migration
/// has made another one durable). Reactor's thread only.
class flush_set {
public:
  flush_set() = default;
  flush_set(const flush_set&) = delete;
  /// What is not synced is left to its shard: passivation tries again, the next port of the volume takes it over.
  ~flush_set() { leave(); }

  /// As the end of this does.
  void leave() noexcept {
    for (auto* x : shards_)
      x->unsynced = false;
    shards_.clear();
  }

  void add(active_shard& x) {
    if (x.unsynced)
      return;
    x.unsynced = true;
    shards_.push_back(&x);
  }
  void erase(active_shard& x) noexcept;

  /// Syncs what is in the set now; the first error. What failed stays in it.
  task<errc> flush();
  /// Syncs one shard, dirty or not: for FUA.
  task<errc> flush_one(active_shard& x);

  size_t size() const noexcept { return shards_.size(); }

private:
  /// So many syncs at a time; more would only take the workers of the ring from reads.
  static constexpr size_t lanes_max = 16;
  struct round;
  task<void> lane(round& of);

  std::vector<active_shard*> shards_;
};

} // namespace varve
