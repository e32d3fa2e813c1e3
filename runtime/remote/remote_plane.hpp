#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/data_plane/reactor_peers.hpp"
#include "runtime/remote/remote_client.hpp"
#include "runtime/remote/remote_io.hpp"
#include "runtime/remote/remote_server_options.hpp"
#include "runtime/remote/unsynced_book.hpp"

namespace varve {

/// Another node, as far as its shards are concerned.
struct remote_node {
  std::string name;
  /// Where its reactor 0 listens, "HOST:PORT". Empty: it serves nobody.
  std::string address;
  /// Names and kinds; names are unique in the cluster.
  std::vector<shard_store_options> tiers;
};

struct remote_plane_options {
  /// This node's name, and its life: higher at each start of its process.
  std::string name;
  uint64_t incarnation = 1;
  /// As many as the data plane has.
  uint32_t reactors = 1;
  /// Where reactor 0 listens, "HOST:PORT"; reactor n at PORT + n. Empty: serves nobody.
  std::string address;
  std::vector<remote_node> nodes;

  /// This end as a server and as a client of others, whose certificates must be of their nodes' names. Null: plain, for
  /// networks that are trusted.
  std::shared_ptr<const tls_context> server_tls, client_tls;

  /// Limits, verifiers, log. 0 as `boot`: the machine's; as `volatile_boot`: one of its own. `tls`, `part` and `parts`
  /// are not looked at.
  remote_server_options server;
  /// Times, and `random` and `direct`; all else is not looked at.
  remote_client_options client;

  /// Where this node's unflushed changes at others are noted for the process after this one. Null: nowhere.
  std::shared_ptr<unsynced_book> unsynced;

  /// Of other nodes' shards, on one reactor: so many may be open; one that nothing was asked of for so long, and twice
  /// that at most, is closed.
  size_t open_max = 16384;
  std::chrono::nanoseconds idle_time = std::chrono::seconds{30};

  /// Instead of sockets, for simulation. What reactor n of this node listens at, and a connection on its way to the
  /// reactor of another that listens at its port plus `port`: descriptors, or -errno. On the reactor's thread.
  std::function<int(uint32_t reactor)> listen;
  std::function<int(const std::string& node, uint16_t port)> connect;
};

/// Monotonic but for `_now`.
struct remote_plane_counters {
  // Of others' sessions here.
  uint64_t served_sessions_now = 0;
  uint64_t served_sessions = 0;
  uint64_t served_requests = 0;
  uint64_t served_read_bytes = 0, served_written_bytes = 0;
  /// Sessions that were not opened: key, version, an old session, too many.
  uint64_t refused_sessions = 0;
  /// Requests that storage refused.
  uint64_t refused_stale_epoch = 0, refused_moved = 0;
  /// Hung up on; and payloads that did not arrive as they were sent, in either direction.
  uint64_t protocol_errors = 0, broken_payloads = 0;

  // Of this node's sessions at others.
  uint64_t sessions_now = 0;
  uint64_t sessions = 0;
  uint64_t requests = 0;
  uint64_t requests_now = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t sent_again = 0;
  uint64_t timed_out = 0;
  /// Other nodes' shards that are open here.
  uint64_t open_shards_now = 0;
  /// Of these, so many may have lost what was acknowledged and not flushed: their volumes' FLUSH failed.
  uint64_t lost_shards = 0;
  /// Notes for the process after this one that could not be written: its FLUSH would not answer for those shards.
  uint64_t unnoted_shards = 0;
};

class remote_reactor;

/// The data path between this node and the others: part of a data plane on each of its reactors.
///
///     auto remote = remote_plane::make(options, problem);
///     plane_options.make_peers = remote->peers();     // and then the data plane
///
/// It may be made before the data plane and be used after it: what is told it then has no effect.
class remote_plane final : public remote_io {
public:
  /// Listens. Null, and why in `problem`, when an address cannot be listened at. Blocks where a name is to be looked
  /// up.
  static std::shared_ptr<remote_plane> make(remote_plane_options options, std::string& problem);
  ~remote_plane() override;

  /// For data_plane_options::make_peers. Keeps alive what it needs of this.
  std::function<std::unique_ptr<reactor_peers>(reactor&, uint32_t)> peers();

  /// Where reactor 0 will listen: with a port of 0 any was taken. Empty once the data plane is made.
  std::string address() const;

  /// Gathered over all reactors; `done` is called once, on one of their threads or at once, and must only pass it on.
  void counters(std::function<void(remote_plane_counters)> done);

  // -- remote_io
  uint32_t reactors() const noexcept override;
  void allow(uint32_t reactor, session_key key) override;
  void disallow(uint32_t reactor, uint64_t key) override;
  void set_key(const std::string& node, uint32_t theirs, uint32_t own, uint16_t port, session_key key) override;
  void set_reactors(const std::string& node, uint32_t count) override;
  void on_session(
    std::function<void(std::string node, uint32_t theirs, uint32_t own, remote_session_state state)> told) override;

  struct shared;

private:
  explicit remote_plane(std::shared_ptr<shared> x) : shared_(std::move(x)) {}

  std::shared_ptr<shared> shared_;
};

/// The write verifier of this machine's file tiers: another one after each boot of it.
uint64_t machine_boot();

} // namespace varve
