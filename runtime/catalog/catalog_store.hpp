#pragma once

#include <functional>
#include <string>

#include "messages/catalog.hpp"

namespace varve {

/// Where the one truth is kept: ordered keys, atomic batches with comparison of revisions (etcd's transactions are the
/// model, SQLite does the same on one node). Any thread; `done` is called once on a thread of the store's, in the order
/// of the calls, and must only pass the result on.
class catalog_store {
public:
  using callback = std::function<void(catalog_result)>;
  virtual ~catalog_store() = default;

  /// errc::conflict when a comparison fails, with its key as the context: nothing is changed. errc::timed_out: it may
  /// have been made or not (only a store that is elsewhere answers so); any other error: it was not.
  virtual void commit(catalog_batch batch, callback done) = 0;
  /// Entries whose key begins with `prefix`, in order, after the key `after` (exclusive; empty: from the start), at
  /// most `limit`.
  virtual void list(std::string prefix, std::string after, size_t limit, callback done) = 0;
};

} // namespace varve
