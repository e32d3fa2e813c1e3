#include "tests/simulation/cluster_history.hpp"

#include <algorithm>

namespace varve::test {

using namespace std::chrono_literals;

namespace {

constexpr uint64_t shards_per_volume = 4;
constexpr uint64_t blocks_per_shard = shard_size_min / block_size;
/// What may pass until everything works again once all faults are over: a term, a failover, and time-outs in between.
constexpr boot_time recovery_limit = 120s;

cluster_options options_of(uint64_t seed, const cluster_faults& faults, planted_bug bug) {
  cluster_options x;
  x.seed = seed;
  x.bug = bug;
  switch (seed % 3) {
  case 0: x.roles = {"msh", "msh", "msh"}; break;
  case 1: x.roles = {"ms", "mh", "sh"}; break;
  default: x.roles = {"m", "msh", "sh", "h"}; break;
  }
  x.control.slow_chance = 0.01;
  if (faults.rough_control) {
    x.control.loss_chance = 0.01;
    x.control.repeat_chance = 0.01;
    x.control.reorder_chance = 0.02;
  }
  return x;
}

} // namespace

cluster_history::cluster_history(uint64_t seed, cluster_faults faults, planted_bug bug)
  : cluster(options_of(seed, faults, bug)), faults_(faults) {}

boot_time cluster_history::between(boot_time low, boot_time high) {
  return boot_time{static_cast<int64_t>(
    cluster.world.random().between(static_cast<uint64_t>(low.count()), static_cast<uint64_t>(high.count())))};
}

void cluster_history::begin() {
  if (!cluster.run_while([&] { return cluster.leader() != nullptr; }, 30s))
    throw broken_rule("nobody leads");
  std::vector<size_t> hosts;
  for (size_t i = 0; i < cluster.members.size(); ++i)
    if (cluster.node(i).host())
      hosts.push_back(i);
  make_volume("one", {hosts[0], hosts[1]});
  make_volume("two", {hosts.back(), hosts[0]});
}

void cluster_history::make_volume(const std::string& name, std::vector<size_t> hosts) {
  volume_spec spec;
  spec.name = name;
  spec.size_bytes = shards_per_volume * shard_size_min;
  spec.shard_size = shard_size_min;
  auto& first = cluster.node(hosts[0]);
  auto record = cluster.ask<volume_record, volume_directory_actor>(first, path::volumes, atom::create_v, spec);
  // Asked again after an answer that was lost, it is there.
  if (!record && code_of(record.error()) == errc::already_exists)
    record = cluster.ask<volume_record, volume_directory_actor>(first, path::volumes, atom::get_v, name);
  if (!record)
    throw broken_rule("cannot make a volume: " + context_of(record.error()));
  auto made = std::make_unique<simulated_volume>();
  made->id = record->id;
  made->blocks = shards_per_volume * blocks_per_shard;
  made->history.resize(made->blocks);
  if (!faults_.shared)
    hosts.resize(1);
  for (auto host : hosts) {
    auto at =
      cluster.ask<attachment, host_supervisor_actor>(cluster.node(host), path::host, atom::attach_v, made->id, true);
    if (!at)
      throw broken_rule("cannot attach: " + context_of(at.error()));
    cluster.checks.attached(at->holder, static_cast<int>(host));
    vms.push_back(std::make_unique<simulated_vm>(cluster, host, *made));
  }
  volumes.push_back(std::move(made));
}

void cluster_history::pass(boot_time time) {
  cluster.run_for(time);
  for (auto& x : vms)
    x->settle();
}

void cluster_history::run(boot_time time) {
  auto& random = cluster.world.random();
  const auto end = cluster.world.now() + time;
  next_trouble_ = cluster.world.now() + between(1s, faults_.quiet_max);
  while (cluster.world.now() < end) {
    end_troubles(false);
    if (cluster.world.now() >= next_trouble_) {
      make_trouble();
      next_trouble_ = cluster.world.now() + between(1s, faults_.quiet_max);
    }
    // VMs are busy for a while, and then only now and then.
    for (auto& x : vms)
      if (random.chance(0.4))
        x->poke();
    pass(random.chance(0.7) ? between(1ms, 60ms) : between(100ms, 1500ms));
  }
}

void cluster_history::crash(size_t node, bool power_loss) {
  for (auto& x : vms)
    x->settle();
  cluster.crash(node, power_loss);
  for (auto& x : vms)
    if (x->host() == node)
      x->died();
  if (power_loss)
    for (auto& x : volumes)
      for (auto& of : x->history)
        of.power_lost(cluster.world.now(), static_cast<int>(node));
}

void cluster_history::make_trouble() {
  auto& random = cluster.world.random();
  const auto count = cluster.members.size();
  const auto node = random.below(count);
  const auto other = (node + 1 + random.below(count - 1)) % count;
  auto& at = cluster.node(node);
  const auto now = cluster.world.now();
  auto add = [&](const char* what, boot_time lasts, std::function<void()> over) {
    ++faults_made;
    ++made[what];
    cluster.world.note(3000, node, faults_made);
    troubles_.push_back({now + lasts, std::move(over)});
  };
  switch (random.below(10)) {
  case 0:
  case 1:
    if (!faults_.crashes || !at.running())
      return;
    crash(node, false);
    add("crash", between(200ms, 15s), [this, node] {
      if (!cluster.node(node).running())
        cluster.boot(node);
    });
    return;
  case 2:
    if (!faults_.power_losses || !at.running())
      return;
    crash(node, true);
    add("power loss", between(1s, 20s), [this, node] {
      if (!cluster.node(node).running())
        cluster.boot(node);
    });
    return;
  case 3:
    if (!faults_.pauses || !at.running() || at.paused())
      return;
    at.pause(true);
    add("pause", random.chance(0.5) ? between(100ms, 8s) : between(20s, 45s),
        [this, node] { cluster.node(node).pause(false); });
    return;
  case 4:
    if (!faults_.partitions)
      return;
    for (size_t i = 0; i < count; ++i)
      if (i != node) {
        cluster.cut(node, i, true);
        cluster.cut(i, node, true);
      }
    add("isolation", random.chance(0.5) ? between(1s, 9s) : between(10s, 40s), [this, node, count] {
      for (size_t i = 0; i < count; ++i)
        if (i != node) {
          cluster.cut(node, i, false);
          cluster.cut(i, node, false);
        }
    });
    return;
  case 5:
    if (!faults_.partitions)
      return;
    cluster.cut(node, other, true);
    cluster.cut(other, node, true);
    add("partition", between(500ms, 40s), [this, node, other] {
      cluster.cut(node, other, false);
      cluster.cut(other, node, false);
    });
    return;
  case 6:
    if (!faults_.one_way)
      return;
    cluster.cut(node, other, true);
    add("one-way cut", between(500ms, 30s), [this, node, other] { cluster.cut(node, other, false); });
    return;
  case 7:
    if (!faults_.etcd_cuts || !at.options.roles.manager)
      return;
    cluster.cut_from_etcd(node, true);
    add("etcd cut", between(1s, 20s), [this, node] { cluster.cut_from_etcd(node, false); });
    return;
  case 8: {
    if (!faults_.kill_actors || !at.running())
      return;
    const auto paths = at.context()->directory->list("");
    if (paths.empty())
      return;
    at.kill(paths[random.below(paths.size())]);
    add("death of an actor", 0s, [] {});
    return;
  }
  default: {
    auto* leader = cluster.leader();
    if (!faults_.moves || !leader)
      return;
    migration_spec spec;
    spec.volume = volumes[random.below(volumes.size())]->id;
    spec.first = shard_index{random.below(shards_per_volume)};
    const auto& tiers = at.options.tiers;
    spec.to_tier = tiers[random.below(tiers.size())].store.name;
    ++moves_asked;
    cluster.begin<std::vector<migration_id>, migration_supervisor_actor>(*leader, path::migrations, atom::start_v,
                                                                         spec);
    return;
  }
  }
}

void cluster_history::end_troubles(bool all) {
  for (size_t i = 0; i < troubles_.size();) {
    if (!all && troubles_[i].until > cluster.world.now()) {
      ++i;
      continue;
    }
    auto x = std::move(troubles_[i]);
    troubles_.erase(troubles_.begin() + static_cast<ptrdiff_t>(i));
    x.end();
  }
}

void cluster_history::heal() {
  end_troubles(true);
  const auto since = cluster.world.now();
  auto left = [&] { return recovery_limit - (cluster.world.now() - since); };
  auto wait = [&](const std::function<bool()>& done, const std::function<std::string()>& what) {
    while (!done()) {
      if (left() <= 0s)
        throw broken_rule("no recovery within " + std::to_string(recovery_limit / 1s) + " s: " + what());
      pass(20ms);
    }
  };
  wait([&] { return cluster.leader() != nullptr; }, [] { return std::string("nobody leads"); });
  wait([&] { return std::all_of(vms.begin(), vms.end(), [](auto& x) { return x->idle(); }); },
       [&] {
         std::string which;
         for (auto& x : vms)
           if (!x->idle())
             which += " volume " + std::to_string(x->volume().id.value()) + " at machine " + std::to_string(x->host());
         return "requests are not answered:" + which;
       });
  // Every host reads everything, a shard at a time.
  for (auto& x : vms)
    for (uint64_t first = 0; first < x->volume().blocks; first += blocks_per_shard) {
      wait([&] { return x->read(first, blocks_per_shard); },
           [&] {
             return "machine " + std::to_string(x->host()) + " has no port of volume " +
                    std::to_string(x->volume().id.value());
           });
      const auto refused = x->refused;
      wait([&] { return x->idle(); },
           [&] {
             return "machine " + std::to_string(x->host()) + " cannot read shard " +
                    std::to_string(first / blocks_per_shard) + " of volume " + std::to_string(x->volume().id.value());
           });
      if (x->refused != refused)
        throw broken_rule("a read is refused although all is whole");
    }
  std::string open;
  wait(
    [&] {
      open.clear();
      auto* leader = cluster.leader();
      if (!leader)
        return false;
      auto x = cluster.begin<std::vector<migration_progress>, migration_supervisor_actor>(*leader, path::migrations,
                                                                                          atom::list_v);
      cluster.run_while([&] { return x.done(); }, 2s);
      if (!x.done() || !**x.answer)
        return false;
      for (auto& y : ***x.answer)
        if (y.record.ended_at == 0)
          open += " " + std::to_string(y.record.id.value()) + " " + to_string(y.record.state) + " " + y.last_error;
      return open.empty();
    },
    [&] { return "migrations do not end:" + open; });
}

uint64_t cluster_history::answered() const {
  uint64_t result = 0;
  for (auto& x : vms)
    result += x->answered;
  return result;
}

std::string cluster_history::summary() const {
  std::string result = std::to_string(answered()) + " answers";
  uint64_t failed = 0;
  for (auto& x : vms) {
    failed += x->flushes_failed;
    for (auto& [code, n] : x->refused)
      result += ", " + std::to_string(n) + " " + to_string(code);
  }
  if (failed)
    result += ", " + std::to_string(failed) + " flushes failed";
  for (auto& [what, n] : made)
    result += ", " + std::to_string(n) + " " + what;
  result += ", " + std::to_string(moves_asked) + " moves, " + std::to_string(cluster.etcd.elections) + " elections, " +
            std::to_string(cluster.checks.fences_raised) + " fences, " +
            std::to_string(cluster.checks.expiries_checked) + " expiries, " +
            std::to_string(cluster.control.delivered) + " messages, " + std::to_string(cluster.steps) + " steps";
  return result;
}

} // namespace varve::test
