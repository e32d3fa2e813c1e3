#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "actors/management/tier_names.hpp"
#include "messages/lease.hpp"

namespace varve {

/// One lease as the manager knows it.
struct lease_row {
  lease_id id;
  holder_id holder;
  shard_id first;
  /// 1, but of a run of shards that do not exist.
  uint64_t count = 1;
  epoch fence;
  varve::generation generation;
  /// When the manager ends it: later than the holder's own end.
  boot_time until{0};
  /// As agreed last, and what management would give it.
  caf::timespan term{0};
  caf::timespan wanted{0};
  /// As the table numbers them; of a run none.
  uint32_t tier = UINT32_MAX;
  term_limit limit = term_limit::none;
  lease_mode mode = lease_mode::read;
  /// What storage has agreed to; below `mode` while an upgrade is on its way.
  lease_mode agreed = lease_mode::read;
  /// Storage has agreed (a run needs no agreement).
  bool granted = false;
  bool revoking = false;
  /// Its holder was asked to go on with reading only, and has not answered.
  bool lowering = false;

  bool exists() const noexcept { return generation.value() != 0; }
};

/// The rules of leases, without an actor or a clock: who may have what beside whom, and when the fence rises. A shard's
/// epoch is shared by compatible leases; it rises when a lease ended that its holder did not give back (expired,
/// broken): then the next grant gets a new one, which shuts the old holder out at storage.
class lease_table {
public:
  /// Epochs of this table lie above those of every lower incarnation.
  explicit lease_table(uint64_t incarnation = 0) : incarnation_(incarnation) {}

  struct claim {
    /// The lease that was made (or extended) for it; 0: refused because of `conflicts`.
    lease_id id;
    /// Other holders' leases in the way, or the holder's own that is being revoked, or lowered when it is to write.
    std::vector<lease_id> conflicts;
  };

  /// Claims one existing shard. Made at once, so that no other claim can come between; `agree` or `give_up` ends the
  /// claim. The holder's own lease on it is used again, and raised from read to write. A write lease answers for a
  /// read.
  /// `doubtful`: others may hold it that this table does not know of. Its epoch rises, once.
  claim ask(holder_id holder, const shard_home& home, lease_mode mode, bool doubtful = false);
  /// A read lease on shards that do not exist; needs no storage. One lease of the holder covers what it has there.
  claim ask_run(holder_id holder, shard_id first, uint64_t count, boot_time until, caf::timespan term);

  /// Storage has agreed: the lease lasts until then. `wanted`: what management would give it, `term` what it gets now.
  struct terms {
    boot_time until{0};
    caf::timespan term{0};
    caf::timespan wanted{0};
    term_limit limit = term_limit::none;
  };
  void agree(lease_id id, const terms& by, lease_mode mode);
  /// Storage has not: a new lease goes, one raised falls back to what it was.
  void give_up(lease_id id);
  /// Storage knows a higher epoch than we do: gives the lease (and those beside it) one that is higher still.
  epoch raise(lease_id id);
  /// An epoch for fencing a shard that nobody is to hold.
  epoch next_epoch();

  /// Adopts a lease that storage reports to a new manager.
  void adopt(const lease_grant& x, boot_time until);

  /// What a holder has on one tier that could be renewed: granted, and not being revoked.
  struct renewable {
    std::string tier;
    size_t leases = 0;
    /// The longest that management would give one of them.
    caf::timespan wanted{0};
  };
  /// Of each tier on which it has any.
  std::vector<renewable> renewable_of(holder_id holder) const;
  /// On that one; what else the holder has takes no time.
  renewable renewable_on(holder_id holder, const std::string& tier) const;
  /// Which of them storage there is to know of: granted and not asked back.
  std::vector<lease_id> recorded_on(holder_id holder, const std::string& tier) const;
  /// Who has any of these there.
  std::vector<holder_id> holders_on(const std::string& tier) const;
  /// How a renewal went.
  struct renewed {
    size_t leases = 0;
    /// The shortest.
    caf::timespan term = caf::timespan::max();
    /// Those whose limit has changed.
    std::vector<lease_id> changed;
    /// Runs that were asked back: not renewed, and their holder must not think so.
    size_t held_back = 0;
  };
  /// Renews what a holder has on a tier, for what storage accepts (`term`, `limit`) at most; contended shards for
  /// `short_term`. An empty name: the runs of absent shards, which no tier knows of.
  renewed renew(holder_id holder, const std::string& tier, boot_time now, const terms& accepted,
                caf::timespan short_term, caf::timespan drift_bound);
  /// Others have asked for the shard: until then its leases are short. Bounded; the oldest are forgotten.
  void contend(shard_id id, boot_time until);
  bool contended(shard_id id, boot_time now) const;
  /// From write to read, under the same epoch.
  void lower(lease_id id);
  void revoking(lease_id id);
  void lowering(lease_id id);
  /// Ends a lease. `clean`: its holder has said that it uses it no more.
  void end(lease_id id, bool clean);
  /// The home has changed, under the same lease and epoch.
  void moved(const shard_home& home);

  const lease_row* find(lease_id id) const;
  bool holds(holder_id holder) const { return holders_.count(holder) != 0; }
  /// Of whoever holds any part of the range.
  std::vector<lease_id> overlapping(shard_id first, uint64_t count) const;
  std::vector<lease_id> of_holder(holder_id holder) const;
  /// The holder's leases within the range: shards in it, and runs that lie wholly in it. Count 0: all of the volume.
  std::vector<lease_id> of_holder(holder_id holder, shard_id first, uint64_t count) const;
  /// Of one volume; volume 0: of all.
  std::vector<lease_id> of_volume(volume_id volume) const;
  lease_grant grant(lease_id id) const;
  size_t size() const noexcept { return rows_.size(); }
  uint64_t incarnation() const noexcept { return incarnation_; }

  /// Throws std::logic_error where two leases stand side by side that must not, or the indexes disagree (for tests).
  void check() const;

private:
  /// What one holder has of one volume: neither map's ranges overlap. A shard that was made inside a run is in both,
  /// and its own lease counts.
  struct holding {
    std::map<shard_index, lease_id> shards, runs;
  };
  /// What one holder has at all. Its leases are renewed tier by tier, and may lie on a thousand.
  struct holder_row {
    std::set<volume_id> volumes;
    std::set<std::pair<uint32_t, lease_id>> by_tier;
  };

  template <class F>
  void each_overlapping(shard_id first, uint64_t count, F f) const;
  lease_row& make(holder_id holder, shard_id first, uint64_t count, generation of);
  void erase(lease_id id);
  void place(lease_row& row, uint32_t tier);
  /// Each row of a holder's on a tier, as `row.tier` numbers it.
  template <class F>
  void each_on(holder_id holder, uint32_t tier, F f) const;
  std::vector<lease_id> conflicts(holder_id holder, shard_id first, uint64_t count, lease_mode mode) const;

  uint64_t incarnation_;
  uint64_t epochs_ = 0;
  uint64_t ids_ = 0;
  std::unordered_map<lease_id, lease_row> rows_;
  std::map<volume_id, std::map<holder_id, holding>> holdings_;
  std::map<holder_id, holder_row> holders_;
  /// Shards whose next grant needs a new epoch, until storage has agreed to one; which it is to be, once chosen.
  std::unordered_map<shard_id, epoch> unclean_;
  /// Of which nobody who is not known here can be left.
  std::unordered_set<shard_id> certain_;
  std::unordered_map<shard_id, boot_time> contended_;
  tier_names tiers_;
};

} // namespace varve
