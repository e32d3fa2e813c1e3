#include "runtime/catalog/sqlite_store.hpp"

#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <future>

#include <boost/test/unit_test.hpp>

#include "messages/errors.hpp"
#include "tests/runtime/catalog/temporary_folder.hpp"

using namespace varve;

namespace {

catalog_result commit(catalog_store& store, std::string key, std::string value, bool erase = false, bool lazy = false) {
  std::promise<catalog_result> answer;
  store.commit({{}, {{std::move(key), std::move(value), erase}}, lazy},
               [&](catalog_result x) { answer.set_value(std::move(x)); });
  return answer.get_future().get();
}

size_t count(catalog_store& store) {
  std::promise<size_t> answer;
  store.list("", "", 1'000'000, [&](const catalog_result& x) { answer.set_value(x.entries.size()); });
  return answer.get_future().get();
}

errc open_code(const std::string& folder, std::string* why = nullptr) {
  caf::error problem;
  auto store = sqlite_store::open({folder, 0}, problem);
  if (why)
    *why = context_of(problem);
  return store ? errc::none : code_of(problem);
}

} // namespace

BOOST_AUTO_TEST_SUITE(sqlite_stores)

BOOST_AUTO_TEST_CASE(what_was_answered_is_there_after_kill_9) {
  temporary_folder folder;
  int ends[2];
  BOOST_REQUIRE(pipe(ends) == 0);
  const auto child = fork();
  if (child == 0) {
    caf::error problem;
    auto store = sqlite_store::open({folder.path, 0}, problem);
    for (unsigned char i = 0; i < 200; ++i)
      if (!store || commit(*store, "key" + std::to_string(i), "value", false, i % 3 != 0).status != errc::none ||
          write(ends[1], &i, 1) != 1)
        _exit(1);
    pause();
  }
  close(ends[1]);
  unsigned char last = 0;
  while (last < 100 && read(ends[0], &last, 1) == 1) {
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  unsigned answered = last + 1u;
  while (read(ends[0], &last, 1) == 1)
    answered = last + 1u;
  close(ends[0]);
  caf::error problem;
  auto store = sqlite_store::open({folder.path, 0}, problem);
  BOOST_REQUIRE(store);
  BOOST_TEST(count(*store) >= answered);
}

BOOST_AUTO_TEST_CASE(a_second_process_is_refused_and_told_why) {
  temporary_folder folder;
  caf::error problem;
  auto store = sqlite_store::open({folder.path, 0}, problem);
  BOOST_REQUIRE(store);
  const auto child = fork();
  if (child == 0) {
    std::string why;
    const auto code = open_code(folder.path, &why);
    _exit(code == errc::unavailable && why.find("in use by another process") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  BOOST_TEST(WEXITSTATUS(status) == 0);
  store.reset();
  BOOST_TEST((open_code(folder.path) == errc::none));
}

BOOST_AUTO_TEST_CASE(a_newer_schema_is_refused_and_named) {
  temporary_folder folder;
  BOOST_REQUIRE((open_code(folder.path) == errc::none));
  sqlite3* raw = nullptr;
  BOOST_REQUIRE(sqlite3_open((folder.path + "/catalog.db").c_str(), &raw) == SQLITE_OK);
  BOOST_REQUIRE(sqlite3_exec(raw, "PRAGMA user_version=99", nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(raw);
  std::string why;
  BOOST_TEST((open_code(folder.path, &why) == errc::bad_format));
  BOOST_TEST(why.find("schema version 99") != std::string::npos, why);
}

BOOST_AUTO_TEST_CASE(what_is_no_catalog_is_refused) {
  temporary_folder folder;
  std::ofstream{folder.path + "/catalog.db"} << std::string(8192, 'x');
  BOOST_TEST((open_code(folder.path) == errc::bad_format));
  BOOST_TEST((open_code(folder.path + "/nowhere") == errc::device_failed));
}

BOOST_AUTO_TEST_CASE(answers_come_in_the_order_of_the_calls_and_all_before_the_store_is_gone) {
  temporary_folder folder;
  caf::error problem;
  auto store = sqlite_store::open({folder.path, 0}, problem);
  BOOST_REQUIRE(store);
  std::vector<int> order;
  for (int i = 0; i < 500; ++i)
    if (i % 7 == 0)
      store->list("", "", 1, [&order, i](const catalog_result&) { order.push_back(i); });
    else
      store->commit({{}, {{std::to_string(i), "x", false}}},
                    [&order, i](const catalog_result&) { order.push_back(i); });
  store.reset();
  BOOST_REQUIRE(order.size() == 500u);
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
}

// Goal: on a full device new shards are refused, nothing breaks, and removals and journal entries still go through.
// Method: a small tmpfs in a mount namespace of a child process; where that is not permitted, nothing is tested.
BOOST_AUTO_TEST_CASE(removals_go_through_on_a_full_device) {
  temporary_folder folder;
  const auto child = fork();
  if (child == 0) {
    if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", folder.path.c_str(), "tmpfs", 0, "size=8m") != 0)
      _exit(77);
    caf::error problem;
    auto store = sqlite_store::open({folder.path, 2 << 20}, problem);
    if (!store)
      _exit(1);
    // Filled by others, as by a tier beside it.
    unsigned n = 0;
    for (; n < 100; ++n)
      if (commit(*store, "shard/" + std::to_string(n), std::string(1000, 'x')).status != errc::none)
        _exit(2);
    {
      std::ofstream filler{folder.path + "/filler"};
      const std::string block(4096, 'x');
      while (filler.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
      }
    }
    errc refused = errc::none;
    for (unsigned i = 0; i < 5000 && refused == errc::none; ++i)
      refused = commit(*store, "shard/new" + std::to_string(i), std::string(1000, 'x')).status;
    if (refused != errc::tier_full)
      _exit(3);
    for (unsigned i = 0; i < n; ++i)
      if (commit(*store, "shard/" + std::to_string(i), {}, true).status != errc::none)
        _exit(4);
    if (commit(*store, "migration/1", "{}").status != errc::none)
      _exit(5);
    // Room again: all as before.
    std::remove((folder.path + "/filler").c_str());
    for (unsigned i = 0; i < 40; ++i)
      if (commit(*store, "shard/after" + std::to_string(i), std::string(1000, 'x')).status != errc::none)
        _exit(6);
    store.reset();
    _exit(open_code(folder.path) == errc::none ? 0 : 7);
  }
  int status = 0;
  waitpid(child, &status, 0);
  BOOST_REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77)
    BOOST_TEST_MESSAGE("not permitted to mount: not tested");
  else
    BOOST_TEST(WEXITSTATUS(status) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
