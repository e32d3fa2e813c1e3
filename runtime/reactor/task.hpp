#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <optional>
#include <utility>

namespace varve {

namespace detail {

/// Recycles coroutine frames per thread, so that the data path allocates nothing per I/O once it is warm.
void* take_frame(size_t size);
void give_frame(void* frame, size_t size) noexcept;

struct promise_base {
  static void* operator new(size_t size) { return take_frame(size); }
  static void operator delete(void* frame, size_t size) noexcept { give_frame(frame, size); }

  struct final_awaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
      return ended.promise().continuation;
    }
    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() const noexcept { return {}; }
  final_awaiter final_suspend() const noexcept { return {}; }
  // The data path reports failures as values; an exception that gets here is a bug or out of memory.
  void unhandled_exception() const noexcept { std::terminate(); }

  std::coroutine_handle<> continuation = std::noop_coroutine();
};

} // namespace detail

/// A computation of one reactor thread that may wait for operations of its ring. Lazy: it starts when awaited, and
/// resumes whoever awaits it when it ends. Exceptions do not leave it (the process ends): return an errc.
template <class T = void>
class [[nodiscard]] task {
public:
  struct promise_type : detail::promise_base {
    task get_return_object() noexcept { return task{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    template <class U>
    void return_value(U&& x) {
      value.emplace(std::forward<U>(x));
    }
    std::optional<T> value;
  };

  task(task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  task& operator=(task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~task() {
    if (handle_)
      handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) noexcept {
    handle_.promise().continuation = awaiting;
    return handle_;
  }
  T await_resume() { return std::move(*handle_.promise().value); }

private:
  explicit task(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

template <>
class [[nodiscard]] task<void> {
public:
  struct promise_type : detail::promise_base {
    task get_return_object() noexcept { return task{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    void return_void() const noexcept {}
  };

  task(task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  task& operator=(task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~task() {
    if (handle_)
      handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) noexcept {
    handle_.promise().continuation = awaiting;
    return handle_;
  }
  void await_resume() const noexcept {}

private:
  explicit task(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

/// Starts at once and owns itself; what start() returns.
struct detached {
  struct promise_type {
    static void* operator new(size_t size) { return detail::take_frame(size); }
    static void operator delete(void* frame, size_t size) noexcept { detail::give_frame(frame, size); }
    detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }
  };
};

/// Runs a task now, on this thread, until it first waits; it then goes on by itself.
inline detached start(task<void> x) {
  co_await std::move(x);
}

} // namespace varve
