#pragma once

#include <optional>

#include "actors/cluster/peer.hpp"
#include "actors/supervision/children.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using cluster_supervisor_actor =
  caf::typed_actor<VARVE_SUPERVISOR_MESSAGES, caf::reacts_to<atom::publish>, caf::reacts_to<returned>>;

/// A node's part of its cluster: the gate that the others find, the announcer, and a peer for each node that this one
/// needs something of.
class cluster_supervisor_state {
public:
  static inline const char* name = "varve.cluster-supervisor";
  explicit cluster_supervisor_state(cluster_supervisor_actor::pointer self) : self_(self) {}
  cluster_supervisor_actor::behavior_type make_behavior(context_ptr context);

private:
  void publish();

  cluster_supervisor_actor::pointer self_;
  context_ptr context_;
  std::optional<children> children_;
  std::string trouble_;
};

cluster_supervisor_actor::behavior_type
cluster_supervisor(cluster_supervisor_actor::stateful_pointer<cluster_supervisor_state> self, context_ptr context);

/// What `node` needs of `other`: of a manager, what manages; of storage, for a manager, its tiers and host.
std::vector<remote_path> needs_of(const cluster_config& cluster, const std::string& node, const std::string& other);

} // namespace varve
