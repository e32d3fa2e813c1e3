#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace varve {

/// The one thread on which all that speaks with etcd decides: answers and timers come here, so that client, store and
/// election need no locks of their own.
class etcd_loop {
public:
  using task = std::function<void()>;

  etcd_loop() : thread_([this] { run(); }) {}
  /// Runs what was posted, drops the timers, ends the thread. Not on the thread itself.
  ~etcd_loop();
  etcd_loop(const etcd_loop&) = delete;
  etcd_loop& operator=(const etcd_loop&) = delete;

  /// Any thread; runs in the order of the calls.
  void post(task x);
  /// Any thread; not before the delay is over.
  void after(std::chrono::nanoseconds delay, task x);
  /// Runs it on the thread and waits for its end. Any thread but this one.
  void run_here(task x);

private:
  using clock = std::chrono::steady_clock;
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<task> tasks_;
  std::multimap<clock::time_point, task> timers_;
  bool stopping_ = false;
  std::thread thread_; // last: runs on all of the above
};

} // namespace varve
