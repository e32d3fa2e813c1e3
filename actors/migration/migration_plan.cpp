#include "actors/migration/migration_plan.hpp"

#include <iterator>

namespace varve {

namespace {

using phase = migration_phase;

void go(migration_plan& plan, phase to) {
  plan.phase = to;
  plan.attempts = 0;
}

void abort(migration_plan& plan, errc reason, std::string context) {
  plan.reason = reason;
  plan.reason_context = std::move(context);
  go(plan, phase::note_aborted);
}

bool is_note(phase x) {
  return x == phase::note_copying || x == phase::note_catching_up || x == phase::note_switching ||
         x == phase::note_committed || x == phase::note_aborted;
}

bool may_go_better(errc code) {
  return code == errc::unavailable || code == errc::timed_out || code == errc::lease_held || code == errc::conflict ||
         code == errc::stale_epoch;
}

void loaded(migration_plan& plan, const migration_event& event, const migration_limits& limits) {
  if (event.state == migration_state::committed) {
    go(plan, event.ended ? phase::over : phase::end_committed);
  } else if (event.state == migration_state::aborted) {
    go(plan, event.ended ? phase::over : phase::end_aborted);
  } else if (plan.reason != errc::none) {
    // Given up, and the journal did not take it. It will not be committed by anyone else, so that the source may go on
    // even if the journal never takes it; a restart would then begin anew.
    go(plan, plan.journal_failures > limits.attempts_max ? phase::end_aborted : phase::note_aborted);
  } else if (plan.journal_failures > limits.attempts_max) {
    abort(plan, errc::unavailable, "the catalog did not take the journal");
  } else if (event.state == migration_state::switching) {
    // Not committed, says the one truth. With the gate closed by us the commit is tried again; what was done before
    // our time the data plane finds out.
    go(plan, plan.switched ? phase::note_committed : phase::begin_again);
  } else {
    go(plan, phase::reserve);
  }
}

void done(migration_plan& plan, const migration_event& event, const migration_limits& limits) {
  switch (plan.phase) {
  case phase::load: loaded(plan, event, limits); break;
  case phase::reserve: go(plan, phase::acquire); break;
  case phase::acquire: go(plan, phase::note_copying); break;
  case phase::note_copying: go(plan, phase::begin); break;
  case phase::begin: go(plan, phase::copy); break;
  case phase::copy:
    plan.attempts = 0;
    // The first pass is over when only what changed meanwhile is left.
    if (event.remaining_bytes <= event.changed_bytes)
      go(plan, phase::note_catching_up);
    break;
  case phase::note_catching_up: go(plan, phase::catch_up); break;
  case phase::catch_up:
    plan.attempts = 0;
    if (event.remaining_bytes <= limits.switch_bytes_max || !event.shrinking)
      go(plan, phase::note_switching);
    break;
  case phase::note_switching:
  case phase::begin_again:
    // Before the call: from here on only the catalog may say how it ended.
    plan.switched = true;
    go(plan, phase::switching);
    break;
  case phase::switching: go(plan, phase::note_committed); break;
  case phase::note_committed: go(plan, phase::end_committed); break;
  case phase::note_aborted: go(plan, phase::end_aborted); break;
  case phase::end_committed:
  case phase::end_aborted: go(plan, phase::note_ended); break;
  case phase::note_ended: go(plan, phase::over); break;
  case phase::over: break;
  }
}

void failed(migration_plan& plan, const migration_event& event, const migration_limits& limits) {
  ++plan.attempts;
  const bool bounded_out = plan.attempts > limits.attempts_max || !may_go_better(event.code);
  switch (plan.phase) {
  case phase::load:
    // Removed with its volume, or never journalled; of anything else only the catalog can say.
    if (event.code == errc::not_found)
      go(plan, plan.switched || plan.reason != errc::none ? phase::end_aborted : phase::over);
    break;
  case phase::reserve:
  case phase::acquire:
  case phase::begin:
  case phase::begin_again:
    if (bounded_out)
      abort(plan, event.code, event.context);
    break;
  case phase::copy:
  case phase::catch_up:
    if (bounded_out)
      abort(plan, event.code, event.context);
    else
      plan.phase = phase::begin; // the notes of what changed may be lost: it compares checksum tables
    break;
  case phase::switching:
    // It has opened the gate again. What came in between is copied once more.
    if (bounded_out)
      abort(plan, event.code, event.context);
    break;
  case phase::note_copying:
  case phase::note_catching_up:
  case phase::note_switching:
  case phase::note_committed:
  case phase::note_aborted:
    // Perhaps it was journalled after all, and perhaps somebody else knew better.
    ++plan.journal_failures;
    plan.phase = phase::load;
    break;
  case phase::end_committed:
  case phase::end_aborted: break; // the gate must be opened: again, for ever
  case phase::note_ended:
    if (bounded_out)
      go(plan, phase::over); // the next start does it again
    break;
  case phase::over: break;
  }
}

} // namespace

migration_plan next(migration_plan plan, const migration_event& event, const migration_limits& limits) {
  switch (event.what) {
  case migration_event::kind::done:
    if (is_note(plan.phase))
      plan.journal_failures = 0;
    done(plan, event, limits);
    break;
  case migration_event::kind::failed: failed(plan, event, limits); break;
  case migration_event::kind::cancel: plan.cancelled = true; return plan;
  case migration_event::kind::pause: plan.paused = true; return plan;
  case migration_event::kind::resume: plan.paused = false; return plan;
  }
  // Between two acts, so that nothing of the data plane's is under way when the sink is thrown away.
  if (plan.cancelled && plan.can_cancel() && plan.phase != phase::load && plan.reason == errc::none)
    abort(plan, errc::cancelled, event.context.empty() ? "by request" : event.context);
  return plan;
}

const char* to_string(migration_phase x) noexcept {
  constexpr const char* names[] = {"load",
                                   "reserve",
                                   "acquire",
                                   "note_copying",
                                   "begin",
                                   "copy",
                                   "note_catching_up",
                                   "catch_up",
                                   "note_switching",
                                   "begin_again",
                                   "switching",
                                   "note_committed",
                                   "end_committed",
                                   "note_aborted",
                                   "end_aborted",
                                   "note_ended",
                                   "over"};
  return static_cast<size_t>(x) < std::size(names) ? names[static_cast<size_t>(x)] : "unknown";
}

} // namespace varve
