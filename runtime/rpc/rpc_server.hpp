#pragma once

#include <memory>
#include <string>

#include "runtime/rpc/gateway.hpp"

namespace varve {

struct rpc_options {
  std::string socket_path;
  /// Those beyond are closed at once.
  uint64_t connections_max = 64;
  /// Of one message; what claims more ends its connection before it is read. Eight bytes each.
  uint64_t message_words_max = 128 << 10;
  int nesting_max = 16;
};

/// Serves messages/varve.capnp on a Unix socket (mode 0600, peers of the same user or root), on a thread of its own.
class rpc_server {
public:
  /// Null with a `problem` when the socket cannot be had. `to` must outlive the server. `plane` is what recordings
  /// observe; without it there are none.
  static std::unique_ptr<rpc_server> start(const gateway& to, std::shared_ptr<data_plane> plane, rpc_options options,
                                           std::string& problem);
  /// Sends what is answered, then closes all connections: what is under way is answered by their end.
  virtual ~rpc_server() = default;

  virtual uint64_t connections() const = 0;
};

} // namespace varve
