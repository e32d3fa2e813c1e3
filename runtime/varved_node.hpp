#pragma once

#include <atomic>
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
#include "runtime/varved_catalog.hpp"
#include "runtime/varved_folder.hpp"
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
  /// Empty when it serves: managing has begun, and every attached volume has its port.
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
  /// Empty: it leads, or its catalog is its own.
  std::string not_leading() const;
  /// What came of a tier when it was looked at; null for memory.
  const tier_claim* claim_of(const std::string& tier) const;
  bool refused(const std::string& tier) const;
  std::string metrics();
  template <class T, class Ask>
  std::optional<T> ask(Ask ask) const;

  node_config config_;
  std::atomic<bool> gave_up_{false};
  std::atomic<bool> stopping_{false};
  locked_folder data_lock_, run_lock_;
  std::shared_ptr<varve::directory> directory_ = std::make_shared<varve::directory>();
  std::shared_ptr<actor_tree> tree_ = std::make_shared<actor_tree>();
  node_catalog catalog_;
  std::shared_ptr<extracting_store> extracts_;
  std::vector<tier_claim> claims_;
  std::shared_ptr<data_plane> plane_;
  std::string ring_;
  std::shared_ptr<tier_scanner> scanner_;
  caf::actor_system_config caf_config_;
  std::unique_ptr<caf::actor_system> system_;
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
