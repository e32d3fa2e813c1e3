#pragma once

#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"
#include "messages/register.hpp"
#include "runtime/catalog/memory_store.hpp"
#include "tests/actors/fake_data_plane.hpp"

namespace varve {

struct test_config : caf::actor_system_config {
  test_config() {
    set("scheduler.policy", caf::atom("testing"));
    add_messages(*this);
  }
};

/// An actor system on the virtual clock, with a memory catalog and a data plane that only notes. No sleep, no real
/// time; however a test ends, everything it spawned is killed and has ended before the fixture is gone.
class actor_fixture {
public:
  actor_fixture()
    : system(config), sched(dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler())),
      store(std::make_shared<memory_store>()), plane(std::make_shared<fake_data_plane>()) {
    make_context();
  }

  ~actor_fixture() {
    store->hold(false);
    plane->hold(false);
    for (auto& x : spawned_)
      caf::anon_send_exit(x, caf::exit_reason::kill);
    spawned_.clear();
    for (const auto& path : context->directory->list(""))
      caf::anon_send_exit(context->directory->get<caf::actor>(path), caf::exit_reason::kill);
    context->directory->clear();
    for (int round = 0; round < 10'000; ++round) {
      if (sched.run(100'000) == 0 && !sched.trigger_timeout())
        return;
    }
    // Going on would hang in the actor system's destructor.
    std::cerr << "actor_fixture: actors do not end\n";
    std::abort();
  }

  /// Makes `context` anew from `options`: for tests that change options, before anything is spawned.
  void make_context() {
    auto x = std::make_shared<node_context>();
    x->directory = context ? context->directory : std::make_shared<directory>();
    x->tree = context ? context->tree : std::make_shared<actor_tree>();
    x->plane = plane;
    x->store = store;
    x->epochs = epochs;
    x->now = [this] { return now(); };
    x->wall_seconds = [this] { return 1'700'000'000 + static_cast<uint64_t>(now().count() / 1'000'000'000); };
    x->scan_tier = [this](const std::string& tier, std::function<void(tier_scan)> done) { done(scans[tier]); };
    x->publish = [this](std::string code, std::string text) {
      published.emplace_back(std::move(code), std::move(text));
    };
    x->options = options;
    context = std::move(x);
  }

  boot_time now() { return boot_time{sched.clock().now().time_since_epoch()}; }

  /// Keeps the handle, so that the destructor can end it.
  template <class Handle>
  Handle keep(Handle x) {
    spawned_.push_back(caf::actor_cast<caf::actor>(x));
    return x;
  }

  template <class F, class... Ts>
  auto spawn(F f, Ts&&... xs) {
    auto result = keep(system.spawn(f, std::forward<Ts>(xs)...));
    run();
    return result;
  }

  template <class Handle>
  Handle find(const std::string& path) {
    return context->directory->get<Handle>(path);
  }

  /// Runs what can run without time passing. Aborts a test that never comes to rest.
  void run() {
    if (sched.run(10'000'000) == 10'000'000) {
      std::cerr << "actor_fixture: actors never come to rest\n";
      std::abort();
    }
  }

  /// Lets time pass in small steps, so that what a timer sets off happens in its own time.
  void advance(caf::timespan by) {
    run();
    const auto step = std::max<caf::timespan>(std::chrono::milliseconds{1}, by / 2000);
    while (by.count() > 0) {
      const auto part = std::min(step, by);
      sched.advance_time(part);
      run();
      by -= part;
    }
  }

  /// Ends an actor as a crash would, and lets its supervisor know; `advance` for the restart.
  template <class Handle>
  void kill(const Handle& x) {
    caf::anon_send_exit(x, caf::exit_reason::kill);
    run();
  }

  /// A request under way.
  template <class T>
  struct pending {
    std::shared_ptr<std::optional<caf::expected<T>>> answer = std::make_shared<std::optional<caf::expected<T>>>();

    bool done() const { return answer->has_value(); }
    /// Of one that is done.
    const caf::expected<T>& get() const { return **answer; }
    errc code() const { return !done() ? errc::timed_out : get() ? errc::none : code_of(get().error()); }
  };

  /// Sends a request and returns at once; nothing has run yet. T is caf::unit_t for an empty answer.
  template <class T, class Handle, class... Ts>
  pending<T> begin(const Handle& to, Ts... xs) {
    pending<T> result;
    system.spawn([to, answer = result.answer, xs...](caf::event_based_actor* self) {
      auto refused = [answer](caf::error& x) { *answer = caf::expected<T>{std::move(x)}; };
      if constexpr (std::is_same_v<T, caf::unit_t>)
        self->request(to, caf::infinite, xs...).then([answer] { *answer = caf::expected<T>{caf::unit}; }, refused);
      else
        self->request(to, caf::infinite, xs...)
          .then([answer](T& x) { *answer = caf::expected<T>{std::move(x)}; }, refused);
    });
    return result;
  }

  /// Sends a request and runs, letting up to `patience` pass, until it is answered; errc::timed_out when it is not.
  template <class T, class Handle, class... Ts>
  caf::expected<T> ask_for(caf::timespan patience, const Handle& to, Ts... xs) {
    auto asked = begin<T>(to, std::move(xs)...);
    run();
    const caf::timespan step = std::chrono::milliseconds{1};
    for (; !asked.done() && patience.count() > 0; patience -= step)
      advance(step);
    return asked.done() ? asked.get()
                        : caf::expected<T>{make_error(errc::timed_out, "no answer in the test's patience")};
  }

  template <class T, class Handle, class... Ts>
  caf::expected<T> ask(const Handle& to, Ts... xs) {
    return ask_for<T>(std::chrono::seconds{60}, to, std::move(xs)...);
  }

  /// Asks and gives only the code of the answer: errc::none when it was carried out.
  template <class T, class Handle, class... Ts>
  errc refusal(const Handle& to, Ts... xs) {
    auto answer = ask<T>(to, std::move(xs)...);
    return answer ? errc::none : code_of(answer.error());
  }

  size_t published_count(const std::string& code) const {
    size_t result = 0;
    for (const auto& [c, text] : published)
      result += c == code ? 1 : 0;
    return result;
  }

  test_config config;
  caf::actor_system system;
  caf::scheduler::test_coordinator& sched;
  node_options options;
  std::shared_ptr<memory_store> store;
  std::shared_ptr<fake_data_plane> plane;
  /// Null, unless a test has one.
  std::shared_ptr<epoch_keeper> epochs;
  std::map<std::string, tier_scan> scans;
  std::vector<std::pair<std::string, std::string>> published;
  context_ptr context;

private:
  std::vector<caf::actor> spawned_;
};

} // namespace varve
