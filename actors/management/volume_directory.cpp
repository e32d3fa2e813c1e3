#include "actors/management/volume_directory.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "actors/management/placement_rule.hpp"
#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr uint64_t load_page = 1024;
constexpr caf::timespan retry_after = 200ms;
constexpr size_t name_max = 63;
/// Volumes being made at a time; a conflict is retried since somebody else may have taken the number.
constexpr size_t creations_max = 1000;
constexpr unsigned creation_attempts_max = 5;

caf::error not_loaded() {
  return make_error(errc::unavailable, "the volumes are being loaded");
}

} // namespace

caf::error check_volume(const volume_spec& x) {
  auto valid = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.'; };
  if (x.name.empty() || x.name.size() > name_max || !std::isalnum(static_cast<unsigned char>(x.name.front())) ||
      !std::all_of(x.name.begin(), x.name.end(), valid))
    return make_error(errc::invalid_argument,
                      "a volume's name has 1 to 63 of a-z, A-Z, 0-9, '-', '_', '.' and starts with a letter or digit");
  if (x.size_bytes == 0 || x.size_bytes % 512 != 0 || x.size_bytes > volume_size_max)
    return make_error(errc::invalid_argument, "size must be a multiple of 512 bytes, at most 64 TiB");
  if (x.shard_size < shard_size_min || x.shard_size > shard_size_max || (x.shard_size & (x.shard_size - 1)) != 0)
    return make_error(errc::invalid_argument, "shard size must be a power of two from 256 KiB to 1 GiB");
  return {};
}

volume_directory_self::behavior_type
volume_directory(volume_directory_self::stateful_pointer<volume_directory_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

volume_directory_self::behavior_type volume_directory_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  children_.emplace(self_, context_, path::volumes);
  // A volume that ended in an orderly way has been removed.
  children_->on_death = [this](const std::string& child, const caf::error& reason) {
    if (!is_orderly(reason) || children_->stopping())
      return;
    auto at =
      std::find_if(records_.begin(), records_.end(), [&](auto& x) { return path::volume(x.first.value()) == child; });
    if (at != records_.end())
      records_.erase(at);
  };
  self_->send(self_, atom::tick_v);
  return {
    [this](atom::create, volume_spec& spec) { return create(spec); },
    [this](atom::get, const std::string& name_or_id) { return get(name_or_id); },
    [this](atom::open, volume_id id) { return open(id); },
    [this](atom::list) { return list(); },
    [this](atom::publish, const volume_record& x) { published(x); },
    [this](atom::tick) { load(); },
    [this](atom::start, const std::string& child) { children_->on_start(child); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts volume_directory_state::facts() const {
  const auto attached = std::count_if(records_.begin(), records_.end(), [](auto& x) { return x.second.attached(); });
  actor_facts facts{flag_fact("loaded", loaded_), count_fact("volumes", records_.size()),
                    count_fact("volumes-attached", static_cast<uint64_t>(attached)),
                    count_fact("creations-waiting", creations_.size())};
  const auto below = children_->facts();
  facts.insert(facts.end(), below.begin(), below.end());
  return facts;
}

void volume_directory_state::load() {
  auto again = [this](const caf::error& e) {
    if (code_of(e) == errc::bad_format)
      self_->quit(e);
    else
      self_->delayed_send(self_, retry_after, atom::tick_v);
  };
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog) {
    again(make_error(errc::unavailable, path::catalog));
    return;
  }
  self_->request(catalog, context_->options.request_timeout, atom::list_v, key::volumes, load_after_, load_page)
    .then(
      [this](const catalog_page& page) {
        for (const auto& x : page.entries) {
          volume_record record;
          if (auto problem = decode(x.value, record)) {
            // One unreadable record must not keep all other volumes away.
            context_->publish("VOLUME_UNREADABLE", x.key + ": " + context_of(problem));
            continue;
          }
          published(record);
          start(record.id);
        }
        if (page.entries.size() == load_page) {
          load_after_ = page.entries.back().key;
          load();
        } else {
          loaded_ = true;
        }
      },
      again);
}

void volume_directory_state::start(volume_id id) {
  children_->start(
    {path::volume(id.value()), volume_state::name, [this, id] {
       return caf::actor_cast<caf::strong_actor_ptr>(self_->system().spawn(
         volume, context_, id, caf::actor_cast<volume_watcher_actor>(volume_directory_self::pointer{self_})));
     }});
}

void volume_directory_state::published(const volume_record& x) {
  records_[x.id] = x;
  // The name of one that is being removed is free.
  if (auto at = names_.find(x.spec.name); x.removing && at != names_.end() && at->second == x.id)
    names_.erase(at);
  else if (!x.removing)
    names_[x.spec.name] = x.id;
}

caf::error volume_directory_state::check(volume_spec& spec) const {
  if (spec.shard_size == 0)
    spec.shard_size = context_->options.shard_size;
  if (auto refused = check_volume(spec))
    return refused;
  placement_plan plan;
  return placement_rule{}.determine_shard_placement(spec.size_bytes, request_of(spec),
                                                    storage_tiers_of(context_->options), plan);
}

caf::typed_response_promise<volume_record> volume_directory_state::create(volume_spec& spec) {
  auto promise = self_->make_response_promise<volume_record>();
  if (!loaded_ || children_->stopping())
    promise.deliver(not_loaded());
  else if (auto refused = check(spec))
    promise.deliver(std::move(refused));
  else if (names_.count(spec.name))
    promise.deliver(make_error(errc::already_exists, "volume " + spec.name));
  else if (records_.size() >= context_->options.volumes_max || creations_.size() >= creations_max)
    promise.deliver(make_error(errc::limit_reached, std::to_string(context_->options.volumes_max) + " volumes"));
  else {
    creations_.push_back({std::move(spec), promise});
    next_creation();
  }
  return promise;
}

void volume_directory_state::next_creation() {
  if (creating_ || creations_.empty())
    return;
  creating_ = true;
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog) {
    creation_done(make_error(errc::unavailable, path::catalog));
    return;
  }
  self_->request(catalog, context_->options.request_timeout, atom::list_v, key::next_volume, std::string{}, uint64_t{1})
    .then(
      [this](const catalog_page& page) {
        uint64_t next = 1, revision = 0;
        if (!page.entries.empty() && page.entries.front().key == key::next_volume) {
          revision = page.entries.front().revision;
          if (auto problem = decode(page.entries.front().value, next)) {
            creation_done(std::move(problem));
            return;
          }
        }
        commit_creation(next, revision);
      },
      [this](caf::error& e) { creation_done(std::move(e)); });
}

void volume_directory_state::commit_creation(uint64_t next, uint64_t revision) {
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog) {
    creation_done(make_error(errc::unavailable, path::catalog));
    return;
  }
  const auto& spec = creations_.front().spec;
  volume_record record;
  record.id = volume_id{next};
  record.spec = spec;
  record.created_at = context_->wall_seconds();
  catalog_batch batch;
  batch.compare.push_back({key::next_volume, revision});
  batch.compare.push_back({key::volume_name(spec.name), 0});
  batch.changes.push_back({key::next_volume, encode(next + 1), false});
  batch.changes.push_back({key::volume_name(spec.name), encode(next), false});
  batch.changes.push_back({key::volume(record.id), encode(record), false});
  self_->request(catalog, context_->options.request_timeout, atom::commit_v, std::move(batch))
    .then(
      [this, record](uint64_t) {
        published(record);
        start(record.id);
        creation_done(record);
      },
      [this](caf::error& e) {
        auto& x = creations_.front();
        if (code_of(e) == errc::conflict && context_of(e) == key::volume_name(x.spec.name))
          creation_done(make_error(errc::already_exists, "volume " + x.spec.name));
        else if (code_of(e) == errc::conflict && ++x.attempts < creation_attempts_max) {
          creating_ = false;
          next_creation();
        } else
          creation_done(std::move(e));
      });
}

