#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <caf/typed_event_based_actor.hpp>

#include "actors/migration/migration.hpp"
#include "actors/node_context.hpp"
#include "actors/storage/tier.hpp"
#include "actors/supervision/children.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using migration_supervisor_self = migration_supervisor_actor::extend<
  // A migration tells how far it is.
  caf::reacts_to<atom::publish, migration_progress>,
  // Takes a term, then reads the journal: (attempts so far). Looks for tiers that have come (back). Looks through the
  // tiers for what lost migrations left behind: (tier).
  caf::reacts_to<atom::open, uint64_t>, caf::reacts_to<atom::tick>, caf::reacts_to<atom::verify, std::string>,
  VARVE_SUPERVISOR_MESSAGES>::extend_with<inspected_actor>;

/// Starts migrations, a few at a time, and knows of all that are not over: after a restart from the journal. Clears up
/// sinks that no migration fills any more.
class migration_supervisor_state {
public:
  static inline const char* name = "varve.migration-supervisor";
  explicit migration_supervisor_state(migration_supervisor_self::pointer self) : self_(self) {}
  migration_supervisor_self::behavior_type make_behavior(context_ptr context);

private:
  /// A start under way: what has been asked and found so far.
  struct starting;
  using starting_ptr = std::shared_ptr<starting>;
  using ids_promise = caf::typed_response_promise<std::vector<migration_id>>;
  using progress_promise = caf::typed_response_promise<migration_progress>;

  /// One that is not over.
  struct row {
    migration_progress progress;
    bool running = false;
    /// Of those that `running_max` bounds: not what has to open a gate, nor what only waits for a lost node to clear
    /// up.
    bool counted = false;
    /// Why it stands until the node's next start: its source is on a tier that is not served, and only there it is
    /// known whether the source is sealed.
    std::string held;
  };

  ids_promise start(const migration_spec& spec);
  progress_promise cancel(migration_id id);
  progress_promise pause(migration_id id);
  progress_promise resume(migration_id id);
  std::vector<migration_progress> list() const;
  void publish(const migration_progress& x);
  actor_facts facts() const;

  // The steps of a start, in order.
  void check_tier(starting_ptr x);
  void open_volume(starting_ptr x);
  void locate(starting_ptr x, uint64_t from);
  void measure(starting_ptr x);
  void reserve(starting_ptr x);
  void number(starting_ptr x);
  void journal(starting_ptr x);
  void journalled(starting_ptr x);
  void refuse(starting_ptr x, const caf::error& e);

  void take_term(uint64_t attempts);
  void read_journal(uint64_t attempts);
  void read_journal_after(const std::string& after, uint64_t attempts);
  bool served(const std::string& tier) const;
  void add(const migration_record& record);
  void run_more();
  void run(migration_id id, row& x);
  void finish(migration_id id);
  void prune();

  // Clearing up, tier by tier, whenever one has come (back).
  struct sweep_order {
    std::string tier;
    uint64_t attempts = 0;
    /// The volumes that could not answer last time; empty: all.
    std::set<volume_id> only;
  };
  struct sweeping;
  using sweeping_ptr = std::shared_ptr<sweeping>;
  void look_for_tiers();
  void sweep_more();
  void sweep_later(sweep_order order);
  void sweep_postponed(const std::string& tier);
  void sweep(sweep_order order);
  /// A question of a sweep has been answered; or what a volume was asked has not.
  void answered(const sweeping_ptr& x);
  void not_answered(const sweeping_ptr& x, volume_id volume);
  using found_ptr = std::shared_ptr<const std::vector<found_shard>>;
  void sweep_volume(const sweeping_ptr& x, volume_id volume, found_ptr found);
  /// From one of `found` on, some at a time.
  void sweep_some(const sweeping_ptr& x, volume_id volume, found_ptr found, size_t from);
  /// `now`: its home by the catalog; null: none.
  void compare(const std::string& tier, const found_shard& x, const shard_home* now);
  void unknown(const std::string& tier, const found_shard& x);
  void remove_leftover(const std::string& tier, const found_shard& x);

  template <class T, class F>
  void ask_child(migration_id id, progress_promise promise, T verb, F when_waiting);
  std::string child_path(migration_id id) const;
  /// The actor under a path, or the refusal is called.
  template <class Handle>
  Handle find(const starting_ptr& x, const std::string& path);

  migration_supervisor_self::pointer self_;
  context_ptr context_;
  std::optional<children> children_;
  /// The journal has been read: before that nothing is started.
  bool ready_ = false;
  std::map<migration_id, row> rows_;
  /// Under which the movers are commanded: higher than that of any supervisor before.
  mover_term term_;
  /// Those that wait for others to end, in order; first those of which a gate may be closed.
  std::deque<migration_id> waiting_;
  /// The latest that ended; bounded.
  std::deque<migration_progress> ended_;
  /// Shards that a migration, a start or the clearing up is busy with.
  std::set<shard_id> busy_;
  /// Which life of each tier was cleared up last; one that appears later may have been away while shards moved.
  std::map<std::string, caf::actor_addr> swept_;
  /// What waits its turn, what waits for another try, and how many are under way.
  std::deque<sweep_order> to_sweep_;
  std::map<std::string, sweep_order> postponed_;
  size_t sweeping_ = 0;
  size_t running_ = 0;
};

migration_supervisor_self::behavior_type
migration_supervisor(migration_supervisor_self::stateful_pointer<migration_supervisor_state> self, context_ptr context);

} // namespace varve
