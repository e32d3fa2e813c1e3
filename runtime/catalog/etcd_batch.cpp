#include "runtime/catalog/etcd_batch.hpp"

#include <algorithm>
#include <set>

namespace varve {

namespace {

etcd_operation look_at(std::string key, bool keys_only) {
  etcd_operation x;
  x.key = std::move(key);
  x.keys_only = keys_only;
  return x;
}

etcd_operation put(std::string key, std::string value, int64_t lease = 0) {
  etcd_operation x;
  x.of = etcd_operation::verb::put;
  x.key = std::move(key);
  x.value = std::move(value);
  x.lease = lease;
  return x;
}

const etcd_entry* first(const etcd_answer& x, size_t page) {
  return page < x.pages.size() && !x.pages[page].entries.empty() ? &x.pages[page].entries.front() : nullptr;
}

uint64_t modified(const etcd_entry* x) {
  return x ? x->mod_revision : 0;
}

} // namespace

etcd_transaction etcd_batch::make(const etcd_mark& mark) const {
  etcd_transaction x;
  x.compare.push_back({leader.key, etcd_comparison::subject::created, leader.created});
  x.compare.push_back({mark.key, etcd_comparison::subject::modified, mark.revision});
  x.otherwise.push_back(look_at(leader.key, true));
  x.otherwise.push_back(look_at(mark.key, true));
  for (const auto& c : batch.compare) {
    x.compare.push_back({prefix + c.key, etcd_comparison::subject::modified, c.revision});
    x.otherwise.push_back(look_at(prefix + c.key, true));
  }
  for (const auto& c : batch.changes) {
    auto& o = x.then.emplace_back();
    o.of = c.erase ? etcd_operation::verb::erase : etcd_operation::verb::put;
    o.key = prefix + c.key;
    if (!c.erase)
      o.value = c.value;
  }
  x.then.push_back(put(mark.key, id, leader.lease));
  return x;
}

etcd_transaction etcd_batch::take_place(const etcd_mark& mark) const {
  etcd_transaction x;
  x.compare.push_back({mark.key, etcd_comparison::subject::modified, mark.revision});
  x.then.push_back(put(mark.key, voided(), leader.lease));
  x.otherwise.push_back(look_at(mark.key, false));
  return x;
}

etcd_batch::reading etcd_batch::read_made(const etcd_answer& x, const etcd_mark& mark) const {
  if (x.held)
    return {outcome::made, x.revision, {}};
  const auto* found = first(x, 0);
  if (!found || found->create_revision != leader.created)
    return {outcome::deposed, 0, {}};
  for (size_t i = 0; i < batch.compare.size(); ++i)
    if (modified(first(x, 2 + i)) != batch.compare[i].revision)
      return {outcome::refused, modified(first(x, 1)), batch.compare[i].key};
  if (modified(first(x, 1)) != mark.revision)
    return {outcome::again, modified(first(x, 1)), {}};
  return {outcome::unknown, 0, {}}; // comparisons and reads of one revision disagree
}

etcd_batch::reading etcd_batch::read_taken(const etcd_answer& x) const {
  if (x.held)
    return {outcome::not_made, x.revision, {}};
  // Whoever wrote there since compared the revision that the batch compares: it, or we who took its place.
  const auto* found = first(x, 0);
  if (found && found->value == id)
    return {outcome::made, found->mod_revision, {}};
  if (found && found->value == voided())
    return {outcome::not_made, found->mod_revision, {}};
  return {outcome::unknown, 0, {}}; // gone with the lease
}

void keep_last_changes(catalog_batch& x) {
  std::set<std::string> seen;
  std::vector<catalog_change> kept;
  for (auto at = x.changes.rbegin(); at != x.changes.rend(); ++at)
    if (seen.insert(at->key).second)
      kept.push_back(std::move(*at));
  std::reverse(kept.begin(), kept.end());
  x.changes = std::move(kept);
}

std::string etcd_prefix_end(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff)
    prefix.pop_back();
  if (!prefix.empty())
    ++prefix.back();
  return prefix;
}

} // namespace varve