void volume_directory_state::creation_done(caf::expected<volume_record> result) {
  auto x = std::move(creations_.front());
  creations_.pop_front();
  creating_ = false;
  const bool uncertain = !result && result.error().category() != make_error(errc::unavailable).category();
  if (result)
    x.promise.deliver(*result);
  else
    x.promise.deliver(result.error());
  // The catalog died or hung over it: it may be made. Read everything again.
  if (uncertain) {
    load_after_.clear();
    load();
  }
  next_creation();
}

caf::result<volume_record> volume_directory_state::get(const std::string& name_or_id) const {
  if (!loaded_)
    return not_loaded();
  // A name first: "7" may be one.
  if (auto at = names_.find(name_or_id); at != names_.end())
    return records_.at(at->second);
  uint64_t id = 0;
  auto [end, problem] = std::from_chars(name_or_id.data(), name_or_id.data() + name_or_id.size(), id);
  if (problem == std::errc{} && end == name_or_id.data() + name_or_id.size())
    if (auto at = records_.find(volume_id{id}); at != records_.end())
      return at->second;
  return make_error(errc::not_found, "volume " + name_or_id);
}

caf::result<volume_actor> volume_directory_state::open(volume_id id) const {
  if (!loaded_)
    return not_loaded();
  if (records_.count(id) == 0)
    return make_error(errc::not_found, "volume " + std::to_string(id.value()));
  auto result = children_->get<volume_actor>(path::volume(id.value()));
  if (!result)
    return make_error(errc::unavailable, "volume " + std::to_string(id.value()) + " is being restarted");
  return result;
}

caf::result<std::vector<volume_record>> volume_directory_state::list() const {
  if (!loaded_)
    return not_loaded();
  std::vector<volume_record> result;
  result.reserve(records_.size());
  for (const auto& [id, x] : records_)
    result.push_back(x);
  return result;
}

} // namespace varve
