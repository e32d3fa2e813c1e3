#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <vector>

#include "runtime/reactor/operation_list.hpp"
#include "runtime/reactor/ring.hpp"
#include "runtime/reactor/simulated_disk.hpp"
#include "runtime/reactor/simulated_network.hpp"
#include "runtime/reactor/simulated_world.hpp"

namespace varve {

/// An operation takes a time within these bounds.
struct simulated_latency {
  std::chrono::nanoseconds low, high;
};

struct simulated_ring_options {
  simulated_latency read{std::chrono::microseconds{20}, std::chrono::microseconds{200}};
  simulated_latency write{std::chrono::microseconds{30}, std::chrono::microseconds{300}};
  simulated_latency sync{std::chrono::microseconds{200}, std::chrono::microseconds{5000}};
  /// Opening, closing, allocating, renaming, ...
  simulated_latency other{std::chrono::microseconds{10}, std::chrono::microseconds{100}};
  simulated_latency socket{std::chrono::microseconds{5}, std::chrono::microseconds{50}};
};

/// A machine's clock beside the world's: so many parts of a million faster, from a time at which both were the same.
/// For simulations of less than a day, and less than a tenth.
struct simulated_clock {
  boot_time since{0};
  int64_t drift_ppm = 0;

  boot_time local(boot_time world) const noexcept {
    return world + boot_time{(world - since).count() * drift_ppm / 1'000'000};
  }
  /// The first time of the world at which this clock shows `local`, or later.
  boot_time world(boot_time local) const noexcept {
    if (drift_ppm == 0 || local == boot_time::max())
      return local;
    auto guess = since + boot_time{static_cast<int64_t>(static_cast<double>((local - since).count()) * 1e6 /
                                                        static_cast<double>(1'000'000 + drift_ppm))};
    while (this->local(guess) < local)
      guess += std::max(local - this->local(guess), boot_time{1});
    return guess;
  }
};

/// A ring over a modelled disk and network in virtual time. Operations end after a seeded time, so in a seeded order;
/// reads and writes of several pages happen page by page, in two parts, so that what overlaps them sees a mixture.
/// A wait takes no time: it moves the virtual clock on to the next event of the world, or to its deadline.
class simulated_ring final : public ring {
public:
  simulated_ring(simulated_world& world, simulated_disk* disk, simulated_network* network = nullptr,
                 simulated_ring_options options = {});
  ~simulated_ring() override;

  void submit(ring_operation& x) override;
  void cancel(ring_operation& x) override;
  void wait(boot_time deadline) override;
  void wake() noexcept override { woken_.store(true, std::memory_order_release); }
  boot_time now() const noexcept override { return clock_.local(world_.now()); }
  const char* name() const noexcept override { return "simulated"; }

  simulated_ring_options& options() noexcept { return options_; }
  /// Before the first operation. By default the world's.
  void set_clock(simulated_clock x) noexcept { clock_ = x; }
  /// Its process is stopped (SIGSTOP), or goes on: nothing ends meanwhile, time passes.
  void pause(bool on) noexcept { paused_ = on; }
  /// After a kill or power loss of its disk: completes nothing any more.
  bool dead() const noexcept { return dead_; }
  size_t in_flight() const noexcept { return scheduled_.size() + timeouts_.size() + parked_.size() + hung_.size(); }

private:
  friend class simulated_world;
  friend class simulated_disk;
  friend class simulated_network;

  struct entry {
    ring_operation* x = nullptr;
    uint64_t sequence = 0;
    boot_time due{0};
    // A read or write of several pages: when it ends, once its first part is done.
    boot_time ends{0};
    std::vector<bool> moved; // page by page
    uint64_t length = 0;     // of a transfer; may be shorter than asked for
    uint64_t mark = 0;       // a sync: what it covers
    uint64_t done = 0;       // a socket transfer: bytes so far
    int32_t error = 0;       // decided beforehand
    bool cancelled = false;
    bool no_waiting = false; // cancelled while it was about to be tried: it is tried, but does not wait
  };
  using entry_pointer = std::unique_ptr<entry>;
  using schedule = std::map<std::pair<boot_time, uint64_t>, entry_pointer>;

  void hand_on(ring_operation& x);
  void plan(entry_pointer x, boot_time due);
  void run(entry_pointer x);
  void end(entry_pointer x, int32_t result);
  bool run_socket(entry_pointer& x);
  void move_some(entry& x, double share);
  int32_t carry_out(entry& x);
  boot_time latency_of(const ring_operation& x);
  boot_time next_event(bool timeouts) const noexcept;

  void retry(int fd);
  void release_hung();
  void apply_some_in_flight();
  void die();

  simulated_world& world_;
  simulated_disk* disk_;
  simulated_network* network_;
  simulated_ring_options options_;
  simulated_clock clock_;
  bool dead_ = false;
  bool paused_ = false;
  std::atomic<bool> woken_ = false;
  detail::operation_list queued_;
  schedule scheduled_;
  schedule timeouts_;
  std::vector<entry_pointer> parked_; // sockets: wait for the other side
  std::vector<entry_pointer> hung_;
};

} // namespace varve
