#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "runtime/cli/session.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

bool is_over(const migration_progress& x) {
  return x.record.state >= migration_state::committed;
}

std::string name_of(const std::map<uint64_t, std::string>& names, volume_id id) {
  auto at = names.find(id.value());
  return at == names.end() ? std::to_string(id.value()) : at->second;
}

std::string state_of(const migration_progress& x) {
  const auto* how = is_over(x) ? "" : x.paused ? " (paused)" : x.mirroring ? " (mirroring)" : "";
  return to_string(x.record.state) + std::string{how};
}

std::string note_of(const migration_progress& x) {
  if (!x.record.reason.empty())
    return x.record.reason;
  if (is_over(x))
    return "gate closed " + format_duration_short(x.gate_closed);
  return x.throttled_by.empty() ? x.last_error : "throttled by " + x.throttled_by;
}

void print_migrations(session& s, rpc_client& node, const std::vector<migration_progress>& all) {
  migration_table(node, all).print(!s.no_headers);
}

int list(session& s, rpc_client& node) {
  auto all = node.migration_list();
  if (!all)
    return s.fail(all.error());
  if (!s.json) {
    print_migrations(s, node, *all);
    return success;
  }
  const auto names = session::volume_names(node);
  auto rows = nlohmann::json::array();
  for (const auto& x : *all)
    rows.push_back(to_json(x, name_of(names, x.record.shard.volume)));
  s.print({{"migrations", rows}});
  return success;
}

int one(session& s, rpc_client& node, const caf::expected<migration_progress>& x) {
  if (!x)
    return s.fail(x.error());
  if (s.json)
    s.print(to_json(*x, name_of(session::volume_names(node), x->record.shard.volume)));
  else
    print_migrations(s, node, {*x});
  return success;
}

// Follows one migration, or all that are under way now and start meanwhile, until they are over.
int watch(session& s, rpc_client& node, std::optional<uint64_t> only) {
  const auto names = session::volume_names(node);
  std::set<uint64_t> followed;
  std::map<uint64_t, std::string> last_lines;
  bool any_aborted = false;
  const bool draws = s.draws();
  for (bool first = true;; first = false) {
    auto all = node.migration_list();
    if (!all)
      return s.fail(all.error());
    uint64_t running = 0, done_bytes = 0, total_bytes = 0, found = 0;
    double rate = 0, lowest_percent = 100;
    caf::timespan remaining{0};
    for (const auto& x : *all) {
      const auto id = x.record.id.value();
      if (only ? id != *only : is_over(x) && !followed.contains(id))
        continue;
      ++found;
      const bool was_followed = !followed.insert(id).second;
      done_bytes += x.bytes_done;
      total_bytes += x.bytes_total;
      running += !is_over(x);
      if (!is_over(x)) {
        rate += x.bytes_per_second;
        remaining = std::max(remaining, x.remaining);
        lowest_percent = std::min(lowest_percent, x.percent);
      }
      auto line = fmt::format("migration {}: {} shard {}, {} to {}: {}", id, name_of(names, x.record.shard.volume),
                              x.record.shard.index.value(), x.record.from_tier, x.record.to_tier, state_of(x));
      // On a terminal a bar stands for what runs; lines tell what is over. Elsewhere each change of state is a line.
      if (last_lines[id] != line && (!draws || is_over(x))) {
        if (is_over(x) && (was_followed || only))
          any_aborted = any_aborted || x.record.state == migration_state::aborted;
        if (draws)
          fmt::print(stderr, "\r\033[K");
        if (s.json)
          fmt::print("{}\n", to_json(x, name_of(names, x.record.shard.volume)).dump());
        else
          fmt::print("{}{}\n", line, is_over(x) && !note_of(x).empty() ? ", " + note_of(x) : "");
        std::fflush(stdout);
        last_lines[id] = line;
      }
    }
    if (only && found == 0)
      return s.fail(make_error(errc::not_found, fmt::format("no migration {}", *only)));
    if (running == 0) {
      if (draws)
        fmt::print(stderr, "\r\033[K");
      if (first && followed.empty())
        s.say("no migration is under way");
      return any_aborted ? refused : success;
    }
    if (draws) {
      const double share = running == 1 && followed.size() == 1 ? lowest_percent
                           : total_bytes ? 100.0 * static_cast<double>(done_bytes) / static_cast<double>(total_bytes)
                                         : 0;
      fmt::print(stderr, "\r\033[K{} {:>4}  {} left, {}/s{}", bar(share), percent(share), running,
                 format_size_short(rate), remaining.count() ? ", " + format_duration_short(remaining) : "");
      std::fflush(stderr);
    }
    node.sleep(std::chrono::milliseconds{draws ? 200 : 100});
  }
}

} // namespace

table migration_table(rpc_client& node, const std::vector<migration_progress>& all) {
  const auto names = session::volume_names(node);
  table t{{">ID", "VOLUME", ">SHARD", "FROM", "TO", "STATE", ">DONE", ">MOVED", ">RATE", ">ETA", "NOTE"}};
  for (const auto& x : all)
    t.row({std::to_string(x.record.id.value()), name_of(names, x.record.shard.volume),
           std::to_string(x.record.shard.index.value()), x.record.from_tier, x.record.to_tier, state_of(x),
           percent(x.percent), format_size_short(static_cast<double>(x.bytes_done)),
           is_over(x) ? "-" : format_size_short(x.bytes_per_second) + "/s",
           is_over(x) || x.remaining.count() == 0 ? "-" : format_duration_short(x.remaining), note_of(x)});
  return t;
}

void add_migration_verbs(CLI::App& app, session& s) {
  auto* noun = app.add_subcommand("migration", "Moves of shards between tiers");
  noun->require_subcommand(1);
  auto id = std::make_shared<uint64_t>(0);

  auto* x = noun->add_subcommand("ls", "List moves under way, and the latest that ended");
  x->callback([&s] { s.with_node([&](rpc_client& node) { return list(s, node); }); });

  x = noun->add_subcommand("show", "Show one move");
  x->add_option("ID", *id)->required();
  x->callback(
    [id, &s] { s.with_node([&](rpc_client& node) { return one(s, node, node.migration_show(migration_id{*id})); }); });

  x = noun->add_subcommand("watch", "Follow moves until they are over; exit code 1 when one was aborted");
  auto* given = x->add_option("ID", *id, "All that are under way without");
  x->callback([id, given, &s] {
    s.with_node([&](rpc_client& node) { return watch(s, node, given->count() ? std::optional{*id} : std::nullopt); });
  });

  x = noun->add_subcommand("cancel", "Abort a move: the shard stays where it was, what was copied is dropped");
  x->add_option("ID", *id)->required();
  x->callback([id, &s] {
    s.with_node([&](rpc_client& node) { return one(s, node, node.migration_cancel(migration_id{*id})); });
  });

  x = noun->add_subcommand("pause", "Stop copying for now; what is written meanwhile is noted");
  x->add_option("ID", *id)->required();
  x->callback(
    [id, &s] { s.with_node([&](rpc_client& node) { return one(s, node, node.migration_pause(migration_id{*id})); }); });

  x = noun->add_subcommand("resume", "Go on with a paused move");
  x->add_option("ID", *id)->required();
  x->callback([id, &s] {
    s.with_node([&](rpc_client& node) { return one(s, node, node.migration_resume(migration_id{*id})); });
  });
}

} // namespace varve::cli
