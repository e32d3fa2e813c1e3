#include "actors/cluster/needs.hpp"

namespace varve {

namespace {

/// By what the two do.
std::vector<remote_path> needs_of_roles(const node_options& options, const std::string& node,
                                        const std::string& other) {
  std::vector<remote_path> result;
  const auto* from = options.cluster.find(node);
  const auto* to = options.cluster.find(other);
  if (!from || !to || node == other)
    return result;
  if (to->roles.manager) {
    result.push_back({path::membership, path::membership_of(other)});
    for (const auto& x : {path::catalog, path::volumes, path::leases, path::placement, path::migrations, path::monitor,
                          path::attachments, path::nodes})
      result.push_back({x, x, true});
  }
  // Of what every node is asked from outside, too.
  if (to->roles.storage)
    for (const auto& x : options.tiers)
      if (x.node == other)
        result.push_back({path::tier(x.store.name), path::tier(x.store.name)});
  if (from->roles.manager && to->roles.storage)
    result.push_back({path::mover, path::mover_of(other)});
  if (from->roles.manager && to->roles.host)
    result.push_back({path::host, path::host_of(other)});
  if ((from->roles.storage || from->roles.host) && to->roles.storage)
    result.push_back({path::data_keeper, path::data_keeper_of(other)});
  return result;
}

} // namespace

std::vector<remote_path> needs_of(const node_options& options, const std::string& node, const std::string& other) {
  auto result = needs_of_roles(options, node, other);
  // Where there is a connection anyhow people see both nodes.
  if (need_each_other(options, node, other))
    result.push_back({path::console, path::console_of(other)});
  return result;
}

bool need_each_other(const node_options& options, const std::string& a, const std::string& b) {
  return !needs_of_roles(options, a, b).empty() || !needs_of_roles(options, b, a).empty();
}

bool dials(const cluster_config& cluster, const std::string& a, const std::string& b) {
  for (const auto& x : cluster.nodes)
    if (x.name == a || x.name == b)
      return x.name == a && a != b;
  return false;
}

} // namespace varve
