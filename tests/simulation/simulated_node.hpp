#pragma once

#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"
#include "messages/register.hpp"
#include "runtime/catalog/memory_store.hpp"
#include "runtime/data_plane/reactor_data_plane.hpp"
#include "runtime/reactor/simulated_ring.hpp"
#include "runtime/storage/epoch_log.hpp"

namespace varve::test {

using namespace std::chrono_literals;

struct simulation_config : caf::actor_system_config {
  simulation_config() {
    set("scheduler.policy", caf::atom("testing"));
    add_messages(*this);
  }
};

/// One whole node in virtual time: all its actors under the test scheduler, its data plane over a simulated ring and
/// disk, its catalog in memory. Disk and catalog outlive a crash; everything else begins anew with `boot`. One seed,
/// one history.
class simulated_node {
public:
  /// `copy_bytes_per_second`: of all migrations together; 0 is unlimited.
  explicit simulated_node(uint64_t seed, uint64_t copy_bytes_per_second = 0);
  ~simulated_node();
  simulated_node(const simulated_node&) = delete;

  /// Lets time pass, for actors and devices alike.
  void run_for(boot_time time);
  /// Until `done`, or so long; returns `done()`.
  bool run_until(const std::function<bool()>& done, boot_time limit = 120s);

  /// kill -9 of the process, and its next start.
  void crash();
  /// An orderly stop, and the next start.
  void restart();

  /// Ends an actor as a bug would.
  void kill(const std::string& path);
  std::vector<std::string> actors() const { return context->directory->list(""); }

  template <class T>
  struct pending {
    std::shared_ptr<std::optional<caf::expected<T>>> answer = std::make_shared<std::optional<caf::expected<T>>>();
    bool done() const { return answer->has_value(); }
  };

  /// Asks an actor; the answer comes as time passes. T is caf::unit_t for an empty one.
  template <class T, class Handle, class... Ts>
  pending<T> begin(const std::string& path, Ts... xs) {
    pending<T> result;
    auto to = context->directory->get<Handle>(path);
    if (!to) {
      *result.answer = caf::expected<T>{make_error(errc::unavailable, path)};
      return result;
    }
    system->spawn([to, answer = result.answer, xs...](caf::event_based_actor* self) {
      auto refused = [answer](caf::error& x) { *answer = caf::expected<T>{std::move(x)}; };
      if constexpr (std::is_same_v<T, caf::unit_t>)
        self->request(to, 20s, xs...).then([answer] { *answer = caf::expected<T>{caf::unit}; }, refused);
      else
        self->request(to, 20s, xs...).then([answer](T& x) { *answer = caf::expected<T>{std::move(x)}; }, refused);
    });
    return result;
  }

  /// Asks again until it is answered or refused for another reason than that somebody is starting.
  template <class T, class Handle, class... Ts>
  caf::expected<T> ask(const std::string& path, Ts... xs) {
    for (int i = 0; i < 100; ++i) {
      auto x = begin<T, Handle>(path, xs...);
      run_until([&] { return x.done(); }, 30s);
      if (x.done() && (**x.answer || (code_of((*x.answer)->error()) != errc::unavailable &&
                                      code_of((*x.answer)->error()) != errc::timed_out)))
        return **x.answer;
      run_for(100ms);
    }
    return make_error(errc::timed_out, path);
  }

  simulated_world world;
  simulated_disk disk;
  std::shared_ptr<memory_store_contents> catalog;
  node_options options;
  uint64_t crashes = 0, root_restarts = 0;
  std::map<std::string, uint64_t> published;

  // Of the present process.
  std::unique_ptr<simulation_config> config;
  std::unique_ptr<caf::actor_system> system;
  caf::scheduler::test_coordinator* scheduler = nullptr;
  std::shared_ptr<reactor_data_plane> plane;
  std::shared_ptr<memory_store> store;
  context_ptr context;

private:
  void boot();
  void start_root();
  void end_actors();
  tier_scan scan(const std::string& tier) const;

  std::unique_ptr<simulated_ring> ring_;
  std::unique_ptr<reactor> on_;
  std::shared_ptr<epoch_log> epochs_;
  node_root_actor root_;
  std::shared_ptr<bool> root_ended_;
};

} // namespace varve::test
