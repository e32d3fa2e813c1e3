#include <fmt/format.h>

#include "runtime/cli/session.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

// A listing: as JSON under a name, or as a table.
template <class T, class ToJson, class ToRow>
int listing(session& s, const caf::expected<std::vector<T>>& all, const char* name, ToJson json, table t, ToRow row) {
  if (!all)
    return s.fail(all.error());
  auto rows = nlohmann::json::array();
  for (const auto& x : *all) {
    if (s.json)
      rows.push_back(json(x));
    else
      t.row(row(x));
  }
  if (s.json)
    s.print({{name, rows}});
  else
    t.print(!s.no_headers);
  return success;
}

std::string latency(caf::timespan x) {
  return x.count() ? format_duration_short(x) : "-";
}

int tiers(session& s, rpc_client& node) {
  return listing<tier_row>(
    s, node.tier_list(), "tiers", [](const tier_row& x) { return to_json(x); },
    table{{"NAME", "NODE", "KIND", "IO", "STATE", ">CAPACITY", ">USED", ">SHARDS", ">ACTIVE", ">READ", ">WRITE",
           ">SYNC", ">COST", "NOTE"}},
    [](const tier_row& x) -> std::vector<std::string> {
      auto note = x.problem;
      if (note.empty() && x.checksum_mismatches)
        note = fmt::format("{} checksum mismatches", x.checksum_mismatches);
      if (note.empty())
        note = x.is_volatile ? "volatile" : x.emulated ? "slowness emulated" : "";
      return {x.name,
              x.node.empty() ? "-" : x.node,
              x.kind,
              x.io.empty() ? "-" : x.io,
              x.state,
              format_size(x.capacity_bytes),
              format_size_short(static_cast<double>(x.used_bytes)),
              std::to_string(x.shards),
              std::to_string(x.active_shards),
              latency(x.read_latency),
              latency(x.write_latency),
              latency(x.sync_latency),
              fmt::format("{:g}", x.cost),
              note};
    });
}

int actors(session& s, rpc_client& node) {
  return listing<actor_info>(
    s, node.actor_list(), "actors", [](const actor_info& x) { return to_json(x); },
    table{{"PATH", "TYPE", "STATE", ">RESTARTS", ">AGE", "LAST ERROR"}},
    [](const actor_info& x) -> std::vector<std::string> {
      return {x.path,      x.type, x.alive ? "alive" : "dead", std::to_string(x.restarts), format_duration_short(x.age),
              x.last_error};
    });
}

int events(session& s, rpc_client& node, uint32_t limit) {
  return listing<event>(
    s, node.events(limit), "events", [](const event& x) { return to_json(x); }, table{{"TIME", "CODE", "TEXT"}},
    [](const event& x) -> std::vector<std::string> {
      return {utc(x.at), x.code, x.text};
    });
}

int status(session& s, rpc_client& node) {
  auto x = node.status();
  if (!x)
    return s.fail(x.error());
  if (s.json) {
    s.print(to_json(*x));
    return success;
  }
  table t{{"", ""}};
  t.row({"node", x->node});
  t.row({"version", x->version});
  t.row({"health", x->health});
  for (const auto& f : x->findings)
    t.row({"  " + f.severity, f.code + ": " + f.text});
  t.row({"up", format_duration_short(x->up_time)});
  t.row({"volumes", fmt::format("{}, {} attached", x->volumes, x->attached_volumes)});
  t.row({"shards", std::to_string(x->shards)});
  t.row({"leases", std::to_string(x->leases)});
  t.row({"migrations", fmt::format("{} running", x->migrations_running)});
  t.row({"incarnation", std::to_string(x->manager_incarnation)});
  t.row({"i/o", x->ring});
  t.print(false);
  return success;
}

int plain(session& s, const caf::error& e, const nlohmann::json& done) {
  if (e)
    return s.fail(e);
  if (s.json)
    s.print(done);
  return success;
}

} // namespace

table event_table(const std::vector<event>& all) {
  table t{{"TIME", "CODE", "TEXT"}};
  for (const auto& x : all)
    t.row({utc(x.at), x.code, x.text});
  return t;
}

void add_node_verbs(CLI::App& app, session& s) {
  auto text = std::make_shared<std::string>();
  auto index = std::make_shared<uint64_t>(0);
  auto limit = std::make_shared<uint32_t>(100);

  auto* noun = app.add_subcommand("tier", "Pools of storage");
  noun->require_subcommand(1);
  auto* x = noun->add_subcommand("ls", "List tiers: room, measured latencies, problems");
  x->callback([&s] { s.with_node([&](rpc_client& node) { return tiers(s, node); }); });

  x = app.add_subcommand("status", "How the node is, on one screen");
  x->callback([&s] { s.with_node([&](rpc_client& node) { return status(s, node); }); });

  x = app.add_subcommand("events", "What happened lately");
  x->add_option("--limit", *limit, "At most so many [100]");
  x->callback([limit, &s] { s.with_node([&](rpc_client& node) { return events(s, node, *limit); }); });
  // The same as a noun with a verb, like everything else.
  noun = app.add_subcommand("event", "What happened lately");
  noun->require_subcommand(1);
  x = noun->add_subcommand("ls", "The same as: varve events");
  x->add_option("--limit", *limit, "At most so many [100]");
  x->callback([limit, &s] { s.with_node([&](rpc_client& node) { return events(s, node, *limit); }); });

  noun = app.add_subcommand("actor", "The node's hierarchy of actors");
  noun->require_subcommand(1);
  x = noun->add_subcommand("ls", "List actors, dead ones included");
  x->callback([&s] { s.with_node([&](rpc_client& node) { return actors(s, node); }); });
  x = noun->add_subcommand("kill", "Kill an actor, to see it restarted; needs allow_kill = true under [debug]");
  x->add_option("PATH", *text)->required();
  x->callback([text, &s] {
    s.with_node([&](rpc_client& node) { return plain(s, node.actor_kill(*text), {{"killed", *text}}); });
  });

  x = app.add_subcommand("stop", "Stop the node: requests under way end, everything is flushed");
  x->callback([&s] { s.with_node([&](rpc_client& node) { return plain(s, node.stop(), {{"stopping", true}}); }); });
}

} // namespace varve::cli
