#include <fmt/format.h>

#include "runtime/cli/session.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

struct volume_arguments {
  std::string name;
  std::string size;
  std::string shard_size;
  std::string tier;
  std::string sensitivity = "normal";
  std::string profile = "balanced";
  bool is_volatile = false;
  bool yes = false;
  bool force = false;
  std::string host;
  bool shared = false;
};

std::optional<uint64_t> size_of(session& s, const std::string& what, const std::string& text) {
  std::string problem;
  auto x = parse_size(text, problem);
  if (!x)
    s.exit = s.fail(usage, "usage", what + ": " + problem);
  return x;
}

std::string allocated(const volume_info& x) {
  return known(x.contents_known, format_size_short(static_cast<double>(x.allocated_bytes)));
}

// Where it is attached.
std::string hosts(const volume_record& x) {
  std::string text;
  for (const auto& a : x.attachments)
    text += (text.empty() ? "" : ",") + a.host;
  return text;
}

void print_volumes(session& s, const std::vector<volume_info>& all) {
  table t{{"NAME", ">ID", ">SIZE", ">ALLOCATED", ">SHARDS", "ATTACHED", ">CLIENTS", "KIND", "TIER"}};
  for (const auto& x : all) {
    const auto& spec = x.record.spec;
    t.row({spec.name, std::to_string(x.record.id.value()), format_size(spec.size_bytes), allocated(x),
           known(x.shards_known(), std::to_string(x.shards)),
           x.record.removing     ? "removing"
           : x.record.attached() ? "at " + hosts(x.record)
                                 : "no",
           known(x.clients_known, std::to_string(x.connections)), spec.is_volatile ? "volatile" : "durable",
           spec.tier.empty() ? "-" : spec.tier});
  }
  t.print(!s.no_headers);
}

int create(session& s, rpc_client& node, const volume_spec& spec) {
  auto x = node.volume_create(spec);
  if (!x)
    return s.fail(x.error());
  if (s.json)
    s.print(to_json(*x));
  else
    print_volumes(s, {*x});
  if (spec.is_volatile)
    s.say("volatile: its data is lost when the node stops");
  return success;
}

int list(session& s, rpc_client& node) {
  auto all = node.volume_list();
  if (!all)
    return s.fail(all.error());
  if (!s.json) {
    print_volumes(s, *all);
    return success;
  }
  auto rows = nlohmann::json::array();
  for (const auto& x : *all)
    rows.push_back(to_json(x));
  s.print({{"volumes", rows}});
  return success;
}

int show(session& s, rpc_client& node, const std::string& name) {
  auto x = node.volume_show(name);
  if (!x)
    return s.fail(x.error());
  if (s.json) {
    s.print(to_json(*x));
    return success;
  }
  const auto& spec = x->record.spec;
  table t{{"", ""}};
  t.row({"name", spec.name});
  t.row({"id", std::to_string(x->record.id.value())});
  t.row({"size", format_size(spec.size_bytes)});
  t.row({"allocated", allocated(*x)});
  t.row({"shard size", format_size(spec.shard_size)});
  t.row({"shards", known(x->shards_known(), std::to_string(x->shards))});
  t.row({"kind", spec.is_volatile ? "volatile" : "durable"});
  t.row({"tier for new shards", spec.tier.empty() ? "by placement" : spec.tier});
  t.row({"created", utc(x->record.created_at)});
  t.row({"attached", x->record.attached() ? "at " + hosts(x->record) : "no"});
  if (!x->uri.empty() || !x->uri_known())
    t.row({"uri", known(x->uri_known(), x->uri)});
  t.row({"clients", known(x->clients_known, std::to_string(x->connections))});
  t.print(false);
  return success;
}

int attach(session& s, rpc_client& node, const volume_arguments& args) {
  auto x = node.volume_attach(args.name, args.host, args.shared);
  if (!x)
    return s.fail(x.error(), code_of(x.error()) == errc::volume_attached
                               ? "a VM that moves between hosts: --shared; else first: varve volume detach " + args.name
                               : "");
  if (s.json)
    s.print(to_json(*x));
  else
    fmt::print("{}\n", x->uri);
  // As an object, since only so QEMU takes a reconnect-delay: with it the VM outlives a restart of varved.
  s.say(fmt::format("for QEMU{}:\n  -drive driver=raw,if=virtio,discard=unmap,file.driver=nbd,file.server.type=unix,"
                    "file.server.path={},file.export={},file.reconnect-delay=60",
                    args.host.empty() ? "" : " at " + x->host, x->socket_path, args.name));
  return success;
}

int remove(session& s, rpc_client& node, const std::string& name, bool yes) {
  if (!yes) {
    // What would be lost is said by whoever knows it.
    auto x = node.volume_show(name);
    if (!x)
      return s.fail(x.error());
    return s.fail(
      make_error(errc::needs_confirmation,
                 fmt::format("this destroys volume {} of {} with {} of data in {} shards, for ever; to do it, "
                             "add --yes",
                             x->record.spec.name, format_size(x->record.spec.size_bytes),
                             x->contents_known ? allocated(*x) : "an unknown amount",
                             known(x->shards_known(), std::to_string(x->shards)))));
  }
  if (s.timeout.empty())
    node.set_timeout({});
  if (auto e = node.volume_remove(name, true))
    return s.fail(e, code_of(e) == errc::volume_attached ? "first: varve volume detach " + name : "");
  if (s.json)
    s.print({{"removed", name}});
  return success;
}

