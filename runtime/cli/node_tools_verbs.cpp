#include <chrono>
#include <thread>

#include <fmt/format.h>

#include "runtime/cli/session.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds look_every = 500ms;

struct node_arguments {
  std::string node;
  bool wait = false;
};

const char* wanted(const node_condition& x) {
  return x.draining ? "draining" : x.cordoned ? "cordoned" : "in use";
}

void print_conditions(session& s, const std::vector<node_condition>& all) {
  table t{{"NODE", "WANTED", ">SHARDS", ">MOVING", ">STUCK", ">VOLUMES", "PROBLEM"}};
  for (const auto& x : all)
    t.row({x.node, wanted(x), known(x.counted, std::to_string(x.shards)), std::to_string(x.moving),
           std::to_string(x.stuck), known(x.counted, std::to_string(x.volumes_attached)),
           x.problem.empty() ? "-" : x.problem});
  t.print(!s.no_headers);
}

int list(session& s, rpc_client& node) {
  auto all = node.node_list();
  if (!all)
    return s.fail(all.error());
  if (s.json) {
    auto rows = nlohmann::json::array();
    for (const auto& x : *all)
      rows.push_back(to_json(x));
    s.print(rows);
  } else {
    print_conditions(s, *all);
  }
  return success;
}

int change(session& s, rpc_client& node, const std::string& name, bool cordoned, bool draining) {
  auto x = node.node_change(name, cordoned, draining);
  if (!x)
    return s.fail(x.error());
  if (s.json)
    s.print(to_json(*x));
  else
    print_conditions(s, {*x});
  return success;
}

/// Until nothing is left there, or nothing moves any more because it is refused.
int wait_for_drain(session& s, rpc_client& node, const std::string& name) {
  std::string said;
  unsigned standing = 0;
  for (;;) {
    auto all = node.node_list();
    if (!all)
      return s.fail(all.error());
    const auto at = std::find_if(all->begin(), all->end(), [&](auto& x) { return x.node == name; });
    if (at == all->end())
      return s.fail(make_error(errc::not_found, "node " + name));
    const auto found = to_json(*at);
    if (!at->draining)
      return s.fail(refused, "conflict", "node " + name + " is not being drained any more", found);
    if (at->counted && at->shards == 0) {
      if (s.json)
        s.print(found);
      else
        print_conditions(s, {*at});
      if (at->volumes_attached != 0)
        s.say(fmt::format("{} volumes are attached there still", at->volumes_attached));
      return success;
    }
    standing = at->counted && at->moving == 0 && at->stuck != 0 ? standing + 1 : 0;
    if (standing * look_every >= 10s)
      return s.fail(refused, "node_not_drained",
                    fmt::format("{} shards of node {} do not move: {}", at->shards, name, at->problem), found);
    const auto now = at->counted ? fmt::format("{} shards left, {} moving", at->shards, at->moving) : "counting";
    if (s.draws() && now != said)
      s.say(now);
    said = now;
    std::this_thread::sleep_for(look_every);
  }
}

int judge(session& s, rpc_client& node, const std::string& name, bool remove) {
  auto x = node.node_verify(name, remove);
  if (!x)
    return s.fail(x.error());
  auto found = to_json(*x);
  found["node"] = name;
  if (!x->ok)
    return s.fail(refused, remove ? "not_safe_to_remove" : "not_ok_to_stop",
                  fmt::format("node {}: {}", name, reasons_of(*x)), found);
  if (s.json)
    s.print(found);
  else
    fmt::print("node {} {}\n", name, remove ? "can be taken away: nothing is there" : "can be stopped for a while");
  return success;
}

/// Whether nodes can be stopped and started with another version one after the other.
int check_upgrade(session& s, rpc_client& node) {
  auto cluster = node.cluster_status();
  if (!cluster)
    return s.fail(cluster.error());
  auto rows = nlohmann::json::array();
  table t{{"NODE", "STATE", "VERSION", "OK TO STOP", "WHY NOT"}};
  size_t bad = 0;
  for (const auto& m : cluster->members) {
    auto verdict = node.node_verify(m.node, false);
    if (!verdict)
      return s.fail(verdict.error());
    const auto up = m.state == member_state::up;
    const auto why = up ? reasons_of(*verdict) : "it is not up: bring it back first";
    const auto ok = up && verdict->ok;
    bad += !ok;
    rows.push_back({{"node", m.node},
                    {"state", to_string(m.state)},
                    {"version", m.version},
                    {"ok", ok},
                    {"reasons", to_json(*verdict)["reasons"]}});
    t.row({m.node, to_string(m.state), m.version.empty() ? "-" : m.version, ok ? "yes" : "no", ok ? "-" : why});
  }
  const nlohmann::json found{{"nodes", rows}};
  if (!s.json)
    t.print(!s.no_headers);
  if (bad > 0)
    return s.fail(
      refused, "not_ready_to_upgrade",
      fmt::format("{} of {} nodes cannot be stopped now: their I/O would wait, or nobody would manage. Move "
                  "what is there first (varve node drain), or accept the pause",
                  bad, cluster->members.size()),
      found);
  if (s.json)
    s.print(found);
  return success;
}

} // namespace

void add_node_tools(CLI::App& app, CLI::App& cluster, session& s) {
  auto* noun = app.add_subcommand("node", "Take nodes of the cluster out of use, and back");
  noun->require_subcommand(1);
  auto args = std::make_shared<node_arguments>();

  auto* x = noun->add_subcommand("ls", "What is wanted of each node, and how far it is");
  x->callback([&s] { s.with_node([&](rpc_client& node) { return list(s, node); }); });

  x = noun->add_subcommand("cordon", "Place nothing new there; what is there stays");
  x->add_option("NODE", args->node)->required();
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return change(s, node, args->node, true, false); }); });

  x = noun->add_subcommand("uncordon", "Use it again; a drain ends, and what has moved stays where it is");
  x->add_option("NODE", args->node)->required();
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return change(s, node, args->node, false, false); }); });

  x = noun->add_subcommand("drain", "Move all its shards to other nodes, verified, under running I/O");
  x->add_option("NODE", args->node)->required();
  x->add_flag("--wait", args->wait, "Until nothing is left there");
  x->callback([args, &s] {
    s.with_node([&](rpc_client& node) {
      if (!args->wait)
        return change(s, node, args->node, true, true);
      auto begun = node.node_change(args->node, true, true);
      return begun ? wait_for_drain(s, node, args->node) : s.fail(begun.error());
    });
  });

  x = noun->add_subcommand("ok-to-stop", "Whether it can be stopped for a while without anybody's I/O waiting");
  x->add_option("NODE", args->node)->required();
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return judge(s, node, args->node, false); }); });

  x = noun->add_subcommand("safe-to-remove", "Whether it can be taken away for good");
  x->add_option("NODE", args->node)->required();
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return judge(s, node, args->node, true); }); });

  auto* upgrade = cluster.add_subcommand("upgrade", "Another version, node by node");
  upgrade->require_subcommand(1);
  x = upgrade->add_subcommand("check", "Whether each node can be stopped and started now");
  x->callback([&s] { s.with_node([&](rpc_client& node) { return check_upgrade(s, node); }); });
}

} // namespace varve::cli
