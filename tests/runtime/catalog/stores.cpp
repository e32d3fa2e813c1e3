#include <future>
#include <random>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include "runtime/catalog/memory_store.hpp"
#include "runtime/catalog/sqlite_store.hpp"
#include "tests/runtime/catalog/temporary_folder.hpp"

using namespace varve;

/// What both stores owe: one contract, one set of cases.
namespace {

catalog_result commit(catalog_store& store, catalog_batch batch) {
  std::promise<catalog_result> answer;
  store.commit(std::move(batch), [&](catalog_result x) { answer.set_value(std::move(x)); });
  return answer.get_future().get();
}

catalog_result list(catalog_store& store, std::string prefix, std::string after = {}, size_t limit = 100) {
  std::promise<catalog_result> answer;
  store.list(std::move(prefix), std::move(after), limit, [&](catalog_result x) { answer.set_value(std::move(x)); });
  return answer.get_future().get();
}

catalog_batch put(std::string key, std::string value) {
  return {{}, {{std::move(key), std::move(value), false}}};
}

std::string keys(const catalog_result& x) {
  std::string result;
  for (const auto& e : x.entries)
    result += e.key + " ";
  return result;
}

struct memory_kind {
  memory_store store;
  catalog_store& get() { return store; }
};

struct sqlite_kind {
  sqlite_kind() {
    caf::error problem;
    store = sqlite_store::open({folder.path, 0}, problem);
    BOOST_REQUIRE(store);
  }
  temporary_folder folder;
  std::unique_ptr<sqlite_store> store;
  catalog_store& get() { return *store; }
};

using kinds = std::tuple<memory_kind, sqlite_kind>;

} // namespace

BOOST_AUTO_TEST_SUITE(catalog_stores)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_batch_is_made_as_a_whole_under_one_revision, Kind, kinds) {
  Kind kind;
  auto& store = kind.get();
  auto x = commit(store, {{}, {{"b", "2", false}, {"a", std::string("\0\xff", 2), false}, {"c", "", false}}});
  BOOST_TEST((x.status == errc::none));
  auto found = list(store, "");
  BOOST_TEST(keys(found) == "a b c ");
  for (const auto& e : found.entries)
    BOOST_TEST(e.revision == x.revision);
  BOOST_TEST(found.entries[0].value == std::string("\0\xff", 2));
  BOOST_TEST(found.revision == x.revision);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_comparison_that_fails_changes_nothing, Kind, kinds) {
  Kind kind;
  auto& store = kind.get();
  const auto first = commit(store, put("a", "1")).revision;
  auto refused = commit(store, {{{"a", first}, {"b", 5}}, {{"a", "2", false}, {"b", "2", false}}});
  BOOST_TEST((refused.status == errc::conflict));
  BOOST_TEST(refused.context == "b");
  BOOST_TEST((commit(store, {{{"a", 0}}, {{"a", "2", false}}}).status == errc::conflict));
  BOOST_TEST(list(store, "").entries.front().value == "1");
  BOOST_TEST(list(store, "").revision == first);
  BOOST_TEST((commit(store, {{{"a", first}, {"b", 0}}, {{"a", {}, true}, {"b", "2", false}}}).status == errc::none));
  BOOST_TEST(keys(list(store, "")) == "b ");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_listing_has_a_prefix_a_start_and_an_end, Kind, kinds) {
  Kind kind;
  auto& store = kind.get();
  for (auto key : {"a", "b/", "b/1", "b/2", "b/3", "b0", "c", "\xff\xff"})
    commit(store, put(key, "x"));
  BOOST_TEST(keys(list(store, "b/")) == "b/ b/1 b/2 b/3 ");
  BOOST_TEST(keys(list(store, "b/", "b/1")) == "b/2 b/3 ");
  BOOST_TEST(keys(list(store, "b/", "b/1", 1)) == "b/2 ");
  BOOST_TEST(keys(list(store, "b/", "b/3")) == "");
  BOOST_TEST(keys(list(store, "b/", "a")) == "b/ b/1 b/2 b/3 ");
  BOOST_TEST(keys(list(store, "\xff")) == "\xff\xff ");
  BOOST_TEST(list(store, "").entries.size() == 8u);
}

// Goal: both stores do the same as a map. Method: random batches, compared after each.
BOOST_AUTO_TEST_CASE(both_stores_agree_on_random_batches) {
  memory_kind memory;
  sqlite_kind sqlite;
  std::mt19937 random{1};
  for (int i = 0; i < 300; ++i) {
    catalog_batch batch;
    for (auto n = random() % 4; n > 0; --n)
      batch.changes.push_back({"k" + std::to_string(random() % 8), std::to_string(i), random() % 4 == 0});
    if (random() % 2 == 0) {
      auto known = list(memory.get(), "");
      if (!known.entries.empty()) {
        const auto& e = known.entries[random() % known.entries.size()];
        batch.compare.push_back({e.key, random() % 3 == 0 ? e.revision + 1 : e.revision});
      }
    }
    auto one = commit(memory.get(), batch), other = commit(sqlite.get(), batch);
    BOOST_REQUIRE((one.status == other.status));
    BOOST_REQUIRE(one.revision == other.revision);
    auto a = list(memory.get(), ""), b = list(sqlite.get(), "");
    BOOST_REQUIRE(keys(a) == keys(b));
    for (size_t n = 0; n < a.entries.size(); ++n)
      BOOST_REQUIRE(a.entries[n].revision == b.entries[n].revision);
  }
}

BOOST_AUTO_TEST_CASE(a_crash_loses_what_was_not_answered_and_nothing_else) {
  memory_store store;
  commit(store, put("a", "1"));
  store.hold(true);
  int answered = 0;
  for (auto key : {"b", "c", "d"})
    store.commit(put(key, "1"), [&](const catalog_result&) { ++answered; });
  BOOST_TEST(store.waiting() == 3u);
  BOOST_TEST(store.release());
  memory_store next{store.crash(1)};
  BOOST_TEST(answered == 1);
  BOOST_TEST(keys(list(next, "")) == "a b c ");
}

BOOST_AUTO_TEST_SUITE_END()
