#pragma once

#include <memory>
#include <optional>

#include "actors/cluster/leading.hpp"
#include "actors/supervision/children.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

using cluster_supervisor_actor = caf::typed_actor<VARVE_SUPERVISOR_MESSAGES, caf::reacts_to<atom::publish>,
                                                  caf::reacts_to<returned>>::extend_with<inspected_actor>;

/// A node's part of its cluster: the gate that the others find, the announcer, a peer for each node that this one and
/// it need something of, and a data link to each node with storage.
class cluster_supervisor_state {
public:
  static inline const char* name = "varve.cluster-supervisor";
  explicit cluster_supervisor_state(cluster_supervisor_actor::pointer self) : self_(self) {}
  cluster_supervisor_actor::behavior_type make_behavior(context_ptr context);

private:
  void start_peers();
  void start_data_links();
  void publish();

  cluster_supervisor_actor::pointer self_;
  context_ptr context_;
  std::optional<children> children_;
  std::shared_ptr<leader_watch> leaders_ = std::make_shared<leader_watch>();
  std::string trouble_;
};

cluster_supervisor_actor::behavior_type
cluster_supervisor(cluster_supervisor_actor::stateful_pointer<cluster_supervisor_state> self, context_ptr context);

} // namespace varve
