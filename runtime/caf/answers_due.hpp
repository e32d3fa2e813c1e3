#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>

#include <caf/actor_control_block.hpp>
#include <caf/error.hpp>
#include <caf/message.hpp>
#include <caf/message_id.hpp>
#include <caf/scheduled_actor.hpp>
#include <caf/sec.hpp>
#include <caf/timespan.hpp>

#include "messages/types.hpp"

namespace varve {

/// Time-outs of an actor's many requests, by one timer. CAF's own wake a thread for each request, and keep 200 bytes of
/// it until its time is over, also when the answer has long come. Here:
///
///   auto asked = self->request(to, caf::infinite, ...);
///   const auto n = due.expect(asked.id(), now);
///   asked.then([=, this](...) { due.met(n); ... }, [=, this](const caf::error&) { due.met(n); ... });
///
/// What is not answered in time is answered with caf::sec::request_timeout, as CAF does it. Only within handlers of
/// the actor.
class answers_due {
public:
  /// `patience`: of every request.
  void start(caf::scheduled_actor* self, caf::timespan patience) {
    self_ = self;
    patience_ = patience;
  }

  /// The number under which the answer is to be noted.
  uint64_t expect(caf::message_id answer, boot_time now) {
    entries_.push_back({now + patience_, answer, true});
    return first_ + entries_.size() - 1;
  }

  void met(uint64_t number) {
    if (number < first_)
      return; // its time was over
    entries_[number - first_].open = false;
    while (!entries_.empty() && !entries_.front().open)
      pop();
  }

  /// Answers in the place of those whose time is over.
  void look(boot_time now) {
    for (; !entries_.empty() && (!entries_.front().open || entries_.front().until <= now); pop())
      if (entries_.front().open)
        self_->ctrl()->enqueue(caf::strong_actor_ptr{self_->ctrl()}, entries_.front().answer,
                               caf::make_message(caf::make_error(caf::sec::request_timeout)), self_->context());
  }

  /// How long until `look` has something to do; 0: nothing is expected.
  caf::timespan next(boot_time now) const {
    return entries_.empty() ? caf::timespan{0}
                            : std::max<caf::timespan>(entries_.front().until - now, std::chrono::milliseconds{1});
  }

  size_t open() const noexcept { return entries_.size(); }

private:
  struct entry {
    boot_time until{0};
    caf::message_id answer;
    bool open = false;
  };

  void pop() {
    entries_.pop_front();
    ++first_;
  }

  caf::scheduled_actor* self_ = nullptr;
  caf::timespan patience_{0};
  std::deque<entry> entries_;
  uint64_t first_ = 1;
};

} // namespace varve
