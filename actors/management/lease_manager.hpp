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
#include "runtime/caf/answers_due.hpp"

namespace varve {

/// The interface, what leases report, and what the actor says to itself: ask a run's holder again; start (again) an
/// inventory; look whether a tier has come back; the time of leases, of an acquisition, or of a renewal is over; its
/// pieces are tried again.
using lease_manager_self =
  lease_manager_actor::extend<caf::reacts_to<atom::expire>, caf::reacts_to<atom::release, lease_id, bool>,
                              caf::reacts_to<atom::change, lease_id, bool>, caf::reacts_to<atom::renew, uint64_t>,
                              caf::reacts_to<atom::revoke, lease_id>, caf::reacts_to<atom::tick>,
                              caf::reacts_to<atom::verify>, caf::reacts_to<atom::stop>, caf::reacts_to<atom::cancel>,
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
    /// Until then it may wait.
    boot_time until{0};
    caf::timespan term{0};
    term_limit limit = term_limit::none;
    uint64_t shard_size = 0;
    /// Only of what the holder has already, and exists: a change of mode.
    bool held_only = false;
    /// Something has ended since it began to wait.
    bool again = false;
    std::vector<piece> pieces;
  };

  /// A holder's keep-alive, while its tiers are asked.
  struct renewing {
    holder_id holder;
    caf::typed_response_promise<lease_renewal> promise;
    /// Tiers that have not answered.
    std::set<std::string> open;
    std::vector<lease_gap> gaps;
    size_t renewed = 0;
    caf::timespan term = caf::timespan::max();
  };

  /// One question to a tier is under way at a time; the next takes all that has come meanwhile.
  struct renewal_queue {
    bool asked = false;
    std::vector<uint64_t> waiting;
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
  /// Storage was asked by a manager of a higher number.
  void refused(const caf::error& e);
  bool ready() const;
  /// Under the number under which it began. One that was stopped for a while may not have been told yet that another
  /// leads: it must neither grant nor end anything.
  bool leads() const;

  // The interface.
  caf::typed_response_promise<std::vector<lease_grant>> acquire(lease_request& request, lease_holder_actor& holder);
  caf::result<std::vector<lease_grant>> change(lease_request& request);
  caf::typed_response_promise<lease_renewal> renew(holder_id holder);
  void release(holder_id holder, shard_id first, uint64_t count);
  caf::typed_response_promise<void> evict(shard_id shard);
  void refresh(const shard_home& home);
  std::vector<lease_info> list(volume_id volume) const;
  lease_history history(uint64_t after, uint64_t limit) const;
  actor_facts facts() const;

  // Renewing (lease_renewal.cpp).
  void ask_renewals(const std::string& tier);
  void tier_renewed(const std::string& tier, const std::vector<uint64_t>& ids, const std::vector<renewal_terms>& terms);
  void tier_failed(const std::string& tier, const std::vector<uint64_t>& ids, const caf::error& e);
  /// A part of a renewal is answered, or (with `why`) is not.
  void settle_renewal(uint64_t id, const std::string& tier, const std::string& why);
  void renewal_time_over(uint64_t id);
  void finish_renewal(uint64_t id);
  /// Tells a tier again what a holder has there.
  void record_again(holder_id holder, const std::string& tier);

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
  /// A tier of which not all that is outstanding is known.
  bool is_doubtful(const std::string& tier) const;
  bool is_volatile(const std::string& tier) const;
  /// A volatile shard that went with the last process begins anew, as holes.
  void make_again(uint64_t id, size_t i);
  void fail(uint64_t id, size_t i, errc code, std::string why);
  void settle(uint64_t id);
  void finish(uint64_t id, caf::error refused);
  void time_over(uint64_t id);
  /// Ends those whose time is over, and waits for the next: one timer for all, since all may wait as long.
  void look_at_time();
  piece* find_piece(uint64_t id, size_t i, uint64_t step);
  /// That an answer comes in time: what to give to `due_` when it has come.
  uint64_t expect(caf::message_id answer);
  /// Answers in the place of those who were asked and whose time is over; one timer for all.
  void look_at_answers();

  // Leases.
  /// One that there is already goes on.
  void begin_lease(lease_id id);
  void start_lease(lease_id id);
  void stop_lease(lease_id id, const caf::strong_actor_ptr& actor);
  void end_when(boot_time until, lease_id id);
  /// Ends those whose time is over, and waits for the next.
  void look_at_leases();
  void revoke(lease_id id);
  /// Asks the holder to go on with reading only, so that others may read, too.
  void lower(lease_id id);
  void ask_to_lower(lease_id id);
  void lowered(lease_id id, bool clean);
  void revoked(lease_id id, bool clean);
  void expired(lease_id id);
  void end(lease_id id, bool clean);
  void lease_down(const caf::down_msg& x);
  void evicted(uint64_t id);
  void wake_waiting();
  void wake_later();
  /// After a while: for what cannot be had at the moment.
  void wake_soon();
  /// For `lease watch`.
  void note(lease_change what, lease_grant grant, std::string why = {});
  /// A lease of this holder has ended without its word.
  void lost(holder_id holder) { revisions_[holder] = ++losses_; }
  uint64_t revision_of(holder_id holder) const;
  lease_holder_actor handle_of(const lease_row& x) const;
  /// Whether the holder was learnt from storage, and nobody has said yet where it is.
  bool is_unknown(const lease_row& x) const;
  /// Then its lease is revoked, or lowered.
  void find_host(lease_id id, bool to_read);
  /// Of what acquires ask for anyway.
  void attached_at(const volume_record& record);
  /// Tells tiers that were started again of this manager, and of the leases there.
  void look_for_tiers();

  lease_manager_self::pointer self_;
  context_ptr context_;
  lease_table table_;
  uint64_t incarnation_ = 0;
  /// Under which number the node led when this manager started: it must end before another one may.
  uint64_t led_as_ = 0;
  /// Storage has refused an incarnation of it.
  bool refused_ = false;
  std::set<std::string> inventory_open_;
  /// Of these, those that have been asked and not answered yet.
  std::set<std::string> inventory_asked_;
  /// Those that did not know all that was outstanding when they were asked; until `unknown_until_`.
  std::set<std::string> doubtful_;
  /// Until then unknown leases may be outstanding.
  boot_time unknown_until_{0};
  /// How long requests wait for a tier's inventory; then they are refused shard by shard.
  boot_time wait_until_{0};
  std::map<uint64_t, acquisition> acquisitions_;
  std::map<uint64_t, eviction> evictions_;
  uint64_t next_ = 0;
  uint64_t steps_ = 0;
  bool waking_ = false, waking_soon_ = false;
  bool timing_ = false;
  answers_due due_;
  bool answers_timed_ = false;
  std::map<holder_id, lease_holder_actor> handles_;
  /// Where the holders are attached, as far as it was asked; empty: nowhere.
  std::map<holder_id, std::string> hosts_;
  /// Which life of each tier's actor has heard of this manager.
  std::map<std::string, caf::actor_addr> heard_by_;
  bool asking_again_ = false;
  /// Of holders that have leases; of any other it is `revision_of_others_`, which is not below what it ever was.
  std::map<holder_id, uint64_t> revisions_;
  uint64_t revision_of_others_ = 0;
  std::map<uint64_t, renewing> renewals_;
  std::map<std::string, renewal_queue> renewal_queues_;
  /// The latest; bounded.
  std::deque<lease_event> history_;
  uint64_t happened_ = 0;
  uint64_t losses_ = 0;
  std::shared_ptr<living> living_;
  /// When to look at which lease: each stands here once, for a time that renewals may have put off since. Not a timer
  /// for each: it would take as much memory as the lease has besides.
  std::map<boot_time, std::vector<lease_id>> ends_;
  /// When look_at_leases is called next; max: not.
  boot_time looks_at_ = boot_time::max();
};

lease_manager_self::behavior_type lease_manager(lease_manager_self::stateful_pointer<lease_manager_state> self,
                                                context_ptr context);

} // namespace varve
