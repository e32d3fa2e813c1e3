#include "tests/simulation/simulated_cluster.hpp"

#include <cstdlib>
#include <iostream>
#include <stdexcept>

namespace varve::test {

using namespace std::chrono_literals;

namespace {

tier_config tier_of(const std::string& node) {
  tier_config x;
  x.name = node + "-disk";
  x.node = node;
  return x;
}

tier_settings settings_of(const std::string& of, const std::string& self) {
  tier_settings x;
  x.store.name = of + "-disk";
  x.store.kind = tier_kind::file;
  x.store.directory = "/" + x.store.name;
  x.store.io = of == "b" ? file_io::buffered : file_io::direct;
  x.node = of == self ? "" : of;
  x.capacity_bytes = 1ull << 30;
  x.cost = 1;
  return x;
}

} // namespace

simulated_cluster::simulated_cluster(cluster_options with)
  : world(with.seed), control(world, with.control), site_{world, data, control, etcd, with.bug} {
  cluster_config cluster;
  cluster.name = "sim";
  for (size_t i = 0; i < with.roles.size(); ++i) {
    const auto has = [&](char role) { return with.roles[i].find(role) != std::string::npos; };
    const auto name = std::string(1, static_cast<char>('a' + i));
    cluster.nodes.push_back(
      {name, {has('m'), has('s'), has('h')}, {name, static_cast<uint16_t>(7000)}, {name, static_cast<uint16_t>(7100)}});
    if (has('s'))
      cluster.tiers.push_back(tier_of(name));
  }
  etcd.on_commit = [this](const catalog_batch& x) { checks.committed(x); };
  auto& random = world.random();
  for (size_t i = 0; i < with.roles.size(); ++i) {
    const auto drift =
      static_cast<int64_t>(random.below(static_cast<uint64_t>(2 * with.drift_ppm_max + 1))) - with.drift_ppm_max;
    auto options = options_of(i, cluster, with.seed);
    if (with.bug == planted_bug::no_drift_margin)
      options.leases.drift_bound = 0s;
    auto& watcher = checks.add([this, i] { return members[i]->now(); },
                               [this, i](boot_time local) { return members[i]->world_at(local); });
    members.push_back(std::make_unique<simulated_member>(site_, static_cast<int>(i), options, drift, watcher));
    members.back()->on_event = [this, i](const std::string& code, const std::string& text) {
      if (listen)
        said.push_back(std::to_string(world.now() / 1ms) + " " + members[i]->name() + " " + code + ": " + text);
      if (code == "LEASE_EXPIRED")
        checks.lease_expired(text);
    };
  }
  for (size_t i = 0; i < members.size(); ++i)
    boot(i);
}

simulated_cluster::~simulated_cluster() {
  for (auto& x : members)
    x->on_event = nullptr;
  for (auto& x : members)
    x->crash(false);
}

node_options simulated_cluster::options_of(size_t i, const cluster_config& cluster, uint64_t seed) const {
  node_options x;
  const auto& self = cluster.nodes[i];
  x.name = self.name;
  x.version = "sim";
  x.seed = seed * 16 + i;
  x.shard_size = shard_size_min;
  x.roles = self.roles;
  x.cluster = cluster;
  for (const auto& of : cluster.nodes)
    if (of.roles.storage)
      x.tiers.push_back(settings_of(of.name, self.name));
  // As DESIGN section 6 checks them: stop_at - renew > failover + 1 s.
  x.leases.term = 20s;
  x.leases.term_sensitive = 20s;
  x.leases.renew = 5s;
  x.leases.drift_bound = 500ms;
  x.leases.grace = 2s;
  x.migrations.copy_bytes_max = 64 << 10;
  x.migrations.switch_below_bytes = 16 << 10;
  return x;
}

void simulated_cluster::settle() {
  for (int rounds = 0;; ++rounds) {
    const bool heard = control.deliver();
    const bool kept = etcd.deliver();
    bool acted = false;
    for (auto& x : members)
      acted |= x->run();
    const bool moved = world.step();
    const bool any = heard || kept || acted || moved;
    if (checks.violations.size() > told_) {
      told_ = checks.violations.size();
      throw broken_rule(checks.violations.back());
    }
    if (!any)
      return;
    if (rounds > 100'000) {
      std::cerr << "simulated_cluster: it does not come to rest at one point in time: control " << heard << ", etcd "
                << kept << ", actors " << acted << ", data " << moved << '\n';
      std::abort();
    }
  }
}

void simulated_cluster::run_until(boot_time then) {
  for (;;) {
    ++steps;
    settle();
    auto next = std::min({then, world.next_event(), control.next_event(), etcd.next_event()});
    for (const auto& x : members)
      next = std::min(next, x->next_event());
    if (next >= then) {
      world.set_now(then);
      settle();
      return;
    }
    world.set_now(next);
  }
}

bool simulated_cluster::run_while(const std::function<bool()>& done, boot_time limit) {
  const auto end = world.now() + limit;
  while (!done()) {
    if (world.now() >= end)
      return false;
    run_until(std::min(end, world.now() + 5ms));
  }
  return true;
}

simulated_member* simulated_cluster::leader() {
  for (auto& x : members)
    if (x->running() && !x->paused() && x->name() == etcd.leader && x->context()->leadership &&
        x->context()->leadership->get().leads)
      return x.get();
  return nullptr;
}

void simulated_cluster::cut(size_t from, size_t to, bool on) {
  control.cut(members[from]->name(), members[to]->name(), on);
  data.cut(static_cast<int>(from), static_cast<int>(to), on);
}

void simulated_cluster::crash(size_t node, bool power_loss) {
  members[node]->crash(power_loss);
  checks.died(static_cast<int>(node));
}

void simulated_cluster::boot(size_t node) {
  members[node]->boot();
}

} // namespace varve::test
