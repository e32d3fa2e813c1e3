#pragma once

#include <functional>
#include <string>

#include <caf/expected.hpp>

#include "messages/interfaces.hpp"

namespace varve {

/// How the nodes of a cluster reach each other: CAF networking with mutual TLS in production, delayed and lossy proxies
/// in simulation. Any thread; what is called back is called once, on any thread, and must only pass it on.
class cluster_link {
public:
  virtual ~cluster_link() = default;

  /// Lets other nodes find `gate` at this node's control address, instead of an earlier one. errc::unavailable with the
  /// address and the reason.
  virtual void publish(const node_gate_actor& gate, std::function<void(caf::error)> done) = 0;

  /// Connects to a node of the configuration. errc::unavailable with the address and the reason. The gate goes DOWN
  /// when the connection is lost.
  virtual void connect(const std::string& node, std::function<void(caf::expected<node_gate_actor>)> done) = 0;

  /// Gives up the connection to a node that has fallen silent, as if it were lost.
  virtual void disconnect(const std::string& node) = 0;
};

} // namespace varve