int resize(session& s, rpc_client& node, const std::string& name, uint64_t size) {
  auto x = node.volume_resize(name, size);
  if (!x)
    return s.fail(x.error());
  if (s.json)
    s.print(to_json(*x));
  else
    print_volumes(s, {*x});
  return success;
}

int detach(session& s, rpc_client& node, const volume_arguments& args) {
  if (s.timeout.empty() && args.force)
    node.set_timeout(std::chrono::minutes{2});
  if (auto e = node.volume_detach(args.name, args.force, args.host))
    return s.fail(e, code_of(e) == errc::timed_out
                       ? "requests may be waiting for a tier; --force ends them with an error that the VM sees"
                       : "");
  if (s.json)
    s.print({{"detached", args.name}});
  return success;
}

} // namespace

void add_volume_verbs(CLI::App& app, session& s) {
  auto* noun = app.add_subcommand("volume", "Block devices for virtual machines");
  noun->require_subcommand(1);
  auto args = std::make_shared<volume_arguments>();

  auto* x = noun->add_subcommand("create", "Make a volume; it takes no space until something is written");
  x->add_option("NAME", args->name)->required();
  x->add_option("--size", args->size, "Such as 20GiB")->required();
  x->add_option("--shard-size", args->shard_size, "A power of two, 256KiB to 1GiB [the node's]");
  x->add_option("--tier", args->tier, "Where new shards go [placement decides]");
  x->add_option("--sensitivity", args->sensitivity, "low, normal or high")
    ->check(CLI::IsMember({"low", "normal", "high"}));
  x->add_option("--profile", args->profile,
                "What its I/O is like: balanced, latency (the fastest tiers) or capacity (the cheapest)")
    ->check(CLI::IsMember({"balanced", "latency", "capacity"}));
  x->add_flag("--volatile", args->is_volatile, "Keep it in memory only: ALL ITS DATA IS LOST when the node stops");
  x->callback([args, &s] {
    volume_spec spec;
    spec.name = args->name;
    spec.tier = args->tier;
    spec.is_volatile = args->is_volatile;
    spec.sensitive = args->sensitivity == "low"    ? sensitivity::low
                     : args->sensitivity == "high" ? sensitivity::high
                                                   : sensitivity::normal;
    spec.profile = args->profile == "latency"    ? workload_profile::latency
                   : args->profile == "capacity" ? workload_profile::capacity
                                                 : workload_profile::balanced;
    const auto size = size_of(s, "--size", args->size);
    const auto shard_size = args->shard_size.empty() ? 0 : size_of(s, "--shard-size", args->shard_size);
    if (!size || !shard_size)
      return;
    spec.size_bytes = *size;
    spec.shard_size = *shard_size;
    s.with_node([&](rpc_client& node) { return create(s, node, spec); });
  });

  x = noun->add_subcommand("ls", "List volumes");
  x->callback([&s] { s.with_node([&](rpc_client& node) { return list(s, node); }); });

  x = noun->add_subcommand("show", "Show one volume");
  x->add_option("VOLUME", args->name)->required();
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return show(s, node, args->name); }); });

  x = noun->add_subcommand("resize",
                           "Change a volume's size, also while attached; smaller only where nothing was written");
  x->add_option("VOLUME", args->name)->required();
  x->add_option("SIZE", args->size)->required();
  x->callback([args, &s] {
    if (const auto size = size_of(s, "SIZE", args->size))
      s.with_node([&](rpc_client& node) { return resize(s, node, args->name, *size); });
  });

  x = noun->add_subcommand("rm", "Destroy a volume and ALL ITS DATA");
  x->add_option("VOLUME", args->name)->required();
  x->add_flag("--yes", args->yes, "Its data is lost for ever, and that is meant");
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return remove(s, node, args->name, args->yes); }); });

  x = noun->add_subcommand("attach", "Export a volume over NBD and print its URI");
  x->add_option("VOLUME", args->name)->required();
  x->add_option("--host", args->host, "The node at which its VM runs [the node that is asked]")->type_name("NODE");
  x->add_flag("--shared", args->shared, "Also while it is attached at another host: for a VM that moves between them");
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return attach(s, node, *args); }); });

  x = noun->add_subcommand("detach", "End the export; waits for requests under way, then flushes");
  x->add_option("VOLUME", args->name)->required();
  x->add_flag("--force", args->force,
              "Do not wait for requests that wait for a lease: they fail, and a VM that still runs sees I/O errors and "
              "may lose what it had not flushed");
  x->add_option("--host", args->host, "At this node [the only one]")->type_name("NODE");
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return detach(s, node, *args); }); });
}

} // namespace varve::cli
