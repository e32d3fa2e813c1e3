#include "runtime/config/cluster_config.hpp"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "runtime/config/config_parts.hpp"
#include "runtime/config/units.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr size_t nodes_max = 1024;

void read_roles(table_reader& t, const toml::table& table, node_roles& x) {
  t.know("roles");
  constexpr auto expected = "a list of \"manager\", \"storage\", \"host\"";
  const auto* list = table.get_as<toml::array>("roles");
  if (!list || list->empty()) {
    t.refuse("roles", t.has("roles") ? "it is no list of roles" : "it is missing", expected);
    return;
  }
  x = {false, false, false};
  for (const auto& entry : *list) {
    const auto name = entry.value<std::string>().value_or("");
    if (name == "manager")
      x.manager = true;
    else if (name == "storage")
      x.storage = true;
    else if (name == "host")
      x.host = true;
    else
      t.refuse("roles", name.empty() ? "one is no string" : '"' + name + "\" is no role", expected);
  }
}

void read_endpoint(table_reader& t, std::string_view key, endpoint& x) {
  std::string text;
  if (!t.text(key, text)) {
    if (!t.has(key))
      t.refuse(key, "it is missing", "\"HOST:PORT\"");
    return;
  }
  const auto at = parse_endpoint(text);
  if (!at || at->port == 0)
    t.refuse(key, '"' + text + "\" is no address with a port", "\"HOST:PORT\", an IPv6 address in brackets");
  else
    x = *at;
}

/// Nodes of one machine share its ports: what would fail at the second one's start is refused here.
void check_http(table_reader& t, const node_config& node, const cluster_node& identity,
                const std::vector<node_config>& others, const cluster_config& so_far) {
  for (size_t i = 0; i < others.size(); ++i)
    if (!node.http_host.empty() && node.http_host == others[i].http_host && node.http_port == others[i].http_port &&
        node.http_port != 0 && so_far.nodes[i].control.host == identity.control.host)
      t.refuse("http",
               fmt::format("node \"{}\" on the same machine has the address {}", others[i].name,
                           to_string(endpoint{node.http_host, node.http_port})),
               "an address of its own, or \"off\"");
}

/// What all know of a node.
cluster_node read_identity(table_reader& t, const toml::table& table, const cluster_config& so_far) {
  cluster_node x;
  if (!t.text("name", x.name) && !t.has("name"))
    t.refuse("name", "it is missing", "a name for the node");
  else if (!is_name(x.name))
    t.refuse("name", '"' + x.name + "\" is no name", name_rule);
  // Actors stand beside those of the other nodes under such names.
  for (const auto* taken : {"announcer", "console", "gate"})
    if (x.name == taken)
      t.refuse("name", '"' + x.name + "\" is a name that Varve keeps for itself", "another name");
  read_roles(t, table, x.roles);
  read_endpoint(t, "control", x.control);
  read_endpoint(t, "data", x.data);
  if (x.control.port != 0 && x.control == x.data)
    t.refuse("data", '"' + to_string(x.data) + "\" is its control address", "a port of its own");
  for (const auto& other : so_far.nodes) {
    if (other.name == x.name)
      t.refuse("name", "another node has the name \"" + x.name + '"', "a name of its own");
    for (const auto& taken : {other.control, other.data}) {
      if (taken.port != 0 && taken == x.control)
        t.refuse("control", "node \"" + other.name + "\" has the address " + to_string(taken), "an address of its own");
      if (taken.port != 0 && taken == x.data)
        t.refuse("data", "node \"" + other.name + "\" has the address " + to_string(taken), "an address of its own");
    }
  }
  return x;
}

