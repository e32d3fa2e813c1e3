#pragma once

#include "actors/management/catalog.hpp"
#include "actors/management/lease_manager.hpp"
#include "actors/management/monitor.hpp"
#include "actors/management/placement.hpp"
#include "actors/management/volume_directory.hpp"
#include "tests/actors/fixture.hpp"

namespace varve {

/// Answers with what it is given, once it is told to.
using held_grants_actor =
  caf::typed_actor<caf::replies_to<lease_grant>::with<lease_grant>, caf::reacts_to<atom::start>>;

struct held_grants_state {
  std::vector<std::pair<caf::typed_response_promise<lease_grant>, lease_grant>> held;
};

inline held_grants_actor::behavior_type held_grants(held_grants_actor::stateful_pointer<held_grants_state> self) {
  return {
    [self](const lease_grant& x) -> caf::result<lease_grant> {
      auto promise = self->make_response_promise<lease_grant>();
      self->state.held.emplace_back(promise, x);
      return promise;
    },
    [self](atom::start) {
      for (auto& [promise, x] : std::exchange(self->state.held, {}))
        promise.deliver(x);
    },
  };
}

/// A tier that does as the test says: the next call of a kind is refused so, or not answered at all (errc::timed_out).
struct tier_world {
  tier_info info;
  std::map<std::pair<shard_id, generation>, epoch> shards;
  std::deque<errc> create_refusals, fence_refusals, remove_refusals, list_refusals;
  std::vector<lease_grant> outstanding;
  std::vector<lease_grant> fences;
  std::vector<std::pair<holder_id, caf::timespan>> renewals;
  uint64_t renewal_batches = 0;
  std::vector<std::pair<holder_id, uint64_t>> releases;
  uint64_t incarnation = 0;
  caf::timespan term_max{std::chrono::hours{1}};
  bool silent = false;
  /// Renewals are not answered, or refused so.
  bool renews_never = false;
  std::deque<errc> renew_refusals;
  term_limit limit = term_limit::none;

