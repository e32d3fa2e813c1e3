#include "actors/management/volume.hpp"

#include <algorithm>

#include "actors/shard_name.hpp"
#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr uint64_t load_page = 1024;
constexpr size_t homes_max = 1024;
/// Requests that wait for the map.
constexpr size_t waiting_max = 10'000;
/// Shards removed (and their records erased) at a time.
constexpr size_t removal_batch_max = 64;
constexpr unsigned create_attempts_max = 5;
constexpr caf::timespan create_again_after = 200ms;
constexpr caf::timespan retry_after = 1s;
/// Of a tier that is asked for a listing: it looks for at most a second, and who asks for the listing waits longer.
constexpr caf::timespan contents_patience = 2s;

/// Neither done nor refused: the catalog died or hung over it, and only a look at the store can tell.
bool is_uncertain(const caf::error& e) {
  return code_of(e) == errc::timed_out ||
         (code_of(e) == errc::unavailable && e.category() != make_error(errc::unavailable).category());
}

} // namespace

volume_self::behavior_type volume(volume_self::stateful_pointer<volume_state> self, context_ptr context, volume_id id,
                                  volume_watcher_actor watcher) {
  return self->state.make_behavior(std::move(context), id, std::move(watcher));
}

volume_self::behavior_type volume_state::make_behavior(context_ptr context, volume_id id,
                                                       volume_watcher_actor watcher) {
  context_ = std::move(context);
  id_ = id;
  watcher_ = std::move(watcher);
  map_ = shard_map{id};
  self_->send(self_, atom::tick_v);
  return {
    [this](atom::get) { return when_loaded<volume_info>([this](auto promise) { get(promise); }); },
    [this](atom::locate, shard_index first, uint64_t count) {
      return when_loaded<shard_map_part>([this, first, count](auto promise) { locate(first, count, promise); });
    },
    [this](atom::create, shard_index index) {
      return when_loaded<shard_home>([this, index](auto promise) { create(index, promise); });
    },
    [this](atom::commit, const migration_record& x) {
      return when_loaded<migration_record>([this, x](auto promise) { commit(x, promise); });
    },
    [this](atom::resize, uint64_t size) {
      return when_loaded<volume_record>([this, size](auto promise) { resize(size, promise); });
    },
    [this](atom::attach, const volume_attachment& to, bool shared) {
      return when_loaded<volume_record>([this, to, shared](auto promise) { attach(to, shared, promise); });
    },
    [this](atom::detach, holder_id holder) {
      return when_loaded<volume_record>([this, holder](auto promise) { detach(holder, promise); });
    },
    [this](atom::remove) { return when_loaded<volume_record>([this](auto promise) { remove(promise); }); },
    [this](atom::tick) {
      if (!loaded_)
        load();
      else if (removing_)
        remove_some();
    },
    [this](atom::activate, shard_index index, uint64_t step) {
      if (find_creation(index, step))
        place(index);
    },
    [this](atom::locate, const std::vector<shard_index>& all) {
      return when_loaded<std::vector<shard_home>>([this, all](auto promise) { promise.deliver(map_.homes(all)); });
    },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts volume_state::facts() const {
  if (!loaded_)
    return {flag_fact("loaded", false), count_fact("requests-waiting", waiting_.size())};
  return {text_fact("name", record_.spec.name),
          bytes_fact("size", record_.spec.size_bytes),
          bytes_fact("shard-size", record_.spec.shard_size),
          count_fact("shards", map_.size()),
          count_fact("attachments", record_.attachments.size()),
          flag_fact("removing", removing_),
          count_fact("shards-being-made", creations_.size()),
          count_fact("changes-waiting", record_changes_.size()),
          count_fact("revision", record_revision_)};
}

template <class T>
caf::typed_response_promise<T> volume_state::when_loaded(std::function<void(caf::typed_response_promise<T>)> f) {
  auto promise = self_->make_response_promise<T>();
  if (loaded_)
    f(promise);
  else if (waiting_.size() >= waiting_max)
    promise.deliver(make_error(errc::unavailable, "volume " + std::to_string(id_.value()) + " is loading"));
  else
    waiting_.push_back([f = std::move(f), promise] { f(promise); });
  return promise;
}

uint64_t volume_state::shards() const {
  return (record_.spec.size_bytes + record_.spec.shard_size - 1) / record_.spec.shard_size;
}

// -- loading
// -----------------------------------------------------------------------------------------------------------

void volume_state::load() {
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  auto failed = [this](const caf::error& e) {
    if (code_of(e) == errc::bad_format) {
      // Starting again would read the same; it is restarted within its intensity, and everybody sees why.
      self_->quit(e);
      return;
    }
    self_->delayed_send(self_, retry_after, atom::tick_v);
  };
  if (!catalog) {
    failed(make_error(errc::unavailable, path::catalog));
    return;
  }
  const auto prefix = record_loaded_ ? key::shards(id_) : key::volume(id_);
  self_->request(catalog, context_->options.request_timeout, atom::list_v, prefix, load_after_, load_page)
    .then([this](const catalog_page& x) { loaded(x); }, failed);
}

void volume_state::loaded(const catalog_page& page) {
  if (!record_loaded_) {
    if (page.entries.empty()) {
      self_->quit(make_error(errc::not_found, "volume " + std::to_string(id_.value())));
      return;
    }
    if (auto problem = decode(page.entries.front().value, record_)) {
      self_->quit(std::move(problem));
      return;
    }
    record_revision_ = page.entries.front().revision;
    record_loaded_ = true;
    load();
    return;
  }
  for (const auto& x : page.entries) {
    shard_home home;
    if (auto problem = decode(x.key, x.value, home)) {
      self_->quit(std::move(problem));
      return;
    }
    map_.put(home, x.revision);
  }
  if (page.entries.size() == load_page) {
    load_after_ = page.entries.back().key;
    load();
    return;
  }
  loaded_ = true;
  if (record_.removing) {
    removing_ = true;
    self_->send(self_, atom::tick_v);
  }
  auto waiting = std::move(waiting_);
  waiting_.clear();
  for (auto& f : waiting)
    f();
}

// -- asking
// ------------------------------------------------------------------------------------------------------------

void volume_state::get(caf::typed_response_promise<volume_info> promise) {
  struct gathering {
    volume_info info;
    size_t open = 0;
    void one_less(caf::typed_response_promise<volume_info>& promise) {
      if (--open == 0)
        promise.deliver(info);
    }
  };
  auto all = std::make_shared<gathering>();
  all->info.record = record_;
  all->info.shards = map_.size();
  all->info.contents_known = true;
  // Also without tiers to ask.
  all->open = 1;
  for (const auto& tier_name : map_.tiers()) {
    auto tier = context_->directory->get<tier_actor>(path::tier(tier_name));
    if (!tier) {
      all->info.contents_known = false;
      continue;
    }
    ++all->open;
    self_->request(tier, std::min(contents_patience, context_->options.request_timeout), atom::list_v, id_)
      .then(
        [all, promise](const std::vector<shard_info>& rows) mutable {
          for (const auto& x : rows)
            all->info.allocated_bytes += x.allocated_bytes;
          all->one_less(promise);
        },
        // `tier ls` says why.
        [all, promise](const caf::error&) mutable {
          all->info.contents_known = false;
          all->one_less(promise);
        });
  }
  all->one_less(promise);
}

void volume_state::locate(shard_index first, uint64_t count, caf::typed_response_promise<shard_map_part> promise) {
  if (first.value() >= shards() || count == 0)
    promise.deliver(
      make_error(errc::invalid_argument, "shard " + std::to_string(first.value()) + " of " + std::to_string(shards())));
  else
    promise.deliver(map_.part(first, count, shards(), homes_max));
}

// -- creation
// ----------------------------------------------------------------------------------------------------------

void volume_state::create(shard_index index, caf::typed_response_promise<shard_home> promise) {
  if (record_.removing) {
    promise.deliver(make_error(errc::not_found, "volume " + std::to_string(id_.value()) + " is being removed"));
    return;
  }
  if (index.value() >= shards()) {
    promise.deliver(
      make_error(errc::invalid_argument, "shard " + std::to_string(index.value()) + " of " + std::to_string(shards())));
    return;
  }
  if (auto home = map_.home(index); home.exists()) {
    promise.deliver(home);
    return;
  }
  auto [at, is_new] = creations_.try_emplace(index);
  at->second.waiting.push_back(promise);
  if (!is_new)
    return;
  at->second.home.id = {id_, index};
  at->second.home.of = generation{1};
  place(index);
}

volume_state::creation* volume_state::find_creation(shard_index index, uint64_t step) {
  auto at = creations_.find(index);
  return at == creations_.end() || at->second.step != step ? nullptr : &at->second;
}

void volume_state::place(shard_index index) {
  auto& x = creations_.at(index);
  const auto step = x.step = ++steps_;
  auto placement = context_->directory->get<placement_actor>(path::placement);
  if (!placement) {
    create_again(index, create_again_after);
    return;
  }
  self_->request(placement, context_->options.request_timeout, atom::place_v, record_, index)
    .then(
      [this, index, step](std::string& tier) {
        if (find_creation(index, step))
          make(index, std::move(tier));
      },
      [this, index, step](const caf::error& e) {
        if (!find_creation(index, step))
          return;
        if (const auto code = code_of(e); code == errc::unavailable || code == errc::timed_out)
          create_again(index, create_again_after);
        else
          create_failed(index, e);
      });
}

void volume_state::make(shard_index index, std::string tier_name) {
  auto& x = creations_.at(index);
  const auto step = x.step = ++steps_;
  x.home.tier = std::move(tier_name);
  auto tier = context_->directory->get<tier_actor>(path::tier(x.home.tier));
  if (!tier) {
    create_again(index, create_again_after);
    return;
  }
  self_->request(tier, context_->options.request_timeout, atom::create_v, x.home, record_.spec.shard_size)
    .then(
      [this, index, step](const shard_home& home) {
        auto* at = find_creation(index, step);
        if (!at)
          return;
        at->home = home;
        record(index);
      },
      [this, index, step](const caf::error& e) {
        auto* at = find_creation(index, step);
        if (!at)
          return;
        switch (code_of(e)) {
        case errc::already_exists:
          // Left behind by a crash, and not empty: never adopted, it is somebody's data. The next number is free.
          at->home.of = generation{at->home.of.value() + 1};
          create_again(index, 0s);
          break;
        case errc::tier_full:
        case errc::unavailable:
        case errc::timed_out:
          if (at->attempts + 1 >= create_attempts_max)
            create_failed(index, e);
          else
            // Placement asks the tiers again when it is asked again.
            create_again(index, code_of(e) == errc::tier_full ? caf::timespan{0} : create_again_after);
          break;
        default: create_failed(index, e);
        }
      });
}

void volume_state::record(shard_index index) {
  auto& x = creations_.at(index);
  const auto step = x.step = ++steps_;
  catalog_batch batch;
  const auto shard_key = key::shard(x.home.id);
  batch.compare.push_back({shard_key, 0});
  // Not after a removal has begun.
  batch.compare.push_back({key::volume(id_), record_revision_});
  batch.changes.push_back({shard_key, encode(x.home), false});
  commit_batch(
    std::move(batch),
    [this, index, step](uint64_t revision) {
      if (find_creation(index, step))
        created(index, revision);
    },
    [this, index, step](const caf::error& e) {
      auto* at = find_creation(index, step);
      if (!at)
        return;
      if (is_uncertain(e)) {
        start_over(e);
        return;
      }
      const auto code = code_of(e);
      // A change of the record (resize, attach) came between; anything else is a successor's.
      if ((code == errc::conflict || code == errc::unavailable) && at->attempts + 1 < create_attempts_max)
        create_again(index, create_again_after);
      else
        create_failed(index, e);
    });
}

void volume_state::created(shard_index index, uint64_t revision) {
  auto x = std::move(creations_.at(index));
  creations_.erase(index);
  map_.put(x.home, revision);
  for (auto& promise : x.waiting)
    promise.deliver(x.home);
}

void volume_state::create_failed(shard_index index, const caf::error& why) {
  auto x = std::move(creations_.at(index));
  creations_.erase(index);
  for (auto& promise : x.waiting)
    promise.deliver(make_error(code_of(why), "shard " + name_of(x.home.id) + ": " + context_of(why)));
}

void volume_state::create_again(shard_index index, caf::timespan after) {
  auto& x = creations_.at(index);
  if (++x.attempts >= create_attempts_max) {
    create_failed(index, make_error(errc::unavailable, "placement or tier"));
    return;
  }
  x.step = ++steps_;
  if (after.count() == 0)
    self_->send(self_, atom::activate_v, index, x.step);
  else
    self_->delayed_send(self_, after, atom::activate_v, index, x.step);
}

// -- migration
// ---------------------------------------------------------------------------------------------------------

void volume_state::commit(migration_record x, caf::typed_response_promise<migration_record> promise) {
  const auto home = map_.home(x.shard.index);
  const bool is_new_home = x.state == migration_state::committed;
  if (is_new_home && home.tier == x.to_tier && home.of == x.to) {
    // Journalled already, before somebody restarted.
    promise.deliver(x);
    return;
  }
  if (home.tier == x.to_tier && home.of == x.to) {
    // It was committed, whoever thinks otherwise: to abort it now would throw away the only home.
    promise.deliver(make_error(errc::conflict, "migration " + std::to_string(x.id.value()) + " is committed"));
    return;
  }
  if (x.state != migration_state::aborted && (!home.exists() || home.tier != x.from_tier || home.of != x.from)) {
    promise.deliver(make_error(errc::conflict, "shard " + name_of(x.shard) + " is in generation " +
                                                 std::to_string(home.of.value()) + " on tier '" + home.tier + "'"));
    return;
  }
  shard_home next = home;
  next.tier = x.to_tier;
  next.of = x.to;
  catalog_batch batch;
  // How far it came nobody relies on: whoever resumes it asks the two ends. How it ended decides where the data is.
  batch.lazy = x.state != migration_state::committed && x.state != migration_state::aborted;
  batch.changes.push_back({key::migration(x.id), encode(x), false});
  // Every step, not only the commit: one that was sent before by a predecessor may still be on its way.
  batch.compare.push_back({key::shard(x.shard), map_.revision(x.shard.index)});
  if (is_new_home) {
    batch.changes.push_back({key::shard(x.shard), encode(next), false});
  }
  commit_batch(
    std::move(batch),
    [this, x, next, is_new_home, promise](uint64_t revision) mutable {
      if (is_new_home)
        map_.put(next, revision);
      promise.deliver(x);
    },
    [this, is_new_home, promise](const caf::error& e) mutable {
      promise.deliver(e);
      if (is_new_home && (is_uncertain(e) || code_of(e) == errc::conflict))
        start_over(e);
    });
}

// -- the record
// --------------------------------------------------------------------------------------------------------

void volume_state::resize(uint64_t size_bytes, caf::typed_response_promise<volume_record> promise) {
  change_record(
    [this, size_bytes](volume_record& x) -> caf::error {
      if (x.removing)
        return make_error(errc::not_found, "volume " + x.spec.name + " is being removed");
      if (size_bytes == 0 || size_bytes % 512 != 0 || size_bytes > volume_size_max)
        return make_error(errc::invalid_argument, "size must be a multiple of 512 bytes, at most 64 TiB");
      if (size_bytes < x.spec.size_bytes) {
        if (x.attached())
          return make_error(errc::volume_attached, "detach volume " + x.spec.name + " before making it smaller");
        const auto last = map_.last();
        const auto size = x.spec.shard_size;
        if (!creations_.empty() || (last && (last->value() + 1) * size > size_bytes))
          return make_error(errc::invalid_argument, "volume " + x.spec.name + " has data up to " +
                                                      std::to_string(last ? (last->value() + 1) * size : 0) +
                                                      " bytes: it cannot be smaller");
      }
      x.spec.size_bytes = size_bytes;
      return {};
    },
    {}, promise);
}

void volume_state::attach(const volume_attachment& to, bool shared,
                          caf::typed_response_promise<volume_record> promise) {
  change_record(
    [to, shared](volume_record& x) -> caf::error {
      if (x.removing)
        return make_error(errc::not_found, "volume " + x.spec.name + " is being removed");
      if (to.holder.value() == 0 || to.host.empty())
        return make_error(errc::invalid_argument, "an attachment has a holder and a host");
      if (const auto* same = x.of(to.holder))
        return *same == to ? caf::error{} : make_error(errc::volume_attached, x.spec.name + " at " + same->host);
      for (const auto& other : x.attachments)
        if (!shared || other.host == to.host)
          return make_error(errc::volume_attached, x.spec.name + " at " + other.host);
      x.attachments.push_back(to);
      return {};
    },
    {}, promise);
}

void volume_state::detach(holder_id holder, caf::typed_response_promise<volume_record> promise) {
  change_record(
    [holder](volume_record& x) -> caf::error {
      std::erase_if(x.attachments, [holder](auto& a) { return a.holder == holder; });
      return {};
    },
    {}, promise);
}

void volume_state::remove(caf::typed_response_promise<volume_record> promise) {
  if (record_.removing) {
    promise.deliver(record_);
    return;
  }
  change_record(
    [](volume_record& x) -> caf::error {
      if (x.attached())
        return make_error(errc::volume_attached, "detach volume " + x.spec.name + " first");
      x.removing = true;
      return {};
    },
    {{key::volume_name(record_.spec.name), {}, true}}, promise);
}

void volume_state::change_record(std::function<caf::error(volume_record&)> change, std::vector<catalog_change> also,
                                 caf::typed_response_promise<volume_record> promise) {
  if (record_changes_.size() >= waiting_max) {
    promise.deliver(make_error(errc::unavailable, "too many changes of one volume"));
    return;
  }
  record_changes_.push_back({std::move(change), std::move(also), promise});
  if (!changing_record_)
    next_record_change();
}

void volume_state::next_record_change() {
  while (!record_changes_.empty()) {
    auto x = std::move(record_changes_.front());
    record_changes_.pop_front();
    auto next = record_;
    if (auto refused = x.change(next)) {
      x.promise.deliver(std::move(refused));
      continue;
    }
    changing_record_ = true;
    catalog_batch batch;
    batch.compare.push_back({key::volume(id_), record_revision_});
    batch.changes.push_back({key::volume(id_), encode(next), false});
    for (auto& also : x.also)
      batch.changes.push_back(std::move(also));
    commit_batch(
      std::move(batch),
      [this, next, promise = x.promise](uint64_t revision) mutable {
        changing_record_ = false;
        record_ = next;
        record_revision_ = revision;
        self_->send(watcher_, atom::publish_v, record_);
        promise.deliver(record_);
        if (record_.removing && !removing_) {
          removing_ = true;
          self_->send(self_, atom::tick_v);
        }
        next_record_change();
      },
      [this, promise = x.promise](const caf::error& e) mutable {
        changing_record_ = false;
        promise.deliver(e);
        if (is_uncertain(e) || code_of(e) == errc::conflict)
          start_over(e);
        else
          next_record_change();
      });
    return;
  }
}

// -- removal
// -----------------------------------------------------------------------------------------------------------

void volume_state::remove_some() {
  // Creations end first (their commit compares the record's revision, which has changed).
  if (removal_open_ > 0 || !removal_erase_.empty())
    return;
  if (!creations_.empty()) {
    self_->delayed_send(self_, retry_after, atom::tick_v);
    return;
  }
  removal_failed_ = false;
  const auto first = map_.first();
  if (!first) {
    catalog_batch batch;
    batch.changes.push_back({key::volume(id_), {}, true});
    commit_batch(
      std::move(batch), [this](uint64_t) { self_->quit(); }, [this](const caf::error& e) { removal_retry(e); });
    return;
  }
  removal_batch_ = map_.part(*first, UINT64_MAX, UINT64_MAX, removal_batch_max).homes;
  removal_open_ = removal_batch_.size();
  for (const auto& home : removal_batch_) {
    auto tier = context_->directory->get<tier_actor>(path::tier(home.tier));
    if (!tier) {
      removed(home.id.index, make_error(errc::unavailable, "tier " + home.tier));
      continue;
    }
    self_->request(tier, context_->options.request_timeout, atom::remove_v, home.id, home.of)
      .then([this, index = home.id.index] { removed(index, {}); },
            [this, index = home.id.index](const caf::error& e) { removed(index, e); });
  }
}

void volume_state::removed(shard_index index, const caf::error& e) {
  if (!e || code_of(e) == errc::not_found)
    removal_erase_.push_back({key::shard({id_, index}), {}, true});
  else
    removal_failed_ = true;
  if (--removal_open_ == 0)
    erase_removed();
}

void volume_state::erase_removed() {
  if (removal_erase_.empty()) {
    removal_retry(make_error(errc::unavailable, "tiers"));
    return;
  }
  catalog_batch batch;
  batch.changes = removal_erase_;
  commit_batch(
    std::move(batch),
    [this](uint64_t) {
      for (const auto& home : removal_batch_)
        if (std::any_of(removal_erase_.begin(), removal_erase_.end(),
                        [&](auto& x) { return x.key == key::shard(home.id); }))
          map_.erase(home.id.index);
      removal_erase_.clear();
      if (removal_failed_)
        self_->delayed_send(self_, retry_after, atom::tick_v);
      else
        self_->send(self_, atom::tick_v);
    },
    [this](const caf::error& e) {
      removal_erase_.clear();
      removal_retry(e);
    });
}

void volume_state::removal_retry(const caf::error&) {
  // For ever, on purpose: the volume is gone for its users, and its space must come back when the tier does.
  self_->delayed_send(self_, retry_after, atom::tick_v);
}

void volume_state::start_over(const caf::error& why) {
  auto creations = std::move(creations_);
  creations_.clear();
  for (auto& [index, x] : creations)
    for (auto& promise : x.waiting)
      promise.deliver(make_error(errc::unavailable, "shard " + name_of(x.home.id) + ": " + context_of(why)));
  for (auto& x : record_changes_)
    x.promise.deliver(make_error(errc::unavailable, context_of(why)));
  record_changes_.clear();
  self_->quit(why);
}

// -- catalog
// -----------------------------------------------------------------------------------------------------------

void volume_state::commit_batch(catalog_batch batch, std::function<void(uint64_t)> done,
                                std::function<void(const caf::error&)> failed) {
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog) {
    failed(make_error(errc::unavailable, path::catalog));
    return;
  }
  self_->request(catalog, context_->options.request_timeout, atom::commit_v, std::move(batch))
    .then(std::move(done), std::move(failed));
}

} // namespace varve
