#include "runtime/recovery/rebuild_rules.hpp"

#include <algorithm>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "messages/errors.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

namespace {

std::string name_of(const found_file& x) {
  return fmt::format("shard {}.{} generation {} on {}", x.header.id.volume.value(), x.header.id.index.value(),
                     x.header.generation.value(), x.tier);
}

bool is_sealed(const shard_header& x) {
  return x.sealed_by.value() != 0;
}

/// The files of one shard, and what becomes of them.
class shard_case {
public:
  shard_case(std::vector<found_file> files, rebuilt_catalog& out) : files_(std::move(files)), out_(out) {
    std::sort(files_.begin(), files_.end(), [](const found_file& a, const found_file& b) {
      return std::tie(a.header.generation, a.header.fence, a.tier) <
             std::tie(b.header.generation, b.header.fence, b.tier);
    });
  }

  void decide() {
    for (const auto& x : files_)
      if (x.header.incomplete)
        note(x, "the unfinished sink of a move; left out");
      else
        whole_.push_back(&x);
    if (whole_.empty()) {
      conflict(fmt::format("{}: only unfinished sinks are left of it; what they were made from is on no tier that was "
                           "looked at, and the shard would read as zeros",
                           name_of(files_.front())));
      return;
    }
    const auto home = choose();
    const auto& header = whole_[home]->header;
    out_.homes.push_back({header.id, whole_[home]->tier, header.generation, header.fence});
    for (size_t i = 0; i < whole_.size(); ++i)
      if (i < home)
        note(*whole_[i],
             fmt::format("replaced by generation {} on {}; left out", header.generation.value(), whole_[home]->tier));
    if (is_sealed(header))
      take_back(*whole_[home]);
  }

private:
  /// Which of `whole_`, from the highest down.
  size_t choose() {
    for (auto i = whole_.size() - 1; i > 0; --i) {
      const auto& x = *whole_[i];
      const auto& before = *whole_[i - 1];
      const auto of = x.header.generation, previous = before.header.generation;
      if (of == previous) {
        if (unswitched(i)) {
          note(x, "the sink of a move that was not switched");
          continue;
        }
        conflict(fmt::format("{} and {}: two files of one generation; the one with the higher fence is taken",
                             name_of(before), name_of(x)));
        return i;
      }
      if (is_sealed(before.header) && before.header.sealed_for <= of)
        return i;
      if (is_sealed(before.header)) {
        conflict(fmt::format("{} is sealed for generation {}, but there is {}", name_of(before),
                             before.header.sealed_for.value(), name_of(x)));
        return i;
      }
      if (of.value() - previous.value() > 1) {
        conflict(
          fmt::format("{} was never sealed, but there is {}: the later one is taken", name_of(before), name_of(x)));
        return i;
      }
      note(x, fmt::format("the sink of a move that was not switched; {} took the writes until the end", before.tier));
    }
    return 0;
  }

  /// Below its generation there is the one before it, not sealed: neither it nor its like ever took over.
  bool unswitched(size_t i) const {
    const auto of = whole_[i]->header.generation;
    while (i > 0 && whole_[i]->header.generation == of)
      --i;
    const auto& before = whole_[i]->header;
    return before.generation.value() + 1 == of.value() && !is_sealed(before);
  }

  void take_back(const found_file& x) {
    const auto& header = x.header;
    note(x, fmt::format("sealed for generation {}, which is nowhere: it is home again", header.sealed_for.value()));
    migration_record record;
    record.id = header.sealed_by;
    record.shard = header.id;
    record.from_tier = record.to_tier = x.tier;
    record.from = header.generation;
    record.to = header.sealed_for;
    record.state = migration_state::aborted;
    record.reason = "catalog rebuilt: the sink is lost";
    out_.to_take_back.push_back(std::move(record));
  }

  void note(const found_file& x, const std::string& what) { out_.notes.push_back(name_of(x) + ": " + what); }
  void conflict(std::string what) { out_.conflicts.push_back(std::move(what)); }

