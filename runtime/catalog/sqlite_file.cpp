#include "runtime/catalog/sqlite_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "messages/errors.hpp"

namespace varve {

namespace {

constexpr auto schema_version = catalog_tables_version;

const char* create_tables = R"sql(
  CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
  INSERT OR IGNORE INTO state VALUES ('revision', 0);
)sql";

void bind(sqlite3_stmt* to, int position, const std::string& bytes) {
  // Empty is a value too, not NULL.
  sqlite3_bind_blob64(to, position, bytes.empty() ? "" : bytes.data(), bytes.size(), SQLITE_STATIC);
}

std::string column(sqlite3_stmt* of, int position) {
  auto* bytes = static_cast<const char*>(sqlite3_column_blob(of, position));
  return {bytes ? bytes : "", static_cast<size_t>(sqlite3_column_bytes(of, position))};
}

/// The first key after all that begin with `prefix`; empty: there is none.
std::string prefix_end(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff)
    prefix.pop_back();
  if (!prefix.empty())
    ++prefix.back();
  return prefix;
}

int step(sqlite3_stmt* x) {
  const int code = sqlite3_step(x);
  sqlite3_reset(x);
  return code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : code;
}

constexpr uint64_t reserve_bytes_min = 64 << 10;
/// Commits between two tries to have the whole reserve again.
constexpr uint64_t reserve_every = 16;

/// What must go through on a full device, since it (soon) makes room or lets what runs come to an end.
bool may_use_reserve(const catalog_batch& x) {
  return std::any_of(x.changes.begin(), x.changes.end(), [](const catalog_change& c) {
    return c.erase || c.key.starts_with("migration/") || c.key.starts_with("volume/") || c.key.starts_with("meta/");
  });
}

bool is_full(int code) {
  return (code & 0xff) == SQLITE_FULL;
}

} // namespace

