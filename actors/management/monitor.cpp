#include "actors/management/monitor.hpp"

#include <algorithm>
#include <chrono>

#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

/// Whoever does not answer by then is a finding itself: `status` must not hang with what it is to report.
constexpr caf::timespan patience = 1s;
constexpr uint64_t recent_seconds = 3600;

bool running(const migration_record& x) {
  return x.state != migration_state::committed && x.state != migration_state::aborted;
}

void assess_tier(const tier_info& x, std::vector<health_finding>& out) {
  if (x.state == "failed")
    out.push_back({"TIER_FAILED", "error", "tier " + x.name + ": " + x.problem});
  if (x.state == "refused")
    out.push_back({"TIER_REFUSED", "error", "tier " + x.name + ": " + x.problem});
  if (x.checksum_mismatches > 0)
    out.push_back({"CHECKSUM_MISMATCH", "error",
                   "tier " + x.name + ": " + std::to_string(x.checksum_mismatches) +
                     " blocks were not what was written; reads of them fail"});
  if (x.capacity_bytes == 0)
    return;
  const auto percent =
    static_cast<unsigned>(static_cast<double>(x.used_bytes) * 100.0 / static_cast<double>(x.capacity_bytes));
  if (x.used_bytes >= x.capacity_bytes)
    out.push_back(
      {"TIER_FULL", "error", "tier " + x.name + " is full: new shards go elsewhere, or writes fail with ENOSPC"});
  else if (percent >= 90)
    out.push_back({"TIER_NEARLY_FULL", "warning", "tier " + x.name + " is " + std::to_string(percent) + " % full"});
}

void assess_members(const node_facts& facts, std::vector<health_finding>& out) {
  for (const auto& x : facts.members) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(x.silent).count();
    if (x.state == member_state::down)
      out.push_back(
        {"NODE_DOWN", "error", "node " + x.node + " has not been heard for " + std::to_string(seconds) + " s"});
    else if (x.state == member_state::suspect)
      out.push_back(
        {"NODE_SUSPECT", "warning", "node " + x.node + " has not been heard for " + std::to_string(seconds) + " s"});
    else if (x.state == member_state::unknown && facts.listening >= facts.down_after)
      out.push_back({"NODE_DOWN", "error", "node " + x.node + " has not been heard yet"});
  }
}

} // namespace

node_status assess(const node_facts& facts) {
  node_status result;
  auto& findings = result.findings;
  if (!facts.incarnation)
    findings.push_back({"CATALOG_UNAVAILABLE", "error", "the catalog does not answer"});
  if (!facts.volumes)
    findings.push_back({"VOLUMES_UNAVAILABLE", "error", "the volume directory does not answer"});
  assess_members(facts, findings);
  for (const auto& name : facts.silent_tiers) {
    const auto node = facts.nodes_of_tiers.find(name);
    if (node == facts.nodes_of_tiers.end())
      findings.push_back({"TIER_MISSING", "error", "tier " + name + " does not answer"});
    else
      findings.push_back({"TIER_UNREACHABLE", "error",
                          "tier " + name + " of node " + node->second + " does not answer: I/O on its shards waits"});
  }
  for (const auto& x : facts.tiers) {
    assess_tier(x, findings);
    result.shards += x.shards;
  }
  for (const auto& x : facts.actors)
    if (!x.alive && x.last_error != actor_tree::parent_ended)
      findings.push_back({"ACTOR_DOWN", "warning", x.path + ": " + x.last_error});
  if (facts.volumes) {
    result.volumes = facts.volumes->size();
    result.attached_volumes = static_cast<uint64_t>(
      std::count_if(facts.volumes->begin(), facts.volumes->end(), [](auto& x) { return x.attached(); }));
  }
  if (facts.migrations)
    for (const auto& x : *facts.migrations) {
      result.migrations_running += running(x.record) ? 1 : 0;
      if (x.record.state == migration_state::aborted && !x.record.reason.starts_with(to_string(errc::cancelled)) &&
          x.record.ended_at + recent_seconds > facts.now_seconds)
        findings.push_back(
          {"MIGRATION_FAILED", "warning", "migration " + std::to_string(x.record.id.value()) + ": " + x.record.reason});
    }
  result.leases = facts.leases;
  result.manager_incarnation = facts.incarnation.value_or(0);
  result.health = "ok";
  for (const auto& x : findings)
    if (x.severity == "error")
      result.health = "error";
    else if (result.health == "ok")
      result.health = "warning";
  // No manager has ever taken over: what does not answer has not begun to.
  if (result.manager_incarnation == 0 && facts.incarnation)
    result.health = "starting";
  return result;
}

