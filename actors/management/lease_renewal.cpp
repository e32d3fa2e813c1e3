#include <algorithm>

#include "actors/management/lease_manager.hpp"
#include "messages/errors.hpp"

/// How the lease manager renews: storage first, then the answer. Each tier is asked for all holders that wait for it;
/// one that does not answer keeps its own leases from being renewed, and nobody else's.
namespace varve {

caf::typed_response_promise<lease_renewal> lease_manager_state::renew(holder_id holder) {
  auto promise = self_->make_response_promise<lease_renewal>();
  if (!ready()) {
    promise.deliver(make_error(errc::unavailable, "the lease manager is starting"));
    return promise;
  }
  if (!table_.holds(holder)) {
    promise.deliver(make_error(errc::not_found, "holder " + std::to_string(holder.value()) + " has no leases"));
    return promise;
  }
  const auto id = ++next_;
  auto& x = renewals_[id];
  x.holder = holder;
  x.promise = promise;
  std::vector<std::string> tiers;
  for (auto& part : table_.renewable_of(holder)) {
    x.open.insert(part.tier);
    tiers.push_back(std::move(part.tier));
  }
  if (tiers.empty()) {
    finish_renewal(id);
    return promise;
  }
  // Well before the holder asks again: what was renewed by then is of use to it.
  self_->delayed_send(self_, context_->options.request_timeout / 2, atom::renew_v, id);
  for (const auto& tier : tiers) {
    auto& queue = renewal_queues_[tier];
    queue.waiting.push_back(id);
    if (!queue.asked)
      ask_renewals(tier);
  }
  return promise;
}

void lease_manager_state::ask_renewals(const std::string& name) {
  auto& queue = renewal_queues_[name];
  tier_renewal question;
  question.manager = incarnation_;
  std::vector<uint64_t> ids;
  std::set<holder_id> asked;
  for (auto id : std::exchange(queue.waiting, {})) {
    auto at = renewals_.find(id);
    if (at == renewals_.end())
      continue; // its time is over
    ids.push_back(id);
    const auto holder = at->second.holder;
    if (!asked.insert(holder).second)
      continue;
    if (const auto part = table_.renewable_on(holder, name); part.leases > 0)
      question.holders.push_back({holder, part.wanted});
  }
  if (ids.empty())
    return;
  auto tier = context_->directory->get<tier_actor>(path::tier(name));
  if (!tier) {
    tier_failed(name, ids, make_error(errc::unavailable, path::tier(name) + " is not there"));
    return;
  }
  queue.asked = true;
  self_->request(tier, context_->options.request_timeout / 2, atom::renew_v, std::move(question))
    .then(
      [this, name, ids](const std::vector<renewal_terms>& terms) {
        renewal_queues_[name].asked = false;
        tier_renewed(name, ids, terms);
        if (!renewal_queues_[name].waiting.empty())
          ask_renewals(name);
      },
      [this, name, ids](const caf::error& e) {
        renewal_queues_[name].asked = false;
        if (code_of(e) == errc::deposed) {
          self_->quit(e);
          return;
        }
        tier_failed(name, ids, e);
        if (!renewal_queues_[name].waiting.empty())
          ask_renewals(name);
      });
}

void lease_manager_state::tier_renewed(const std::string& name, const std::vector<uint64_t>& ids,
                                       const std::vector<renewal_terms>& terms) {
  const auto& options = context_->options.leases;
  std::map<holder_id, const renewal_terms*> by_holder;
  for (const auto& t : terms)
    by_holder[t.holder] = &t;
  for (auto id : ids) {
    auto at = renewals_.find(id);
    if (at == renewals_.end() || at->second.open.count(name) == 0)
      continue;
    auto& x = at->second;
    const auto found = by_holder.find(x.holder);
    const auto* said = found == by_holder.end() ? nullptr : found->second;
    const auto count = table_.renewable_on(x.holder, name).leases;
    if (!said || said->leases < count) {
      // It was started again, or a shard has just come there: what it does not know it has not renewed.
      if (count > 0)
        record_again(x.holder, name);
      settle_renewal(id, name, count > 0 ? "it does not know all of them yet" : "");
      continue;
    }
    lease_table::terms accepted;
    accepted.term = said->term;
    accepted.limit = said->limit;
    const auto renewed =
      table_.renew(x.holder, name, context_->now(), accepted, options.term_sensitive, options.drift_bound);
    x.renewed += renewed.leases;
    x.term = std::min(x.term, renewed.term);
    // Thousands at once say the same.
    constexpr size_t told_max = 16;
    for (size_t i = 0; i < std::min(renewed.changed.size(), told_max); ++i)
      note(lease_change::changed, table_.grant(renewed.changed[i]));
    settle_renewal(id, name, {});
  }
}

void lease_manager_state::tier_failed(const std::string& name, const std::vector<uint64_t>& ids, const caf::error& e) {
  for (auto id : ids)
    settle_renewal(id, name, std::string{to_string(code_of(e))} + ": " + context_of(e));
}

void lease_manager_state::settle_renewal(uint64_t id, const std::string& tier, const std::string& why) {
  auto at = renewals_.find(id);
  if (at == renewals_.end() || at->second.open.erase(tier) == 0)
    return;
  if (!why.empty())
    at->second.gaps.push_back({tier, why});
  if (at->second.open.empty())
    finish_renewal(id);
}

void lease_manager_state::renewal_time_over(uint64_t id) {
  auto at = renewals_.find(id);
  if (at == renewals_.end())
    return;
  for (const auto& tier : at->second.open)
    at->second.gaps.push_back({tier, "it does not answer"});
  at->second.open.clear();
  finish_renewal(id);
}

void lease_manager_state::finish_renewal(uint64_t id) {
  auto x = std::move(renewals_.at(id));
  renewals_.erase(id);
  if (!leads()) {
    x.promise.deliver(make_error(errc::unavailable, "this node does not lead any more"));
    return;
  }
  const auto& options = context_->options.leases;
  const auto runs = table_.renew(x.holder, {}, context_->now(), {}, options.term_sensitive, options.drift_bound);
  lease_renewal result;
  result.renewed = x.renewed + runs.leases;
  if (result.renewed == 0 && x.gaps.empty() && inventory_open_.empty()) {
    x.promise.deliver(make_error(errc::not_found, "holder " + std::to_string(x.holder.value()) + " has no leases"));
    return;
  }
  result.term = std::min({x.term, runs.term, options.term});
  for (const auto& gap : x.gaps)
    context_->publish("LEASES_NOT_RENEWED",
                      "holder " + std::to_string(x.holder.value()) + ", tier " + gap.tier + ": " + gap.why);
  result.gaps = std::move(x.gaps);
  // What an earlier manager granted there nobody has renewed, and this one counts on its end.
  for (const auto& tier : inventory_open_)
    result.gaps.push_back({tier, "what is leased there is not known yet"});
  // Runs are of no tier. With a gap the holder extends none of them.
  if (runs.held_back > 0)
    result.gaps.push_back({"", "runs are asked back"});
  result.revision = revision_of(x.holder);
  x.promise.deliver(std::move(result));
}

void lease_manager_state::record_again(holder_id holder, const std::string& tier_name) {
  auto tier = context_->directory->get<tier_actor>(path::tier(tier_name));
  if (!tier)
    return;
  // With the next keep-alive again; what storage refuses for good, it refuses to the holder's I/O too.
  for (auto id : table_.recorded_on(holder, tier_name))
    self_->request(tier, context_->options.request_timeout, atom::fence_v, table_.grant(id))
      .then([](const lease_grant&) {}, [](const caf::error&) {});
}

} // namespace varve
