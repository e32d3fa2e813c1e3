#include "runtime/recovery/tier_claims.hpp"

#include <filesystem>
#include <future>
#include <limits>

#include <fmt/format.h>
#include <sys/stat.h>

#include "runtime/catalog/records.hpp"
#include "runtime/storage/file_store.hpp"
#include "runtime/storage/random_id.hpp"

namespace varve {

namespace {

tier_decision refuse(std::string why) {
  return {tier_verdict::refuse, std::move(why)};
}

bool any_shard_file(const std::string& folder) {
  std::error_code error;
  for (std::filesystem::directory_iterator i{folder, error}, end; !error && i != end; i.increment(error))
    if (parse_shard_file_name(i->path().filename().string()))
      return true;
  return false;
}

tier_decision judge_named(const tier_evidence& x) {
  const auto& id = x.found.id;
  if (x.given_up)
    return refuse(
      fmt::format("{} is tier {}, which was given up: its shards are of the past; use an empty folder", x.folder, id));
  if (!x.owner.empty())
    return refuse(
      fmt::format("{} is the folder of tier \"{}\" ({}): a folder serves one tier; correct the paths in the "
                  "configuration",
                  x.folder, x.owner, id));
  if (!x.known.empty()) {
    if (x.known == id)
      return {tier_verdict::serve, {}};
    return refuse(fmt::format("{} holds tier {} (called \"{}\" on node \"{}\"), but the catalog expects tier {}: mount "
                              "the right disk there, or take this one with: varve tier accept {}",
                              x.folder, id, x.found.tier, x.found.node, x.known, x.tier));
  }
  const bool ours = x.found.tier == x.tier && x.found.node == x.node;
  if (ours && (x.homes > 0 || !x.has_shards))
    return {tier_verdict::serve_and_record, {}};
  if (x.has_shards)
    return refuse(
      fmt::format("{} holds shards of tier {} (called \"{}\" on node \"{}\"), which the catalog does not "
                  "know: was the catalog lost? varve catalog rebuild; or take it with: varve tier accept {}",
                  x.folder, id, x.found.tier, x.found.node, x.tier));
  return refuse(
    fmt::format("{} holds tier {} (called \"{}\" on node \"{}\"): give tier \"{}\" an empty folder, or take "
                "this one with: varve tier accept {}",
                x.folder, id, x.found.tier, x.found.node, x.tier, x.tier));
}

} // namespace

tier_decision judge(const tier_evidence& x) {
  if (x.identity == errc::none)
    return judge_named(x);
  if (x.identity != errc::not_found)
    return refuse(fmt::format("its identity cannot be read: {}; if the disk is the right one: varve tier accept {}",
                              x.problem, x.tier));
  const auto expected = x.known.empty() ? std::string{"tier \"" + x.tier + "\""} : "tier " + x.known;
  if (!x.homes_known && !x.known.empty() && !x.has_shards)
    return refuse(
      fmt::format("{} does not say what it is, and {} was there before: is its disk mounted? If this folder is to take "
                  "its place: varve tier accept {}",
                  x.folder, expected, x.tier));
  if (x.homes > 0 && !x.has_shards)
    return refuse(
      fmt::format("{} is empty, but the catalog has {} shards on {}: is its disk mounted? If it is lost for "
                  "good: varve tier forget {}",
                  x.folder, x.homes, expected, x.tier));
  if (x.has_shards && x.known.empty() && x.homes > 0)
    return {tier_verdict::serve_as_new, {}}; // of a time before there were identities
  if (x.has_shards && x.known.empty())
    return refuse(fmt::format("{} holds shards that the catalog does not know: was the catalog lost? varve catalog "
                              "rebuild; or take it with: varve tier accept {}",
                              x.folder, x.tier));
  if (x.has_shards)
    return refuse(fmt::format("{} has shards, but no identity, where the catalog expects {}: if the disk is the right "
                              "one: varve tier accept {}",
                              x.folder, expected, x.tier));
  return {tier_verdict::serve_as_new, {}};
}

catalog_result list_now(catalog_store& store, const std::string& prefix) {
  std::promise<catalog_result> promise;
  auto result = promise.get_future();
  store.list(prefix, {}, std::numeric_limits<size_t>::max(),
             [&promise](catalog_result x) { promise.set_value(std::move(x)); });
  return result.get();
}

catalog_result commit_now(catalog_store& store, catalog_batch batch) {
  std::promise<catalog_result> promise;
  auto result = promise.get_future();
  store.commit(std::move(batch), [&promise](catalog_result x) { promise.set_value(std::move(x)); });
  return result.get();
}

bool gather_evidence(const tier_config& tier, const std::string& node, catalog_store& catalog, tier_evidence& out,
                     std::string& problem) {
  out = {};
  out.tier = tier.name;
  out.node = node;
  out.folder = tier.path;
  out.identity = read_tier_identity(tier.path, out.found, out.problem);
  out.has_shards = any_shard_file(tier.path);
  auto failed = [&problem](const catalog_result& x) {
    problem = fmt::format("catalog: {}: {}", to_string(x.status), x.context);
    return false;
  };
  const auto tiers = list_now(catalog, key::tiers);
  if (tiers.status != errc::none)
    return failed(tiers);
  for (const auto& entry : tiers.entries) {
    tier_record record;
    if (auto e = decode(entry.value, record)) {
      problem = entry.key + ": " + context_of(e);
      return false;
    }
    if (record.name == tier.name)
      out.known = record.id;
    else if (out.identity == errc::none && record.id == out.found.id)
      out.owner = record.name;
  }
  if (out.identity == errc::none) {
    const auto former = list_now(catalog, key::former_tier(out.found.id));
    if (former.status != errc::none)
      return failed(former);
    out.given_up = !former.entries.empty();
    if (out.known == out.found.id)
      return true; // nobody need count
  }
  const auto shards = list_now(catalog, key::all_shards);
  if (shards.status != errc::none)
    return failed(shards);
  for (const auto& entry : shards.entries) {
    shard_home home;
    if (!decode(entry.key, entry.value, home) && home.tier == tier.name)
      ++out.homes;
  }
  return true;
}

bool claim_tiers(const std::vector<tier_config>& tiers, const std::string& node, catalog_store& catalog,
                 std::vector<tier_claim>& claims, std::string& problem, bool homes_known) {
  for (const auto& tier : tiers) {
    if (tier.path.empty())
      continue;
    tier_evidence evidence;
    if (!gather_evidence(tier, node, catalog, evidence, problem))
      return false;
    evidence.homes_known = homes_known;
    const auto decision = judge(evidence);
    tier_claim claim;
    claim.tier = tier.name;
    claim.refused = decision.why;
    auto id = evidence.found.id;
    if (decision.verdict == tier_verdict::serve_as_new) {
      std::error_code error;
      if (std::filesystem::create_directories(tier.path, error))
        ::chmod(tier.path.c_str(), 0700);
      id = make_random_id();
      claim.is_new = true;
      if (error)
        claim.refused = tier.path + ": " + error.message();
      else if (id.empty())
        claim.refused = "the system gives no random numbers";
      else
        write_tier_identity(tier.path, {id, tier.name, node}, claim.refused);
    }
    if (claim.refused.empty() && decision.verdict != tier_verdict::serve) {
      // Behind the file: a crash between the two leaves a folder of ours without shards, which is taken as it is.
      catalog_batch batch;
      batch.changes.push_back({key::tier(tier.name), encode(tier_record{id, tier.name}), false});
      if (auto x = commit_now(catalog, std::move(batch)); x.status != errc::none) {
        problem = fmt::format("catalog: {}: {}", to_string(x.status), x.context);
        return false;
      }
    }
    if (claim.refused.empty())
      claim.id = id;
    claims.push_back(std::move(claim));
  }
  return true;
}

} // namespace varve
