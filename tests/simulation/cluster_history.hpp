#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/simulated_vm.hpp"

namespace varve::test {

/// Which things go wrong in a history, and how much of it.
struct cluster_faults {
  bool crashes = false;
  bool power_losses = false;
  bool pauses = false;
  bool partitions = false;
  bool one_way = false;
  /// Managers lose etcd.
  bool etcd_cuts = false;
  bool kill_actors = false;
  bool moves = false;
  /// Messages between nodes that are lost, repeated or out of order.
  bool rough_control = false;
  /// Each volume is attached at two hosts, whose VMs use it at once.
  bool shared = false;
  /// From the end of one fault to the next, at most.
  boot_time quiet_max{std::chrono::seconds{20}};

  static cluster_faults all() { return {true, true, true, true, true, true, true, true, false, true}; }
};

/// A cluster whose VMs are kept busy while what `faults` says goes wrong, all of it from one seed. What breaks a rule
/// is thrown as broken_rule.
class cluster_history {
public:
  cluster_history(uint64_t seed, cluster_faults faults, planted_bug bug = planted_bug::none);

  /// Makes the volumes and attaches each, where they are shared at two hosts.
  void begin();
  void run(boot_time time);
  /// Everything is whole again: what was asked is answered, moves end, and all hosts read what there is to read.
  void heal();

  uint64_t answered() const;
  std::string summary() const;

  simulated_cluster cluster;
  std::vector<std::unique_ptr<simulated_volume>> volumes;
  std::vector<std::unique_ptr<simulated_vm>> vms;
  uint64_t faults_made = 0, moves_asked = 0;
  std::map<std::string, uint64_t> made;

private:
  struct trouble {
    boot_time until{0};
    std::function<void()> end;
  };

  void make_volume(const std::string& name, std::vector<size_t> hosts);
  void make_trouble();
  void end_troubles(bool all);
  void pass(boot_time time);
  void crash(size_t node, bool power_loss);
  boot_time between(boot_time low, boot_time high);

  cluster_faults faults_;
  std::vector<trouble> troubles_;
  boot_time next_trouble_{0};
};

} // namespace varve::test
