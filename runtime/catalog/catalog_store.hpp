#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "messages/errors.hpp"

namespace varve {

/// One key of the catalog. Keys sort as bytes; values are opaque to the store (messages/catalog.hpp says what is in them).
struct catalog_entry {
  std::string key;
  std::string value;
  /// The store's revision at which it was last written.
  uint64_t revision = 0;
};

/// Everything or nothing: if every comparison holds, every change is made, under one new revision, durably.
struct catalog_batch {
  struct comparison {
    std::string key;
    /// The entry's revision; 0: the key must be absent.
    uint64_t revision = 0;
  };
  std::vector<comparison> compare;
  std::vector<std::pair<std::string, std::string>> put;
  std::vector<std::string> erase;
};

struct catalog_result {
  errc status = errc::none;
  /// Of the committed batch, or the store's present one.
  uint64_t revision = 0;
  std::vector<catalog_entry> entries;
  std::string context;
};

/// Where the one truth is kept: ordered keys, atomic batches with comparison of revisions (etcd's transactions are the model,
/// SQLite does the same on one node). Any thread; `done` is called once on a thread of the store's, in the order of the calls,
/// and must only pass the result on.
class catalog_store {
public:
  using callback = std::function<void(catalog_result)>;
  virtual ~catalog_store() = default;

  /// errc::conflict when a comparison fails: nothing is changed.
  virtual void commit(catalog_batch batch, callback done) = 0;
  /// Entries whose key begins with `prefix`, in order, after the key `after` (exclusive; empty: from the start), at most `limit`.
  virtual void list(std::string prefix, std::string after, size_t limit, callback done) = 0;
};

} // namespace varve
