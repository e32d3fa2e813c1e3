#include <map>
#include <set>

#include "runtime/config/config_parts.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

void read_tier(table_reader& t, tier_config& x, const node_config& node) {
  if (!t.text("name", x.name) && !t.has("name"))
    t.refuse("name", "it is missing", "a name for the tier");
  else if (!is_name(x.name))
    t.refuse("name", '"' + x.name + "\" is no name", name_rule);
  if (!t.one_of<tier_kind>("kind", x.kind, {{"file", tier_kind::file}, {"memory", tier_kind::memory}}) &&
      !t.has("kind"))
    t.refuse("kind", "it is missing", "\"file\" or \"memory\"");
  const bool is_file = x.kind == tier_kind::file;
  if (is_file || t.has("path"))
    t.text("path", x.path);
  if (is_file && x.path.empty())
    t.refuse("path", "it is missing", "the folder of the tier's shard files");
  if (!is_file && t.has("path"))
    t.refuse("path", "a memory tier has none", "no path, or kind = \"file\"");
  if (is_file && !x.path.empty()) {
    x.path = resolve_path(x.path, node.data_dir);
    t.replace_value("path", toml_literal(x.path));
  }
  if (is_file || t.has("io"))
    t.one_of<file_io>("io", x.io, {{"direct", file_io::direct}, {"buffered", file_io::buffered}});
  if (!is_file && t.has("io"))
    t.refuse("io", "a memory tier has none", "no io, or kind = \"file\"");
  if (is_file || t.has("checkpoint_after"))
    t.duration("checkpoint_after", x.checkpoint_after, 100ms, 1h);
  if (!is_file && t.has("checkpoint_after"))
    t.refuse("checkpoint_after", "a memory tier has none", "no checkpoint_after, or kind = \"file\"");
  if (!t.size("capacity", x.capacity_bytes, shard_size_min, config_size_limit) && !t.has("capacity"))
    t.refuse("capacity", "it is missing", "a size such as \"20GiB\"");
  t.number("cost", x.cost, 0);
  t.one_of<sensitivity>("accepts", x.accepts,
                        {{"low", sensitivity::low}, {"normal", sensitivity::normal}, {"high", sensitivity::high}});
  if (auto e = t.table("emulate"); t.has("emulate")) {
    e.duration("read_latency", x.emulate.read_latency, 0s, 60s);
    e.duration("write_latency", x.emulate.write_latency, 0s, 60s);
    e.size("bandwidth", x.emulate.bandwidth_bytes_per_second, 64 << 10, config_size_limit);
    e.finish();
  }
}

/// Whose tier it is: an index of `nodes`, or their number when that is not said rightly.
size_t owner_of(table_reader& t, const std::vector<node_config>& nodes, bool cluster) {
  if (!cluster) {
    if (t.has("node"))
      t.refuse("node", "the file is of one node", "no node here, or [[node]] for each node of a cluster");
    return 0;
  }
  std::string name;
  if (!t.text("node", name)) {
    if (!t.has("node"))
      t.refuse("node", "it is missing", "the name of the node whose tier it is");
    return nodes.size();
  }
  const auto at = std::find_if(nodes.begin(), nodes.end(), [&](auto& x) { return x.name == name; });
  if (at == nodes.end())
    t.refuse("node", "there is no node \"" + name + '"', "the name of a [[node]]");
  else if (!at->roles.storage)
    t.refuse("node", "node \"" + name + "\" has no role \"storage\"", "a node that has");
  return static_cast<size_t>(at - nodes.begin());
}

} // namespace

std::vector<tier_config> read_tiers(table_reader& root, const toml::table& file, std::vector<node_config>& nodes,
                                    size_t chosen, bool cluster, config_findings& out) {
  std::vector<tier_config> all;
  root.know("tier");
  if (!root.has("tier")) {
    root.refuse("tier", "there is none", "at least one [[tier]] of kind \"file\"");
    return all;
  }
  const auto* list = file.get_as<toml::array>("tier");
  if (!list || !list->is_homogeneous<toml::table>()) {
    root.refuse("tier", "it is no list of tables", "[[tier]] before each tier");
    return all;
  }
  std::set<std::string> names;
  std::map<size_t, std::set<std::string>> paths;
  size_t count = 0;
  for (const auto& entry : *list) {
    const auto& table = *entry.as_table();
    const auto* name = table.get_as<std::string>("name");
    const auto title = "tier[" + (name ? name->get() : std::to_string(count)) + ']';
    ++count;
    // What another node's tier has in force is no value of ours.
    config_findings theirs{out.file, {}, {}};
    table_reader peek{theirs, &table, title, table.source().begin};
    const auto owner = owner_of(peek, nodes, cluster);
    auto& to = owner == chosen ? out : theirs;
    table_reader t{to, &table, title, table.source().begin};
    t.know("node"); // owner_of has looked at it
    tier_config tier;
    read_tier(t, tier, owner < nodes.size() ? nodes[owner] : node_config{});
    if (!tier.name.empty() && !names.insert(tier.name).second)
      t.refuse("name", "another tier has the name \"" + tier.name + '"', "a name of its own");
    if (!tier.path.empty() && !paths[owner].insert(tier.path).second)
      t.refuse("path", "another tier has the folder \"" + tier.path + '"', "a folder of its own");
    t.finish();
    out.problems.insert(out.problems.end(), theirs.problems.begin(), theirs.problems.end());
    if (owner >= nodes.size())
      continue;
    if (cluster) {
      tier.node = nodes[owner].name;
      all.push_back(tier);
    }
    nodes[owner].tiers.push_back(std::move(tier));
  }
  for (const auto& x : nodes)
    if (x.roles.storage &&
        std::none_of(x.tiers.begin(), x.tiers.end(), [](auto& t) { return t.kind == tier_kind::file; }))
      root.refuse("tier", cluster ? "no tier of node \"" + x.name + "\" is durable" : "no tier is durable",
                  "at least one of kind \"file\"");
  return all;
}

} // namespace varve
