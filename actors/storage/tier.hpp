#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <caf/typed_event_based_actor.hpp>

#include "actors/node_context.hpp"
#include "actors/storage/shard_keeper.hpp"
#include "actors/storage/term_rule.hpp"
#include "actors/storage/tier_ledger.hpp"
#include "actors/supervision/children.hpp"
#include "messages/interfaces.hpp"
#include "messages/stock.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

/// What whoever clears up after lost migrations asks a tier: the shards that it has now, complete or not.
/// errc::unavailable until the tier's folder has been read.
using tier_stock_actor = caf::typed_actor<caf::replies_to<atom::list>::with<std::vector<found_shard>>>;

using tier_self =
  tier_actor::extend<caf::replies_to<atom::list>::with<std::vector<found_shard>>, caf::reacts_to<returned>,
                     // Once a second: measures, ends leases, passivates.
                     caf::reacts_to<atom::tick>, VARVE_SUPERVISOR_MESSAGES>::extend_with<inspected_actor>;

class tier_state {
public:
  static inline const char* name = "varve.tier";
  explicit tier_state(tier_self::pointer self) : self_(self) {}
  tier_self::behavior_type make_behavior(context_ptr context, tier_settings settings);

private:
  tier_info get() const;
  caf::typed_response_promise<shard_home> create(const shard_home& home, uint64_t size);
  caf::typed_response_promise<lease_grant> fence(const lease_grant& grant);
  caf::result<std::vector<renewal_terms>> renew(const tier_renewal& x);
  caf::typed_response_promise<tier_inventory> inventory(uint64_t incarnation);
  caf::result<void> reserve(shard_id id, uint64_t bytes);
  caf::typed_response_promise<void> remove(shard_id id, generation of);
  void publish(const shard_home& home, bool here);
  bool refused() const { return !settings_.refused.empty(); }
  /// What everything is answered with that would touch a folder that is not the tier's.
  caf::error refusal() const;
  caf::typed_response_promise<uint64_t> verify(shard_id id, generation of);
  caf::typed_response_promise<std::vector<shard_info>> list(volume_id volume);
  caf::result<std::vector<found_shard>> stock() const;
  void tick();
  actor_facts facts() const;

  tier_load load_now() const;
  /// Whether a grant can be recorded without touching the shard.
  bool needs_no_device(const lease_grant& x) const;
  /// The highest epoch of a shard that this node's log tells of.
  epoch seen(shard_id id) const;
  /// `then` once the log has it durably: errc::stale_epoch when a higher one was seen, or what failed.
  template <class F>
  void note_epoch(shard_id id, epoch to, F then);
  std::vector<shard_info> rows_of(volume_id volume) const;
  void make(const shard_home& home, uint64_t size, caf::typed_response_promise<shard_home> promise);
  /// Calls `then` after a look at the active shards that begins now or later; a data path that does not answer is not
  /// waited for beyond `patience`.
  void look(caf::timespan patience, std::function<void()> then);
  void begin_look();
  void end_patience();
  void load();
  void scanned(const tier_scan& x);
  void measured(const std::vector<shard_counters>& shards);
  void measured(const device_statistics& x);
  void adopt(const shard_home& home, uint64_t size, caf::typed_response_promise<shard_home> promise);
  void ask_fence(lease_grant grant, caf::typed_response_promise<lease_grant> promise, unsigned attempts);
  void passivate_idle();
  void noted(errc code, const std::string& what);
  shard_keeper_actor keeper(shard_id id, generation of);
  std::string keeper_path(shard_id id, generation of) const;
  void activated(shard_id id, generation of, const shard_summary_info& x);

  tier_self::pointer self_;
  context_ptr context_;
  tier_settings settings_;
  std::optional<children> children_;
  tier_ledger ledger_;
  term_rule rule_;
  bool draining_ = false;
  /// Grants that wait for the device: for the epoch log, or for their shard.
  uint64_t grants_waiting_ = 0;
  device_statistics statistics_;
  /// Counters of the active shards, for listings.
  std::map<tier_ledger::key, shard_counters> counters_;
  bool loaded_ = false;
  bool measuring_ = false;
  struct onlooker {
    boot_time patient_until{0};
    std::function<void()> then;
  };
  /// One look is under way at a time: who waits for it, and who came too late for it.
  bool looking_ = false;
  std::vector<onlooker> onlookers_, next_onlookers_;
  boot_time started_at_{0};
  /// Why the device is taken for failed; empty while it works.
  std::string problem_;
};

tier_self::behavior_type tier(tier_self::stateful_pointer<tier_state> self, context_ptr context,
                              tier_settings settings);

} // namespace varve
