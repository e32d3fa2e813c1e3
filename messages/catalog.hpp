#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <caf/meta/type_name.hpp>

#include "messages/errors.hpp"

namespace varve {

/// One key of the catalog. Keys sort as bytes; values are opaque to the store.
struct catalog_entry {
  std::string key;
  std::string value;
  /// The store's revision at which it was last written.
  uint64_t revision = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, catalog_entry& x) {
  return f(caf::meta::type_name("varve::catalog_entry"), x.key, x.value, x.revision);
}

struct catalog_comparison {
  std::string key;
  /// The entry's revision; 0: the key must be absent.
  uint64_t revision = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, catalog_comparison& x) {
  return f(caf::meta::type_name("varve::catalog_comparison"), x.key, x.revision);
}

struct catalog_change {
  std::string key;
  std::string value;
  bool erase = false;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, catalog_change& x) {
  return f(caf::meta::type_name("varve::catalog_change"), x.key, x.value, x.erase);
}

/// Everything or nothing: if every comparison holds, every change is made, under one new revision, durably.
struct catalog_batch {
  std::vector<catalog_comparison> compare;
  std::vector<catalog_change> changes;
  /// Power loss (not a crash) may take it back until a later batch that is not lazy is answered: for notes that nobody
  /// acts on, so that they cost no sync.
  bool lazy = false;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, catalog_batch& x) {
  return f(caf::meta::type_name("varve::catalog_batch"), x.compare, x.changes, x.lazy);
}

struct catalog_page {
  std::vector<catalog_entry> entries;
  /// The store's revision when it was read.
  uint64_t revision = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, catalog_page& x) {
  return f(caf::meta::type_name("varve::catalog_page"), x.entries, x.revision);
}

/// What a backup of the catalog holds: all of it, as it was at one revision.
struct catalog_backup_info {
  uint64_t revision = 0;
  uint64_t entries = 0;
  uint64_t bytes = 0;
  /// CRC32C of all entries, in the order of their keys.
  uint32_t crc = 0;
  /// Of the tables, and of keys and values.
  uint64_t schema = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, catalog_backup_info& x) {
  return f(caf::meta::type_name("varve::catalog_backup_info"), x.revision, x.entries, x.bytes, x.crc, x.schema);
}

/// What a store answers to either call.
struct catalog_result {
  errc status = errc::none;
  /// Of the committed batch, or the store's present one.
  uint64_t revision = 0;
  std::vector<catalog_entry> entries;
  std::string context;
};

} // namespace varve
