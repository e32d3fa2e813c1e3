#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/catalog/catalog_store.hpp"

namespace varve {

/// What a catalog says that no shard's header does: volumes, counters, tiers. A copy of it lies in the folder of every
/// file tier, so that a catalog made anew from headers has the right names and sizes.
struct catalog_extract {
  /// The catalog's when it was read: of several the highest counts.
  uint64_t revision = 0;
  std::vector<catalog_entry> entries;

  /// The entry's value; null when there is none.
  const std::string* find(const std::string& key) const;
};

inline constexpr std::string_view extract_file = "catalog.extract";

/// One line of JSON for each entry, behind a line with version, revision, count and the CRC32C of all that follows.
std::string encode(const catalog_extract& x);
errc decode(const std::string& text, catalog_extract& out, std::string& problem);
/// errc::not_found, errc::bad_format and errc::device_failed with a `problem`. Blocks.
errc read_extract(const std::string& folder, catalog_extract& out, std::string& problem);

/// Reads it from a catalog. The counter of volumes comes before the volumes: one that was given before it was read and
/// is not among them has been removed. Blocks; errc with a `problem`.
errc extract_from(catalog_store& store, catalog_extract& out, std::string& problem);

struct extract_options {
  /// Of the file tiers that are served.
  std::vector<std::string> folders;
  /// Changes that come within it are written together.
  std::chrono::nanoseconds delay = std::chrono::milliseconds{200};
  std::chrono::nanoseconds retry = std::chrono::seconds{10};
  /// Told when a folder did not take it, and then not again until it did. The writer's thread.
  std::function<void(std::string problem)> on_problem;
};

/// A catalog store that passes everything on to another, and brings the extracts up to date at its beginning and some
/// time after each commit that changes a volume or a tier, on a thread of its own. An extract may be behind, never
/// ahead.
class extracting_store final : public catalog_store {
public:
  extracting_store(std::shared_ptr<catalog_store> to, extract_options options);
  /// Writes what is due.
  ~extracting_store() override;

  void commit(catalog_batch batch, callback done) override;
  void list(std::string prefix, std::string after, size_t limit, callback done) override;

private:
  class writer;
  std::shared_ptr<catalog_store> to_;
  std::shared_ptr<writer> writer_;
};

} // namespace varve
