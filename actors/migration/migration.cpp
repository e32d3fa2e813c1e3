#include "actors/migration/migration.hpp"

#include <algorithm>
#include <caf/exit_reason.hpp>
#include <chrono>

#include "runtime/caf/reporting.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

caf::timespan back_off(unsigned attempts) {
  return attempts == 0 ? caf::timespan{0} : std::min<caf::timespan>(10ms * (1u << std::min(attempts - 1, 7u)), 1s);
}

/// A shard of which nobody says what it takes still takes a block somewhere.
constexpr uint64_t reserve_min = block_size;

std::string reason_of(const migration_plan& plan) {
  std::string result = to_string(plan.reason);
  return plan.reason_context.empty() ? result : result + ": " + plan.reason_context;
}

} // namespace

holder_id holder_of(migration_id id) {
  return holder_id{id.value() | 1ull << 63};
}

migration_self::behavior_type migration(migration_self::stateful_pointer<migration_actor_state> self,
                                        context_ptr context, migration_id id, mover_term term, bool paused) {
  return self->state.make_behavior(std::move(context), id, term, paused);
}

migration_self::behavior_type migration_actor_state::make_behavior(context_ptr context, migration_id id,
                                                                   mover_term term, bool paused) {
  context_ = std::move(context);
  term_ = term;
  self_->set_down_handler([this](const caf::down_msg& x) { on_down(x); });
  limits_.switch_bytes_max = context_->options.migrations.switch_below_bytes;
  record_.id = id;
  plan_.paused = paused;
  act();
  return {
    [this](atom::revoke, shard_id, uint64_t) { return revoke(); },
    [](atom::change, shard_id) {}, // it holds no write lease
    [](atom::refresh, const shard_home&) {},
    [this](atom::cancel) { return cancel(); },
    [this](atom::pause) { return pause(); },
    [this](atom::resume) { return resume(); },
    [this](atom::tick, uint64_t round) {
      if (round == round_)
        act();
    },
    [this](atom::renew) { renew(); },
    [](const returned& x) { x.run(); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts migration_actor_state::facts() const {
  const auto x = progress();
  return {text_fact("state", to_string(x.record.state)),
          text_fact("phase", to_string(plan_.phase)),
          flag_fact("paused", plan_.paused),
          count_fact("volume", x.record.shard.volume.value()),
          count_fact("shard", x.record.shard.index.value()),
          text_fact("from", x.record.from_tier),
          text_fact("to", x.record.to_tier),
          bytes_fact("bytes-done", x.bytes_done),
          bytes_fact("bytes-total", x.bytes_total),
          count_fact("percent", static_cast<uint64_t>(x.percent)),
          count_fact("attempts", plan_.attempts),
          text_fact("last-error", x.last_error)};
}

// -- what others ask
// -------------------------------------------------------------------------------------------------------

caf::result<migration_progress> migration_actor_state::cancel() {
  if (!plan_.can_cancel())
    return make_error(errc::conflict, std::string("migration is ") + to_string(plan_.phase));
  plan_ = next(plan_, {.what = migration_event::kind::cancel}, limits_);
  if (standing_)
    resume(); // one more round, after which the plan ends it
  return progress();
}

caf::result<migration_progress> migration_actor_state::pause() {
  if (!plan_.can_cancel())
    return make_error(errc::conflict, std::string("migration is ") + to_string(plan_.phase));
  plan_ = next(plan_, {.what = migration_event::kind::pause}, limits_);
  tell();
  return progress();
}

caf::result<migration_progress> migration_actor_state::resume() {
  if (plan_.phase == migration_phase::over)
    return make_error(errc::conflict, "migration is over");
  plan_ = next(plan_, {.what = migration_event::kind::resume}, limits_);
  tell();
  if (std::exchange(standing_, false))
    act();
  return progress();
}

caf::typed_response_promise<void> migration_actor_state::revoke() {
  auto promise = self_->make_response_promise<void>();
  waiting_for_end_.push_back(promise);
  if (plan_.can_cancel())
    cancel();
  return promise;
}

// -- the plan, carried out
// -------------------------------------------------------------------------------------------------

void migration_actor_state::act() {
  ++round_;
  switch (plan_.phase) {
  case migration_phase::load: load(); break;
  case migration_phase::reserve: reserve(); break;
  case migration_phase::acquire: acquire(); break;
  case migration_phase::note_copying: note(migration_state::copying); break;
  case migration_phase::begin:
  case migration_phase::begin_again: begin_move(); break;
  case migration_phase::copy:
  case migration_phase::catch_up: copy(); break;
  case migration_phase::note_catching_up: note(migration_state::catching_up); break;
  case migration_phase::note_switching: note(migration_state::switching); break;
  case migration_phase::switching: switch_over(); break;
  case migration_phase::note_committed: note(migration_state::committed); break;
  case migration_phase::end_committed: end_move(true); break;
  case migration_phase::note_aborted: note(migration_state::aborted); break;
  case migration_phase::end_aborted: end_move(false); break;
  case migration_phase::note_ended: note_ended(); break;
  case migration_phase::over: over(); break;
  }
}

void migration_actor_state::step(const migration_event& event) {
  plan_ = next(plan_, event, limits_);
  if (event.what == migration_event::kind::failed)
    last_error_ = std::string(to_string(event.code)) + (event.context.empty() ? "" : ": " + event.context);
  const auto waits = back_off(std::max(plan_.attempts, plan_.journal_failures));
  if (waits.count() == 0) {
    act();
    return;
  }
  tell();
  self_->delayed_send(self_, waits, atom::tick_v, ++round_);
}

void migration_actor_state::failed(errc code, std::string context) {
  step({.what = migration_event::kind::failed, .code = code, .context = std::move(context)});
}

void migration_actor_state::failed(const caf::error& e) {
  failed(code_of(e), context_of(e));
}

void migration_actor_state::missing(const std::string& path) {
  failed(errc::unavailable, path + " is starting");
}

void migration_actor_state::load() {
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog)
    return missing(path::catalog);
  const auto entry = key::migration(record_.id);
  self_->request(catalog, context_->options.request_timeout, atom::list_v, entry, std::string{}, uint64_t{1})
    .then(
      [this, entry](const catalog_page& page) {
        if (page.entries.empty() || page.entries.front().key != entry) {
          failed(errc::not_found, entry);
          return;
        }
        if (auto e = decode(page.entries.front().value, record_)) {
          failed(e);
          return;
        }
        step({.state = record_.state, .ended = record_.ended_at != 0});
      },
      [this](const caf::error& e) {
        failed(code_of(e) == errc::not_found ? errc::unavailable : code_of(e), context_of(e));
      });
}

void migration_actor_state::reserve() {
  auto source = context_->directory->get<tier_actor>(path::tier(record_.from_tier));
  auto destination = context_->directory->get<tier_actor>(path::tier(record_.to_tier));
  if (!source)
    return missing(path::tier(record_.from_tier));
  if (!destination)
    return missing(path::tier(record_.to_tier));
  const auto timeout = context_->options.request_timeout;
  auto refused = [this](const caf::error& e) { failed(e); };
  self_->request(source, timeout, atom::list_v, record_.shard.volume)
    .then(
      [this, destination, timeout, refused](const std::vector<shard_info>& shards) {
        uint64_t bytes = 0;
        for (auto& x : shards)
          if (x.home.id == record_.shard && x.home.of == record_.from)
            bytes = x.allocated_bytes;
        if (!meter_)
          meter_.emplace(bytes, context_->options.migrations.budget_bytes_per_second);
        self_->request(destination, timeout, atom::reserve_v, record_.shard, std::max(bytes, reserve_min))
          .then([this] { step({}); }, refused);
      },
      refused);
}

void migration_actor_state::acquire() {
  auto manager = context_->directory->get<lease_manager_actor>(path::leases);
  if (!manager)
    return missing(path::leases);
  const auto& options = context_->options;
  const lease_request request{holder(), record_.shard, 1, lease_mode::migration, options.leases.term};
  self_
    ->request(manager, options.leases.acquire_timeout + options.request_timeout, atom::acquire_v, request,
              caf::actor_cast<lease_holder_actor>(self_))
    .then(
      [this](const std::vector<lease_grant>& grants) {
        if (grants.empty() || grants.front().home.of != record_.from || grants.front().home.tier != record_.from_tier) {
          failed(errc::shard_moved, grants.empty() ? "no lease" : "its home is " + grants.front().home.tier);
          return;
        }
        leased_ = true;
        fence_ = grants.front().fence;
        if (!std::exchange(renewing_, true))
          self_->delayed_send(self_, context_->options.leases.renew_every(grants.front().term), atom::renew_v);
        step({});
      },
      [this](const caf::error& e) { failed(e); });
}

void migration_actor_state::renew() {
  renewing_ = false;
  if (!leased_ || plan_.phase >= migration_phase::note_ended)
    return;
  auto again = [this](caf::timespan in) {
    if (!std::exchange(renewing_, true))
      self_->delayed_send(self_, in, atom::renew_v);
  };
  auto manager = context_->directory->get<lease_manager_actor>(path::leases);
  if (!manager) {
    again(500ms);
    return;
  }
  // A lease that has ended nevertheless does no harm: only this supervisor starts migrations, and the journal tells
  // of all that are not over.
  self_->request(manager, context_->options.request_timeout, atom::renew_v, holder())
    .then([this, again](const lease_renewal& x) { again(context_->options.leases.renew_every(x.term)); },
          [this, again](const caf::error& e) {
            if (code_of(e) != errc::not_found)
              again(500ms);
            else
              leased_ = false;
          });
}

void migration_actor_state::note(migration_state state) {
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes)
    return missing(path::volumes);
  auto record = record_;
  record.state = state;
  if (state == migration_state::aborted)
    record.reason = reason_of(plan_);
  const auto timeout = context_->options.request_timeout;
  auto refused = [this](const caf::error& e) { failed(e); };
  self_->request(volumes, timeout, atom::open_v, record.shard.volume)
    .then(
      [this, record, timeout, refused](const volume_actor& volume) {
        self_->request(volume, timeout, atom::commit_v, record)
          .then(
            [this](const migration_record& x) {
              record_ = x;
              step({});
              tell();
            },
            refused);
      },
      refused);
}

void migration_actor_state::begin_move() {
  ask_mover<void>([this] { step({}); }, atom::start_v, term_, ends());
}

void migration_actor_state::copy() {
  if (plan_.paused && !plan_.cancelled) {
    standing_ = true;
    tell();
    return;
  }
  const auto began = context_->now();
  ask_mover<copy_round>(
    [this, began](const copy_round& x) {
      if (!meter_)
        meter_.emplace(0, context_->options.migrations.budget_bytes_per_second);
      meter_->round(x.copied_bytes, std::max(x.changed_bytes, x.remaining_bytes), context_->now() - began);
      blocks_verified_ += x.blocks_verified;
      verify_failures_ += x.verify_failures;
      mirroring_ = x.mirroring;
      if (x.status != errc::none) {
        failed(x.status, "copying");
        return;
      }
      tell();
      step({.changed_bytes = x.changed_bytes, .remaining_bytes = x.remaining_bytes, .shrinking = x.shrinking});
    },
    atom::copy_v, term_, ends(), context_->options.migrations.copy_bytes_max);
}

void migration_actor_state::switch_over() {
  ask_mover<switch_result>(
    [this](const switch_result& x) {
      gate_closed_ = x.gate_closed;
      if (x.status == errc::none)
        step({}); // the gate is closed: nothing between here and its opening waits for a timer
      else
        failed(x.status, "switching");
    },
    atom::seal_v, term_, ends());
}

void migration_actor_state::end_move(bool committed) {
  if (committed) {
    // The new route first: the requests at the gate go on as soon as it is there.
    const shard_home home{record_.shard, record_.to_tier, record_.to, fence_};
    if (auto manager = context_->directory->get<lease_manager_actor>(path::leases))
      self_->send(manager, atom::refresh_v, home);
    if (auto tier = context_->directory->get<tier_actor>(path::tier(record_.to_tier)))
      self_->send(tier, atom::publish_v, home, true);
  }
  ask_mover<caf::timespan>(
    [this, committed](caf::timespan closed) {
      gate_closed_ = std::max<std::chrono::nanoseconds>(gate_closed_, closed);
      if (committed) {
        const shard_home old{record_.shard, record_.from_tier, record_.from, fence_};
        if (auto tier = context_->directory->get<tier_actor>(path::tier(record_.from_tier)))
          self_->send(tier, atom::publish_v, old, false);
      } else if (auto tier = context_->directory->get<tier_actor>(path::tier(record_.to_tier))) {
        self_->send(tier, atom::publish_v, shard_home{record_.shard, record_.to_tier, record_.to, fence_}, false);
      }
      if (committed && meter_)
        meter_->commit();
      step({});
    },
    atom::end_v, term_, ends(), committed);
}

template <class Answer, class F, class... Ts>
void migration_actor_state::ask_mover(F done, Ts... what) {
  const auto& tiers = context_->options.tiers;
  const auto source =
    std::find_if(tiers.begin(), tiers.end(), [&](auto& x) { return x.store.name == record_.from_tier; });
  const auto path = path::mover_of(source == tiers.end() ? std::string{} : source->node);
  auto mover = context_->directory->get<mover_actor>(path);
  if (!mover)
    return missing(path);
  if (!(mover_ == mover.address())) {
    mover_ = mover.address();
    self_->monitor(mover);
  }
  const auto number = asking_ = ++asked_;
  auto waited_for = [this, number] { return asking_ == number && std::exchange(asking_, 0) != 0; };
  auto refused = [this, waited_for](const caf::error& e) {
    if (waited_for())
      failed(e);
  };
  auto asked = self_->request(mover, context_->options.migrations.act_timeout, std::move(what)...);
  if constexpr (std::is_void_v<Answer>)
    asked.then(
      [waited_for, done] {
        if (waited_for())
          done();
      },
      refused);
  else
    asked.then(
      [waited_for, done](const Answer& x) {
        if (waited_for())
          done(x);
      },
      refused);
}

void migration_actor_state::on_down(const caf::down_msg& x) {
  if (!(mover_ == x.source))
    return;
  mover_ = {};
  if (std::exchange(asking_, 0) != 0)
    failed(errc::unavailable, "the source's node is lost");
}

void migration_actor_state::note_ended() {
  if (auto manager = context_->directory->get<lease_manager_actor>(path::leases); manager && leased_)
    self_->request(manager, context_->options.request_timeout, atom::release_v, holder(), record_.shard, uint64_t{1})
      .then([] {}, [](const caf::error&) {}); // it ends with its term
  leased_ = false;
  record_.ended_at = context_->wall_seconds();
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog)
    return missing(path::catalog);
  // The state is said already; that nothing is left to be done concerns no home.
  catalog_batch batch;
  batch.lazy = true; // else the next start ends it once more
  batch.changes.push_back({key::migration(record_.id), encode(record_), false});
  self_->request(catalog, context_->options.request_timeout, atom::commit_v, batch)
    .then([this](uint64_t) { step({}); }, [this](const caf::error& e) { failed(e); });
}

void migration_actor_state::over() {
  for (auto& promise : waiting_for_end_)
    deliver_done(promise);
  waiting_for_end_.clear();
  tell();
  self_->quit();
}

void migration_actor_state::tell() {
  if (auto watcher = context_->directory->get<migration_watcher_actor>(path::migrations))
    self_->send(watcher, atom::publish_v, progress());
}

migration_progress migration_actor_state::progress() const {
  migration_progress x;
  x.record = record_;
  if (meter_)
    meter_->fill(x);
  if (record_.state == migration_state::committed)
    x.percent = 100;
  x.paused = plan_.paused;
  x.mirroring = mirroring_ && record_.state < migration_state::committed;
  x.last_error = last_error_;
  x.blocks_verified = blocks_verified_;
  x.verify_failures = verify_failures_;
  x.gate_closed = gate_closed_;
  return x;
}

move_ends migration_actor_state::ends() const {
  return {record_.id, record_.shard, record_.from_tier, record_.to_tier, record_.from, record_.to};
}

holder_id migration_actor_state::holder() const {
  return holder_of(record_.id);
}

} // namespace varve
