#include "runtime/recovery/tier_keeping.hpp"

#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "messages/errors.hpp"
#include "runtime/catalog/records.hpp"
#include "runtime/recovery/tier_claims.hpp"
#include "runtime/storage/random_id.hpp"
#include "runtime/storage/shard_store.hpp"

namespace varve {

namespace {

caf::error refusal(const catalog_result& x) {
  return x.status == errc::none ? caf::error{} : make_error(x.status, "catalog: " + x.context);
}

/// The shards whose home is on a tier, as the catalog says.
caf::error homes_on(catalog_store& catalog, const std::string& tier, std::vector<catalog_entry>& entries,
                    std::vector<shard_home>& homes) {
  auto shards = list_now(catalog, key::all_shards);
  if (auto problem = refusal(shards))
    return problem;
  for (auto& entry : shards.entries) {
    shard_home home;
    if (auto problem = decode(entry.key, entry.value, home))
      return problem;
    if (home.tier != tier)
      continue;
    entries.push_back(std::move(entry));
    homes.push_back(std::move(home));
  }
  return {};
}

caf::error weigh(catalog_store& catalog, const std::string& tier, tier_loss& out, std::vector<catalog_entry>& entries) {
  out = {};
  out.tier = tier;
  const auto known = list_now(catalog, key::tier(tier));
  if (auto problem = refusal(known))
    return problem;
  for (const auto& entry : known.entries) {
    tier_record record;
    if (entry.key != key::tier(tier))
      continue; // a longer name
    if (auto problem = decode(entry.value, record))
      return problem;
    out.id = record.id;
  }
  std::vector<shard_home> homes;
  if (auto problem = homes_on(catalog, tier, entries, homes))
    return problem;
  if (out.id.empty() && homes.empty())
    return make_error(errc::not_found, "the catalog has no tier \"" + tier + "\" and no shard on it");
  std::map<volume_id, std::string> names;
  const auto volumes = list_now(catalog, key::volumes);
  if (auto problem = refusal(volumes))
    return problem;
  for (const auto& entry : volumes.entries) {
    volume_record record;
    if (!decode(entry.value, record))
      names[record.id] = record.spec.name;
  }
  out.shards = homes.size();
  for (const auto& x : homes) {
    auto& name = names[x.id.volume];
    ++out.volumes[name.empty() ? fmt::format("volume {}", x.id.volume.value()) : name];
  }
  return {};
}

} // namespace

caf::error weigh_tier(catalog_store& catalog, const std::string& tier, tier_loss& out) {
  std::vector<catalog_entry> entries;
  return weigh(catalog, tier, out, entries);
}

caf::error forget_tier(catalog_store& catalog, const std::string& tier, tier_loss& out) {
  std::vector<catalog_entry> entries;
  if (auto problem = weigh(catalog, tier, out, entries))
    return problem;
  catalog_batch batch;
  for (auto& x : entries) {
    batch.compare.push_back({x.key, x.revision});
    batch.changes.push_back({std::move(x.key), {}, true});
  }
  if (!out.id.empty()) {
    batch.changes.push_back({key::tier(tier), {}, true});
    batch.changes.push_back({key::former_tier(out.id), encode(tier_record{out.id, tier}), false});
  }
  return refusal(commit_now(catalog, std::move(batch)));
}

caf::error accept_tier(const stopped_node& node, catalog_store& catalog, const std::string& tier, bool confirmed,
                       tier_acceptance& out) {
  out = {};
  const tier_config* config = nullptr;
  for (const auto& x : node.config().tiers)
    if (x.name == tier && !x.path.empty())
      config = &x;
  if (!config)
    return make_error(errc::not_found, "the configuration has no file tier \"" + tier + "\"");
  std::error_code ignored;
  if (!std::filesystem::is_directory(config->path, ignored))
    return make_error(errc::not_found, config->path + ": no such folder");
  tier_evidence evidence;
  std::string problem;
  if (!gather_evidence(*config, node.config().name, catalog, evidence, problem))
    return make_error(errc::device_failed, problem);
  const auto named = evidence.identity == errc::none;
  if (named && (evidence.given_up || !evidence.owner.empty()))
    return make_error(errc::invalid_argument, judge(evidence).why);
  if (judge(evidence).verdict != tier_verdict::refuse)
    return make_error(errc::already_exists, fmt::format("{} is taken for tier \"{}\" as it is", config->path, tier));

  std::vector<catalog_entry> entries;
  std::vector<shard_home> homes;
  if (auto e = homes_on(catalog, tier, entries, homes))
    return e;
  std::vector<std::string> problems;
  std::set<std::pair<shard_id, generation>> there;
  for (const auto& x : scan_shard_files(config->path, problems))
    there.insert({x.id, x.generation});
  out.before = evidence.known;
  out.homes = homes.size();
  for (const auto& x : homes)
    out.missing += there.count({x.id, x.of}) == 0;
  if (named && (evidence.found.tier != tier || evidence.found.node != node.config().name))
    out.was_called = fmt::format("\"{}\" on node \"{}\"", evidence.found.tier, evidence.found.node);
  out.is_new = !named;
  out.id = evidence.found.id;
  if (!confirmed)
    return make_error(errc::needs_confirmation, {});
  if (!named) {
    out.id = make_random_id();
    if (out.id.empty() || !write_tier_identity(config->path, {out.id, tier, node.config().name}, problem))
      return make_error(errc::device_failed, problem);
  }
  return refusal(commit_now(catalog, {{}, {{key::tier(tier), encode(tier_record{out.id, tier}), false}}}));
}

} // namespace varve
