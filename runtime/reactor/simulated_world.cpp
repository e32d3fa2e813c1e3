#include "runtime/reactor/simulated_world.hpp"

#include <cstdio>
#include <cstdlib>

#include "runtime/reactor/reactor.hpp"
#include "runtime/reactor/simulated_ring.hpp"

namespace varve {

void simulated_world::note(uint64_t a, uint64_t b, uint64_t c) noexcept {
  ++events_;
  for (auto x : {static_cast<uint64_t>(now_.count()), a, b, c}) {
    history_ = (history_ ^ x) * 0x100000001b3ull;
    history_ ^= history_ >> 29;
  }
}

void simulated_world::attach(reactor& x) {
  reactors_.emplace_back(&x.ring(), &x);
}

void simulated_world::detach(reactor& x) {
  std::erase_if(reactors_, [&](const auto& entry) { return entry.second == &x; });
}

bool simulated_world::step() {
  auto ran = false;
  for (size_t i = 0; i < rings_.size(); ++i) {
    auto* ring = rings_[i];
    if (!ring || ring->paused_ || ring->dead_)
      continue;
    auto found = std::find_if(reactors_.begin(), reactors_.end(), [&](const auto& x) { return x.first == ring; });
    if (found != reactors_.end()) {
      ran |= found->second->step(ring->now());
      continue;
    }
    const auto before = events_;
    ring->wait(ring->now());
    ran |= events_ != before;
  }
  std::erase(rings_, nullptr);
  return ran;
}

// All that happens at this very time.
void simulated_world::settle() {
  for (auto rounds = 0; step(); ++rounds)
    if (rounds > 10'000'000) {
      std::fprintf(stderr, "varve: the simulation does not come to rest at one point in time\n");
      std::abort();
    }
}

boot_time simulated_world::next_event(bool timeouts) const noexcept {
  auto result = boot_time::max();
  for (auto* ring : rings_)
    if (ring)
      result = std::min(result, ring->next_event(timeouts));
  return result;
}

bool simulated_world::run_until_idle(boot_time limit) {
  const auto end = now_ + limit;
  for (;;) {
    settle();
    if (next_event(false) == boot_time::max())
      return true;
    const auto next = next_event(true);
    if (next > end)
      return false;
    set_now(next);
  }
}

bool simulated_world::run_until(const std::function<bool()>& done, boot_time limit) {
  const auto end = now_ + limit;
  for (;;) {
    settle();
    if (done())
      return true;
    const auto next = next_event(true);
    if (next > end)
      return false;
    set_now(next);
  }
}

void simulated_world::advance(std::chrono::nanoseconds time) {
  const auto end = now_ + time;
  for (;;) {
    settle();
    const auto next = next_event(true);
    if (next > end)
      break;
    set_now(next);
  }
  set_now(end);
  settle();
}

} // namespace varve
