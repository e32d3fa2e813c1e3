#include "actors/supervision/children.hpp"

#include <boost/test/unit_test.hpp>

#include "tests/actors/fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

using worker_actor = caf::typed_actor<caf::replies_to<atom::get>::with<uint64_t>>;
using parent_actor = caf::typed_actor<caf::reacts_to<atom::tick>>::extend<VARVE_SUPERVISOR_MESSAGES>;

struct world {
  context_ptr context;
  uint64_t starts = 0;
  std::vector<std::string> ended;
  /// Does not react to an exit message of user_shutdown.
  bool stubborn = false;
};

worker_actor::behavior_type worker(worker_actor::pointer self, std::shared_ptr<world> w, std::string name) {
  const auto mine = ++w->starts;
  self->attach_functor([w, name] { w->ended.push_back(name); });
  if (w->stubborn)
    self->set_exit_handler([](const caf::exit_msg&) {});
  return {[mine](atom::get) { return mine; }};
}

class parent_state {
public:
  explicit parent_state(parent_actor::pointer self) : self_(self) {}
  parent_actor::behavior_type make_behavior(std::shared_ptr<world> w, std::vector<std::string> names) {
    children_ = std::make_unique<children>(self_, w->context, "parent");
    for (const auto& name : names)
      children_->start({name, "varve.worker", [this, w, name] {
                          return caf::actor_cast<caf::strong_actor_ptr>(self_->system().spawn(worker, w, name));
                        }});
    return {
      [](atom::tick) {},
      [this](atom::start, const std::string& path) { children_->on_start(path); },
      [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    };
  }

private:
  parent_actor::pointer self_;
  std::unique_ptr<children> children_;
};

parent_actor::behavior_type parent(parent_actor::stateful_pointer<parent_state> self, std::shared_ptr<world> w,
                                   std::vector<std::string> names) {
  return self->state.make_behavior(w, std::move(names));
}

struct fixture : actor_fixture {
  fixture() {
    options.restarts.restarts_max = 3;
    make_context();
    w->context = context;
  }
  parent_actor start(std::vector<std::string> names) { return spawn(parent, w, std::move(names)); }
  uint64_t life(const std::string& path) { return *ask<uint64_t>(find<worker_actor>(path), atom::get_v); }

  std::shared_ptr<world> w = std::make_shared<world>();
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(children_of_a_supervisor, fixture)

BOOST_AUTO_TEST_CASE(a_killed_child_is_found_again_under_its_path) {
  start({"a", "b"});
  BOOST_TEST(life("a") == 1u);
  kill(find<worker_actor>("a"));
  BOOST_TEST(!find<worker_actor>("a"));
  advance(100ms);
  BOOST_TEST(life("a") == 3u);
  BOOST_TEST(life("b") == 2u);
  auto rows = context->tree->list(now());
  BOOST_REQUIRE(rows.size() == 2u);
  BOOST_TEST(rows[0].restarts == 1u);
  BOOST_TEST(rows[0].alive);
  BOOST_TEST(!rows[0].last_error.empty());
  BOOST_TEST(published_count("ACTOR_RESTARTED") == 1u);
}

BOOST_AUTO_TEST_CASE(a_child_that_ends_by_itself_is_not_started_again) {
  start({"a"});
  caf::anon_send_exit(find<worker_actor>("a"), caf::exit_reason::user_shutdown);
  advance(10s);
  BOOST_TEST(!find<worker_actor>("a"));
  BOOST_TEST(w->starts == 1u);
  BOOST_TEST(context->tree->list(now()).empty());
}

BOOST_AUTO_TEST_CASE(too_many_deaths_end_the_supervisor_and_its_other_children) {
  auto p = start({"a", "b"});
  for (int i = 0; i < 4; ++i) {
    BOOST_REQUIRE(find<worker_actor>("a"));
    kill(find<worker_actor>("a"));
    advance(2s);
  }
  BOOST_TEST(!find<worker_actor>("a"));
  BOOST_TEST(!find<worker_actor>("b"));
  BOOST_TEST(w->ended.back() == "b");
  BOOST_TEST((refusal<caf::unit_t>(p, atom::tick_v) == errc::unavailable));
  BOOST_TEST(published_count("RESTARTS_EXHAUSTED") == 1u);
}

BOOST_AUTO_TEST_CASE(a_killed_supervisor_takes_its_children_along) {
  auto p = start({"a", "b"});
  auto a = find<worker_actor>("a");
  kill(p);
  BOOST_TEST(w->ended.size() == 2u);
  BOOST_TEST((refusal<uint64_t>(a, atom::get_v) == errc::unavailable));
  BOOST_TEST(context->directory->list("").empty());
}

BOOST_AUTO_TEST_CASE(children_stop_in_the_reverse_order_of_their_start) {
  auto p = start({"b", "a", "c"});
  caf::anon_send_exit(p, caf::exit_reason::user_shutdown);
  run();
  BOOST_TEST((w->ended == std::vector<std::string>{"c", "a", "b"}));
  BOOST_TEST((refusal<caf::unit_t>(p, atom::tick_v) == errc::unavailable));
  BOOST_TEST(context->tree->list(now()).empty());
}

BOOST_AUTO_TEST_CASE(a_child_that_does_not_stop_is_killed_after_the_grace) {
  w->stubborn = true;
  auto p = start({"a", "b"});
  caf::anon_send_exit(p, caf::exit_reason::user_shutdown);
  advance(context->options.stop_grace - 1ms);
  BOOST_TEST(w->ended.empty());
  advance(2ms);
  BOOST_TEST((w->ended == std::vector<std::string>{"b"}));
  advance(context->options.stop_grace);
  BOOST_TEST((w->ended == std::vector<std::string>{"b", "a"}));
  BOOST_TEST((refusal<caf::unit_t>(p, atom::tick_v) == errc::unavailable));
}

BOOST_AUTO_TEST_CASE(a_child_that_waits_for_its_restart_does_not_hold_up_a_stop) {
  auto p = start({"a", "b"});
  kill(find<worker_actor>("b"));
  caf::anon_send_exit(p, caf::exit_reason::user_shutdown);
  advance(10s);
  BOOST_TEST((w->ended == std::vector<std::string>{"b", "a"}));
  BOOST_TEST(w->starts == 2u);
}

BOOST_AUTO_TEST_SUITE_END()
