#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include "runtime/caf/cluster_link.hpp"
#include "runtime/cluster/node_keys.hpp"
#include "runtime/config/cluster_config.hpp"

namespace varve {

/// What stands at the control address: the node's gate, whichever lives.
using door_actor = node_gate_actor::extend<caf::reacts_to<atom::publish, node_gate_actor>>;

struct door_state {
  node_gate_actor gate;
};

/// The control channel between nodes: CAF networking inside TLS, in which both sides must show a certificate that the
/// cluster's CA has signed.
class tls_link final : public cluster_link {
public:
  /// Before the actor system is made: what it needs for this.
  static void configure(caf::actor_system_config& config, const key_files& keys);

  /// `system` was made with a configuration that `configure` has seen, and outlives this. `publish` is told who was
  /// refused at the control port (STRANGER_REFUSED), the same with the same reason once a minute; any thread, may be
  /// empty.
  tls_link(caf::actor_system& system, cluster_config cluster, std::string node,
           std::function<void(std::string code, std::string text)> publish = {});
  ~tls_link() override;

  void publish(const node_gate_actor& gate, std::function<void(caf::error)> done) override;
  void connect(const std::string& node, std::function<void(caf::expected<node_gate_actor>)> done) override;
  void disconnect(const std::string& node) override;

private:
  struct attempt {
    std::string node;
    endpoint to;
    std::function<void(caf::expected<node_gate_actor>)> done;
  };
  /// What outlives this object, in actors that wait for CAF's answers.
  struct state {
    std::mutex mutex;
    std::condition_variable more;
    std::deque<attempt> attempts;
    bool stopping = false;
    door_actor door;
    /// What each node showed when it was connected to, as long as that connection lasts.
    std::map<std::string, node_gate_actor> connected;
  };

  void work();
  void reach(attempt x);
  static void shut_door(state& x);

  caf::actor_system& system_;
  cluster_config cluster_;
  std::string node_;
  uint16_t watched_ = 0; // port; 0: none
  std::shared_ptr<state> state_ = std::make_shared<state>();
  std::thread worker_;
};

} // namespace varve
