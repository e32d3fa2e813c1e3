#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "messages/catalog.hpp"
#include "runtime/reactor/simulated_world.hpp"
#include "tests/simulation/watched_plane.hpp"

namespace varve::test {

/// What must hold at any moment in a cluster, whatever fails: of rights, by what the actors told their data planes and
/// what storage agreed to; of the catalog, by what was committed. It knows all machines' clocks, as no machine does.
class cluster_checks {
public:
  explicit cluster_checks(simulated_world& world);
  cluster_checks(const cluster_checks&) = delete;
  ~cluster_checks();

  /// The watcher of one machine, whose clock this is. Machines are numbered from 0, in this order.
  /// `world_at`: when its clock shows a time; of a clock as fast as the world's when it is empty.
  plane_watcher& add(std::function<boot_time()> clock, std::function<boot_time(boot_time local)> world_at = {});

  /// The process of that machine died: it does no I/O any more.
  void died(int host);
  /// A manager has ended a lease because its term was over (LEASE_EXPIRED).
  void lease_expired(const std::string& text);
  /// Whose holder that is.
  void attached(holder_id holder, int host) { holders_[holder] = host; }
  void committed(const catalog_batch& batch);

  /// A host was told that its request is done: it was asked at `began`, by the world's clock. What has lost its right
  /// before that must not have been done.
  void done(int host, shard_id shard, bool write, boot_time began);

  /// Empty as long as all is well; in the order of finding.
  std::vector<std::string> violations;
  /// How often a rule was looked at that could have been broken: a history in which it never was says nothing.
  uint64_t fences_raised = 0, expiries_checked = 0, handovers = 0;

private:
  struct right {
    route of;
    boot_time since{0};
    uint64_t order = 0; // among all that was set or dropped
  };
  /// What one machine may do to one volume.
  struct rights {
    std::map<uint64_t, right> shards;
    std::vector<right> runs;
    /// When a right was last taken away in an orderly way, by the world's clock.
    std::map<uint64_t, boot_time> dropped;
    /// When a right to write became one to read.
    std::map<uint64_t, boot_time> lowered;
    boot_time all_dropped{0};
  };
  class machine;
  struct raise {
    boot_time at{0};
    epoch to;
  };
  enum class access : uint8_t { none, read, write };

  void violated(std::string what);
  void look(volume_id volume, uint64_t shard);
  access may(int host, volume_id volume, uint64_t shard) const;
  void agreed(shard_id shard, epoch to);
  epoch highest(shard_id shard) const;
  /// When, by the world's clock, that machine lost what it had; boot_time::max(): it has it. For reading or writing.
  boot_time lost_at(int host, shard_id shard, bool write) const;

  simulated_world& world_;
  uint64_t order_ = 0;
  std::vector<std::unique_ptr<machine>> machines_;
  std::map<holder_id, int> holders_;
  std::map<shard_id, std::vector<raise>> raises_;
  std::map<std::pair<shard_id, generation>, epoch> durable_;
  std::map<std::pair<shard_id, generation>, std::string> homes_;
  std::map<shard_id, generation> current_;
};

} // namespace varve::test
