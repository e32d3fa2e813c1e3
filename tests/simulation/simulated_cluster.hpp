#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/cluster_checks.hpp"
#include "tests/simulation/simulated_member.hpp"

namespace varve::test {

struct cluster_options {
  uint64_t seed = 1;
  /// "msh": a node that manages, stores and hosts; one text for each node.
  std::vector<std::string> roles{"msh", "msh", "msh"};
  /// Clocks run up to so much faster or slower than the world's.
  int64_t drift_ppm_max = 10'000;
  control_options control;
  planted_bug bug = planted_bug::none;
};

/// All nodes of a cluster in virtual time, with their links and the store that their managers share. One seed, one
/// history.
class simulated_cluster {
public:
  explicit simulated_cluster(cluster_options with);
  ~simulated_cluster();
  simulated_cluster(const simulated_cluster&) = delete;

  /// Lets time pass until then. Throws what `checks` finds.
  void run_until(boot_time then);
  void run_for(boot_time time) { run_until(world.now() + time); }
  /// Until `done`, or so long; returns `done()`.
  bool run_while(const std::function<bool()>& done, boot_time limit);

  simulated_member& node(size_t i) { return *members[i]; }
  /// Who leads now and may know it; null: nobody.
  simulated_member* leader();

  // -- faults
  /// What `from` says reaches `to` neither by control nor by data (or does again).
  void cut(size_t from, size_t to, bool on);
  void cut_from_etcd(size_t node, bool on) { etcd.cut(members[node]->name(), on); }
  void crash(size_t node, bool power_loss);
  void boot(size_t node);

  // -- questions
  template <class T>
  struct pending {
    std::shared_ptr<std::optional<caf::expected<T>>> answer = std::make_shared<std::optional<caf::expected<T>>>();
    bool done() const { return answer->has_value(); }
  };
  /// Asks what stands in that node's directory; the answer comes as time passes. T is caf::unit_t for an empty one.
  template <class T, class Handle, class... Ts>
  pending<T> begin(simulated_member& at, const std::string& path, Ts... xs) {
    pending<T> result;
    auto to = at.running() ? at.context()->directory->template get<Handle>(path) : Handle{};
    if (!to) {
      *result.answer = caf::expected<T>{make_error(errc::unavailable, path)};
      return result;
    }
    at.system()->spawn([to, answer = result.answer, xs...](caf::event_based_actor* self) {
      auto refused = [answer](caf::error& x) { *answer = caf::expected<T>{std::move(x)}; };
      if constexpr (std::is_same_v<T, caf::unit_t>)
        self->request(to, std::chrono::seconds{20}, xs...)
          .then([answer] { *answer = caf::expected<T>{caf::unit}; }, refused);
      else
        self->request(to, std::chrono::seconds{20}, xs...)
          .then([answer](T& x) { *answer = caf::expected<T>{std::move(x)}; }, refused);
    });
    return result;
  }
  /// Asks again until it is answered or refused for another reason than that somebody is not there.
  template <class T, class Handle, class... Ts>
  caf::expected<T> ask(simulated_member& at, const std::string& path, Ts... xs) {
    for (int i = 0; i < 200; ++i) {
      auto x = begin<T, Handle>(at, path, xs...);
      run_while([&] { return x.done(); }, std::chrono::seconds{30});
      if (x.done() && (**x.answer || (code_of((*x.answer)->error()) != errc::unavailable &&
                                      code_of((*x.answer)->error()) != errc::timed_out)))
        return **x.answer;
      run_for(std::chrono::milliseconds{500});
    }
    return make_error(errc::timed_out, path);
  }

  simulated_world world;
  simulated_network data{world};
  control_network control;
  simulated_etcd etcd{world};
  cluster_checks checks{world};
  std::vector<std::unique_ptr<simulated_member>> members;
  /// Rounds of the loop, for what a history costs.
  uint64_t steps = 0;
  /// "NODE CODE: text" of all that actors published, when it is wanted.
  std::vector<std::string> said;
  bool listen = false;

private:
  /// All that happens at this time.
  void settle();
  node_options options_of(size_t i, const cluster_config& cluster, uint64_t seed) const;

  simulated_site site_;
  uint64_t told_ = 0; // of checks.violations
};

/// Thrown when a rule is broken.
struct broken_rule : std::runtime_error {
  using std::runtime_error::runtime_error;
};

} // namespace varve::test
