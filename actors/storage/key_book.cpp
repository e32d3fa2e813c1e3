#include "actors/storage/key_book.hpp"

#include <algorithm>

#include "messages/errors.hpp"

namespace varve {

caf::error key_book::give(const cluster_config& cluster, const data_access_request& x, boot_time now,
                          caf::timespan term, answer& out) {
  const auto at = std::find_if(cluster.nodes.begin(), cluster.nodes.end(), [&](auto& n) { return n.name == x.node; });
  if (at == cluster.nodes.end())
    return make_error(errc::not_found, "cluster " + cluster.name + " has no node " + x.node);
  if (!at->roles.storage && !at->roles.host)
    return make_error(errc::not_found, "node " + x.node + " is neither storage nor host: it does no I/O");
  if (x.reactor >= reactors_max)
    return make_error(errc::invalid_argument, "reactor " + std::to_string(x.reactor) + " of node " + x.node +
                                                ": expected 0 to " + std::to_string(reactors_max - 1));
  auto& of = clients_[x.node];
  if (x.incarnation < of.incarnation)
    return make_error(errc::conflict, "a later life of node " + x.node + " was heard already");
  auto take_back = [&](std::vector<session_key>& keys) {
    for (uint32_t i = 0; i < keys.size(); ++i)
      out.revoked.push_back({i, keys[i].id});
    keys.clear();
  };
  if (x.incarnation > of.incarnation) {
    for (auto& [reactor, keys] : of.keys)
      take_back(keys);
    of.keys.clear();
    of.incarnation = x.incarnation;
  }
  auto& keys = of.keys[x.reactor];
  if (!keys.empty() && keys.front().expires <= now)
    take_back(keys);
  const auto number = static_cast<uint64_t>(at - cluster.nodes.begin()) + 1;
  while (keys.size() < reactors_) {
    session_key key;
    key.id = fresh_id();
    fill_random_(key.secret);
    key.initiator = number << 32 | x.reactor;
    key.rights = at->roles.storage ? remote_rights::control : remote_rights::data;
    keys.push_back(key);
  }
  for (auto& key : keys)
    key.expires = now + term;
  out.keys = keys;
  return {};
}

uint64_t key_book::fresh_id() {
  for (;;) {
    uint64_t id = 0;
    fill_random_(std::as_writable_bytes(std::span{&id, 1}));
    bool known = id == 0;
    for (const auto& [node, of] : clients_)
      for (const auto& [reactor, keys] : of.keys)
        known = known || std::any_of(keys.begin(), keys.end(), [id](auto& key) { return key.id == id; });
    if (!known)
      return id;
  }
}

size_t key_book::keys() const noexcept {
  size_t result = 0;
  for (const auto& [node, of] : clients_)
    for (const auto& [reactor, keys] : of.keys)
      result += keys.size();
  return result;
}

} // namespace varve
