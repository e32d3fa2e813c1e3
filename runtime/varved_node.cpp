#include "runtime/varved_node.hpp"

#include <csignal>
#include <ctime>
#include <filesystem>
#include <thread>

#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include "messages/register.hpp"
#include "runtime/cluster/incarnation.hpp"
#include "runtime/cluster/tls_link.hpp"
#include "runtime/data_plane/reactor_data_plane.hpp"
#include "runtime/monitoring/logging.hpp"
#include "runtime/rpc/cluster_console.hpp"
#include "runtime/version.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

boot_time boot_now() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec};
}

uint64_t wall_seconds() {
  return static_cast<uint64_t>(std::time(nullptr));
}

/// Something happened: to the log, and to the monitor for whoever asks later. That is the leading manager's for all
/// nodes of a cluster: `node` says where, if it is not empty. Any thread.
std::function<void(std::string, std::string)> publisher(std::shared_ptr<directory> directory, std::string node) {
  return [directory = std::move(directory), node = std::move(node)](std::string code, std::string text) {
    spdlog::warn("event={} text={}", log_value(code), log_value(text));
    if (!node.empty())
      text = "node " + node + ": " + text;
    if (auto monitor = directory->get<monitor_actor>(path::monitor))
      caf::anon_send(monitor, atom::publish_v, event{wall_seconds(), std::move(code), std::move(text)});
  };
}

} // namespace

std::vector<shard_store_options> varved_node::tier_options() {
  std::vector<shard_store_options> all;
  for (const auto& x : config_.tiers) {
    if (refused(x.name))
      continue; // whatever its folder is, nothing touches it
    shard_store_options o;
    o.name = x.name;
    o.kind = x.kind;
    o.directory = x.path;
    o.io = x.io;
    o.emulate = x.emulate;
    o.checkpoint_after = x.checkpoint_after;
    o.on_mismatch = [publish = publish_, tier = x.name](shard_id id, uint64_t offset) {
      publish("CHECKSUM_MISMATCH",
              fmt::format("tier {} volume {} shard {} offset {}", tier, id.volume.value(), id.index.value(), offset));
    };
    all.push_back(std::move(o));
  }
  return all;
}

