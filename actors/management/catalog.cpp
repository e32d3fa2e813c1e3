#include "actors/management/catalog.hpp"

#include <algorithm>

#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

namespace {

/// Entries of one page, whatever is asked for: an answer must not grow with the catalog.
constexpr uint64_t page_max = 4096;
/// Of one counter at a time; all of a cluster's hosts may ask at once.
constexpr size_t takers_max = 65'536;
/// A conflict means that another manager did the same in the same moment.
constexpr unsigned attempts_max = 5;

} // namespace

catalog_self::behavior_type catalog(catalog_self::stateful_pointer<catalog_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

catalog_self::behavior_type catalog_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  return {
    [this](atom::commit, catalog_batch& batch) { return commit(batch); },
    [this](atom::list, std::string& prefix, std::string& after, uint64_t limit) { return list(prefix, after, limit); },
    [this](atom::get) { return incarnation(); },
    [this](atom::acquire, const std::string& counter, uint64_t count) { return take(counter, count); },
    [](const returned& x) { x.run(); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts catalog_state::facts() const {
  return {count_fact("revision", revision_), count_fact("pending", pending_), count_fact("commits", commits_),
          count_fact("commits-refused", refused_)};
}

caf::typed_response_promise<uint64_t> catalog_state::commit(catalog_batch& batch) {
  auto promise = self_->make_response_promise<uint64_t>();
  ++pending_;
  context_->store->commit(std::move(batch),
                          returning<catalog_result>(self_, [this, promise](const catalog_result& x) mutable {
                            --pending_;
                            ++(x.status == errc::none ? commits_ : refused_);
                            revision_ = std::max(revision_, x.revision);
                            if (x.status == errc::none)
                              promise.deliver(x.revision);
                            else
                              promise.deliver(make_error(x.status, x.context));
                          }));
  return promise;
}

caf::typed_response_promise<catalog_page> catalog_state::list(std::string& prefix, std::string& after, uint64_t limit) {
  auto promise = self_->make_response_promise<catalog_page>();
  ++pending_;
  context_->store->list(std::move(prefix), std::move(after), std::min(limit, page_max),
                        returning<catalog_result>(self_, [this, promise](const catalog_result& x) mutable {
                          --pending_;
                          revision_ = std::max(revision_, x.revision);
                          if (x.status == errc::none)
                            promise.deliver(catalog_page{x.entries, x.revision});
                          else
                            promise.deliver(make_error(x.status, x.context));
                        }));
  return promise;
}

caf::typed_response_promise<uint64_t> catalog_state::take(const std::string& counter, uint64_t count) {
  auto promise = self_->make_response_promise<uint64_t>();
  const auto waiting = takers_.find(counter);
  const bool asked = waiting != takers_.end();
  if (asked && waiting->second.size() >= takers_max) {
    promise.deliver(make_error(errc::limit_reached, std::to_string(takers_max) + " wait for numbers of " + counter));
    return promise;
  }
  takers_[counter].push_back({count, promise});
  if (!asked)
    take_for_all(counter, 0);
  return promise;
}

void catalog_state::take_for_all(const std::string& counter, unsigned attempts) {
  auto refuse = [this, counter](const caf::error& e) {
    auto all = std::move(takers_.at(counter));
    takers_.erase(counter);
    for (auto& x : all)
      x.promise.deliver(e);
  };
  auto found = [this, counter, attempts, refuse](const catalog_result& x) {
    uint64_t first = 1, revision = 0;
    caf::error problem;
    if (x.status != errc::none)
      problem = make_error(x.status, x.context);
    else if (!x.entries.empty() && x.entries.front().key == counter) {
      revision = x.entries.front().revision;
      problem = decode(x.entries.front().value, first);
      if (!problem && first == 0)
        problem = make_error(errc::bad_format, "catalog entry " + counter);
    }
    if (problem) {
      refuse(problem);
      return;
    }
    const auto& waiting = takers_.at(counter);
    const auto served = waiting.size();
    uint64_t end = first;
    for (const auto& taker : waiting) {
      if (taker.count > UINT64_MAX - end) {
        refuse(make_error(errc::limit_reached, "numbers of " + counter));
        return;
      }
      end += taker.count;
    }
    catalog_batch batch;
    batch.compare.push_back({counter, revision});
    batch.changes.push_back({counter, encode(end), false});
    auto committed = [this, counter, attempts, refuse, first, served](const catalog_result& y) {
      if (y.status == errc::conflict && attempts + 1 < attempts_max) {
        take_for_all(counter, attempts + 1);
        return;
      }
      if (y.status != errc::none) {
        refuse(make_error(y.status, y.context));
        return;
      }
      auto& all = takers_.at(counter);
      auto next = first;
      for (size_t i = 0; i < served; ++i) {
        all[i].promise.deliver(next);
        next += all[i].count;
      }
      all.erase(all.begin(), all.begin() + static_cast<ptrdiff_t>(served));
      if (all.empty())
        takers_.erase(counter);
      else
        take_for_all(counter, 0);
    };
    context_->store->commit(std::move(batch), returning<catalog_result>(self_, committed));
  };
  context_->store->list(counter, "", 1, returning<catalog_result>(self_, found));
}

caf::typed_response_promise<uint64_t> catalog_state::incarnation() {
  auto promise = self_->make_response_promise<uint64_t>();
  raise_incarnation(promise, 0);
  return promise;
}

void catalog_state::raise_incarnation(caf::typed_response_promise<uint64_t> promise, unsigned attempts) {
  auto raise = [this, promise, attempts](const catalog_result& x) mutable {
    uint64_t last = 0, revision = 0;
    caf::error problem;
    if (x.status != errc::none)
      problem = make_error(x.status, x.context);
    else if (!x.entries.empty() && x.entries.front().key == key::incarnation) {
      revision = x.entries.front().revision;
      problem = decode(x.entries.front().value, last);
    }
    // It is the upper half of an epoch.
    if (!problem && last >= UINT32_MAX)
      problem = make_error(errc::limit_reached, "manager incarnations");
    if (problem) {
      promise.deliver(std::move(problem));
      return;
    }
    catalog_batch batch;
    batch.compare.push_back({key::incarnation, revision});
    batch.changes.push_back({key::incarnation, encode(last + 1), false});
    context_->store->commit(std::move(batch), returning<catalog_result>(self_, [this, promise, attempts,
                                                                                last](const catalog_result& x) mutable {
                              if (x.status == errc::none)
                                promise.deliver(last + 1);
                              else if (x.status == errc::conflict && attempts + 1 < attempts_max)
                                raise_incarnation(promise, attempts + 1);
                              else
                                promise.deliver(make_error(x.status, x.context));
                            }));
  };
  context_->store->list(key::incarnation, "", 1, returning<catalog_result>(self_, raise));
}

} // namespace varve
