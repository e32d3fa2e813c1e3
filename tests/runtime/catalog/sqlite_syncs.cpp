// Which commits wait for the disk, as SQLite's own interface to the system sees it.

#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include <boost/test/unit_test.hpp>

#include "runtime/catalog/sqlite_file.hpp"
#include "tests/runtime/catalog/temporary_folder.hpp"

using namespace varve;

namespace {

/// While it lives, SQLite opens files through it. All calls go to the system as ever; writes and syncs of logs are
/// noted. One at a time, one thread.
class counting_system {
public:
  counting_system() : real_(sqlite3_vfs_find(nullptr)), shim_(*real_) {
    only_ = this;
    shim_.zName = "counting";
    shim_.xOpen = [](sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
      return only_->open(name, file, flags, out);
    };
    BOOST_REQUIRE(sqlite3_vfs_register(&shim_, 1) == SQLITE_OK);
  }
  ~counting_system() {
    sqlite3_vfs_unregister(&shim_);
    sqlite3_vfs_register(real_, 1);
    only_ = nullptr;
  }

  /// Of the log.
  unsigned syncs() const { return syncs_; }
  /// How much of the log is on disk for sure; the log must not have begun anew.
  int64_t synced_bytes() const { return synced_bytes_; }

private:
  /// The system's functions for one kind of file with two of them replaced. First member: files point to it.
  struct wrapped {
    sqlite3_io_methods methods;
    const sqlite3_io_methods* real;
  };
  static const sqlite3_io_methods* real_of(sqlite3_file* file) {
    return reinterpret_cast<const wrapped*>(file->pMethods)->real;
  }

  int open(const char* name, sqlite3_file* file, int flags, int* out) {
    const int code = real_->xOpen(real_, name, file, flags, out);
    if (code != SQLITE_OK || !(flags & SQLITE_OPEN_WAL))
      return code;
    auto [at, is_new] = logs_.try_emplace(file->pMethods);
    if (is_new) {
      at->second = {*file->pMethods, file->pMethods};
      at->second.methods.xWrite = [](sqlite3_file* of, const void* from, int bytes, sqlite3_int64 offset) {
        only_->written_bytes_ = std::max<int64_t>(only_->written_bytes_, offset + bytes);
        return real_of(of)->xWrite(of, from, bytes, offset);
      };
      at->second.methods.xSync = [](sqlite3_file* of, int how) {
        ++only_->syncs_;
        only_->synced_bytes_ = only_->written_bytes_;
        return real_of(of)->xSync(of, how);
      };
    }
    file->pMethods = &at->second.methods;
    return code;
  }

  static inline counting_system* only_ = nullptr;
  sqlite3_vfs* real_;
  sqlite3_vfs shim_;
  std::map<const sqlite3_io_methods*, wrapped> logs_;
  unsigned syncs_ = 0;
  int64_t written_bytes_ = 0, synced_bytes_ = 0;
};

catalog_batch put(const std::string& key, bool lazy) {
  return {{}, {{key, "value", false}}, lazy};
}

struct synced_fixture {
  synced_fixture() {
    caf::error problem;
    file = sqlite_file::open({folder.path, 0}, problem);
    BOOST_REQUIRE(file);
    // The first of a new log syncs the log's header, too.
    commit({put("first", false)});
    BOOST_REQUIRE(system.syncs() > 0);
  }

  /// As one group; how many syncs of the log it took.
  unsigned commit(const std::vector<catalog_batch>& group) {
    std::vector<const catalog_batch*> batches;
    for (const auto& x : group)
      batches.push_back(&x);
    const auto before = system.syncs();
    for (const auto& x : file->commit(batches))
      BOOST_REQUIRE((x.status == errc::none));
    return system.syncs() - before;
  }

  /// What a power loss now leaves at the least: of the log, what was synced.
  std::vector<std::string> keys_after_power_loss() {
    temporary_folder after;
    for (const auto* name : {"/catalog.db", "/catalog.db-wal"})
      std::filesystem::copy_file(folder.path + name, after.path + name);
    std::filesystem::resize_file(after.path + "/catalog.db-wal", static_cast<uintmax_t>(system.synced_bytes()));
    caf::error problem;
    auto left = sqlite_file::open({after.path, 0}, problem);
    BOOST_REQUIRE(left);
    std::vector<std::string> keys;
    for (const auto& x : left->list("", "", 100).entries)
      keys.push_back(x.key);
    return keys;
  }

  counting_system system; // before what it opens
  temporary_folder folder;
  std::unique_ptr<sqlite_file> file;
};

using keys = std::vector<std::string>;

} // namespace

BOOST_FIXTURE_TEST_SUITE(syncs_of_the_catalog, synced_fixture)

BOOST_AUTO_TEST_CASE(a_group_waits_for_the_disk_when_one_of_it_must) {
  BOOST_TEST(commit({put("a", false)}) == 1u);
  BOOST_TEST(commit({put("b", true)}) == 0u);
  BOOST_TEST(commit({put("c", true), put("d", true)}) == 0u);
  BOOST_TEST(commit({put("e", true), put("f", false), put("g", true)}) == 1u);
  BOOST_TEST(commit({put("h", true)}) == 0u);
  BOOST_TEST(commit({put("i", false), put("j", false)}) == 1u);
}

BOOST_AUTO_TEST_CASE(what_may_be_lost_is_safe_once_something_that_may_not_is_answered) {
  commit({put("a", true)});
  commit({put("b", true)});
  BOOST_TEST((keys_after_power_loss() == keys{"first"}));
  commit({put("c", false)});
  BOOST_TEST((keys_after_power_loss() == keys{"a", "b", "c", "first"}));
  commit({put("d", true)});
  BOOST_TEST((keys_after_power_loss() == keys{"a", "b", "c", "first"}));
}

BOOST_AUTO_TEST_SUITE_END()
