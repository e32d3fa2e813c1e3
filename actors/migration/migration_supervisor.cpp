#include "actors/migration/migration_supervisor.hpp"

#include <algorithm>
#include <chrono>

#include "actors/shard_name.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

/// Not over at a time, running or not.
constexpr size_t migrations_max = 65'536;
constexpr uint64_t journal_page = 256;
/// Entries removed in one batch: not every store takes more (etcd).
constexpr size_t pruned_max = 100;

caf::timespan back_off(uint64_t attempts) {
  return std::min<caf::timespan>(20ms * (1u << std::min<uint64_t>(attempts, 6)), 1s);
}

bool is_over(const migration_record& x) {
  return x.state == migration_state::committed || x.state == migration_state::aborted;
}

/// Whether its gate may be closed, so that a VM waits until it is finished or taken back.
bool is_urgent(const migration_record& x) {
  return x.state == migration_state::switching || is_over(x);
}

} // namespace

struct migration_supervisor_state::starting {
  migration_spec spec;
  ids_promise promise;
  tier_info destination;
  volume_actor volume;
  volume_record record;
  std::vector<shard_home> homes;
  /// What each takes at its source, as far as it is known.
  std::map<shard_id, uint64_t> bytes;
  size_t asked = 0;
  size_t answered = 0;
  caf::error refusal;
  std::set<shard_id> reserved;
  std::vector<migration_record> records;
  bool existed = false;
};