  std::vector<found_file> files_;
  std::vector<const found_file*> whole_;
  rebuilt_catalog& out_;
};

uint64_t number(const catalog_extract& in, const std::string& key, uint64_t otherwise) {
  uint64_t result = otherwise;
  if (const auto* value = in.find(key))
    if (decode(*value, result))
      result = otherwise;
  return result;
}

/// What is made up of a volume that nobody knows but by its shards.
volume_record invent(volume_id id, uint64_t shard_size, const std::set<std::string>& taken) {
  volume_record x;
  x.id = id;
  x.spec.name = fmt::format("volume-{}", id.value());
  while (taken.count(x.spec.name) != 0)
    x.spec.name += "-found";
  x.spec.shard_size = shard_size;
  return x;
}

} // namespace

rebuilt_catalog rebuild(const rebuild_evidence& in) {
  rebuilt_catalog out;
  out.files = in.files.size();
  out.conflicts = in.unreadable;
  out.tiers = in.tiers;

  out.incarnation = number(in.known, key::incarnation, 0);
  out.next_volume = number(in.known, key::next_volume, 1);
  out.next_migration = number(in.known, key::next_migration, 1);
  out.next_holder = number(in.known, key::next_holder, 1);
  const auto given_volumes = out.next_volume;

  std::map<volume_id, volume_record> known;
  std::set<std::string> names;
  for (const auto& entry : in.known.entries) {
    if (entry.key.starts_with(key::volumes)) {
      volume_record record;
      if (auto e = decode(entry.value, record)) {
        out.conflicts.push_back(entry.key + ": " + context_of(e));
        continue;
      }
      known[record.id] = record;
      out.next_volume = std::max(out.next_volume, record.id.value() + 1);
      for (const auto& x : record.attachments)
        out.next_holder = std::max(out.next_holder, x.holder.value() + 1);
      names.insert(record.spec.name);
    } else if (entry.key.starts_with(key::former_tiers)) {
      out.others.push_back(entry);
    } else if (entry.key.starts_with(key::tiers)) {
      tier_record record;
      if (decode(entry.value, record))
        continue;
      const auto at = in.tiers.find(record.name);
      if (at == in.tiers.end())
        out.conflicts.push_back(
          fmt::format("tier \"{}\" ({}) is not here: shards whose home is there are left out, and "
                      "would read as zeros",
                      record.name, record.id));
      else if (!at->second.empty() && at->second != record.id)
        out.conflicts.push_back(
          fmt::format("tier \"{}\" was {}, and its folder is {}", record.name, record.id, at->second));
    }
  }

  std::map<volume_id, std::map<shard_index, std::vector<found_file>>> found;
  for (const auto& x : in.files) {
    const auto& header = x.header;
    // Also of what is left out: it may be found again.
    out.incarnation = std::max(out.incarnation, header.fence.value() >> 32);
    out.next_volume = std::max(out.next_volume, header.id.volume.value() + 1);
    out.next_migration = std::max(out.next_migration, header.sealed_by.value() + 1);
    found[header.id.volume][header.id.index].push_back(x);
  }

  for (auto& [id, shards] : found) {
    auto at = known.find(id);
    if (at == known.end() && id.value() < given_volumes) {
      out.notes.push_back(
        fmt::format("volume {}: removed before; {} of its shards are left alone", id.value(), shards.size()));
      continue;
    }
    if (at == known.end()) {
      at = known.emplace(id, invent(id, shards.begin()->second.front().header.size, names)).first;
      names.insert(at->second.spec.name);
      out.notes.push_back(fmt::format("volume {}: nothing tells its name: \"{}\"", id.value(), at->second.spec.name));
    }
    auto& spec = at->second.spec;
    const auto homes_before = out.homes.size();
    for (auto& [index, files] : shards) {
      std::erase_if(files, [&](const found_file& x) {
        if (x.header.size == spec.shard_size)
          return false;
        out.conflicts.push_back(
          fmt::format("{} has {} bytes, the volume's shards {}: left out", name_of(x), x.header.size, spec.shard_size));
        return true;
      });
      if (!files.empty())
        shard_case{std::move(files), out}.decide();
    }
    if (out.homes.size() == homes_before)
      continue;
    const auto end = (out.homes.back().id.index.value() + 1) * spec.shard_size;
    if (end > spec.size_bytes && end - spec.size_bytes >= spec.shard_size) {
      out.notes.push_back(fmt::format("volume {}: has data up to {} bytes, so it has that size (known: {})", spec.name,
                                      end, spec.size_bytes));
      spec.size_bytes = end;
    }
  }

  for (const auto& [id, record] : known)
    if (record.spec.size_bytes > 0)
      out.volumes.push_back(record);
  return out;
}

} // namespace varve
