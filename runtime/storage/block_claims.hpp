#pragma once

#include <coroutine>
#include <cstdint>

#include "runtime/reactor/async.hpp"

namespace varve {

/// Orders overlapping requests of one shard: each holds a claim on a range of blocks, and overlapping claims are
/// granted one after another in the order of asking. One reactor thread; allocates nothing.
class block_claims {
public:
  /// `block_claims::claim held{claims, first, count}; co_await held;` Given back by its destructor, which may resume
  /// the next in line before it returns. Stays where it is.
  class claim {
  public:
    claim(block_claims& of, uint64_t first, uint64_t count) noexcept : owner_(of), first_(first), end_(first + count) {}
    claim(const claim&) = delete;
    ~claim();

    /// Granted at once, when nothing overlaps.
    bool await_ready() noexcept;
    void await_suspend(std::coroutine_handle<> waiting) noexcept { waiter_.handle = waiting; }
    void await_resume() const noexcept {}

  private:
    friend block_claims;
    enum class place : uint8_t { nowhere, waiting, active };

    bool overlaps(const claim& x) const noexcept { return first_ < x.end_ && x.first_ < end_; }

    block_claims& owner_;
    uint64_t first_;
    uint64_t end_;
    waiter_list::waiter waiter_;
    claim* next_ = nullptr;
    claim* previous_ = nullptr;
    place place_ = place::nowhere;
  };

  block_claims() noexcept = default;
  block_claims(const block_claims&) = delete;

  bool idle() const noexcept { return !active_.first && !waiting_.first; }

  /// Calls f(first block, count) for each claim that is held now.
  template <class F>
  void for_each_active(F f) const {
    for (auto* x = active_.first; x; x = x->next_)
      f(x->first_, x->end_ - x->first_);
  }

private:
  struct list {
    claim* first = nullptr;
    claim* last = nullptr;
    void push(claim& x) noexcept;
    void remove(claim& x) noexcept;
  };

  void release(claim& x);
  /// Whether nothing active, and nothing that waits before it, overlaps.
  bool grantable(const claim& x) const noexcept;

  list active_;
  list waiting_;
};

} // namespace varve
