#include "runtime/catalog/etcd_loop.hpp"

#include <future>

namespace varve {

etcd_loop::~etcd_loop() {
  {
    std::lock_guard guard{mutex_};
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void etcd_loop::post(task x) {
  {
    std::lock_guard guard{mutex_};
    tasks_.push_back(std::move(x));
  }
  changed_.notify_one();
}

void etcd_loop::after(std::chrono::nanoseconds delay, task x) {
  {
    std::lock_guard guard{mutex_};
    timers_.emplace(clock::now() + std::chrono::duration_cast<clock::duration>(delay), std::move(x));
  }
  changed_.notify_one();
}

void etcd_loop::run_here(task x) {
  std::promise<void> over;
  post([&] {
    x();
    over.set_value();
  });
  over.get_future().wait();
}

void etcd_loop::run() {
  for (std::unique_lock guard{mutex_};;) {
    const auto now = clock::now();
    while (!timers_.empty() && timers_.begin()->first <= now)
      tasks_.push_back(std::move(timers_.extract(timers_.begin()).mapped()));
    if (!tasks_.empty()) {
      auto next = std::move(tasks_.front());
      tasks_.pop_front();
      guard.unlock();
      next();
      next = nullptr; // what it holds may post as it goes
      guard.lock();
    } else if (stopping_) {
      return;
    } else if (timers_.empty()) {
      changed_.wait(guard);
    } else {
      const auto until = timers_.begin()->first;
      changed_.wait_until(guard, until);
    }
  }
}

} // namespace varve
