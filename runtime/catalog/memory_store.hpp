#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>

#include "runtime/catalog/catalog_store.hpp"

namespace varve {

/// What a memory_store keeps, apart from it: outlives a simulated crash of the node that used it.
struct memory_store_contents {
  struct value {
    std::string bytes;
    uint64_t revision = 0;
  };
  std::map<std::string, value> entries;
  uint64_t revision = 0;
};

/// A catalog store without a disk, for simulation and tests. Calls are answered at once, or, when held, one by one as
/// `release` is called: then a crash loses (or not, with `commit_before_crash`) what was asked and not yet answered.
class memory_store : public catalog_store {
public:
  explicit memory_store(std::shared_ptr<memory_store_contents> contents = std::make_shared<memory_store_contents>())
    : contents_(std::move(contents)) {}

  void commit(catalog_batch batch, callback done) override;
  void list(std::string prefix, std::string after, size_t limit, callback done) override;

  /// From now on calls wait (or no more: those waiting are carried out).
  void hold(bool on);
  /// Carries out the oldest call waiting; false when there is none.
  bool release();
  size_t waiting() const;
  /// The node dies: what waits is dropped unanswered. With `applied`, the first so many calls reach the disk before.
  std::shared_ptr<memory_store_contents> crash(size_t applied = 0);
  /// As a store with a limit does: larger batches answer errc::invalid_argument and change nothing.
  void refuse_larger(size_t changes_max);
  /// The next commits answer errc::device_failed and change nothing.
  void fail_commits(size_t count);
  uint64_t commits() const;
  /// Of these, those that power loss might take back.
  uint64_t lazy_commits() const;

private:
  struct call {
    bool is_commit = false;
    catalog_batch batch;
    std::string prefix, after;
    size_t limit = 0;
    callback done;
  };

  catalog_result carry_out(const call& x);
  void take(call x);

  mutable std::mutex mutex_;
  std::shared_ptr<memory_store_contents> contents_;
  std::deque<call> waiting_;
  bool held_ = false;
  size_t changes_max_ = ~size_t{0};
  size_t fail_ = 0;
  uint64_t commits_ = 0, lazy_commits_ = 0;
};

} // namespace varve
