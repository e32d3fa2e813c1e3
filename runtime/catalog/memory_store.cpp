#include "runtime/catalog/memory_store.hpp"

namespace varve {

void memory_store::commit(catalog_batch batch, callback done) {
  take(call{true, std::move(batch), {}, {}, 0, std::move(done)});
}

void memory_store::list(std::string prefix, std::string after, size_t limit, callback done) {
  take(call{false, {}, std::move(prefix), std::move(after), limit, std::move(done)});
}

void memory_store::take(call x) {
  std::unique_lock guard{mutex_};
  if (held_) {
    waiting_.push_back(std::move(x));
    return;
  }
  auto result = carry_out(x);
  guard.unlock();
  x.done(std::move(result));
}

catalog_result memory_store::carry_out(const call& x) {
  catalog_result result;
  auto& entries = contents_->entries;
  if (x.is_commit) {
    ++commits_;
    lazy_commits_ += x.batch.lazy;
    if (fail_ > 0) {
      --fail_;
      result.status = errc::device_failed;
      result.context = "made to fail";
      return result;
    }
    if (x.batch.changes.size() > changes_max_) {
      result.status = errc::invalid_argument;
      result.context = std::to_string(x.batch.changes.size()) + " changes, at most " + std::to_string(changes_max_);
      return result;
    }
    for (const auto& [key, revision] : x.batch.compare) {
      auto at = entries.find(key);
      if ((at == entries.end() ? 0 : at->second.revision) != revision) {
        result.status = errc::conflict;
        result.context = key;
        result.revision = contents_->revision;
        return result;
      }
    }
    ++contents_->revision;
    for (const auto& change : x.batch.changes) {
      if (change.erase)
        entries.erase(change.key);
      else
        entries[change.key] = {change.value, contents_->revision};
    }
  } else {
    auto at = x.after.empty() || x.after < x.prefix ? entries.lower_bound(x.prefix) : entries.upper_bound(x.after);
    for (; at != entries.end() && at->first.starts_with(x.prefix) && result.entries.size() < x.limit; ++at)
      result.entries.push_back({at->first, at->second.bytes, at->second.revision});
  }
  result.revision = contents_->revision;
  return result;
}

void memory_store::hold(bool on) {
  {
    std::lock_guard guard{mutex_};
    held_ = on;
  }
  if (!on)
    while (release()) {
    }
}

bool memory_store::release() {
  std::unique_lock guard{mutex_};
  if (waiting_.empty())
    return false;
  auto x = std::move(waiting_.front());
  waiting_.pop_front();
  auto result = carry_out(x);
  guard.unlock();
  x.done(std::move(result));
  return true;
}

size_t memory_store::waiting() const {
  std::lock_guard guard{mutex_};
  return waiting_.size();
}

std::shared_ptr<memory_store_contents> memory_store::crash(size_t applied) {
  std::deque<call> lost; // their callbacks may hold the last handle of an actor: released after the lock
  std::lock_guard guard{mutex_};
  for (size_t i = 0; i < applied && i < waiting_.size(); ++i)
    carry_out(waiting_[i]);
  lost.swap(waiting_);
  return contents_;
}

void memory_store::refuse_larger(size_t changes_max) {
  std::lock_guard guard{mutex_};
  changes_max_ = changes_max;
}

void memory_store::fail_commits(size_t count) {
  std::lock_guard guard{mutex_};
  fail_ = count;
}

uint64_t memory_store::commits() const {
  std::lock_guard guard{mutex_};
  return commits_;
}

uint64_t memory_store::lazy_commits() const {
  std::lock_guard guard{mutex_};
  return lazy_commits_;
}

} // namespace varve
