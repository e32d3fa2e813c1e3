#pragma once

#include <optional>
#include <vector>

#include <caf/typed_event_based_actor.hpp>

#include "actors/migration/migration_meter.hpp"
#include "actors/migration/migration_plan.hpp"
#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

/// Told how far a migration is, whenever that has changed.
using migration_watcher_actor = caf::typed_actor<caf::reacts_to<atom::publish, migration_progress>>;

/// One move of one shard. Child of the migration_supervisor, whom it tells of its progress. A revoke of its lease is
/// answered when it is over; it cancels the move unless it is switching.
using migration_actor = lease_holder_actor::extend<
  // errc::conflict when it is switching or over.
  caf::replies_to<atom::cancel>::with<migration_progress>, caf::replies_to<atom::pause>::with<migration_progress>,
  caf::replies_to<atom::resume>::with<migration_progress>>;

using migration_self = migration_actor::extend<
  // Timers: the next try of an act (round), the keep-alive.
  caf::reacts_to<atom::tick, uint64_t>, caf::reacts_to<atom::renew>,
  caf::reacts_to<returned>>::extend_with<inspected_actor>;

/// Carries a migration_plan out: does the act of each phase (the data plane's by the mover of the source's node) and
/// tells the plan how it went. It begins by reading its own journal, so it may die and be started again at any time.
class migration_actor_state {
public:
  static inline const char* name = "varve.migration";
  explicit migration_actor_state(migration_self::pointer self) : self_(self) {}
  migration_self::behavior_type make_behavior(context_ptr context, migration_id id, mover_term term, bool paused);

private:
  caf::result<migration_progress> cancel();
  caf::result<migration_progress> pause();
  caf::result<migration_progress> resume();
  caf::typed_response_promise<void> revoke();

  /// Does what the plan's phase says.
  void act();
  void step(const migration_event& event);
  void failed(errc code, std::string context);
  void failed(const caf::error& e);
  void missing(const std::string& path);

  void load();
  void reserve();
  void acquire();
  void note(migration_state state);
  void note_ended();
  void begin_move();
  void copy();
  void switch_over();
  void end_move(bool committed);
  void over();
  void renew();
  void tell();
  migration_progress progress() const;
  actor_facts facts() const;
  /// Asks the mover of the node on which the source is; `done` with its answer. A node that is lost is a failure at
  /// once: what it still answers is not listened to.
  template <class Answer, class F, class... Ts>
  void ask_mover(F done, Ts... what);
  void on_down(const caf::down_msg& x);
  move_ends ends() const;
  holder_id holder() const;

  migration_self::pointer self_;
  context_ptr context_;
  migration_limits limits_;
  migration_record record_;
  mover_term term_;
  caf::actor_addr mover_;
  /// Which question to the mover waits for its answer; 0: none.
  uint64_t asking_ = 0;
  uint64_t asked_ = 0;
  migration_plan plan_;
  std::optional<migration_meter> meter_;
  /// Timers of an earlier act are ignored.
  uint64_t round_ = 0;
  /// Nothing is done because of a pause; `resume` goes on.
  bool standing_ = false;
  bool leased_ = false;
  bool renewing_ = false;
  bool mirroring_ = false;
  epoch fence_;
  uint64_t blocks_verified_ = 0;
  uint64_t verify_failures_ = 0;
  std::chrono::nanoseconds gate_closed_{0};
  std::string last_error_;
  std::vector<caf::typed_response_promise<void>> waiting_for_end_;
};

migration_self::behavior_type migration(migration_self::stateful_pointer<migration_actor_state> self,
                                        context_ptr context, migration_id id, mover_term term, bool paused);

/// The holder of a migration's lease: never that of an attachment.
holder_id holder_of(migration_id id);

} // namespace varve
