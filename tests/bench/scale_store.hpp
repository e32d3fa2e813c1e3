#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "runtime/catalog/catalog_store.hpp"
#include "runtime/reactor/simulated_world.hpp"

namespace varve::bench {

/// A real store in virtual time: what it answers comes so much later, in the order of the calls, on the simulation's
/// thread. So the history does not depend on how fast the disk is, while the store works on its own thread.
class scale_store final : public catalog_store {
public:
  scale_store(simulated_world& world, std::shared_ptr<catalog_store> real, boot_time latency)
    : world_(world), real_(std::move(real)), latency_(latency) {}

  void commit(catalog_batch batch, callback done) override {
    asked_.push_back({world_.now() + latency_, std::move(done)});
    real_->commit(std::move(batch), arriving());
  }
  void list(std::string prefix, std::string after, size_t limit, callback done) override {
    asked_.push_back({world_.now() + latency_, std::move(done)});
    real_->list(std::move(prefix), std::move(after), limit, arriving());
  }

  /// When something is to be answered next; boot_time::max(): nothing.
  boot_time next_event() const { return asked_.empty() ? boot_time::max() : asked_.front().at; }

  /// Answers what is due; whether anything was.
  bool deliver() {
    bool any = false;
    for (; !asked_.empty() && asked_.front().at <= world_.now(); any = true) {
      auto done = std::move(asked_.front().done);
      asked_.pop_front();
      done(wait());
    }
    return any;
  }

private:
  struct question {
    boot_time at{0};
    callback done;
  };
  struct mailbox {
    std::mutex mutex;
    std::condition_variable arrived;
    std::deque<catalog_result> answers;
  };

  callback arriving() {
    return [to = answers_](catalog_result x) {
      std::lock_guard guard{to->mutex};
      to->answers.push_back(std::move(x));
      to->arrived.notify_one();
    };
  }
  catalog_result wait() {
    std::unique_lock guard{answers_->mutex};
    answers_->arrived.wait(guard, [&] { return !answers_->answers.empty(); });
    auto x = std::move(answers_->answers.front());
    answers_->answers.pop_front();
    return x;
  }

  simulated_world& world_;
  std::shared_ptr<catalog_store> real_;
  boot_time latency_;
  std::deque<question> asked_;
  std::shared_ptr<mailbox> answers_ = std::make_shared<mailbox>();
};

} // namespace varve::bench
