#include "runtime/reactor/async.hpp"

#include <mutex>
#include <vector>

namespace varve {

// Remembered only so that a leak checker takes their frames for what they are.
void waiter_list::abandon(waiter& first) {
  static auto* mutex = new std::mutex;
  static auto* abandoned = new std::vector<waiter*>;
  std::lock_guard guard{*mutex};
  for (auto* x = &first; x; x = x->next)
    abandoned->push_back(x);
}

} // namespace varve