monitor_self::behavior_type monitor(monitor_self::stateful_pointer<monitor_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

monitor_self::behavior_type monitor_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  listening_since_ = context_->now();
  return {
    [this](atom::get) { return status(); },
    [this](atom::list, uint64_t count) { return events(count); },
    [this](atom::publish, const event& x) { publish(x); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts monitor_state::facts() const {
  return {count_fact("events", events_.size()), count_fact("events-max", context_->options.events_max),
          text_fact("latest", events_.empty() ? std::string{} : events_.back().code)};
}

caf::typed_response_promise<node_status> monitor_state::status() {
  struct gathering {
    node_facts facts;
    size_t open = 1;
  };
  auto promise = self_->make_response_promise<node_status>();
  auto all = std::make_shared<gathering>();
  all->facts.actors = context_->tree->list(context_->now());
  all->facts.leases = context_->directory->count(path::leases + "/");
  all->facts.now_seconds = context_->wall_seconds();
  auto closed = [this, all, promise]() mutable {
    if (--all->open > 0)
      return;
    std::sort(all->facts.silent_tiers.begin(), all->facts.silent_tiers.end());
    auto result = assess(all->facts);
    result.node = context_->options.name;
    result.version = context_->options.version;
    result.ring = context_->options.ring;
    result.up_time = caf::timespan{(context_->now() - context_->started_at).count()};
    promise.deliver(std::move(result));
  };
  auto silent = [closed](const caf::error&) mutable { closed(); };
  all->facts.listening = caf::timespan{(context_->now() - listening_since_).count()};
  all->facts.down_after = context_->options.cluster.down_after;
  if (auto members = context_->directory->get<membership_actor>(path::membership)) {
    ++all->open;
    self_->request(members, patience, atom::list_v)
      .then(
        [all, closed](const std::vector<member_info>& x) mutable {
          all->facts.members = x;
          closed();
        },
        silent);
  }
  for (const auto& x : context_->options.tiers) {
    const auto name = x.store.name;
    if (!x.node.empty())
      all->facts.nodes_of_tiers[name] = x.node;
    auto tier = context_->directory->get<tier_actor>(path::tier(name));
    if (!tier) {
      all->facts.silent_tiers.push_back(name);
      continue;
    }
    ++all->open;
    self_->request(tier, patience, atom::get_v)
      .then(
        [all, closed](const tier_info& x) mutable {
          all->facts.tiers.push_back(x);
          closed();
        },
        [all, closed, name](const caf::error&) mutable {
          all->facts.silent_tiers.push_back(name);
          closed();
        });
  }
  if (auto volumes = context_->directory->get<volume_directory_actor>(path::volumes)) {
    ++all->open;
    self_->request(volumes, patience, atom::list_v)
      .then(
        [all, closed](const std::vector<volume_record>& x) mutable {
          all->facts.volumes = x;
          closed();
        },
        silent);
  }
  if (auto migrations = context_->directory->get<migration_supervisor_actor>(path::migrations)) {
    ++all->open;
    self_->request(migrations, patience, atom::list_v)
      .then(
        [all, closed](const std::vector<migration_progress>& x) mutable {
          all->facts.migrations = x;
          closed();
        },
        silent);
  }
  if (auto catalog = context_->directory->get<catalog_actor>(path::catalog)) {
    ++all->open;
    self_->request(catalog, patience, atom::list_v, key::incarnation, std::string{}, uint64_t{1})
      .then(
        [all, closed](const catalog_page& x) mutable {
          uint64_t incarnation = 0;
          if (!x.entries.empty() && decode(x.entries.front().value, incarnation))
            incarnation = 0;
          all->facts.incarnation = incarnation;
          closed();
        },
        silent);
  }
  closed();
  return promise;
}

std::vector<event> monitor_state::events(uint64_t count) const {
  const auto n = std::min<uint64_t>(count, events_.size());
  return {events_.end() - static_cast<ptrdiff_t>(n), events_.end()};
}

void monitor_state::publish(const event& x) {
  events_.push_back(x);
  while (events_.size() > context_->options.events_max)
    events_.pop_front();
}

} // namespace varve
