#pragma once

#include <list>
#include <map>
#include <memory>

#include "runtime/data_plane/shard_table.hpp"
#include "runtime/data_plane/volume_port.hpp"
#include "runtime/monitoring/seldom.hpp"
#include "runtime/remote/remote_server_options.hpp"

namespace varve {

class remote_connection;

/// Lets other nodes' reactors do I/O on the shards of this reactor's table, with the checks that local requests meet:
/// gate, generation, fence. Reactor's thread only; table, keys and load outlive it.
class remote_server {
public:
  remote_server(reactor& on, shard_table& shards, foreground_load& load, session_keys& keys,
                remote_server_options options);
  remote_server(const remote_server&) = delete;
  /// Not while it is open: `close` has ended, or `listen` was never called.
  ~remote_server();

  /// Accepts on a listening socket, which it owns from now on.
  void listen(int fd);
  /// Serves one connection, which it owns from now on.
  void adopt(int fd);

  /// Stops accepting and ends every session; returns when no request of theirs is under way any more.
  task<void> close();

  /// What the shard table tells: requests that wait at this gate may try again. (Without it they try every 100 ms.)
  void retry(const shard_key& key);
  /// Ends the session that a key has opened.
  void revoke(uint64_t key);

  remote_server_counters counters() const;

private:
  friend class remote_connection;

  struct operation {
    ring_operation x; // first: its address is the operation's
    remote_server* self = nullptr;
    bool in_flight = false;
  };
  /// Who may open sessions, and the newest that was.
  struct initiator {
    uint64_t incarnation = 0;
    uint64_t session = 0;
    remote_connection* current = nullptr;
    async_event changed;
  };

  void submit(operation& x, void (*complete)(ring_operation&));
  void accept();
  void accepted(int32_t result);
  void settle();

  // -- of the connections
  /// Ends when nothing of the initiator's older sessions is or will be carried out.
  task<remote::refusal> claim_session(remote_connection& x, uint64_t initiator_id, uint64_t incarnation,
                                      uint64_t session);
  void session_over(remote_connection& x);
  /// Syncs what other nodes have changed: one that ended without a FLUSH has forgotten what of it was acknowledged, and
  /// after a restart has nobody ask for it.
  task<void> sync_changed();
  void ended(remote_connection& x);
  void trouble(const std::string& peer, const std::string& why);
  bool take_bytes(uint64_t bytes);
  void give_bytes(uint64_t bytes);
  /// From now on somebody's time may run out.
  void watch();
  void tick();

  reactor& reactor_;
  shard_table& shards_;
  foreground_load& load_;
  session_keys& keys_;
  const remote_server_options options_;
  remote_server_counters counters_;
  /// This node's own: what it has of others' is not for third ones.
  std::vector<remote::served_tier> tiers_;

  std::vector<int> listening_;
  std::list<std::unique_ptr<operation>> accepts_;
  operation timer_;
  std::list<std::unique_ptr<remote_connection>> connections_;
  size_t handshakes_ = 0;
  std::map<uint64_t, initiator> initiators_;
  async_event room_;   // bytes were given back
  uint64_t rooms_ = 0; // so often
  async_event gates_;  // a gate may have opened
  size_t at_gates_ = 0;
  size_t syncing_ = 0;
  seldom logged_;
  bool closing_ = false;
  async_event over_;
};

} // namespace varve
