#pragma once

#include "runtime/reactor/async.hpp"

namespace varve {

/// Sets an event when a time has come, so that whoever waits for it waits no longer. `co_await x.stop()` before it
/// dies.
class deadline {
public:
  deadline(ring& on, boot_time when, async_event& ends) : ring_(on) {
    timer_.x.op = ring_op::timeout;
    timer_.x.deadline = when;
    timer_.x.complete = [](ring_operation& x) { reinterpret_cast<timer&>(x).fire(); };
    timer_.ends = &ends;
    on.submit(timer_.x);
  }
  deadline(const deadline&) = delete;

  bool passed() const noexcept { return timer_.fired; }

  /// The event is left alone from now on.
  async_event::awaiter stop() {
    timer_.ends = nullptr;
    if (!timer_.fired)
      ring_.cancel(timer_.x);
    return timer_.over.wait();
  }

private:
  struct timer {
    ring_operation x; // first: its address is the timer's
    async_event* ends = nullptr;
    bool fired = false;
    async_event over;

    void fire() {
      fired = true;
      // Whoever waits may end with the second call, and this with it.
      if (ends)
        ends->set();
      over.set();
    }
  };

  ring& ring_;
  timer timer_;
};

} // namespace varve
