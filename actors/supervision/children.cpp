#include "actors/supervision/children.hpp"

#include <algorithm>

#include <caf/actor_clock.hpp>
#include <caf/exit_reason.hpp>
#include <caf/mailbox_element.hpp>
#include <caf/send.hpp>

#include "messages/errors.hpp"

namespace varve {

bool is_orderly(const caf::error& reason) {
  return !reason || reason == caf::exit_reason::user_shutdown;
}

children::children(caf::scheduled_actor* self, context_ptr context, std::string path)
  : self_(self), context_(std::move(context)), path_(std::move(path)), living_(std::make_shared<living>()),
    seed_(context_->options.seed ^ std::hash<std::string>{}(path_)) {
  self_->set_down_handler([this](const caf::down_msg& x) { on_down(x); });
  self_->set_exit_handler([this](const caf::exit_msg& x) { on_exit(x); });
  // Not in the state's destructor, which must not send; and links would let a killed child kill its parent.
  self_->attach_functor([living = living_, context = context_] {
    for (auto& [path, actor] : living->actors) {
      context->directory->remove(path, caf::actor_cast<caf::actor_addr>(actor));
      context->tree->died(path, actor_tree::parent_ended);
      caf::anon_send_exit(caf::actor_cast<caf::actor>(actor), caf::exit_reason::kill);
    }
    living->actors.clear();
  });
}

void children::start(child_spec spec) {
  auto at = rows_.find(spec.path);
  if (at != rows_.end() && (at->second.actor || at->second.waiting))
    return;
  if (stopping_)
    return;
  if (at == rows_.end()) {
    const auto path = spec.path;
    order_.push_back(path);
    at = rows_.emplace(path, row{std::move(spec), nullptr, restart_policy{context_->options.restarts, ++seed_}}).first;
  }
  spawn(at->second);
}

void children::spawn(row& x) {
  x.waiting = false;
  x.actor = x.spec.spawn();
  const auto address = caf::actor_cast<caf::actor_addr>(x.actor);
  by_actor_[address] = x.spec.path;
  living_->actors[x.spec.path] = x.actor;
  self_->monitor(address);
  context_->directory->put(x.spec.path, x.actor);
  context_->tree->started(x.spec.path, x.spec.type, context_->now());
}

void children::on_down(const caf::down_msg& x) {
  auto known = by_actor_.find(x.source);
  if (known == by_actor_.end())
    return;
  const auto path = known->second;
  by_actor_.erase(known);
  context_->directory->remove(path, x.source);
  living_->actors.erase(path);
  auto at = rows_.find(path);
  auto& child = at->second;
  child.actor = nullptr;
  const bool forget = stopping_ || child.leaving || is_orderly(x.reason);
  if (on_death)
    on_death(path, x.reason);
  if (forget) {
    context_->tree->removed(path);
    rows_.erase(path);
    order_.erase(std::find(order_.begin(), order_.end(), path));
    if (stopping_)
      stop_next();
    return;
  }
  const auto reason = context_of(x.reason);
  context_->tree->died(path, reason);
  if (auto delay = child.policy.next(context_->now())) {
    if (context_->publish)
      context_->publish("ACTOR_RESTARTED", path + ": " + reason);
    child.waiting = true;
    send_self(*delay, caf::make_message(atom::start_v, path));
  } else {
    if (context_->publish)
      context_->publish("RESTARTS_EXHAUSTED", path + ": " + reason);
    self_->quit(x.reason);
  }
}

actor_facts children::facts() const {
  uint64_t waiting = 0, used = 0;
  for (const auto& [path, x] : rows_) {
    waiting += x.waiting ? 1 : 0;
    used = std::max<uint64_t>(used, x.policy.used(context_->now()));
  }
  const auto& limits = context_->options.restarts;
  return {count_fact("children", rows_.size()), count_fact("children-restarting", waiting),
          count_fact("restarts-used", used), count_fact("restarts-max", limits.restarts_max),
          time_fact("restarts-window", limits.window)};
}

void children::on_start(const std::string& path) {
  auto at = rows_.find(path);
  // A timer of a child that was stopped or started otherwise meanwhile.
  if (at == rows_.end() || !at->second.waiting || stopping_)
    return;
  spawn(at->second);
}

void children::stop_one(const std::string& path) {
  auto at = rows_.find(path);
  if (at == rows_.end())
    return;
  if (!at->second.actor) {
    context_->tree->removed(path);
    rows_.erase(at);
    order_.erase(std::find(order_.begin(), order_.end(), path));
    return;
  }
  at->second.leaving = true;
  caf::anon_send_exit(caf::actor_cast<caf::actor>(at->second.actor), caf::exit_reason::user_shutdown);
}

void children::stop_all(std::function<void()> done) {
  stopped_.push_back(std::move(done));
  if (stopping_)
    return;
  stopping_ = true;
  if (before_stop)
    before_stop([this] { stop_next(); });
  else
    stop_next();
}

void children::stop_next() {
  while (!order_.empty()) {
    auto& last = rows_.at(order_.back());
    if (last.actor) {
      // One at a time: a feeder is gone before what it feeds is told.
      caf::anon_send_exit(caf::actor_cast<caf::actor>(last.actor), caf::exit_reason::user_shutdown);
      send_self(last.spec.stop_grace.count() > 0 ? last.spec.stop_grace : context_->options.stop_grace,
                caf::make_message(atom::stop_v, ++stop_round_));
      return;
    }
    context_->tree->removed(last.spec.path);
    rows_.erase(order_.back());
    order_.pop_back();
  }
  auto waiting = std::move(stopped_);
  stopped_.clear();
  for (auto& done : waiting)
    done();
}

void children::on_grace_over(uint64_t round) {
  if (!stopping_ || round != stop_round_ || order_.empty())
    return;
  auto& last = rows_.at(order_.back());
  if (context_->publish)
    context_->publish("ACTOR_KILLED", last.spec.path + " did not stop in time");
  if (last.actor)
    caf::anon_send_exit(caf::actor_cast<caf::actor>(last.actor), caf::exit_reason::kill);
}

void children::on_exit(const caf::exit_msg& x) {
  if (!x.reason)
    return;
  if (!is_orderly(x.reason)) {
    self_->quit(x.reason);
    return;
  }
  const auto reason = x.reason;
  stop_all([this, reason] { self_->quit(reason); });
}

void children::send_self(caf::timespan delay, caf::message content) {
  auto& clock = self_->clock();
  auto address = caf::strong_actor_ptr{self_->ctrl()};
  clock.schedule_message(
    clock.now() + delay, address,
    caf::make_mailbox_element(address, caf::make_message_id(), caf::no_stages, std::move(content)));
}

} // namespace varve
