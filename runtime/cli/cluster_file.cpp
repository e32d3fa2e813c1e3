#include "runtime/cli/cluster_file.hpp"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

namespace varve::cli {

bool is_local(const endpoint& x) {
  addrinfo hints{}, *all = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  // No port: the address alone is asked for.
  if (::getaddrinfo(x.host.c_str(), "0", &hints, &all) != 0)
    return false;
  bool local = false;
  for (auto* at = all; at && !local; at = at->ai_next) {
    const int fd = ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    local = fd >= 0 && ::bind(fd, at->ai_addr, at->ai_addrlen) == 0;
    if (fd >= 0)
      ::close(fd);
  }
  ::freeaddrinfo(all);
  return local;
}

bool read_cluster_file(const std::string& path, cluster_file& out, std::string& problem) {
  config_findings findings;
  const auto whole = read_config(path, {}, findings);
  if (!findings.problems.empty()) {
    problem = to_string(findings.problems[0]);
    return false;
  }
  if (whole.cluster.nodes.empty()) {
    problem = path + ": it describes one node by itself; expected a cluster: [[node]] for each node";
    return false;
  }
  out.path = path;
  out.cluster = whole.cluster;
  out.cluster_dir = whole.cluster_dir;
  out.catalog = whole.catalog;
  for (const auto& x : whole.cluster.nodes) {
    if (!is_local(x.control))
      continue;
    config_findings of_node;
    out.here.push_back(read_config(path, {{}, {}, x.name}, of_node));
    // Such as a path that is too long for a socket.
    if (!of_node.problems.empty()) {
      problem = to_string(of_node.problems[0]);
      return false;
    }
  }
  return true;
}

} // namespace varve::cli
