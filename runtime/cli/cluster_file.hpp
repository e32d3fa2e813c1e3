#pragma once

#include <string>
#include <vector>

#include "runtime/config/node_config.hpp"

namespace varve::cli {

/// A cluster's file, as far as it concerns this machine.
struct cluster_file {
  std::string path;
  /// Of all nodes.
  cluster_config cluster;
  /// node_config::cluster_dir.
  std::string cluster_dir;
  catalog_config catalog;
  /// The nodes whose control address is one of this machine, as the file has them.
  std::vector<node_config> here;
};

/// False with what is wrong: with the file, or that it is no cluster's. Blocks: names are resolved.
bool read_cluster_file(const std::string& path, cluster_file& out, std::string& problem);

/// Something could listen there: it is an address of this machine.
bool is_local(const endpoint& x);

} // namespace varve::cli
