#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "tests/actors/fixture.hpp"

namespace varve {

/// What the fake managers of one test share with it.
struct fake_management {
  std::map<volume_id, volume_record> volumes;
  /// What the next acquires are answered, instead of granting everything; errc::none: grants.
  std::deque<errc> acquire_refusals;
  /// Acquires are not answered.
  bool silent = false;
  /// Shards that never get a lease, and why.
  std::map<uint64_t, errc> bad_shards;
  std::vector<lease_request> acquired;
  std::vector<std::pair<uint64_t, uint64_t>> released;
  lease_holder_actor last_holder;
  uint64_t renewals = 0;
  /// Of renewals: what they leave out. Of changes of mode: what they are refused with.
  std::vector<lease_gap> gaps;
  errc change_refusal = errc::none;
  std::vector<lease_request> changed;
  /// What renewals are answered.
  errc renew_refusal = errc::none;
  uint64_t revision = 1;
  caf::timespan term = std::chrono::seconds{45};
  /// For which storage wished a shorter one.
  std::map<uint64_t, caf::timespan> shorter_terms;
  /// Shards that exist, for grants.
  std::map<uint64_t, shard_home> homes;
  uint64_t next_holder = 1;
};

using shared_management = std::shared_ptr<fake_management>;

inline volume_actor::behavior_type fake_volume(volume_actor::pointer, shared_management of, volume_id id) {
  return {
    [=](atom::get) -> caf::result<volume_info> {
      volume_info x;
      x.record = of->volumes.at(id);
      return x;
    },
    [=](atom::locate, shard_index, uint64_t) -> caf::result<shard_map_part> { return make_error(errc::unsupported); },
    [=](atom::create, shard_index) -> caf::result<shard_home> { return make_error(errc::unsupported); },
    [=](atom::commit, const migration_record&) -> caf::result<migration_record> {
      return make_error(errc::unsupported);
    },
    [=](atom::resize, uint64_t) -> caf::result<volume_record> { return make_error(errc::unsupported); },
    [=](atom::attach, const volume_attachment& to, bool shared) -> caf::result<volume_record> {
      auto& x = of->volumes.at(id);
      if (x.attached() && !shared)
        return make_error(errc::volume_attached, x.spec.name);
      x.attachments.push_back(to);
      return x;
    },
    [=](atom::detach, holder_id holder) -> caf::result<volume_record> {
      auto& x = of->volumes.at(id);
      std::erase_if(x.attachments, [holder](auto& a) { return a.holder == holder; });
      return x;
    },
    [=](atom::remove) -> caf::result<volume_record> { return make_error(errc::unsupported); },
  };
}

inline volume_directory_actor::behavior_type fake_volumes(volume_directory_actor::pointer self, shared_management of) {
  return {
    [=](atom::create, const volume_spec&) -> caf::result<volume_record> { return make_error(errc::unsupported); },
    [=](atom::get, const std::string& name) -> caf::result<volume_record> {
      for (auto& [id, x] : of->volumes)
        if (std::to_string(id.value()) == name || x.spec.name == name)
          return x;
      return make_error(errc::not_found, name);
    },
    [=](atom::open, volume_id id) -> caf::result<volume_actor> {
      if (of->volumes.count(id) == 0)
        return make_error(errc::not_found, "volume");
      return self->spawn(fake_volume, of, id);
    },
    [=](atom::list) {
      std::vector<volume_record> result;
      for (auto& [id, x] : of->volumes)
        result.push_back(x);
      return result;
    },
  };
}

inline lease_manager_actor::behavior_type fake_leases(lease_manager_actor::pointer self, shared_management of) {
  auto grant = [=](const lease_request& x) -> caf::result<std::vector<lease_grant>> {
    if (of->silent)
      return self->make_response_promise<std::vector<lease_grant>>();
    if (!of->acquire_refusals.empty()) {
      const auto refusal = of->acquire_refusals.front();
      of->acquire_refusals.pop_front();
      if (refusal != errc::none)
        return make_error(refusal);
    }
    std::vector<lease_grant> grants;
    const auto begin = x.first.index.value();
    for (auto i = begin; i < begin + x.count; ++i)
      if (auto bad = of->bad_shards.find(i); bad != of->bad_shards.end())
        return make_error(bad->second);
    lease_grant g;
    g.revision = of->revision;
    g.holder = x.holder;
    g.mode = x.mode;
    g.term = of->term;
    g.fence = epoch{1};
    if (x.mode == lease_mode::read) {
      // One run for what is absent, one grant for each that exists.
      g.home.id = x.first;
      g.count = x.count;
      grants.push_back(g);
    }
    for (auto i = begin; i < begin + x.count; ++i) {
      auto& home = of->homes[i];
      if (x.mode == lease_mode::write && !home.exists())
        home = {{x.first.volume, shard_index{i}}, "fast", generation{1}, epoch{1}};
      if (!home.exists())
        continue;
      g.home = home;
      g.count = 1;
      const auto shorter = of->shorter_terms.find(i);
      g.term = shorter == of->shorter_terms.end() ? of->term : shorter->second;
      grants.push_back(g);
    }
    return grants;
  };
  return {
    [=](atom::acquire, const lease_request& x, const lease_holder_actor& holder) {
      of->acquired.push_back(x);
      of->last_holder = holder;
      return grant(x);
    },
    [=](atom::change, const lease_request& x) -> caf::result<std::vector<lease_grant>> {
      of->changed.push_back(x);
      if (of->change_refusal != errc::none)
        return make_error(of->change_refusal);
      return grant(x);
    },
    [=](atom::renew, holder_id) -> caf::result<lease_renewal> {
      ++of->renewals;
      if (of->renew_refusal != errc::none)
        return make_error(of->renew_refusal);
      return lease_renewal{of->term, of->gaps, 1, of->revision};
    },
    [=](atom::release, holder_id holder, shard_id, uint64_t count) -> caf::result<void> {
      of->released.emplace_back(holder.value(), count);
      return caf::unit;
    },
    [=](atom::evict, shard_id) -> caf::result<void> { return caf::unit; },
    [=](atom::refresh, const shard_home&) {},
    [=](atom::list, volume_id) { return std::vector<lease_info>{}; },
    [=](atom::list, uint64_t, uint64_t) { return lease_history{}; },
  };
}

inline catalog_actor::behavior_type fake_catalog(catalog_actor::pointer, shared_management of) {
  return {
    [=](atom::commit, const catalog_batch&) -> caf::result<uint64_t> { return make_error(errc::unsupported); },
    [=](atom::list, const std::string&, const std::string&, uint64_t) -> caf::result<catalog_page> {
      return make_error(errc::unsupported);
    },
    [=](atom::get) -> caf::result<uint64_t> { return make_error(errc::unsupported); },
    [=](atom::acquire, const std::string&, uint64_t count) {
      return std::exchange(of->next_holder, of->next_holder + count);
    },
  };
}

/// Fake managers under their paths, and a volume "vm1" of 1 GiB.
struct host_fixture : actor_fixture {
  host_fixture() : management(std::make_shared<fake_management>()) {
    options.socket_folder = "/run/varve/nbd";
    make_context();
    volume_record x;
    x.id = volume_id{7};
    x.spec.name = "vm1";
    x.spec.size_bytes = 1ull << 30;
    x.spec.shard_size = 4ull << 20;
    management->volumes[x.id] = x;
    start_volumes();
    start_leases();
    context->directory->put(path::catalog, spawn(fake_catalog, management));
  }

  void start_volumes() {
    volumes = spawn(fake_volumes, management);
    context->directory->put(path::volumes, volumes);
  }
  void start_leases() {
    leases = spawn(fake_leases, management);
    context->directory->put(path::leases, leases);
  }
  void stop_leases() {
    context->directory->remove(path::leases, leases.address());
    kill(leases);
  }

  volume_record& record() { return management->volumes.at(volume_id{7}); }

  shared_management management;
  volume_directory_actor volumes;
  lease_manager_actor leases;
};

} // namespace varve
