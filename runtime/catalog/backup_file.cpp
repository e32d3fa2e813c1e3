#include "runtime/catalog/backup_file.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "messages/errors.hpp"
#include "rdma/checksum.hpp"
#include "runtime/catalog/sqlite_file.hpp"

namespace varve {

namespace {

struct close_database {
  void operator()(sqlite3* x) const noexcept { sqlite3_close_v2(x); }
};
struct finalize {
  void operator()(sqlite3_stmt* x) const noexcept { sqlite3_finalize(x); }
};
using database = std::unique_ptr<sqlite3, close_database>;
using statement = std::unique_ptr<sqlite3_stmt, finalize>;

caf::error refusal(const std::string& path, int code, sqlite3* x = nullptr) {
  const std::string why = x ? sqlite3_errmsg(x) : sqlite3_errstr(code);
  const auto kind = (code & 0xff) == SQLITE_NOTADB || (code & 0xff) == SQLITE_CORRUPT ? errc::bad_format
                    : (code & 0xff) == SQLITE_FULL                                    ? errc::tier_full
                                                                                      : errc::device_failed;
  return make_error(kind, path + ": " + why);
}

caf::error open(const std::string& path, int flags, database& out) {
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  out.reset(raw);
  if (code != SQLITE_OK)
    return refusal(path, code, raw);
  sqlite3_extended_result_codes(raw, 1);
  return {};
}

int prepare(sqlite3* in, const char* sql, statement& out) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v2(in, sql, -1, &raw, nullptr);
  out.reset(raw);
  return code;
}

int number(sqlite3* in, const char* sql, uint64_t& out) {
  statement x;
  if (int code = prepare(in, sql, x))
    return code;
  const int code = sqlite3_step(x.get());
  if (code == SQLITE_ROW)
    out = static_cast<uint64_t>(sqlite3_column_int64(x.get(), 0));
  return code == SQLITE_ROW ? SQLITE_OK : code == SQLITE_DONE ? SQLITE_NOTFOUND : code;
}

uint32_t add(uint32_t crc, uint64_t x) {
  return crc32c(std::as_bytes(std::span{&x, 1}), crc);
}

uint32_t add(uint32_t crc, sqlite3_stmt* row, int column) {
  const auto* bytes = static_cast<const std::byte*>(sqlite3_column_blob(row, column));
  const auto size = static_cast<size_t>(sqlite3_column_bytes(row, column));
  return crc32c({bytes, size}, add(crc, size));
}

// What the entries say: each key and value behind its length, and the revision.
int sum_entries(sqlite3* in, catalog_backup_info& out) {
  statement rows;
  if (int code = prepare(in, "SELECT key, value, revision FROM entries ORDER BY key", rows))
    return code;
  int code;
  while ((code = sqlite3_step(rows.get())) == SQLITE_ROW) {
    ++out.entries;
    out.crc = add(out.crc, rows.get(), 0);
    out.crc = add(out.crc, rows.get(), 1);
    out.crc = add(out.crc, static_cast<uint64_t>(sqlite3_column_int64(rows.get(), 2)));
  }
  if (code != SQLITE_DONE)
    return code;
  if (int problem = number(in, "SELECT value FROM state WHERE name = 'revision'", out.revision))
    return problem;
  return number(in, "PRAGMA user_version", out.schema);
}

bool sync(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  const bool good = fd >= 0 && ::fsync(fd) == 0;
  if (fd >= 0)
    ::close(fd);
  return good;
}

caf::error os_failed(const std::string& path) {
  return make_error(errc::device_failed, path + ": " + std::strerror(errno));
}

} // namespace