  /// Whether it says that it knows all that is outstanding.
  bool complete = true;
  /// Grants of these shards are answered when the test says so.
  std::set<shard_index> held_shards;
  held_grants_actor held_grants;
  void answer_held() {
    held_shards.clear();
    caf::anon_send(held_grants, atom::start_v);
  }
  static errc next(std::deque<errc>& from) {
    if (from.empty())
      return errc::none;
    const auto result = from.front();
    from.pop_front();
    return result;
  }
};

inline tier_actor::behavior_type fake_tier(tier_actor::pointer self, std::shared_ptr<tier_world> w) {
  // What this life of the tier has recorded.
  auto recorded = std::make_shared<std::map<holder_id, std::set<shard_id>>>();
  // An answer that never comes.
  auto never = [self](auto* of) {
    using type = std::remove_pointer_t<decltype(of)>;
    return caf::result<type>{self->make_response_promise<type>()};
  };
  return {
    [w, never](atom::get) -> caf::result<tier_info> {
      if (w->silent)
        return never(static_cast<tier_info*>(nullptr));
      return w->info;
    },
    [w](atom::create, const shard_home& home, uint64_t) -> caf::result<shard_home> {
      if (auto e = tier_world::next(w->create_refusals); e != errc::none)
        return make_error(e, "as the test says");
      w->shards[{home.id, home.of}] = home.fence;
      return home;
    },
    [self, w, never, recorded](atom::fence, const lease_grant& x) -> caf::result<lease_grant> {
      auto e = tier_world::next(w->fence_refusals);
      if (e == errc::timed_out)
        return never(static_cast<lease_grant*>(nullptr));
      if (e != errc::none)
        return make_error(e, "as the test says");
      auto at = w->shards.find({x.home.id, x.home.of});
      if (at == w->shards.end())
        return make_error(errc::not_found);
      if (x.fence < at->second)
        return make_error(errc::stale_epoch);
      at->second = x.fence;
      w->fences.push_back(x);
      if (x.manager < w->incarnation)
        return make_error(errc::deposed);
      (*recorded)[x.holder].insert(x.home.id);
      auto agreed = x;
      if (w->term_max < agreed.term) {
        agreed.term = w->term_max;
        agreed.limit = w->limit;
      }
      if (w->held_shards.count(x.home.id.index) > 0) {
        if (!w->held_grants)
          w->held_grants = self->spawn(held_grants);
        return self->delegate(w->held_grants, agreed);
      }
      return agreed;
    },
    [w, never, recorded](atom::renew, const tier_renewal& x) -> caf::result<std::vector<renewal_terms>> {
      if (w->silent || w->renews_never)
        return never(static_cast<std::vector<renewal_terms>*>(nullptr));
      if (auto e = tier_world::next(w->renew_refusals); e != errc::none)
        return make_error(e, "as the test says");
      ++w->renewal_batches;
      std::vector<renewal_terms> result;
      for (const auto& asked : x.holders) {
        w->renewals.emplace_back(asked.holder, asked.term);
        const auto term = std::min(asked.term, w->term_max);
        result.push_back(
          {asked.holder, term, term < asked.term ? w->limit : term_limit::none, (*recorded)[asked.holder].size()});
      }
      return result;
    },
    [w, recorded](atom::release, holder_id holder, shard_id first, uint64_t count) {
      w->releases.emplace_back(holder, count);
      std::erase_if((*recorded)[holder], [&](shard_id x) {
        return count == 0 || (x.volume == first.volume && x.index.value() - first.index.value() < count);
      });
    },
    [w, never](atom::inventory, uint64_t incarnation) -> caf::result<tier_inventory> {
      if (w->silent)
        return never(static_cast<tier_inventory*>(nullptr));
      if (incarnation < w->incarnation)
        return make_error(errc::deposed);
      w->incarnation = incarnation;
      return tier_inventory{w->outstanding, w->complete};
    },
    [](atom::drain, bool) {},
    [](atom::reserve, shard_id, uint64_t) {},
    [w](atom::remove, shard_id id, generation of) -> caf::result<void> {
      if (auto e = tier_world::next(w->remove_refusals); e != errc::none)
        return make_error(e, "as the test says");
      return w->shards.erase({id, of}) ? caf::result<void>{caf::unit} : caf::result<void>{make_error(errc::not_found)};
    },
    [](atom::publish, const shard_home&, bool) {},
    [](atom::verify, shard_id, generation) -> uint64_t { return 0; },
    [w, never](atom::list, volume_id volume) -> caf::result<std::vector<shard_info>> {
      if (w->silent)
        return never(static_cast<std::vector<shard_info>*>(nullptr));
      if (auto e = tier_world::next(w->list_refusals); e != errc::none)
        return make_error(e, "as the test says");
      std::vector<shard_info> result;
      for (const auto& [key, fence] : w->shards)
        if (key.first.volume == volume) {
          result.emplace_back();
          result.back().home.id = key.first;
          result.back().allocated_bytes = 4096;
        }
      return result;
    },
  };
}

/// Catalog, placement and volumes over two fake tiers: "ram" (volatile) and "fast".
struct management_fixture : actor_fixture {
  management_fixture() {
    for (auto* name : {"ram", "fast"}) {
      tier_settings x;
      x.store.name = name;
      x.store.kind = std::string{name} == "ram" ? tier_kind::memory : tier_kind::file;
      x.capacity_bytes = 1ull << 40;
      options.tiers.push_back(x);
      auto& w = tiers[name] = std::make_shared<tier_world>();
      w->info.name = name;
      w->info.is_volatile = x.is_volatile();
      w->info.capacity_bytes = x.capacity_bytes;
      w->info.state = "up";
    }
    make_context();
    for (auto& [name, w] : tiers)
      put(path::tier(name), spawn(fake_tier, w));
    put(path::catalog, spawn(catalog, context));
    put(path::placement, spawn(placement, context));
    put(path::volumes, spawn(volume_directory, context));
    run();
  }

  template <class Handle>
  Handle put(const std::string& path, Handle x) {
    context->directory->put(path, x);
    return x;
  }

  volume_directory_actor volumes() { return find<volume_directory_actor>(path::volumes); }
  volume_actor volume_of(volume_id id) { return find<volume_actor>(path::volume(id.value())); }

  static volume_spec spec(std::string name, uint64_t size = 1ull << 30) {
    volume_spec result;
    result.name = std::move(name);
    result.size_bytes = size;
    return result;
  }
  volume_record make(const volume_spec& x) {
    auto made = ask<volume_record>(volumes(), atom::create_v, x);
    return made ? *made : volume_record{};
  }
  /// As a restart of the node's management does: everything in memory is gone.
  void restart_volumes() {
    kill(volumes());
    context->directory->remove(path::volumes, volumes() ? volumes().address() : caf::actor_addr{});
    put(path::volumes, spawn(volume_directory, context));
    advance(std::chrono::milliseconds{10});
  }

  std::map<std::string, std::shared_ptr<tier_world>> tiers;
};

} // namespace varve