node_options varved_node::options() const {
  node_options x;
  x.name = config_.name;
  x.version = version;
  x.ring = ring_;
  for (const auto& t : in_cluster() ? config_.cluster.tiers : config_.tiers) {
    tier_settings settings;
    if (t.node != config_.name)
      settings.node = t.node;
    settings.store.name = t.name;
    settings.store.kind = t.kind;
    settings.store.directory = t.path;
    settings.store.io = t.io;
    settings.store.emulate = t.emulate;
    settings.capacity_bytes = t.capacity_bytes;
    settings.cost = t.cost;
    settings.accepts = t.accepts;
    if (const auto* claim = settings.node.empty() ? claim_of(t.name) : nullptr) {
      settings.id = claim->id;
      settings.refused = claim->refused;
    }
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
  x.roles = config_.roles;
  x.cluster = config_.cluster;
  x.incarnation = incarnation_;
  // Of jitter only: a node that starts again must not repeat its own rhythm.
  x.seed = static_cast<uint64_t>(boot_now().count()) ^ static_cast<uint64_t>(::getpid());
  return x;
}

const tier_claim* varved_node::claim_of(const std::string& tier) const {
  for (const auto& x : claims_)
    if (x.tier == tier)
      return &x;
  return nullptr;
}

bool varved_node::refused(const std::string& tier) const {
  const auto* claim = claim_of(tier);
  return claim && !claim->refused.empty();
}

bool varved_node::start_plane(std::string& problem) {
  for (const auto& x : config_.tiers) {
    std::error_code error;
    if (!claim_of(x.name) && !x.path.empty() && std::filesystem::create_directories(x.path, error))
      ::chmod(x.path.c_str(), 0700);
    if (error) {
      problem = x.path + ": " + error.message();
      return false;
    }
  }
  data_plane_options o;
  o.tiers = tier_options();
  o.routes_end = config_.holder_clock;
  if (!o.routes_end)
    spdlog::warn("event=holder-clock-off key=debug.holder_clock");
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
  if (in_cluster()) {
    remote_ = make_remote_plane(config_, incarnation_, o.reactors, problem);
    if (!remote_)
      return false;
    o.make_peers = remote_->peers();
  }
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

exit_code varved_node::start(std::string& problem) {
  publish_ = publisher(directory_, in_cluster() ? config_.name : std::string{});
  // Before anything is touched, and so before anybody is told of a new life.
  if (in_cluster()) {
    problem = what_is_wrong_with_keys(config_);
    if (!problem.empty())
      return bad_config;
  }
  auto taken = data_lock_.take(config_.data_dir, "--data-dir", problem);
  if (taken == locked_folder::outcome::taken && config_.run_dir != config_.data_dir)
    taken = run_lock_.take(config_.run_dir, "--run-dir", problem);
  if (taken != locked_folder::outcome::taken)
    return taken == locked_folder::outcome::in_use ? folder_in_use : failed;
  if (in_cluster() && (incarnation_ = begin_incarnation(config_.data_dir, wall_seconds(), problem)) == 0)
    return failed;
  if (config_.roles.manager) {
    catalog_ = open_catalog(
      config_, publish_, [this](const std::string& why) { give_up(why); }, problem);
    if (!catalog_.store)
      return failed;
  }
  // One in etcd may not be there yet, and nobody leads before managing begins.
  auto ids = catalog_.file;
  if (!ids && in_cluster() && !(ids = open_tier_ids(config_, problem)))
    return failed;
  if (ids && !claim_tiers(config_.tiers, config_.name, *ids, claims_, problem, catalog_.file != nullptr))
    return failed;
  ids.reset();
  for (const auto& x : claims_)
    if (x.is_new)
      spdlog::info("event=tier-identified tier={} id={}", log_value(x.tier), x.id);
  epochs_ = epoch_log_thread::start({.folder = config_.data_dir}, problem);
  if (!epochs_)
    return failed;
  if (!problem.empty())
    publish_("EPOCH_LOG_DAMAGED", std::exchange(problem, {}));
  if (!start_plane(problem))
    return failed;
  std::map<std::string, std::string> folders;
  for (const auto& x : config_.tiers)
    if (!x.path.empty() && !refused(x.name))
      folders[x.name] = x.path;
  scanner_ = std::make_shared<tier_scanner>(folders);

  auto context = std::make_shared<node_context>();
  context->directory = directory_;
  context->tree = tree_;
  context->plane = plane_;
  context->remote = remote_;
  context->fill_random = remote::fill_random;
  context->epochs = epochs_;
  context->store = catalog_.store;
  context->leadership = catalog_.leadership;
  if (catalog_.file) {
    extract_options extracts;
    for (const auto& [tier, folder] : folders)
      extracts.folders.push_back(folder);
    extracts.on_problem = [publish = publish_](std::string problem) {
      publish("CATALOG_EXTRACT_NOT_WRITTEN", std::move(problem));
    };
    context->store = extracts_ = std::make_shared<extracting_store>(catalog_.store, std::move(extracts));
  }
  context->now = boot_now;
  context->started_at = boot_now();
  context->wall_seconds = wall_seconds;
  context->scan_tier = [scanner = scanner_](const std::string& tier, std::function<void(tier_scan)> done) {
    scanner->scan(tier, std::move(done));
  };
  context->publish = publish_;
  context->options = options();

  // Deciding is little work; more threads would only take processors from the reactors.
  caf_config_.set("scheduler.max-threads", size_t{2});
  // Idle actors must cost nothing: the workers of the work-stealing scheduler never cease to look for work.
  caf_config_.set("scheduler.policy", caf::atom("sharing"));
  if (in_cluster()) {
    add_messages(caf_config_);
    tls_link::configure(caf_config_, key_files_of(config_.cluster.keys_dir, config_.name));
  }
  system_ = std::make_unique<caf::actor_system>(caf_config_);
  if (in_cluster())
    context->link = link_ =
      std::make_shared<closable_link>(std::make_shared<tls_link>(*system_, config_.cluster, config_.name, publish_));
  // Requests of clients that are gone must not hold up the end.
  system_->await_actors_before_shutdown(false);
  gateway::parts parts;
  parts.system = system_.get();
  parts.directory = directory_;
  parts.plane = plane_;
  parts.root = [root = root_] { return root->get(); };
  parts.why_not_managing = [this] { return why_not_managing(); };
  parts.leader = [this] { return leader(); };
  parts.not_ready = [this] { return not_ready(); };
  parts.stop = [] { ::kill(::getpid(), SIGTERM); };
  if (catalog_.file)
    parts.copy_catalog = [file = catalog_.file](std::string path, catalog_store::callback done) {
      file->copy_to(std::move(path), std::move(done));
    };
  parts.tree = tree_;
  parts.now = boot_now;
  parts.publish = publish_;
  gateway_ = std::make_unique<gateway>(std::move(parts), asked_options());
  context->console = std::make_shared<cluster_console>(*gateway_, cluster_console::asked_by::nodes);
  root_keeper_ = caf::actor_cast<caf::strong_actor_ptr>(
    system_->spawn(root_keeper, context_ptr{context}, root_,
                   std::function<void()>{[this] { give_up("the actors cannot be kept alive"); }}));

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
  spdlog::info("event=started version={} pid={} data_dir={} rpc={} http={} io={} tiers={} roles={} incarnation={}",
               version, ::getpid(), log_value(config_.data_dir), log_value(config_.rpc_socket),
               http_ ? fmt::format("{}:{}", config_.http_host, http_->port()) : "off", ring_, config_.tiers.size(),
               to_string(config_.roles), incarnation_);
  return stopped;
}

void varved_node::give_up(const std::string& why) {
  spdlog::error("event=node-failed text={}", log_value(why));
  gave_up_ = true;
  ::kill(::getpid(), SIGTERM);
}

std::optional<std::string> varved_node::summary() const {
  const auto status = ask<node_status>([this](auto done) { gateway_->status(std::move(done)); });
  if (!status)
    return std::nullopt;
  auto text = fmt::format("{}: {} of {} volumes attached", status->health, status->attached_volumes, status->volumes);
  for (const auto& x : status->findings)
    text += "; " + x.code;
  return text;
}

std::string varved_node::metrics() {
  node_snapshot x;
  x.version = version;
  // What a manager keeps is told once: by the node that manages.
  if (config_.roles.manager && !stands_by()) {
    x.status = ask<node_status>([this](auto done) { gateway_->status(std::move(done)); });
    if (in_cluster())
      if (auto view = ask<cluster_view>([this](auto done) { gateway_->cluster_status(std::move(done)); }))
        x.members = std::move(view->members);
    x.volumes = ask<std::vector<volume_info>>([this](auto done) { gateway_->volume_list(std::move(done)); });
    x.leases = ask<std::vector<lease_info>>([this](auto done) {
                 gateway_->lease_list({}, std::move(done));
               }).value_or(std::vector<lease_info>{});
    x.migrations = ask<std::vector<migration_progress>>([this](auto done) {
                     gateway_->migration_list(std::move(done));
                   }).value_or(std::vector<migration_progress>{});
  }
  const auto tiers = ask<std::vector<tier_row>>([this](auto done) { gateway_->tier_list(std::move(done)); });
  for (const auto& t : tiers.value_or(std::vector<tier_row>{}))
    if (t.node == config_.name)
      x.tiers.push_back(t);
  x.actors = tree_->list(boot_now());
  auto counted = std::make_shared<std::promise<std::map<volume_id, volume_counters>>>();
  auto counters = counted->get_future();
  plane_->port_counters([counted](std::map<volume_id, volume_counters> all) { counted->set_value(std::move(all)); });
  if (counters.wait_for(2s) == std::future_status::ready)
    x.counters = counters.get();
  if (remote_) {
    auto told = std::make_shared<std::promise<remote_plane_counters>>();
    auto between = told->get_future();
    remote_->counters([told](remote_plane_counters all) { told->set_value(all); });
    if (between.wait_for(2s) == std::future_status::ready)
      x.remote = between.get();
  }
  x.rpc_connections = rpc_->connections();
  std::lock_guard guard{metrics_mutex_};
  return metrics_.render(x);
}

void varved_node::stop() {
  stopping_ = true;
  // Where starting fails early the actors may not have begun yet: they must not be met by the end of their system.
  for (int i = 0; i < 100 && root_keeper_ && !root_->get() && !gave_up_; ++i)
    std::this_thread::sleep_for(10ms);
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
  root_keeper_ = nullptr;
  if (link_)
    link_->close();
  system_.reset();
  gateway_.reset();
  directory_->clear();
  plane_.reset();
  remote_.reset();
  epochs_.reset();
  scanner_.reset();
  extracts_.reset();
  catalog_ = {};
}

} // namespace varve