void read_common(table_reader& root, cluster_config& x, std::string& cluster_dir, const config_findings& out) {
  namespace fs = std::filesystem;
  auto t = root.table("cluster");
  x.name = "varve";
  if (t.text("name", x.name) && !is_name(x.name))
    t.refuse("name", '"' + x.name + "\" is no name", name_rule);
  const auto folder = fs::absolute(fs::path(out.file)).parent_path().string();
  cluster_dir = "varve-data";
  t.text("data_dir", cluster_dir);
  if (cluster_dir.empty())
    t.refuse("data_dir", "it is empty", "a folder");
  cluster_dir = resolve_path(cluster_dir, folder);
  t.replace_value("data_dir", toml_literal(cluster_dir));
  t.duration("heartbeat", x.heartbeat, 50ms, 1min);
  t.duration("suspect_after", x.suspect_after, 100ms, 10min);
  t.duration("down_after", x.down_after, 200ms, 1h);
  if (x.suspect_after < 2 * x.heartbeat)
    t.refuse("suspect_after", format_duration(x.suspect_after) + " is less than two heartbeats",
             "at least " + format_duration(2 * x.heartbeat));
  if (x.down_after <= x.suspect_after)
    t.refuse("down_after", format_duration(x.down_after) + " is not after suspect_after",
             "more than " + format_duration(x.suspect_after));
  t.finish();

  auto security = root.table("security");
  x.keys_dir = "keys";
  security.text("keys", x.keys_dir);
  if (x.keys_dir.empty())
    security.refuse("keys", "it is empty", "the folder that `varve cluster keys init` made");
  x.keys_dir = resolve_path(x.keys_dir, folder);
  security.replace_value("keys", toml_literal(x.keys_dir));
  security.boolean("trusted_network", x.trusted_network);
  security.finish();
}

} // namespace

std::string to_string(const node_roles& x) {
  std::string result;
  for (auto [on, name] : {std::pair{x.manager, "manager"}, std::pair{x.storage, "storage"}, std::pair{x.host, "host"}})
    if (on)
      result += (result.empty() ? "" : ",") + std::string{name};
  return result;
}

bool is_cluster_file(const toml::table& file) {
  return file.contains("cluster") || file.get_as<toml::array>("node");
}

void read_cluster(table_reader& root, const toml::table& file, node_config& x, const config_overrides& overrides,
                  config_findings& out) {
  root.know("node");
  cluster_config cluster;
  std::string cluster_dir;
  read_common(root, cluster, cluster_dir, out);
  const auto* list = file.get_as<toml::array>("node");
  if (!list || list->empty() || !list->is_homogeneous<toml::table>() || list->size() > nodes_max) {
    root.refuse("node", list && list->size() > nodes_max ? "there are too many" : "it is no list of tables",
                fmt::format("[[node]] before each node, 1 to {}", nodes_max));
    return;
  }
  std::vector<node_config> nodes;
  auto chosen = list->size();
  for (const auto& entry : *list) {
    const auto& table = *entry.as_table();
    const auto* name = table.get_as<std::string>("name");
    const auto ours = name && (list->size() == 1 || name->get() == overrides.node);
    const auto title = "node[" + (name ? name->get() : std::to_string(nodes.size())) + ']';
    config_findings theirs{out.file, {}, {}};
    auto& to = ours ? out : theirs;
    table_reader t{to, &table, title, table.source().begin};
    const auto identity = read_identity(t, table, cluster);
    if (ours)
      chosen = nodes.size();
    node_config node;
    node.name = identity.name;
    node.roles = identity.roles;
    node.data_dir = cluster_dir + '/' + identity.name;
    node.run_dir = default_run_dir() + '/' + identity.name;
    read_node_settings(t, title, node, ours ? overrides : config_overrides{}, to);
    read_http_listen(t, "http", node);
    check_http(t, node, identity, nodes, cluster);
    t.finish();
    out.problems.insert(out.problems.end(), theirs.problems.begin(), theirs.problems.end());
    cluster.nodes.push_back(identity);
    nodes.push_back(std::move(node));
  }
  if (std::none_of(nodes.begin(), nodes.end(), [](auto& n) { return n.roles.manager; }))
    root.refuse("node", "no node is a manager", "one with the role \"manager\"");
  if (std::none_of(nodes.begin(), nodes.end(), [](auto& n) { return n.roles.storage; }))
    root.refuse("node", "no node has storage", "one with the role \"storage\"");
  cluster.tiers = read_tiers(root, file, nodes, chosen, true, out);
  if (chosen == nodes.size()) {
    // To check the file as a whole nobody has to be chosen.
    if (!overrides.node.empty())
      root.refuse("node", "there is no node \"" + overrides.node + '"', "--node with the name of a [[node]]");
    x.cluster = std::move(cluster);
    x.cluster_dir = std::move(cluster_dir);
    return;
  }
  // What is common was not read yet.
  x = std::move(nodes[chosen]);
  x.cluster = std::move(cluster);
  x.cluster_dir = std::move(cluster_dir);
}

} // namespace varve
