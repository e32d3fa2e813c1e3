#include <ctime>
#include <filesystem>

#include <fmt/format.h>

#include "runtime/cli/cluster_file.hpp"
#include "runtime/cli/session.hpp"
#include "runtime/cluster/node_keys.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

using namespace std::chrono_literals;

/// A certificate is to be renewed in time: nodes that start with one that has expired are refused.
constexpr int64_t warn_seconds = std::chrono::seconds{30 * 24h}.count();

int status(session& s, rpc_client& node) {
  auto x = node.cluster_status();
  if (!x)
    return s.fail(x.error());
  if (s.json) {
    s.print(to_json(*x));
    return success;
  }
  fmt::print("cluster {}: {}; {}\n", x->cluster, x->health,
             x->leader.empty() ? std::string{"no manager leads"} : "node " + x->leader + " leads");
  table t{{"NODE", "ROLES", "STATE", ">HEARD", ">INCARNATION", "VERSION", "CONTROL", "DATA"}};
  for (const auto& m : x->members)
    t.row({m.node, m.roles, to_string(m.state), m.incarnation ? format_duration_short(m.silent) + " ago" : "never",
           m.incarnation ? std::to_string(m.incarnation) : "-", m.version.empty() ? "-" : m.version, m.control,
           m.data});
  t.print(!s.no_headers);
  for (const auto& f : x->findings)
    fmt::print("{} {}: {}\n", f.severity, f.code, f.text);
  return success;
}

struct key_arguments {
  std::string folder;
  bool renew = false;
};

/// Which nodes there are: of --config. False with a failure.
bool cluster_of(session& s, cluster_config& out) {
  const auto file = s.config_file();
  if (file.empty()) {
    s.exit = s.fail(usage, "usage", "of which cluster? --config FILE");
    return false;
  }
  config_findings findings;
  auto read = read_config(file, {}, findings);
  if (findings.problems.empty() && read.cluster.nodes.empty())
    findings.problems.push_back({file, 0, 0, "it describes one node by itself", "a cluster: [[node]] for each node"});
  if (!findings.problems.empty()) {
    s.exit = s.fail(usage, "invalid_config", to_string(findings.problems[0]));
    return false;
  }
  out = std::move(read.cluster);
  return true;
}

std::vector<std::string> names(const cluster_config& x) {
  std::vector<std::string> all;
  for (const auto& n : x.nodes)
    all.push_back(n.name);
  return all;
}

void init_keys(session& s, const key_arguments& args) {
  cluster_config cluster;
  if (!cluster_of(s, cluster))
    return;
  std::error_code error;
  const auto folder = std::filesystem::absolute(args.folder, error).lexically_normal().string();
  std::filesystem::create_directories(std::filesystem::path{folder}.parent_path(), error);
  std::vector<std::string> made;
  const auto problem = make_keys(folder, cluster.name, names(cluster), {}, made);
  const nlohmann::json found{{"folder", folder}, {"made", made}};
  if (!problem.empty()) {
    s.exit = s.fail(refused, "device_failed", problem, found);
    return;
  }
  if (s.json)
    s.print(found);
  else if (made.empty())
    fmt::print("nothing was made: all keys of cluster {} are in {} already\n", cluster.name, folder);
  else
    fmt::print("made in {}: {}\n", folder, fmt::join(made, " "));
  if (!made.empty() && made.front() == "ca")
    s.say("whoever has " + folder +
          "/ca.key can make nodes of this cluster: keep it where no node runs, and give each "
          "node ca.pem and its own NAME.pem and NAME.key");
}

void list_keys(session& s, const key_arguments& args) {
  cluster_config cluster;
  if (!cluster_of(s, cluster))
    return;
  const auto folder = args.folder.empty() ? cluster.keys_dir : args.folder;
  const auto now = static_cast<int64_t>(std::time(nullptr));
  auto rows = nlohmann::json::array();
  table t{{"NAME", "SERIAL", "IN FORCE FROM", "UNTIL", "NOTE"}};
  size_t bad = 0;
  for (const auto& x : check_keys(folder, names(cluster), now)) {
    const auto soon = x.problem.empty() && x.not_after - now < warn_seconds;
    bad += !x.problem.empty();
    const auto note = !x.problem.empty() ? x.problem
                      : soon             ? fmt::format("expires in {} days", (x.not_after - now) / 86400)
                                         : "";
    rows.push_back({{"name", x.name},
                    {"serial", x.serial},
                    {"not_before", x.not_before},
                    {"not_after", x.not_after},
                    {"expires_soon", soon},
                    {"problem", x.problem}});
    t.row({x.name, x.serial.empty() ? "-" : x.serial, utc(static_cast<uint64_t>(x.not_before)),
           utc(static_cast<uint64_t>(x.not_after)), note});
  }
  const nlohmann::json found{{"folder", folder}, {"keys", rows}};
  if (!s.json)
    t.print(!s.no_headers);
  if (bad > 0)
    s.exit = s.fail(refused, "bad_keys", fmt::format("{} of these cannot be used", bad), found);
  else if (s.json)
    s.print(found);
}

} // namespace

void add_cluster_verbs(CLI::App& app, session& s) {
  auto* noun = app.add_subcommand("cluster", "Nodes that are one: keys, starting and stopping, how they are");
  noun->require_subcommand(1);
  auto* x = noun->add_subcommand("status", "Which nodes live, who leads, and what is wrong");
  x->callback([&s] { s.with_node([&](rpc_client& node) { return status(s, node); }); });
  add_cluster_control(*noun, s);
  add_node_tools(app, *noun, s);

  auto args = std::make_shared<key_arguments>();
  auto* keys = noun->add_subcommand("keys", "The cluster's certificates (--config FILE)");
  keys->require_subcommand(1);
  x =
    keys->add_subcommand("init", "Make the keys that are missing of a cluster: its CA, and one for each node; what is "
                                 "there stays");
  x->add_option("DIR", args->folder)->required();
  x->callback([args, &s] { init_keys(s, *args); });
  x = keys->add_subcommand("ls", "List certificates: until when they hold, and what is wrong");
  x->add_option("DIR", args->folder, "Another folder than security.keys");
  x->callback([args, &s] { list_keys(s, *args); });
}

} // namespace varve::cli
