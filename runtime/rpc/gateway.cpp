#include "runtime/rpc/gateway.hpp"

#include <algorithm>

#include <caf/send.hpp>

#include "runtime/rpc/cluster_health.hpp"

namespace varve {

namespace {

/// How long one manager may take to say how it is, before another is asked.
constexpr caf::timespan status_patience{std::chrono::seconds{3}};

// Several questions at a time: `then` is called when each has been answered or refused.
class countdown {
public:
  countdown(size_t count, std::function<void()> then) : left_(count), then_(std::move(then)) {
    if (left_ == 0)
      then_();
  }
  void one() {
    if (--left_ == 0)
      then_();
  }

private:
  size_t left_;
  std::function<void()> then_;
};

template <class Then>
void with_volume(bridge& on, const std::string& name, Then then) {
  on.ask<volume_directory_actor>(
    path::volumes, [then](const volume_record& x) { then(x); }, atom::get_v, name);
}

template <class Then>
void with_volume_actor(bridge& on, volume_id id, Then then) {
  on.ask<volume_directory_actor>(
    path::volumes, [then](const volume_actor& x) { then(x); }, atom::open_v, id);
}

uint64_t shards_of(const volume_record& x) {
  return (x.spec.size_bytes + x.spec.shard_size - 1) / x.spec.shard_size;
}

// One shard must lie within the volume.
bool within(bridge& on, const volume_record& x, uint64_t index) {
  if (index < shards_of(x))
    return true;
  on.refuse(make_error(errc::invalid_argument, "shard " + std::to_string(index) + " is not within the volume's " +
                                                 std::to_string(shards_of(x)) + " shards"));
  return false;
}

shard_row describe(const volume_record& volume, const shard_home& home) {
  shard_row x;
  x.home = home;
  x.offset = home.id.index.value() * volume.spec.shard_size;
  x.size = std::min(volume.spec.shard_size, volume.spec.size_bytes - std::min(volume.spec.size_bytes, x.offset));
  return x;
}

// The homes from `first` on, until `limit` are there or the volume ends.
void collect_homes(bridge& on, const volume_actor& volume, uint64_t first, uint64_t end, uint64_t limit,
                   std::vector<shard_home> homes, std::function<void(std::vector<shard_home>, uint64_t)> then) {
  if (first >= end || homes.size() >= limit)
    return then(std::move(homes), first >= end ? 0 : first);
  const auto count = std::min(end - first, limit - homes.size());
  on.ask_actor(
    volume,
    [=, &on](const shard_map_part& part) mutable {
      for (const auto& x : part.homes)
        if (x.exists() && homes.size() < limit && x.id.index.value() < end)
          homes.push_back(x);
      // A part may hold more than was asked for; what did not fit is asked again.
      auto next = std::max(part.end.value(), first + 1);
      if (homes.size() >= limit)
        next = std::min(next, homes.back().id.index.value() + 1);
      collect_homes(on, volume, next, end, limit, std::move(homes), then);
    },
    atom::locate_v, shard_index{first}, count);
}

} // namespace

void gateway::status(answer<node_status> done) const {
  run<node_status>(std::move(done), [](auto& r) {
    r.template ask<monitor_actor>(
      path::monitor, [&r](const node_status& x) { r.finish(x); }, atom::get_v);
  });
}

void gateway::events(uint64_t limit, answer<std::vector<event>> done) const {
  run<std::vector<event>>(std::move(done), [limit](auto& r) {
    r.template ask<monitor_actor>(
      path::monitor, [&r](const std::vector<event>& x) { r.finish(x); }, atom::list_v,
      std::min<uint64_t>(limit, 10'000));
  });
}

void gateway::volume_create(volume_spec spec, answer<volume_info> done) const {
  run<volume_info>(std::move(done), [spec](auto& r) {
    // Such a name would hide the number of another volume.
    if (!spec.name.empty() && spec.name.find_first_not_of("0123456789") == std::string::npos)
      return r.refuse(make_error(errc::invalid_argument, "name \"" + spec.name + "\" has digits only"));
    r.template ask<volume_directory_actor>(
      path::volumes,
      [&r](const volume_record& x) {
        volume_info info;
        info.record = x;
        info.contents_known = info.clients_known = true; // there are none yet
        r.finish(std::move(info));
      },
      atom::create_v, spec);
  });
}

void gateway::volume_list(answer<std::vector<volume_info>> done) const {
  run<std::vector<volume_info>>(std::move(done), [this](auto& r) {
    auto with_record = [this, &r](const volume_record& record, std::shared_ptr<std::vector<volume_info>> all, size_t at,
                                  std::shared_ptr<countdown> left) {
      (*all)[at].record = record;
      // A volume that is removed meanwhile, or whose actor restarts, stays as its record said; more is not known.
      const auto failed = [left](const caf::error&) { left->one(); };
      r.ask_or(
        r.directory().template get<volume_directory_actor>(path::volumes),
        [&r, all, at, left, failed](const volume_actor& actor) {
          r.ask_or(
            actor,
            [all, at, left](const volume_info& x) {
              (*all)[at] = x;
              left->one();
            },
            failed, atom::get_v);
        },
        failed, atom::open_v, record.id);
    };
    r.template ask<volume_directory_actor>(
      path::volumes,
      [this, &r, with_record](const std::vector<volume_record>& records) {
        if (!r.directory().template get<volume_directory_actor>(path::volumes))
          return r.refuse(make_error(errc::unavailable, "the volumes' directory restarts"));
        auto all = std::make_shared<std::vector<volume_info>>(records.size());
        auto left = std::make_shared<countdown>(records.size(), [this, &r, all] {
          complete(r, *all, [&r](std::vector<volume_info> x) { r.finish(std::move(x)); });
        });
        for (size_t i = 0; i < records.size(); ++i)
          with_record(records[i], all, i, left);
      },
      atom::list_v);
  });
}

void gateway::volume_show(std::string volume, answer<volume_info> done) const {
  run<volume_info>(std::move(done), [this, volume](auto& r) {
    with_volume(r, volume, [this, &r](const volume_record& record) {
      with_volume_actor(r, record.id, [this, &r](const volume_actor& actor) {
        r.ask_actor(
          actor,
          [this, &r](const volume_info& x) {
            complete(r, {x}, [&r](std::vector<volume_info> all) { r.finish(std::move(all[0])); });
          },
          atom::get_v);
      });
    });
  });
}

void gateway::volume_record_of(std::string volume, answer<volume_record> done) const {
  run<volume_record>(std::move(done),
                     [volume](auto& r) { with_volume(r, volume, [&r](const volume_record& x) { r.finish(x); }); });
}

void gateway::volume_resize(std::string volume, uint64_t size_bytes, answer<volume_info> done) const {
  run<volume_info>(std::move(done), [=, this](auto& r) {
    with_volume(r, volume, [=, this, &r](const volume_record& before) {
      with_volume_actor(r, before.id, [=, this, &r](const volume_actor& actor) {
        auto show = [this, &r](const volume_info& x) {
          complete(r, {x}, [&r](std::vector<volume_info> all) { r.finish(std::move(all[0])); });
        };
        auto finish = [&r, actor, show](const volume_record& after) {
          // Its size is changed, whether or not somebody can say what it contains.
          auto unknown = [show, after](const caf::error&) {
            volume_info x;
            x.record = after;
            show(x);
          };
          r.ask_or(actor, show, unknown, atom::get_v);
        };
        // The catalog first: the VM must not see room that a crash takes back.
        r.ask_actor(
          actor,
          [this, &r, finish](const volume_record& after) {
            if (!after.attached())
              return finish(after);
            if (in_cluster())
              return r.template ask<attachments_actor>(
                path::attachments, [finish, after] { finish(after); }, atom::resize_v, after.id, after.spec.size_bytes);
            r.template ask<host_supervisor_actor>(
              path::host, [finish, after] { finish(after); }, atom::resize_v, after.id, after.spec.size_bytes);
          },
          atom::resize_v, size_bytes);
      });
    });
  });
}

void gateway::volume_remove(std::string volume, bool confirmed, answer<nothing> done) const {
  run_long<nothing>(std::move(done), [=](auto& r) {
    with_volume(r, volume, [=, &r](const volume_record& record) {
      if (!confirmed)
        return r.refuse(make_error(errc::needs_confirmation, "all data of volume " + record.spec.name + " is lost"));
      with_volume_actor(r, record.id, [&r](const volume_actor& actor) {
        r.ask_actor(
          actor, [&r](const volume_record&) { r.finish({}); }, atom::remove_v);
      });
    });
  });
}

void gateway::volume_attach(std::string volume, std::string host, bool shared, answer<attachment> done) const {
  run<attachment>(std::move(done), [=, this](auto& r) {
    auto at = host;
    if (at.empty() && options_.is_host)
      at = options_.node;
    if (at.empty())
      return r.refuse(make_error(errc::invalid_argument, "node " + options_.node + " is no host: say at which node"));
    if (!in_cluster() && at != options_.node)
      return r.refuse(make_error(errc::not_found, "no node " + at + ": " + options_.node + " is by itself"));
    with_volume(r, volume, [=, this, &r](const volume_record& record) {
      auto finish = [&r](const attachment& x) { r.finish(x); };
      if (in_cluster())
        r.template ask<attachments_actor>(path::attachments, finish, atom::attach_v, record.id, at, shared);
      else
        r.template ask<host_supervisor_actor>(path::host, finish, atom::attach_v, record.id, shared);
    });
  });
}

void gateway::volume_detach(std::string volume, bool force, std::string host, answer<nothing> done) const {
  run_long<nothing>(std::move(done), [=, this](auto& r) {
    if (!in_cluster() && !host.empty() && host != options_.node)
      return r.refuse(make_error(errc::not_found, "no node " + host + ": " + options_.node + " is by itself"));
    with_volume(r, volume, [=, this, &r](const volume_record& record) {
      auto finish = [&r] { r.finish({}); };
      if (in_cluster())
        r.template ask<attachments_actor>(path::attachments, finish, atom::detach_v, record.id, host, force);
      else
        r.template ask<host_supervisor_actor>(path::host, finish, atom::detach_v, record.id, force);
    });
  });
}

void gateway::shard_list(std::string volume, uint64_t first, uint64_t limit, answer<shard_rows> done) const {
  run<shard_rows>(std::move(done), [=, this](auto& r) {
    const auto count = std::clamp<uint64_t>(limit, 1, shards_per_page_max);
    with_volume(r, volume, [=, this, &r](const volume_record& record) {
      with_volume_actor(r, record.id, [=, this, &r](const volume_actor& actor) {
        collect_homes(r, actor, first, shards_of(record), count, {},
                      [this, &r, record](std::vector<shard_home> homes, uint64_t next) {
                        std::vector<shard_row> shards;
                        for (const auto& x : homes)
                          shards.push_back(describe(record, x));
                        complete(r, record.id, std::move(shards), [&r, next](std::vector<shard_row> x) {
                          r.finish({std::move(x), shard_index{next}});
                        });
                      });
      });
    });
  });
}

void gateway::shard_show(std::string volume, uint64_t index, answer<shard_row> done) const {
  run<shard_row>(std::move(done), [=, this](auto& r) {
    with_volume(r, volume, [=, this, &r](const volume_record& record) {
      if (!within(r, record, index))
        return;
      with_volume_actor(r, record.id, [=, this, &r](const volume_actor& actor) {
        r.ask_actor(
          actor,
          [=, this, &r](const shard_map_part& part) {
            shard_home home{{record.id, shard_index{index}}, {}, {}, {}};
            for (const auto& x : part.homes)
              if (x.id.index.value() == index)
                home = x;
            if (!home.exists())
              return r.refuse(
                make_error(errc::not_found, "nothing was written to shard " + std::to_string(index) + " yet"));
            complete(r, record.id, {describe(record, home)},
                     [&r](std::vector<shard_row> x) { r.finish(std::move(x[0])); });
          },
          atom::locate_v, shard_index{index}, uint64_t{1});
      });
    });
  });
}

void gateway::shard_move(std::string volume, uint64_t first, uint64_t count, std::string to_tier,
                         answer<std::vector<migration_id>> done) const {
  run<std::vector<migration_id>>(std::move(done), [=](auto& r) {
    with_volume(r, volume, [=, &r](const volume_record& record) {
      if (!within(r, record, first))
        return;
      migration_spec spec;
      spec.volume = record.id;
      spec.first = shard_index{first};
      spec.count = std::min(count, shards_of(record) - first);
      spec.to_tier = to_tier;
      if (spec.count == 0)
        return r.refuse(make_error(errc::invalid_argument, "no shards to move"));
      r.template ask<migration_supervisor_actor>(
        path::migrations, [&r](const std::vector<migration_id>& x) { r.finish(x); }, atom::start_v, spec);
    });
  });
}

void gateway::shard_verify(std::string volume, uint64_t index, answer<uint64_t> done) const {
  run_long<uint64_t>(std::move(done), [=](auto& r) {
    with_volume(r, volume, [=, &r](const volume_record& record) {
      if (!within(r, record, index))
        return;
      with_volume_actor(r, record.id, [=, &r](const volume_actor& actor) {
        r.ask_actor(
          actor,
          [=, &r](const shard_map_part& part) {
            for (const auto& x : part.homes)
              if (x.id.index.value() == index && x.exists())
                return r.template ask<tier_actor>(
                  path::tier(x.tier), [&r](uint64_t bad) { r.finish(bad); }, atom::verify_v, x.id, x.of);
            r.refuse(make_error(errc::not_found, "nothing was written to shard " + std::to_string(index) + " yet"));
          },
          atom::locate_v, shard_index{index}, uint64_t{1});
      });
    });
  });
}

void gateway::tier_list(answer<std::vector<tier_row>> done) const {
  run<std::vector<tier_row>>(std::move(done), [this](auto& r) {
    // Its own: with the last of them the request may be over, and whoever waited for that gone with this gateway.
    const auto tiers = options_.tiers;
    auto all = std::make_shared<std::vector<tier_row>>(tiers.size());
    auto left = std::make_shared<countdown>(tiers.size(), [&r, all] { r.finish(*all); });
    for (size_t i = 0; i < tiers.size(); ++i) {
      auto& x = (*all)[i];
      x.name = tiers[i];
      x.node = node_of(x.name);
      x.state = "unknown";
      x.problem = "its actor does not answer";
      const auto tier = r.directory().template get<tier_actor>(path::tier(x.name));
      if (!tier) {
        left->one();
        continue;
      }
      r.ask_or(
        tier,
        [all, i, left](const tier_info& info) {
          static_cast<tier_info&>((*all)[i]) = info;
          left->one();
        },
        [all, i, left](const caf::error& e) {
          (*all)[i].problem = context_of(e);
          left->one();
        },
        atom::get_v);
    }
  });
}

void gateway::lease_list(std::string volume, answer<std::vector<lease_info>> done) const {
  run<std::vector<lease_info>>(std::move(done), [volume](auto& r) {
    auto gather = [&r](std::vector<volume_id> ids) {
      auto all = std::make_shared<std::vector<lease_info>>();
      auto left = std::make_shared<countdown>(ids.size(), [&r, all] { r.finish(std::move(*all)); });
      for (auto id : ids)
        r.template ask<lease_manager_actor>(
          path::leases,
          [all, left](const std::vector<lease_info>& x) {
            all->insert(all->end(), x.begin(), x.end());
            left->one();
          },
          atom::list_v, id);
    };
    if (!volume.empty())
      return with_volume(r, volume, [gather](const volume_record& x) { gather({x.id}); });
    r.template ask<volume_directory_actor>(
      path::volumes,
      [gather](const std::vector<volume_record>& records) {
        std::vector<volume_id> ids;
        for (const auto& x : records)
          ids.push_back(x.id);
        gather(std::move(ids));
      },
      atom::list_v);
  });
}

void gateway::lease_break(std::string volume, uint64_t index, answer<nothing> done) const {
  run<nothing>(std::move(done), [=](auto& r) {
    with_volume(r, volume, [=, &r](const volume_record& record) {
      if (!within(r, record, index))
        return;
      r.template ask<lease_manager_actor>(
        path::leases, [&r] { r.finish({}); }, atom::evict_v, shard_id{record.id, shard_index{index}});
    });
  });
}

void gateway::lease_history(uint64_t after, uint64_t limit, answer<varve::lease_history> done) const {
  run<varve::lease_history>(std::move(done), [=](auto& r) {
    r.template ask<lease_manager_actor>(
      path::leases, [&r](const varve::lease_history& x) { r.finish(x); }, atom::list_v, after,
      std::min<uint64_t>(limit, 1000));
  });
}

void gateway::migration_list(answer<std::vector<migration_progress>> done) const {
  run<std::vector<migration_progress>>(std::move(done), [](auto& r) {
    r.template ask<migration_supervisor_actor>(
      path::migrations, [&r](const std::vector<migration_progress>& x) { r.finish(x); }, atom::list_v);
  });
}

void gateway::migration_show(migration_id id, answer<migration_progress> done) const {
  run<migration_progress>(std::move(done), [id](auto& r) {
    r.template ask<migration_supervisor_actor>(
      path::migrations,
      [&r, id](const std::vector<migration_progress>& all) {
        for (const auto& x : all)
          if (x.record.id == id)
            return r.finish(x);
        r.refuse(make_error(errc::not_found, "no migration " + std::to_string(id.value())));
      },
      atom::list_v);
  });
}

void gateway::migration_cancel(migration_id id, answer<migration_progress> done) const {
  run<migration_progress>(std::move(done), [id](auto& r) {
    r.template ask<migration_supervisor_actor>(
      path::migrations, [&r](const migration_progress& x) { r.finish(x); }, atom::cancel_v, id);
  });
}

void gateway::migration_pause(migration_id id, answer<migration_progress> done) const {
  run<migration_progress>(std::move(done), [id](auto& r) {
    r.template ask<migration_supervisor_actor>(
      path::migrations, [&r](const migration_progress& x) { r.finish(x); }, atom::pause_v, id);
  });
}

void gateway::migration_resume(migration_id id, answer<migration_progress> done) const {
  run<migration_progress>(std::move(done), [id](auto& r) {
    r.template ask<migration_supervisor_actor>(
      path::migrations, [&r](const migration_progress& x) { r.finish(x); }, atom::resume_v, id);
  });
}

std::string gateway::node_of(const std::string& tier) const {
  if (!in_cluster())
    return options_.node;
  const auto at = options_.tier_nodes.find(tier);
  return at == options_.tier_nodes.end() ? std::string{} : at->second;
}

void gateway::node_list(answer<std::vector<node_condition>> done) const {
  run<std::vector<node_condition>>(std::move(done), [](auto& r) {
    r.template ask<node_steward_actor>(
      path::nodes, [&r](const std::vector<node_condition>& x) { r.finish(x); }, atom::list_v);
  });
}

void gateway::node_change(std::string node, bool cordoned, bool draining, answer<node_condition> done) const {
  run<node_condition>(std::move(done), [=](auto& r) {
    r.template ask<node_steward_actor>(
      path::nodes, [&r](const node_condition& x) { r.finish(x); }, atom::change_v, node, cordoned, draining);
  });
}

void gateway::node_verify(std::string node, bool remove, answer<node_verdict> done) const {
  run<node_verdict>(std::move(done), [=](auto& r) {
    r.template ask<node_steward_actor>(
      path::nodes, [&r](const node_verdict& x) { r.finish(x); }, atom::verify_v, node, remove);
  });
}

void gateway::cluster_status(answer<cluster_view> done) const {
  run<cluster_view>(std::move(done), [this](auto& r) {
    if (!in_cluster())
      return r.refuse(make_error(errc::unsupported, "node " + options_.node + " is by itself, in no cluster"));
    cluster_view view;
    view.cluster = options_.cluster;
    view.node = options_.node;
    auto go_on = [this, &r](cluster_view x) {
      // The leader's view before others': what it believes is what it acts on.
      auto managers = options_.managers;
      std::stable_partition(managers.begin(), managers.end(), [&](const std::string& m) { return m == x.leader; });
      with_members(r, std::move(x), std::move(managers), [&r](cluster_view y) {
        assess(y);
        r.finish(std::move(y));
      });
    };
    auto without = [this, go_on, view](const caf::error&) mutable {
      view.leader = parts_.leader ? parts_.leader() : std::string{};
      go_on(std::move(view));
    };
    const auto monitor = parts_.directory->get<monitor_actor>(path::monitor);
    if (!monitor)
      return without({});
    r.probe(
      monitor, status_patience,
      [go_on, view](const node_status& x) mutable {
        view.leader = x.node;
        view.findings = x.findings;
        go_on(std::move(view));
      },
      without, atom::get_v);
  });
}

void gateway::with_members(bridge& on, cluster_view view, std::vector<std::string> managers,
                           std::function<void(cluster_view)> then) const {
  if (managers.empty())
    return on.refuse(
      make_error(errc::unavailable, "node " + options_.node + " reaches no manager of cluster " + options_.cluster +
                                      (parts_.why_not_managing ? ": " + parts_.why_not_managing() : std::string{})));
  const auto manager = managers.front();
  managers.erase(managers.begin());
  const auto actor =
    parts_.directory->get<membership_actor>(manager == options_.node ? path::membership : path::membership_of(manager));
  if (!actor)
    return with_members(on, std::move(view), std::move(managers), std::move(then));
  on.probe(
    actor, status_patience,
    [view, manager, then](const std::vector<member_info>& members) mutable {
      view.seen_by = manager;
      view.members = members;
      then(std::move(view));
    },
    [this, &on, view, managers, then](const caf::error&) { with_members(on, view, managers, then); }, atom::list_v);
}

void gateway::actor_list(answer<std::vector<actor_info>> done) const {
  run<std::vector<actor_info>>(std::move(done), [this](auto& r) {
    const auto root = parts_.root();
    if (!root)
      return r.refuse(make_error(errc::unavailable, "the root of the actors restarts"));
    r.ask_actor(
      root, [&r](const std::vector<actor_info>& x) { r.finish(x); }, atom::list_v);
  });
}

void gateway::actor_kill(std::string path, answer<nothing> done) const {
  run<nothing>(std::move(done), [this, path](auto& r) {
    if (!options_.allow_kill)
      return r.refuse(make_error(errc::unsupported, "killing actors needs allow_kill = true under [debug]"));
    const auto root = parts_.root();
    if (!root)
      return r.refuse(make_error(errc::unavailable, "the root of the actors restarts"));
    r.ask_actor(
      root, [&r] { r.finish({}); }, atom::kill_v, path);
  });
}

void gateway::catalog_copy(std::string path, answer<nothing> done) const {
  if (!parts_.copy_catalog)
    return done(make_error(errc::unsupported, in_cluster() ? "the catalog is not in a file of node " + options_.node +
                                                               ": ask the manager, or make a copy of etcd's"
                                                           : "this node's catalog is not in a file"),
                {});
  parts_.copy_catalog(std::move(path), [done](const catalog_result& x) {
    done(x.status == errc::none ? caf::error{} : make_error(x.status, x.context), {});
  });
}

void gateway::stop(answer<nothing> done) const {
  parts_.stop();
  done({}, {});
}

void gateway::complete(bridge& on, std::vector<volume_info> volumes,
                       std::function<void(std::vector<volume_info>)> then) const {
  auto all = std::make_shared<std::vector<volume_info>>(std::move(volumes));
  bool any = false;
  for (auto& x : *all) {
    x.clients_known = !x.record.attached();
    any |= x.record.attached();
  }
  if (!any)
    return then(std::move(*all));
  auto counted = [all, then](const std::map<volume_id, volume_counters>& counters) {
    for (auto& x : *all)
      // Attached and without a port: it is being opened, or its agent restarts; or it is at another host only.
      if (auto at = counters.find(x.record.id); x.record.attached() && at != counters.end()) {
        x.connections = at->second.connections;
        x.clients_known = !x.uri.empty();
      }
    then(std::move(*all));
  };
  auto listed = [this, &on, all, then, counted](const std::vector<attachment>& attachments) {
    for (auto& x : *all)
      for (const auto& a : attachments)
        // Where it is at two hosts: the one that is here.
        if (a.volume == x.record.id && (x.uri.empty() || a.host == options_.node))
          x.uri = a.uri;
    if (!parts_.plane)
      return then(std::move(*all));
    using counters = std::map<volume_id, volume_counters>;
    on.wait_for<counters>([plane = parts_.plane](auto done) { plane->port_counters(std::move(done)); }, counted);
  };
  auto unknown = [all, then](const caf::error&) { then(std::move(*all)); };
  const auto host = parts_.directory->get<host_supervisor_actor>(path::host);
  const auto here = [&on, host, listed, unknown](const caf::error& e) {
    if (host)
      on.ask_or(host, listed, unknown, atom::list_v);
    else
      unknown(e);
  };
  // Without the manager at least what is attached here is known.
  if (const auto hosts = parts_.directory->get<attachments_actor>(path::attachments); in_cluster() && hosts)
    on.ask_or(hosts, listed, here, atom::list_v);
  else
    here({});
}

void gateway::complete(bridge& on, volume_id volume, std::vector<shard_row> shards,
                       std::function<void(std::vector<shard_row>)> then) const {
  auto all = std::make_shared<std::vector<shard_row>>(std::move(shards));
  auto at = std::make_shared<std::map<uint64_t, size_t>>();
  std::map<std::string, tier_actor> tiers;
  for (size_t i = 0; i < all->size(); ++i) {
    (*all)[i].node = node_of((*all)[i].home.tier);
    at->emplace((*all)[i].home.id.index.value(), i);
    tiers.try_emplace((*all)[i].home.tier);
  }
  for (auto& [name, actor] : tiers)
    actor = parts_.directory->get<tier_actor>(path::tier(name));
  const auto leases = parts_.directory->get<lease_manager_actor>(path::leases);
  const auto migrations = parts_.directory->get<migration_supervisor_actor>(path::migrations);
  // A listing shows what it can: who does not answer leaves its columns empty.
  auto left = std::make_shared<countdown>(tiers.size() + 2, [all, then] { then(std::move(*all)); });
  const auto failed = [left](const caf::error&) { left->one(); };

  for (const auto& [name, actor] : tiers) {
    if (!actor) {
      left->one();
      continue;
    }
    on.ask_or(
      actor,
      [all, at, left](const std::vector<shard_info>& active) {
        for (const auto& x : active) {
          auto found = at->find(x.home.id.index.value());
          if (found == at->end() || (*all)[found->second].home.of != x.home.of)
            continue;
          auto& to = (*all)[found->second];
          to.allocated_bytes = x.allocated_bytes;
          to.active = x.active;
          to.reads = x.reads;
          to.writes = x.writes;
        }
        left->one();
      },
      failed, atom::list_v, volume);
  }
  if (leases)
    on.ask_or(
      leases,
      [all, at, left](const std::vector<lease_info>& held) {
        for (const auto& x : held) {
          auto found = at->find(x.grant.home.id.index.value());
          // Where a shard was made at the beginning of a run of absent ones, the run's lease stays, for the others.
          if (found != at->end() && x.grant.home.exists() && x.grant.mode != lease_mode::migration)
            (*all)[found->second].lease = to_string(x.grant.mode);
        }
        left->one();
      },
      failed, atom::list_v, volume);
  else
    left->one();
  if (migrations)
    on.ask_or(
      migrations,
      [all, at, left, volume](const std::vector<migration_progress>& moves) {
        for (const auto& x : moves) {
          auto found = at->find(x.record.shard.index.value());
          if (found != at->end() && x.record.shard.volume == volume && x.record.state < migration_state::committed)
            (*all)[found->second].migration = x.record.id;
        }
        left->one();
      },
      failed, atom::list_v);
  else
    left->one();
}

} // namespace varve
