#include <cstdio>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "messages/errors.hpp"
#include "runtime/cli/session.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

using names_of_volumes = std::map<uint64_t, std::string>;

std::string name_in(const names_of_volumes& names, volume_id id) {
  auto at = names.find(id.value());
  return at == names.end() ? std::to_string(id.value()) : at->second;
}

/// Manager and count: people compare them.
std::string epoch_text(epoch x) {
  return fmt::format("{}.{}", x.value() >> 32, x.value() & 0xffffffff);
}

std::string tier_of(const lease_grant& x) {
  return x.home.tier.empty() ? "-" : x.home.tier;
}

table lease_table_of(const names_of_volumes& names, const std::vector<lease_info>& all) {
  table t{{"VOLUME", ">SHARD", ">COUNT", "MODE", ">EPOCH", ">HOLDER", ">TERM", ">LEFT", "STATE", "TIER", "SHORTENED"}};
  for (const auto& x : all)
    t.row({name_in(names, x.grant.home.id.volume), std::to_string(x.grant.home.id.index.value()),
           std::to_string(x.grant.count), to_string(x.grant.mode), epoch_text(x.grant.fence),
           std::to_string(x.grant.holder.value()), format_duration_short(x.grant.term),
           format_duration_short(x.remaining), x.state, tier_of(x.grant), to_string(x.grant.limit)});
  return t;
}

std::string line_of(const names_of_volumes& names, const lease_event& x) {
  const auto& g = x.grant;
  auto text = fmt::format("{}  {:<8}  {} shard {}{}  {}  holder {}  epoch {}", utc(x.at), to_string(x.what),
                          name_in(names, g.home.id.volume), g.home.id.index.value(),
                          g.count > 1 ? fmt::format("+{}", g.count - 1) : "", to_string(g.mode), g.holder.value(),
                          epoch_text(g.fence));
  if (g.term.count() > 0)
    text += "  term " + format_duration_short(g.term);
  if (!g.home.tier.empty())
    text += "  " + g.home.tier;
  return x.why.empty() ? text : text + "  (" + x.why + ")";
}

nlohmann::json to_json_list(const names_of_volumes& names, const std::vector<lease_info>& all) {
  auto list = nlohmann::json::array();
  for (const auto& x : all)
    list.push_back(to_json(x, name_in(names, x.grant.home.id.volume)));
  return list;
}

int list(session& s, rpc_client& node, const std::string& volume) {
  const auto names = session::volume_names(node);
  const auto all = node.lease_list(volume);
  if (!all)
    return s.fail(all.error());
  if (s.json)
    s.print({{"leases", to_json_list(names, *all)}});
  else
    lease_table_of(names, *all).print(!s.no_headers);
  return success;
}

bool covers(const lease_grant& x, uint64_t index) {
  return index >= x.home.id.index.value() && index - x.home.id.index.value() < x.count;
}

/// Who has a shard, and what happened to its leases lately.
int show(session& s, rpc_client& node, const std::string& volume, uint64_t index) {
  constexpr uint32_t page = 1000;
  const auto record = node.volume_show(volume);
  if (!record)
    return s.fail(record.error());
  const auto id = record->record.id;
  const auto names = names_of_volumes{{id.value(), record->record.spec.name}};
  auto all = node.lease_list(volume);
  if (!all)
    return s.fail(all.error());
  std::erase_if(*all, [&](const lease_info& x) { return !covers(x.grant, index); });
  std::vector<lease_event> events;
  for (uint64_t after = 0;;) {
    auto more = node.lease_history(after, page);
    if (!more)
      return s.fail(more.error());
    for (auto& x : more->events)
      if (x.grant.home.id.volume == id && covers(x.grant, index))
        events.push_back(std::move(x));
    if (more->events.empty())
      break;
    after = more->events.back().number;
  }
  if (s.json) {
    auto told = nlohmann::json::array();
    for (const auto& x : events)
      told.push_back(to_json(x, name_in(names, id)));
    s.print({{"leases", to_json_list(names, *all)}, {"events", std::move(told)}});
    return success;
  }
  if (all->empty())
    fmt::print("nobody has a lease of {} shard {}\n", record->record.spec.name, index);
  else
    lease_table_of(names, *all).print(!s.no_headers);
  for (const auto& x : events)
    fmt::print("{}\n", line_of(names, x));
  return success;
}

