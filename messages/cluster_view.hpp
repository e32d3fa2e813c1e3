#pragma once

#include <string>
#include <vector>

#include "messages/cluster.hpp"
#include "messages/node.hpp"
#include "messages/node_tools.hpp"
#include "messages/tier.hpp"
#include "messages/volume.hpp"

// What programs are told of a cluster, and no actor says to another.
namespace varve {

/// A tier, and whose it is: a node's name, or empty when that is not known.
struct tier_row : tier_info {
  std::string node;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, tier_row& x) {
  return f(caf::meta::type_name("varve::tier_row"), static_cast<tier_info&>(x), x.node);
}

/// A shard, and whose its home is.
struct shard_row : shard_info {
  std::string node;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, shard_row& x) {
  return f(caf::meta::type_name("varve::shard_row"), static_cast<shard_info&>(x), x.node);
}

/// A page of `shard ls`; `next` is where to go on, 0 at the end.
struct shard_rows {
  std::vector<shard_row> shards;
  shard_index next;
};

/// A cluster on one screen, as one of its nodes tells it.
struct cluster_view {
  std::string cluster;
  /// Who was asked.
  std::string node;
  /// Who leads, as far as that node knows; empty: nobody.
  std::string leader;
  /// The manager whose members these are.
  std::string seen_by;
  std::vector<member_info> members;
  /// "ok", "warning" or "error".
  std::string health;
  /// The worst first.
  std::vector<health_finding> findings;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, cluster_view& x) {
  return f(caf::meta::type_name("varve::cluster_view"), x.cluster, x.node, x.leader, x.seen_by, x.members, x.health,
           x.findings);
}

} // namespace varve
