#include "runtime/reactor/reactor.hpp"

#include <utility>

namespace varve {

void reactor::post(std::function<void()> f) {
  bool first;
  {
    std::lock_guard guard{mutex_};
    first = posted_.empty();
    posted_.push_back(std::move(f));
    any_posted_.store(true, std::memory_order_release);
  }
  // Who found mail waiting relies on the wake of who put the first there.
  if (first)
    ring_.wake();
}

bool reactor::run_posted() {
  if (!any_posted_.load(std::memory_order_acquire))
    return false;
  {
    std::lock_guard guard{mutex_};
    // Empty unless `f` below steps this reactor (a test that waits within a post); then the outer call owns it.
    if (!taken_.empty())
      return false;
    std::swap(posted_, taken_);
    any_posted_.store(false, std::memory_order_relaxed);
  }
  for (auto& f : taken_)
    f();
  taken_.clear();
  return true;
}

bool reactor::step(boot_time deadline) {
  auto ran = run_posted();
  auto before = ring_.completed();
  // What was run may be what the caller waits for.
  ring_.wait(ran ? ring_.now() : deadline);
  return ring_.completed() != before || ran;
}

void reactor::run() {
  while (!stopping_.load(std::memory_order_acquire))
    step(boot_time::max());
  run_posted();
}

void reactor::stop() {
  stopping_.store(true, std::memory_order_release);
  ring_.wake();
}

} // namespace varve
