#pragma once

#include <memory>
#include <string>

#include <caf/error.hpp>

#include "runtime/catalog/catalog_store.hpp"

namespace varve {

struct sqlite_store_options {
  /// An existing folder; the store makes `catalog.db` (with its log) and `catalog.reserve` in it.
  std::string folder;
  /// Kept free on the device, so that what frees space (removals, migrations) can still be written when it is full.
  uint64_t reserve_bytes = 16ull << 20;
};

/// The embedded catalog: SQLite in WAL mode with synchronous=FULL, on a thread of its own. Commits that wait together
/// share one sync. It keeps the file locked: a second process is refused.
///
/// A full device: commits that erase something, journal a migration or mark a volume use up the reserve; all others are
/// refused with errc::tier_full until there is room again. After a failed sync nothing more is answered but
/// errc::device_failed: what the device kept is known only after opening again.
class sqlite_store : public catalog_store {
public:
  /// Opens or makes it; blocks. Null with `problem`: errc::unavailable (locked by another process), errc::bad_format (a
  /// newer schema, or no catalog at all), errc::device_failed.
  static std::unique_ptr<sqlite_store> open(const sqlite_store_options& options, caf::error& problem);

  /// Carries out what is queued, then closes.
  ~sqlite_store() override;

  void commit(catalog_batch batch, callback done) override;
  void list(std::string prefix, std::string after, size_t limit, callback done) override;
  /// Copies all of it to a new file while commits go on; the copy is of one revision, which the result tells.
  /// finish_backup makes a backup of it. errc::already_exists, errc::unavailable while another is made.
  void copy_to(std::string path, callback done);

private:
  class worker;
  explicit sqlite_store(std::unique_ptr<worker> x);

  std::unique_ptr<worker> worker_;
};

} // namespace varve
