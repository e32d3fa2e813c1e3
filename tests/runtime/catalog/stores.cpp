#include <tuple>

#include "runtime/catalog/sqlite_store.hpp"
#include "tests/runtime/catalog/store_cases.hpp"
#include "tests/runtime/catalog/temporary_folder.hpp"

using namespace varve;
using namespace varve::store_cases;

namespace {

struct memory_kind {
  memory_kind() = default;
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

BOOST_AUTO_TEST_CASE_TEMPLATE(batches_are_atomic, Kind, kinds) {
  a_batch_is_made_as_a_whole_under_one_revision(Kind{}.get());
  of_one_key_the_last_change_of_a_batch_counts(Kind{}.get());
  a_comparison_that_fails_changes_nothing(Kind{}.get());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(listings_have_bounds, Kind, kinds) {
  a_listing_has_a_prefix_a_start_and_an_end(Kind{}.get());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(answers_are_in_order, Kind, kinds) {
  answers_come_in_the_order_of_the_calls(Kind{}.get());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(all_stores_agree_on_random_batches, Kind, kinds) {
  random_batches_do_what_they_do_in_memory(Kind{}.get(), 300);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(revisions_count_batches, Kind, kinds) {
  Kind kind;
  for (uint64_t i = 1; i < 4; ++i) {
    BOOST_TEST(commit(kind.get(), put("a", "1")).revision == i);
    BOOST_TEST(list(kind.get(), "").revision == i);
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
