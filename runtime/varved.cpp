// The daemon: reads its configuration, takes its folders, starts the data path and the actors, serves RPC and HTTP, and
// stops all of it in order.

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <future>
#include <thread>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/node_root.hpp"
#include "actors/supervision/restart_policy.hpp"
#include "runtime/catalog/sqlite_store.hpp"
#include "runtime/config/node_config.hpp"
#include "runtime/config/units.hpp"
#include "runtime/data_plane/reactor_data_plane.hpp"
#include "runtime/monitoring/http_server.hpp"
#include "runtime/monitoring/logging.hpp"
#include "runtime/monitoring/node_metrics.hpp"
#include "runtime/rpc/rpc_server.hpp"
#include "runtime/storage/file_store.hpp"
#include "runtime/version.hpp"

namespace varve {

namespace {

using namespace std::chrono_literals;

/// How the process ends; told by --help. systemd must not restart after 2 and 3.
enum exit_code : int { stopped = 0, failed = 1, bad_config = 2, folder_in_use = 3, not_stopped_in_time = 4 };

constexpr auto help = R"(varved: one node of block volumes

  varved --config FILE [--data-dir DIR] [--run-dir DIR]

  --config FILE    the configuration (TOML); check it with: varve config check FILE
  --data-dir DIR   where the catalog and the shards are, instead of node.data_dir
  --run-dir DIR    where the sockets are, instead of node.run_dir
  --version, --help

SIGTERM and SIGINT stop it in order: requests under way end, everything is flushed. A second one ends it at once; what
was acknowledged is safe then too, what was not flushed may be lost at power loss only.

Exit codes: 0 stopped; 1 failed; 2 bad configuration or command line; 3 another varved uses the folder; 4 did not
stop in time.
)";

boot_time boot_now() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec};
}

uint64_t wall_seconds() {
  return static_cast<uint64_t>(std::time(nullptr));
}

/// A folder of ours with its lock: one varved for each data_dir and run_dir.
class locked_folder {
public:
  locked_folder() = default;
  locked_folder(const locked_folder&) = delete;
  locked_folder& operator=(const locked_folder&) = delete;
  ~locked_folder() {
    if (fd_ >= 0)
      ::close(fd_);
  }

  /// The exit code of what is wrong (with `problem`), or `stopped`.
  exit_code take(const std::string& path, const char* option, std::string& problem) {
    std::error_code error;
    const bool is_new = std::filesystem::create_directories(path, error);
    if (error) {
      problem = path + ": " + error.message();
      return failed;
    }
    if (is_new)
      ::chmod(path.c_str(), 0700);
    struct stat s {};
    if (::stat(path.c_str(), &s) != 0 || (s.st_uid != ::geteuid() && s.st_uid != 0)) {
      problem = path + ": it belongs to another user";
      return failed;
    }
    const auto file = path + "/varved.lock";
    fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0) {
      problem = file + ": " + std::strerror(errno);
      return failed;
    }
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      char pid[32] = {};
      const auto n = ::pread(fd_, pid, sizeof pid - 1, 0);
      problem = fmt::format("{}: in use by another varved{}; give this one another {}", path,
                            n > 0 ? " (process " + std::string{pid, std::strcspn(pid, "\n")} + ")" : "", option);
      return folder_in_use;
    }
    const auto pid = std::to_string(::getpid()) + "\n";
    if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, pid.data(), pid.size(), 0) < 0)
      spdlog::warn("event=lock-file-not-written file={}", log_value(file));
    return stopped;
  }

private:
  int fd_ = -1;
};

/// What the actors' root is now; replaced when it is started again.
struct root_place {
  node_root_actor get() const {
    std::lock_guard guard{mutex};
    return actor;
  }
  void set(node_root_actor x) {
    std::lock_guard guard{mutex};
    actor = std::move(x);
  }
  mutable std::mutex mutex;
  node_root_actor actor;
};

struct keeper_state {
  static inline const char* name = "varve.node-keeper";
};

/// Starts node_root, and again when it dies, until it dies too often: then the process ends, for its own supervisor.
caf::behavior keep_root(caf::stateful_actor<keeper_state>* self, context_ptr context, std::shared_ptr<root_place> place,
                        std::function<void()> give_up) {
  auto policy = std::make_shared<restart_policy>(context->options.restarts, context->options.seed);
  auto start = [self, context, place] {
    auto root = self->spawn<caf::monitored>(node_root, context);
    place->set(caf::actor_cast<node_root_actor>(root));
  };
  self->set_down_handler([=](caf::down_msg& x) {
    place->set({});
    if (!x.reason || x.reason == caf::exit_reason::normal || x.reason == caf::exit_reason::user_shutdown)
      return self->quit();
    const auto delay = policy->next(context->now());
    context->publish("NODE_ROOT_DIED", caf::to_string(x.reason));
    if (!delay) {
      give_up();
      return self->quit();
    }
    self->delayed_send(self, *delay, atom::start_v);
  });
  start();
  return {[start](atom::start) { start(); }};
}

