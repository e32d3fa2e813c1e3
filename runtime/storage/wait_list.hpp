#pragma once

#include <coroutine>

#include "runtime/reactor/async.hpp"

namespace varve {

/// Coroutines of one reactor thread that wait for something to change; who waits checks again when it is resumed.
/// Allocates nothing: the places in the queue lie in the waiting coroutines' frames.
class wait_list {
public:
  class [[nodiscard]] place {
  public:
    explicit place(waiter_list& in) noexcept : list_(in) {}
    place(const place&) = delete;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) noexcept {
      waiter_.handle = waiting;
      list_.push(waiter_);
    }
    void await_resume() const noexcept {}

  private:
    waiter_list& list_;
    waiter_list::waiter waiter_;
  };

  /// `co_await list.wait()`.
  place wait() noexcept { return place{waiters_}; }

  bool empty() const noexcept { return waiters_.empty(); }

  /// Resumes all who wait now, in order; those who begin to wait meanwhile stay. One of them may destroy the list.
  void notify_all() {
    waiter_list::waiter* first = nullptr;
    auto** last = &first;
    while (auto* x = waiters_.pop()) {
      x->next = nullptr;
      *last = x;
      last = &x->next;
    }
    while (auto* x = first) {
      first = x->next;
      waiter_list::run(*x);
    }
  }

private:
  waiter_list waiters_;
};

} // namespace varve
