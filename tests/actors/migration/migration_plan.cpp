#include "actors/migration/migration_plan.hpp"

#include <random>

#include <boost/test/unit_test.hpp>

#include "actors/migration/migration_meter.hpp"

namespace varve {

using namespace std::chrono_literals;
using phase = migration_phase;
using kind = migration_event::kind;

namespace {

const migration_limits limits{};

migration_plan at(phase x, bool switched = false) {
  migration_plan plan;
  plan.phase = x;
  plan.switched = switched;
  return plan;
}

phase after(phase x, const migration_event& event, bool switched = false) {
  return next(at(x, switched), event, limits).phase;
}

migration_event refusal(errc code) {
  return {.what = kind::failed, .code = code};
}

} // namespace

BOOST_AUTO_TEST_SUITE(migration_plan_)

BOOST_AUTO_TEST_CASE(a_move_without_trouble_goes_through_all_phases_in_order) {
  migration_plan plan;
  std::vector<phase> seen;
  while (plan.phase != phase::over) {
    seen.push_back(plan.phase);
    plan = next(plan, {}, limits);
  }
  const std::vector<phase> expected{
    phase::load,           phase::reserve,          phase::acquire,   phase::note_copying,   phase::begin,
    phase::copy,           phase::note_catching_up, phase::catch_up,  phase::note_switching, phase::switching,
    phase::note_committed, phase::end_committed,    phase::note_ended};
  BOOST_TEST((seen == expected));
}

BOOST_AUTO_TEST_CASE(copying_goes_on_until_only_changes_are_left) {
  BOOST_TEST((after(phase::copy, {.changed_bytes = 10, .remaining_bytes = 11}) == phase::copy));
  BOOST_TEST((after(phase::copy, {.changed_bytes = 10, .remaining_bytes = 10}) == phase::note_catching_up));
}

BOOST_AUTO_TEST_CASE(switching_waits_until_little_is_left_or_nothing_helps) {
  const auto much = limits.switch_bytes_max + 1;
  BOOST_TEST((after(phase::catch_up, {.changed_bytes = much, .remaining_bytes = much}) == phase::catch_up));
  BOOST_TEST((after(phase::catch_up, {.remaining_bytes = limits.switch_bytes_max}) == phase::note_switching));
  BOOST_TEST((after(phase::catch_up, {.changed_bytes = much, .remaining_bytes = much, .shrinking = false}) ==
              phase::note_switching));
}

BOOST_AUTO_TEST_CASE(what_the_journal_says_is_carried_on) {
  auto loaded = [](migration_state state, bool ended = false) {
    return after(phase::load, {.state = state, .ended = ended});
  };
  BOOST_TEST((loaded(migration_state::planned) == phase::reserve));
  BOOST_TEST((loaded(migration_state::copying) == phase::reserve));
  BOOST_TEST((loaded(migration_state::catching_up) == phase::reserve));
  BOOST_TEST((loaded(migration_state::switching) == phase::begin_again));
  BOOST_TEST((loaded(migration_state::committed) == phase::end_committed));
  BOOST_TEST((loaded(migration_state::aborted) == phase::end_aborted));
  BOOST_TEST((loaded(migration_state::committed, true) == phase::over));
  BOOST_TEST((loaded(migration_state::aborted, true) == phase::over));
  BOOST_TEST((after(phase::load, refusal(errc::not_found)) == phase::over));
  BOOST_TEST((after(phase::load, refusal(errc::unavailable)) == phase::load));
  BOOST_TEST((after(phase::begin_again, {}) == phase::switching));
}

BOOST_AUTO_TEST_CASE(every_hard_refusal_before_the_commit_aborts_and_says_why) {
  for (auto x : {phase::reserve, phase::acquire, phase::begin, phase::begin_again, phase::copy, phase::catch_up,
                 phase::switching}) {
    auto plan = next(at(x), {.what = kind::failed, .code = errc::tier_full, .context = "slow"}, limits);
    BOOST_TEST((plan.phase == phase::note_aborted), to_string(x));
    BOOST_TEST((plan.reason == errc::tier_full));
    BOOST_TEST(plan.reason_context == "slow");
  }
}

BOOST_AUTO_TEST_CASE(what_may_go_better_is_tried_again_under_a_bound) {
  for (auto x : {phase::reserve, phase::acquire, phase::begin, phase::switching}) {
    auto plan = at(x);
    for (unsigned i = 0; i < limits.attempts_max; ++i) {
      plan = next(plan, refusal(errc::unavailable), limits);
      BOOST_TEST((plan.phase == x), to_string(x));
      BOOST_TEST(plan.attempts == i + 1);
    }
    BOOST_TEST((next(plan, refusal(errc::unavailable), limits).phase == phase::note_aborted), to_string(x));
  }
  // The notes of what changed may be lost: from the beginning.
  BOOST_TEST((after(phase::copy, refusal(errc::timed_out)) == phase::begin));
}

BOOST_AUTO_TEST_CASE(a_journal_that_did_not_answer_is_read_before_anything_else) {
  for (auto x : {phase::note_copying, phase::note_catching_up, phase::note_switching, phase::note_committed,
                 phase::note_aborted})
    for (auto code : {errc::timed_out, errc::unavailable, errc::conflict, errc::not_found})
      BOOST_TEST((after(x, refusal(code), true) == phase::load), to_string(x));
}

BOOST_AUTO_TEST_CASE(a_commit_that_was_taken_after_all_is_never_aborted) {
  auto plan = at(phase::note_committed, true);
  plan = next(plan, refusal(errc::timed_out), limits);
  BOOST_TEST((next(plan, {.state = migration_state::committed}, limits).phase == phase::end_committed));
  // Nor when it was given up before that is known.
  plan.reason = errc::unavailable;
  BOOST_TEST((next(plan, {.state = migration_state::committed}, limits).phase == phase::end_committed));
}

BOOST_AUTO_TEST_CASE(a_commit_that_is_refused_again_and_again_ends_at_the_source) {
  auto plan = at(phase::note_committed, true);
  unsigned tries = 0;
  while (plan.phase == phase::note_committed || plan.phase == phase::load) {
    if (plan.phase == phase::load) {
      plan = next(plan, {.state = migration_state::switching}, limits);
    } else {
      plan = next(plan, refusal(errc::device_failed), limits);
      ++tries;
    }
  }
  BOOST_TEST((plan.phase == phase::note_aborted));
  BOOST_TEST(tries == limits.attempts_max + 1);
  // And if the journal takes not even that, the source is put back into service all the same.
  unsigned rounds = 0;
  while (plan.phase != phase::end_aborted && ++rounds < 100)
    plan = plan.phase == phase::load ? next(plan, {.state = migration_state::switching}, limits)
                                     : next(plan, refusal(errc::device_failed), limits);
  BOOST_TEST((plan.phase == phase::end_aborted));
}

BOOST_AUTO_TEST_CASE(the_gate_is_opened_however_long_it_takes) {
  for (auto x : {phase::end_committed, phase::end_aborted}) {
    auto plan = at(x, true);
    for (int i = 0; i < 1000; ++i)
      plan = next(plan, refusal(errc::device_failed), limits);
    BOOST_TEST((plan.phase == x));
    BOOST_TEST((next(plan, {}, limits).phase == phase::note_ended));
  }
}

BOOST_AUTO_TEST_CASE(a_cancel_takes_effect_between_two_acts_and_not_once_it_switches) {
  for (auto x :
       {phase::reserve, phase::acquire, phase::note_copying, phase::begin, phase::copy, phase::note_catching_up}) {
    auto plan = next(at(x), {.what = kind::cancel}, limits);
    BOOST_TEST((plan.phase == x), to_string(x)); // the act is under way
    plan = next(plan, {.remaining_bytes = ~0ull}, limits);
    BOOST_TEST((plan.phase == phase::note_aborted), to_string(x));
    BOOST_TEST((plan.reason == errc::cancelled));
  }
  for (auto x : {phase::note_switching, phase::switching, phase::note_committed, phase::end_committed,
                 phase::note_aborted, phase::end_aborted, phase::note_ended, phase::over})
    BOOST_TEST(!at(x).can_cancel(), to_string(x));
  BOOST_TEST(!at(phase::load, true).can_cancel());
  auto plan = next(at(phase::note_switching), {.what = kind::cancel}, limits);
  BOOST_TEST((next(plan, {}, limits).phase == phase::switching));
}

BOOST_AUTO_TEST_CASE(home_and_journal_agree_in_the_end_whatever_fails) {
  // Method: a model of catalog and data plane; each act fails, succeeds, or succeeds without an answer, or the actor
  // dies, from seeds. Then: over, the gate open, and the sink kept exactly when the catalog says committed.
  for (uint32_t seed = 1; seed <= 3000; ++seed) {
    std::minstd_rand random{seed};
    auto journal = migration_state::planned;
    bool ended = false, gate_closed = false, sink = false, sink_whole = false, source = true, at_destination = false;
    migration_plan plan;
    int steps = 0;
    auto die = [&] { plan = migration_plan{}; };
    while (plan.phase != phase::over) {
      BOOST_REQUIRE_MESSAGE(++steps < 10'000, "seed " << seed << " stays in " << to_string(plan.phase));
      const bool calm = steps > 200;
      const auto fate = calm ? 9u : random() % 10; // 0 fails hard, 1 fails softly, 2 done without an answer, 3 dies
      if (!calm && random() % 40 == 0)
        plan = next(plan, {.what = kind::cancel}, limits);
      if (fate == 3) {
        die();
        continue;
      }
      const auto code = fate == 0 ? errc::device_failed : errc::timed_out;
      const bool acts = fate >= 2;
      migration_event event{.what = fate >= 3 ? kind::done : kind::failed, .code = code};
      auto note = [&](migration_state to) {
        if (!acts)
          return;
        // As the volume does it: what is committed stays so.
        if (at_destination && to != migration_state::committed) {
          event = refusal(errc::conflict);
          return;
        }
        journal = to;
        at_destination = to == migration_state::committed;
      };
      switch (plan.phase) {
      case phase::load:
        event.state = journal;
        event.ended = ended;
        if (!acts || fate == 2)
          event = refusal(errc::timed_out);
        break;
      case phase::note_copying: note(migration_state::copying); break;
      case phase::note_catching_up: note(migration_state::catching_up); break;
      case phase::note_switching: note(migration_state::switching); break;
      case phase::note_committed:
        BOOST_TEST_REQUIRE(sink_whole, "seed " << seed);
        note(migration_state::committed);
        break;
      case phase::note_aborted: note(migration_state::aborted); break;
      case phase::begin:
      case phase::begin_again: sink = sink || acts; break;
      case phase::copy:
      case phase::catch_up: event.remaining_bytes = random() % 3 == 0 ? 0 : 1'000'000; break;
      case phase::switching:
        if (acts) {
          BOOST_TEST_REQUIRE(sink, "seed " << seed);
          gate_closed = sink_whole = true;
        }
        break;
      case phase::end_committed:
        BOOST_TEST_REQUIRE(at_destination, "seed " << seed << ": the source goes before the commit");
        if (acts)
          gate_closed = source = false;
        break;
      case phase::end_aborted:
        BOOST_TEST_REQUIRE(!at_destination, "seed " << seed << ": the only home goes");
        if (acts)
          gate_closed = sink = sink_whole = false;
        break;
      case phase::note_ended: ended = ended || acts; break;
      default: break;
      }
      plan = next(plan, event, limits);
    }
    BOOST_TEST_REQUIRE(!gate_closed, "seed " << seed);
    BOOST_TEST_REQUIRE(source == !at_destination, "seed " << seed);
    BOOST_TEST_REQUIRE(sink == at_destination, "seed " << seed);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(migration_meter_)

BOOST_AUTO_TEST_CASE(percent_never_falls_and_is_100_only_after_the_commit) {
  migration_meter meter{1'000'000, 0};
  migration_progress x;
  double before = 0;
  for (int i = 0; i < 20; ++i) {
    meter.round(100'000, i < 15 ? 300'000 : 0, 10ms);
    if (i == 12)
      meter.restart();
    meter.fill(x);
    BOOST_TEST(x.percent >= before);
    BOOST_TEST(x.percent < 100);
    BOOST_TEST(x.bytes_done <= x.bytes_total);
    before = x.percent;
  }
  meter.commit();
  meter.fill(x);
  BOOST_TEST(x.percent == 100);
  BOOST_TEST(x.remaining.count() == 0);
}

BOOST_AUTO_TEST_CASE(an_empty_shard_is_copied_at_once) {
  migration_meter meter{0, 0};
  meter.round(0, 0, 1ms);
  migration_progress x;
  meter.fill(x);
  BOOST_TEST(x.percent == 99);
  BOOST_TEST(x.bytes_per_second == 0);
}

BOOST_AUTO_TEST_CASE(rate_and_time_left_follow_the_rounds_and_a_budget_shows) {
  migration_meter meter{10'000'000, 1'000'000};
  meter.round(1'000'000, 0, 1s);
  migration_progress x;
  meter.fill(x);
  BOOST_TEST(x.bytes_per_second == 1'000'000, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(std::chrono::duration<double>(x.remaining).count() == 9, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(x.throttled_by == "budget");
  migration_meter slow{10'000'000, 1'000'000};
  slow.round(100'000, 0, 1s);
  slow.fill(x);
  BOOST_TEST(x.throttled_by == "");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