/// Tells what happens from now on, line by line, until it is interrupted.
int watch(session& s, rpc_client& node, const std::string& volume, uint64_t count) {
  constexpr uint32_t page = 1000;
  std::optional<volume_id> only;
  if (!volume.empty()) {
    const auto record = node.volume_show(volume);
    if (!record)
      return s.fail(record.error());
    only = record->record.id;
  }
  auto names = session::volume_names(node);
  auto seen = node.lease_history(UINT64_MAX - 1, 1);
  if (!seen)
    return s.fail(seen.error());
  auto after = seen->newest;
  auto incarnation = seen->incarnation;
  for (uint64_t told = 0;;) {
    auto more = node.lease_history(after, page);
    if (!more)
      return s.fail(more.error());
    if (more->incarnation != incarnation) {
      s.say("another manager leads: what happened meanwhile is not known");
      incarnation = more->incarnation;
      after = 0;
      continue;
    }
    if (!more->events.empty() && more->events.front().number > after + 1)
      s.say(fmt::format("{} events were too fast to be told", more->events.front().number - after - 1));
    for (const auto& x : more->events) {
      after = x.number;
      if (only && x.grant.home.id.volume != *only)
        continue;
      if (names.count(x.grant.home.id.volume.value()) == 0)
        names = session::volume_names(node);
      if (s.json)
        fmt::print("{}\n", to_json(x, name_in(names, x.grant.home.id.volume)).dump());
      else
        fmt::print("{}\n", line_of(names, x));
      if (std::fflush(stdout) != 0)
        return success; // nobody reads any more
      if (count != 0 && ++told >= count)
        return success;
    }
    if (more->events.size() < page)
      node.sleep(std::chrono::milliseconds{100});
  }
}

} // namespace

void add_lease_verbs(CLI::App& app, session& s) {
  auto volume = std::make_shared<std::string>();
  auto index = std::make_shared<uint64_t>(0);
  auto count = std::make_shared<uint64_t>(0);

  auto* noun = app.add_subcommand("lease", "Who may read, write or move which shard, and until when");
  noun->require_subcommand(1);
  auto* x = noun->add_subcommand("ls", "List leases");
  x->add_option("VOLUME", *volume, "All volumes without");
  x->callback([volume, &s] { s.with_node([&](rpc_client& node) { return list(s, node, *volume); }); });
  x = noun->add_subcommand("show", "Who has a shard, and what happened to its leases lately");
  x->add_option("VOLUME", *volume)->required();
  x->add_option("SHARD", *index, "Its index")->required();
  x->callback([volume, index, &s] { s.with_node([&](rpc_client& node) { return show(s, node, *volume, *index); }); });
  x = noun->add_subcommand("watch", "Tell of grants, changes, breaks and expiries as they happen, until Ctrl-C");
  x->add_option("VOLUME", *volume, "All volumes without");
  x->add_option("--count", *count, "End after so many");
  x->callback([volume, count, &s] { s.with_node([&](rpc_client& node) { return watch(s, node, *volume, *count); }); });
  x = noun->add_subcommand("break", "Take a shard's leases away and fence their holders; those that live ask again");
  x->add_option("VOLUME", *volume)->required();
  x->add_option("SHARD", *index, "Its index")->required();
  x->callback([volume, index, &s] {
    s.with_node([&](rpc_client& node) {
      if (const auto e = node.lease_break(*volume, *index))
        return s.fail(e);
      if (s.json)
        s.print({{"broken", *index}});
      return static_cast<int>(success);
    });
  });
}

} // namespace varve::cli
