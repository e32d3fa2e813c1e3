#pragma once

#include <memory>
#include <string>
#include <vector>

#include <sqlite3.h>

#include "runtime/catalog/sqlite_store.hpp"

namespace varve {

/// The layout of the tables; keys and values have a version of their own (records.hpp).
inline constexpr uint64_t catalog_tables_version = 1;

/// The catalog's file as the store's thread uses it: every call blocks.
class sqlite_file {
public:
  static std::unique_ptr<sqlite_file> open(const sqlite_store_options& options, caf::error& problem);
  ~sqlite_file();
  sqlite_file(const sqlite_file&) = delete;
  sqlite_file& operator=(const sqlite_file&) = delete;

  /// One transaction and one sync for all; each batch has its own answer.
  std::vector<catalog_result> commit(const std::vector<const catalog_batch*>& batches);
  catalog_result list(const std::string& prefix, const std::string& after, size_t limit);

  /// Copies everything to a new file, in steps; commits in between are in the copy, too. One at a time.
  /// errc::already_exists when there is a file, errc::unavailable while another copy is made.
  catalog_result begin_copy(const std::string& path);
  /// So many pages more. True when there is nothing left to do: then `result` says how it ended.
  bool copy_some(int pages, catalog_result& result);

private:
  struct close_database {
    void operator()(sqlite3* x) const noexcept { sqlite3_close_v2(x); }
  };
  struct end_copy {
    void operator()(sqlite3_backup* x) const noexcept { sqlite3_backup_finish(x); }
  };
  struct finalize_statement {
    void operator()(sqlite3_stmt* x) const noexcept { sqlite3_finalize(x); }
  };
  using statement = std::unique_ptr<sqlite3_stmt, finalize_statement>;

  explicit sqlite_file(sqlite_store_options options) : options_(std::move(options)) {}

  /// The code of SQLite, SQLITE_OK when it went well.
  int prepare(const char* sql, statement& out);
  int execute(const char* sql);
  int one_number(const char* sql, uint64_t& out);
  int start();
  int apply(const catalog_batch& batch, catalog_result& result);
  int transaction(const std::vector<const catalog_batch*>& batches, std::vector<catalog_result>& results);
  /// Whether COMMIT returns only when the log is on disk.
  int sync_commits(bool on);
  catalog_result failed(int code);

  void make_reserve();
  bool use_reserve();

  sqlite_store_options options_;
  std::unique_ptr<sqlite3, close_database> database_; // before its statements
  statement begin_, commit_, rollback_, get_, put_, erase_, list_, set_revision_;
  std::unique_ptr<sqlite3, close_database> copy_; // before what fills it
  std::unique_ptr<sqlite3_backup, end_copy> copying_;
  uint64_t revision_ = 0;
  int reserve_ = -1;
  uint64_t reserved_bytes_ = 0;
  uint64_t commits_ = 0;
  bool commits_are_synced_ = true;
  /// A sync has failed: no answer can be trusted to be durable.
  bool broken_ = false;
};

} // namespace varve