std::unique_ptr<sqlite_file> sqlite_file::open(const sqlite_store_options& options, caf::error& problem) {
  std::unique_ptr<sqlite_file> result{new sqlite_file(options)};
  const auto path = options.folder + "/catalog.db";
  sqlite3* raw = nullptr;
  int code =
    sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  result->database_.reset(raw);
  if (code == SQLITE_OK) {
    sqlite3_extended_result_codes(raw, 1);
    code = result->start();
  }
  switch (code & 0xff) {
  case SQLITE_OK: break;
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    problem =
      make_error(errc::unavailable, path + " is in use by another process: is varved running with this data folder?");
    return nullptr;
  case SQLITE_NOTADB:
  case SQLITE_CORRUPT: problem = make_error(errc::bad_format, path + ": " + sqlite3_errmsg(raw)); return nullptr;
  case SQLITE_MISMATCH: {
    uint64_t version = 0;
    result->one_number("PRAGMA user_version", version);
    problem = make_error(errc::bad_format, path + " has schema version " + std::to_string(version) +
                                             ", this program knows up to " + std::to_string(schema_version) +
                                             ": use a newer varved, or another data folder");
    return nullptr;
  }
  default:
    problem = make_error(errc::device_failed, path + ": " + (raw ? sqlite3_errmsg(raw) : sqlite3_errstr(code)));
    return nullptr;
  }
  const auto reserve_path = options.folder + "/catalog.reserve";
  result->reserve_ = ::open(reserve_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  result->make_reserve();
  return result;
}

sqlite_file::~sqlite_file() {
  if (reserve_ >= 0)
    ::close(reserve_);
}

int sqlite_file::start() {
  // Exclusive: no second process, and no shared memory file. The order matters: locking before WAL.
  if (int code = execute("PRAGMA locking_mode=EXCLUSIVE"))
    return code;
  uint64_t version = 0;
  if (int code = one_number("PRAGMA user_version", version))
    return code;
  if (version > schema_version)
    return SQLITE_MISMATCH;
  if (int code = execute("PRAGMA journal_mode=WAL"))
    return code;
  if (int code = execute("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=512; PRAGMA journal_size_limit=4194304"))
    return code;
  // Takes the lock for good, and the tables are there or not together with their version.
  if (int code = execute("BEGIN IMMEDIATE"))
    return code;
  if (int code = execute(create_tables))
    return code;
  if (version != schema_version)
    if (int code = execute(("PRAGMA user_version=" + std::to_string(schema_version)).c_str()))
      return code;
  if (int code = execute("COMMIT"))
    return code;
  if (int code = one_number("SELECT value FROM state WHERE name = 'revision'", revision_))
    return code;
  const std::pair<const char*, statement*> statements[] = {
    {"BEGIN IMMEDIATE", &begin_},
    {"COMMIT", &commit_},
    {"ROLLBACK", &rollback_},
    {"SELECT revision FROM entries WHERE key = ?1", &get_},
    {"INSERT INTO entries VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET value = ?2, revision = ?3", &put_},
    {"DELETE FROM entries WHERE key = ?1", &erase_},
    {"SELECT key, value, revision FROM entries WHERE key >= ?1 AND key > ?2 AND (?3 = X'' OR key < ?3) ORDER BY key "
     "LIMIT ?4",
     &list_},
    {"UPDATE state SET value = ?1 WHERE name = 'revision'", &set_revision_},
  };
  for (auto& [sql, out] : statements)
    if (int code = prepare(sql, *out))
      return code;
  return SQLITE_OK;
}

std::vector<catalog_result> sqlite_file::commit(const std::vector<const catalog_batch*>& batches) {
  std::vector<catalog_result> results(batches.size());
  if (broken_) {
    std::fill(results.begin(), results.end(), failed(SQLITE_IOERR_FSYNC));
    return results;
  }
  if (++commits_ % reserve_every == 0)
    make_reserve();
  int code = transaction(batches, results);
  if (code != SQLITE_OK && batches.size() > 1) {
    // One may be to blame, or too large: each alone.
    for (size_t i = 0; i < batches.size(); ++i)
      results[i] = commit({batches[i]}).front();
    return results;
  }
  if (is_full(code) && may_use_reserve(*batches.front()) && use_reserve())
    code = transaction(batches, results);
  if (code != SQLITE_OK)
    results.front() = failed(code);
  return results;
}

int sqlite_file::transaction(const std::vector<const catalog_batch*>& batches, std::vector<catalog_result>& results) {
  const auto revision_before = revision_;
  int code = sync_commits(!std::all_of(batches.begin(), batches.end(), [](auto* x) { return x->lazy; }));
  if (code == SQLITE_OK)
    code = step(begin_.get());
  for (size_t i = 0; i < batches.size() && code == SQLITE_OK; ++i) {
    results[i] = {};
    code = apply(*batches[i], results[i]);
  }
  if (code == SQLITE_OK && revision_ != revision_before) {
    sqlite3_bind_int64(set_revision_.get(), 1, static_cast<int64_t>(revision_));
    code = step(set_revision_.get());
  }
  if (code == SQLITE_OK)
    code = step(commit_.get());
  if (code != SQLITE_OK) {
    // Some failures have rolled back by themselves.
    if (!sqlite3_get_autocommit(database_.get()))
      step(rollback_.get());
    revision_ = revision_before;
    if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC)
      broken_ = true;
  }
  return code;
}

int sqlite_file::apply(const catalog_batch& batch, catalog_result& result) {
  for (const auto& x : batch.compare) {
    bind(get_.get(), 1, x.key);
    const int code = sqlite3_step(get_.get());
    const uint64_t found = code == SQLITE_ROW ? static_cast<uint64_t>(sqlite3_column_int64(get_.get(), 0)) : 0;
    sqlite3_reset(get_.get());
    if (code != SQLITE_ROW && code != SQLITE_DONE)
      return code;
    if (found != x.revision) {
      // Nothing of this batch has been changed yet: those before and after it in the transaction are not touched.
      result.status = errc::conflict;
      result.context = x.key;
      result.revision = revision_;
      return SQLITE_OK;
    }
  }
  ++revision_;
  for (const auto& x : batch.changes) {
    auto* with = x.erase ? erase_.get() : put_.get();
    bind(with, 1, x.key);
    if (!x.erase) {
      bind(with, 2, x.value);
      sqlite3_bind_int64(with, 3, static_cast<int64_t>(revision_));
    }
    if (int code = step(with))
      return code;
  }
  result.revision = revision_;
  return SQLITE_OK;
}

