#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "runtime/caf/cluster_link.hpp"
#include "runtime/config/node_config.hpp"

namespace varve {

/// Why this node cannot be of its cluster with the keys that it finds, and which file it is; empty: it can. Blocks for
/// the disk only.
std::string what_is_wrong_with_keys(const node_config& config);

/// A link as actors have it, who may live longer than the actor system that the real one needs.
class closable_link final : public cluster_link {
public:
  explicit closable_link(std::shared_ptr<cluster_link> to) : to_(std::move(to)) {}

  void publish(const node_gate_actor& gate, std::function<void(caf::error)> done) override;
  void connect(const std::string& node, std::function<void(caf::expected<node_gate_actor>)> done) override;
  void disconnect(const std::string& node) override;

  /// From then on everything is refused with errc::unavailable. Blocks until the real one is gone.
  void close();

private:
  std::mutex mutex_; // also held while the real one is called: it only passes on
  std::shared_ptr<cluster_link> to_;
};

} // namespace varve
