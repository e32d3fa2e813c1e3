#pragma once

#include <string>
#include <vector>

#include <caf/meta/type_name.hpp>

#include "messages/node.hpp"

namespace varve {

/// What is wanted of a node, and how far it is.
struct node_condition {
  std::string node;
  /// Nothing new is placed there.
  bool cordoned = false;
  /// And what is there moves to other nodes.
  bool draining = false;
  /// Of the last count; false: none has ended yet.
  bool counted = false;
  /// Shards that have their home there.
  uint64_t shards = 0;
  /// Of these, on their way to another node now.
  uint64_t moving = 0;
  /// Of these, not moving since they were refused; `problem` says why the last one was.
  uint64_t stuck = 0;
  /// Volumes attached there.
  uint64_t volumes_attached = 0;
  std::string problem;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, node_condition& x) {
  return f(caf::meta::type_name("varve::node_condition"), x.node, x.cordoned, x.draining, x.counted, x.shards, x.moving,
           x.stuck, x.volumes_attached, x.problem);
}

/// Whether something may be done to a node; if not, every reason with a stable code:
///   NODE_HAS_SHARDS       homes are there: nobody else has their data
///   NODE_HAS_USED_SHARDS  of volumes that are attached: their I/O would wait
///   NODE_HOSTS_VOLUMES    volumes are attached there
///   NODE_MOVES_SHARDS     moves to or from there are under way
///   LAST_MANAGER          no other manager is up
struct node_verdict {
  bool ok = false;
  std::vector<health_finding> reasons;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, node_verdict& x) {
  return f(caf::meta::type_name("varve::node_verdict"), x.ok, x.reasons);
}

} // namespace varve
