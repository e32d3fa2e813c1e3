#pragma once

#include <string>
#include <vector>

#include "actors/node_context.hpp"

namespace varve {

/// An actor of another node, and where it is to stand in this node's directory.
struct remote_path {
  std::string there;
  std::string here;
  /// Only while that node manages the cluster.
  bool of_leader = false;
};

/// What `node` needs of `other`, by the roles that the configuration gives them: of a manager what manages; a manager
/// of storage its tiers and moves, and of a host what attaches; whoever does I/O the keys of all storage; and of all
/// of these their consoles.
std::vector<remote_path> needs_of(const node_options& options, const std::string& node, const std::string& other);

/// Whether the two need a connection at all.
bool need_each_other(const node_options& options, const std::string& a, const std::string& b);

/// Whether `a` is who makes the connection between the two: it stands first in the configuration.
bool dials(const cluster_config& cluster, const std::string& a, const std::string& b);

} // namespace varve
