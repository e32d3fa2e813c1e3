#include "actors/host/vm_agent.hpp"

#include <algorithm>
#include <caf/exit_reason.hpp>
#include <chrono>

#include "runtime/caf/reporting.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

/// Before the n-th try again of what only waits for another actor to come back.
caf::timespan back_off(unsigned attempts) {
  return std::min<caf::timespan>(20ms * (1u << std::min(attempts, 7u)), 2s);
}

/// Of giving back leases and recording the end of an attachment.
constexpr unsigned end_attempts_max = 8;

/// Whether asking again cannot help: the request that needs it fails instead of waiting.
bool is_final(errc code) {
  switch (code) {
  case errc::tier_full:
  case errc::device_failed:
  case errc::shard_failed:
  case errc::checksum_mismatch:
  case errc::bad_format:
  case errc::not_found:
  case errc::volatile_tier:
  case errc::limit_reached:
  case errc::invalid_argument:
  case errc::unsupported: return true;
  default: return false;
  }
}

} // namespace

attachment attachment_of(const node_context& context, volume_id volume, const std::string& name, holder_id holder) {
  attachment x;
  x.volume = volume;
  x.holder = holder;
  x.host = context.options.name;
  // Without a folder there are no sockets: a simulation drives the port through its backend.
  if (context.options.socket_folder.empty())
    return x;
  x.socket_path = context.options.socket_folder + "/" + name + ".sock";
  x.uri = "nbd+unix:///" + name + "?socket=" + x.socket_path;
  return x;
}

vm_agent_self::behavior_type vm_agent(vm_agent_self::stateful_pointer<vm_agent_state> self, context_ptr context,
                                      volume_id volume, holder_id holder) {
  return self->state.make_behavior(std::move(context), volume, holder);
}