catalog_result sqlite_file::list(const std::string& prefix, const std::string& after, size_t limit) {
  catalog_result result;
  result.revision = revision_;
  const auto end = prefix_end(prefix);
  bind(list_.get(), 1, prefix);
  bind(list_.get(), 2, after);
  bind(list_.get(), 3, end);
  sqlite3_bind_int64(list_.get(), 4, static_cast<int64_t>(std::min<size_t>(limit, INT64_MAX)));
  int code;
  while ((code = sqlite3_step(list_.get())) == SQLITE_ROW)
    result.entries.push_back(
      {column(list_.get(), 0), column(list_.get(), 1), static_cast<uint64_t>(sqlite3_column_int64(list_.get(), 2))});
  sqlite3_reset(list_.get());
  return code == SQLITE_DONE ? result : failed(code);
}

catalog_result sqlite_file::begin_copy(const std::string& path) {
  catalog_result result;
  result.context = path;
  if (copying_) {
    result.status = errc::unavailable;
    result.context = "another backup is being made";
    return result;
  }
  // Made here, since SQLite would take a file that is there.
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    result.status = errno == EEXIST ? errc::already_exists : errc::device_failed;
    result.context += std::string{": "} + std::strerror(errno);
    return result;
  }
  ::close(fd);
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  copy_.reset(raw);
  if (code == SQLITE_OK)
    copying_.reset(sqlite3_backup_init(raw, "main", database_.get(), "main"));
  if (!copying_) {
    result = failed(code == SQLITE_OK ? sqlite3_extended_errcode(raw) : code);
    copy_.reset();
  }
  return result;
}

bool sqlite_file::copy_some(int pages, catalog_result& result) {
  const int code = sqlite3_backup_step(copying_.get(), pages);
  if (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED)
    return false;
  const int end = sqlite3_backup_finish(copying_.release());
  copy_.reset();
  result = code == SQLITE_DONE && end == SQLITE_OK ? catalog_result{} : failed(code == SQLITE_DONE ? end : code);
  if (result.status == errc::none)
    result.revision = revision_;
  return true;
}

catalog_result sqlite_file::failed(int code) {
  catalog_result result;
  result.status = is_full(code) ? errc::tier_full : errc::device_failed;
  result.revision = revision_;
  result.context = broken_ ? "the catalog's device failed a sync earlier: start again"
                           : std::string{"catalog: "} + sqlite3_errstr(code);
  return result;
}

int sqlite_file::prepare(const char* sql, statement& out) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  out.reset(raw);
  return code;
}

int sqlite_file::execute(const char* sql) {
  return sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
}

// Of a log that is synced, all before is synced, too.
int sqlite_file::sync_commits(bool on) {
  if (on == commits_are_synced_)
    return SQLITE_OK;
  const int code = execute(on ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
  if (code == SQLITE_OK)
    commits_are_synced_ = on;
  return code;
}

int sqlite_file::one_number(const char* sql, uint64_t& out) {
  statement x;
  if (int code = prepare(sql, x))
    return code;
  const int code = sqlite3_step(x.get());
  if (code == SQLITE_ROW)
    out = static_cast<uint64_t>(sqlite3_column_int64(x.get(), 0));
  return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

void sqlite_file::make_reserve() {
  if (reserve_ < 0 || reserved_bytes_ == options_.reserve_bytes)
    return;
  // Fails while the device is full, which is no error: as much as there is, and again with a later commit.
  for (auto bytes = options_.reserve_bytes; bytes >= reserve_bytes_min && bytes > reserved_bytes_; bytes /= 2) {
    if (::posix_fallocate(reserve_, 0, static_cast<off_t>(bytes)) == 0) {
      reserved_bytes_ = bytes;
      return;
    }
    // Part of it may have been allocated.
    if (::ftruncate(reserve_, static_cast<off_t>(reserved_bytes_)) != 0)
      return;
  }
}

bool sqlite_file::use_reserve() {
  if (reserved_bytes_ == 0 || ::ftruncate(reserve_, 0) != 0)
    return false;
  reserved_bytes_ = 0;
  return true;
}

} // namespace varve
