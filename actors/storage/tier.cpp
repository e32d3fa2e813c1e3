#include "actors/storage/tier.hpp"

#include <algorithm>
#include <caf/exit_reason.hpp>
#include <chrono>
#include <iterator>
#include <utility>

#include "actors/shard_name.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/storage/epoch_keeper.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr caf::timespan measure_every = 1s;
/// With less room than this a tier looks before it makes a shard: more than a device takes between two measurements.
constexpr uint64_t near_bytes = 4ull << 30;
/// Of whoever waits for a look: what is known by then is no older than if nobody had looked.
constexpr caf::timespan look_patience = measure_every;
/// Long against the time between two bursts of a VM, short against what memory an active shard's tables take.
constexpr caf::timespan idle_after = 60s;
/// A keeper that ended between look-up and request is asked for again so often.
constexpr unsigned fence_attempts_max = 3;

} // namespace

tier_self::behavior_type tier(tier_self::stateful_pointer<tier_state> self, context_ptr context,
                              tier_settings settings) {
  return self->state.make_behavior(std::move(context), std::move(settings));
}

tier_self::behavior_type tier_state::make_behavior(context_ptr context, tier_settings settings) {
  context_ = std::move(context);
  settings_ = std::move(settings);
  ledger_ = tier_ledger{settings_.capacity_bytes};
  rule_.short_term = context_->options.leases.term_sensitive;
  if (context_->epochs)
    ledger_.heed(context_->epochs->manager());
  started_at_ = context_->now();
  children_.emplace(self_, context_, path::tier(settings_.store.name));
  load();
  self_->delayed_send(self_, measure_every, atom::tick_v);
  return {
    [this](atom::get) { return get(); },
    [this](atom::create, const shard_home& home, uint64_t size) { return create(home, size); },
    [this](atom::fence, const lease_grant& grant) { return fence(grant); },
    [this](atom::renew, const tier_renewal& x) { return renew(x); },
    [this](atom::release, holder_id holder, shard_id first, uint64_t count) {
      ledger_.release(holder, first, count, context_->now());
    },
    [this](atom::inventory, uint64_t incarnation) { return inventory(incarnation); },
    [this](atom::drain, bool on) { draining_ = on; },
    [this](atom::reserve, shard_id id, uint64_t bytes) { return reserve(id, bytes); },
    [this](atom::remove, shard_id id, generation of) { return remove(id, of); },
    [this](atom::publish, const shard_home& home, bool here) { publish(home, here); },
    [this](atom::verify, shard_id id, generation of) { return verify(id, of); },
    [this](atom::list, volume_id volume) { return list(volume); },
    [this](atom::list) { return stock(); },
    [](const returned& x) { x.run(); },
    [this](atom::tick) { tick(); },
    [this](atom::start, const std::string& child) { children_->on_start(child); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

caf::error tier_state::refusal() const {
  return make_error(errc::unavailable, "tier " + settings_.store.name + " is not served: " + settings_.refused);
}

void tier_state::load() {
  if (refused()) {
    context_->publish("TIER_REFUSED", "tier " + settings_.store.name + ": " + settings_.refused);
    loaded_ = true;
    return;
  }
  // Both may be slow, and shards may be made and fenced meanwhile: what the tier learns from its own acts stays.
  context_->plane->list_active(
    settings_.store.name, returning<std::vector<shard_counters>>(self_, [this](const std::vector<shard_counters>& x) {
      measured(x);
      if (settings_.is_volatile() || !context_->scan_tier) {
        loaded_ = true;
        return;
      }
      context_->scan_tier(settings_.store.name,
                          returning<tier_scan>(self_, [this](const tier_scan& found) { scanned(found); }));
    }));
}

void tier_state::scanned(const tier_scan& x) {
  // Of a time before the log, or of one that is lost: all together, so that what that takes meanwhile is given back.
  std::vector<std::pair<shard_id, epoch>> unknown;
  for (size_t i = 0; i < x.shards.size(); ++i) {
    auto& header = x.shards[i];
    const auto allocated = i < x.allocated_bytes.size() ? x.allocated_bytes[i] : 0;
    if (auto* row = ledger_.find(header.id, header.generation)) {
      row->size = header.size;
      row->fence = std::max(row->fence, header.fence);
      continue;
    }
    ledger_.put(header.id, header.generation,
                {.size = header.size,
                 .incomplete = header.incomplete,
                 .allocated = allocated,
                 .fence = header.fence,
                 .sealed_for = header.sealed_for});
    const auto known = seen(header.id);
    if (header.fence > known)
      unknown.emplace_back(header.id, header.fence);
    else if (header.fence < known && !header.incomplete && header.sealed_by.value() == 0)
      // A crash came between, or the file is an older one: nothing older than the log may reach it.
      self_->request(keeper(header.id, header.generation), context_->options.request_timeout, atom::fence_v, known)
        .then(
          [this, id = header.id, of = header.generation](const shard_summary_info& x) { activated(id, of, x); },
          [this, id = header.id](const caf::error& e) { noted(code_of(e), "raising the epoch of " + name_of(id)); });
  }
  if (context_->epochs && !unknown.empty())
    context_->epochs->raise_all(std::move(unknown), [](errc) {});
  for (auto& problem : x.problems)
    context_->publish("SHARD_FILE_UNREADABLE", "tier " + settings_.store.name + ": " + problem);
  loaded_ = true;
}

actor_facts tier_state::facts() const {
  const auto x = get();
  actor_facts facts{text_fact("state", x.state),
                    text_fact("problem", x.problem),
                    text_fact("kind", x.kind),
                    bytes_fact("capacity", x.capacity_bytes),
                    bytes_fact("used", x.used_bytes),
                    time_fact("read-latency", x.read_latency),
                    time_fact("write-latency", x.write_latency),
                    time_fact("sync-latency", x.sync_latency),
                    count_fact("shards", x.shards),
                    count_fact("shards-active", x.active_shards),
                    count_fact("leases", ledger_.leases()),
                    count_fact("grants-waiting", grants_waiting_),
                    flag_fact("draining", draining_),
                    count_fact("checksum-mismatches", x.checksum_mismatches)};
  const auto below = children_->facts();
  facts.insert(facts.end(), below.begin(), below.end());
  return facts;
}

tier_info tier_state::get() const {
  tier_info x;
  x.name = settings_.store.name;
  x.kind = settings_.store.kind == tier_kind::memory ? "memory" : "file";
  x.is_volatile = settings_.is_volatile();
  if (settings_.store.kind == tier_kind::file) {
    x.io = settings_.store.io == file_io::direct ? "direct" : "buffered";
    x.directory = settings_.store.directory;
  }
  x.capacity_bytes = settings_.capacity_bytes;
  x.used_bytes = ledger_.used_bytes();
  x.cost = settings_.cost;
  x.emulated = settings_.emulated();
  x.shards = ledger_.rows().size();
  x.active_shards = ledger_.active();
  x.id = settings_.id;
  x.state = refused() ? "refused" : !problem_.empty() ? "failed" : !loaded_ ? "unknown" : draining_ ? "draining" : "up";
  x.problem = refused() ? settings_.refused : problem_;
  x.read_latency = statistics_.read_latency_mean;
  x.write_latency = statistics_.write_latency_mean;
  x.sync_latency = statistics_.sync_latency_mean;
  x.read_bytes_per_second = statistics_.read_bytes_per_second;
  x.written_bytes_per_second = statistics_.written_bytes_per_second;
  x.reads = statistics_.reads;
  x.writes = statistics_.writes;
  x.syncs = statistics_.syncs;
  x.read_bytes = statistics_.read_bytes;
  x.written_bytes = statistics_.written_bytes;
  x.checksum_mismatches = statistics_.checksum_mismatches;
  return x;
}

caf::typed_response_promise<shard_home> tier_state::create(const shard_home& home, uint64_t size) {
  auto promise = self_->make_response_promise<shard_home>();
  if (refused()) {
    promise.deliver(refusal());
    return promise;
  }
  if (!loaded_) {
    // Without the rows nobody knows what room there is.
    promise.deliver(make_error(errc::unavailable, "tier " + settings_.store.name + " is starting"));
    return promise;
  }
  if (draining_) {
    promise.deliver(make_error(errc::unavailable, "tier " + settings_.store.name + " is draining"));
    return promise;
  }
  // One made again begins where the one before it was.
  auto begun = home;
  begun.fence = std::max(home.fence, seen(home.id));
  note_epoch(home.id, begun.fence, [this, home = begun, size, promise](errc status) mutable {
    if (status != errc::none)
      promise.deliver(make_error(status, "the epoch log, for shard " + name_of(home.id)));
    else if (ledger_.free_bytes() < near_bytes)
      look(look_patience, [this, home, size, promise] { make(home, size, promise); });
    else
      make(home, size, promise);
  });
  return promise;
}

epoch tier_state::seen(shard_id id) const {
  return context_->epochs ? context_->epochs->highest(id) : epoch{0};
}

template <class F>
void tier_state::note_epoch(shard_id id, epoch to, F then) {
  if (!context_->epochs || to.value() == 0)
    then(errc::none);
  else
    context_->epochs->raise(id, to, returning<errc>(self_, std::move(then)));
}

void tier_state::make(const shard_home& home, uint64_t size, caf::typed_response_promise<shard_home> promise) {
  if (auto refused = ledger_.admit(home); refused != errc::none) {
    promise.deliver(make_error(refused, "tier " + settings_.store.name + ", shard " + name_of(home.id)));
    return;
  }
  if (ledger_.find(home.id, home.of)) {
    adopt(home, size, promise);
    return;
  }
  shard_header header;
  header.id = home.id;
  header.size = size;
  header.generation = home.of;
  header.fence = home.fence;
  context_->plane->create_shard(
    settings_.store.name, header,
    returning<shard_summary>(self_, [this, home, size, promise](const shard_summary& x) mutable {
      if (x.status == errc::already_exists) {
        adopt(home, size, promise);
        return;
      }
      noted(x.status, "making shard " + name_of(home.id));
      if (x.status != errc::none) {
        promise.deliver(make_error(x.status, "tier " + settings_.store.name + ", shard " + name_of(home.id)));
        return;
      }
      ledger_.put(home.id, home.of,
                  {.size = size,
                   .active = true,
                   .allocated = x.allocated_bytes,
                   .fence = home.fence,
                   .last_used = context_->now()});
      promise.deliver(home);
    }));
}

void tier_state::adopt(const shard_home& home, uint64_t size, caf::typed_response_promise<shard_home> promise) {
  auto refuse = [this, home](caf::typed_response_promise<shard_home>& promise, errc code) {
    promise.deliver(make_error(code, "tier " + settings_.store.name + ", shard " + name_of(home.id) + " generation " +
                                       std::to_string(home.of.value())));
  };
  self_->request(keeper(home.id, home.of), context_->options.request_timeout, atom::fence_v, epoch{0})
    .then(
      [this, home, size, promise, refuse](const shard_summary_info& x) mutable {
        activated(home.id, home.of, x);
        // Only holes, made by the same act before a crash. Anything else is somebody's data.
        if (x.allocated_bytes == 0 && x.size == size && !x.incomplete && x.fence <= home.fence)
          promise.deliver(home);
        else
          refuse(promise, errc::already_exists);
      },
      [promise, refuse](const caf::error& e) mutable {
        const auto code = code_of(e);
        refuse(promise,
               code == errc::unavailable || code == errc::timed_out ? errc::unavailable : errc::already_exists);
      });
}

tier_load tier_state::load_now() const {
  return {draining_, grants_waiting_, statistics_.sync_latency_mean};
}

caf::typed_response_promise<lease_grant> tier_state::fence(const lease_grant& grant) {
  auto promise = self_->make_response_promise<lease_grant>();
  if (refused()) {
    promise.deliver(refusal());
    return promise;
  }
  const auto id = grant.home.id;
  auto against = ledger_.heeds(grant.manager) ? ledger_.check(grant) : errc::deposed;
  if ((against == errc::none || against == errc::not_found) && grant.fence < seen(id))
    against = errc::stale_epoch;
  // A shard that no row tells of may be there all the same: the tier may have been started a moment ago.
  if (against != errc::none && against != errc::not_found) {
    promise.deliver(make_error(against, "tier " + settings_.store.name + ", shard " + name_of(id)));
    return promise;
  }
  auto terms = rule_.grant(load_now(), grant.term, ledger_.moving(id));
  if (terms.refused != errc::none) {
    promise.deliver(make_error(terms.refused, "tier " + settings_.store.name + " is " + terms.why));
    return promise;
  }
  auto agreed = grant;
  agreed.term = terms.term;
  if (terms.limit != term_limit::none)
    agreed.limit = terms.limit;
  if (needs_no_device(agreed)) {
    ledger_.record(agreed, context_->now());
    promise.deliver(agreed);
    return promise;
  }
  ++grants_waiting_;
  note_epoch(id, grant.fence, [this, agreed, promise](errc status) mutable {
    if (status == errc::none) {
      ask_fence(std::move(agreed), promise, 0);
      return;
    }
    --grants_waiting_;
    noted(status, "writing the epoch log");
    promise.deliver(make_error(status, "the epoch log, for shard " + name_of(agreed.home.id)));
  });
  return promise;
}

bool tier_state::needs_no_device(const lease_grant& x) const {
  // An idle shard that is known to be there, whole and fenced with just this epoch, stays idle until its first I/O. Who
  // asks again for what it has got into trouble with it: then the shard is looked at.
  const auto* row = ledger_.find(x.home.id, x.home.of);
  return loaded_ && row && !row->incomplete && row->sealed_for.value() == 0 && row->fence == x.fence &&
         problem_.empty() && x.mode != lease_mode::migration && !ledger_.holds(x.holder, x.home.id);
}

void tier_state::ask_fence(lease_grant grant, caf::typed_response_promise<lease_grant> promise, unsigned attempts) {
  const auto id = grant.home.id;
  const auto of = grant.home.of;
  self_->request(keeper(id, of), context_->options.request_timeout, atom::fence_v, grant.fence)
    .then(
      [this, grant, promise](const shard_summary_info& x) mutable {
        --grants_waiting_;
        activated(grant.home.id, grant.home.of, x);
        noted(errc::none, {});
        if (x.incomplete) {
          promise.deliver(make_error(errc::unavailable, "shard " + name_of(grant.home.id) + " is a migration's sink"));
          return;
        }
        if (!ledger_.heeds(grant.manager)) {
          promise.deliver(make_error(errc::deposed, "a newer manager has asked"));
          return;
        }
        ledger_.record(grant, context_->now());
        promise.deliver(grant);
      },
      [this, grant, promise, attempts, id, of](const caf::error& e) mutable {
        const auto code = code_of(e);
        // Its keeper ended between look-up and request.
        if (code == errc::unavailable && e.category() != make_error(code).category() &&
            attempts + 1 < fence_attempts_max) {
          ask_fence(grant, promise, attempts + 1);
          return;
        }
        --grants_waiting_;
        noted(code, "activating shard " + name_of(id));
        if (code == errc::not_found) {
          ledger_.erase(id, of);
          children_->stop_one(keeper_path(id, of));
          if (!settings_.is_volatile())
            context_->publish("SHARD_MISSING", "tier " + settings_.store.name + " has no shard " + name_of(id) +
                                                 " generation " + std::to_string(of.value()));
        } else if (code == errc::bad_format || code == errc::checksum_mismatch) {
          context_->publish("SHARD_UNREADABLE", "tier " + settings_.store.name + ", shard " + name_of(id) +
                                                  " generation " + std::to_string(of.value()) + ": " + context_of(e));
        }
        promise.deliver(e);
      });
}

caf::result<std::vector<renewal_terms>> tier_state::renew(const tier_renewal& x) {
  if (refused())
    return refusal();
  if (!ledger_.heeds(x.manager))
    return make_error(errc::deposed, "a newer manager has asked");
  const auto now = context_->now();
  const auto load = load_now();
  std::vector<renewal_terms> result;
  result.reserve(x.holders.size());
  for (const auto& asked : x.holders) {
    const auto terms = rule_.renewal(load, asked.term, ledger_.moving(asked.holder));
    renewal_terms agreed{asked.holder, terms.term, terms.limit, 0};
    agreed.leases = ledger_.renew(asked.holder, now, terms.term);
    if (agreed.leases == 0)
      agreed.term = caf::timespan{0};
    result.push_back(agreed);
  }
  return result;
}

caf::typed_response_promise<tier_inventory> tier_state::inventory(uint64_t incarnation) {
  auto promise = self_->make_response_promise<tier_inventory>();
  auto told = [this, incarnation, promise](errc status) mutable {
    if (status == errc::none && !ledger_.heeds(incarnation))
      status = errc::deposed;
    if (status != errc::none)
      promise.deliver(make_error(status, status == errc::deposed ? "a newer manager has asked"
                                                                 : "the epoch log does not take the incarnation"));
    else {
      const auto& leases = context_->options.leases;
      tier_inventory found;
      found.grants = ledger_.inventory(context_->now() - leases.drift_bound);
      for (auto& x : found.grants)
        x.home.tier = settings_.store.name;
      // Of a node by itself nobody outlives it.
      found.complete = !context_->link || context_->now() - started_at_ >=
                                            std::max(leases.term, leases.term_sensitive) + 2 * leases.drift_bound;
      promise.deliver(std::move(found));
    }
  };
  if (context_->epochs)
    ledger_.heed(context_->epochs->manager());
  if (!ledger_.heeds(incarnation)) {
    told(errc::deposed);
    return promise;
  }
  // From now on, and once it is durable for good: what the last manager was granted meanwhile must be in the answer.
  ledger_.heed(incarnation);
  if (context_->epochs)
    context_->epochs->note_manager(incarnation, returning<errc>(self_, told));
  else
    told(errc::none);
  return promise;
}

caf::result<void> tier_state::reserve(shard_id id, uint64_t bytes) {
  if (refused())
    return refusal();
  if (!loaded_ && bytes > 0)
    return make_error(errc::unavailable, "tier " + settings_.store.name + " is starting");
  if (auto refused = ledger_.reserve(id, bytes); refused != errc::none)
    return make_error(refused, "tier " + settings_.store.name + " has " + std::to_string(ledger_.free_bytes()) +
                                 " bytes left, " + std::to_string(bytes) + " are needed");
  return caf::unit;
}

caf::typed_response_promise<void> tier_state::remove(shard_id id, generation of) {
  auto promise = self_->make_response_promise<void>();
  if (refused()) {
    promise.deliver(refusal());
    return promise;
  }
  self_->request(keeper(id, of), context_->options.request_timeout, atom::remove_v)
    .then(
      [this, id, of, promise]() mutable {
        ledger_.erase(id, of);
        ledger_.drop(id);
        counters_.erase({id, of});
        deliver_done(promise);
      },
      [this, id, promise](const caf::error& e) mutable {
        noted(code_of(e), "removing shard " + name_of(id));
        promise.deliver(e);
      });
  return promise;
}

void tier_state::publish(const shard_home& home, bool here) {
  if (refused())
    return;
  ledger_.reserve(home.id, 0);
  if (!here) {
    ledger_.erase(home.id, home.of);
    ledger_.drop(home.id);
    counters_.erase({home.id, home.of});
    children_->stop_one(keeper_path(home.id, home.of));
    return;
  }
  auto* row = ledger_.find(home.id, home.of);
  if (!row)
    ledger_.put(home.id, home.of, {.active = true, .fence = home.fence, .last_used = context_->now()});
  else
    row->incomplete = false;
  // Its size and what it takes; and a keeper, to passivate it one day.
  self_->request(keeper(home.id, home.of), context_->options.request_timeout, atom::fence_v, epoch{0})
    .then(
      [this, home](const shard_summary_info& x) {
        activated(home.id, home.of, x);
        // What was seen of it elsewhere has come with it, in its header; from now on it is known here, too.
        note_epoch(home.id, std::max(home.fence, x.fence), [this, id = home.id](errc status) {
          if (status != errc::none && status != errc::stale_epoch)
            context_->publish("EPOCH_NOT_LOGGED", "tier " + settings_.store.name + ", shard " + name_of(id) +
                                                    " after its move: " + to_string(status));
        });
      },
      [this, home](const caf::error& e) {
        noted(code_of(e), "activating shard " + name_of(home.id));
        context_->publish("SHARD_MISSING", "tier " + settings_.store.name + ", shard " + name_of(home.id) +
                                             " after its move: " + context_of(e));
      });
}

caf::typed_response_promise<uint64_t> tier_state::verify(shard_id id, generation of) {
  auto promise = self_->make_response_promise<uint64_t>();
  if (refused()) {
    promise.deliver(refusal());
    return promise;
  }
  // As long as it takes: a shard is at most 1 GiB, a slow tier reads some MiB per second.
  self_->request(keeper(id, of), 10min, atom::verify_v)
    .then(
      [this, id, of, promise](uint64_t bad_blocks) mutable {
        ledger_.activate(id, of, true);
        if (bad_blocks > 0)
          context_->publish("CHECKSUM_MISMATCH", "tier " + settings_.store.name + ", shard " + name_of(id) + ": " +
                                                   std::to_string(bad_blocks) + " bad blocks found by verify");
        promise.deliver(bad_blocks);
      },
      [this, id, promise](const caf::error& e) mutable {
        noted(code_of(e), "verifying shard " + name_of(id));
        promise.deliver(e);
      });
  return promise;
}

caf::typed_response_promise<std::vector<shard_info>> tier_state::list(volume_id volume) {
  auto promise = self_->make_response_promise<std::vector<shard_info>>();
  if (refused()) {
    promise.deliver(refusal());
    return promise;
  }
  if (!loaded_) {
    // Some of the rows would be taken for all.
    promise.deliver(make_error(errc::unavailable, "tier " + settings_.store.name + " is starting"));
    return promise;
  }
  // Whoever has just written wants to see it.
  look(look_patience, [this, volume, promise]() mutable { promise.deliver(rows_of(volume)); });
  return promise;
}

std::vector<shard_info> tier_state::rows_of(volume_id volume) const {
  std::vector<shard_info> result;
  auto at = ledger_.rows().lower_bound({shard_id{volume, shard_index{0}}, generation{0}});
  for (; at != ledger_.rows().end() && at->first.first.volume == volume; ++at) {
    auto& [key, row] = *at;
    if (row.incomplete)
      continue;
    shard_info x;
    x.home = {key.first, settings_.store.name, key.second, row.fence};
    x.size = row.size;
    x.offset = key.first.index.value() * row.size;
    x.allocated_bytes = row.allocated;
    x.active = row.active;
    x.lease = ledger_.mode_of(key.first);
    if (auto seen = counters_.find(key); seen != counters_.end()) {
      x.reads = seen->second.reads;
      x.writes = seen->second.writes;
    }
    result.push_back(std::move(x));
  }
  return result;
}

caf::result<std::vector<found_shard>> tier_state::stock() const {
  if (!loaded_)
    return make_error(errc::unavailable, "tier " + settings_.store.name + " is starting");
  std::vector<found_shard> result;
  result.reserve(ledger_.rows().size());
  for (auto& [key, row] : ledger_.rows())
    result.push_back({{key.first, settings_.store.name, key.second, row.fence}, row.incomplete, row.sealed_for});
  return result;
}

void tier_state::tick() {
  if (refused())
    return; // for as long as this node runs
  self_->delayed_send(self_, measure_every, atom::tick_v);
  // The holder stops by itself before its term is over; storage waits for as long beyond it.
  ledger_.expire(context_->now() - context_->options.leases.drift_bound);
  end_patience();
  if (measuring_)
    return; // a device that hangs is not asked again and again
  measuring_ = true;
  look(caf::timespan::max(), [this] {
    context_->plane->tier_statistics(returning<std::map<std::string, device_statistics>>(
      self_, [this](const std::map<std::string, device_statistics>& all) {
        measuring_ = false;
        if (auto at = all.find(settings_.store.name); at != all.end())
          statistics_ = at->second;
      }));
    passivate_idle();
  });
}

void tier_state::look(caf::timespan patience, std::function<void()> then) {
  const auto now = context_->now();
  const bool ends = patience < boot_time::max() - now;
  next_onlookers_.push_back({ends ? now + patience : boot_time::max(), std::move(then)});
  if (!looking_)
    begin_look();
}

void tier_state::begin_look() {
  looking_ = true;
  onlookers_ = std::exchange(next_onlookers_, {});
  context_->plane->list_active(
    settings_.store.name, returning<std::vector<shard_counters>>(self_, [this](const std::vector<shard_counters>& x) {
      looking_ = false;
      measured(x);
      const auto served = std::exchange(onlookers_, {});
      if (!next_onlookers_.empty())
        begin_look();
      for (auto& onlooker : served)
        onlooker.then();
    }));
}

void tier_state::end_patience() {
  const auto now = context_->now();
  std::vector<onlooker> over;
  for (auto* all : {&onlookers_, &next_onlookers_}) {
    const auto kept = std::stable_partition(all->begin(), all->end(), [now](auto& x) { return x.patient_until > now; });
    std::move(kept, all->end(), std::back_inserter(over));
    all->erase(kept, all->end());
  }
  for (auto& x : over)
    x.then();
}

void tier_state::measured(const std::vector<shard_counters>& shards) {
  const auto now = context_->now();
  for (auto& [key, row] : counters_)
    ledger_.activate(key.first, key.second, false);
  const auto before = std::exchange(counters_, {});
  for (auto& x : shards) {
    if (!ledger_.find(x.id, x.of))
      ledger_.put(x.id, x.of, {.size = x.size, .allocated = x.allocated_bytes, .fence = x.fence, .last_used = now});
    ledger_.activate(x.id, x.of, true);
    ledger_.measure(x.id, x.of, x.allocated_bytes, x.reads + x.writes, now);
    counters_[{x.id, x.of}] = x;
    // What was leased idle has had its first I/O.
    if (before.count({x.id, x.of}) == 0 && ledger_.leased(x.id) && !ledger_.find(x.id, x.of)->incomplete)
      keeper(x.id, x.of);
  }
}

void tier_state::passivate_idle() {
  // Memory holds the data anyway. And after its own restart the tier does not know for a term who holds what.
  if (settings_.is_volatile() || context_->now() - started_at_ < context_->options.leases.term)
    return;
  for (auto& [id, of] : ledger_.idle(context_->now(), idle_after))
    self_->request(keeper(id, of), context_->options.request_timeout, atom::stop_v)
      .then(
        [this, id = id, of = of] {
          counters_.erase({id, of});
          if (!ledger_.leased(id))
            ledger_.activate(id, of, false);
        },
        [this, id = id, of = of](const caf::error&) {
          // In use after all: not before it has been idle for as long again.
          if (auto* row = ledger_.find(id, of))
            row->last_used = context_->now();
        });
}

void tier_state::activated(shard_id id, generation of, const shard_summary_info& x) {
  auto* row = ledger_.find(id, of);
  if (row && row->active && row->size == x.size) {
    row->fence = std::max(row->fence, x.fence); // measurements know better what it takes by now
    return;
  }
  ledger_row fresh = row ? *row : ledger_row{};
  fresh.size = x.size;
  fresh.allocated = x.allocated_bytes;
  fresh.fence = std::max(fresh.fence, x.fence);
  fresh.incomplete = x.incomplete;
  fresh.active = true;
  fresh.last_used = context_->now();
  ledger_.put(id, of, fresh);
}

void tier_state::noted(errc code, const std::string& what) {
  if (code == errc::none) {
    problem_.clear();
  } else if (code == errc::device_failed || code == errc::shard_failed) {
    if (problem_.empty())
      context_->publish("TIER_FAILED", "tier " + settings_.store.name + ": " + to_string(code) + " when " + what);
    problem_ = std::string(to_string(code)) + " when " + what;
  }
}

shard_keeper_actor tier_state::keeper(shard_id id, generation of) {
  const auto path = keeper_path(id, of);
  auto present = children_->get<shard_keeper_actor>(path);
  if (present)
    return present;
  if (children_->contains(path)) {
    // It has died and waits for its restart; the policy has counted that already, and a lease is waiting for it.
    children_->on_start(path);
    return children_->get<shard_keeper_actor>(path);
  }
  children_->start({path, shard_keeper_state::name, [this, id, of] {
                      return caf::actor_cast<caf::strong_actor_ptr>(
                        self_->spawn(shard_keeper, context_, settings_.store.name, id, of));
                    }});
  return children_->get<shard_keeper_actor>(path);
}

std::string tier_state::keeper_path(shard_id id, generation of) const {
  return path::tier(settings_.store.name) + "/" + name_of(id) + "." + std::to_string(of.value());
}

} // namespace varve
