#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <caf/actor_system.hpp>

#include "messages/cluster_view.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/actor_tree.hpp"
#include "runtime/catalog/catalog_store.hpp"
#include "runtime/data_plane/data_plane.hpp"
#include "runtime/rpc/bridge.hpp"

namespace varve {

struct gateway_options {
  /// Of a whole request.
  caf::timespan timeout{std::chrono::seconds{30}};
  /// Of those that read whole shards, wait for clients, or delete.
  caf::timespan timeout_long{std::chrono::minutes{15}};
  /// The tiers that there should be: one that does not answer is listed as unknown.
  std::vector<std::string> tiers;
  bool allow_kill = false;
  /// The node's: the first name of every path in the console.
  std::string node = "varve";
  /// How long the console waits for one actor; then it is silent.
  caf::timespan patience{std::chrono::seconds{1}};
  /// The cluster's name; empty: this node is by itself.
  std::string cluster;
  /// Its nodes, in the order of the configuration, and those that are managers.
  std::vector<std::string> nodes;
  std::vector<std::string> managers;
  /// In a cluster: whose each tier is.
  std::map<std::string, std::string> tier_nodes;
  /// This node attaches volumes.
  bool is_host = true;
};

/// All that can be asked of a node from outside, in the words of messages/varve.capnp, carried out by asking its
/// actors. Any thread; each request is an actor of its own for as long as it lasts.
class gateway {
public:
  /// What is outside the actors. `plane` may be null: no connection counts.
  struct parts {
    caf::actor_system* system = nullptr;
    std::shared_ptr<varve::directory> directory;
    std::shared_ptr<data_plane> plane;
    /// The living one, or an invalid handle between two.
    std::function<node_root_actor()> root;
    /// Empty while this node manages, or may; else why not, for people. May be null: always.
    std::function<std::string()> why_not_managing;
    /// Who leads, as far as this node knows without its manager's monitor; empty: nobody. May be null.
    std::function<std::string()> leader;
    /// Empty when this node serves; blocks for seconds. May be null: always.
    std::function<std::string()> not_ready;
    /// Begins to stop the node; returns at once.
    std::function<void()> stop;
    /// Copies the catalog to a new file; may be empty.
    std::function<void(std::string path, catalog_store::callback done)> copy_catalog;
    /// For the console: null, as in some tests, leaves its columns empty.
    std::shared_ptr<actor_tree> tree;
    std::function<boot_time()> now;
    /// Tells the monitor and the log of what people did. Any thread.
    std::function<void(std::string code, std::string text)> publish;
  };

  gateway(parts parts, gateway_options options) : parts_(std::move(parts)), options_(std::move(options)) {}
  gateway(const gateway&) = delete;
  gateway& operator=(const gateway&) = delete;

  const parts& outside() const { return parts_; }
  const gateway_options& options() const { return options_; }

  void status(answer<node_status> done) const;
  void events(uint64_t limit, answer<std::vector<event>> done) const;

  void volume_create(volume_spec spec, answer<volume_info> done) const;
  void volume_list(answer<std::vector<volume_info>> done) const;
  void volume_show(std::string volume, answer<volume_info> done) const;
  void volume_resize(std::string volume, uint64_t size_bytes, answer<volume_info> done) const;
  void volume_remove(std::string volume, bool confirmed, answer<nothing> done) const;
  /// `host` empty: this node. `shared`: also while it is attached elsewhere.
  void volume_attach(std::string volume, std::string host, bool shared, answer<attachment> done) const;
  /// `host` empty: the only one.
  void volume_detach(std::string volume, bool force, std::string host, answer<nothing> done) const;
  /// For what needs the number and the size only.
  void volume_record_of(std::string volume, answer<volume_record> done) const;

  void shard_list(std::string volume, uint64_t first, uint64_t limit, answer<shard_rows> done) const;
  void shard_show(std::string volume, uint64_t index, answer<shard_row> done) const;
  void shard_move(std::string volume, uint64_t first, uint64_t count, std::string to_tier,
                  answer<std::vector<migration_id>> done) const;
  void shard_verify(std::string volume, uint64_t index, answer<uint64_t> done) const;

  void tier_list(answer<std::vector<tier_row>> done) const;

  /// Of all volumes when `volume` is empty.
  void lease_list(std::string volume, answer<std::vector<lease_info>> done) const;
  void lease_break(std::string volume, uint64_t index, answer<nothing> done) const;
  /// At most `limit` events after a number, and never more than a thousand.
  void lease_history(uint64_t after, uint64_t limit, answer<varve::lease_history> done) const;

  void migration_list(answer<std::vector<migration_progress>> done) const;
  void migration_show(migration_id id, answer<migration_progress> done) const;
  void migration_cancel(migration_id id, answer<migration_progress> done) const;
  void migration_pause(migration_id id, answer<migration_progress> done) const;
  void migration_resume(migration_id id, answer<migration_progress> done) const;

  void cluster_status(answer<cluster_view> done) const;
  void node_list(answer<std::vector<node_condition>> done) const;
  void node_change(std::string node, bool cordoned, bool draining, answer<node_condition> done) const;
  /// Whether it may be stopped or, with `remove`, taken away.
  void node_verify(std::string node, bool remove, answer<node_verdict> done) const;

  void actor_list(answer<std::vector<actor_info>> done) const;
  void actor_kill(std::string path, answer<nothing> done) const;

  /// A copy that finish_backup makes a backup of; the catalog goes on meanwhile.
  void catalog_copy(std::string path, answer<nothing> done) const;

  void stop(answer<nothing> done) const;

  static constexpr uint64_t shards_per_page_max = 4096;

private:
  template <class T, class Body>
  void run(answer<T> done, Body body) const {
    run_request<T>(*parts_.system, parts_.directory, options_.timeout, parts_.why_not_managing, std::move(done),
                   std::move(body));
  }
  template <class T, class Body>
  void run_long(answer<T> done, Body body) const {
    run_request<T>(*parts_.system, parts_.directory, options_.timeout_long, parts_.why_not_managing, std::move(done),
                   std::move(body));
  }

  bool in_cluster() const { return !options_.cluster.empty(); }
  std::string node_of(const std::string& tier) const;
  /// Fills in the members, as the first of these managers tells that answers.
  void with_members(bridge& on, cluster_view view, std::vector<std::string> managers,
                    std::function<void(cluster_view)> then) const;

  /// Adds what the volume's actor does not know: where clients connect, and how many did.
  void complete(bridge& on, std::vector<volume_info> volumes, std::function<void(std::vector<volume_info>)> then) const;
  /// The same for shards: leases, migrations, and what the tiers know of active ones.
  void complete(bridge& on, volume_id volume, std::vector<shard_row> shards,
                std::function<void(std::vector<shard_row>)> then) const;

  parts parts_;
  gateway_options options_;
};

} // namespace varve
