// A cluster of a thousand nodes in virtual time: production's actors on every node, a catalog in SQLite on the disk,
// links that serialise each message. What storage keeps on its devices is headers in a file; no VM's I/O is done.
//
// One line of JSON: what each step took by the wall's clock, of processors and of virtual time, and the memory then.

#include <malloc.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "messages/console.hpp"
#include "tests/bench/scale_cluster.hpp"

namespace varve::bench {

namespace {

using namespace std::chrono_literals;
using nlohmann::json;

/// Volumes that are filled at a time, and shards of each under way: as a VM's agent asks for them.
constexpr uint64_t filled_at_once = 16;
constexpr uint64_t under_way = 64;
/// Shards of each volume that are never written by `place`.
constexpr uint64_t left_absent = 64;
/// One shard of so many is leased.
constexpr uint64_t leased_share = 10;

void must(bool holds, const std::string& what) {
  if (!holds)
    throw std::runtime_error(what);
}

template <class T>
void must_be_answered(const scale_cluster::pending<T>& x, const std::string& what) {
  const auto problem = scale_cluster::problem_of<T>(x);
  must(problem.empty(), what + ": " + problem);
}

double seconds_of(clockid_t which) {
  timespec t{};
  ::clock_gettime(which, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

/// Bytes of memory in use, with what is only kept for later given back first.
uint64_t memory_used() {
  ::malloc_trim(0);
  std::ifstream statm{"/proc/self/statm"};
  uint64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

/// The part of `all` that the i-th of n has.
uint64_t share_of(uint64_t all, uint64_t i, uint64_t n) {
  return all * (i + 1) / n - all * i / n;
}

uint64_t count_of(const actor_report& x, const std::string& name) {
  for (const auto& fact : x.facts)
    if (fact.name == name)
      return fact.number;
  throw std::runtime_error("no fact " + name);
}

/// Makes the shards of one volume, from the first on, some at a time.
struct filler_state {
  static inline const char* name = "bench.filler";
  caf::event_based_actor* self = nullptr;
  volume_actor volume;
  uint64_t next = 0, end = 0, open = 0;
  std::function<void(const std::string& problem)> done;

  void go_on() {
    for (; open < under_way && next < end; ++next, ++open)
      self->request(volume, caf::infinite, atom::create_v, shard_index{next})
        .then(
          [this](const shard_home&) {
            --open;
            go_on();
          },
          [this](const caf::error& e) {
            done(context_of(e));
            self->quit();
          });
    if (open == 0 && next == end) {
      next = UINT64_MAX;
      done({});
      self->quit();
    }
  }
};

class bench {
public:
  explicit bench(scale_options with) : cluster_(std::move(with)) { cluster_.verbose = verbose; }

  static inline bool verbose = false;

  json place() {
    cluster_.boot_storage();
    cluster_.boot_manager();
    wait_until_up();
    begin_step();
    const auto volumes = make_volumes();
    uint64_t next = 0, filled = 0;
    std::string problem;
    std::function<void()> start_one = [&] {
      if (next == volumes.size())
        return;
      const auto i = next++;
      auto volume = cluster_.manager().context().directory->get<volume_actor>(path::volume(volumes[i].value()));
      must(bool(volume), "a volume's actor is not there");
      cluster_.manager().system().spawn([&, i, volume](caf::stateful_actor<filler_state>* self) {
        auto& x = self->state;
        x.self = self;
        x.volume = volume;
        x.end = share_of(cluster_.options.shards, i, volumes.size());
        x.done = [&](const std::string& why) {
          if (!why.empty())
            problem = why;
          ++filled;
        };
        x.go_on();
      });
    };
    for (uint64_t started = 0; filled < volumes.size();) {
      // Not all at the same moment: while some place the catalog writes what others have placed.
      while (started < volumes.size() && started < filled + filled_at_once) {
        start_one();
        ++started;
        cluster_.run_for(300us);
      }
      cluster_.run_while(
        [&] { return started >= volumes.size() ? filled == volumes.size() : started < filled + filled_at_once; },
        10min);
      must(problem.empty(), "placing: " + problem);
    }
    end_step("place");
    // Time-outs of questions that were answered stay until they would have been due.
    cluster_.run_for(10s);
    result_["memory"]["place"] = memory_used();
    uint64_t held = 0, least = UINT64_MAX, most = 0;
    for (size_t i = 1; i < cluster_.nodes.size(); ++i) {
      cluster_.nodes[i]->disk().flush();
      const auto has = cluster_.nodes[i]->disk().read().size();
      held += has;
      least = std::min<uint64_t>(least, has);
      most = std::max<uint64_t>(most, has);
    }
    must(held == cluster_.options.shards, "on disk are " + std::to_string(held) + " shards");
    result_["shards_of_a_tier"] = {{"least", least}, {"most", most}};
    return finish();
  }

  json live() {
    start();
    lease();
    keep_alive();
    fail();
    take_over();
    return finish();
  }

private:
  // -- steps
  // ---------------------------------------------------------------------------------------------------------------

  void start() {
    const auto empty = memory_used();
    begin_step();
    cluster_.boot_storage();
    end_step("start nodes");
    const auto with_storage = memory_used();
    result_["memory"]["start nodes"] = with_storage;
    begin_step();
    cluster_.boot_manager();
    wait_until_up();
    const auto volumes = cluster_.ask<std::vector<volume_record>, volume_directory_actor>(path::volumes, atom::list_v);
    must(volumes.size() == cluster_.nodes.size() - 1, "not all volumes are there");
    // A volume answers once it knows all of its shards.
    std::vector<scale_cluster::pending<actor_report>> reports;
    for (const auto& x : volumes)
      (void)cluster_.ask<shard_map_part, volume_actor>(path::volume(x.id.value()), atom::locate_v, shard_index{0},
                                                       uint64_t{1});
    uint64_t shards = 0;
    for (const auto& x : volumes)
      shards += count_of(report(path::volume(x.id.value())), "shards");
    must(shards == cluster_.options.shards, "the catalog has " + std::to_string(shards) + " shards");
    end_step("start manager");
    const auto started = memory_used();
    result_["memory"]["start manager"] = started;
    const auto n = static_cast<double>(cluster_.options.shards);
    result_["bytes_per_idle_shard"] = {{"storage", static_cast<double>(with_storage - empty) / n},
                                       {"manager", static_cast<double>(started - with_storage) / n}};
  }

  void lease() {
    const auto volumes = cluster_.ask<std::vector<volume_record>, volume_directory_actor>(path::volumes, atom::list_v);
    const auto before = memory_used();
    // Volume i is attached at node i.
    std::vector<scale_cluster::pending<attachment>> all;
    for (size_t i = 0; i < volumes.size(); ++i)
      all.push_back(cluster_.begin<attachment, attachments_actor>(path::attachments, atom::attach_v, volumes[i].id,
                                                                  cluster_.nodes[i + 1]->name(), false));
    for (auto& x : all) {
      cluster_.run_while([&] { return x->has_value(); }, 3min);
      must_be_answered<attachment>(x, "attaching");
    }
    vms_.clear();
    for (size_t i = 0; i < volumes.size(); ++i)
      vms_.push_back({volumes[i].id, i + 1, share_of(cluster_.options.shards / leased_share, i, volumes.size())});
    cluster_.run_for(1s);
    begin_step();
    for (const auto& x : vms_)
      if (x.leases > 0)
        plane_of(x).need(x.volume, shard_index{0}, x.leases);
    must(cluster_.run_while([&] { return routes() == wanted(); }, 10min),
         "only " + std::to_string(routes()) + " of " + std::to_string(wanted()) + " leases are granted");
    end_step("lease");
    // Time-outs of questions that were answered stay until they would have been due.
    cluster_.run_for(16s);
    const auto after = memory_used();
    result_["memory"]["lease"] = after;
    result_["bytes_per_live_lease"] = static_cast<double>(after - before) / static_cast<double>(wanted());
    must(count_of(report(path::leases), "leases") == wanted(), "the manager knows of another number of leases");
  }

  /// One of each holder that has leases.
  void keep_alive() {
    begin_step();
    const auto since = cluster_.world.now();
    await_keep_alives(since);
    // Each has its own rhythm: so long all have had one.
    cluster_.run_while([&] { return cluster_.world.now() >= since + 15s; }, 15s);
    end_step("keep alive");
  }

  void fail() {
    const auto victim = cluster_.nodes.size() / 2;
    const auto rows = cluster_.nodes[victim]->disk().read();
    for (const auto& x : vms_)
      lost_[x.volume] = static_cast<uint64_t>(std::count_if(
        rows.begin(), rows.end(), [&](auto& row) { return row.volume == x.volume.value() && row.index < x.leases; }));
    begin_step();
    cluster_.nodes[victim]->kill();
    const auto at = cluster_.world.now();
    must(cluster_.run_while([&] { return cluster_.published["NODE_SUSPECT"] > 0; }, 20s), "nobody suspects the node");
    result_["suspect_ms"] = (cluster_.world.now() - at) / 1ms;
    must(cluster_.run_while([&] { return cluster_.published["NODE_DOWN"] > 0; }, 20s), "nobody finds the node down");
    result_["down_ms"] = (cluster_.world.now() - at) / 1ms;
    // Until the leases there are over, and the rest of all holders are renewed without a gap.
    const lease_options leases;
    cluster_.run_while([&] { return cluster_.world.now() >= at + leases.term + 1s; }, 2min);
    victim_ = victim;
    await_keep_alives(cluster_.world.now());
    end_step("fail a node");
    result_["memory"]["fail a node"] = memory_used();
    result_["leases_left"] = count_of(report(path::leases), "leases");
    result_["expired"] = cluster_.published["LEASE_EXPIRED"];
    // What is left answers: a status that names the node, and a new shard.
    const auto status = cluster_.ask<node_status, monitor_actor>(path::monitor, atom::get_v);
    for (const auto* code : {"NODE_DOWN", "TIER_UNREACHABLE"})
      must(std::count_if(status.findings.begin(), status.findings.end(), [&](auto& x) { return x.code == code; }) == 1,
           std::string{"status does not say "} + code + " once");
    const auto& vm = vms_.front();
    (void)cluster_.ask<shard_home, volume_actor>(path::volume(vm.volume.value()), atom::create_v,
                                                 shard_index{share_of(cluster_.options.shards, 0, vms_.size())});
  }

  /// The VM of the lost node is started at another: it gets its leases, of which nobody has said that they are over,
  /// under higher epochs; but those on the lost node's own tier.
  void take_over() {
    auto& vm = vms_[victim_ - 1];
    const auto lost = lost_of(vm);
    begin_step();
    (void)cluster_.ask<caf::unit_t, attachments_actor>(path::attachments, atom::detach_v, vm.volume, std::string{},
                                                       true);
    vm.node = victim_ + 1;
    (void)cluster_.ask<attachment, attachments_actor>(path::attachments, atom::attach_v, vm.volume,
                                                      cluster_.nodes[vm.node]->name(), false);
    if (vm.leases > 0)
      plane_of(vm).need(vm.volume, shard_index{0}, vm.leases);
    must(cluster_.run_while([&] { return plane_of(vm).find(vm.volume)->routes == vm.leases - lost; }, 2min),
         "the VM does not get its leases elsewhere");
    end_step("take over");
  }

  // -- parts of steps
  // ---------------------------------------------------------------------------------------------------------------

  struct vm {
    volume_id volume;
    /// Where it is attached.
    size_t node = 0;
    uint64_t leases = 0;
  };

  std::vector<volume_id> make_volumes() {
    const auto count = cluster_.nodes.size() - 1;
    std::vector<scale_cluster::pending<volume_record>> all;
    for (size_t i = 0; i < count; ++i) {
      volume_spec spec;
      spec.name = "vm" + std::to_string(i);
      spec.size_bytes = (share_of(cluster_.options.shards, i, count) + left_absent) * shard_size_default;
      all.push_back(cluster_.begin<volume_record, volume_directory_actor>(path::volumes, atom::create_v, spec));
    }
    std::vector<volume_id> result;
    for (auto& x : all) {
      cluster_.run_while([&] { return x->has_value(); }, 3min);
      must_be_answered<volume_record>(x, "making a volume");
      result.push_back((**x)->id);
    }
    return result;
  }

  /// Every node is heard, every tier has said what is outstanding, and what manages answers.
  void wait_until_up() {
    const auto began = cluster_.world.now();
    for (bool up = false; !up; cluster_.run_for(100ms)) {
      must(cluster_.world.now() < began + 1h, "the cluster does not come up");
      const auto& directory = *cluster_.manager().context().directory;
      up = cluster_.published["NODE_UP"] == cluster_.nodes.size();
      for (size_t i = 1; up && i < cluster_.nodes.size(); ++i)
        up = bool(directory.get<caf::actor>(path::tier(cluster_.nodes[i]->name() + "-disk"))) &&
             bool(directory.get<caf::actor>(path::host_of(cluster_.nodes[i]->name())));
      if (!up)
        continue;
      const auto leases = report(path::leases);
      up = count_of(leases, "incarnation") > 0 && count_of(leases, "inventories-missing") == 0;
      auto listed = cluster_.begin<std::vector<volume_record>, volume_directory_actor>(path::volumes, atom::list_v);
      cluster_.run_while([&] { return listed->has_value(); }, 3min);
      up = up && listed->has_value() && **listed;
    }
  }

  actor_report report(const std::string& path) {
    return cluster_.ask<actor_report, inspected_actor>(path, atom::report_v);
  }

  /// Until every living holder of leases has had a whole keep-alive that it asked for from then on.
  void await_keep_alives(boot_time since) {
    const lease_options leases;
    size_t checked = 0, renewed = 0;
    const bool all = cluster_.run_while(
      [&] {
        for (; checked < vms_.size(); ++checked) {
          const auto& x = vms_[checked];
          if (x.leases == 0 || x.node == victim_)
            continue;
          if (plane_of(x).find(x.volume)->extended_until >= since + leases.term - leases.drift_bound)
            ++renewed;
          else if (lost_of(x) < x.leases)
            return false;
        }
        return true;
      },
      5min);
    must(all, "the leases of VM " + std::to_string(checked) + " are not renewed");
    must(renewed + 20 >= std::min(wanted(), vms_.size()), "only " + std::to_string(renewed) + " holders have leases");
  }

  /// How many of the shards that the VM had leased are on the lost tier.
  uint64_t lost_of(const vm& x) const {
    const auto at = lost_.find(x.volume);
    return at == lost_.end() ? 0 : at->second;
  }

  scale_plane& plane_of(const vm& x) { return cluster_.nodes[x.node]->plane(); }
  uint64_t routes() {
    uint64_t result = 0;
    for (const auto& x : vms_)
      if (auto* port = plane_of(x).find(x.volume))
        result += port->routes;
    return result;
  }
  uint64_t wanted() const { return cluster_.options.shards / leased_share; }

  // -- measuring
  // ---------------------------------------------------------------------------------------------------------------

  void begin_step() {
    wall_ = seconds_of(CLOCK_MONOTONIC);
    processors_ = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    virtual_ = cluster_.world.now();
    messages_ = cluster_.control.delivered;
  }
  void end_step(const std::string& name) {
    json step{{"name", name},
              {"seconds", seconds_of(CLOCK_MONOTONIC) - wall_},
              {"processor_seconds", seconds_of(CLOCK_PROCESS_CPUTIME_ID) - processors_},
              {"virtual_seconds", static_cast<double>((cluster_.world.now() - virtual_).count()) / 1e9},
              {"messages", cluster_.control.delivered - messages_}};
    std::cerr << step.dump() << "\n";
    result_["steps"].push_back(std::move(step));
  }
  json finish() {
    result_["shards"] = cluster_.options.shards;
    result_["nodes"] = cluster_.nodes.size();
    result_["history"] = cluster_.world.history_hash();
    result_["published"] = cluster_.published;
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    result_["memory"]["most"] = static_cast<uint64_t>(used.ru_maxrss) * 1024;
    return result_;
  }

  scale_cluster cluster_;
  std::vector<vm> vms_;
  /// The node that was killed; 0: none.
  size_t victim_ = 0;
  /// Of each volume the shards that were leased and are on its tier.
  std::map<volume_id, uint64_t> lost_;
  json result_;
  double wall_ = 0, processors_ = 0;
  boot_time virtual_{0};
  uint64_t messages_ = 0;
};

int run(int argc, char** argv) {
  scale_options with;
  CLI::App options{"A simulated cluster of many nodes."};
  options.require_subcommand(1);
  auto* place = options.add_subcommand("place", "an empty cluster gets shards");
  auto* live = options.add_subcommand("live", "a cluster that has them starts, leases a tenth, loses a node");
  for (auto* x : {place, live}) {
    x->add_option("--folder", with.folder, "the catalog and the disks' files")->required();
    x->add_option("--shards", with.shards)->check(CLI::PositiveNumber);
    x->add_option("--nodes", with.nodes)->check(CLI::Range(3, 99'999));
    x->add_option("--seed", with.seed);
    x->add_flag("--verbose", bench::verbose, "what is published, the first of each kind");
  }
  CLI11_PARSE(options, argc, argv);
  int status = 0;
  try {
    auto* x = new bench(with);
    std::cout << (place->parsed() ? x->place() : x->live()).dump() << std::endl;
  } catch (const std::exception& e) {
    std::cerr << "scale_bench: " << e.what() << "\n";
    status = 1;
  }
  // A million actors are not ended one by one: the process ends as by kill -9, which everything here bears.
  std::cout.flush();
  std::cerr.flush();
  std::_Exit(status);
}

} // namespace

} // namespace varve::bench

int main(int argc, char** argv) {
  return varve::bench::run(argc, argv);
}
