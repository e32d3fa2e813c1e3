#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "messages/cluster.hpp"
#include "messages/lease.hpp"
#include "messages/migration.hpp"
#include "messages/node.hpp"
#include "messages/tier.hpp"
#include "messages/volume.hpp"
#include "runtime/data_plane/data_plane.hpp"
#include "runtime/remote/remote_plane.hpp"

namespace varve {

/// What a node is at one moment; what did not answer is absent.
struct node_snapshot {
  std::string version;
  std::optional<node_status> status;
  std::optional<std::vector<volume_info>> volumes;
  std::vector<tier_info> tiers;
  std::vector<lease_info> leases;
  std::vector<migration_progress> migrations;
  std::vector<actor_info> actors;
  std::map<volume_id, volume_counters> counters;
  uint64_t rpc_connections = 0;
  // Of a cluster. As a manager sees its nodes; what goes between this node and others.
  std::vector<member_info> members;
  std::optional<remote_plane_counters> remote;
};

/// Makes of successive snapshots what Prometheus wants: totals that never go back, though ports and tiers begin to
/// count anew and ended migrations fall out of the list. No label names a volume, shard, lease or holder: their number
/// has no bound. One thread.
class node_metrics {
public:
  std::string render(const node_snapshot& x);

private:
  static void render_cluster(class metrics_text& m, const node_snapshot& x);

  /// A total over many counters that come, go and start again.
  class total {
  public:
    void add(uint64_t now, uint64_t& last) {
      sum_ += now >= last ? now - last : now;
      last = now;
    }
    uint64_t sum() const { return sum_; }

  private:
    uint64_t sum_ = 0;
  };

  struct move_seen {
    uint64_t bytes = 0, verify_failures = 0;
    bool ended = false;
  };

  static constexpr size_t latency_buckets = 24;
  static constexpr size_t operations = 5;

  void add_volumes(const node_snapshot& x);
  void add_migrations(const node_snapshot& x);
  void add_tiers(const node_snapshot& x);

  std::map<volume_id, volume_counters> last_volumes_;
  total operations_[operations], read_bytes_, written_bytes_, errors_, parked_, fenced_stale_, fenced_moved_;
  total latency_[latency_buckets], latency_sum_us_;
  std::map<uint64_t, move_seen> moves_;
  std::map<std::pair<std::string, std::string>, uint64_t> moved_bytes_;
  uint64_t committed_ = 0, aborted_ = 0, verify_failures_ = 0;
  std::vector<uint64_t> durations_, gates_;
  double durations_sum_ = 0, gates_sum_ = 0;
  struct tier_totals {
    tier_info last;
    total reads, writes, syncs, read_bytes, written_bytes, mismatches;
  };
  std::map<std::string, tier_totals> tiers_;
  std::map<std::string, uint64_t> last_restarts_;
  std::map<std::string, total> restarts_;
};

} // namespace varve
