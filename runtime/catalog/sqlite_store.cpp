#include "runtime/catalog/sqlite_store.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/catalog/sqlite_file.hpp"

namespace varve {

namespace {

/// Commits that share one sync; more would only make the first wait.
constexpr size_t group_max = 64;

/// Pages copied between two groups: some ms.
constexpr int copy_pages = 256;

struct call {
  bool is_commit = false;
  std::string copy_to; // a path: neither of the other two
  catalog_batch batch;
  std::string prefix, after;
  size_t limit = 0;
  catalog_store::callback done;
};

} // namespace

class sqlite_store::worker {
public:
  explicit worker(std::unique_ptr<sqlite_file> file) : file_(std::move(file)), thread_([this] { run(); }) {}

  ~worker() {
    {
      std::lock_guard guard{mutex_};
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void push(call x) {
    {
      std::lock_guard guard{mutex_};
      queue_.push_back(std::move(x));
    }
    wake_.notify_one();
  }

private:
  void run() {
    std::unique_lock guard{mutex_};
    for (;;) {
      wake_.wait(guard, [this] { return stopping_ || !queue_.empty() || copied_; });
      if (copied_) {
        guard.unlock();
        copy_some();
        guard.lock();
      }
      if (queue_.empty()) {
        if (stopping_)
          return;
        continue;
      }
      // The longest run of commits at the front, or one list: answers keep the order of the calls.
      std::vector<call> group;
      do {
        group.push_back(std::move(queue_.front()));
        queue_.pop_front();
      } while (!queue_.empty() && group.back().is_commit && queue_.front().is_commit && group.size() < group_max);
      guard.unlock();
      carry_out(group);
      group.clear();
      guard.lock();
    }
  }

  void copy_some() {
    catalog_result result;
    if (file_->copy_some(copy_pages, result))
      std::exchange(copied_, nullptr)(std::move(result));
  }

  void carry_out(std::vector<call>& group) {
    if (!group.front().copy_to.empty()) {
      auto& x = group.front();
      auto begun = file_->begin_copy(x.copy_to);
      if (begun.status == errc::none)
        copied_ = std::move(x.done);
      else
        x.done(std::move(begun));
      return;
    }
    if (!group.front().is_commit) {
      auto& x = group.front();
      x.done(file_->list(x.prefix, x.after, x.limit));
      return;
    }
    std::vector<const catalog_batch*> batches;
    for (auto& x : group)
      batches.push_back(&x.batch);
    auto results = file_->commit(batches);
    for (size_t i = 0; i < group.size(); ++i)
      group[i].done(std::move(results[i]));
  }

  std::unique_ptr<sqlite_file> file_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<call> queue_;
  bool stopping_ = false;
  catalog_store::callback copied_; // while a copy is being made; only the thread's
  std::thread thread_;             // last: runs on all of the above
};

std::unique_ptr<sqlite_store> sqlite_store::open(const sqlite_store_options& options, caf::error& problem) {
  auto file = sqlite_file::open(options, problem);
  if (!file)
    return nullptr;
  return std::unique_ptr<sqlite_store>{new sqlite_store(std::make_unique<worker>(std::move(file)))};
}

sqlite_store::sqlite_store(std::unique_ptr<worker> x) : worker_(std::move(x)) {}

sqlite_store::~sqlite_store() = default;

void sqlite_store::commit(catalog_batch batch, callback done) {
  worker_->push({true, {}, std::move(batch), {}, {}, 0, std::move(done)});
}

void sqlite_store::list(std::string prefix, std::string after, size_t limit, callback done) {
  worker_->push({false, {}, {}, std::move(prefix), std::move(after), limit, std::move(done)});
}

void sqlite_store::copy_to(std::string path, callback done) {
  worker_->push({false, std::move(path), {}, {}, {}, 0, std::move(done)});
}

} // namespace varve
