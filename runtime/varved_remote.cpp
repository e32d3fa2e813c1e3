#include "runtime/varved_remote.hpp"

#include <memory>

#include <fmt/format.h>
#include <netdb.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include "runtime/cluster/node_keys.hpp"
#include "runtime/monitoring/logging.hpp"

namespace varve {

namespace {

/// "ADDRESS:PORT" without names, since reactors look up none; empty with a problem.
std::string numeric(const cluster_node& node, std::string& problem) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  const int error = ::getaddrinfo(node.data.host.c_str(), std::to_string(node.data.port).c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, decltype([](addrinfo* x) { ::freeaddrinfo(x); })> all{error == 0 ? found : nullptr};
  char host[NI_MAXHOST];
  const int shown =
    all ? ::getnameinfo(all->ai_addr, all->ai_addrlen, host, sizeof host, nullptr, 0, NI_NUMERICHOST) : error;
  if (shown != 0) {
    problem = fmt::format("node {}: its data address {}: {}", node.name, to_string(node.data), ::gai_strerror(shown));
    return {};
  }
  return to_string(endpoint{host, node.data.port});
}

bool set_tls(remote_plane_options& x, const node_config& config, std::string& problem) {
  if (config.cluster.trusted_network)
    return true;
  const auto files = key_files_of(config.cluster.keys_dir, config.name);
  const tls_credentials ours{files.certificate, files.key, files.ca};
  x.server_tls = tls_context::make_server(ours, problem);
  x.client_tls = x.server_tls ? tls_context::make_client(ours, problem) : nullptr;
  return x.client_tls != nullptr;
}

} // namespace

std::shared_ptr<remote_plane> make_remote_plane(const node_config& config, uint64_t incarnation, uint32_t reactors,
                                                std::string& problem) {
  remote_plane_options x;
  x.name = config.name;
  x.incarnation = incarnation;
  x.reactors = reactors;
  for (const auto& node : config.cluster.nodes) {
    if (!node.roles.storage)
      continue; // nobody does I/O on it
    auto address = numeric(node, problem);
    if (address.empty())
      return nullptr;
    if (node.name == config.name) {
      x.address = std::move(address);
      continue;
    }
    remote_node other{node.name, std::move(address), {}};
    for (const auto& t : config.cluster.tiers)
      if (t.node == node.name) {
        shard_store_options store;
        store.name = t.name;
        store.kind = t.kind;
        other.tiers.push_back(std::move(store));
      }
    x.nodes.push_back(std::move(other));
  }
  if (!set_tls(x, config, problem))
    return nullptr;
  x.server.log = [](const std::string& text) { spdlog::warn("event=remote-refused text={}", log_value(text)); };
  auto made = remote_plane::make(std::move(x), problem);
  if (!made)
    problem = fmt::format("data address of node {}: {}", config.name, problem);
  return made;
}

} // namespace varve
