#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "messages/types.hpp"

namespace varve {

class reactor;
class ring;
class simulated_ring;

/// The one source of chance of a simulation (SplitMix64): the same seed gives the same sequence on every machine.
class simulated_random {
public:
  explicit simulated_random(uint64_t seed) noexcept : state_(seed) {}

  uint64_t next() noexcept {
    auto x = (state_ += 0x9e3779b97f4a7c15ull);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
  }
  /// 0 <= result < `limit`; 0 for 0.
  uint64_t below(uint64_t limit) noexcept { return limit ? next() % limit : 0; }
  /// Both ends included.
  uint64_t between(uint64_t low, uint64_t high) noexcept { return low + below(high - low + 1); }
  bool chance(double probability) noexcept { return static_cast<double>(next() >> 11) * 0x1.0p-53 < probability; }

private:
  uint64_t state_;
};

/// Virtual time, chance and history of one simulation, shared by its rings, disks and networks. One thread.
class simulated_world {
public:
  /// Time does not start at 0, so that nothing takes "never" for "at once".
  explicit simulated_world(uint64_t seed, boot_time start = std::chrono::hours{1}) : random_(seed), now_(start) {}
  simulated_world(const simulated_world&) = delete;

  boot_time now() const noexcept { return now_; }
  /// Forwards only.
  void set_now(boot_time to) noexcept { now_ = std::max(now_, to); }
  simulated_random& random() noexcept { return random_; }

  /// Depends on every event so far, its time and its result: equal histories have equal hashes.
  uint64_t history_hash() const noexcept { return history_; }
  uint64_t events() const noexcept { return events_; }
  void note(uint64_t a, uint64_t b = 0, uint64_t c = 0) noexcept;

  /// The helpers below step this reactor; otherwise only the ring under it. Forgotten with its ring.
  void attach(reactor& x);
  void detach(reactor& x);

  /// One round of every ring at the present time; whether anything ran.
  bool step();
  /// Runs until nothing is in flight but timeouts and socket operations that wait for the other side; time goes on
  /// as the operations need. False when `limit` (virtual) was not enough.
  bool run_until_idle(boot_time limit = std::chrono::minutes{10});
  /// Runs, timeouts included, until `done` or for `limit` of virtual time; returns `done()`.
  bool run_until(const std::function<bool()>& done, boot_time limit = std::chrono::minutes{10});
  /// Runs everything of the next `time`; then now() is exactly that much later.
  void advance(std::chrono::nanoseconds time);
  /// When something is to happen next, timeouts included; boot_time::max(): never, as it is now.
  boot_time next_event() const noexcept { return next_event(true); }

private:
  friend class simulated_ring;

  uint64_t next_sequence() noexcept { return ++sequence_; }
  void settle();
  boot_time next_event(bool timeouts) const noexcept;

  simulated_random random_;
  boot_time now_;
  uint64_t sequence_ = 0;
  uint64_t history_ = 0xcbf29ce484222325ull;
  uint64_t events_ = 0;
  std::vector<simulated_ring*> rings_; // in order of making; null where one ended during a step
  std::vector<std::pair<ring*, reactor*>> reactors_;
};

} // namespace varve
