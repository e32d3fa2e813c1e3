#pragma once

#include <atomic>
#include <coroutine>
#include <functional>
#include <mutex>
#include <vector>

#include "rdma/buffer.hpp"
#include "runtime/reactor/ring.hpp"
#include "runtime/reactor/task.hpp"

namespace varve {

/// Waits for one operation of a ring: `int32_t result = co_await perform(ring, operation)`. The operation lives in the
/// awaiting coroutine's frame.
class [[nodiscard]] perform {
public:
  perform(ring& on, ring_operation x) noexcept : ring_(on) { operation_.x = x; }
  perform(const perform&) = delete;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiting) noexcept {
    operation_.waiting = waiting;
    operation_.x.complete = [](ring_operation& x) { reinterpret_cast<state&>(x).waiting.resume(); };
    ring_.submit(operation_.x);
  }
  int32_t await_resume() const noexcept { return operation_.x.result; }

private:
  struct state {
    ring_operation x; // first, so that the address of the one is the address of the other
    std::coroutine_handle<> waiting;
  };
  ring& ring_;
  state operation_;
};

/// One single-threaded state machine of the data path: a ring, a mailbox from other threads, and what runs on it.
/// Production calls `run` on a thread of its own, simulation calls `step`.
class reactor {
public:
  explicit reactor(varve::ring& on) : ring_(on) {}

  /// Runs `f` on the reactor's thread, in order of posting. Any thread. Never runs it inline.
  void post(std::function<void()> f);

  /// One round: what was posted, then one `ring::wait`, until `deadline` if nothing was. Returns whether anything ran.
  bool step(boot_time deadline);

  /// Steps until `stop`.
  void run();

  /// Any thread, once and for all. What was posted before is still run; operations in flight are not waited for.
  void stop();

  varve::ring& ring() noexcept { return ring_; }
  buffer_pool& buffers() noexcept { return buffers_; }
  boot_time now() const noexcept { return ring_.now(); }

private:
  varve::ring& ring_;
  buffer_pool buffers_;
  bool run_posted();

  std::mutex mutex_;
  std::vector<std::function<void()>> posted_; // guarded by mutex_
  std::vector<std::function<void()>>
    taken_;                              // the reactor's thread: swapped with posted_, so that both keep their memory
  std::atomic<bool> any_posted_ = false; // so that a round without mail takes no lock
  std::atomic<bool> stopping_ = false;
};

} // namespace varve
