#include "actors/management/lease_manager.hpp"

#include <algorithm>

#include "actors/cluster/leading.hpp"
#include "actors/supervision/children.hpp"
#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr caf::timespan retry_after = 200ms;
/// How soon a tier that is back is noticed: a look into the directory.
constexpr caf::timespan look_every = 1s;
/// Acquisitions under way, those that wait included.
constexpr size_t acquisitions_max = 10'000;
/// Events kept for `lease watch`: some 250 bytes each.
constexpr size_t history_max = 4096;
constexpr caf::timespan ends_grain = 16ms;

std::string path_of(lease_id id) {
  return path::leases + "/" + std::to_string(id.value());
}

} // namespace

lease_manager_self::behavior_type lease_manager(lease_manager_self::stateful_pointer<lease_manager_state> self,
                                                context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

lease_manager_self::behavior_type lease_manager_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  living_ = std::make_shared<living>();
  due_.start(self_, context_->options.request_timeout);
  led_as_ = leads_as(*context_);
  const auto& leases = context_->options.leases;
  unknown_until_ = context_->now() + std::max(leases.term, leases.term_sensitive) + leases.drift_bound;
  wait_until_ = context_->now() + context_->options.request_timeout / 2;
  for (const auto& x : context_->options.tiers)
    inventory_open_.insert(x.store.name);
  self_->set_down_handler([this](const caf::down_msg& x) { lease_down(x); });
  self_->attach_functor([living = living_, context = context_] {
    for (auto& [id, actor] : living->actors) {
      context->directory->remove(path_of(id), caf::actor_cast<caf::actor_addr>(actor));
      caf::anon_send_exit(caf::actor_cast<caf::actor>(actor), caf::exit_reason::kill);
    }
    living->actors.clear();
  });
  self_->send(self_, atom::tick_v);
  self_->delayed_send(self_, look_every, atom::verify_v);
  return {
    [this](atom::acquire, lease_request& request, lease_holder_actor& holder) { return acquire(request, holder); },
    [this](atom::change, lease_request& request) { return change(request); },
    [this](atom::renew, holder_id holder) { return renew(holder); },
    [this](atom::release, holder_id holder, shard_id first, uint64_t count) { release(holder, first, count); },
    [this](atom::evict, shard_id shard) { return evict(shard); },
    [this](atom::refresh, const shard_home& home) { refresh(home); },
    [this](atom::list, volume_id volume) { return list(volume); },
    [this](atom::list, uint64_t after, uint64_t limit) { return history(after, limit); },
    [this](atom::expire) {
      looks_at_ = boot_time::max();
      look_at_leases();
    },
    [this](atom::revoke, lease_id id) { revoke(id); },
    [this](atom::release, lease_id id, bool clean) { revoked(id, clean); },
    [this](atom::change, lease_id id, bool clean) { lowered(id, clean); },
    [this](atom::renew, uint64_t id) { renewal_time_over(id); },
    [this](atom::tick) {
      asking_again_ = false;
      take_over();
    },
    [this](atom::verify) { look_for_tiers(); },
    [this](atom::stop) {
      timing_ = false;
      look_at_time();
    },
    [this](atom::cancel) {
      answers_timed_ = false;
      look_at_answers();
    },
    [this](atom::resume, uint64_t id) {
      if (id == woken_soon)
        waking_soon_ = false;
      if (id == 0 || id == woken_soon) {
        wake_waiting();
        return;
      }
      if (acquisitions_.count(id))
        begin(id);
    },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts lease_manager_state::facts() const {
  return {count_fact("leases", table_.size()),
          count_fact("leases-max", context_->options.leases.leases_max),
          count_fact("incarnation", incarnation_),
          count_fact("holders", handles_.size()),
          count_fact("acquisitions", acquisitions_.size()),
          count_fact("evictions", evictions_.size()),
          count_fact("renewals", renewals_.size()),
          count_fact("inventories-missing", inventory_open_.size())};
}

// -- starting
// ----------------------------------------------------------------------------------------------------------

void lease_manager_state::take_over() {
  if (incarnation_ == 0) {
    auto again = [this](const caf::error& e) {
      if (code_of(e) == errc::limit_reached || code_of(e) == errc::bad_format || !leads())
        self_->quit(e);
      else
        ask_again();
    };
    auto catalog = context_->directory->get<catalog_actor>(path::catalog);
    if (!catalog) {
      again(make_error(errc::unavailable, path::catalog));
      return;
    }
    self_->request(catalog, context_->options.request_timeout, atom::get_v)
      .then(
        [this](uint64_t incarnation) {
          if (incarnation_ != 0)
            return; // asked twice
          incarnation_ = incarnation;
          table_ = lease_table{incarnation};
          take_over();
        },
        [this, again](const caf::error& e) {
          // Storage knows a newer manager, and the catalog does not take this one's word either.
          if (refused_ && code_of(e) == errc::unavailable)
            self_->quit(e);
          else
            again(e);
        });
    return;
  }
  for (const auto& tier : inventory_open_)
    if (inventory_asked_.count(tier) == 0)
      take_inventory(tier);
}

void lease_manager_state::ask_again() {
  // One timer for all that did not answer: each round asks all of them.
  if (!std::exchange(asking_again_, true))
    self_->delayed_send(self_, retry_after, atom::tick_v);
}

void lease_manager_state::take_inventory(const std::string& name) {
  auto again = [this, name, asked = incarnation_](const caf::error& e) {
    if (asked != incarnation_)
      return; // of what this manager was called before
    inventory_asked_.erase(name);
    if (code_of(e) == errc::deposed) {
      refused(e);
      return;
    }
    ask_again();
  };
  auto tier = context_->directory->get<tier_actor>(path::tier(name));
  if (!tier) {
    again(make_error(errc::unavailable, path::tier(name)));
    return;
  }
  inventory_asked_.insert(name);
  self_->request(tier, context_->options.request_timeout, atom::inventory_v, incarnation_)
    .then(
      [this, name, tier, asked = incarnation_](const tier_inventory& found) {
        if (asked != incarnation_)
          return;
        inventory_asked_.erase(name);
        if (inventory_open_.erase(name) == 0)
          return;
        heard_by_[name] = tier.address();
        if (!found.complete)
          doubtful_.insert(name);
        const auto& options = context_->options.leases;
        for (auto x : found.grants) {
          // The term that is left is storage's view; the holder may have been renewed a moment ago by the last manager.
          const auto full = std::max({options.term, options.term_sensitive, x.term});
          // From its next renewal on the shorter one, until it asks again: the volume's sensitivity is not known here.
          x.term = std::min(options.term, options.term_sensitive);
          table_.adopt(x, context_->now() + full + options.drift_bound);
          for (auto id : table_.of_holder(x.holder, x.home.id, 1))
            begin_lease(id);
        }
        wake_later();
      },
      again);
}

void lease_manager_state::look_for_tiers() {
  self_->delayed_send(self_, look_every, atom::verify_v);
  if (incarnation_ == 0)
    return;
  for (const auto& x : context_->options.tiers) {
    const auto& name = x.store.name;
    auto tier = context_->directory->get<tier_actor>(path::tier(name));
    // What has not said yet what is outstanding is asked for that.
    if (!tier || inventory_open_.count(name) != 0 || heard_by_[name] == tier.address())
      continue;
    // Started again, perhaps with its node: it knows of no lease, and of no manager. What is outstanding there only
    // this table knows.
    heard_by_[name] = tier.address();
    self_->request(tier, context_->options.request_timeout, atom::inventory_v, incarnation_)
      .then(
        [this, name](const tier_inventory&) {
          for (auto holder : table_.holders_on(name))
            record_again(holder, name);
        },
        [this, name, asked = incarnation_](const caf::error& e) {
          if (asked != incarnation_)
            return;
          if (code_of(e) == errc::deposed)
            refused(e);
          else
            heard_by_[name] = {};
        });
  }
}

void lease_manager_state::refused(const caf::error& e) {
  if (ready() || !leads()) {
    // There is a newer manager: this one must not grant anything any more.
    self_->quit(e);
    return;
  }
  // Or the catalog is an older one, rebuilt or brought back, and storage has seen more managers than it knows of.
  // Nothing has been granted yet: with the catalog's leave this one is the newest. Who leads the catalog no more gets
  // none: what it writes there is compared with the leader's key.
  refused_ = true;
  incarnation_ = 0;
  // What was learnt is learnt again, under other numbers.
  for (auto& [id, actor] : living_->actors)
    stop_lease(id, actor);
  living_->actors.clear();
  ends_.clear();
  doubtful_.clear();
  inventory_asked_.clear();
  heard_by_.clear();
  for (const auto& x : context_->options.tiers)
    inventory_open_.insert(x.store.name);
  self_->send(self_, atom::tick_v);
}

bool lease_manager_state::leads() const {
  return leads_as(*context_) == led_as_;
}

bool lease_manager_state::ready() const {
  return leads() && incarnation_ != 0 && (inventory_open_.empty() || context_->now() >= wait_until_);
}

// -- the interface
// -----------------------------------------------------------------------------------------------------

caf::typed_response_promise<std::vector<lease_grant>> lease_manager_state::acquire(lease_request& request,
                                                                                   lease_holder_actor& holder) {
  auto promise = self_->make_response_promise<std::vector<lease_grant>>();
  if (request.holder.value() == 0 || request.count == 0 || !holder) {
    promise.deliver(make_error(errc::invalid_argument, "a lease needs a holder and at least one shard"));
    return promise;
  }
  if (acquisitions_.size() >= acquisitions_max || table_.size() >= context_->options.leases.leases_max) {
    promise.deliver(make_error(errc::limit_reached, std::to_string(context_->options.leases.leases_max) + " leases"));
    return promise;
  }
  const auto id = ++next_;
  auto& x = acquisitions_[id];
  x.request = request;
  x.holder = std::move(holder);
  // From its first question on a restarted vm_agent is the one to be asked to give way.
  if (auto known = handles_.find(request.holder); known != handles_.end())
    known->second = x.holder;
  x.promise = promise;
  x.until = context_->now() + context_->options.leases.acquire_timeout;
  look_at_time();
  begin(id);
  return promise;
}

caf::result<std::vector<lease_grant>> lease_manager_state::change(lease_request& request) {
  if (!ready())
    return make_error(errc::unavailable, "the lease manager is starting");
  if (request.mode == lease_mode::migration)
    return make_error(errc::invalid_argument, "a lease cannot become a migration's");
  lease_holder_actor holder;
  for (auto id : table_.of_holder(request.holder, request.first, request.count)) {
    const auto* row = table_.find(id);
    if (!row->exists() || !row->granted || row->mode == lease_mode::migration)
      continue;
    holder = handle_of(*row);
    if (request.mode == lease_mode::read)
      table_.lower(id);
  }
  if (!holder)
    return make_error(errc::not_found, "holder " + std::to_string(request.holder.value()) + " has no lease to change");
  // What it has stays, whatever comes of this: storage hears of the new mode, or the claim is given up.
  const auto before = next_;
  auto promise = acquire(request, holder);
  if (auto at = acquisitions_.find(before + 1); at != acquisitions_.end())
    at->second.held_only = true;
  return promise;
}

void lease_manager_state::release(holder_id holder, shard_id first, uint64_t count) {
  std::set<std::string> tiers;
  for (auto id : table_.of_holder(holder, first, count)) {
    auto grant = table_.grant(id);
    if (grant.home.exists())
      tiers.insert(grant.home.tier);
    note(lease_change::released, std::move(grant));
    end(id, true);
  }
  // Storage forgets by range, too: 0 is all of the holder's, which may have other volumes only in theory.
  for (const auto& name : tiers)
    if (auto tier = context_->directory->get<tier_actor>(path::tier(name)))
      self_->send(tier, atom::release_v, holder, first, count);
}

caf::typed_response_promise<void> lease_manager_state::evict(shard_id shard) {
  auto promise = self_->make_response_promise<void>();
  if (!ready()) {
    promise.deliver(make_error(errc::unavailable, "the lease manager is starting"));
    return promise;
  }
  const auto id = ++next_;
  auto& x = evictions_[id];
  x.shard = shard;
  x.promise = promise;
  const auto held = table_.overlapping(shard, 1);
  x.open = {held.begin(), held.end()};
  if (x.open.empty()) {
    // Nobody that we know of: a tier that was started again tells a new manager of nobody.
    evicted(id);
    return promise;
  }
  for (auto lease : held)
    revoke(lease);
  return promise;
}

void lease_manager_state::evicted(uint64_t id) {
  auto x = std::move(evictions_.at(id));
  evictions_.erase(id);
  auto volume = context_->directory->get<volume_actor>(path::volume(x.shard.volume.value()));
  if (!volume) {
    x.promise.deliver(make_error(errc::unavailable, path::volume(x.shard.volume.value())));
    return;
  }
  // All has been taken away; what did not answer is shut out at storage now, not only at the next grant.
  self_->request(volume, context_->options.request_timeout, atom::locate_v, x.shard.index, uint64_t{1})
    .then(
      [this, x](const shard_map_part& part) mutable {
        if (part.homes.empty()) {
          deliver_done(x.promise);
          return;
        }
        lease_grant fence;
        fence.home = part.homes.front();
        fence.fence = table_.next_epoch();
        fence.manager = incarnation_;
        auto tier = context_->directory->get<tier_actor>(path::tier(fence.home.tier));
        if (!tier) {
          x.promise.deliver(make_error(errc::unavailable, path::tier(fence.home.tier)));
          return;
        }
        self_->request(tier, context_->options.request_timeout, atom::fence_v, fence)
          .then(
            [this, x, tier](const lease_grant& agreed) mutable {
              self_->send(tier, atom::release_v, agreed.holder, x.shard, uint64_t{1});
              deliver_done(x.promise);
            },
            [x](caf::error& e) mutable { x.promise.deliver(std::move(e)); });
      },
      [x](caf::error& e) mutable { x.promise.deliver(std::move(e)); });
}

void lease_manager_state::refresh(const shard_home& home) {
  table_.moved(home);
  std::set<holder_id> told;
  for (auto id : table_.overlapping(home.id, 1)) {
    const auto* row = table_.find(id);
    if (!row->exists() || row->mode == lease_mode::migration || !told.insert(row->holder).second)
      continue;
    // First: requests park from the gate's opening until the route is there.
    if (auto holder = handle_of(*row))
      self_->send(holder, atom::refresh_v, home);
  }
  for (auto id : table_.overlapping(home.id, 1)) {
    const auto* row = table_.find(id);
    if (!row->exists() || !row->granted)
      continue;
    // The new home's storage records whose it is; were it to refuse, the holder's first I/O there does, and it asks
    // again.
    auto grant = table_.grant(id);
    if (auto tier = context_->directory->get<tier_actor>(path::tier(grant.home.tier)))
      self_->request(tier, context_->options.request_timeout, atom::fence_v, std::move(grant))
        .then([](const lease_grant&) {},
              [this, id](const caf::error& e) {
                context_->publish("LEASE_NOT_RECORDED",
                                  "lease " + std::to_string(id.value()) + " at the shard's new home: " + context_of(e));
              });
  }
}

void lease_manager_state::note(lease_change what, lease_grant grant, std::string why) {
  if (why.empty() && grant.limit != term_limit::none)
    why = std::string{"term shortened: "} + to_string(grant.limit);
  if (history_.size() >= history_max)
    history_.pop_front();
  history_.push_back({++happened_, context_->wall_seconds(), what, std::move(grant), std::move(why)});
}

lease_history lease_manager_state::history(uint64_t after, uint64_t limit) const {
  lease_history result;
  result.incarnation = incarnation_;
  result.newest = happened_;
  auto at = std::lower_bound(history_.begin(), history_.end(), after + 1,
                             [](const lease_event& x, uint64_t number) { return x.number < number; });
  const auto count = std::min<uint64_t>(limit, static_cast<uint64_t>(history_.end() - at));
  result.events.assign(at, at + static_cast<std::ptrdiff_t>(count));
  return result;
}

std::vector<lease_info> lease_manager_state::list(volume_id volume) const {
  std::vector<lease_info> result;
  const auto now = context_->now();
  for (auto id : table_.of_volume(volume)) {
    const auto* row = table_.find(id);
    lease_info x;
    x.grant = table_.grant(id);
    x.remaining = caf::timespan{std::max<int64_t>(0, (row->until - now).count())};
    x.state = row->revoking ? "revoking" : row->granted ? "granted" : "granting";
    result.push_back(std::move(x));
  }
  return result;
}

// -- leases
// ------------------------------------------------------------------------------------------------------------

void lease_manager_state::begin_lease(lease_id id) {
  if (living_->actors.count(id) != 0)
    return;
  start_lease(id);
  end_when(table_.find(id)->until, id);
}

void lease_manager_state::end_when(boot_time until, lease_id id) {
  // Many at a time: the manager may end a lease a little later than it says.
  const auto at = boot_time{(until.count() / ends_grain.count() + 1) * ends_grain.count()};
  ends_[at].push_back(id);
  if (at >= looks_at_)
    return;
  looks_at_ = at;
  self_->delayed_send(self_, std::max<caf::timespan>(at - context_->now(), 1ms), atom::expire_v);
}

void lease_manager_state::look_at_leases() {
  const auto now = context_->now();
  if (!leads()) {
    // Another may have renewed them. What is left to do is to end, as soon as that is told.
    looks_at_ = now + retry_after;
    self_->delayed_send(self_, retry_after, atom::expire_v);
    return;
  }
  while (!ends_.empty() && ends_.begin()->first <= now) {
    const auto due = std::move(ends_.begin()->second);
    ends_.erase(ends_.begin());
    for (auto id : due) {
      if (const auto* row = table_.find(id); row && row->until > now)
        end_when(row->until, id);
      else
        expired(id);
    }
  }
  if (ends_.empty() || ends_.begin()->first >= looks_at_)
    return;
  looks_at_ = ends_.begin()->first;
  self_->delayed_send(self_, std::max<caf::timespan>(looks_at_ - now, 1ms), atom::expire_v);
}

void lease_manager_state::start_lease(lease_id id) {
  auto actor = self_->system().spawn(lease, caf::actor_cast<lease_owner_actor>(self_), id);
  living_->actors[id] = caf::actor_cast<caf::strong_actor_ptr>(actor);
  self_->monitor(actor);
  context_->directory->put(path_of(id), actor);
}

void lease_manager_state::stop_lease(lease_id id, const caf::strong_actor_ptr& actor) {
  const auto address = caf::actor_cast<caf::actor_addr>(actor);
  context_->directory->remove(path_of(id), address);
  self_->demonitor(address);
  caf::anon_send_exit(caf::actor_cast<caf::actor>(actor), caf::exit_reason::user_shutdown);
}

void lease_manager_state::revoke(lease_id id) {
  const auto* row = table_.find(id);
  auto actor = living_->actors.find(id);
  // One that storage has not agreed to yet is revoked by whoever waits, once it has.
  if (!row || actor == living_->actors.end())
    return;
  if (is_unknown(*row)) {
    find_host(id, false);
    return;
  }
  table_.revoking(id);
  auto holder = handle_of(*row);
  if (!holder) {
    self_->delayed_send(self_, context_->options.leases.grace, atom::release_v, id, false);
    return;
  }
  self_->send(caf::actor_cast<lease_actor>(actor->second), atom::revoke_v, holder, row->first, row->count,
              context_->options.leases.grace);
}

void lease_manager_state::lower(lease_id id) {
  const auto* row = table_.find(id);
  // An upgrade that storage has not agreed to yet is lowered by whoever waits, once it has: its holder, asked before it
  // knows of it, would say that it does not write, and then be told that it may.
  if (!row || row->lowering || row->agreed != lease_mode::write || living_->actors.count(id) == 0)
    return;
  if (is_unknown(*row)) {
    find_host(id, true);
    return;
  }
  table_.lowering(id);
  ask_to_lower(id);
}

void lease_manager_state::ask_to_lower(lease_id id) {
  const auto* row = table_.find(id);
  auto actor = living_->actors.find(id);
  if (!row || actor == living_->actors.end())
    return;
  if (auto holder = handle_of(*row))
    self_->send(caf::actor_cast<lease_actor>(actor->second), atom::change_v, holder, row->first,
                context_->options.leases.grace);
  else
    revoke(id);
}

void lease_manager_state::lowered(lease_id id, bool clean) {
  const auto* row = table_.find(id);
  if (!row || row->revoking)
    return;
  if (!clean) {
    revoke(id);
    return;
  }
  table_.lower(id);
  auto grant = table_.grant(id);
  note(lease_change::changed, grant, "others read");
  // Others wait until storage knows, too; were it not to answer, the lease is as good as broken.
  auto tier = context_->directory->get<tier_actor>(path::tier(grant.home.tier));
  if (!tier) {
    revoke(id);
    return;
  }
  self_->request(tier, context_->options.request_timeout, atom::fence_v, std::move(grant))
    .then([this](const lease_grant&) { wake_later(); }, [this, id](const caf::error&) { revoke(id); });
}

void lease_manager_state::revoked(lease_id id, bool clean) {
  const auto* row = table_.find(id);
  if (!row)
    return;
  if (!clean && !row->exists()) {
    // Nobody can be shut out of shards that do not exist: its reads ask no storage. It ends with its term, unless a
    // vm_agent that was just starting again gives it back.
    self_->delayed_send(self_, retry_after, atom::revoke_v, id);
    return;
  }
  if (!clean)
    context_->publish("LEASE_BROKEN", "holder " + std::to_string(row->holder.value()) + " did not give back shard " +
                                        std::to_string(row->first.volume.value()) + "." +
                                        std::to_string(row->first.index.value()) + " in time");
  note(clean ? lease_change::released : lease_change::broken, table_.grant(id), clean ? "asked to give way" : "");
  // What is broken for good is told to storage, which may then passivate the shard.
  if (row->exists())
    if (auto tier = context_->directory->get<tier_actor>(path::tier(table_.grant(id).home.tier)))
      self_->send(tier, atom::release_v, row->holder, row->first, row->count);
  end(id, clean);
}

void lease_manager_state::expired(lease_id id) {
  auto actor = living_->actors.find(id);
  if (actor == living_->actors.end())
    return;
  const auto* row = table_.find(id);
  if (!row) {
    // Swallowed by a larger run.
    caf::anon_send_exit(caf::actor_cast<caf::actor>(actor->second), caf::exit_reason::user_shutdown);
    return;
  }
  // Of a run its holder's leases on shards that were made inside go on.
  const auto what = row->exists() ? "shard " : std::to_string(row->count) + " absent shards from ";
  context_->publish("LEASE_EXPIRED", "holder " + std::to_string(row->holder.value()) + ", " + what +
                                       std::to_string(row->first.volume.value()) + "." +
                                       std::to_string(row->first.index.value()));
  note(lease_change::expired, table_.grant(id));
  end(id, false);
}

uint64_t lease_manager_state::revision_of(holder_id holder) const {
  const auto at = revisions_.find(holder);
  return (incarnation_ << 32) + (at == revisions_.end() ? revision_of_others_ : at->second);
}

void lease_manager_state::end(lease_id id, bool clean) {
  const auto* row = table_.find(id);
  if (!row)
    return;
  const auto holder = row->holder;
  if (!clean)
    lost(holder);
  table_.end(id, clean);
  if (auto actor = living_->actors.find(id); actor != living_->actors.end()) {
    stop_lease(id, actor->second);
    living_->actors.erase(actor);
  }
  std::vector<uint64_t> done;
  for (auto& [eviction_id, x] : evictions_)
    if (x.open.erase(id) > 0 && x.open.empty())
      done.push_back(eviction_id);
  for (auto x : done)
    evicted(x);
  if (!table_.holds(holder)) {
    handles_.erase(holder);
    hosts_.erase(holder);
    if (auto at = revisions_.find(holder); at != revisions_.end()) {
      revision_of_others_ = std::max(revision_of_others_, at->second);
      revisions_.erase(at);
    }
  }
  wake_later();
}

void lease_manager_state::wake_later() {
  // Once for all that ends in this moment.
  if (waking_)
    return;
  waking_ = true;
  self_->send(self_, atom::resume_v, uint64_t{0});
}

void lease_manager_state::lease_down(const caf::down_msg& x) {
  // One that ended by itself; whom we end we do not listen to any more.
  auto& actors = living_->actors;
  const auto at = std::find_if(actors.begin(), actors.end(),
                               [&](auto& y) { return caf::actor_cast<caf::actor_addr>(y.second) == x.source; });
  if (at == actors.end())
    return;
  const auto id = at->first;
  context_->directory->remove(path_of(id), x.source);
  actors.erase(at);
  const auto* row = table_.find(id);
  if (!row)
    return;
  // No policy: a lease has no state that could kill it again.
  context_->publish("ACTOR_RESTARTED", path_of(id) + ": " + context_of(x.reason));
  start_lease(id);
  if (row->revoking)
    revoke(id);
  else if (row->lowering)
    ask_to_lower(id);
}

bool lease_manager_state::is_unknown(const lease_row& x) const {
  return x.mode != lease_mode::migration && handles_.count(x.holder) == 0 && hosts_.count(x.holder) == 0;
}

lease_holder_actor lease_manager_state::handle_of(const lease_row& x) const {
  if (auto at = handles_.find(x.holder); at != handles_.end())
    return at->second;
  // Learnt from storage by a new manager. Not just any agent of the volume: it may be attached at several hosts.
  auto host = hosts_.find(x.holder);
  if (x.mode == lease_mode::migration || host == hosts_.end() || host->second.empty())
    return {};
  if (host->second == context_->options.name)
    return context_->directory->get<lease_holder_actor>(path::vm_agent(x.first.volume.value()));
  return context_->directory->get<lease_holder_actor>(path::host_of(host->second));
}

void lease_manager_state::attached_at(const volume_record& record) {
  for (const auto& x : record.attachments)
    if (table_.holds(x.holder))
      hosts_[x.holder] = x.host;
}

void lease_manager_state::find_host(lease_id id, bool to_read) {
  const auto* row = table_.find(id);
  const auto holder = row->holder;
  const auto volume = row->first.volume;
  auto known = [this, id, holder, to_read](const std::string& host) {
    if (!table_.holds(holder))
      return;
    hosts_.try_emplace(holder, host);
    if (to_read)
      lower(id);
    else
      revoke(id);
  };
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes) {
    self_->delayed_send(self_, retry_after, atom::revoke_v, id);
    return;
  }
  self_->request(volumes, context_->options.request_timeout, atom::get_v, std::to_string(volume.value()))
    .then(
      [known, holder, volume](const volume_record& x) {
        const auto* at = x.id == volume ? x.of(holder) : nullptr;
        known(at ? at->host : std::string{});
      },
      [this, known, id](const caf::error& e) {
        if (code_of(e) == errc::not_found)
          known({});
        else
          self_->delayed_send(self_, retry_after, atom::revoke_v, id); // until somebody says, or it ends with its term
      });
}

} // namespace varve
