#include <cstdio>
#include <map>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "messages/errors.hpp"
#include "runtime/cli/session.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

/// Names for the numbers in leases.
class lease_names {
public:
  lease_names() = default;

  explicit lease_names(rpc_client& node) {
    if (auto all = node.volume_list())
      for (const auto& x : *all)
        add(x.record);
  }

  void add(const volume_record& x) {
    volumes_[x.id.value()] = x.spec.name;
    for (const auto& a : x.attachments)
      hosts_[a.holder.value()] = a.host;
  }

  bool knows(const lease_grant& x) const {
    return volumes_.count(x.home.id.volume.value()) > 0 && hosts_.count(x.holder.value()) > 0;
  }

  std::string volume(const lease_grant& x) const {
    const auto id = x.home.id.volume.value();
    const auto at = volumes_.find(id);
    return at == volumes_.end() ? std::to_string(id) : at->second;
  }

  /// Where the holder is attached; empty: nowhere any more.
  std::string host(const lease_grant& x) const {
    const auto at = hosts_.find(x.holder.value());
    return at == hosts_.end() ? "" : at->second;
  }

private:
  std::map<uint64_t, std::string> volumes_;
  std::map<uint64_t, std::string> hosts_;
};

/// Manager and count: people compare them.
std::string epoch_text(epoch x) {
  return fmt::format("{}.{}", x.value() >> 32, x.value() & 0xffffffff);
}

std::string tier_of(const lease_grant& x) {
  return x.home.tier.empty() ? "-" : x.home.tier;
}

table lease_table_of(const lease_names& names, const std::vector<lease_info>& all) {
  table t{{"VOLUME", ">SHARD", ">COUNT", "MODE", ">EPOCH", ">HOLDER", "HOST", ">TERM", ">LEFT", "STATE", "TIER",
           "SHORTENED"}};
  for (const auto& x : all) {
    const auto host = names.host(x.grant);
    t.row({names.volume(x.grant), std::to_string(x.grant.home.id.index.value()), std::to_string(x.grant.count),
           to_string(x.grant.mode), epoch_text(x.grant.fence), std::to_string(x.grant.holder.value()),
           host.empty() ? "-" : host, format_duration_short(x.grant.term), format_duration_short(x.remaining), x.state,
           tier_of(x.grant), to_string(x.grant.limit)});
  }
  return t;
}

std::string line_of(const lease_names& names, const lease_event& x) {
  const auto& g = x.grant;
  const auto host = names.host(g);
  auto text = fmt::format("{}  {:<8}  {} shard {}{}  {}  holder {}{}  epoch {}", utc(x.at), to_string(x.what),
                          names.volume(g), g.home.id.index.value(), g.count > 1 ? fmt::format("+{}", g.count - 1) : "",
                          to_string(g.mode), g.holder.value(), host.empty() ? "" : " at " + host, epoch_text(g.fence));
  if (g.term.count() > 0)
    text += "  term " + format_duration_short(g.term);
  if (!g.home.tier.empty())
    text += "  " + g.home.tier;
  return x.why.empty() ? text : text + "  (" + x.why + ")";
}

nlohmann::json to_json_list(const lease_names& names, const std::vector<lease_info>& all) {
  auto list = nlohmann::json::array();
  for (const auto& x : all)
    list.push_back(to_json(x, names.volume(x.grant), names.host(x.grant)));
  return list;
}

int list(session& s, rpc_client& node, const std::string& volume) {
  const auto all = node.lease_list(volume);
  if (!all)
    return s.fail(all.error());
  const lease_names names(node);
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
  lease_names names;
  names.add(record->record);
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
      told.push_back(to_json(x, names.volume(x.grant), names.host(x.grant)));
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
  lease_names names(node);
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
    bool refreshed = false;
    for (const auto& x : more->events) {
      after = x.number;
      if (only && x.grant.home.id.volume != *only)
        continue;
      if (!names.knows(x.grant) && !refreshed) {
        names = lease_names(node);
        refreshed = true; // whose attachment is over stays unknown: once for each page is enough
      }
      if (s.json)
        fmt::print("{}\n", to_json(x, names.volume(x.grant), names.host(x.grant)).dump());
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