migration_supervisor_self::behavior_type
migration_supervisor(migration_supervisor_self::stateful_pointer<migration_supervisor_state> self,
                     context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

migration_supervisor_self::behavior_type migration_supervisor_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  children_.emplace(self_, context_, path::migrations);
  children_->on_death = [this](const std::string& path, const caf::error& reason) {
    if (is_orderly(reason))
      finish(migration_id{std::strtoull(path.c_str() + path::migrations.size() + 1, nullptr, 10)});
  };
  context_->plane->set_copy_budget(context_->options.migrations.budget_bytes_per_second);
  take_term(0);
  return {
    [this](atom::start, const migration_spec& spec) { return start(spec); },
    [this](atom::cancel, migration_id id) { return cancel(id); },
    [this](atom::pause, migration_id id) { return pause(id); },
    [this](atom::resume, migration_id id) { return resume(id); },
    [this](atom::list) { return list(); },
    [this](atom::publish, const migration_progress& x) { publish(x); },
    [this](atom::open, uint64_t attempts) { take_term(attempts); },
    [this](atom::tick) { look_for_tiers(); },
    [this](atom::verify, const std::string& tier) { sweep_postponed(tier); },
    [this](atom::start, const std::string& child) { children_->on_start(child); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

// -- starting
// --------------------------------------------------------------------------------------------------------------

actor_facts migration_supervisor_state::facts() const {
  actor_facts facts{flag_fact("journal-read", ready_),
                    count_fact("running", running_),
                    count_fact("waiting", waiting_.size()),
                    count_fact("ended-kept", ended_.size()),
                    count_fact("shards-busy", busy_.size()),
                    count_fact("running-max", context_->options.migrations.running_max),
                    count_fact("tiers-to-sweep", to_sweep_.size() + postponed_.size() + sweeping_)};
  const auto below = children_->facts();
  facts.insert(facts.end(), below.begin(), below.end());
  return facts;
}

migration_supervisor_state::ids_promise migration_supervisor_state::start(const migration_spec& spec) {
  auto promise = self_->make_response_promise<std::vector<migration_id>>();
  auto x = std::make_shared<starting>();
  x->spec = spec;
  x->promise = promise;
  if (!ready_)
    refuse(x, make_error(errc::unavailable, "migrations are starting"));
  else if (spec.count == 0)
    refuse(x, make_error(errc::invalid_argument, "no shards"));
  else
    check_tier(x);
  return promise;
}

void migration_supervisor_state::check_tier(starting_ptr x) {
  const auto& tiers = context_->options.tiers;
  if (std::none_of(tiers.begin(), tiers.end(), [&](auto& tier) { return tier.store.name == x->spec.to_tier; })) {
    refuse(x, make_error(errc::not_found, "tier " + x->spec.to_tier));
    return;
  }
  if (auto tier = find<tier_actor>(x, path::tier(x->spec.to_tier)))
    self_->request(tier, context_->options.request_timeout, atom::get_v)
      .then(
        [this, x](const tier_info& info) {
          x->destination = info;
          open_volume(x);
        },
        [this, x](const caf::error& e) { refuse(x, e); });
}

void migration_supervisor_state::open_volume(starting_ptr x) {
  auto volumes = find<volume_directory_actor>(x, path::volumes);
  if (!volumes)
    return;
  auto refused = [this, x](const caf::error& e) { refuse(x, e); };
  self_->request(volumes, context_->options.request_timeout, atom::open_v, x->spec.volume)
    .then(
      [this, x, refused](const volume_actor& volume) {
        x->volume = volume;
        self_->request(volume, context_->options.request_timeout, atom::get_v)
          .then(
            [this, x](const volume_info& info) {
              x->record = info.record;
              if (x->destination.is_volatile && !x->record.spec.is_volatile)
                refuse(x, make_error(errc::volatile_tier, "tier " + x->destination.name +
                                                            " forgets everything when the node stops, and volume " +
                                                            x->record.spec.name +
                                                            " is not volatile: its only copy would be lost"));
              else
                locate(x, x->spec.first.value());
            },
            refused);
      },
      refused);
}

void migration_supervisor_state::locate(starting_ptr x, uint64_t from) {
  const auto end = x->spec.first.value() + x->spec.count;
  self_->request(x->volume, context_->options.request_timeout, atom::locate_v, shard_index{from}, end - from)
    .then(
      [this, x, from, end](const shard_map_part& part) {
        for (auto& home : part.homes)
          if (home.id.index.value() >= from && home.id.index.value() < end) {
            x->existed = true;
            x->homes.push_back(home);
          }
        const auto reached = part.end.value();
        if (reached > from && reached < end) {
          locate(x, reached);
          return;
        }
        if (!x->existed) {
          refuse(x, make_error(errc::not_found, "nothing was written there yet"));
          return;
        }
        std::erase_if(x->homes, [&](auto& home) { return home.tier == x->spec.to_tier; });
        const auto elsewhere = x->homes.size();
        std::erase_if(x->homes, [&](auto& home) { return busy_.count(home.id) != 0; });
        const auto lost =
          std::find_if(x->homes.begin(), x->homes.end(), [&](auto& home) { return !served(home.tier); });
        if (lost != x->homes.end()) {
          const auto tier = lost->tier;
          x->homes.clear();
          refuse(x, make_error(errc::unavailable, "tier " + tier + " is not served"));
          return;
        }
        if (x->homes.empty() && elsewhere > 0) {
          refuse(x, make_error(errc::already_exists, "a migration is moving it already"));
          return;
        }
        if (rows_.size() + x->homes.size() > migrations_max) {
          auto count = x->homes.size();
          x->homes.clear();
          refuse(x, make_error(errc::limit_reached, std::to_string(count) + " more migrations than the " +
                                                      std::to_string(migrations_max) + " that may wait"));
          return;
        }
        if (x->homes.empty()) {
          x->promise.deliver(std::vector<migration_id>{}); // all are there
          return;
        }
        for (auto& home : x->homes)
          busy_.insert(home.id);
        measure(x);
      },
      [this, x](const caf::error& e) { refuse(x, e); });
}

void migration_supervisor_state::measure(starting_ptr x) {
  std::set<std::string> sources;
  for (auto& home : x->homes) {
    sources.insert(home.tier);
    x->bytes[home.id] = x->record.spec.shard_size; // unless its tier knows better
  }
  x->asked = sources.size();
  x->answered = 0;
  auto answered = [this, x] {
    if (++x->answered == x->asked)
      reserve(x);
  };
  for (auto& source : sources) {
    auto tier = context_->directory->get<tier_actor>(path::tier(source));
    if (!tier) {
      answered();
      continue;
    }
    self_->request(tier, context_->options.request_timeout, atom::list_v, x->spec.volume)
      .then(
        [x, answered](const std::vector<shard_info>& shards) {
          for (auto& shard : shards)
            if (auto at = x->bytes.find(shard.home.id); at != x->bytes.end())
              at->second = std::max(shard.allocated_bytes, block_size);
          answered();
        },
        [answered](const caf::error&) { answered(); });
  }
}

void migration_supervisor_state::reserve(starting_ptr x) {
  auto tier = find<tier_actor>(x, path::tier(x->spec.to_tier));
  if (!tier)
    return;
  x->asked = x->homes.size();
  x->answered = 0;
  auto answered = [this, x] {
    if (++x->answered < x->asked)
      return;
    if (x->refusal)
      refuse(x, x->refusal);
    else
      number(x);
  };
  for (auto& home : x->homes)
    self_->request(tier, context_->options.request_timeout, atom::reserve_v, home.id, x->bytes[home.id])
      .then(
        [x, id = home.id, answered] {
          x->reserved.insert(id);
          answered();
        },
        [x, answered](const caf::error& e) {
          if (!x->refusal)
            x->refusal = e;
          answered();
        });
}

void migration_supervisor_state::number(starting_ptr x) {
  auto catalog = find<catalog_actor>(x, path::catalog);
  if (!catalog)
    return;
  self_->request(catalog, context_->options.request_timeout, atom::acquire_v, key::next_migration, x->homes.size())
    .then(
      [this, x](uint64_t id) {
        for (auto& home : x->homes) {
          migration_record record;
          record.id = migration_id{id++};
          record.shard = home.id;
          record.from_tier = home.tier;
          record.to_tier = x->spec.to_tier;
          record.from = home.of;
          record.to = generation{home.of.value() + 1};
          record.started_at = context_->wall_seconds();
          x->records.push_back(std::move(record));
        }
        journal(x);
      },
      [this, x](const caf::error& e) { refuse(x, e); });
}

void migration_supervisor_state::journal(starting_ptr x) {
  auto records = std::move(x->records);
  x->records.clear();
  x->asked = records.size();
  x->answered = 0;
  auto answered = [this, x] {
    if (++x->answered == x->asked)
      journalled(x);
  };
  for (auto& record : records)
    self_->request(x->volume, context_->options.request_timeout, atom::commit_v, record)
      .then(
        [x, answered](const migration_record& taken) {
          x->records.push_back(taken);
          answered();
        },
        [x, answered](const caf::error& e) {
          x->refusal = e;
          answered();
        });
}

void migration_supervisor_state::journalled(starting_ptr x) {
  if (x->records.empty()) {
    refuse(x, x->refusal);
    return;
  }
  std::sort(x->records.begin(), x->records.end(), [](auto& a, auto& b) { return a.id < b.id; });
  std::vector<migration_id> ids;
  for (auto& record : x->records) {
    ids.push_back(record.id);
    add(record);
    rows_[record.id].progress.bytes_total = x->bytes[record.shard];
    std::erase_if(x->homes, [&](auto& home) { return home.id == record.shard; });
  }
  // Some have moved meanwhile by another's hand: the others go on.
  auto tier = context_->directory->get<tier_actor>(path::tier(x->spec.to_tier));
  for (auto& home : x->homes) {
    busy_.erase(home.id);
    if (tier)
      self_->request(tier, context_->options.request_timeout, atom::reserve_v, home.id, uint64_t{0})
        .then([] {}, [](const caf::error&) {}); // forgotten with the tier
  }
  x->promise.deliver(std::move(ids));
  run_more();
}

void migration_supervisor_state::refuse(starting_ptr x, const caf::error& e) {
  for (auto& home : x->homes)
    busy_.erase(home.id);
  if (auto tier = context_->directory->get<tier_actor>(path::tier(x->spec.to_tier)))
    for (auto& id : x->reserved)
      self_->request(tier, context_->options.request_timeout, atom::reserve_v, id, uint64_t{0})
        .then([] {}, [](const caf::error&) {}); // forgotten with the tier
  x->promise.deliver(e);
}

template <class Handle>
Handle migration_supervisor_state::find(const starting_ptr& x, const std::string& path) {
  auto result = context_->directory->get<Handle>(path);
  if (!result)
    refuse(x, make_error(errc::unavailable, path + " is starting"));
  return result;
}

// -- those that are not over
// -----------------------------------------------------------------------------------------------

bool migration_supervisor_state::served(const std::string& tier) const {
  const auto& tiers = context_->options.tiers;
  return std::none_of(tiers.begin(), tiers.end(), [&](auto& x) { return x.store.name == tier && !x.refused.empty(); });
}

void migration_supervisor_state::add(const migration_record& record) {
  auto& x = rows_[record.id];
  x.progress.record = record;
  busy_.insert(record.shard);
  if (record.state != migration_state::committed && !served(record.from_tier)) {
    x.held = x.progress.last_error = "tier " + record.from_tier + " is not served";
    return;
  }
  if (is_urgent(record))
    waiting_.push_front(record.id);
  else
    waiting_.push_back(record.id);
}

void migration_supervisor_state::run_more() {
  if (children_->stopping())
    return;
  // What is paused before it began takes no other's place.
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    auto row = rows_.find(*at);
    if (row == rows_.end()) {
      at = waiting_.erase(at);
      continue;
    }
    if (running_ >= context_->options.migrations.running_max && !is_urgent(row->second.progress.record))
      break;
    if (row->second.progress.paused) {
      ++at;
      continue;
    }
    const auto id = *at;
    at = waiting_.erase(at);
    run(id, row->second);
  }
}

void migration_supervisor_state::run(migration_id id, row& x) {
  x.running = true;
  x.counted = !is_urgent(x.progress.record);
  running_ += x.counted ? 1 : 0;
  children_->start({child_path(id), migration_actor_state::name, [this, id] {
                      auto known = rows_.find(id);
                      const bool paused = known != rows_.end() && known->second.progress.paused;
                      return caf::actor_cast<caf::strong_actor_ptr>(
                        self_->spawn(migration, context_, id, term_, paused));
                    }});
}

void migration_supervisor_state::publish(const migration_progress& x) {
  auto at = rows_.find(x.record.id);
  if (at == rows_.end())
    return;
  // A migration that was started again counts from nothing; people see no step back.
  const auto percent = std::max(at->second.progress.percent, x.percent);
  const auto total = std::max(at->second.progress.bytes_total, x.bytes_total);
  at->second.progress = x;
  at->second.progress.percent = percent;
  at->second.progress.bytes_total = total;
  // All is decided, and some node is not there to carry it out: others need not wait for that.
  if (at->second.counted && is_over(x.record) && !x.last_error.empty()) {
    at->second.counted = false;
    --running_;
    run_more();
  }
}

void migration_supervisor_state::finish(migration_id id) {
  auto at = rows_.find(id);
  if (at == rows_.end())
    return;
  if (at->second.counted)
    --running_;
  const auto& progress = at->second.progress;
  busy_.erase(progress.record.shard);
  if (progress.record.state == migration_state::aborted)
    context_->publish("MIGRATION_ABORTED", "migration " + std::to_string(id.value()) + " of shard " +
                                             name_of(progress.record.shard) + ": " + progress.record.reason);
  if (progress.record.state == migration_state::committed || progress.record.state == migration_state::aborted)
    ended_.push_back(progress);
  rows_.erase(at);
  prune();
  run_more();
}

void migration_supervisor_state::prune() {
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  while (ended_.size() > context_->options.migrations.ended_max) {
    catalog_batch batch;
    for (; ended_.size() > context_->options.migrations.ended_max && batch.changes.size() < pruned_max;
         ended_.pop_front())
      batch.changes.push_back({key::migration(ended_.front().record.id), {}, true});
    if (catalog)
      self_->request(catalog, context_->options.request_timeout, atom::commit_v, batch)
        .then([](uint64_t) {}, [](const caf::error&) {}); // what stays is pruned after the next start
  }
}

template <class T, class F>
void migration_supervisor_state::ask_child(migration_id id, progress_promise promise, T verb, F when_waiting) {
  auto at = rows_.find(id);
  if (at == rows_.end()) {
    const bool over = std::any_of(ended_.begin(), ended_.end(), [&](auto& x) { return x.record.id == id; });
    promise.deliver(make_error(over ? errc::conflict : errc::not_found,
                               "migration " + std::to_string(id.value()) + (over ? " is over" : "")));
    return;
  }
  if (!at->second.running) {
    when_waiting(at->second);
    return;
  }
  auto child = children_->get<migration_actor>(child_path(id));
  if (!child) {
    promise.deliver(make_error(errc::unavailable, "migration " + std::to_string(id.value()) + " is starting again"));
    return;
  }
  self_->request(child, context_->options.request_timeout, verb)
    .then(
      [this, promise](const migration_progress& x) mutable {
        publish(x);
        promise.deliver(x);
      },
      [promise](const caf::error& e) mutable { promise.deliver(e); });
}

migration_supervisor_state::progress_promise migration_supervisor_state::cancel(migration_id id) {
  auto promise = self_->make_response_promise<migration_progress>();
  ask_child(id, promise, atom::cancel_v, [this, id, promise](row& x) mutable {
    if (!x.held.empty()) {
      promise.deliver(make_error(errc::unavailable, "migration " + std::to_string(id.value()) + ": " + x.held));
      return;
    }
    // It holds nothing but its entry in the journal and a reservation: it runs just to give them up.
    x.progress.paused = false;
    std::erase(waiting_, id);
    run(id, x);
    self_->request(children_->get<migration_actor>(child_path(id)), context_->options.request_timeout, atom::cancel_v)
      .then([promise](const migration_progress& x) mutable { promise.deliver(x); },
            [promise](const caf::error& e) mutable { promise.deliver(e); });
  });
  return promise;
}

migration_supervisor_state::progress_promise migration_supervisor_state::pause(migration_id id) {
  auto promise = self_->make_response_promise<migration_progress>();
  ask_child(id, promise, atom::pause_v, [promise](row& x) mutable {
    x.progress.paused = true;
    promise.deliver(x.progress);
  });
  return promise;
}

migration_supervisor_state::progress_promise migration_supervisor_state::resume(migration_id id) {
  auto promise = self_->make_response_promise<migration_progress>();
  ask_child(id, promise, atom::resume_v, [this, promise](row& x) mutable {
    x.progress.paused = false;
    promise.deliver(x.progress);
    run_more();
  });
  return promise;
}

std::vector<migration_progress> migration_supervisor_state::list() const {
  std::vector<migration_progress> result;
  result.reserve(rows_.size() + ended_.size());
  for (auto& [id, x] : rows_)
    result.push_back(x.progress);
  result.insert(result.end(), ended_.begin(), ended_.end());
  return result;
}

std::string migration_supervisor_state::child_path(migration_id id) const {
  return path::migrations + "/" + std::to_string(id.value());
}

// -- after a restart
// -------------------------------------------------------------------------------------------------------

void migration_supervisor_state::take_term(uint64_t attempts) {
  if (term_ != mover_term{}) {
    read_journal(attempts);
    return;
  }
  auto again = [this, attempts] { self_->delayed_send(self_, back_off(attempts), atom::open_v, attempts + 1); };
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog) {
    again();
    return;
  }
  self_->request(catalog, context_->options.request_timeout, atom::get_v)
    .then(
      [this, attempts](uint64_t incarnation) {
        term_ = mover_term{incarnation};
        read_journal(attempts);
      },
      [again](const caf::error&) { again(); });
}

void migration_supervisor_state::read_journal(uint64_t attempts) {
  rows_.clear();
  waiting_.clear();
  ended_.clear();
  busy_.clear();
  read_journal_after({}, attempts);
}

void migration_supervisor_state::read_journal_after(const std::string& after, uint64_t attempts) {
  auto again = [this, attempts] { self_->delayed_send(self_, back_off(attempts), atom::open_v, attempts + 1); };
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog) {
    again();
    return;
  }
  self_->request(catalog, context_->options.request_timeout, atom::list_v, key::migrations, after, journal_page)
    .then(
      [this, attempts](const catalog_page& page) {
        for (auto& entry : page.entries) {
          migration_record record;
          if (auto e = decode(entry.value, record)) {
            context_->publish("CATALOG_ENTRY_UNREADABLE", entry.key + ": " + context_of(e));
            continue;
          }
          if (record.ended_at == 0) {
            add(record);
          } else {
            migration_progress x;
            x.record = record;
            x.percent = record.state == migration_state::committed ? 100 : 0;
            ended_.push_back(std::move(x));
          }
        }
        if (page.entries.size() == journal_page) {
          read_journal_after(page.entries.back().key, attempts);
          return;
        }
        ready_ = true;
        prune();
        run_more();
        look_for_tiers();
      },
      [again](const caf::error&) { again(); });
}

} // namespace varve
