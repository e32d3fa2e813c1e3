#include <algorithm>
#include <chrono>

#include "actors/management/volume.hpp"
#include "actors/migration/migration_supervisor.hpp"
#include "actors/shard_name.hpp"

/// What the supervisor of migrations does about what lost ones left behind.
namespace varve {

using namespace std::chrono_literals;

namespace {

/// How soon a tier that is back is noticed: a look into the directory.
constexpr caf::timespan look_every = 1s;
/// Tiers that are cleared up at a time, and shards of one that a volume is asked about at once. A manager that starts
/// hears of all shards there are.
constexpr size_t sweeps_max = 4;
constexpr size_t swept_at_once = 4096;

/// Each time the tier lists all that it has: so not each second for as long as a volume is broken.
caf::timespan back_off(uint64_t attempts) {
  return std::min<caf::timespan>(20ms * (1u << std::min<uint64_t>(attempts, 12)), 60s);
}

} // namespace

void migration_supervisor_state::look_for_tiers() {
  for (const auto& x : context_->options.tiers) {
    auto tier = context_->directory->get<caf::actor>(path::tier(x.store.name));
    if (!tier || swept_[x.store.name] == tier.address())
      continue;
    swept_[x.store.name] = tier.address();
    postponed_.erase(x.store.name);
    to_sweep_.push_back({x.store.name, 0, {}});
  }
  sweep_more();
  self_->delayed_send(self_, look_every, atom::tick_v);
}

struct migration_supervisor_state::sweeping {
  sweep_order order;
  /// Questions that are not answered yet.
  size_t open = 1;
  /// Volumes that could not answer: that are being loaded, say. They are asked again.
  std::set<volume_id> unanswered;
};

void migration_supervisor_state::sweep_more() {
  while (sweeping_ < sweeps_max && !to_sweep_.empty()) {
    auto order = std::move(to_sweep_.front());
    to_sweep_.pop_front();
    sweep(std::move(order));
  }
}

void migration_supervisor_state::sweep_later(sweep_order order) {
  const auto in = back_off(order.attempts++);
  const auto tier = order.tier;
  postponed_[tier] = std::move(order);
  self_->delayed_send(self_, in, atom::verify_v, tier);
}

void migration_supervisor_state::sweep_postponed(const std::string& tier) {
  const auto order = postponed_.extract(tier);
  if (order.empty())
    return; // another life of it is swept as a whole
  to_sweep_.push_back(std::move(order.mapped()));
  sweep_more();
}

void migration_supervisor_state::sweep(sweep_order order) {
  auto stock = context_->directory->get<tier_stock_actor>(path::tier(order.tier));
  if (!stock || !(swept_[order.tier] == stock.address())) {
    swept_.erase(order.tier); // it is found when it is back
    return;
  }
  ++sweeping_;
  auto x = std::make_shared<sweeping>();
  x->order = std::move(order);
  self_->request(stock, context_->options.request_timeout, atom::list_v)
    .then(
      [this, x](std::vector<found_shard>& found) {
        const auto& only = x->order.only;
        std::map<volume_id, std::vector<found_shard>> by_volume;
        for (const auto& shard : found)
          if (only.empty() || only.count(shard.home.id.volume) != 0)
            by_volume[shard.home.id.volume].push_back(shard);
        for (auto& [volume, part] : by_volume)
          sweep_volume(x, volume, std::make_shared<const std::vector<found_shard>>(std::move(part)));
        answered(x);
      },
      [this, x](const caf::error&) {
        sweep_later(std::move(x->order));
        answered(x);
      });
}

void migration_supervisor_state::answered(const sweeping_ptr& x) {
  if (--x->open > 0)
    return;
  if (!x->unanswered.empty())
    sweep_later({x->order.tier, x->order.attempts, std::move(x->unanswered)});
  --sweeping_;
  sweep_more();
}

void migration_supervisor_state::not_answered(const sweeping_ptr& x, volume_id volume) {
  x->unanswered.insert(volume);
  answered(x);
}

void migration_supervisor_state::sweep_volume(const sweeping_ptr& x, volume_id volume, found_ptr found) {
  ++x->open;
  if (context_->directory->get<volume_homes_actor>(path::volume(volume.value()))) {
    sweep_some(x, volume, found, 0);
    return;
  }
  // Being started, or there is none.
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes) {
    not_answered(x, volume);
    return;
  }
  self_->request(volumes, context_->options.request_timeout, atom::open_v, volume)
    .then([this, x, volume, found](const volume_actor&) { sweep_some(x, volume, found, 0); },
          [this, x, volume, found](const caf::error& e) {
            if (code_of(e) != errc::not_found) {
              not_answered(x, volume);
              return;
            }
            for (const auto& shard : *found)
              unknown(x->order.tier, shard);
            answered(x);
          });
}

