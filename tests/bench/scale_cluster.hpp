#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"
#include "runtime/storage/epoch_keeper.hpp"
#include "tests/bench/scale_disk.hpp"
#include "tests/bench/scale_store.hpp"
#include "tests/simulation/simulated_control.hpp"

namespace varve::bench {

struct scale_options {
  uint64_t nodes = 1000;
  /// In the catalog, over all volumes.
  uint64_t shards = 10'000;
  uint64_t seed = 1;
  /// Where the catalog and the disks' files are.
  std::string folder;
  /// Of a message between two nodes, and of the catalog's answers.
  boot_time delay{std::chrono::microseconds{500}}, store_latency{std::chrono::milliseconds{2}};
};

/// A node of the cluster: production's actors on a test scheduler of their own, over a data path that does no I/O. The
/// first node manages, each other one stores and hosts.
///
/// Each node is told of the manager and of itself only: between two storage nodes there are keys of the data path and
/// consoles, which nobody needs here, and a thousand nodes would have half a million connections of that kind.
class scale_node {
public:
  scale_node(const scale_options& with, simulated_world& world, test::control_network& control,
             caf::actor_system_config& settings, uint64_t number);
  scale_node(const scale_node&) = delete;

  const std::string& name() const noexcept { return options_.name; }
  bool running() const noexcept { return running_; }
  /// `store` null: this node does not manage.
  void boot(std::shared_ptr<catalog_store> store, std::function<void(const std::string& code, const std::string&)> say);
  /// kill -9: the others are told that its connections are gone.
  void kill();

  /// When a timer of its actors is due.
  boot_time due() const noexcept { return due_; }
  bool busy() const noexcept { return running_ && scheduler_->has_job(); }
  /// Runs what is due, and what that leads to on this node.
  void run();

  scale_plane& plane() noexcept { return plane_; }
  scale_disk& disk() noexcept { return disk_; }
  caf::actor_system& system() noexcept { return *system_; }
  const node_context& context() const noexcept { return *context_; }

private:
  tier_scan scan();

  simulated_world& world_;
  test::control_network& control_;
  caf::actor_system_config& settings_;
  node_options options_;
  scale_disk disk_;
  scale_plane plane_;
  std::unique_ptr<caf::actor_system> system_;
  caf::scheduler::test_coordinator* scheduler_ = nullptr;
  std::shared_ptr<test::control_end> link_;
  std::shared_ptr<const node_context> context_;
  /// Held, or it would end.
  caf::strong_actor_ptr root_;
  bool running_ = false;
  boot_time began_{0}, due_ = boot_time::max();
  caf::actor_clock::time_point timers_began_;
};

/// All nodes, in virtual time: one thread, one seed, one history.
class scale_cluster {
public:
  explicit scale_cluster(scale_options with);
  scale_cluster(const scale_cluster&) = delete;

  /// The nodes that store; and then the one that manages.
  void boot_storage();
  void boot_manager();

  /// Lets time pass until `done`, at most so long; returns done(), which is asked at each point in time.
  bool run_while(const std::function<bool()>& done, boot_time limit);
  void run_for(boot_time time) {
    run_while([] { return false; }, time);
  }

  // -- questions
  template <class T>
  using pending = std::shared_ptr<std::optional<caf::expected<T>>>;
  /// Why there is no good answer; empty: there is.
  template <class T>
  static std::string problem_of(const pending<T>& x) {
    if (!x->has_value())
      return "no answer";
    return **x ? std::string{} : "refused: " + context_of((*x)->error());
  }
  /// Asks an actor of the manager's directory; the answer comes as time passes. T is caf::unit_t for an empty one.
  template <class T, class Handle, class... Ts>
  pending<T> begin(const std::string& path, Ts... xs) {
    auto result = std::make_shared<std::optional<caf::expected<T>>>();
    auto to = manager().context().directory->template get<Handle>(path);
    if (!to) {
      *result = caf::expected<T>{make_error(errc::unavailable, path)};
      return result;
    }
    manager().system().spawn([to, result, xs...](caf::event_based_actor* self) {
      auto refused = [result](caf::error& x) { *result = caf::expected<T>{std::move(x)}; };
      if constexpr (std::is_same_v<T, caf::unit_t>)
        self->request(to, caf::timespan{std::chrono::minutes{2}}, xs...)
          .then([result] { *result = caf::expected<T>{caf::unit}; }, refused);
      else
        self->request(to, caf::timespan{std::chrono::minutes{2}}, xs...)
          .then([result](T& x) { *result = caf::expected<T>{std::move(x)}; }, refused);
    });
    return result;
  }
  /// Throws when it is refused.
  template <class T, class Handle, class... Ts>
  T ask(const std::string& path, Ts... xs) {
    auto x = begin<T, Handle>(path, xs...);
    run_while([&] { return x->has_value(); }, std::chrono::minutes{3});
    if (const auto problem = problem_of<T>(x); !problem.empty())
      throw std::runtime_error(path + ": " + problem);
    if constexpr (std::is_same_v<T, caf::unit_t>)
      return caf::unit;
    else
      return std::move(***x);
  }

  scale_node& manager() { return *nodes.front(); }

  scale_options options;
  simulated_world world;
  test::control_network control;
  /// The manager first.
  std::vector<std::unique_ptr<scale_node>> nodes;
  /// How often what was published, by anybody.
  std::map<std::string, uint64_t> published;
  /// Shows what is published, but what is published of each lease, node or tier.
  bool verbose = false;

private:
  void settle();

  std::unique_ptr<caf::actor_system_config> settings_;
  std::shared_ptr<scale_store> store_;
};

} // namespace varve::bench
