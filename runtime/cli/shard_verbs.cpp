#include <fmt/format.h>

#include "runtime/cli/session.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

struct shard_arguments {
  std::string volume;
  std::string offset;
  std::string length;
  std::string tier;
  uint64_t index = 0;
  bool all = false;
};

constexpr uint32_t page_size = 1024;

// Every shard of the volume, page by page; an error of the node ends it.
caf::error for_each_shard(rpc_client& node, const std::string& volume, const std::function<int(const shard_row&)>& f) {
  for (uint64_t first = 0;;) {
    auto page = node.shard_list(volume, first, page_size);
    if (!page)
      return page.error();
    for (const auto& x : page->shards)
      f(x);
    first = page->next.value();
    if (first == 0)
      return {};
  }
}

void print_shards(session& s, const std::vector<shard_row>& all) {
  table t{{">INDEX", ">OFFSET", ">SIZE", "TIER", "NODE", ">GENERATION", ">ALLOCATED", "LEASE", ">READS", ">WRITES",
           "MIGRATION"}};
  for (const auto& x : all)
    t.row({std::to_string(x.home.id.index.value()), format_size(x.offset), format_size(x.size), x.home.tier,
           x.node.empty() ? "-" : x.node, std::to_string(x.home.of.value()),
           x.active || x.allocated_bytes ? format_size_short(static_cast<double>(x.allocated_bytes)) : "-",
           x.lease.empty() ? "-" : x.lease, x.active ? std::to_string(x.reads) : "-",
           x.active ? std::to_string(x.writes) : "-", x.migration.value() ? std::to_string(x.migration.value()) : "-"});
  t.print(!s.no_headers);
}

int list(session& s, rpc_client& node, const std::string& volume) {
  std::vector<shard_row> all;
  if (auto e = for_each_shard(node, volume, [&](const shard_row& x) {
        all.push_back(x);
        return success;
      }))
    return s.fail(e);
  if (!s.json) {
    print_shards(s, all);
    return success;
  }
  auto rows = nlohmann::json::array();
  for (const auto& x : all)
    rows.push_back(to_json(x));
  s.print({{"shards", rows}});
  return success;
}

int show(session& s, rpc_client& node, const std::string& volume, uint64_t index) {
  auto x = node.shard_show(volume, index);
  if (!x)
    return s.fail(x.error());
  if (s.json)
    s.print(to_json(*x));
  else
    print_shards(s, {*x});
  return success;
}

int move(session& s, rpc_client& node, const shard_arguments& args) {
  auto volume = node.volume_show(args.volume);
  if (!volume)
    return s.fail(volume.error());
  const auto& spec = volume->record.spec;
  uint64_t first = 0, count = (spec.size_bytes + spec.shard_size - 1) / spec.shard_size;
  if (!args.all) {
    std::string problem;
    const auto offset = parse_size(args.offset, problem);
    const auto length = args.length.empty() ? std::optional<uint64_t>{1} : parse_size(args.length, problem);
    if (!offset || !length || *length == 0)
      return s.fail(usage, "usage", problem.empty() ? "--length: 0 moves nothing" : problem);
    if (*offset >= spec.size_bytes)
      return s.fail(
        make_error(errc::invalid_argument, fmt::format("offset {} is not within the volume's {}", format_size(*offset),
                                                       format_size(spec.size_bytes))));
    first = *offset / spec.shard_size;
    // What a length reaches into is moved as a whole.
    const auto last = (*offset + std::min(*length, spec.size_bytes - *offset) - 1) / spec.shard_size;
    count = last - first + 1;
  }
  auto ids = node.shard_move(args.volume, first, count, args.tier);
  if (!ids)
    return s.fail(ids.error());
  auto rows = nlohmann::json::array();
  for (auto id : *ids) {
    rows.push_back(id.value());
    if (!s.json)
      fmt::print("{}\n", id.value());
  }
  if (s.json)
    s.print({{"migrations", rows}});
  s.say(ids->empty() ? "nothing to move: what exists there is on " + args.tier + " already"
                     : fmt::format("{} migration{} started; to see {}: varve migration watch", ids->size(),
                                   ids->size() == 1 ? "" : "s", ids->size() == 1 ? "it" : "them"));
  return success;
}

} // namespace

