#pragma once

#include <cstdint>
#include <string>

#include "messages/errors.hpp"
#include "messages/migration.hpp"

namespace varve {

/// What a migration does next. "note" journals a state in the catalog; what follows it is what that state allows.
///
///   load ─▶ reserve ─▶ acquire ─▶ note_copying ─▶ begin ─▶ copy ─▶ note_catching_up ─▶ catch_up ─▶ note_switching
///    │                                                                                                   │
///    ├─ switching was journalled ─▶ begin_again ─────────────────────────────────────────────────────────▶ switching
///    ├─ committed, aborted: carried out again ─▶ end_committed, end_aborted                              │ gate closed
///    ▼                                                                                                   ▼
///   over ◀─ note_ended ◀─┬─ end_committed ◀──────────────────────────────────────────────────── note_committed
///                        └─ end_aborted ◀─ note_aborted ◀─ any refusal before the commit
enum class migration_phase : uint8_t {
  load,
  reserve,
  acquire,
  note_copying,
  begin,
  copy,
  note_catching_up,
  catch_up,
  note_switching,
  begin_again,
  switching,
  note_committed,
  end_committed,
  note_aborted,
  end_aborted,
  note_ended,
  over,
};

const char* to_string(migration_phase x) noexcept;

/// How the act of a phase went.
struct migration_event {
  enum class kind : uint8_t {
    done,
    failed,
    /// By request; takes effect when the act under way has ended.
    cancel,
    pause,
    resume,
  };
  kind what = kind::done;
  /// failed: why.
  errc code = errc::none;
  std::string context;
  /// load: what the journal says, and whether all has been done that follows from it.
  migration_state state = migration_state::planned;
  bool ended = false;
  /// copy, catch_up: the round.
  uint64_t changed_bytes = 0, remaining_bytes = 0;
  bool shrinking = true;
};

struct migration_limits {
  /// So much may be left for when the gate is closed.
  uint64_t switch_bytes_max = 256ull << 10;
  /// In a row, of what may go better next time (errc::unavailable, timed_out, lease_held, conflict).
  unsigned attempts_max = 8;
};

/// Where a migration stands.
struct migration_plan {
  migration_phase phase = migration_phase::load;
  /// Of the present act: failures in a row; the actor waits longer after each.
  unsigned attempts = 0;
  /// Whether `switch_move` was called by this plan, so that the gate may be closed.
  bool switched = false;
  bool cancelled = false;
  /// Nothing is done in `copy` and `catch_up` while it is set.
  bool paused = false;
  /// Commits of the journal that were not taken, in a row.
  unsigned journal_failures = 0;
  /// Why it is aborted.
  errc reason = errc::none;
  std::string reason_context;

  /// Whether `cancel` and `pause` would still be heard.
  bool can_cancel() const noexcept { return phase < migration_phase::note_switching && !switched; }
};

/// The rules of a migration: before the commit every refusal ends at the source, after it everything ends at the
/// destination, and what the catalog says about the commit is never guessed.
migration_plan next(migration_plan plan, const migration_event& event, const migration_limits& limits);

} // namespace varve
