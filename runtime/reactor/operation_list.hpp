#pragma once

#include "runtime/reactor/ring.hpp"

namespace varve::detail {

/// Operations in order, chained through themselves: a ring's queues never allocate.
class operation_list {
public:
  operation_list() noexcept = default;
  operation_list(const operation_list&) = delete;
  operation_list& operator=(const operation_list&) = delete;

  bool empty() const noexcept { return first_ == nullptr; }

  void push(ring_operation& x) noexcept {
    x.next = nullptr;
    *last_ = &x;
    last_ = &x.next;
  }

  ring_operation* pop() noexcept {
    auto* x = first_;
    if (x && !(first_ = x->next))
      last_ = &first_;
    return x;
  }

  /// Linear; for cancelling, which is rare.
  bool remove(ring_operation& x) noexcept {
    for (auto** at = &first_; *at; at = &(*at)->next)
      if (*at == &x) {
        *at = x.next;
        if (!x.next)
          last_ = at;
        return true;
      }
    return false;
  }

  /// Moves everything of `other` behind what is here.
  void append(operation_list& other) noexcept {
    if (other.empty())
      return;
    *last_ = other.first_;
    last_ = other.last_;
    other.first_ = nullptr;
    other.last_ = &other.first_;
  }

private:
  ring_operation* first_ = nullptr;
  ring_operation** last_ = &first_;
};

/// What the vectors of an operation hold together.
inline uint64_t bytes_of(const ring_operation& x) noexcept {
  uint64_t result = 0;
  for (uint32_t i = 0; i < x.vector_count; ++i)
    result += x.vectors[i].iov_len;
  return result;
}

/// CLOCK_BOOTTIME, now.
boot_time read_boot_clock() noexcept;

} // namespace varve::detail