// `shard verify` and `volume verify`: of one shard, or of all.
int verify(session& s, rpc_client& node, const std::string& volume, std::optional<uint64_t> index) {
  // Reading a whole shard takes as long as its tier takes.
  if (s.timeout.empty())
    node.set_timeout({});
  uint64_t shards = 0, bad_blocks = 0;
  auto rows = nlohmann::json::array();
  auto check = [&](uint64_t at) -> caf::error {
    auto bad = node.shard_verify(volume, at);
    if (!bad)
      return bad.error();
    ++shards;
    bad_blocks += *bad;
    if (*bad) {
      rows.push_back({{"index", at}, {"bad_blocks", *bad}});
      if (!s.json)
        fmt::print("shard {}: {} bad blocks\n", at, *bad);
    }
    if (s.draws())
      fmt::print(stderr, "\r{} shards verified, {} bad blocks ", shards, bad_blocks);
    return {};
  };
  caf::error failed;
  if (index) {
    failed = check(*index);
  } else {
    std::vector<uint64_t> all;
    failed = for_each_shard(node, volume, [&](const shard_row& x) {
      all.push_back(x.home.id.index.value());
      return success;
    });
    for (size_t i = 0; i < all.size() && !failed; ++i) {
      failed = check(all[i]);
      // Moved or trimmed away meanwhile: verified wherever it is next time.
      if (code_of(failed) == errc::not_found)
        failed = {};
    }
  }
  if (s.draws())
    fmt::print(stderr, "\n");
  const nlohmann::json found{{"shards", shards}, {"bad_blocks", bad_blocks}, {"bad_shards", rows}};
  if (failed)
    return s.fail(failed, {}, found);
  if (bad_blocks)
    return s.fail(make_error(errc::checksum_mismatch,
                             fmt::format("{} blocks in {} shards are not what was written", bad_blocks, rows.size())),
                  {}, found);
  if (s.json)
    s.print(found);
  else
    fmt::print("{} shard{} verified, no bad blocks\n", shards, shards == 1 ? "" : "s");
  return success;
}

void add_shard_verbs(CLI::App& app, session& s) {
  auto* noun = app.add_subcommand("shard", "The pieces of a volume, and which tier holds them");
  noun->require_subcommand(1);
  auto args = std::make_shared<shard_arguments>();

  auto* x = noun->add_subcommand("ls", "List the shards of a volume that were ever written");
  x->add_option("VOLUME", args->volume)->required();
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return list(s, node, args->volume); }); });

  x = noun->add_subcommand("show", "Show one shard");
  x->add_option("VOLUME", args->volume)->required();
  x->add_option("INDEX", args->index)->required();
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return show(s, node, args->volume, args->index); }); });

  x = noun->add_subcommand("move", "Start moving shards to another tier; the VM goes on meanwhile");
  x->add_option("VOLUME", args->volume)->required();
  auto* offset = x->add_option("--offset", args->offset, "The shard at this byte of the volume, such as 1GiB");
  x->add_option("--length", args->length, "All shards from there on for so many bytes")->needs(offset);
  x->add_flag("--all", args->all, "All shards of the volume")->excludes(offset);
  x->add_option("--to", args->tier, "The tier")->required();
  x->callback([args, &s] {
    if (args->offset.empty() && !args->all)
      s.exit = s.fail(usage, "usage", "--offset or --all is needed");
    else
      s.with_node([&](rpc_client& node) { return move(s, node, *args); });
  });

  x = noun->add_subcommand("verify", "Read a shard and compare every block with its checksum");
  x->add_option("VOLUME", args->volume)->required();
  auto* index = x->add_option("INDEX", args->index, "All of them without");
  x->callback([args, index, &s] {
    s.with_node([&](rpc_client& node) {
      return verify(s, node, args->volume, index->count() ? std::optional{args->index} : std::nullopt);
    });
  });

  x = app.get_subcommand("volume")->add_subcommand("verify", "Read a volume and compare every block with its checksum");
  x->add_option("VOLUME", args->volume)->required();
  x->callback(
    [args, &s] { s.with_node([&](rpc_client& node) { return verify(s, node, args->volume, std::nullopt); }); });
}

} // namespace varve::cli
