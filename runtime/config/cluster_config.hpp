#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "runtime/config/endpoint.hpp"
#include "runtime/config/tier_config.hpp"

namespace varve {

/// What a node is there for, in any mix.
struct node_roles {
  bool manager = true, storage = true, host = true;

  bool operator==(const node_roles&) const = default;
};

/// "manager,storage,host", as far as they hold.
std::string to_string(const node_roles& x);

/// [[node]], as every node of the cluster knows it.
struct cluster_node {
  std::string name;
  node_roles roles;
  /// Where its actors are reached: mutual TLS.
  endpoint control;
  /// Where the shards of its tiers are read and written: reactor n listens at the port plus n.
  endpoint data;
};

/// [cluster] and [security]. Without nodes: the file is of one node by itself.
struct cluster_config {
  std::string name;
  std::vector<cluster_node> nodes;
  /// Of all nodes, as they stand in the file; names are unique.
  std::vector<tier_config> tiers;
  /// A node says so often that it lives; it is suspect, then down, when it has not been heard for so long.
  std::chrono::nanoseconds heartbeat = std::chrono::seconds{1};
  std::chrono::nanoseconds suspect_after = std::chrono::seconds{3};
  std::chrono::nanoseconds down_after = std::chrono::seconds{10};
  /// The CA's certificate, and each node's own with its key, as `varve cluster keys init` makes them.
  std::string keys_dir;
  /// Nobody can listen on the network between the nodes: the payload of shards goes without TLS.
  bool trusted_network = false;

  /// Null when there is no such node.
  const cluster_node* find(const std::string& node) const {
    for (const auto& x : nodes)
      if (x.name == node)
        return &x;
    return nullptr;
  }
};

} // namespace varve
