#pragma once

#include <string>

#include <caf/error.hpp>

#include "messages/catalog.hpp"

namespace varve {

// A backup is a SQLite database like the catalog itself, made by SQLite's own online backup: any tool that reads one
// reads the other, restoring is renaming, and the catalog goes on meanwhile. What SQLite's format lacks, a checksum of
// what the entries say, stands in a table "backup" beside them.

/// Makes a copy that SQLite's backup has just filled into a backup: adds the checksum, lays it on disk and gives it its
/// name. `path` must not exist (errc::already_exists). errc::device_failed, errc::bad_format. Blocks.
caf::error finish_backup(const std::string& part, const std::string& path, catalog_backup_info& out);

/// Reads all of a backup and compares. errc::not_found, errc::bad_format (no backup, a newer one, or spoilt),
/// errc::device_failed. Blocks.
caf::error check_backup(const std::string& path, catalog_backup_info& out);

/// Copies a checked backup to `path` as a catalog that can be opened, durably but for the name. Its revision becomes
/// `revision` if that is higher.
caf::error unpack_backup(const std::string& backup, const std::string& path, uint64_t revision);

/// Makes the revision of a catalog that nobody has open at least so high.
caf::error raise_revision(const std::string& path, uint64_t revision);

} // namespace varve
