#include "runtime/caf/answers_due.hpp"

#include <boost/test/unit_test.hpp>

#include "messages/errors.hpp"
#include "tests/actors/fixture.hpp"

using namespace std::chrono_literals;

namespace varve {

namespace {

constexpr caf::timespan patience = 5s;

/// Answers at once, or when it is told to.
struct late_state {
  std::vector<caf::response_promise> held;
};

caf::behavior late(caf::stateful_actor<late_state>* self) {
  return {
    [](atom::get) { return 1; },
    [self](atom::list) {
      self->state.held.push_back(self->make_response_promise());
      return self->state.held.back();
    },
    [self](atom::start) {
      for (auto& x : std::exchange(self->state.held, {}))
        x.deliver(2);
    },
  };
}

/// Asks `of` for what it is told to ask, and notes what comes.
struct asking_state {
  answers_due due;
  std::vector<int> answers;
  std::vector<caf::error> refusals;
};

struct asking_fixture : actor_fixture {
  caf::actor other = keep(system.spawn(late));
  caf::actor asking;
  asking_state* state = nullptr;

  asking_fixture() {
    asking = keep(system.spawn([this](caf::stateful_actor<asking_state>* self) -> caf::behavior {
      state = &self->state;
      state->due.start(self, patience);
      return {
        [this, self](atom::start, bool at_once) {
          auto heard = [this](auto asked) {
            const auto number = state->due.expect(asked.id(), now());
            asked.then(
              [this, number](int x) {
                state->due.met(number);
                state->answers.push_back(x);
              },
              [this, number](const caf::error& e) {
                state->due.met(number);
                state->refusals.push_back(e);
              });
          };
          if (at_once)
            heard(self->request(other, caf::infinite, atom::get_v));
          else
            heard(self->request(other, caf::infinite, atom::list_v));
        },
        [this](atom::tick) { state->due.look(now()); },
      };
    }));
    sched.run();
  }

  void ask(bool at_once) {
    caf::anon_send(asking, atom::start_v, at_once);
    sched.run();
  }
  void look_after(caf::timespan time) {
    sched.advance_time(time);
    caf::anon_send(asking, atom::tick_v);
    sched.run();
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(answers_due_, asking_fixture)

BOOST_AUTO_TEST_CASE(what_is_not_answered_in_time_is_refused_as_caf_does_it) {
  ask(false);
  ask(true);
  BOOST_TEST(state->answers.size() == 1);
  look_after(patience - 1ms);
  BOOST_TEST(state->refusals.empty());
  BOOST_CHECK(state->due.next(now()) == 1ms);
  look_after(1ms);
  BOOST_REQUIRE(state->refusals.size() == 1);
  BOOST_CHECK(state->refusals.front() == caf::sec::request_timeout);
  BOOST_CHECK(code_of(state->refusals.front()) == errc::timed_out);
  BOOST_TEST(state->due.open() == 0);
  BOOST_CHECK(state->due.next(now()) == 0s);
}

BOOST_AUTO_TEST_CASE(an_answer_that_comes_too_late_is_not_heard) {
  ask(false);
  look_after(patience);
  BOOST_TEST(state->refusals.size() == 1);
  caf::anon_send(other, atom::start_v);
  sched.run();
  look_after(patience);
  BOOST_TEST(state->answers.empty());
  BOOST_TEST(state->refusals.size() == 1);
}

BOOST_AUTO_TEST_CASE(what_is_answered_behind_one_that_is_not_is_not_refused) {
  ask(false);
  ask(true);
  ask(false);
  BOOST_TEST(state->due.open() == 3);
  look_after(patience / 2);
  ask(false);
  look_after(patience / 2);
  // The two of the beginning; the fourth has half of its time left.
  BOOST_TEST(state->refusals.size() == 2);
  BOOST_TEST(state->due.open() == 1);
  caf::anon_send(other, atom::start_v);
  sched.run();
  BOOST_TEST(state->due.open() == 0);
  look_after(patience);
  BOOST_TEST(state->refusals.size() == 2);
  BOOST_TEST(state->answers == (std::vector<int>{1, 2}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(one_who_is_gone_refuses_at_once) {
  caf::anon_send_exit(other, caf::exit_reason::kill);
  sched.run();
  ask(false);
  BOOST_TEST(state->refusals.size() == 1);
  BOOST_TEST(state->due.open() == 0);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
