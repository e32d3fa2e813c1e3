#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>

#include "actors/management/lease.hpp"
#include "actors/management/lease_table.hpp"
#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

/// The interface, what leases report, and what the actor says to itself: ask a run's holder again; start (again) an
/// inventory; look whether a tier has come back; the time of an acquisition is over; its pieces are tried again.
using lease_manager_self =
  lease_manager_actor::extend<caf::reacts_to<atom::expire, lease_id>, caf::reacts_to<atom::release, lease_id, bool>,
                              caf::reacts_to<atom::revoke, lease_id>, caf::reacts_to<atom::tick>,
                              caf::reacts_to<atom::verify>, caf::reacts_to<atom::stop, uint64_t>,
                              caf::reacts_to<atom::resume, uint64_t>>::extend_with<inspected_actor>;

/// Grants leases by the rules of lease_table, in agreement with storage.
///
///   acquire ─▶ volume.locate / create ─▶ table ─┬─ free ──▶ tier.fence ─▶ agreed ─▶ a lease actor ─▶ granted
///                                               └─ held ──▶ lease.revoke ─▶ given back, or fenced after the grace ─▶
///                                               again
///
/// A new manager takes a higher incarnation, then asks every tier for the leases outstanding and takes each for its
/// full term from now. Leases of absent shards are not known to storage: so for one full term only the holder that the
/// catalog records for a volume may be granted anything of it.
class lease_manager_state {
public:
  static inline const char* name = "varve.lease-manager";
  explicit lease_manager_state(lease_manager_self::pointer self) : self_(self) {}
  lease_manager_self::behavior_type make_behavior(context_ptr context);

private:
  /// In place of an acquisition's number: those that wait, by `wake_soon`.
  static constexpr uint64_t woken_soon = UINT64_MAX;

  /// One shard, or one run of absent ones, of an acquisition.
  struct piece {
    enum class state : uint8_t { working, waiting, granted, failed };
    shard_home home;
    uint64_t count = 1;
    state at = state::working;
    /// Counts steps: an answer to an older one is ignored.
    uint64_t step = 0;
    unsigned attempts = 0;
    lease_id lease;
    errc refused = errc::none;
    std::string why;
    /// Storage did not have the shard where its home was then.
    bool missing = false;
  };

  struct acquisition {
    lease_request request;
    lease_holder_actor holder;
    caf::typed_response_promise<std::vector<lease_grant>> promise;
    caf::timespan term{0};
    uint64_t shard_size = 0;
    /// Something has ended since it began to wait.
    bool again = false;
    std::vector<piece> pieces;
  };

  struct eviction {
    shard_id shard;
    std::set<lease_id> open;
    caf::typed_response_promise<void> promise;
  };

  /// Ends with the manager, whatever its end: outlives the state in a functor attached to the actor.
  struct living {
    std::unordered_map<lease_id, caf::strong_actor_ptr> actors;
  };

  // Starting (lease_manager.cpp).
  void take_over();
  void take_inventory(const std::string& tier);
  void ask_again();
  bool ready() const;

  // The interface.
  caf::typed_response_promise<std::vector<lease_grant>> acquire(lease_request& request, lease_holder_actor& holder);
  caf::result<lease_renewal> renew(holder_id holder);
  void release(holder_id holder, shard_id first, uint64_t count);
  caf::typed_response_promise<void> evict(shard_id shard);
  void refresh(const shard_home& home);
  std::vector<lease_info> list(volume_id volume) const;
  actor_facts facts() const;

  // Acquiring, step by step (lease_acquisition.cpp); each finds its acquisition, and its piece by step.
  void begin(uint64_t id);
  void locate(uint64_t id, bool attached_holder);
  void divide(uint64_t id, const shard_map_part& part);
  void advance(uint64_t id, size_t i);
  void create(uint64_t id, size_t i);
  void claim(uint64_t id, size_t i);
  void fence(uint64_t id, size_t i);
  void fenced(uint64_t id, size_t i, const lease_grant& agreed);
  void fence_failed(uint64_t id, size_t i, const caf::error& e);
  void relocate(uint64_t id, size_t i);
  bool is_volatile(const std::string& tier) const;
  /// A volatile shard that went with the last process begins anew, as holes.
  void make_again(uint64_t id, size_t i);
  void fail(uint64_t id, size_t i, errc code, std::string why);
  void settle(uint64_t id);
  void finish(uint64_t id, caf::error refused);
  void time_over(uint64_t id);
  piece* find_piece(uint64_t id, size_t i, uint64_t step);

  // Leases.
  void start_lease(lease_id id);
  void revoke(lease_id id);
  void revoked(lease_id id, bool clean);
  void expired(lease_id id);
  void end(lease_id id, bool clean);
  void lease_down(const caf::down_msg& x);
  void evicted(uint64_t id);
  void wake_waiting();
  void wake_later();
  /// After a while: for what cannot be had at the moment.
  void wake_soon();
  /// A tier, in this life of its actor, has recorded a lease of a holder.
  void recorded(const lease_grant& x, const caf::actor_addr& tier);
  /// Tells a tier again what a holder has there.
  void record_again(holder_id holder, const std::string& tier_name, const tier_actor& tier);
  void changed(holder_id holder) { revisions_[holder] = ++changes_; }
  lease_holder_actor handle_of(const lease_row& x) const;
  /// Who is meant by a holder that was learnt from storage: then its lease is revoked.
  void find_host(lease_id id);
  /// Of what acquires ask for anyway.
  void attached_at(const volume_record& record);
  /// Tells tiers that were started again of this manager, and of the leases there.
  void look_for_tiers();

  lease_manager_self::pointer self_;
  context_ptr context_;
  lease_table table_;
  uint64_t incarnation_ = 0;
  std::set<std::string> inventory_open_;
  /// Of these, those that have been asked and not answered yet.
  std::set<std::string> inventory_asked_;
  /// Until then unknown leases may be outstanding.
  boot_time unknown_until_{0};
  /// How long requests wait for a tier's inventory; then they are refused shard by shard.
  boot_time wait_until_{0};
  std::map<uint64_t, acquisition> acquisitions_;
  std::map<uint64_t, eviction> evictions_;
  uint64_t next_ = 0;
  uint64_t steps_ = 0;
  bool waking_ = false, waking_soon_ = false;
  std::map<holder_id, lease_holder_actor> handles_;
  /// Where the holders are attached, as far as it was asked; empty: nowhere.
  std::map<holder_id, std::string> hosts_;
  /// Which life of each tier's actor has heard of this manager.
  std::map<std::string, caf::actor_addr> heard_by_;
  bool asking_again_ = false;
  std::map<holder_id, uint64_t> revisions_;
  /// Which life of a tier was told of all that a holder has there: one started since has forgotten it.
  std::map<holder_id, std::map<std::string, caf::actor_addr>> recorded_by_;
  uint64_t changes_ = 0;
  std::shared_ptr<living> living_;
  std::map<caf::actor_addr, lease_id> by_actor_;
};

lease_manager_self::behavior_type lease_manager(lease_manager_self::stateful_pointer<lease_manager_state> self,
                                                context_ptr context);

} // namespace varve
