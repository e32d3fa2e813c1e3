#include "actors/management/node_steward.hpp"

#include <algorithm>
#include <chrono>

#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr caf::timespan tick_every = 1s;
/// Moves of draining nodes under way or asked for, of all nodes together: they wait for each other anyway, and who
/// moves by hand shall not wait behind thousands.
constexpr uint64_t moves_max = 64;
constexpr size_t sample_max = 4096;
/// A count of all shards takes at most this part of the time.
constexpr int count_share = 20;

health_finding reason(std::string code, std::string text) {
  return {std::move(code), "error", std::move(text)};
}

} // namespace

node_steward_self::behavior_type node_steward(node_steward_self::stateful_pointer<node_steward_state> self,
                                              context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

node_steward_self::behavior_type node_steward_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  const auto& cluster = context_->options.cluster;
  if (cluster.nodes.empty())
    nodes_[context_->options.name].info.node = context_->options.name;
  for (const auto& x : cluster.nodes)
    nodes_[x.name].info.node = x.name;
  self_->send(self_, atom::tick_v);
  return {
    [this](atom::change, const std::string& node, bool cordoned, bool draining) {
      return change(node, cordoned, draining);
    },
    [this](atom::list) -> caf::result<std::vector<node_condition>> {
      if (!loaded_)
        return make_error(errc::unavailable, "what is wanted of the nodes is being read");
      std::vector<node_condition> result;
      for (const auto& [name, x] : nodes_)
        result.push_back(x.info);
      return result;
    },
    [this](atom::verify, const std::string& node, bool remove) { return verify(node, remove); },
    [this](atom::tick) { tick(); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts node_steward_state::facts() const {
  actor_facts result{flag_fact("loaded", loaded_), count_fact("moves-under-way", moving_)};
  for (const auto& [name, x] : nodes_)
    if (x.info.cordoned)
      result.push_back(text_fact("node-" + name, x.info.draining ? "draining" : "cordoned"));
  return result;
}

// -- what is wanted
// ----------------------------------------------------------------------------------------------------

void node_steward_state::load() {
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog)
    return; // the next tick tries again
  self_->request(catalog, context_->options.request_timeout, atom::list_v, key::nodes, std::string{}, uint64_t{10'000})
    .then(
      [this](const catalog_page& page) {
        for (const auto& entry : page.entries) {
          const auto at = nodes_.find(entry.key.substr(key::nodes.size()));
          if (at == nodes_.end())
            continue; // no longer in the configuration
          node_record record;
          if (auto e = decode(entry.value, record)) {
            context_->publish("NODE_RECORD_UNREADABLE", entry.key + ": " + context_of(e));
            continue;
          }
          at->second.info.cordoned = record.cordoned || record.draining;
          at->second.info.draining = record.draining;
          at->second.revision = entry.revision;
        }
        loaded_ = true;
        tell_placement();
      },
      [](const caf::error&) {});
}

caf::result<node_condition> node_steward_state::change(const std::string& name, bool cordoned, bool draining) {
  const auto at = nodes_.find(name);
  if (at == nodes_.end())
    return make_error(errc::not_found, "node " + name);
  auto& x = at->second;
  if (!loaded_ || x.changing)
    return make_error(errc::unavailable, loaded_ ? "another change of node " + name + " is under way"
                                                 : "what is wanted of the nodes is being read");
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog)
    return make_error(errc::unavailable, path::catalog);
  auto promise = self_->make_response_promise<node_condition>();
  x.changing = true;
  catalog_batch batch;
  batch.compare.push_back({key::node(name), x.revision});
  batch.changes.push_back({key::node(name), encode(node_record{cordoned || draining, draining}), false});
  self_->request(catalog, context_->options.request_timeout, atom::commit_v, batch)
    .then(
      [this, name, cordoned, draining, promise](uint64_t revision) mutable {
        auto& x = nodes_[name];
        x.changing = false;
        x.revision = revision;
        x.info.cordoned = cordoned || draining;
        x.info.problem.clear();
        x.info.stuck = x.info.moving = 0;
        if (std::exchange(x.info.draining, draining) != draining)
          x.info.counted = false;
        x.to_move.clear();
        count_at_ = boot_time{0};
        tell_placement();
        context_->publish(draining          ? "NODE_DRAINING"
                          : x.info.cordoned ? "NODE_CORDONED"
                                            : "NODE_UNCORDONED",
                          "node " + name);
        promise.deliver(x.info);
      },
      [this, name, promise](const caf::error& e) mutable {
        nodes_[name].changing = false;
        // Whether it was made may not be known: it is read again.
        loaded_ = false;
        promise.deliver(e);
      });
  return promise;
}

void node_steward_state::tell_placement() {
  std::vector<std::string> cordoned;
  for (const auto& [name, x] : nodes_)
    if (x.info.cordoned)
      cordoned.push_back(name);
  if (auto placement = context_->directory->get<placement_actor>(path::placement))
    self_->send(placement, atom::change_v, cordoned);
}

// -- draining
// ----------------------------------------------------------------------------------------------------------

void node_steward_state::tick() {
  self_->delayed_send(self_, tick_every, atom::tick_v);
  if (!loaded_) {
    load();
    return;
  }
  // It may have been started again, and then knows nothing of it.
  tell_placement();
  if (!any_draining())
    return;
  count_moves();
  if (!counting_ && context_->now() >= count_at_)
    count_shards();
}

void node_steward_state::count_moves() {
  auto migrations = context_->directory->get<migration_supervisor_actor>(path::migrations);
  if (!migrations)
    return;
  self_->request(migrations, context_->options.request_timeout, atom::list_v)
    .then(
      [this](const std::vector<migration_progress>& all) {
        moving_ = 0;
        for (auto& [name, x] : nodes_)
          x.info.moving = 0;
        for (const auto& x : all) {
          if (x.record.ended_at != 0)
            continue;
          if (auto at = nodes_.find(node_of(x.record.from_tier)); at != nodes_.end() && at->second.info.draining) {
            ++at->second.info.moving;
            ++moving_;
          }
        }
        for (auto& [name, x] : nodes_) {
          x.asked = 0;
          if (x.info.draining)
            move_some(x);
        }
      },
      [](const caf::error&) {});
}

void node_steward_state::count_shards() {
  counting_ = true;
  std::vector<std::string> sampled;
  for (const auto& [name, x] : nodes_)
    if (x.info.draining)
      for (auto& tier : tiers_of(name))
        sampled.push_back(std::move(tier));
  const auto began = context_->now();
  std::make_shared<shard_census<node_steward_self::base>>(self_, context_, std::move(sampled), sample_max,
                                                          [this, began](const caf::error& e, const census_result& x) {
                                                            counting_ = false;
                                                            if (!e)
                                                              counted(x, began);
                                                          })
    ->start();
}

void node_steward_state::counted(const census_result& census, boot_time began) {
  count_at_ = context_->now() + (context_->now() - began) * count_share;
  volumes_.clear();
  for (const auto& x : census.volumes)
    volumes_[x.id] = x;
  for (auto& entry : nodes_) {
    auto& x = entry.second;
    const auto& name = entry.first;
    const bool drained_before = x.info.counted && x.info.shards == 0;
    x.info.shards = 0;
    x.info.volumes_attached = static_cast<uint64_t>(
      std::count_if(census.volumes.begin(), census.volumes.end(), [&](auto& v) { return v.at(name); }));
    x.to_move.clear();
    for (const auto& tier : tiers_of(name))
      if (auto at = census.tiers.find(tier); at != census.tiers.end()) {
        x.info.shards += at->second.shards;
        x.to_move.insert(x.to_move.end(), at->second.sample.begin(), at->second.sample.end());
      }
    x.info.counted = true;
    x.info.stuck = std::exchange(x.refused, 0);
    if (x.info.stuck == 0)
      x.info.problem.clear();
    if (x.info.draining && x.info.shards == 0 && !drained_before)
      context_->publish("NODE_DRAINED", "node " + name + " has no shards any more");
  }
}

void node_steward_state::move_some(node& x) {
  while (!x.to_move.empty() && moving_ + x.asked < moves_max) {
    const auto shard = x.to_move.front();
    x.to_move.pop_front();
    ++x.asked;
    move_one(x.info.node, shard);
  }
}

void node_steward_state::move_one(const std::string& node, shard_id shard) {
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes)
    return;
  const auto timeout = context_->options.request_timeout;
  auto failed = [this, node](const caf::error& e) { refused(node, e); };
  // It may have moved since it was counted.
  self_->request(volumes, timeout, atom::open_v, shard.volume)
    .then(
      [this, node, shard, timeout, failed](const volume_actor& volume) {
        self_->request(volume, timeout, atom::locate_v, shard.index, uint64_t{1})
          .then(
            [this, node, shard](const shard_map_part& part) {
              if (!part.homes.empty() && node_of(part.homes.front().tier) == node)
                place(node, shard);
            },
            failed);
      },
      failed);
}

void node_steward_state::place(const std::string& node, shard_id shard) {
  auto placement = context_->directory->get<placement_actor>(path::placement);
  const auto volume = volumes_.find(shard.volume);
  if (!placement || volume == volumes_.end())
    return;
  auto record = volume->second;
  record.spec.tier.clear();
  const auto timeout = context_->options.request_timeout;
  auto failed = [this, node](const caf::error& e) { refused(node, e); };
  self_->request(placement, timeout, atom::place_v, record, shard.index)
    .then(
      [this, node, shard, timeout, failed](const std::string& tier) {
        auto migrations = context_->directory->get<migration_supervisor_actor>(path::migrations);
        // Meanwhile it may have been decided otherwise.
        if (!migrations || !nodes_[node].info.draining || node_of(tier) == node)
          return;
        self_->request(migrations, timeout, atom::start_v, migration_spec{shard.volume, shard.index, 1, tier})
          .then([](const std::vector<migration_id>&) {}, failed);
      },
      failed);
}

void node_steward_state::refused(const std::string& node, const caf::error& e) {
  // It moves already, or is gone.
  if (code_of(e) == errc::already_exists || code_of(e) == errc::not_found)
    return;
  auto& x = nodes_[node];
  ++x.refused;
  x.info.problem = to_string(code_of(e)) + std::string{": "} + context_of(e);
}

// -- verdicts
// ----------------------------------------------------------------------------------------------------------

caf::result<node_verdict> node_steward_state::verify(const std::string& name, bool remove) {
  if (nodes_.count(name) == 0)
    return make_error(errc::not_found, "node " + name);
  auto promise = self_->make_response_promise<node_verdict>();
  std::make_shared<shard_census<node_steward_self::base>>(
    self_, context_, std::vector<std::string>{}, 0,
    [this, name, remove, promise](const caf::error& e, const census_result& census) mutable {
      if (e)
        promise.deliver(e);
      else
        judge(name, remove, census, promise);
    })
    ->start();
  return promise;
}

void node_steward_state::judge(const std::string& name, bool remove, const census_result& census,
                               verdict_promise promise) {
  auto verdict = std::make_shared<node_verdict>();
  uint64_t shards = 0, used = 0;
  for (const auto& tier : tiers_of(name))
    if (auto at = census.tiers.find(tier); at != census.tiers.end()) {
      shards += at->second.shards;
      used += at->second.used;
    }
  if (remove && shards != 0)
    verdict->reasons.push_back(
      reason("NODE_HAS_SHARDS", std::to_string(shards) + " shards have their only home there: drain the node first"));
  if (!remove && used != 0)
    verdict->reasons.push_back(
      reason("NODE_HAS_USED_SHARDS", std::to_string(used) + " shards of attached volumes are there: their I/O waits "
                                                            "until the node is back"));
  std::string hosted;
  for (const auto& x : census.volumes)
    if (x.at(name))
      hosted += (hosted.empty() ? "" : ", ") + x.spec.name;
  if (!hosted.empty())
    verdict->reasons.push_back(reason("NODE_HOSTS_VOLUMES", "attached there: " + hosted));
  // Then the moves, then the managers: each is asked.
  auto migrations = context_->directory->get<migration_supervisor_actor>(path::migrations);
  if (!migrations) {
    promise.deliver(make_error(errc::unavailable, path::migrations));
    return;
  }
  const auto timeout = context_->options.request_timeout;
  auto failed = [promise](const caf::error& e) mutable { promise.deliver(e); };
  auto finish = [verdict, promise]() mutable {
    verdict->ok = verdict->reasons.empty();
    promise.deliver(*verdict);
  };
  self_->request(migrations, timeout, atom::list_v)
    .then(
      [this, name, verdict, promise, timeout, failed, finish](const std::vector<migration_progress>& all) mutable {
        const auto moving = std::count_if(all.begin(), all.end(), [&](auto& x) {
          return x.record.ended_at == 0 && (node_of(x.record.from_tier) == name || node_of(x.record.to_tier) == name);
        });
        if (moving != 0)
          verdict->reasons.push_back(
            reason("NODE_MOVES_SHARDS", std::to_string(moving) + " moves are under way there"));
        const auto* self = context_->options.cluster.find(name);
        auto membership = context_->directory->get<membership_actor>(path::membership);
        if (!membership || (self && !self->roles.manager)) {
          if (!membership)
            verdict->reasons.push_back(reason("LAST_MANAGER", "there is no other node"));
          finish();
          return;
        }
        self_->request(membership, timeout, atom::list_v)
          .then(
            [this, name, verdict, finish](const std::vector<member_info>& members) mutable {
              const bool other = std::any_of(members.begin(), members.end(), [&](auto& x) {
                const auto* at = context_->options.cluster.find(x.node);
                return x.node != name && at && at->roles.manager && x.state == member_state::up;
              });
              if (!other)
                verdict->reasons.push_back(
                  reason("LAST_MANAGER", "no other manager is up: leases end, and I/O with them, within a term"));
              finish();
            },
            failed);
      },
      failed);
}

// --
// -------------------------------------------------------------------------------------------------------------------

std::vector<std::string> node_steward_state::tiers_of(const std::string& node) const {
  std::vector<std::string> result;
  for (const auto& x : context_->options.tiers)
    if ((x.node.empty() ? context_->options.name : x.node) == node)
      result.push_back(x.store.name);
  return result;
}

std::string node_steward_state::node_of(const std::string& tier) const {
  for (const auto& x : context_->options.tiers)
    if (x.store.name == tier)
      return x.node.empty() ? context_->options.name : x.node;
  return {};
}

bool node_steward_state::any_draining() const {
  return std::any_of(nodes_.begin(), nodes_.end(), [](auto& x) { return x.second.info.draining; });
}

} // namespace varve
