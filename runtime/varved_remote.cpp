#include "runtime/varved_remote.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "runtime/cluster/node_keys.hpp"
#include "runtime/monitoring/logging.hpp"

namespace varve {

namespace {

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
    if (node.name == config.name) {
      x.address = to_string(node.data);
      continue;
    }
    remote_node other{node.name, to_string(node.data), {}};
    for (const auto& t : config.cluster.tiers)
      if (t.node == node.name) {
        shard_store_options store;
        store.name = t.name;
        store.kind = t.kind;
        other.tiers.push_back(std::move(store));
      }
    x.nodes.push_back(std::move(other));
  }
  if (config.roles.host) {
    x.unsynced = open_unsynced_book(config.data_dir + "/unsynced", machine_boot(), problem);
    if (!x.unsynced)
      return nullptr;
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
