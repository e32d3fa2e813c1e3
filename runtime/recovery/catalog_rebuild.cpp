#include "runtime/recovery/catalog_rebuild.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "messages/errors.hpp"
#include "runtime/catalog/backup_file.hpp"
#include "runtime/catalog/records.hpp"
#include "runtime/recovery/tier_claims.hpp"
#include "runtime/storage/random_id.hpp"
#include "runtime/storage/shard_store.hpp"

namespace varve {

namespace {

/// Of one commit; more would only need memory.
constexpr size_t batch_max = 10'000;

caf::error refusal(const catalog_result& x) {
  return x.status == errc::none ? caf::error{} : make_error(x.status, "catalog: " + x.context);
}

/// Collects changes and commits them in portions.
class filler {
public:
  explicit filler(catalog_store& to) : to_(to) {}
  void put(std::string key, std::string value) {
    batch_.changes.push_back({std::move(key), std::move(value), false});
    if (batch_.changes.size() >= batch_max)
      flush();
  }
  caf::error flush() {
    if (!batch_.changes.empty() && !problem_)
      problem_ = refusal(commit_now(to_, std::exchange(batch_, {})));
    return problem_;
  }

private:
  catalog_store& to_;
  catalog_batch batch_;
  caf::error problem_;
};

void raise(filler& to, const catalog_extract& from, const std::string& key, uint64_t least) {
  uint64_t now = 0;
  if (const auto* value = from.find(key))
    (void)decode(*value, now);
  if (least > now)
    to.put(key, encode(least));
}

} // namespace

rebuild_evidence gather(const stopped_node& node, std::vector<std::string>& notes) {
  rebuild_evidence out;
  auto take = [&](catalog_extract&& x, const std::string& from) {
    notes.push_back(fmt::format("{}: names and counters as of revision {}", from, x.revision));
    if (out.known.entries.empty() || x.revision > out.known.revision)
      out.known = std::move(x);
  };
  if (node.has_catalog()) {
    caf::error problem;
    std::string why;
    catalog_extract x;
    auto store = node.open_catalog(problem);
    if (store && extract_from(*store, x, why) == errc::none)
      take(std::move(x), node.catalog_path());
    else
      notes.push_back(fmt::format("{}: cannot be read: {}", node.catalog_path(), store ? why : context_of(problem)));
  }
  std::map<std::string, std::string> claimed; // id: tier
  for (const auto& tier : node.config().tiers) {
    if (tier.path.empty())
      continue;
    std::error_code ignored;
    if (!std::filesystem::is_directory(tier.path, ignored)) {
      notes.push_back(fmt::format("tier \"{}\": {} is not there", tier.name, tier.path));
      continue; // what is known tells whether it was
    }
    tier_identity identity;
    std::string problem;
    const auto status = read_tier_identity(tier.path, identity, problem);
    if (status == errc::none && !claimed.emplace(identity.id, tier.name).second) {
      out.unreadable.push_back(fmt::format("tier \"{}\": {} is the folder of tier \"{}\" ({}); left out", tier.name,
                                           tier.path, claimed[identity.id], identity.id));
      continue;
    }
    std::vector<std::string> problems;
    auto headers = scan_shard_files(tier.path, problems);
    for (auto& x : problems)
      out.unreadable.push_back(fmt::format("tier \"{}\": {}", tier.name, x));
    if (status == errc::bad_format || status == errc::device_failed)
      out.unreadable.push_back(fmt::format("tier \"{}\": {}", tier.name, problem));
    if (status == errc::not_found && headers.empty())
      continue; // new when the node starts, or not mounted: the same
    out.tiers[tier.name] = identity.id;
    if (status == errc::none && (identity.tier != tier.name || identity.node != node.config().name))
      out.unreadable.push_back(fmt::format("tier \"{}\": {} is tier {}, called \"{}\" on node \"{}\"", tier.name,
                                           tier.path, identity.id, identity.tier, identity.node));
    notes.push_back(fmt::format("tier \"{}\": {} shard files in {}", tier.name, headers.size(), tier.path));
    for (auto& header : headers)
      out.files.push_back({tier.name, header});
    catalog_extract x;
    const auto extracted = read_extract(tier.path, x, problem);
    if (extracted == errc::none)
      take(std::move(x), tier.path + '/' + std::string{extract_file});
    else if (extracted != errc::not_found)
      notes.push_back(problem);
  }
  return out;
}

caf::error write_rebuilt(const stopped_node& node, const rebuild_evidence& evidence, const rebuilt_catalog& made,
                         std::string& aside) {
  caf::error problem;
  auto ids = made.tiers;
  // Identities first: a catalog that knows them must not be there before them.
  for (const auto& tier : node.config().tiers)
    if (auto at = ids.find(tier.name); at != ids.end() && at->second.empty()) {
      std::string why;
      at->second = make_random_id();
      if (at->second.empty() || !write_tier_identity(tier.path, {at->second, tier.name, node.config().name}, why))
        return make_error(errc::device_failed, why);
    }
  {
    auto store = node.make_catalog(problem);
    if (!store)
      return problem;
    filler to{*store};
    to.put(key::incarnation, encode(made.incarnation));
    to.put(key::next_volume, encode(made.next_volume));
    to.put(key::next_migration, encode(made.next_migration));
    to.put(key::next_holder, encode(made.next_holder));
    for (const auto& [name, id] : ids)
      to.put(key::tier(name), encode(tier_record{id, name}));
    for (const auto& x : made.others)
      to.put(x.key, x.value);
    for (const auto& x : made.volumes) {
      to.put(key::volume(x.id), encode(x));
      if (!x.removing)
        to.put(key::volume_name(x.spec.name), encode(x.id.value()));
    }
    for (const auto& x : made.homes)
      to.put(key::shard(x.id), encode(x));
    for (const auto& x : made.to_take_back)
      to.put(key::migration(x.id), encode(x));
    if ((problem = to.flush()))
      return problem;
  }
  // Ahead of every extract that lies about.
  if ((problem = raise_revision(node.new_catalog_path(), evidence.known.revision + 1)))
    return problem;
  return node.replace(aside);
}

caf::error restore(const stopped_node& node, const std::string& file, bool force, restored& out) {
  out = {};
  if (auto problem = check_backup(file, out.backup))
    return problem;
  std::vector<std::string> notes;
  const auto evidence = gather(node, notes);
  if (node.has_catalog()) {
    caf::error problem;
    auto store = node.open_catalog(problem);
    const auto now =
      store ? list_now(*store, key::schema) : catalog_result{errc::bad_format, 0, {}, context_of(problem)};
    out.replaced_revision = now.revision;
    if (now.status != errc::none && !force)
      return make_error(errc::conflict,
                        fmt::format("the catalog in place cannot be read ({}), so it may be newer; with "
                                    "--force it is replaced all the same, and kept aside",
                                    now.context));
    if (now.revision > out.backup.revision && !force)
      return make_error(errc::conflict,
                        fmt::format("the catalog in place is newer: revision {}, the backup has {}; with --force it is "
                                    "replaced all the same, and kept aside",
                                    now.revision, out.backup.revision));
  }
  std::string path;
  if (auto problem = node.prepare_new(path))
    return problem;
  const auto revision = std::max({out.replaced_revision, evidence.known.revision, out.backup.revision}) + 1;
  if (auto problem = unpack_backup(file, path, revision))
    return problem;
  {
    caf::error problem;
    auto store = node.open_new(problem);
    if (!store)
      return problem;
    catalog_extract restored_extract;
    std::string why;
    if (auto status = extract_from(*store, restored_extract, why); status != errc::none)
      return make_error(status, why);
    // What was given since must not be given again.
    const auto seen = rebuild(evidence);
    filler to{*store};
    raise(to, restored_extract, key::incarnation, seen.incarnation);
    raise(to, restored_extract, key::next_volume, seen.next_volume);
    raise(to, restored_extract, key::next_migration, seen.next_migration);
    raise(to, restored_extract, key::next_holder, seen.next_holder);
    if ((problem = to.flush()))
      return problem;
    std::set<std::pair<std::string, std::pair<shard_id, generation>>> there;
    for (const auto& x : evidence.files)
      there.insert({x.tier, {x.header.id, x.header.generation}});
    const auto shards = list_now(*store, key::all_shards);
    if ((problem = refusal(shards)))
      return problem;
    for (const auto& entry : shards.entries) {
      shard_home home;
      if (decode(entry.key, entry.value, home))
        continue;
      ++out.homes;
      out.homes_missing += there.count({home.tier, {home.id, home.of}}) == 0;
    }
  }
  return node.replace(out.aside);
}

} // namespace varve