void migration_supervisor_state::sweep_some(const sweeping_ptr& x, volume_id volume, found_ptr found, size_t from) {
  if (from >= found->size()) {
    answered(x);
    return;
  }
  const auto actor = context_->directory->get<volume_homes_actor>(path::volume(volume.value()));
  if (!actor) {
    not_answered(x, volume);
    return;
  }
  const auto end = std::min(found->size(), from + swept_at_once);
  std::vector<shard_index> asked;
  asked.reserve(end - from);
  for (auto i = from; i < end; ++i)
    asked.push_back((*found)[i].home.id.index);
  self_->request(actor, context_->options.request_timeout, atom::locate_v, std::move(asked))
    .then(
      [this, x, volume, found, from, end](const std::vector<shard_home>& homes) {
        std::map<shard_index, const shard_home*> now;
        for (const auto& home : homes)
          now[home.id.index] = &home;
        for (auto i = from; i < end; ++i) {
          const auto at = now.find((*found)[i].home.id.index);
          compare(x->order.tier, (*found)[i], at == now.end() ? nullptr : at->second);
        }
        sweep_some(x, volume, found, end);
      },
      [this, x, volume](const caf::error&) { not_answered(x, volume); });
}

void migration_supervisor_state::compare(const std::string& tier, const found_shard& x, const shard_home* now) {
  if (now && now->tier == tier && now->of == x.home.of)
    return;
  // A migration, a start or a removal is busy with it: it clears up after itself.
  if (busy_.count(x.home.id) != 0)
    return;
  // Replaced: its removal was not durable yet when power was lost.
  const auto replaced = x.sealed_for != generation{0} && now && now->of >= x.sealed_for;
  if (x.incomplete || replaced)
    remove_leftover(tier, x);
  else
    unknown(tier, x);
}

void migration_supervisor_state::unknown(const std::string& tier, const found_shard& x) {
  context_->publish("SHARD_FILE_UNKNOWN", "tier " + tier + " has shard " + name_of(x.home.id) + " generation " +
                                            std::to_string(x.home.of.value()) +
                                            ", which the catalog does not know; it is left alone");
}

void migration_supervisor_state::remove_leftover(const std::string& tier, const found_shard& x) {
  auto actor = context_->directory->get<tier_actor>(path::tier(tier));
  if (!actor)
    return;
  // Not over is journalled before a sink is made, and the journal was read after the tier: nobody fills this one. While
  // it goes, no new migration may make it again.
  busy_.insert(x.home.id);
  self_->request(actor, context_->options.request_timeout, atom::remove_v, x.home.id, x.home.of)
    .then(
      [this, tier, x] {
        busy_.erase(x.home.id);
        context_->publish("LEFTOVER_REMOVED",
                          "tier " + tier +
                            (x.incomplete ? ": the unfinished sink of shard " : ": the former home of shard ") +
                            name_of(x.home.id) + " generation " + std::to_string(x.home.of.value()));
      },
      [this, x](const caf::error&) { busy_.erase(x.home.id); });
}

} // namespace varve
