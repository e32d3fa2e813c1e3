#include "tests/simulation/simulated_node.hpp"

#include "actors/node_root.hpp"
#include "tests/simulation/folder_scan.hpp"

namespace varve::test {

namespace {

/// What a killed process leaves behind in this one: coroutines that never end, and what they use.
std::vector<std::shared_ptr<void>>& graveyard() {
  static auto* result = new std::vector<std::shared_ptr<void>>;
  return *result;
}

constexpr boot_time tick = 1ms;

task<> open_log(std::shared_ptr<epoch_log> log, std::shared_ptr<std::string> problem,
                std::shared_ptr<std::optional<errc>> into) {
  *into = co_await log->open(*problem);
}

tier_settings tier_of(const std::string& name, tier_kind kind) {
  tier_settings x;
  x.store.name = name;
  x.store.kind = kind;
  if (kind == tier_kind::file)
    x.store.directory = "/" + name;
  x.store.io = name == "slow" ? file_io::buffered : file_io::direct;
  x.capacity_bytes = 1ull << 30;
  x.cost = name == "slow" ? 1 : 10;
  return x;
}

} // namespace

simulated_node::simulated_node(uint64_t seed, uint64_t copy_bytes_per_second)
  : world(seed), disk(world), catalog(std::make_shared<memory_store_contents>()) {
  options.seed = seed;
  options.shard_size = shard_size_min;
  options.tiers = {tier_of("memory", tier_kind::memory), tier_of("fast", tier_kind::file),
                   tier_of("slow", tier_kind::file)};
  // Short, so that a run of some seconds sees leases renewed, lost and ended.
  options.leases.term = 6s;
  options.leases.term_sensitive = 6s;
  options.leases.renew = 2s;
  options.leases.grace = 1s;
  options.leases.acquire_timeout = 3s;
  options.request_timeout = 2s;
  options.migrations.budget_bytes_per_second = copy_bytes_per_second;
  options.migrations.copy_bytes_max = 64 << 10;
  options.migrations.switch_below_bytes = 16 << 10;
  disk.make_folder("/node");
  disk.make_folder("/fast");
  disk.make_folder("/slow");
  boot();
}

simulated_node::~simulated_node() {
  end_actors();
  auto stopped = std::make_shared<bool>(false);
  plane->stop([stopped](errc) { *stopped = true; });
  if (!world.run_until([&] { return *stopped; }, 60s)) {
    std::cerr << "simulated_node: the data plane does not stop\n";
    std::abort();
  }
  world.run_until_idle();
  context.reset();
  plane.reset();
  epochs_.reset();
  on_.reset();
  ring_.reset();
}

void simulated_node::boot() {
  ring_ = std::make_unique<simulated_ring>(world, &disk, nullptr);
  on_ = std::make_unique<reactor>(*ring_);
  world.attach(*on_);
  data_plane_options with;
  for (auto& tier : options.tiers)
    with.tiers.push_back(tier.store);
  with.copy_bytes_per_second = options.migrations.budget_bytes_per_second;
  if (with.copy_bytes_per_second != 0)
    with.moves.passes_without_shrinking = 1; // mirrors soon: few moves live for long where everything dies
  plane = std::make_shared<reactor_data_plane>(with, std::vector<reactor*>{on_.get()});
  // With little room, so that it is written anew often.
  epochs_ = std::make_shared<epoch_log>(*on_, epoch_log_options{"/node", 4096});
  auto opened = std::make_shared<std::optional<errc>>();
  auto problem = std::make_shared<std::string>();
  start(open_log(epochs_, problem, opened));
  if (!world.run_until([&] { return opened->has_value(); }, 60s) || **opened != errc::none || !problem->empty()) {
    std::cerr << "simulated_node: the epoch log: " << *problem << "\n";
    std::abort();
  }
  store = std::make_shared<memory_store>(catalog);
  config = std::make_unique<simulation_config>();
  system = std::make_unique<caf::actor_system>(*config);
  scheduler = dynamic_cast<caf::scheduler::test_coordinator*>(&system->scheduler());
  auto x = std::make_shared<node_context>();
  x->directory = std::make_shared<directory>();
  x->tree = std::make_shared<actor_tree>();
  x->plane = plane;
  x->store = store;
  x->epochs = epochs_;
  x->now = [this] { return world.now(); };
  x->wall_seconds = [this] { return 1'700'000'000 + static_cast<uint64_t>(world.now() / 1s); };
  x->scan_tier = [this](const std::string& tier, std::function<void(tier_scan)> done) { done(scan(tier)); };
  x->publish = [this](std::string code, std::string) { ++published[code]; };
  x->options = options;
  context = std::move(x);
  start_root();
}

void simulated_node::start_root() {
  root_ = system->spawn(node_root, context);
  root_ended_ = std::make_shared<bool>(false);
  caf::actor_cast<caf::abstract_actor*>(root_)->attach_functor([ended = root_ended_] { *ended = true; });
}

void simulated_node::run_for(boot_time time) {
  for (; time.count() > 0; time -= tick) {
    scheduler->run(1'000'000);
    world.advance(tick);
    scheduler->run(1'000'000);
    scheduler->advance_time(tick);
    if (*root_ended_) {
      // As varved does.
      ++root_restarts;
      start_root();
    }
  }
}

bool simulated_node::run_until(const std::function<bool()>& done, boot_time limit) {
  for (; !done(); limit -= tick) {
    if (limit.count() <= 0)
      return false;
    run_for(tick);
  }
  return true;
}

void simulated_node::kill(const std::string& path) {
  if (auto actor = context->directory->get<caf::actor>(path))
    caf::anon_send_exit(actor, caf::exit_reason::kill);
}

void simulated_node::end_actors() {
  caf::anon_send_exit(root_, caf::exit_reason::kill);
  root_ = node_root_actor{};
  for (int round = 0;; ++round) {
    scheduler->run(1'000'000);
    for (auto& path : context->directory->list(""))
      kill(path);
    context->directory->clear();
    if (scheduler->run(1'000'000) == 0 && !scheduler->trigger_timeout())
      break;
    if (round == 100'000) {
      std::cerr << "simulated_node: actors do not end\n";
      std::abort();
    }
  }
  system.reset();
  config.reset();
}

void simulated_node::crash() {
  ++crashes;
  // Of what the catalog was asked and has not answered, some is on its disk.
  catalog = store->crash(world.random().below(3));
  disk.kill();
  end_actors();
  context.reset();
  graveyard().push_back(std::move(plane));
  graveyard().push_back(std::move(epochs_));
  graveyard().push_back(std::shared_ptr<void>(on_.release(), [](void*) {}));
  graveyard().push_back(std::shared_ptr<void>(ring_.release(), [](void*) {}));
  boot();
}

void simulated_node::restart() {
  ++crashes;
  auto stopped = std::make_shared<bool>(false);
  caf::anon_send_exit(root_, caf::exit_reason::user_shutdown);
  auto ended = root_ended_;
  root_ended_ = std::make_shared<bool>(false); // this end is wanted
  run_until([&] { return *ended; }, 120s);
  end_actors();
  plane->stop([stopped](errc) { *stopped = true; });
  if (!world.run_until([&] { return *stopped; }, 60s)) {
    std::cerr << "simulated_node: the data plane does not stop\n";
    std::abort();
  }
  world.run_until_idle();
  context.reset();
  plane.reset();
  epochs_.reset();
  on_.reset();
  ring_.reset();
  boot();
}

tier_scan simulated_node::scan(const std::string& tier) const {
  return scan_folder(disk, "/" + tier);
}

} // namespace varve::test
