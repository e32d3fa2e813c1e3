#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <caf/timespan.hpp>

#include "messages/types.hpp"
#include "messages/volume.hpp"
#include "runtime/caf/actor_tree.hpp"
#include "runtime/caf/console_desk.hpp"
#include "runtime/caf/directory.hpp"
#include "runtime/catalog/catalog_store.hpp"
#include "runtime/catalog/leadership.hpp"
#include "runtime/config/cluster_config.hpp"
#include "runtime/data_plane/data_plane.hpp"
#include "runtime/storage/shard_store.hpp"

namespace varve {

class cluster_link;
class epoch_keeper;
class remote_io;

/// How long rights last. Config is checked by `check` before a node starts.
struct lease_options {
  /// Of volumes of low and normal sensitivity; of high sensitivity.
  caf::timespan term{std::chrono::seconds{45}};
  caf::timespan term_sensitive{std::chrono::seconds{20}};
  /// What the holder of a whole `term` waits between two keep-alives.
  caf::timespan renew{std::chrono::seconds{15}};
  /// By how much two clocks may differ over one term. The holder stops this much before its term ends, manager and
  /// storage end the lease this much after.
  caf::timespan drift_bound{std::chrono::milliseconds{500}};
  /// How long a holder may take to give way before it is fenced.
  caf::timespan grace{std::chrono::seconds{2}};
  /// How long an acquire waits for a conflicting holder to give way.
  caf::timespan acquire_timeout{std::chrono::seconds{10}};
  /// Leases at a time, of all holders: each takes up to 2 KiB at the manager.
  uint64_t leases_max = 2'097'152;

  /// What a holder waits between two keep-alives. Shorter terms, of sensitive volumes or as storage wished, leave less
  /// time for one that fails.
  caf::timespan renew_every(caf::timespan of_term) const {
    return of_term < term ? std::min(renew, of_term / 3) : renew;
  }
};

/// When a dead child is started again, and when its parent gives up.
struct restart_options {
  caf::timespan delay_min{std::chrono::milliseconds{20}};
  caf::timespan delay_max{std::chrono::seconds{5}};
  /// Up to this share of a delay is taken off at random, so that not all children come back at once.
  double jitter = 0.5;
  /// More restarts of one child than this within the window: the supervisor ends itself with the reason.
  uint64_t restarts_max = 20;
  caf::timespan window{std::chrono::seconds{60}};
};

struct migration_options {
  /// Bytes per second of all background copying together; 0: unlimited.
  uint64_t budget_bytes_per_second = 0;
  /// Copied between two looks at cancel and pause.
  uint64_t copy_bytes_max = 4ull << 20;
  /// From catching_up to switching once so little has changed.
  uint64_t switch_below_bytes = 256ull << 10;
  uint64_t running_max = 4;
  /// How long an act of the data plane is waited for before it is asked for again.
  caf::timespan act_timeout{std::chrono::seconds{30}};
  /// Ended ones kept for listings.
  uint64_t ended_max = 1000;
};

/// One configured tier.
struct tier_settings {
  shard_store_options store;
  /// Whose it is; empty: this node's.
  std::string node;
  uint64_t capacity_bytes = 0;
  /// Of a month and GiB, in the config's currency.
  double cost = 0;
  /// The highest sensitivity of data that may be placed here.
  sensitivity accepts = sensitivity::high;
  /// Of a file tier: what its folder says that it is.
  std::string id;
  /// Why the tier is not served; empty: it is. The data path does not know a tier that is refused.
  std::string refused;

  bool is_volatile() const { return store.kind == tier_kind::memory; }
  bool emulated() const {
    return store.emulate.read_latency.count() != 0 || store.emulate.write_latency.count() != 0 ||
           store.emulate.bandwidth_bytes_per_second != 0;
  }
};

struct node_options {
  std::string name = "varve";
  std::string version;
  /// "io_uring" or "threads", for status.
  std::string ring;
  /// Of all nodes of the cluster, in the order of the configuration.
  std::vector<tier_settings> tiers;
  lease_options leases;
  restart_options restarts;
  migration_options migrations;
  uint64_t shard_size = shard_size_default;
  uint64_t volumes_max = 4096;
  /// Of every request between actors.
  caf::timespan request_timeout{std::chrono::seconds{5}};
  /// How long children may take to stop before they are killed, at each level.
  caf::timespan stop_grace{std::chrono::seconds{10}};
  /// Where the NBD sockets are made; an existing folder.
  std::string socket_folder;
  /// What a VM's request does that gets no route: waits (0) or fails after this long.
  caf::timespan error_after{0};
  /// Events kept for `status`.
  uint64_t events_max = 1000;
  /// Of all jitter, for one history per seed.
  uint64_t seed = 1;
  node_roles roles;
  /// No nodes: this one is by itself.
  cluster_config cluster;
  /// Of this life of the process, in its cluster: higher than in any earlier one.
  uint64_t incarnation = 1;
};

/// What is in a tier's folder.
struct tier_scan {
  std::vector<shard_header> shards;
  /// Of each of `shards`, in bytes on the device.
  std::vector<uint64_t> allocated_bytes;
  /// Files that could not be read, and why.
  std::vector<std::string> problems;
};

/// All that the actors of a node reach the outside through, made once before node_root is spawned and never changed.
/// Actors share it by pointer.
struct node_context {
  std::shared_ptr<varve::directory> directory;
  std::shared_ptr<varve::actor_tree> tree;
  std::shared_ptr<data_plane> plane;
  std::shared_ptr<catalog_store> store;
  /// Whether this node may manage; null: always.
  std::shared_ptr<varve::leadership> leadership;
  /// Null when the node is by itself.
  std::shared_ptr<cluster_link> link;
  /// Null when the node is by itself.
  std::shared_ptr<remote_io> remote;
  /// Fills with what nobody can foresee: the secrets of the data path's keys. From a seed in simulation. Needed where
  /// `remote` is.
  std::function<void(std::span<std::byte>)> fill_random;
  /// What this node's console shows; null: nothing, to the consoles of others.
  std::shared_ptr<const console_desk> console;
  /// What this node's storage has promised never to go below. Null: nothing outlives the shards' own headers.
  std::shared_ptr<epoch_keeper> epochs;
  /// Time since boot, also while suspended; the virtual clock in simulation. Any thread.
  std::function<boot_time()> now;
  /// Seconds since 1970, UTC: for people only.
  std::function<uint64_t()> wall_seconds;
  /// When the process began, as `now` counts.
  boot_time started_at{0};
  /// Lists the shards of a tier, off the actors' threads; `done` is called once, on any thread, and must only pass it
  /// on.
  std::function<void(const std::string& tier, std::function<void(tier_scan)> done)> scan_tier;
  /// Tells the monitor and the log of something that happened (a stable code, a sentence). Any thread.
  std::function<void(std::string code, std::string text)> publish;
  node_options options;
};

using context_ptr = std::shared_ptr<const node_context>;

} // namespace varve
