#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>

#include "messages/atoms.hpp"
#include "messages/errors.hpp"
#include "runtime/caf/answer.hpp"
#include "runtime/caf/directory.hpp"

namespace varve {

/// One request from outside on its way through the actors: steps that are asked one after the other, the first error
/// ends it, a deadline bounds all of it. Lives in an actor of its own, whose thread is the only one to touch it.
class bridge {
public:
  virtual ~bridge() = default;

  /// Asks the actor that stands under `path`. One that is being restarted is waited for, until the deadline; one that
  /// this node may not have, since it does not lead, for a moment.
  template <class Handle, class Then, class... Ts>
  void ask(const std::string& path, Then then, Ts... xs) {
    if (auto to = directory_->get<Handle>(path))
      ask_actor(to, std::move(then), std::move(xs)...);
    else if (auto why = why_absent(path); !why.empty())
      refuse(make_error(errc::unavailable, std::move(why)));
    else
      later(look_again, [this, path, then, xs...] { ask<Handle>(path, then, xs...); });
  }

  template <class Handle, class Then, class... Ts>
  void ask_actor(const Handle& to, Then then, Ts... xs) {
    ask_or(
      to, std::move(then), [this](const caf::error& e) { refuse(e); }, std::move(xs)...);
  }

  /// The same with an error handler of its own.
  template <class Handle, class Then, class Else, class... Ts>
  void ask_or(const Handle& to, Then then, Else otherwise, Ts... xs) {
    self_->request(to, remaining(), std::move(xs)...)
      .then(std::move(then), [otherwise = std::move(otherwise)](caf::error& e) mutable { otherwise(e); });
  }

  /// Asks ahead of what waits in the actor's mailbox, and for so long only. `otherwise` is told why there is no answer.
  template <class Handle, class Then, class Else, class... Ts>
  void probe(const Handle& to, caf::timespan patience, Then then, Else otherwise, Ts... xs) {
    self_->request<caf::message_priority::high>(to, std::min(patience, remaining()), std::move(xs)...)
      .then(std::move(then), [otherwise = std::move(otherwise)](caf::error& e) mutable { otherwise(e); });
  }

  /// Waits for something that is no actor: `start` gets a function to call once, from any thread, with the result.
  template <class T, class Start, class Then>
  void wait_for(Start start, Then then) {
    auto result = std::make_shared<T>();
    const auto key = ++last_key_;
    steps_[key] = [result, then = std::move(then)] { then(*result); };
    start([result, key, self = caf::actor_cast<caf::actor>(self_)](T x) {
      *result = std::move(x);
      caf::anon_send(self, atom::resume_v, key);
    });
  }

  /// Takes a step after a while, unless the request has ended by then.
  void later(caf::timespan delay, std::function<void()> step) {
    steps_[++last_key_] = std::move(step);
    self_->delayed_send(self_, delay, atom::resume_v, last_key_);
  }

  /// Ends the request with an error.
  virtual void refuse(caf::error e) = 0;

  const varve::directory& directory() const { return *directory_; }

protected:
  bridge(caf::event_based_actor* self, std::shared_ptr<varve::directory> directory, caf::timespan timeout,
         std::function<std::string()> why_not_managing)
    : self_(self), directory_(std::move(directory)), why_not_managing_(std::move(why_not_managing)),
      patient_until_(self->clock().now() + patience), deadline_(self->clock().now() + timeout) {
    self_->delayed_send(self_, timeout, atom::resume_v, deadline_key);
    self_->become([this](atom::resume, uint64_t key) {
      if (key == deadline_key)
        return refuse(make_error(errc::timed_out, "the node did not answer in time"));
      auto step = steps_.extract(key);
      if (!step.empty())
        step.mapped()();
    });
  }

  caf::event_based_actor* self_;

private:
  static constexpr uint64_t deadline_key = 0;
  static constexpr std::chrono::milliseconds look_again{50};
  /// Another election, or the same node's again, is over by then if all is well.
  static constexpr std::chrono::seconds patience{3};

  std::string why_absent(const std::string& path) const {
    if (!why_not_managing_ || !path.starts_with("management/") || self_->clock().now() < patient_until_)
      return {};
    return why_not_managing_();
  }

  caf::timespan remaining() {
    const auto left = std::chrono::duration_cast<caf::timespan>(deadline_ - self_->clock().now());
    return std::max(left, caf::timespan{std::chrono::milliseconds{1}});
  }

  std::shared_ptr<varve::directory> directory_;
  std::function<std::string()> why_not_managing_;
  caf::actor_clock::time_point patient_until_, deadline_;
  uint64_t last_key_ = deadline_key;
  std::map<uint64_t, std::function<void()>> steps_;
};

/// A bridge that ends with a T.
template <class T>
class request_for : public bridge {
public:
  request_for(caf::event_based_actor* self, std::shared_ptr<varve::directory> directory, caf::timespan timeout,
              std::function<std::string()> why_not_managing, answer<T> done)
    : bridge(self, std::move(directory), timeout, std::move(why_not_managing)), done_(std::move(done)) {}

  // The system stops, or the actor was killed.
  ~request_for() override {
    if (done_)
      done_(make_error(errc::unavailable, "the node is stopping"), T{});
  }

  void finish(T x) {
    if (auto done = std::exchange(done_, nullptr)) {
      done({}, std::move(x));
      self_->quit();
    }
  }

  void refuse(caf::error e) override {
    if (auto done = std::exchange(done_, nullptr)) {
      done(std::move(e), T{});
      self_->quit();
    }
  }

private:
  answer<T> done_;
};

struct bridge_state {
  static inline const char* name = "varve.rpc-request";
  std::unique_ptr<bridge> request;
};

/// Starts an actor for one request; `body` takes the first step.
template <class T, class Body>
void run_request(caf::actor_system& system, std::shared_ptr<varve::directory> directory, caf::timespan timeout,
                 std::function<std::string()> why_not_managing, answer<T> done, Body body) {
  system.spawn([=](caf::stateful_actor<bridge_state>* self) {
    auto request = std::make_unique<request_for<T>>(self, directory, timeout, why_not_managing, done);
    auto& x = *request;
    self->state.request = std::move(request);
    body(x);
  });
}

} // namespace varve