caf::error finish_backup(const std::string& part, const std::string& path, catalog_backup_info& out) {
  out = {};
  {
    database x;
    if (auto problem = open(part, SQLITE_OPEN_READWRITE, x))
      return problem;
    // One file, and no log beside it.
    if (int code = sqlite3_exec(x.get(), "PRAGMA journal_mode=DELETE", nullptr, nullptr, nullptr))
      return refusal(part, code, x.get());
    if (int code = sum_entries(x.get(), out))
      return refusal(part, code, x.get());
    if (out.schema > catalog_tables_version)
      return make_error(errc::bad_format, part + ": made by a newer version");
    const auto sql = "BEGIN; CREATE TABLE backup (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
                     "INSERT INTO backup VALUES ('entries', " +
                     std::to_string(out.entries) + "), ('crc32c', " + std::to_string(out.crc) + "), ('revision', " +
                     std::to_string(out.revision) + "); COMMIT";
    if (int code = sqlite3_exec(x.get(), sql.c_str(), nullptr, nullptr, nullptr))
      return refusal(part, code, x.get());
  }
  struct stat s {};
  if (::chmod(part.c_str(), 0600) != 0 || !sync(part, O_RDWR) || ::stat(part.c_str(), &s) != 0)
    return os_failed(part);
  out.bytes = static_cast<uint64_t>(s.st_size);
  // link() takes no name that is taken.
  if (::link(part.c_str(), path.c_str()) != 0)
    return errno == EEXIST ? make_error(errc::already_exists, path) : os_failed(path);
  ::unlink(part.c_str());
  if (!sync(std::filesystem::path(path).parent_path(), O_RDONLY | O_DIRECTORY))
    return os_failed(path);
  return {};
}

caf::error check_backup(const std::string& path, catalog_backup_info& out) {
  out = {};
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0)
    return errno == ENOENT ? make_error(errc::not_found, path) : os_failed(path);
  out.bytes = static_cast<uint64_t>(s.st_size);
  database x;
  if (auto problem = open(path, SQLITE_OPEN_READONLY, x))
    return problem;
  if (int code = number(x.get(), "PRAGMA user_version", out.schema))
    return refusal(path, code, x.get());
  if (out.schema > catalog_tables_version)
    return make_error(errc::bad_format, path + " has schema version " + std::to_string(out.schema) +
                                          ", this program knows up to " + std::to_string(catalog_tables_version));
  uint64_t entries = 0, crc = 0, revision = 0;
  if (number(x.get(), "SELECT value FROM backup WHERE name = 'entries'", entries) != SQLITE_OK ||
      number(x.get(), "SELECT value FROM backup WHERE name = 'crc32c'", crc) != SQLITE_OK ||
      number(x.get(), "SELECT value FROM backup WHERE name = 'revision'", revision) != SQLITE_OK)
    return make_error(errc::bad_format, path + " is no backup of a catalog: made with varve catalog backup?");
  if (int code = sum_entries(x.get(), out))
    return refusal(path, code, x.get());
  if (out.entries != entries || out.crc != crc || out.revision != revision)
    return make_error(errc::bad_format, path + " is spoilt: its checksum does not match");
  return {};
}

caf::error unpack_backup(const std::string& backup, const std::string& path, uint64_t revision) {
  std::error_code error;
  std::filesystem::copy_file(backup, path, std::filesystem::copy_options::overwrite_existing, error);
  if (error)
    return make_error(errc::device_failed, path + ": " + error.message());
  {
    database x;
    if (auto problem = open(path, SQLITE_OPEN_READWRITE, x))
      return problem;
    const auto sql =
      "BEGIN; DROP TABLE backup; UPDATE state SET value = max(value, " + std::to_string(revision) + "); COMMIT";
    if (int code = sqlite3_exec(x.get(), sql.c_str(), nullptr, nullptr, nullptr))
      return refusal(path, code, x.get());
  }
  if (::chmod(path.c_str(), 0600) != 0 || !sync(path, O_RDWR))
    return os_failed(path);
  return {};
}

caf::error raise_revision(const std::string& path, uint64_t revision) {
  database x;
  if (auto problem = open(path, SQLITE_OPEN_READWRITE, x))
    return problem;
  const auto sql = "PRAGMA synchronous=FULL; UPDATE state SET value = max(value, " + std::to_string(revision) + ")";
  if (int code = sqlite3_exec(x.get(), sql.c_str(), nullptr, nullptr, nullptr))
    return refusal(path, code, x.get());
  return {};
}

} // namespace varve
