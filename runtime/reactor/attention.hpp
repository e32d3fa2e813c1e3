#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>

#include <unistd.h>

namespace varve::detail {

/// What the thread of a ring is at, so that waking it costs a system call only while it sleeps, and only once.
class attention {
public:
  /// The ring's thread: before it sleeps. False: it was woken meanwhile and must not.
  bool fall_asleep() noexcept {
    auto expected = state::running;
    return state_.compare_exchange_strong(expected, state::sleeping, std::memory_order_acq_rel);
  }

  /// The ring's thread: when it is up again. Takes the wakes so far, and sees what was done before them.
  void get_up() noexcept { state_.exchange(state::running, std::memory_order_acq_rel); }

  /// The ring's thread: whether sleeping would fail.
  bool woken() const noexcept { return state_.load(std::memory_order_relaxed) == state::woken; }

  /// Any thread. `wake_fd` is an eventfd that the sleeper waits for.
  void wake(int wake_fd) noexcept {
    if (state_.exchange(state::woken, std::memory_order_acq_rel) != state::sleeping)
      return;
    const uint64_t one = 1;
    while (::write(wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
      continue;
  }

private:
  enum class state : uint8_t { running, sleeping, woken };
  alignas(64) std::atomic<state> state_ = state::running;
};

} // namespace varve::detail
