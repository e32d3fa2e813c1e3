#pragma once

#include <map>
#include <memory>

#include "runtime/data_plane/move_engine.hpp"
#include "runtime/data_plane/reactor_peers.hpp"
#include "runtime/data_plane/shard_table.hpp"
#include "runtime/data_plane/volume_port.hpp"
#include "runtime/nbd/nbd_server.hpp"

namespace varve {

/// What the data plane has on one reactor: its volumes' ports, active shards and moves. Reactor's thread only.
class reactor_core final : shard_watcher {
public:
  /// `peers`, null in a node by itself, has made its stores already: they are the last of `stores`.
  reactor_core(reactor& on, std::vector<std::unique_ptr<shard_store>> stores, std::unique_ptr<fabric> carrier,
               copy_budget& budget, nbd_options nbd, move_limits limits, std::unique_ptr<reactor_peers> peers = {});
  ~reactor_core() override;

  reactor& on() noexcept { return reactor_; }
  shard_table& shards() noexcept { return shards_; }
  move_engine& moves() noexcept { return moves_; }
  /// Null when it has no open port.
  volume_port* port(volume_id volume) noexcept;

  task<errc> open_port(port_options options);
  task<errc> close_port(volume_id volume, bool force);
  void counters(std::map<volume_id, volume_counters>& into) const;
  /// Closes ports, then shards; what does not end by `deadline` is left behind.
  task<errc> stop(boot_time deadline);

private:
  /// One volume: the only export of its socket.
  struct exported final : export_directory {
    block_backend* find(std::string_view name) override;
    std::vector<std::string> names() const override { return {port->options().name}; }

    std::unique_ptr<volume_port> port;
    std::unique_ptr<nbd_server> server; // below the port: ends first
    bool closing = false;
    size_t connections = 0;
  };

  void retry(const shard_key& key) override;
  void forget(active_shard& x, bool gone) override;

  reactor& reactor_;
  nbd_options nbd_;
  std::unique_ptr<reactor_peers> peers_; // its stores are in the table: it ends last
  shard_table shards_;
  std::unique_ptr<fabric> fabric_;
  foreground_load load_;
  move_engine moves_;
  std::map<volume_id, std::shared_ptr<exported>> ports_;
};

} // namespace varve
