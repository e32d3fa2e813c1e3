// Whether a node serves, by its roles, and what it answers for in its cluster.

#include <algorithm>

#include "runtime/varved_node.hpp"

namespace varve {

bool varved_node::stands_by() const {
  return in_cluster() && config_.roles.manager && !not_leading().empty();
}

std::string varved_node::not_leading() const {
  const auto x = catalog_.leadership ? catalog_.leadership->get() : leadership::state{true, {}};
  return x.leads ? std::string{} : "not leading: " + x.why_not;
}

std::string varved_node::why_not_managing() const {
  if (config_.roles.manager)
    return not_leading();
  return "node " + config_.name + " has joined no manager that leads";
}

std::string varved_node::leader() const {
  if (!config_.roles.manager)
    return {}; // who is joined to one asks that
  if (!catalog_.leadership)
    return config_.name;
  const auto x = catalog_.leadership->get();
  constexpr std::string_view before = "node ", after = " leads";
  if (x.leads)
    return config_.name;
  if (!x.why_not.starts_with(before) || !x.why_not.ends_with(after))
    return {};
  return x.why_not.substr(before.size(), x.why_not.size() - before.size() - after.size());
}

gateway_options varved_node::asked_options() const {
  gateway_options x;
  x.timeout = config_.rpc_timeout;
  x.allow_kill = config_.allow_kill;
  x.node = config_.name;
  x.is_host = config_.roles.host;
  const auto& cluster = config_.cluster;
  for (const auto& t : in_cluster() ? cluster.tiers : config_.tiers) {
    x.tiers.push_back(t.name);
    x.tier_nodes[t.name] = t.node;
  }
  if (in_cluster())
    x.cluster = cluster.name;
  for (const auto& n : cluster.nodes) {
    x.nodes.push_back(n.name);
    if (n.roles.manager)
      x.managers.push_back(n.name);
  }
  return x;
}

std::string varved_node::not_joined() const {
  const auto view = ask<cluster_view>([this](auto done) { gateway_->cluster_status(std::move(done)); });
  if (!view)
    return "no manager answers";
  for (const auto& m : view->members)
    if (m.node == config_.name && m.incarnation == incarnation_ && m.state == member_state::up)
      return {};
  return "manager " + view->seen_by + " has not heard this node yet";
}

std::string varved_node::volumes_not_ready() const {
  const auto volumes = ask<std::vector<volume_info>>([this](auto done) { gateway_->volume_list(std::move(done)); });
  if (!volumes)
    return "the volumes do not answer";
  // Its clients are known once it has a port: only then does somebody listen at its address.
  for (const auto& x : *volumes)
    if (x.record.at(config_.name) && !x.clients_known)
      return "volume " + x.record.spec.name + " is being attached";
  return {};
}

std::string varved_node::not_ready() {
  if (stopping_)
    return "stopping";
  // A manager beside one that leads is there for when that is lost.
  const bool waits = stands_by();
  if (auto why = not_leading(); !why.empty() && !(waits && !leader().empty()))
    return why;
  const auto status = ask<node_status>([this](auto done) { gateway_->status(std::move(done)); });
  if (!status)
    return config_.roles.manager ? "the monitor does not answer" : why_not_managing();
  if (status->health == "starting" || status->manager_incarnation == 0)
    return "starting";
  if (auto why = in_cluster() ? not_joined() : std::string{}; !why.empty())
    return why;
  if (config_.roles.host && !directory_->get<host_supervisor_actor>(path::host))
    return "the host's actor is starting";
  if (auto why = config_.roles.host ? volumes_not_ready() : std::string{}; !why.empty())
    return why;
  for (const auto& x : config_.tiers)
    if (!directory_->get<tier_actor>(path::tier(x.name)))
      return "tier " + x.name + " is starting";
  return {};
}

} // namespace varve
