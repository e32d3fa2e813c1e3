#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <caf/expected.hpp>

#include "messages/catalog.hpp"
#include "messages/cluster_view.hpp"
#include "messages/console.hpp"
#include "messages/lease.hpp"
#include "messages/migration.hpp"
#include "messages/node.hpp"
#include "messages/tier.hpp"
#include "messages/volume.hpp"

namespace varve {

/// How far a recording is, as the node tells.
struct recording_progress {
  uint64_t records = 0, dropped = 0, file_bytes = 0;
};

/// A conversation with a node over its socket, by messages/varve.capnp. Each call blocks until its answer, or fails
/// with errc::timed_out; once lost(), all fail with errc::unavailable. One thread, and
/// one client for each thread at a time: it brings the thread's event loop.
class rpc_client {
public:
  /// Null with a `problem` when nobody listens there. A `timeout` of 0 waits for ever.
  static std::unique_ptr<rpc_client> connect(const std::string& socket_path, std::chrono::nanoseconds timeout,
                                             std::string& problem);
  virtual ~rpc_client() = default;

  /// The connection broke: what was asked last may have happened or not.
  virtual bool lost() const = 0;
  virtual void set_timeout(std::chrono::nanoseconds timeout) = 0;
  /// Sleeps, while the connection is looked after.
  virtual void sleep(std::chrono::nanoseconds time) = 0;

  virtual caf::expected<node_status> status() = 0;
  virtual caf::expected<std::vector<event>> events(uint32_t limit) = 0;
  virtual caf::expected<volume_info> volume_create(const volume_spec& spec) = 0;
  virtual caf::expected<std::vector<volume_info>> volume_list() = 0;
  virtual caf::expected<volume_info> volume_show(const std::string& volume) = 0;
  virtual caf::expected<volume_info> volume_resize(const std::string& volume, uint64_t size_bytes) = 0;
  virtual caf::error volume_remove(const std::string& volume, bool confirmed) = 0;
  virtual caf::expected<attachment> volume_attach(const std::string& volume, const std::string& host, bool shared) = 0;
  virtual caf::error volume_detach(const std::string& volume, bool force, const std::string& host) = 0;
  virtual caf::expected<shard_rows> shard_list(const std::string& volume, uint64_t first, uint32_t limit) = 0;
  virtual caf::expected<shard_row> shard_show(const std::string& volume, uint64_t index) = 0;
  virtual caf::expected<std::vector<migration_id>> shard_move(const std::string& volume, uint64_t first, uint64_t count,
                                                              const std::string& to_tier) = 0;
  virtual caf::expected<uint64_t> shard_verify(const std::string& volume, uint64_t index) = 0;
  virtual caf::expected<std::vector<tier_row>> tier_list() = 0;
  virtual caf::expected<std::vector<lease_info>> lease_list(const std::string& volume) = 0;
  virtual caf::error lease_break(const std::string& volume, uint64_t index) = 0;
  virtual caf::expected<varve::lease_history> lease_history(uint64_t after, uint32_t limit) = 0;
  virtual caf::expected<std::vector<migration_progress>> migration_list() = 0;
  virtual caf::expected<migration_progress> migration_show(migration_id id) = 0;
  virtual caf::expected<migration_progress> migration_cancel(migration_id id) = 0;
  virtual caf::expected<migration_progress> migration_pause(migration_id id) = 0;
  virtual caf::expected<migration_progress> migration_resume(migration_id id) = 0;
  virtual caf::expected<cluster_view> cluster_status() = 0;
  virtual caf::expected<std::vector<node_condition>> node_list() = 0;
  virtual caf::expected<node_condition> node_change(const std::string& node, bool cordoned, bool draining) = 0;
  virtual caf::expected<node_verdict> node_verify(const std::string& node, bool remove) = 0;
  /// What the node waits for; empty: it serves.
  virtual caf::expected<std::string> not_ready() = 0;
  virtual caf::expected<std::vector<actor_info>> actor_list() = 0;
  virtual caf::error actor_kill(const std::string& path) = 0;
  /// One recording at a time for each client; it ends with the client.
  virtual caf::error trace_start(const std::string& volume, const std::string& file) = 0;
  virtual caf::expected<recording_progress> trace_progress() = 0;
  virtual caf::expected<recording_progress> trace_stop() = 0;
  virtual caf::expected<catalog_backup_info> catalog_backup(const std::string& file) = 0;
  virtual caf::error stop() = 0;

  /// Before any of the following. Without `allow_write` this connection reads only from then on, whatever is asked of
  /// it: errc::read_only.
  virtual caf::error console_open(bool allow_write) = 0;
  virtual caf::expected<std::vector<actor_row>> console_tree(const std::string& path, uint32_t children_max) = 0;
  virtual caf::expected<actor_inspection> console_inspect(const std::string& path) = 0;
  virtual caf::expected<std::vector<actor_message>> console_messages(const std::string& path) = 0;
  virtual caf::expected<actor_facts> console_send(const std::string& path, const std::string& message,
                                                  const std::vector<argument_value>& arguments) = 0;
  virtual caf::error console_kill(const std::string& path) = 0;
};

} // namespace varve
