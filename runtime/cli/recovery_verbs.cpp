#include <filesystem>

#include <fmt/format.h>

#include "runtime/cli/session.hpp"
#include "runtime/config/node_config.hpp"
#include "runtime/config/units.hpp"
#include "runtime/recovery/catalog_rebuild.hpp"
#include "runtime/recovery/tier_keeping.hpp"

namespace varve::cli {

namespace {

struct arguments {
  std::string text, data_dir;
  bool yes = false, force = false, dry_run = false;
};

// What of a node is asked for.
enum class part { catalog, tiers };

// The node of --config, as long as it is not running.
void with_stopped_node(session& s, const arguments& args, part needs,
                       const std::function<int(const stopped_node&)>& f) {
  const auto file = s.config_file();
  if (file.empty()) {
    s.exit = s.fail(usage, "usage", "of which node? --config FILE");
    return;
  }
  config_findings findings;
  auto config = read_config(file, {args.data_dir, {}, s.node}, findings);
  if (!findings.problems.empty()) {
    s.exit = s.fail(usage, "invalid_config", to_string(findings.problems[0]));
    return;
  }
  if (config.cluster.nodes.size() > 1 && s.node.empty()) {
    s.exit = s.fail(usage, "usage", file + " describes a cluster: of which node? --node NAME");
    return;
  }
  caf::error problem;
  auto node = stopped_node::take(std::move(config), problem);
  if (node && needs == part::catalog && node->knows_tiers_only()) {
    const auto& config = node->config();
    s.exit =
      s.fail(make_error(errc::unsupported, config.catalog.kind == catalog_kind::sqlite
                                             ? "the catalog is not node " + config.name + "'s: name the manager"
                                             : "the catalog is in etcd: etcdctl snapshot saves and restores it"));
    return;
  }
  s.exit = node ? f(*node) : s.fail(problem);
}

void with_catalog(session& s, const arguments& args, part needs,
                  const std::function<int(const stopped_node&, catalog_store&)>& f) {
  with_stopped_node(s, args, needs, [&](const stopped_node& node) {
    caf::error problem;
    auto store = node.open_catalog(problem);
    return store ? f(node, *store) : s.fail(problem);
  });
}

nlohmann::json to_json(const catalog_backup_info& x) {
  return {
    {"revision", x.revision}, {"entries", x.entries}, {"bytes", x.bytes}, {"crc32c", x.crc}, {"schema", x.schema}};
}

int backup(session& s, rpc_client& node, const std::string& file) {
  std::error_code error;
  const auto path = std::filesystem::absolute(file, error).string();
  auto x = node.catalog_backup(path);
  if (!x)
    return s.fail(x.error());
  if (s.json) {
    auto row = to_json(*x);
    row["file"] = path;
    s.print(row);
  } else {
    fmt::print("{}: revision {}, {} entries, {}\n", path, x->revision, x->entries, format_size(x->bytes));
  }
  return success;
}

int restore_catalog(session& s, const stopped_node& node, const arguments& args) {
  restored x;
  if (auto e = restore(node, args.text, args.force, x))
    return s.fail(e);
  if (s.json) {
    auto row = to_json(x.backup);
    row["replaced_revision"] = x.replaced_revision;
    row["aside"] = x.aside;
    row["homes"] = x.homes;
    row["homes_missing"] = x.homes_missing;
    s.print(row);
    return success;
  }
  fmt::print("restored revision {}, {} entries\n", x.backup.revision, x.backup.entries);
  if (!x.aside.empty())
    fmt::print("the catalog before is {}\n", x.aside);
  if (x.homes_missing > 0)
    s.say(fmt::format("warning: {} of {} shards are not where the backup says: they have moved since, or are lost.\n"
                      "What their files say now: varve catalog rebuild --dry-run",
                      x.homes_missing, x.homes));
  return success;
}

int rebuild_catalog(session& s, const stopped_node& node, const arguments& args) {
  // Shards that are not looked at would be forgotten, and read as zeros.
  for (const auto& x : node.config().cluster.tiers)
    if (!args.dry_run && x.node != node.config().name && x.kind == tier_kind::file)
      return s.fail(make_error(errc::unsupported, "shards lie on other nodes too, such as on " + x.name + " of " +
                                                    x.node + ": restore a backup; only --dry-run is possible here"));
  std::vector<std::string> looked;
  const auto evidence = gather(node, looked);
  const auto made = rebuild(evidence);
  std::string aside;
  caf::error problem;
  if (!args.dry_run) {
    if (made.conflicts.empty() || args.yes)
      problem = write_rebuilt(node, evidence, made, aside);
    else
      problem = make_error(errc::needs_confirmation, fmt::format("{} conflicts: nothing was written; with --yes it is, "
                                                                 "as said above",
                                                                 made.conflicts.size()));
  }
  const auto written = !args.dry_run && !problem;
  auto volumes = nlohmann::json::array();
  table t{{"VOLUME", ">ID", ">SIZE", ">SHARD SIZE", ">SHARDS"}};
  for (const auto& x : made.volumes) {
    const auto shards =
      std::count_if(made.homes.begin(), made.homes.end(), [&](auto& home) { return home.id.volume == x.id; });
    volumes.push_back({{"name", x.spec.name},
                       {"id", x.id.value()},
                       {"size", x.spec.size_bytes},
                       {"shard_size", x.spec.shard_size},
                       {"shards", shards}});
    t.row({x.spec.name, std::to_string(x.id.value()), format_size(x.spec.size_bytes), format_size(x.spec.shard_size),
           std::to_string(shards)});
  }
  nlohmann::json found{{"looked_at", looked},
                       {"files", made.files},
                       {"homes", made.homes.size()},
                       {"volumes", volumes},
                       {"notes", made.notes},
                       {"conflicts", made.conflicts},
                       {"written", written},
                       {"aside", aside},
                       {"counters",
                        {{"incarnation", made.incarnation},
                         {"next_volume", made.next_volume},
                         {"next_migration", made.next_migration},
                         {"next_holder", made.next_holder}}}};
  if (s.json && !problem) {
    s.print(found);
    return success;
  }
  if (!s.json) {
    for (const auto& x : looked)
      fmt::print("{}\n", x);
    t.print(!s.no_headers);
    fmt::print("{} of {} files are homes; incarnation {}, next volume {}\n", made.homes.size(), made.files,
               made.incarnation, made.next_volume);
    for (const auto& x : made.notes)
      fmt::print("note: {}\n", x);
    for (const auto& x : made.conflicts)
      fmt::print("conflict: {}\n", x);
  }
  if (problem)
    return s.fail(problem, {}, found);
  if (args.dry_run)
    fmt::print("nothing was written\n");
  else
    fmt::print("written{}\n", aside.empty() ? "" : "; the catalog before is " + aside);
  return success;
}

int forget(session& s, catalog_store& catalog, const arguments& args) {
  tier_loss x;
  auto problem = weigh_tier(catalog, args.text, x);
  if (!problem && args.yes)
    problem = forget_tier(catalog, args.text, x);
  nlohmann::json found{{"tier", args.text}, {"id", x.id}, {"shards", x.shards}, {"volumes", x.volumes}};
  if (problem)
    return s.fail(problem);
  std::string losses;
  for (const auto& [name, shards] : x.volumes)
    losses += fmt::format("  {} loses {} shards\n", name, shards);
  if (!args.yes) {
    if (!s.json)
      fmt::print("{}", losses);
    return s.fail(
      make_error(errc::needs_confirmation,
                 fmt::format("{} shards on tier \"{}\" would be forgotten and read as zeros from then on, and "
                             "tier {} never be served again; if that is meant: --yes",
                             x.shards, args.text, x.id.empty() ? "?" : x.id)),
      {}, found);
  }
  if (s.json)
    s.print(found);
  else
    fmt::print("{}tier \"{}\" is given up: {} shards are lost and read as zeros\n", losses, args.text, x.shards);
  return success;
}

int accept(session& s, const stopped_node& node, catalog_store& catalog, const arguments& args) {
  tier_acceptance x;
  auto problem = accept_tier(node, catalog, args.text, args.yes, x);
  nlohmann::json found{{"tier", args.text},  {"id", x.id},        {"new", x.is_new},
                       {"before", x.before}, {"shards", x.homes}, {"missing", x.missing}};
  const auto what =
    fmt::format("{} of the {} shards that the catalog has on tier \"{}\" are there{}", x.homes - x.missing, x.homes,
                args.text, x.was_called.empty() ? "" : "; the folder was called " + x.was_called);
  if (problem && code_of(problem) == errc::needs_confirmation)
    return s.fail(make_error(errc::needs_confirmation, what + "; if it is to be this tier: --yes"), {}, found);
  if (problem)
    return s.fail(problem);
  if (s.json)
    s.print(found);
  else
    fmt::print("tier \"{}\" is {}{}: {}\n", args.text, x.id, x.is_new ? ", a new id" : "", what);
  return success;
}

} // namespace

void add_recovery_verbs(CLI::App& app, session& s) {
  auto args = std::make_shared<arguments>();
  auto* noun = app.add_subcommand("catalog", "What the node knows: copies of it, and how to make it anew");
  noun->require_subcommand(1);
  auto* x = noun->add_subcommand("backup", "Copy the catalog to a file at the node, which goes on");
  x->add_option("FILE", args->text)->required();
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return backup(s, node, args->text); }); });

  // What follows is for a node that is stopped: it reads --config, and keeps varved from starting meanwhile.
  auto stopped = [args](CLI::App* verb) {
    verb->add_option("--data-dir", args->data_dir, "Instead of node.data_dir, as given to varved")->type_name("DIR");
  };
  x = noun->add_subcommand("restore", "Put a backup in the catalog's place, the node being stopped (--config FILE)");
  x->add_option("FILE", args->text)->required();
  x->add_flag("--force", args->force, "Also when the catalog in place is newer");
  stopped(x);
  x->callback([args, &s] {
    with_stopped_node(s, *args, part::catalog,
                      [&](const stopped_node& node) { return restore_catalog(s, node, *args); });
  });
  x = noun->add_subcommand("rebuild", "Make the catalog from shards' headers, the node being stopped (--config FILE)");
  x->add_flag("--dry-run", args->dry_run, "Only say what would be made");
  x->add_flag("--yes", args->yes, "Write it also when there are conflicts");
  stopped(x);
  x->callback([args, &s] {
    with_stopped_node(s, *args, part::catalog,
                      [&](const stopped_node& node) { return rebuild_catalog(s, node, *args); });
  });

  noun = app.get_subcommand("tier");
  x = noun->add_subcommand("forget", "Give a lost tier up for good, the node being stopped (--config FILE)");
  x->add_option("TIER", args->text)->required();
  x->add_flag("--yes", args->yes, "Its shards are lost, and read as zeros");
  stopped(x);
  x->callback([args, &s] {
    with_catalog(s, *args, part::catalog,
                 [&](const stopped_node&, catalog_store& catalog) { return forget(s, catalog, *args); });
  });
  x = noun->add_subcommand("accept",
                           "Take the folder that a tier has now for it, the node being stopped (--config FILE)");
  x->add_option("TIER", args->text)->required();
  x->add_flag("--yes", args->yes, "It is the right one");
  stopped(x);
  x->callback([args, &s] {
    with_catalog(s, *args, part::tiers,
                 [&](const stopped_node& node, catalog_store& catalog) { return accept(s, node, catalog, *args); });
  });
}

} // namespace varve::cli
