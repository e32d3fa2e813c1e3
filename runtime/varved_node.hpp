#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include "actors/root_keeper.hpp"
#include "runtime/config/node_config.hpp"
#include "runtime/data_plane/data_plane.hpp"
#include "runtime/monitoring/http_server.hpp"
#include "runtime/monitoring/node_metrics.hpp"
#include "runtime/recovery/catalog_extract.hpp"
#include "runtime/recovery/tier_claims.hpp"
#include "runtime/rpc/rpc_server.hpp"
#include "runtime/storage/epoch_log.hpp"
#include "runtime/varved_catalog.hpp"
#include "runtime/varved_cluster.hpp"
#include "runtime/varved_folder.hpp"
#include "runtime/varved_remote.hpp"
#include "runtime/varved_scanner.hpp"

namespace varve {

/// How the process ends; told by --help. systemd must not restart after 2 and 3.
enum exit_code : int { stopped = 0, failed = 1, bad_config = 2, folder_in_use = 3, not_stopped_in_time = 4 };

/// A running node. Members are declared in the order in which they are made; stop() takes them down in reverse.
class varved_node {
public:
  explicit varved_node(node_config config) : config_(std::move(config)) {}

  /// Blocks; `stopped` when all of it runs. Otherwise `problem` says why not, and stop() is to be called all the same.
  exit_code start(std::string& problem);
  /// Empty when it serves what its roles ask for: managing has begun, here or at the manager that it has joined, its
  /// tiers serve, and every volume attached here has its port. A manager beside one that leads serves by waiting.
  std::string not_ready();
  /// One line for the service manager; nothing when the actors do not answer within 5 s.
  std::optional<std::string> summary() const;
  /// In order: requests under way end, everything is flushed. Blocks, for the configured time at most for the actors.
  void stop();
  /// The actors died too often, or it can never lead; SIGTERM was sent to this process.
  bool gave_up() const { return gave_up_; }

private:
  std::vector<shard_store_options> tier_options();
  node_options options() const;
  bool start_plane(std::string& problem);
  void give_up(const std::string& why);
  bool in_cluster() const { return !config_.cluster.nodes.empty(); }
  /// Of several managers not the one that leads.
  bool stands_by() const;
  /// Empty: it leads, or its catalog is its own.
  std::string not_leading() const;
  /// Why what a manager keeps cannot be asked of this node; empty: it can.
  std::string why_not_managing() const;
  /// Of a manager: who leads; empty: nobody, or not known.
  std::string leader() const;
  /// Empty: a manager hears this life of this node.
  std::string not_joined() const;
  std::string volumes_not_ready() const;
  gateway_options asked_options() const;
  /// What came of a tier when it was looked at; null for memory.
  const tier_claim* claim_of(const std::string& tier) const;
  bool refused(const std::string& tier) const;
  std::string metrics();
  /// Asks through the gateway and waits for 5 s at most.
  template <class T, class Ask>
  std::optional<T> ask(Ask ask) const {
    auto promise = std::make_shared<std::promise<std::optional<T>>>();
    auto result = promise->get_future();
    ask(answer<T>{
      [promise](caf::error e, T x) { promise->set_value(e ? std::nullopt : std::optional<T>{std::move(x)}); }});
    return result.wait_for(std::chrono::seconds{5}) == std::future_status::ready ? result.get() : std::nullopt;
  }

  node_config config_;
  std::atomic<bool> gave_up_{false};
  std::atomic<bool> stopping_{false};
  locked_folder data_lock_, run_lock_;
  std::shared_ptr<varve::directory> directory_ = std::make_shared<varve::directory>();
  std::shared_ptr<actor_tree> tree_ = std::make_shared<actor_tree>();
  /// Tells the log and the monitor.
  std::function<void(std::string code, std::string text)> publish_;
  node_catalog catalog_;
  std::shared_ptr<extracting_store> extracts_;
  std::vector<tier_claim> claims_;
  /// Null when the node is by itself.
  std::shared_ptr<remote_plane> remote_;
  std::shared_ptr<epoch_log> epochs_;
  std::shared_ptr<data_plane> plane_;
  std::string ring_;
  std::shared_ptr<tier_scanner> scanner_;
  caf::actor_system_config caf_config_;
  /// Of this life, in its cluster.
  uint64_t incarnation_ = 1;
  std::unique_ptr<caf::actor_system> system_;
  std::shared_ptr<closable_link> link_;
  std::shared_ptr<root_place> root_ = std::make_shared<root_place>();
  /// An actor that nobody refers to ends.
  caf::strong_actor_ptr root_keeper_;
  std::unique_ptr<gateway> gateway_;
  std::unique_ptr<rpc_server> rpc_;
  std::mutex metrics_mutex_;
  node_metrics metrics_; // guarded by metrics_mutex_
  std::unique_ptr<http_server> http_;
};

} // namespace varve
