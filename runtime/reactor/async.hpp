#pragma once

#include <coroutine>
#include <cstddef>
#include <utility>

#include "runtime/reactor/reactor.hpp"

namespace varve {

/// Coroutines of one reactor that wait for one another: first in, first out, without locks or allocation. A waiter
/// lives in its coroutine's frame, which must not be destroyed while it waits. Whoever wakes a waiter runs it within
/// the call (the outermost one: however many hand over to one another, the stack stays flat), so nothing may be
/// assumed about the object after `set`, `unlock` or `release` returns.
class waiter_list {
public:
  struct waiter {
    std::coroutine_handle<> handle;
    waiter* next = nullptr;
  };

  waiter_list() noexcept = default;
  waiter_list(const waiter_list&) = delete;
  waiter_list& operator=(const waiter_list&) = delete;
  // Whoever waits for what has gone never goes on: a simulated process was killed. (In production, a bug.)
  ~waiter_list() {
    if (first_)
      abandon(*first_);
  }

  bool empty() const noexcept { return first_ == nullptr; }

  void push(waiter& x) noexcept {
    x.next = nullptr;
    *last_ = &x;
    last_ = &x.next;
  }

  waiter* pop() noexcept {
    auto* x = first_;
    if (x && !(first_ = x->next))
      last_ = &first_;
    return x;
  }

  /// Resumes `x`, which is on no list.
  static void run(waiter& x) {
    struct runner {
      waiter* first = nullptr;
      waiter** last = &first;
      bool running = false;
    };
    thread_local constinit runner ready{nullptr, nullptr, false};
    x.next = nullptr;
    if (ready.running) {
      *ready.last = &x;
      ready.last = &x.next;
      return;
    }
    ready.running = true;
    ready.first = &x;
    ready.last = &x.next;
    while (auto* next = ready.first) {
      if (!(ready.first = next->next))
        ready.last = &ready.first;
      next->handle.resume(); // ends the life of `next`
    }
    ready.running = false;
  }

private:
  static void abandon(waiter& first);

  waiter* first_ = nullptr;
  waiter** last_ = &first_;
};

/// Set once or again and again: `co_await event.wait()` goes on at once while it is set.
class async_event {
public:
  class [[nodiscard]] awaiter {
  public:
    explicit awaiter(async_event& on) noexcept : on_(on) {}
    bool await_ready() const noexcept { return on_.set_; }
    void await_suspend(std::coroutine_handle<> handle) noexcept {
      waiter_.handle = handle;
      on_.waiters_.push(waiter_);
    }
    void await_resume() const noexcept {}

  private:
    async_event& on_;
    waiter_list::waiter waiter_;
  };

  awaiter wait() noexcept { return awaiter{*this}; }
  bool is_set() const noexcept { return set_; }
  void reset() noexcept { set_ = false; }

  /// Those who wait now go on, even if one of them resets it.
  void set() {
    set_ = true;
    // All are taken before one runs: it may destroy the event, or wait for it again.
    waiter_list::waiter* first = nullptr;
    auto** last = &first;
    while (auto* x = waiters_.pop()) {
      *last = x;
      last = &x->next;
    }
    while (auto* x = first) {
      first = x->next;
      waiter_list::run(*x);
    }
  }

private:
  bool set_ = false;
  waiter_list waiters_;
};

/// So many at a time. Those who come while others wait queue behind them.
class async_semaphore {
public:
  explicit async_semaphore(size_t count) noexcept : free_(count) {}

  class [[nodiscard]] awaiter {
  public:
    explicit awaiter(async_semaphore& on) noexcept : on_(on) {}
    bool await_ready() const noexcept { return on_.try_acquire(); }
    void await_suspend(std::coroutine_handle<> handle) noexcept {
      waiter_.handle = handle;
      on_.waiters_.push(waiter_);
    }
    void await_resume() const noexcept {}

  private:
    async_semaphore& on_;
    waiter_list::waiter waiter_;
  };

  awaiter acquire() noexcept { return awaiter{*this}; }

  bool try_acquire() noexcept {
    if (free_ == 0)
      return false;
    --free_;
    return true;
  }

  /// Hands over to the longest waiter, if there is one.
  void release() {
    if (auto* next = waiters_.pop())
      waiter_list::run(*next);
    else
      ++free_;
  }

  size_t free() const noexcept { return free_; }
  bool contended() const noexcept { return !waiters_.empty(); }

private:
  size_t free_;
  waiter_list waiters_;
};

/// `auto guard = co_await mutex.lock();` One holder at a time, in order of arrival.
class async_mutex {
public:
  /// Unlocks when it dies.
  class [[nodiscard]] guard {
  public:
    guard() noexcept = default;
    explicit guard(async_mutex& on) noexcept : on_(&on) {}
    guard(guard&& other) noexcept : on_(std::exchange(other.on_, nullptr)) {}
    guard& operator=(guard&& other) noexcept {
      std::swap(on_, other.on_);
      return *this;
    }
    ~guard() { unlock(); }
    void unlock() {
      if (auto* on = std::exchange(on_, nullptr))
        on->one_.release();
    }

  private:
    async_mutex* on_ = nullptr;
  };

  class [[nodiscard]] awaiter {
  public:
    explicit awaiter(async_mutex& on) noexcept : on_(on), inner_(on.one_) {}
    bool await_ready() const noexcept { return inner_.await_ready(); }
    void await_suspend(std::coroutine_handle<> handle) noexcept { inner_.await_suspend(handle); }
    guard await_resume() const noexcept { return guard{on_}; }

  private:
    async_mutex& on_;
    async_semaphore::awaiter inner_;
  };

  awaiter lock() noexcept { return awaiter{*this}; }
  bool locked() const noexcept { return one_.free() == 0; }

private:
  async_semaphore one_{1};
};

} // namespace varve
