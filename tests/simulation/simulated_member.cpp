#include "tests/simulation/simulated_member.hpp"

#include <cstdlib>
#include <iostream>

#include "runtime/storage/file_store.hpp"
#include "tests/simulation/folder_scan.hpp"

namespace varve::test {

namespace {

/// What a killed process leaves behind in this one: coroutines that never end, and what they use.
std::vector<std::shared_ptr<void>>& graveyard() {
  static auto* result = new std::vector<std::shared_ptr<void>>;
  return *result;
}

template <class T>
void bury(std::unique_ptr<T> x) {
  graveyard().push_back(std::shared_ptr<void>(x.release(), [](void*) {}));
}

} // namespace

simulated_member::simulated_member(simulated_site& site, int number, node_options with, int64_t drift_ppm,
                                   plane_watcher& watcher)
  : options(std::move(with)), disk(site.world), site_(site), number_(number), clock_{site.world.now(), drift_ppm},
    watcher_(watcher) {
  for (const auto& x : options.tiers)
    if (x.node.empty() && x.store.kind == tier_kind::file)
      disk.make_folder(x.store.directory);
}

simulated_member::~simulated_member() {
  if (life_)
    crash(false);
}

void simulated_member::boot() {
  ++lives;
  // As reactor_data_plane::make does: what a killed predecessor acknowledged is durable before anybody asks for a
  // flush, and what its creations left behind is swept.
  for (const auto& x : options.tiers)
    if (x.node.empty())
      for (const auto& file : disk.list(x.store.directory))
        if (file.ends_with(unfinished_suffix))
          disk.remove(x.store.directory + "/" + file);
  disk.sync_all();
  paused_ = false;
  life_ = std::make_unique<life>();
  auto& x = *life_;
  x.ring = std::make_unique<simulated_ring>(site_.world, &disk, &site_.data);
  x.ring->set_clock(clock_);
  x.on = std::make_unique<reactor>(*x.ring);
  site_.world.attach(*x.on);
  data_plane_options with;
  for (auto& tier : options.tiers)
    if (tier.node.empty())
      with.tiers.push_back(tier.store);
  with.copy_bytes_per_second = options.migrations.budget_bytes_per_second;
  with.make_store = [bug = site_.bug](reactor& on, const shard_store_options& tier) {
    return with_bug(bug, tier.kind == tier_kind::memory ? make_memory_store(on, tier) : make_file_store(on, tier));
  };
  x.remote = make_remote();
  with.make_peers = x.remote->peers();
  x.plane = std::make_shared<reactor_data_plane>(with, std::vector<reactor*>{x.on.get()});
  x.settings = std::make_unique<config>();
  x.system = std::make_unique<caf::actor_system>(*x.settings);
  x.scheduler = dynamic_cast<caf::scheduler::test_coordinator*>(&x.system->scheduler());
  x.timers = &x.scheduler->clock();
  x.began = now();
  x.timers_began = x.timers->now();
  x.link = control_end::make(site_.control, name(), *x.system);
  if (options.roles.manager)
    x.candidate = simulated_candidate::make(site_.etcd, name(), clock_);
  auto context = std::make_shared<node_context>();
  context->directory = std::make_shared<directory>();
  context->tree = std::make_shared<actor_tree>();
  context->plane = std::make_shared<watched_plane>(x.plane, watcher_);
  if (x.candidate) {
    context->store = x.candidate->store();
    context->leadership = x.candidate->leads();
  }
  context->link = x.link;
  context->remote = x.remote;
  context->fill_random = seeded();
  context->now = [this] { return now(); };
  context->wall_seconds = [this] { return 1'700'000'000 + static_cast<uint64_t>(now() / std::chrono::seconds{1}); };
  context->started_at = now();
  context->scan_tier = [this](const std::string& tier, std::function<void(tier_scan)> done) { done(scan(tier)); };
  context->publish = [this](std::string code, std::string text) {
    ++published[code];
    if (on_event)
      on_event(code, text);
  };
  options.incarnation = lives;
  context->options = options;
  x.context = std::move(context);
  x.keeper = x.system->spawn(root_keeper, context_ptr{x.context}, x.root, [alive = &x.gave_up] { *alive = true; });
}

std::function<void(std::span<std::byte>)> simulated_member::seeded() {
  return [this](std::span<std::byte> into) {
    for (auto& x : into)
      x = static_cast<std::byte>(site_.world.random().next());
  };
}

std::shared_ptr<remote_plane> simulated_member::make_remote() {
  const auto& cluster = options.cluster;
  auto address_of = [](const cluster_node& x) { return "10.0.0." + x.name + ":" + std::to_string(x.data.port); };
  auto port_of = [](const cluster_node& x, uint32_t plus) { return x.name + ":" + std::to_string(x.data.port + plus); };
  remote_plane_options with;
  with.name = name();
  with.incarnation = lives;
  with.address = options.roles.storage ? address_of(*cluster.find(name())) : "";
  for (const auto& x : cluster.nodes) {
    if (x.name == name() || !x.roles.storage)
      continue;
    remote_node other;
    other.name = x.name;
    other.address = address_of(x);
    for (const auto& tier : options.tiers)
      if (tier.node == x.name)
        other.tiers.push_back(tier.store);
    with.nodes.push_back(std::move(other));
  }
  with.server.boot = machine_boots_;
  with.server.volatile_boot = lives;
  std::vector<std::byte> noted;
  for (const auto& record : unsynced_)
    noted.insert(noted.end(), record.begin(), record.end());
  with.unsynced = std::make_shared<unsynced_book>(
    machine_boots_, noted, [this, life = lives](uint64_t slot, std::span<const std::byte> record) {
      if (life != lives)
        return false; // of a process that is no more
      if (unsynced_.size() <= slot)
        unsynced_.resize(slot + 1);
      std::copy(record.begin(), record.end(), unsynced_[slot].begin());
      return true;
    });
  with.server.direct = with.client.direct = false;
  with.server.random = with.client.random = seeded();
  with.listen = [this, port_of](uint32_t reactor) {
    return site_.data.listen(port_of(*options.cluster.find(name()), reactor), number_);
  };
  with.connect = [this, port_of](const std::string& node, uint16_t port) {
    return site_.data.connect(port_of(*options.cluster.find(node), port), number_);
  };
  std::string problem;
  auto made = remote_plane::make(with, problem);
  if (!made) {
    std::cerr << "simulated_member: " << problem << '\n';
    std::abort();
  }
  return made;
}

void simulated_member::crash(bool power_loss) {
  if (!life_)
    return;
  auto dying = std::move(life_);
  auto& x = *dying;
  x.link->die(!power_loss);
  if (x.candidate)
    x.candidate->die();
  if (power_loss) {
    ++machine_boots_;
    unsynced_.clear();
  }
  if (power_loss)
    disk.power_loss();
  else
    disk.kill();
  end_actors(x);
  x.link->shut();
  x.keeper = nullptr;
  x.context.reset();
  x.candidate.reset();
  x.link.reset();
  x.system.reset();
  graveyard().push_back(std::move(x.plane));
  graveyard().push_back(std::move(x.remote));
  bury(std::move(x.on));
  bury(std::move(x.ring));
  paused_ = false;
}

void simulated_member::end_actors(life& x) {
  caf::anon_send_exit(x.keeper, caf::exit_reason::kill);
  if (auto root = x.root->get())
    caf::anon_send_exit(root, caf::exit_reason::kill);
  x.root->set({});
  for (int round = 0;; ++round) {
    x.scheduler->run(1'000'000);
    for (auto& path : x.context->directory->list(""))
      if (auto actor = x.context->directory->get<caf::actor>(path))
        caf::anon_send_exit(actor, caf::exit_reason::kill);
    x.context->directory->clear();
    if (x.scheduler->run(1'000'000) == 0 && !x.scheduler->trigger_timeout())
      break;
    if (round == 100'000) {
      std::cerr << "simulated_member: actors do not end\n";
      std::abort();
    }
  }
}

void simulated_member::pause(bool on) {
  if (!life_ || paused_ == on)
    return;
  paused_ = on;
  life_->ring->pause(on);
  life_->link->pause(on);
  if (life_->candidate)
    life_->candidate->pause(on);
}

boot_time simulated_member::next_event() const {
  if (!life_ || paused_ || life_->timers->schedule().empty())
    return boot_time::max();
  const auto due = life_->timers->schedule().begin()->first - life_->timers_began;
  return clock_.world(life_->began + std::chrono::duration_cast<boot_time>(due));
}

bool simulated_member::run() {
  if (!life_ || paused_)
    return false;
  auto& x = *life_;
  bool any = false;
  const auto shown = std::chrono::duration_cast<boot_time>(x.timers->now() - x.timers_began);
  const auto& timers = x.timers->schedule();
  // One that is due at once was set at this very time.
  if (const auto passed = now() - x.began - shown;
      passed.count() > 0 || (!timers.empty() && timers.begin()->first <= x.timers->now()))
    any = x.scheduler->advance_time(passed) > 0;
  if (x.scheduler->has_job()) {
    if (x.scheduler->run(100'000) >= 100'000) {
      auto* next = dynamic_cast<caf::scheduled_actor*>(x.scheduler->jobs.front());
      std::cerr << "simulated_member: the actors of " << name()
                << " do not come to rest: " << (next ? next->name() : "?") << ' '
                << (next && next->mailbox().peek() ? caf::to_string(next->mailbox().peek()->content()) : "") << '\n';
      std::abort();
    }
    any = true;
  }
  if (x.gave_up) {
    // systemd starts it again.
    ++published["PROCESS_GAVE_UP"];
    crash(false);
    boot();
    any = true;
  }
  return any;
}

void simulated_member::kill(const std::string& path) {
  if (!life_)
    return;
  if (auto actor = life_->context->directory->get<caf::actor>(path); actor && actor.node() == life_->system->node())
    caf::anon_send_exit(actor, caf::exit_reason::kill);
}

tier_scan simulated_member::scan(const std::string& tier) const {
  std::string folder;
  for (const auto& x : options.tiers)
    if (x.store.name == tier)
      folder = x.store.directory;
  return scan_folder(disk, folder);
}

} // namespace varve::test
