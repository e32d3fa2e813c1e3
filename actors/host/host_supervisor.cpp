#include "actors/host/host_supervisor.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>

#include "runtime/caf/reporting.hpp"
#include "runtime/catalog/records.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

/// A patient detach waits for what the VM has parked; a forced one only for the device.
constexpr caf::timespan detach_patience = 10min;
/// How soon another manager is noticed: a look into the directory.
constexpr caf::timespan look_every = 1s;
/// Looks after an attach in doubt: until nothing of it can be under way any more.
constexpr unsigned doubtful_looks = 30;

} // namespace

host_supervisor_self::behavior_type host_supervisor(host_supervisor_self::stateful_pointer<host_supervisor_state> self,
                                                    context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

host_supervisor_self::behavior_type host_supervisor_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  children_.emplace(self_, context_, path::host);
  children_->on_death = [this](const std::string& path, const caf::error& reason) {
    // It ended by itself: detached, or removed.
    if (is_orderly(reason))
      std::erase_if(attached_, [&](auto& x) { return path::vm_agent(x.first.value()) == path; });
  };
  look();
  return {
    [this](atom::revoke, shard_id first, uint64_t count) { return revoke(first, count); },
    [this](atom::change, shard_id shard) { return lower(shard); },
    [this](atom::refresh, const shard_home& home) { refresh(home); },
    [this](atom::attach, volume_id volume, bool shared) { return attach(volume, shared); },
    [this](atom::detach, volume_id volume, bool force) { return detach(volume, force); },
    [this](atom::resize, volume_id volume, uint64_t size_bytes) { return resize(volume, size_bytes); },
    [this](atom::list) { return list(); },
    [this](atom::open, uint64_t round) { restore(round); },
    [this](atom::tick) { look(); },
    [](const returned& x) { x.run(); },
    [this](atom::start, const std::string& child) { children_->on_start(child); },
    [this](atom::stop, uint64_t round) { children_->on_grace_over(round); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts host_supervisor_state::facts() const {
  actor_facts facts{count_fact("attached", attached_.size()), count_fact("attaching", attaching_.size())};
  const auto below = children_->facts();
  facts.insert(facts.end(), below.begin(), below.end());
  return facts;
}

// -- what a holder is told
// --------------------------------------------------------------------------------------------------

caf::result<void> host_supervisor_state::revoke(shard_id first, uint64_t count) {
  if (auto agent = children_->get<vm_agent_actor>(path::vm_agent(first.volume.value())))
    return self_->delegate(agent, atom::revoke_v, first, count);
  return drop(first, count);
}

caf::result<void> host_supervisor_state::lower(shard_id shard) {
  if (auto agent = children_->get<vm_agent_actor>(path::vm_agent(shard.volume.value())))
    return self_->delegate(agent, atom::change_v, shard);
  return drop(shard, 1);
}

caf::typed_response_promise<void> host_supervisor_state::drop(shard_id first, uint64_t count) {
  auto promise = self_->make_response_promise<void>();
  context_->plane->drop_routes(first.volume, first.index, count, returning<errc>(self_, [promise](errc status) mutable {
                                 if (status == errc::none || status == errc::not_found)
                                   deliver_done(promise);
                                 else
                                   promise.deliver(make_error(status, "dropping routes"));
                               }));
  return promise;
}

void host_supervisor_state::refresh(const shard_home& home) {
  if (auto agent = children_->get<vm_agent_actor>(path::vm_agent(home.id.volume.value())))
    self_->send(agent, atom::refresh_v, home);
}

// -- what the catalog says
// --------------------------------------------------------------------------------------------------

void host_supervisor_state::look() {
  self_->delayed_send(self_, look_every, atom::tick_v);
  const auto volumes = context_->directory->get<caf::actor>(path::volumes);
  if (!comparing_ && !children_->stopping() && (!volumes || !(volumes.address() == compared_with_))) {
    comparing_ = true;
    restore(restore_round_);
  }
  std::vector<volume_id> doubtful;
  for (auto at = doubtful_.begin(); at != doubtful_.end();) {
    doubtful.push_back(at->first);
    at = --at->second == 0 ? doubtful_.erase(at) : std::next(at);
  }
  for (auto x : doubtful)
    settle_doubt(x);
}

void host_supervisor_state::restore(uint64_t round) {
  if (round != restore_round_)
    return;
  auto again = [this] {
    const auto delay = std::min<caf::timespan>(20ms * (1u << std::min(restore_attempts_, 6u)), 1s);
    ++restore_attempts_;
    self_->delayed_send(self_, delay, atom::open_v, ++restore_round_);
  };
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes) {
    again();
    return;
  }
  self_->request(volumes, context_->options.request_timeout, atom::list_v)
    .then(
      [this, from = volumes.address(), serves = serves_](const std::vector<volume_record>& records) {
        comparing_ = false;
        compared_with_ = from;
        restore_attempts_ = 0;
        compare(records, serves);
      },
      [again](const caf::error&) { again(); });
}

void host_supervisor_state::compare(const std::vector<volume_record>& records, uint64_t serves) {
  std::map<volume_id, holder_id> here; // holder 0: known, and not attached here
  for (auto& x : records) {
    const auto* at = x.at(context_->options.name);
    here[x.id] = at ? at->holder : holder_id{};
    if (!at)
      continue;
    // One that is being attached now takes care of itself.
    if (!x.removing && attached_.count(x.id) == 0 && attaching_.count(x.id) == 0)
      serve(x);
  }
  std::vector<volume_id> given_up;
  for (auto& [volume, x] : attached_)
    if (served_[volume] <= serves && attaching_.count(volume) == 0)
      if (auto at = here.find(volume); at != here.end() && at->second != x.holder)
        given_up.push_back(volume);
  std::erase_if(served_, [this](auto& x) { return attached_.count(x.first) == 0; });
  for (auto x : given_up)
    stop_serving(x);
}

void host_supervisor_state::stop_serving(volume_id volume) {
  context_->publish("ATTACHMENT_ENDED", "volume " + std::to_string(volume.value()) +
                                          " is attached here no more, says the catalog: its port is closed");
  // Once more when that is over: it may have been attached here anew, as another holder.
  auto over = [this] { compared_with_ = {}; };
  auto agent = children_->get<vm_agent_actor>(path::vm_agent(volume.value()));
  if (!agent) {
    over();
    return;
  }
  self_->request(agent, 4 * context_->options.request_timeout, atom::detach_v, true)
    .then(over, [over](const caf::error&) { over(); });
}

void host_supervisor_state::settle_doubt(volume_id volume) {
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes || attached_.count(volume) != 0 || attaching_.count(volume) != 0)
    return;
  self_->request(volumes, context_->options.request_timeout, atom::get_v, std::to_string(volume.value()))
    .then(
      [this, volume](const volume_record& x) {
        if (x.id != volume || !x.at(context_->options.name) || doubtful_.erase(volume) == 0)
          return;
        if (!x.removing && attached_.count(volume) == 0 && attaching_.count(volume) == 0)
          serve(x);
      },
      [](const caf::error&) {}); // asked again while it is in doubt
}

// -- attaching
// --------------------------------------------------------------------------------------------------------------

host_supervisor_state::attach_promise host_supervisor_state::attach(volume_id volume, bool shared) {
  auto promise = self_->make_response_promise<attachment>();
  auto& waiting = attaching_[volume];
  waiting.push_back(promise);
  if (waiting.size() > 1)
    return promise;
  if (attached_.count(volume) != 0)
    await_port(volume);
  else
    take_holder(volume, shared);
  return promise;
}

void host_supervisor_state::take_holder(volume_id volume, bool shared) {
  auto catalog = context_->directory->get<catalog_actor>(path::catalog);
  if (!catalog) {
    attach_failed(volume, make_error(errc::unavailable, "the catalog is starting"), false);
    return;
  }
  self_->request(catalog, context_->options.request_timeout, atom::acquire_v, key::next_holder, uint64_t{1})
    .then(
      [this, volume, shared](uint64_t number) {
        record(volume, {holder_id{number}, context_->options.name}, shared);
      },
      [this, volume](const caf::error& e) { attach_failed(volume, e, false); });
}

void host_supervisor_state::record(volume_id volume, const volume_attachment& to, bool shared) {
  open(
    volume,
    [this, volume, to, shared](const volume_actor& actor) {
      // First the record, then the port: an attachment that the catalog does not know would be forgotten by a restart.
      self_->request(actor, context_->options.request_timeout, atom::attach_v, to, shared)
        .then([this](const volume_record& x) { serve(x); },
              [this, volume, actor](const caf::error& e) {
                if (code_of(e) == errc::unavailable || code_of(e) == errc::timed_out)
                  doubtful_[volume] = doubtful_looks;
                if (code_of(e) != errc::volume_attached) {
                  attach_failed(volume, e, false);
                  return;
                }
                // Attached by an earlier life of ours, and not restored yet.
                self_->request(actor, context_->options.request_timeout, atom::get_v)
                  .then(
                    [this, volume, e](const volume_info& x) {
                      if (x.record.at(context_->options.name))
                        serve(x.record);
                      else
                        attach_failed(volume, e, false);
                    },
                    [this, volume](const caf::error& e) { attach_failed(volume, e, false); });
              });
    },
    [this, volume](const caf::error& e) { attach_failed(volume, e, false); });
}

void host_supervisor_state::serve(const volume_record& record) {
  const auto volume = record.id;
  const auto holder = record.at(context_->options.name)->holder;
  doubtful_.erase(volume);
  served_[volume] = ++serves_;
  attached_[volume] = attachment_of(*context_, volume, record.spec.name, holder);
  children_->start({path::vm_agent(volume.value()), vm_agent_state::name, [this, volume, holder] {
                      return caf::actor_cast<caf::strong_actor_ptr>(self_->spawn(vm_agent, context_, volume, holder));
                    }});
  if (attaching_.count(volume) != 0)
    await_port(volume);
}

void host_supervisor_state::await_port(volume_id volume) {
  auto agent = children_->get<vm_agent_actor>(path::vm_agent(volume.value()));
  if (!agent) {
    attach_failed(volume, make_error(errc::unavailable, "the volume's agent is starting again"), false);
    return;
  }
  self_->request(agent, context_->options.request_timeout, atom::get_v)
    .then(
      [this, volume](const attachment& x) {
        auto waiting = std::move(attaching_[volume]);
        attaching_.erase(volume);
        for (auto& promise : waiting)
          promise.deliver(x);
      },
      [this, volume](const caf::error& e) {
        const auto code = code_of(e);
        attach_failed(volume, e, code != errc::unavailable && code != errc::timed_out);
      });
}

void host_supervisor_state::attach_failed(volume_id volume, const caf::error& e, bool recorded) {
  auto waiting = std::move(attaching_[volume]);
  attaching_.erase(volume);
  for (auto& promise : waiting)
    promise.deliver(e);
  if (!recorded)
    return;
  // The port cannot be opened: the attachment is taken back rather than tried for ever.
  const auto holder = attached_[volume].holder;
  attached_.erase(volume);
  children_->stop_one(path::vm_agent(volume.value()));
  end_record(volume, holder, done_promise{});
}

host_supervisor_state::done_promise host_supervisor_state::detach(volume_id volume, bool force) {
  auto promise = self_->make_response_promise<void>();
  auto agent = children_->get<vm_agent_actor>(path::vm_agent(volume.value()));
  if (agent) {
    self_->request(agent, force ? context_->options.request_timeout * 4 : detach_patience, atom::detach_v, force)
      .then(
        [this, volume, promise]() mutable {
          attached_.erase(volume);
          deliver_done(promise);
        },
        [promise](const caf::error& e) mutable { promise.deliver(e); });
    return promise;
  }
  if (children_->contains(path::vm_agent(volume.value()))) {
    promise.deliver(make_error(errc::unavailable, "the volume's agent is starting again"));
    return promise;
  }
  // No agent, but perhaps an attachment that was not restored (the volume's agent could not open its port).
  open(
    volume,
    [this, volume, promise](const volume_actor& actor) mutable {
      self_->request(actor, context_->options.request_timeout, atom::get_v)
        .then(
          [this, volume, promise](const volume_info& x) mutable {
            if (const auto* here = x.record.at(context_->options.name))
              end_record(volume, here->holder, promise);
            else
              promise.deliver(make_error(errc::volume_detached, x.record.spec.name));
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
    },
    [promise](const caf::error& e) mutable { promise.deliver(e); });
  return promise;
}

host_supervisor_state::done_promise host_supervisor_state::resize(volume_id volume, uint64_t size_bytes) {
  auto promise = self_->make_response_promise<void>();
  auto agent = children_->get<vm_agent_actor>(path::vm_agent(volume.value()));
  if (!agent) {
    promise.deliver(make_error(errc::volume_detached, "volume " + std::to_string(volume.value())));
    return promise;
  }
  self_->request(agent, context_->options.request_timeout, atom::resize_v, size_bytes)
    .then([promise]() mutable { deliver_done(promise); },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
  return promise;
}

std::vector<attachment> host_supervisor_state::list() const {
  std::vector<attachment> result;
  for (auto& [id, x] : attached_)
    result.push_back(x);
  return result;
}

void host_supervisor_state::end_record(volume_id volume, holder_id holder, done_promise promise) {
  auto refused = [this, volume, promise](const caf::error& e) mutable {
    if (promise.pending())
      promise.deliver(e);
    else
      context_->publish("ATTACHMENT_LEFT", "volume " + std::to_string(volume.value()) +
                                             " stays attached in the catalog: " + context_of(e));
  };
  open(
    volume,
    [this, holder, promise, refused](const volume_actor& actor) mutable {
      self_->request(actor, context_->options.request_timeout, atom::detach_v, holder)
        .then(
          [promise](const volume_record&) mutable {
            if (promise.pending())
              deliver_done(promise);
          },
          refused);
    },
    refused);
}

void host_supervisor_state::open(volume_id volume, std::function<void(volume_actor)> then,
                                 std::function<void(const caf::error&)> refused) {
  auto volumes = context_->directory->get<volume_directory_actor>(path::volumes);
  if (!volumes) {
    refused(make_error(errc::unavailable, "the volume directory is starting"));
    return;
  }
  self_->request(volumes, context_->options.request_timeout, atom::open_v, volume)
    .then([then](const volume_actor& x) { then(x); }, refused);
}

} // namespace varve
