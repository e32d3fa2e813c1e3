// What leases cost: the production actors of management and storage over a real folder, a catalog in SQLite and the
// node's epoch log, all synced; agents are actors that acquire. Or, with --etcd, the same load on etcd.
//
//   lease_bench --folder DIR [--shards N] [--agents N] [--batch N] [--depth N] [--breaks N]
//   lease_bench --etcd HOST:PORT [...]

#include <condition_variable>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <mutex>

#include <CLI/CLI.hpp>
#include <caf/all.hpp>
#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include "actors/management/management_supervisor.hpp"
#include "actors/storage/storage_supervisor.hpp"
#include "messages/register.hpp"
#include "rdma/checksum.hpp"
#include "runtime/catalog/records.hpp"
#include "runtime/catalog/sqlite_store.hpp"
#include "runtime/data_plane/reactor_data_plane.hpp"
#include "runtime/storage/epoch_log.hpp"
#include "runtime/storage/file_store.hpp"
#include "runtime/storage/shard_format.hpp"
#include "runtime/varved_scanner.hpp"
#include "tests/bench/lease_bench.hpp"

namespace varve::bench {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr auto patience = 120s;

boot_time boot_now() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec};
}

/// Bytes of memory in use, with what is only kept for later given back first.
uint64_t memory_used() {
  ::malloc_trim(0);
  std::ifstream statm{"/proc/self/statm"};
  uint64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

void must(bool holds, const std::string& what) {
  if (!holds)
    throw std::runtime_error(what);
}

/// Each agent has a volume of its own, with its share of the shards.
volume_id volume_of(uint64_t agent) {
  return volume_id{1 + agent};
}
holder_id holder_of(uint64_t agent) {
  return holder_id{1000 + agent};
}

/// What the agents report to.
struct score {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t agents_left = 0;
  uint64_t acquired = 0;
  std::vector<uint64_t> latencies;
  std::string problem;
};

using agent_actor = lease_holder_actor::extend<caf::reacts_to<atom::start, uint64_t>>;

/// Acquires its share of the shards for writing, a batch at a time, and says when it has them all.
struct agent_state {
  static inline const char* name = "bench.agent";
  agent_actor::pointer self = nullptr;
  const lease_load* load = nullptr;
  score* into = nullptr;
  lease_manager_actor manager;
  volume_id volume;
  holder_id holder;
  uint64_t next = 0, end = 0, in_flight = 0, acquired = 0;
  std::vector<uint64_t> latencies;

  void go_on() {
    while (in_flight < load->depth && next < end) {
      lease_request x;
      x.holder = holder;
      x.first = {volume, shard_index{next}};
      x.count = std::min(load->batch, end - next);
      x.mode = lease_mode::write;
      next += x.count;
      ++in_flight;
      const auto began = clock::now();
      self->request(manager, caf::infinite, atom::acquire_v, x, caf::actor_cast<lease_holder_actor>(self))
        .then(
          [this, began, count = x.count](const std::vector<lease_grant>& grants) {
            latencies.push_back(static_cast<uint64_t>((clock::now() - began).count()));
            acquired += grants.size();
            if (grants.size() != count)
              fail("granted " + std::to_string(grants.size()) + " of " + std::to_string(count));
            --in_flight;
            go_on();
          },
          [this](const caf::error& e) {
            fail(std::string{to_string(code_of(e))} + ": " + context_of(e));
            --in_flight;
            next = end;
            go_on();
          });
    }
    if (in_flight > 0 || next < end)
      return;
    std::lock_guard guard{into->mutex};
    into->latencies.insert(into->latencies.end(), latencies.begin(), latencies.end());
    into->acquired += acquired;
    --into->agents_left;
    into->changed.notify_all();
  }
  void fail(const std::string& why) {
    std::lock_guard guard{into->mutex};
    into->problem = why;
  }
};

agent_actor::behavior_type agent(agent_actor::stateful_pointer<agent_state> self, const lease_load* load, score* into,
                                 lease_manager_actor manager, uint64_t number, uint64_t end) {
  auto& x = self->state;
  x.self = self;
  x.load = load;
  x.into = into;
  x.manager = std::move(manager);
  x.volume = volume_of(number);
  x.holder = holder_of(number);
  x.end = end;
  x.latencies.reserve(end / load->batch + 1);
  return {
    [](atom::revoke, shard_id, uint64_t) {},
    [](atom::change, shard_id) {},
    [](atom::refresh, const shard_home&) {},
    [self](atom::start, uint64_t) { self->state.go_on(); },
  };
}

/// Shards that have been there for long: files and catalog records, written without a sync for each.
void prepare(const lease_load& load, catalog_store& store) {
  const auto folder = load.folder + "/fast";
  std::filesystem::create_directories(folder);
  catalog_batch batch;
  const auto share = load.shards / load.agents;
  for (uint64_t i = 0; i < load.agents; ++i) {
    volume_record record;
    record.id = volume_of(i);
    record.spec.name = "bench" + std::to_string(i);
    record.spec.shard_size = shard_size_min;
    record.spec.size_bytes = share * shard_size_min;
    record.attachments.push_back({holder_of(i), "host"});
    batch.changes.push_back({key::volume(record.id), encode(record)});
    batch.changes.push_back({key::volume_name(record.spec.name), encode(record.id.value())});
  }
  auto commit = [&] {
    std::promise<catalog_result> done;
    store.commit(std::exchange(batch, {}), [&](catalog_result x) { done.set_value(std::move(x)); });
    const auto x = done.get_future().get();
    must(x.status == errc::none, std::string{"catalog: "} + to_string(x.status));
  };
  std::vector<std::byte> head(8192);
  for (uint64_t i = 0; i < share * load.agents; ++i) {
    shard_header x;
    x.id = {volume_of(i / share), shard_index{i % share}};
    x.size = shard_size_min;
    x.generation = generation{1};
    x.fence = epoch{1ull << 32};
    auto written = record_of(x);
    // Table pages that were never written.
    const std::vector<uint64_t> sequences(shard_layout{x.size}.pages);
    written.table_digest = crc32c(std::as_bytes(std::span{sequences}));
    for (uint64_t slot = 0; slot < 2; ++slot) {
      written.sequence = 2 - slot;
      finish(written);
      std::memcpy(head.data() + slot * sizeof written, &written, sizeof written);
    }
    const auto path = folder + "/" + to_string(shard_file_name{x.id, x.generation});
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    must(fd >= 0 && ::write(fd, head.data(), head.size()) == static_cast<ssize_t>(head.size()) &&
           ::ftruncate(fd, static_cast<off_t>(shard_layout{x.size}.file_bytes)) == 0,
         path);
    ::close(fd);
    batch.changes.push_back({key::shard(x.id), encode(shard_home{x.id, "fast", x.generation, x.fence})});
    if (batch.changes.size() >= 10'000)
      commit();
  }
  commit();
  ::sync();
}

class node {
public:
  explicit node(const lease_load& load) : load_(load) {
    std::filesystem::create_directories(load.folder + "/data");
    caf::error refused;
    store_ = sqlite_store::open({load.folder + "/data"}, refused);
    must(store_ != nullptr, context_of(refused));
    prepare(load, *store_);
    std::string problem;
    epochs_ = epoch_log_thread::start({load.folder + "/data"}, problem);
    must(epochs_ != nullptr, problem);
    tier_settings tier;
    tier.store.name = "fast";
    tier.store.kind = tier_kind::file;
    tier.store.directory = load.folder + "/fast";
    tier.store.io = file_io::buffered;
    tier.capacity_bytes = 1ull << 44;
    data_plane_options plane;
    plane.tiers = {tier.store};
    auto made = reactor_data_plane::make(plane, problem);
    must(made != nullptr, problem);
    scanner_ = std::make_shared<tier_scanner>(std::map<std::string, std::string>{{"fast", tier.store.directory}});
    auto x = std::make_shared<node_context>();
    x->directory = std::make_shared<directory>();
    x->tree = std::make_shared<actor_tree>();
    x->plane = std::move(made);
    x->store = store_;
    x->epochs = epochs_;
    x->now = boot_now;
    x->started_at = boot_now();
    x->wall_seconds = [] { return static_cast<uint64_t>(std::time(nullptr)); };
    x->scan_tier = [scanner = scanner_](const std::string& name, std::function<void(tier_scan)> done) {
      scanner->scan(name, std::move(done));
    };
    x->publish = [](std::string code, std::string text) { std::cerr << code << " " << text << "\n"; };
    x->options.tiers = {tier};
    context_ = x;
    add_messages(config_);
    // As varved.
    config_.set("scheduler.max-threads", size_t{2});
    config_.set("scheduler.policy", caf::atom("sharing"));
    system_ = std::make_unique<caf::actor_system>(config_);
    system_->await_actors_before_shutdown(false);
  }
  ~node() {
    // While threads run that clean up after them. An actor that CAF's clock has the last reference of, for a timeout of
    // its own, ends on the clock's thread, and takes back its timeouts by a queue that only this thread empties: 64 of
    // them, and nothing ends any more.
    for (auto& x : agents_)
      caf::anon_send_exit(x, caf::exit_reason::kill);
    agents_.clear();
    for (auto& x : supervisors_)
      caf::anon_send_exit(x, caf::exit_reason::kill);
    supervisors_.clear();
    std::this_thread::sleep_for(500ms);
    context_->directory->clear();
    system_.reset();
  }

  void start_storage() {
    supervisors_.push_back(caf::actor_cast<caf::actor>(system_->spawn(storage_supervisor, context_)));
    wait("the tier", [&] {
      auto info = ask<tier_info>(path::tier("fast"), tier_actor{}, atom::get_v);
      return info && info->state == "up" && info->shards == load_.shards / load_.agents * load_.agents;
    });
    // The epochs of all shards are noted at this first start; what that takes is given back then.
    std::promise<void> noted;
    epochs_->when_idle([&] { noted.set_value(); });
    noted.get_future().wait();
  }
  void start_management() {
    supervisors_.push_back(caf::actor_cast<caf::actor>(system_->spawn(management_supervisor, context_)));
    wait("the volumes", [&] {
      for (uint64_t i = 0; i < load_.agents; ++i)
        if (!ask<shard_map_part>(path::volume(volume_of(i).value()), volume_actor{}, atom::locate_v, shard_index{0},
                                 uint64_t{1}))
          return false;
      return true;
    });
    wait("the manager",
         [&] { return ask<std::vector<lease_info>>(path::leases, lease_manager_actor{}, atom::list_v, volume_id{2}); });
  }

  nlohmann::json acquire() {
    score into;
    into.agents_left = load_.agents;
    into.latencies.reserve(load_.shards);
    auto manager = context_->directory->get<lease_manager_actor>(path::leases);
    const auto share = load_.shards / load_.agents;
    for (uint64_t i = 0; i < load_.agents; ++i)
      agents_.push_back(system_->spawn(agent, &load_, &into, manager, i, share));
    const auto before = memory_used();
    const auto began = clock::now();
    for (auto& x : agents_)
      caf::anon_send(x, atom::start_v, uint64_t{0});
    std::unique_lock lock{into.mutex};
    must(into.changed.wait_for(lock, 10min, [&] { return into.agents_left == 0; }), "agents do not end");
    const auto took = clock::now() - began;
    must(into.problem.empty(), into.problem);
    auto result = figures_of(into.latencies, into.acquired, took);
    // CAF keeps the timeout of a request, 200 bytes, until it would have fired: what acquiring took, not what a lease
    // takes.
    std::this_thread::sleep_for(context_->options.request_timeout + 500ms);
    result["bytes_per_lease"] =
      static_cast<double>(memory_used() - before) / static_cast<double>(std::max<uint64_t>(1, into.acquired));
    return result;
  }

  /// Keep-alives of all agents: how long the slowest took.
  nlohmann::json renew() {
    caf::scoped_actor self{*system_};
    auto manager = context_->directory->get<lease_manager_actor>(path::leases);
    const auto began = clock::now();
    uint64_t renewed = 0;
    for (uint64_t i = 0; i < load_.agents; ++i)
      self->request(manager, caf::timespan{patience}, atom::renew_v, holder_of(i))
        .receive([&](const lease_renewal& x) { renewed += x.gaps.empty() ? x.renewed : 0; },
                 [&](const caf::error& e) { must(false, "renewing: " + context_of(e)); });
    const auto took = clock::now() - began;
    return {{"leases", renewed}, {"seconds", static_cast<double>(took.count()) / 1e9}};
  }

  /// Shuts out whoever has a shard: its epoch goes up in the log and in its header, synced.
  nlohmann::json break_some() {
    caf::scoped_actor self{*system_};
    auto manager = context_->directory->get<lease_manager_actor>(path::leases);
    std::vector<uint64_t> latencies;
    const auto began = clock::now();
    constexpr uint64_t together = 64;
    for (uint64_t at = 0; at < load_.breaks;) {
      const auto end = std::min(load_.breaks, at + together);
      std::vector<std::future<uint64_t>> all;
      for (; at < end; ++at) {
        auto done = std::make_shared<std::promise<uint64_t>>();
        all.push_back(done->get_future());
        system_->spawn([=, this](caf::event_based_actor* who) {
          const auto asked = clock::now();
          who->request(manager, caf::timespan{patience}, atom::evict_v, shard_id{volume_of(0), shard_index{at}})
            .then([=] { done->set_value(static_cast<uint64_t>((clock::now() - asked).count())); },
                  [=](const caf::error& e) {
                    done->set_exception(std::make_exception_ptr(std::runtime_error("break: " + context_of(e))));
                  });
        });
      }
      for (auto& x : all)
        latencies.push_back(x.get());
    }
    return figures_of(latencies, load_.breaks, clock::now() - began);
  }

private:
  template <class F>
  void wait(const std::string& what, F f) {
    for (const auto until = clock::now() + 300s; !f(); std::this_thread::sleep_for(20ms))
      must(clock::now() < until, what + " does not come up");
  }
  template <class T, class Handle, class... Ts>
  std::optional<T> ask(const std::string& path, Handle, Ts... xs) {
    auto to = context_->directory->get<Handle>(path);
    std::optional<T> result;
    if (!to)
      return result;
    caf::scoped_actor self{*system_};
    self->request(to, caf::timespan{patience}, xs...)
      .receive([&](T& x) { result = std::move(x); }, [](const caf::error&) {});
    return result;
  }

  const lease_load& load_;
  std::shared_ptr<sqlite_store> store_;
  std::shared_ptr<tier_scanner> scanner_;
  std::shared_ptr<epoch_log> epochs_;
  context_ptr context_;
  caf::actor_system_config config_;
  std::unique_ptr<caf::actor_system> system_;
  std::vector<caf::actor> supervisors_;
  std::vector<agent_actor> agents_;
};

nlohmann::json run_varve(const lease_load& load) {
  node on{load};
  const auto empty = memory_used();
  on.start_storage();
  const auto idle = static_cast<double>(memory_used() - empty) / static_cast<double>(load.shards);
  on.start_management();
  auto result = on.acquire();
  result["bytes_per_idle_shard"] = idle;
  result["renewal"] = on.renew();
  if (load.breaks > 0)
    result["breaks"] = on.break_some();
  return result;
}

int run(int argc, char** argv) {
  lease_load load;
  CLI::App options{"Leases acquired from Varve's actors in a folder, or keys with leases from an etcd."};
  auto* on = options.add_option_group("on", "what is measured");
  on->add_option("--folder", load.folder);
  on->add_option("--etcd", load.etcd, "host:port");
  on->require_option(1);
  options.add_option("--shards", load.shards)->check(CLI::PositiveNumber);
  options.add_option("--agents", load.agents)->check(CLI::PositiveNumber);
  options.add_option("--batch", load.batch)->check(CLI::PositiveNumber);
  options.add_option("--depth", load.depth)->check(CLI::PositiveNumber);
  options.add_option("--breaks", load.breaks);
  CLI11_PARSE(options, argc, argv);
  // Shards whose epochs are raised are open files.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  try {
    std::cout << (load.etcd.empty() ? run_varve(load) : run_etcd(load)).dump() << std::endl;
    return 0;
  } catch (const std::exception& e) {
    std::cerr << "lease_bench: " << e.what() << "\n";
    return 1;
  }
}

} // namespace

} // namespace varve::bench

int main(int argc, char** argv) {
  return varve::bench::run(argc, argv);
}