vm_agent_self::behavior_type vm_agent_state::make_behavior(context_ptr context, volume_id volume, holder_id holder) {
  context_ = std::move(context);
  volume_ = volume;
  holder_ = holder;
  self_->set_exit_handler([this](const caf::exit_msg& x) { on_exit(x); });
  self_->set_down_handler([this](const caf::down_msg& x) { on_down(x); });
  open(open_round_);
  return {
    [this](atom::revoke, shard_id first, uint64_t count) { return revoke(first, count); },
    [this](atom::change, shard_id shard) { return lower(shard); },
    [this](atom::refresh, const shard_home& home) { refresh(home); },
    [this](atom::get) { return get(); },
    [this](atom::resize, uint64_t size_bytes) { return resize(size_bytes); },
    [this](atom::detach, bool force) { return detach(force); },
    [this](atom::need, const std::vector<route_need>& needs) { need(needs); },
    [this](atom::open, uint64_t round) { open(round); },
    [this](atom::renew, uint64_t round) { renew(round); },
    [this](atom::tick, uint64_t round) {
      if (round == tick_round_)
        pump();
    },
    [](const returned& x) { x.run(); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts vm_agent_state::facts() const {
  actor_facts facts{count_fact("volume", volume_.value()),
                    count_fact("holder", holder_.value()),
                    flag_fact("open", open_),
                    text_fact("uri", attachment_.uri),
                    count_fact("leases-held", held_.size()),
                    count_fact("needs-waiting", book_.waiting()),
                    count_fact("acquires", acquiring_.size()),
                    flag_fact("detaching", detaching_)};
  if (keep_alive_at_)
    facts.push_back(time_fact("renews-in", caf::timespan{(*keep_alive_at_ - context_->now()).count()}));
  return facts;
}

// -- the port
// ------------------------------------------------------------------------------------------------------------

void vm_agent_state::open(uint64_t round) {
  if (open_ || round != open_round_ || detaching_)
    return;
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes) {
    open_failed(make_error(errc::unavailable, "the volume directory is starting"));
    return;
  }
  // Not what the attach said: since then the volume may have been resized, or detached from here.
  self_->request(volumes, context_->options.request_timeout, atom::get_v, std::to_string(volume_.value()))
    .then(
      [this](const volume_record& record) {
        if (record.of(holder_))
          open_port(record);
        else
          open_failed(make_error(errc::volume_detached, record.spec.name));
      },
      [this](const caf::error& e) { open_failed(e); });
}

void vm_agent_state::open_port(const volume_record& record) {
  attachment_ = attachment_of(*context_, volume_, record.spec.name, holder_);
  port_options options;
  options.volume = volume_;
  options.holder = holder_;
  options.name = record.spec.name;
  options.size_bytes = record.spec.size_bytes;
  options.shard_size = record.spec.shard_size;
  options.socket_path = attachment_.socket_path;
  options.reactor = static_cast<uint32_t>(volume_.value());
  options.error_after = context_->options.error_after;
  caf::weak_actor_ptr to{self_->ctrl()};
  options.on_need = [to](std::vector<route_need> needs) {
    if (auto agent = to.lock())
      agent->enqueue(nullptr, caf::make_message_id(), caf::make_message(atom::need_v, std::move(needs)), nullptr);
  };
  context_->plane->open_port(std::move(options), returning<errc>(self_, [this](errc status) {
                               if (status == errc::none)
                                 opened();
                               else
                                 open_failed(make_error(status, attachment_.socket_path));
                             }));
}

void vm_agent_state::open_failed(const caf::error& e) {
  const auto code = code_of(e);
  if (code == errc::not_found || code == errc::volume_detached) {
    // Removed, or attached anew: whatever is open under the old attachment has no right to be.
    for (auto& promise : waiting_for_port_)
      promise.deliver(e);
    waiting_for_port_.clear();
    self_->quit();
    return;
  }
  if (code != errc::unavailable && code != errc::timed_out) {
    for (auto& promise : waiting_for_port_)
      promise.deliver(e);
    waiting_for_port_.clear();
    if (open_attempts_ == 0)
      context_->publish("PORT_FAILED",
                        "volume " + std::to_string(volume_.value()) + ": " + to_string(code) + ": " + context_of(e));
  }
  self_->delayed_send(self_, back_off(open_attempts_++), atom::open_v, ++open_round_);
}

void vm_agent_state::opened() {
  if (detaching_)
    return;
  open_ = true;
  open_attempts_ = 0;
  for (auto& promise : waiting_for_port_)
    promise.deliver(attachment_);
  waiting_for_port_.clear();
  // Its predecessor's leases are this holder's and are kept alive; but not the routes, since nobody can say whether all
  // of these leases are there still.
  context_->plane->drop_routes(volume_, shard_index{0}, UINT64_MAX, [](errc) {});
  keep_alive_within(0s);
}

caf::result<attachment> vm_agent_state::get() {
  if (open_)
    return attachment_;
  auto promise = self_->make_response_promise<attachment>();
  waiting_for_port_.push_back(promise);
  return promise;
}

caf::typed_response_promise<void> vm_agent_state::resize(uint64_t size_bytes) {
  auto promise = self_->make_response_promise<void>();
  context_->plane->resize_port(volume_, size_bytes, returning<errc>(self_, [promise](errc status) mutable {
                                 if (status == errc::none)
                                   deliver_done(promise);
                                 else
                                   promise.deliver(make_error(status, "resizing the port"));
                               }));
  return promise;
}

// -- leases
// --------------------------------------------------------------------------------------------------------------

void vm_agent_state::need(const std::vector<route_need>& needs) {
  for (auto& x : needs)
    book_.add(x.first.value(), x.count, x.write, context_->now());
  pump();
}

void vm_agent_state::pump() {
  while (auto range = book_.next(context_->now()))
    acquire(*range);
  if (auto at = book_.wake_at())
    self_->delayed_send(self_, std::max<caf::timespan>(*at - context_->now(), 1ms), atom::tick_v, ++tick_round_);
}

void vm_agent_state::acquire(const need_book::range& range) {
  auto manager = context_->directory->get<lease_manager_actor>(path::leases);
  if (!manager) {
    book_.done(range, {}, context_->now());
    return;
  }
  if (watched_ != manager.address()) {
    watched_ = manager.address();
    self_->monitor(manager);
  }
  const auto number = ++acquires_;
  acquiring_[number] = {range, manager.address()};
  const auto asked_at = context_->now();
  const lease_request request{holder_,
                              {volume_, shard_index{range.first}},
                              range.count,
                              range.write ? lease_mode::write : lease_mode::read,
                              context_->options.leases.term};
  const auto& options = context_->options;
  const auto patience = options.leases.acquire_timeout + options.request_timeout;
  auto on_granted = [this, number, range, asked_at](const std::vector<lease_grant>& grants) {
    if (!answered(number))
      return;
    granted(range, asked_at, grants);
    pump();
  };
  auto on_refused = [this, number, range](const caf::error& e) {
    if (!answered(number))
      return;
    refused(range, e);
    pump();
  };
  if (range.write && reads_all(range)) {
    // Reading goes on meanwhile, whatever comes of it.
    self_->request(manager, patience, atom::change_v, request)
      .then(on_granted, [this, number, range, on_refused](const caf::error& e) {
        if (code_of(e) != errc::not_found) {
          on_refused(e);
        } else if (answered(number)) {
          // The manager does not know that we read. Then as if we did not.
          forget(range);
          acquire(range);
        }
      });
    return;
  }
  self_->request(manager, patience, atom::acquire_v, request, caf::actor_cast<lease_holder_actor>(self_))
    .then(on_granted, on_refused);
}

bool vm_agent_state::reads_all(const need_book::range& range) const {
  for (uint64_t i = 0; i < range.count; ++i)
    if (auto at = held_.find({range.first + i, true}); at == held_.end() || at->second.writable)
      return false;
  return true;
}

void vm_agent_state::forget(const need_book::range& range) {
  for (uint64_t i = 0; i < range.count; ++i)
    held_.erase({range.first + i, true});
  context_->plane->drop_routes(volume_, shard_index{range.first}, range.count, [](errc) {});
}

void vm_agent_state::on_down(const caf::down_msg& x) {
  // What it had not answered it never will: its successor is asked without waiting for the time-outs.
  const auto now = context_->now();
  std::erase_if(acquiring_, [&](auto& of) {
    if (of.second.manager != x.source)
      return false;
    book_.done(of.second.range, {}, now);
    return true;
  });
  pump();
}

void vm_agent_state::granted(const need_book::range& range, boot_time asked_at,
                             const std::vector<lease_grant>& grants) {
  const auto now = context_->now();
  if (detaching_) {
    book_.done(range, {{range.first, range.count, range.write, 0, now}}, now);
    return;
  }
  // An earlier manager's, which another has replaced.
  const auto known = grants.empty() || heard(grants.front().revision);
  std::vector<route> routes;
  std::vector<need_book::range> parts;
  auto term = context_->options.leases.term;
  routes.reserve(grants.size());
  for (auto& x : known ? grants : std::vector<lease_grant>{}) {
    route to;
    to.first = x.home.id.index;
    to.count = x.count;
    to.exists = x.home.exists();
    to.writable = x.mode == lease_mode::write;
    to.tier = x.home.tier;
    to.generation = x.home.of;
    to.fence = x.fence;
    // Counted from the question, shortened by what clocks may differ: the holder always stops first.
    to.valid_until = asked_at + x.term - context_->options.leases.drift_bound;
    term = std::min(term, x.term);
    parts.push_back({to.first.value(), to.count, to.writable, 0, now});
    if (!to.exists) {
      add_run(to, routes);
      continue;
    }
    made_.insert(to.first.value());
    hold(true, to);
    routes.push_back(std::move(to));
  }
  if (!routes.empty()) {
    context_->plane->set_routes(volume_, std::move(routes));
    keep_alive_within(context_->options.leases.renew_every(term));
  }
  book_.done(range, parts, now);
  if (book_.in_flight() == 0)
    made_.clear();
}

void vm_agent_state::add_run(const route& run, std::vector<route>& routes) {
  const auto end = run.first.value() + run.count;
  auto next = run.first.value();
  auto add = [&](uint64_t until) {
    if (next >= until)
      return;
    auto part = run;
    part.first = shard_index{next};
    part.count = until - next;
    hold(false, part);
    routes.push_back(part);
  };
  std::set<uint64_t> known(made_.lower_bound(next), made_.lower_bound(end));
  for (auto at = held_.lower_bound({next, false}); at != held_.end() && at->first.first < end; ++at)
    if (at->first.second)
      known.insert(at->first.first);
  for (auto index : known) {
    add(index);
    next = index + 1;
  }
  add(end);
}

void vm_agent_state::refused(const need_book::range& range, const caf::error& e) {
  const auto code = code_of(e);
  const auto now = context_->now();
  if (!is_final(code)) {
    book_.done(range, {}, now);
    return;
  }
  if (range.count > 1) {
    // One bad shard must not fail its neighbours: the halves are asked for by themselves.
    book_.done(range, {{range.first, range.count, range.write, 0, now}}, now);
    const auto half = range.count / 2;
    book_.add_apart(range.first, half, range.write, now);
    book_.add_apart(range.first + half, range.count - half, range.write, now);
    return;
  }
  book_.done(range, {{range.first, range.count, range.write, 0, now}}, now);
  context_->plane->refuse_needs(volume_, shard_index{range.first}, range.count, range.write, code);
}

caf::typed_response_promise<void> vm_agent_state::revoke(shard_id first, uint64_t count) {
  auto promise = self_->make_response_promise<void>();
  const auto begin = first.index.value();
  const auto end = begin + count;
  std::vector<held_route> cut;
  for (auto at = held_.begin(); at != held_.end();) {
    const auto x = at->second;
    const auto x_begin = x.first.value(), x_end = x.first.value() + x.count;
    if (x_end <= begin || end <= x_begin) {
      ++at;
      continue;
    }
    at = held_.erase(at);
    // What is left of a run on either side.
    auto rest = x;
    if (x_begin < begin) {
      rest.count = begin - x_begin;
      cut.push_back(rest);
    }
    if (end < x_end) {
      rest.first = shard_index{end};
      rest.count = x_end - end;
      cut.push_back(rest);
    }
  }
  for (auto& x : cut)
    held_[{x.first.value(), x.exists}] = x;
  context_->plane->drop_routes(volume_, first.index, count, returning<errc>(self_, [promise](errc status) mutable {
                                 // No port, no routes: nothing uses them.
                                 if (status == errc::none || status == errc::not_found)
                                   deliver_done(promise);
                                 else
                                   promise.deliver(make_error(status, "dropping routes"));
                               }));
  return promise;
}

caf::typed_response_promise<void> vm_agent_state::lower(shard_id shard) {
  auto promise = self_->make_response_promise<void>();
  const route_key key{shard.index.value(), true};
  if (auto held = held_.find(key); held != held_.end())
    held->second.writable = false;
  // Without a route nothing begins, and all that has begun is over when this is done; then reading goes on. Also of
  // what is not held any more, or for reading only: a write of before may still be under way.
  context_->plane->drop_routes(volume_, shard.index, 1,
                               returning<errc>(self_, [this, key, promise](errc status) mutable {
                                 if (status != errc::none && status != errc::not_found) {
                                   promise.deliver(make_error(status, "dropping a route"));
                                   return;
                                 }
                                 if (auto at = held_.find(key); at != held_.end() && !at->second.writable)
                                   context_->plane->set_routes(volume_, {at->second});
                                 deliver_done(promise);
                               }));
  return promise;
}

void vm_agent_state::refresh(const shard_home& home) {
  auto at = held_.find({home.id.index.value(), true});
  if (at == held_.end() || at->second.generation >= home.of)
    return;
  at->second.tier = home.tier;
  at->second.generation = home.of;
  at->second.fence = std::max(at->second.fence, home.fence);
  context_->plane->set_routes(volume_, {at->second});
}

// -- the keep-alive
// --------------------------------------------------------------------------------------------------------

void vm_agent_state::keep_alive_within(caf::timespan in) {
  // Terms differ: the shortest does not wait for the keep-alive of those before.
  const auto at = context_->now() + in;
  if (keep_alive_at_ && *keep_alive_at_ <= at)
    return;
  keep_alive_at_ = at;
  self_->delayed_send(self_, in, atom::renew_v, ++renew_round_);
}

void vm_agent_state::renew(uint64_t round) {
  if (round != renew_round_ || detaching_)
    return;
  // The next one is armed by the answer or its absence, or by what is granted meanwhile.
  keep_alive_at_.reset();
  auto manager = context_->directory->get<lease_manager_actor>(path::leases);
  if (!manager) {
    keep_alive_within(back_off(renew_attempts_++));
    return;
  }
  const auto asked_at = context_->now();
  self_->request(manager, context_->options.request_timeout, atom::renew_v, holder_)
    .then([this, asked_at](const lease_renewal& x) { renewed(asked_at, x); },
          [this](const caf::error& e) {
            if (code_of(e) != errc::not_found) {
              keep_alive_within(back_off(renew_attempts_++));
              return;
            }
            // The manager knows of no lease of ours. Nothing is extended; what we use we ask for again, and the first
            // grant starts the keep-alive.
            renew_attempts_ = 0;
            ++round_;
            acquire_all_again();
          });
}

void vm_agent_state::renewed(boot_time asked_at, const lease_renewal& x) {
  const auto before = round_;
  if (x.gaps.empty())
    renew_attempts_ = 0;
  keep_alive_within(x.gaps.empty()
                      ? context_->options.leases.renew_every(x.term)
                      : std::min(context_->options.leases.renew_every(x.term), back_off(renew_attempts_++)));
  if (!heard(x.revision) || round_ != before)
    return; // what is lost an extension would hide: absent shards have no fence in storage that would catch that
  const auto until = asked_at + x.term - context_->options.leases.drift_bound;
  const auto on_gap = [&](const held_route& held) {
    return !x.gaps.empty() && (!held.exists || std::any_of(x.gaps.begin(), x.gaps.end(),
                                                           [&](auto& gap) { return gap.tier == held.tier; }));
  };
  std::vector<route> extended, over;
  for (auto at = held_.begin(); at != held_.end();) {
    auto& held = at->second;
    if (held.round != round_ || held.valid_until <= asked_at) {
      // Not granted again, or over before it was asked for: others may have it.
      over.push_back(held);
      at = held_.erase(at);
      continue;
    }
    // On a gap it ends when it would have. So does a run: set anew, it would cover shards that were made inside, whose
    // routes the data plane may have dropped; they would read as zeros.
    if (!on_gap(held)) {
      held.valid_until = std::max(held.valid_until, until);
      if (!x.gaps.empty())
        extended.push_back(held);
    }
    ++at;
  }
  for (const auto& run : over) {
    context_->plane->drop_routes(volume_, run.first, run.count, [](errc) {});
    // Shards that were made inside of it have routes of their own.
    if (!run.exists && x.gaps.empty())
      for (auto at = held_.lower_bound({run.first.value(), false});
           at != held_.end() && at->first.first < run.first.value() + run.count; ++at)
        if (at->second.exists)
          extended.push_back(at->second);
  }
  if (x.gaps.empty())
    context_->plane->extend_routes(volume_, until);
  if (!extended.empty())
    context_->plane->set_routes(volume_, std::move(extended));
}

bool vm_agent_state::heard(uint64_t revision) {
  if (revision < revision_)
    return false;
  if (revision == revision_)
    return true;
  const bool first = revision_ == 0;
  revision_ = revision;
  if (first)
    return true;
  ++round_;
  acquire_all_again();
  return true;
}

void vm_agent_state::acquire_all_again() {
  const auto now = context_->now();
  for (auto& [key, x] : held_)
    if (x.round != round_)
      book_.add(x.first.value(), x.count, x.writable, now);
  pump();
}

// -- the end
// -------------------------------------------------------------------------------------------------------------

caf::typed_response_promise<void> vm_agent_state::detach(bool force) {
  auto promise = self_->make_response_promise<void>();
  waiting_for_detach_.push_back(promise);
  if (detaching_ && !force)
    return promise;
  // Until the port is closed its parked requests are still served.
  context_->plane->close_port(volume_, force, returning<errc>(self_, [this](errc status) { port_closed(status); }));
  return promise;
}

void vm_agent_state::port_closed(errc status) {
  if (detaching_)
    return; // a forced detach beside a patient one
  if (status != errc::none && status != errc::not_found) {
    auto waiting = std::move(waiting_for_detach_);
    waiting_for_detach_.clear();
    for (auto& promise : waiting)
      promise.deliver(make_error(status, "closing the port"));
    return;
  }
  detaching_ = true;
  held_.clear();
  release_leases(0);
}

void vm_agent_state::release_leases(unsigned attempts) {
  auto manager = context_->directory->get<lease_manager_actor>(path::leases);
  auto again = [this, attempts](const caf::error&) {
    // They end by themselves when their terms are over: a manager that stays away does not hold up a detach.
    if (attempts < end_attempts_max)
      later(attempts, [this, attempts] { release_leases(attempts + 1); });
    else
      record_end(0);
  };
  if (!manager) {
    again(caf::error{});
    return;
  }
  self_
    ->request(manager, context_->options.request_timeout, atom::release_v, holder_, shard_id{volume_, shard_index{0}},
              uint64_t{0})
    .then([this] { record_end(0); },
          [this, again](const caf::error& e) {
            if (code_of(e) == errc::not_found)
              record_end(0);
            else
              again(e);
          });
}

void vm_agent_state::record_end(unsigned attempts) {
  auto refused = [this, attempts](const caf::error& e) {
    const auto code = code_of(e);
    if (code == errc::not_found || code == errc::volume_detached)
      detached(caf::error{});
    else if (attempts < end_attempts_max)
      later(attempts, [this, attempts] { record_end(attempts + 1); });
    else
      detached(e);
  };
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes) {
    refused(make_error(errc::unavailable, "the volume directory is starting"));
    return;
  }
  const auto timeout = context_->options.request_timeout;
  self_->request(volumes, timeout, atom::open_v, volume_)
    .then(
      [this, timeout, refused](const volume_actor& volume) {
        self_->request(volume, timeout, atom::detach_v, holder_)
          .then([this](const volume_record&) { detached(caf::error{}); }, refused);
      },
      refused);
}

void vm_agent_state::detached(const caf::error& e) {
  for (auto& promise : waiting_for_detach_) {
    if (e)
      promise.deliver(e);
    else
      deliver_done(promise);
  }
  waiting_for_detach_.clear();
  // With the end not recorded the volume counts as attached: the next agent opens it again, and detaching may be tried
  // again.
  if (e)
    self_->quit(e);
  else
    self_->quit();
}

void vm_agent_state::on_exit(const caf::exit_msg& x) {
  if (!x.reason)
    return;
  if (x.reason != caf::exit_reason::user_shutdown || !open_) {
    self_->quit(x.reason);
    return;
  }
  // The node stops: what was acknowledged is flushed, and the VM's client may wait for the next start. The attachment
  // stays in the catalog.
  context_->plane->close_port(volume_, true,
                              returning<errc>(self_, [this, reason = x.reason](errc) { self_->quit(reason); }));
}

template <class F>
void vm_agent_state::later(unsigned attempts, F f) {
  self_->delayed_send(self_, back_off(attempts), returned{std::move(f)});
}

} // namespace varve
