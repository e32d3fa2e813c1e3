#include "tests/bench/scale_cluster.hpp"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <stdexcept>

#include "actors/node_root.hpp"
#include "messages/register.hpp"
#include "runtime/catalog/sqlite_store.hpp"

namespace varve::bench {

using namespace std::chrono_literals;

namespace {

/// Of each tier: room for what this bench places, and a half.
constexpr uint64_t shard_size = shard_size_default;

std::string name_of(uint64_t number) {
  auto digits = std::to_string(number);
  return "n" + std::string(5 - digits.size(), '0') + digits;
}

cluster_node node_of(uint64_t number) {
  cluster_node x;
  x.name = name_of(number);
  x.roles = {number == 0, number != 0, number != 0};
  x.control = {x.name, 7000};
  x.data = {x.name, 7100};
  return x;
}

tier_settings tier_of(const scale_options& with, uint64_t number, bool own) {
  tier_settings x;
  x.store.name = name_of(number) + "-disk";
  x.store.kind = tier_kind::file;
  x.store.directory = "/" + x.store.name;
  x.store.io = file_io::direct;
  x.node = own ? "" : name_of(number);
  x.capacity_bytes = (with.shards / (with.nodes - 1) + 64) * shard_size * 3 / 2;
  x.cost = 1;
  return x;
}

node_options options_of(const scale_options& with, uint64_t number) {
  node_options x;
  x.name = name_of(number);
  x.version = "bench";
  x.seed = with.seed * 65'536 + number;
  x.shard_size = shard_size;
  x.cluster.name = "scale";
  const auto self = node_of(number);
  x.roles = self.roles;
  if (number == 0) {
    for (uint64_t i = 0; i < with.nodes; ++i)
      x.cluster.nodes.push_back(node_of(i));
    for (uint64_t i = 1; i < with.nodes; ++i)
      x.tiers.push_back(tier_of(with, i, false));
  } else {
    x.cluster.nodes = {node_of(0), self};
    x.tiers = {tier_of(with, number, true)};
  }
  return x;
}

/// What a node's storage has promised, in memory: durable enough for a node that is never started again.
class remembered_epochs final : public epoch_keeper {
public:
  epoch highest(shard_id id) const override {
    auto at = seen_.find(id);
    return at == seen_.end() ? epoch{} : at->second;
  }
  uint64_t manager() const override { return manager_; }
  void raise(shard_id id, epoch to, callback done) override {
    auto& seen = seen_[id];
    const bool stale = to < seen;
    seen = std::max(seen, to);
    done(stale ? errc::stale_epoch : errc::none);
  }
  void raise_all(std::vector<std::pair<shard_id, epoch>> xs, callback done) override {
    for (const auto& [id, to] : xs)
      seen_[id] = std::max(seen_[id], to);
    done(errc::none);
  }
  void note_manager(uint64_t incarnation, callback done) override {
    const bool deposed = incarnation < manager_;
    manager_ = std::max(manager_, incarnation);
    done(deposed ? errc::deposed : errc::none);
  }

private:
  std::unordered_map<shard_id, epoch> seen_;
  uint64_t manager_ = 0;
};

} // namespace

// -- a node
// ------------------------------------------------------------------------------------------------------------

scale_node::scale_node(const scale_options& with, simulated_world& world, test::control_network& control,
                       caf::actor_system_config& settings, uint64_t number)
  : world_(world), control_(control), settings_(settings), options_(options_of(with, number)),
    disk_(with.folder + "/" + name_of(number) + ".shards"), plane_(number == 0 ? nullptr : &disk_, shard_size) {}

void scale_node::boot(std::shared_ptr<catalog_store> store,
                      std::function<void(const std::string&, const std::string&)> say) {
  system_ = std::make_unique<caf::actor_system>(settings_);
  scheduler_ = dynamic_cast<caf::scheduler::test_coordinator*>(&system_->scheduler());
  began_ = world_.now();
  timers_began_ = scheduler_->clock().now();
  link_ = test::control_end::make(control_, name(), *system_);
  auto x = std::make_shared<node_context>();
  x->directory = std::make_shared<directory>();
  x->tree = std::make_shared<actor_tree>();
  x->plane = std::shared_ptr<data_plane>(&plane_, [](data_plane*) {});
  x->store = std::move(store);
  x->link = link_;
  if (options_.roles.storage)
    x->epochs = std::make_shared<remembered_epochs>();
  x->now = [this] { return world_.now(); };
  x->wall_seconds = [this] { return 1'700'000'000 + static_cast<uint64_t>(world_.now() / 1s); };
  x->started_at = world_.now();
  x->scan_tier = [this](const std::string&, std::function<void(tier_scan)> done) { done(scan()); };
  x->publish = [this, say = std::move(say)](std::string code, std::string text) { say(code, name() + ": " + text); };
  x->options = options_;
  x->options.leases.leases_max = 4ull << 20;
  context_ = std::move(x);
  running_ = true;
  root_ = caf::actor_cast<caf::strong_actor_ptr>(system_->spawn(node_root, context_));
  run();
}

tier_scan scale_node::scan() {
  tier_scan result;
  const auto rows = disk_.read();
  result.shards.reserve(rows.size());
  result.allocated_bytes.assign(rows.size(), shard_size);
  for (const auto& x : rows) {
    auto& header = result.shards.emplace_back();
    header.id = {volume_id{x.volume}, shard_index{x.index}};
    header.size = shard_size;
    header.generation = generation{x.generation};
    header.fence = epoch{x.fence};
  }
  return result;
}

void scale_node::kill() {
  running_ = false;
  due_ = boot_time::max();
  link_->die(true);
}

void scale_node::run() {
  if (!running_)
    return;
  auto& timers = scheduler_->clock();
  const auto shown = std::chrono::duration_cast<boot_time>(timers.now() - timers_began_);
  const auto passed = world_.now() - began_ - shown;
  auto due = [&] { return !timers.schedule().empty() && timers.schedule().begin()->first <= timers.now(); };
  if (passed.count() > 0 || due())
    scheduler_->advance_time(passed);
  scheduler_->run();
  due_ = timers.schedule().empty()
           ? boot_time::max()
           : began_ + std::chrono::duration_cast<boot_time>(timers.schedule().begin()->first - timers_began_);
}

// -- all of them
// -------------------------------------------------------------------------------------------------------

scale_cluster::scale_cluster(scale_options with)
  : options(std::move(with)), world(options.seed), control(world, {options.delay, options.delay, 0, 0s, 0, 0, 0, 10s}),
    settings_(std::make_unique<caf::actor_system_config>()) {
  settings_->set("scheduler.policy", caf::atom("testing"));
  add_messages(*settings_);
  std::filesystem::create_directories(options.folder);
  for (uint64_t i = 0; i < options.nodes; ++i)
    nodes.push_back(std::make_unique<scale_node>(options, world, control, *settings_, i));
}

void scale_cluster::boot_storage() {
  auto say = [this](const std::string& code, const std::string& text) {
    if (++published[code] <= 3 && verbose)
      std::cerr << world.now() / 1ms << " ms " << code << " " << text << "\n";
  };
  for (size_t i = 1; i < nodes.size(); ++i)
    nodes[i]->boot(nullptr, say);
}

void scale_cluster::boot_manager() {
  caf::error refused;
  auto real = sqlite_store::open({options.folder}, refused);
  if (!real)
    throw std::runtime_error("catalog: " + context_of(refused));
  store_ = std::make_shared<scale_store>(world, std::shared_ptr<catalog_store>{std::move(real)}, options.store_latency);
  nodes.front()->boot(store_, [this](const std::string& code, const std::string& text) {
    if (++published[code] <= 3 && verbose)
      std::cerr << world.now() / 1ms << " ms " << code << " " << text << "\n";
  });
}

void scale_cluster::settle() {
  for (;;) {
    bool any = control.deliver();
    any |= store_ && store_->deliver();
    for (auto& x : nodes)
      if (x->busy() || x->due() <= world.now()) {
        x->run();
        any = true;
      }
    if (!any)
      return;
  }
}

bool scale_cluster::run_while(const std::function<bool()>& done, boot_time limit) {
  const auto end = world.now() + limit;
  for (;;) {
    settle();
    if (done())
      return true;
    auto next = std::min(control.next_event(), store_ ? store_->next_event() : boot_time::max());
    for (const auto& x : nodes)
      next = std::min(next, x->due());
    if (next >= end) {
      world.set_now(end);
      settle();
      return done();
    }
    world.set_now(next);
  }
}

} // namespace varve::bench
