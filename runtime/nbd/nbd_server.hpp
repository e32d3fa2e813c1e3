#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>

#include "runtime/nbd/block_backend.hpp"
#include "runtime/nbd/nbd_connection.hpp"
#include "runtime/nbd/nbd_options.hpp"
#include "runtime/reactor/async.hpp"

namespace varve {

/// Serves the exports of a directory on one Unix socket. Reactor's thread only; the directory and its backends outlive
/// it.
class nbd_server {
public:
  nbd_server(reactor& on, export_directory& exports, nbd_options options = {});
  nbd_server(const nbd_server&) = delete;
  /// Not while it is open: `close` has ended, or `listen` has never succeeded.
  ~nbd_server();

  /// Makes the socket with mode 0600 from the first moment on and starts accepting. What a dead server left at `path`
  /// is replaced; errc::already_exists when somebody answers there or it is no socket; errc::invalid_argument when the
  /// path is longer than a socket's may be; errc::device_failed else. Blocks for a few system calls.
  errc listen(const std::string& path);

  /// Stops accepting, removes the socket file, closes every connection as nbd_connection::close does, with `force`
  /// after options.drain_time at the latest. Ends when nothing of the server is left in flight. A second call may add
  /// `force`.
  task<void> close(bool force);

  const nbd_counters& counters() const noexcept { return counters_; }
  size_t connections() const noexcept { return connections_.size(); }

  /// Called with the number of connections whenever it has changed.
  void on_connections(std::function<void(size_t)> f) { on_connections_ = std::move(f); }

private:
  struct operation {
    ring_operation x; // first, so that the address of the one is the address of the other
    nbd_server* self = nullptr;
    bool in_flight = false;
  };

  void submit(operation& x, void (*complete)(ring_operation&));
  void accept();
  void accepted(int32_t result);
  void ended(nbd_connection& x);
  void settle();

  reactor& reactor_;
  export_directory& exports_;
  const nbd_options options_;
  nbd_counters counters_;
  std::function<void(size_t)> on_connections_;
  int fd_ = -1;
  std::string path_;
  uint64_t path_inode_ = 0; // to remove only what is ours
  bool closing_ = false;
  operation accept_;
  operation pause_; // after a failed accept
  operation drain_;
  std::list<std::unique_ptr<nbd_connection>> connections_;
  async_event over_;
};

} // namespace varve