/// Lists a file tier's folder, off the actors' threads: one scan after the other.
class scanner {
public:
  explicit scanner(const std::vector<tier_config>& tiers) : thread_([this] { run(); }) {
    for (const auto& x : tiers)
      folders_[x.name] = x.path;
  }
  ~scanner() {
    {
      std::lock_guard guard{mutex_};
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void scan(const std::string& tier, std::function<void(tier_scan)> done) {
    std::lock_guard guard{mutex_};
    jobs_.emplace_back(tier, std::move(done));
    changed_.notify_all();
  }

private:
  void run() {
    for (std::unique_lock guard{mutex_};;) {
      changed_.wait(guard, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty())
        return;
      auto [tier, done] = std::move(jobs_.front());
      jobs_.pop_front();
      const auto folder = folders_[tier];
      guard.unlock();
      done(look(folder));
      guard.lock();
    }
  }

  static tier_scan look(const std::string& folder) {
    tier_scan x;
    if (folder.empty())
      return x;
    x.shards = scan_shard_files(folder, x.problems);
    for (const auto& h : x.shards) {
      struct stat s {};
      const auto path = folder + '/' + to_string(shard_file_name{h.id, h.generation});
      const bool found = ::stat(path.c_str(), &s) == 0;
      x.allocated_bytes.push_back(found ? static_cast<uint64_t>(s.st_blocks) * 512 : 0);
    }
    return x;
  }

  std::map<std::string, std::string> folders_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<std::string, std::function<void(tier_scan)>>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

/// A running node. Members are declared in the order in which they are made; stop() takes them down in reverse.
class node {
public:
  explicit node(node_config config) : config_(std::move(config)) {}

  exit_code start(std::string& problem);
  /// Empty when it serves: managing has begun, and every attached volume has its port.
  std::string not_ready();
  void stop();
  bool gave_up() const { return gave_up_; }

private:
  std::vector<shard_store_options> tier_options();
  node_options options() const;
  bool start_plane(std::string& problem);
  std::string metrics();
  template <class T, class Ask>
  std::optional<T> ask(Ask ask) const;

  node_config config_;
  std::atomic<bool> gave_up_{false};
  std::atomic<bool> stopping_{false};
  locked_folder data_lock_, run_lock_;
  std::shared_ptr<varve::directory> directory_ = std::make_shared<varve::directory>();
  std::shared_ptr<actor_tree> tree_ = std::make_shared<actor_tree>();
  std::shared_ptr<catalog_store> store_;
  std::shared_ptr<data_plane> plane_;
  std::string ring_;
  std::shared_ptr<scanner> scanner_;
  caf::actor_system_config caf_config_;
  std::unique_ptr<caf::actor_system> system_;
  std::shared_ptr<root_place> root_ = std::make_shared<root_place>();
  std::unique_ptr<gateway> gateway_;
  std::unique_ptr<rpc_server> rpc_;
  std::mutex metrics_mutex_;
  node_metrics metrics_; // guarded by metrics_mutex_
  std::unique_ptr<http_server> http_;
};

/// Something happened: to the log, and to the monitor for whoever asks later. Any thread.
std::function<void(std::string, std::string)> publisher(std::shared_ptr<directory> directory) {
  return [directory = std::move(directory)](std::string code, std::string text) {
    spdlog::warn("event={} text={}", log_value(code), log_value(text));
    if (auto monitor = directory->get<monitor_actor>(path::monitor))
      caf::anon_send(monitor, atom::publish_v, event{wall_seconds(), std::move(code), std::move(text)});
  };
}

std::vector<shard_store_options> node::tier_options() {
  std::vector<shard_store_options> all;
  for (const auto& x : config_.tiers) {
    shard_store_options o;
    o.name = x.name;
    o.kind = x.kind;
    o.directory = x.path;
    o.io = x.io;
    o.emulate = x.emulate;
    o.checkpoint_after = x.checkpoint_after;
    o.on_mismatch = [publish = publisher(directory_), tier = x.name](shard_id id, uint64_t offset) {
      publish("CHECKSUM_MISMATCH",
              fmt::format("tier {} volume {} shard {} offset {}", tier, id.volume.value(), id.index.value(), offset));
    };
    all.push_back(std::move(o));
  }
  return all;
}

node_options node::options() const {
  node_options x;
  x.name = config_.name;
  x.version = version;
  x.ring = ring_;
  for (const auto& t : config_.tiers) {
    tier_settings settings;
    settings.store.name = t.name;
    settings.store.kind = t.kind;
    settings.store.directory = t.path;
    settings.store.io = t.io;
    settings.store.emulate = t.emulate;
    settings.capacity_bytes = t.capacity_bytes;
    settings.cost = t.cost;
    x.tiers.push_back(std::move(settings));
  }
  x.leases.term = config_.lease.term;
  x.leases.term_sensitive = config_.lease.term_sensitive();
  x.leases.renew = config_.lease.renew;
  x.leases.drift_bound = config_.lease.drift;
  x.leases.grace = config_.lease.grace;
  x.migrations.budget_bytes_per_second = config_.migration_budget;
  x.migrations.running_max = config_.migrations_concurrent;
  x.shard_size = config_.shard_size;
  x.socket_folder = config_.run_dir;
  x.error_after = config_.error_after;
  // Of jitter only: a node that starts again must not repeat its own rhythm.
  x.seed = static_cast<uint64_t>(boot_now().count()) ^ static_cast<uint64_t>(::getpid());
  return x;
}

bool node::start_plane(std::string& problem) {
  for (const auto& x : config_.tiers) {
    std::error_code error;
    if (!x.path.empty() && std::filesystem::create_directories(x.path, error))
      ::chmod(x.path.c_str(), 0700);
    if (error) {
      problem = x.path + ": " + error.message();
      return false;
    }
  }
  data_plane_options o;
  o.tiers = tier_options();
  o.reactors =
    static_cast<uint32_t>(config_.reactors ? config_.reactors : std::max(1u, std::thread::hardware_concurrency() / 2));
  o.ring.kind = config_.io == ring_choice::io_uring  ? ring_kind::io_uring
                : config_.io == ring_choice::threads ? ring_kind::threads
                                                     : ring_kind::automatic;
  o.nbd.connections_max = config_.nbd.connections_max;
  o.nbd.payload_bytes_max = static_cast<uint32_t>(config_.nbd.request_bytes_max);
  o.nbd.requests_max = config_.nbd.requests_max;
  o.nbd.negotiation_time = config_.nbd.handshake_timeout;
  o.copy_bytes_per_second = config_.migration_budget;
  auto plane = reactor_data_plane::make(std::move(o), problem);
  if (!plane)
    return false;
  const bool threads = config_.io == ring_choice::threads || !plane->ring_refusal().empty();
  ring_ = threads ? "threads" : "io_uring";
  if (!plane->ring_refusal().empty())
    spdlog::warn("event=io-uring-refused reason={} instead=threads", log_value(plane->ring_refusal()));
  plane_ = std::move(plane);
  return true;
}

exit_code node::start(std::string& problem) {
  if (auto code = data_lock_.take(config_.data_dir, "--data-dir", problem); code != stopped)
    return code;
  if (config_.run_dir != config_.data_dir)
    if (auto code = run_lock_.take(config_.run_dir, "--run-dir", problem); code != stopped)
      return code;
  caf::error store_problem;
  store_ = sqlite_store::open({config_.data_dir}, store_problem);
  if (!store_) {
    problem = fmt::format("catalog: {}: {}", to_string(code_of(store_problem)), context_of(store_problem));
    return failed;
  }
  if (!start_plane(problem))
    return failed;
  scanner_ = std::make_shared<scanner>(config_.tiers);

  auto context = std::make_shared<node_context>();
  context->directory = directory_;
  context->tree = tree_;
  context->plane = plane_;
  context->store = store_;
  context->now = boot_now;
  context->started_at = boot_now();
  context->wall_seconds = wall_seconds;
  context->scan_tier = [scanner = scanner_](const std::string& tier, std::function<void(tier_scan)> done) {
    scanner->scan(tier, std::move(done));
  };
  context->publish = publisher(directory_);
  context->options = options();

  // Deciding is little work; more threads would only take processors from the reactors.
  caf_config_.set("scheduler.max-threads", size_t{2});
  // Idle actors must cost nothing: the workers of the work-stealing scheduler never cease to look for work.
  caf_config_.set("scheduler.policy", caf::atom("sharing"));
  system_ = std::make_unique<caf::actor_system>(caf_config_);
  // Requests of clients that are gone must not hold up the end.
  system_->await_actors_before_shutdown(false);
  system_->spawn(keep_root, context_ptr{context}, root_, std::function<void()>{[this] {
                   spdlog::error("event=node-failed text=\"the actors cannot be kept alive\"");
                   gave_up_ = true;
                   ::kill(::getpid(), SIGTERM);
                 }});

  gateway::parts parts;
  parts.system = system_.get();
  parts.directory = directory_;
  parts.plane = plane_;
  parts.root = [root = root_] { return root->get(); };
  parts.stop = [] { ::kill(::getpid(), SIGTERM); };
  gateway_options o;
  o.timeout = config_.rpc_timeout;
  o.allow_kill = config_.allow_kill;
  for (const auto& x : config_.tiers)
    o.tiers.push_back(x.name);
  gateway_ = std::make_unique<gateway>(std::move(parts), std::move(o));
  rpc_options r;
  r.socket_path = config_.rpc_socket;
  r.connections_max = config_.rpc_connections_max;
  rpc_ = rpc_server::start(*gateway_, plane_, r, problem);
  if (!rpc_)
    return failed;
  if (!config_.http_host.empty()) {
    http_pages pages;
    pages.metrics = [this] { return metrics(); };
    pages.not_ready = [this] { return not_ready(); };
    pages.version = fmt::format("{{\"name\": \"varve\", \"version\": \"{}\"}}\n", version);
    http_ = http_server::start(config_.http_host, config_.http_port, std::move(pages), problem);
    if (!http_)
      return failed;
  }
  spdlog::info("event=started node={} version={} pid={} data_dir={} rpc={} http={} io={} tiers={}",
               log_value(config_.name), version, ::getpid(), log_value(config_.data_dir), log_value(config_.rpc_socket),
               http_ ? fmt::format("{}:{}", config_.http_host, http_->port()) : "off", ring_, config_.tiers.size());
  return stopped;
}

// Asks through the gateway and waits a little.
template <class T, class Ask>
std::optional<T> node::ask(Ask ask) const {
  auto promise = std::make_shared<std::promise<std::optional<T>>>();
  auto result = promise->get_future();
  ask(
    answer<T>{[promise](caf::error e, T x) { promise->set_value(e ? std::nullopt : std::optional<T>{std::move(x)}); }});
  return result.wait_for(5s) == std::future_status::ready ? result.get() : std::nullopt;
}

std::string node::not_ready() {
  if (stopping_)
    return "stopping";
  const auto status = ask<node_status>([this](auto done) { gateway_->status(std::move(done)); });
  if (!status)
    return "the monitor does not answer";
  if (status->health == "starting" || status->manager_incarnation == 0)
    return "starting";
  const auto volumes = ask<std::vector<volume_info>>([this](auto done) { gateway_->volume_list(std::move(done)); });
  if (!volumes)
    return "the volumes do not answer";
  for (const auto& x : *volumes)
    if (x.record.attached && x.uri.empty())
      return "volume " + x.record.spec.name + " is being attached";
  for (const auto& x : config_.tiers)
    if (!directory_->get<tier_actor>(path::tier(x.name)))
      return "tier " + x.name + " is starting";
  if (!directory_->get<host_supervisor_actor>(path::host))
    return "the host's actor is starting";
  return {};
}

std::string node::metrics() {
  node_snapshot x;
  x.version = version;
  x.status = ask<node_status>([this](auto done) { gateway_->status(std::move(done)); });
  x.volumes = ask<std::vector<volume_info>>([this](auto done) { gateway_->volume_list(std::move(done)); });
  x.tiers = ask<std::vector<tier_info>>([this](auto done) {
              gateway_->tier_list(std::move(done));
            }).value_or(std::vector<tier_info>{});
  x.leases = ask<std::vector<lease_info>>([this](auto done) {
               gateway_->lease_list({}, std::move(done));
             }).value_or(std::vector<lease_info>{});
  x.migrations = ask<std::vector<migration_progress>>([this](auto done) {
                   gateway_->migration_list(std::move(done));
                 }).value_or(std::vector<migration_progress>{});
  x.actors = tree_->list(boot_now());
  auto counted = std::make_shared<std::promise<std::map<volume_id, volume_counters>>>();
  auto counters = counted->get_future();
  plane_->port_counters([counted](std::map<volume_id, volume_counters> all) { counted->set_value(std::move(all)); });
  if (counters.wait_for(2s) == std::future_status::ready)
    x.counters = counters.get();
  x.rpc_connections = rpc_->connections();
  std::lock_guard guard{metrics_mutex_};
  return metrics_.render(x);
}

void node::stop() {
  stopping_ = true;
  if (auto root = root_->get(); root && system_) {
    // Hosts first: requests under way end, ports close, everything is flushed; then managing, then storage.
    caf::scoped_actor self{*system_};
    self->request(root, caf::timespan{config_.stop_timeout}, atom::stop_v)
      .receive(
        [] { spdlog::info("event=actors-stopped"); },
        [](const caf::error& e) { spdlog::error("event=actors-not-stopped reason={}", log_value(context_of(e))); });
  }
  http_.reset();
  rpc_.reset();
  system_.reset();
  gateway_.reset();
  directory_->clear();
  plane_.reset();
  scanner_.reset();
  store_.reset();
}

struct arguments {
  std::string config;
  config_overrides overrides;
};

// The exit code when there is nothing to run.
std::optional<int> read_arguments(int argc, char** argv, arguments& x) {
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i], value;
    if (word == "--help" || word == "-h") {
      fmt::print("{}", help);
      return stopped;
    }
    if (word == "--version") {
      fmt::print("varved {}\n", version);
      return stopped;
    }
    if (auto at = word.find('='); at != std::string::npos) {
      value = word.substr(at + 1);
      word.resize(at);
    } else if (i + 1 < argc) {
      value = argv[++i];
    }
    auto* to = word == "--config"     ? &x.config
               : word == "--data-dir" ? &x.overrides.data_dir
               : word == "--run-dir"  ? &x.overrides.run_dir
                                      : nullptr;
    if (!to || value.empty()) {
      fmt::print(stderr, "varved: {} \"{}\"\nsee: varved --help\n", to ? "no value for" : "unknown option", word);
      return bad_config;
    }
    *to = value;
  }
  if (x.config.empty()) {
    fmt::print(stderr, "varved: which configuration? --config FILE\nsee: varved --help\n");
    return bad_config;
  }
  return std::nullopt;
}

int run(int argc, char** argv) {
  arguments args;
  if (auto code = read_arguments(argc, argv, args))
    return *code;
  config_findings findings;
  auto config = read_config(args.config, args.overrides, findings);
  for (const auto& x : findings.problems)
    fmt::print(stderr, "{}\n", to_string(x));
  if (!findings.problems.empty())
    return bad_config;

  // Before any thread: they inherit it, and signals come to this one only.
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  // What we make is ours alone.
  ::umask(0077);

  if (!config.log_file.empty()) {
    std::error_code ignored; // opening it says what is wrong
    std::filesystem::create_directories(std::filesystem::path(config.log_file).parent_path(), ignored);
  }
  if (auto problem = start_logging(config.log_level, config.log_file); !problem.empty()) {
    fmt::print(stderr, "varved: {}\n", problem);
    return failed;
  }
  const auto stop_timeout = config.stop_timeout;
  const bool logs_elsewhere = !config.log_file.empty();
  node self{std::move(config)};
  std::string problem;
  if (auto code = self.start(problem); code != stopped) {
    spdlog::error("event=not-started reason={}", log_value(problem));
    if (logs_elsewhere)
      fmt::print(stderr, "varved: {}\n", problem);
    self.stop();
    return code;
  }

  int signal = 0;
  for (bool ready = false; signal <= 0;) {
    const timespec look_again{0, 50'000'000};
    signal = ready ? ::sigwaitinfo(&signals, nullptr) : ::sigtimedwait(&signals, nullptr, &look_again);
    if (!ready && signal <= 0 && self.not_ready().empty()) {
      ready = true;
      spdlog::info("event=ready");
      notify_service_manager("READY=1");
    }
  }
  spdlog::info("event=stopping signal={}", signal);
  notify_service_manager("STOPPING=1");
  // Whatever hangs: a second signal, or the time limit, ends it. What was acknowledged is in the files already.
  std::thread{[signals, stop_timeout] {
    const auto end = std::chrono::steady_clock::now() + stop_timeout + 1s;
    int second = 0;
    siginfo_t from{};
    do {
      const auto left = std::max<std::chrono::nanoseconds>(end - std::chrono::steady_clock::now(), 0s);
      const timespec until{left / 1s, (left % 1s).count()};
      second = ::sigtimedwait(&signals, &from, &until);
      // Our own: asked by RPC to stop, which it does already.
    } while (second > 0 ? from.si_pid == ::getpid() : errno == EINTR);
    spdlog::error("event=ended-at-once reason={}", second > 0 ? "second-signal" : "time-limit");
    ::_exit(second > 0 ? 128 + second : not_stopped_in_time);
  }}.detach();
  self.stop();
  spdlog::info("event=stopped");
  spdlog::shutdown();
  return self.gave_up() ? failed : stopped;
}

} // namespace
} // namespace varve

int main(int argc, char** argv) {
  return varve::run(argc, argv);
}
