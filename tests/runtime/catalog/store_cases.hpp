#pragma once

#include <future>
#include <map>
#include <random>
#include <string>

#include <boost/test/unit_test.hpp>

#include "runtime/catalog/memory_store.hpp"

/// What every store owes: one contract, one set of cases, on an empty store.
namespace varve::store_cases {

inline catalog_result commit(catalog_store& store, catalog_batch batch) {
  std::promise<catalog_result> answer;
  store.commit(std::move(batch), [&](catalog_result x) { answer.set_value(std::move(x)); });
  return answer.get_future().get();
}

inline catalog_result list(catalog_store& store, std::string prefix, std::string after = {}, size_t limit = 100) {
  std::promise<catalog_result> answer;
  store.list(std::move(prefix), std::move(after), limit, [&](catalog_result x) { answer.set_value(std::move(x)); });
  return answer.get_future().get();
}

inline catalog_batch put(std::string key, std::string value) {
  return {{}, {{std::move(key), std::move(value), false}}};
}

inline std::string keys(const catalog_result& x) {
  std::string result;
  for (const auto& e : x.entries)
    result += e.key + " ";
  return result;
}

inline void a_batch_is_made_as_a_whole_under_one_revision(catalog_store& store) {
  auto x = commit(store, {{}, {{"b", "2", false}, {"a", std::string("\0\xff", 2), false}, {"c", "", false}}});
  BOOST_TEST((x.status == errc::none));
  auto found = list(store, "");
  BOOST_TEST(keys(found) == "a b c ");
  for (const auto& e : found.entries)
    BOOST_TEST(e.revision == x.revision);
  BOOST_TEST(found.entries[0].value == std::string("\0\xff", 2));
  BOOST_TEST(found.revision >= x.revision);
}

inline void of_one_key_the_last_change_of_a_batch_counts(catalog_store& store) {
  BOOST_TEST((commit(store, {{}, {{"a", "1", false}, {"b", "1", false}, {"a", "2", false}, {"b", "", true}}}).status ==
              errc::none));
  auto found = list(store, "");
  BOOST_TEST(keys(found) == "a ");
  BOOST_TEST(found.entries.front().value == "2");
}

inline void a_comparison_that_fails_changes_nothing(catalog_store& store) {
  const auto first = commit(store, put("a", "1")).revision;
  auto refused = commit(store, {{{"a", first}, {"b", 5}}, {{"a", "2", false}, {"b", "2", false}}});
  BOOST_TEST((refused.status == errc::conflict));
  BOOST_TEST(refused.context == "b");
  BOOST_TEST((commit(store, {{{"a", 0}}, {{"a", "2", false}}}).status == errc::conflict));
  BOOST_TEST(list(store, "").entries.front().value == "1");
  BOOST_TEST(list(store, "").entries.front().revision == first);
  BOOST_TEST((commit(store, {{{"a", first}, {"b", 0}}, {{"a", {}, true}, {"b", "2", false}}}).status == errc::none));
  BOOST_TEST(keys(list(store, "")) == "b ");
}

inline void a_listing_has_a_prefix_a_start_and_an_end(catalog_store& store) {
  for (auto key : {"a", "b/", "b/1", "b/2", "b/3", "b0", "c", "\xff\xff"})
    commit(store, put(key, "x"));
  BOOST_TEST(keys(list(store, "b/")) == "b/ b/1 b/2 b/3 ");
  BOOST_TEST(keys(list(store, "b/", "b/1")) == "b/2 b/3 ");
  BOOST_TEST(keys(list(store, "b/", "b/1", 1)) == "b/2 ");
  BOOST_TEST(keys(list(store, "b/", "b/3")) == "");
  BOOST_TEST(keys(list(store, "b/", "c")) == "");
  BOOST_TEST(keys(list(store, "b/", "", 0)) == "");
  BOOST_TEST(keys(list(store, "b/", "a")) == "b/ b/1 b/2 b/3 ");
  BOOST_TEST(keys(list(store, "\xff")) == "\xff\xff ");
  BOOST_TEST(list(store, "").entries.size() == 8u);
}

inline void answers_come_in_the_order_of_the_calls(catalog_store& store) {
  std::vector<int> order; // on the store's thread only, until the last
  std::promise<void> last;
  constexpr int calls = 200;
  for (int i = 0; i < calls; ++i) {
    auto answered = [&order, &last, i] {
      order.push_back(i);
      if (i + 1 == calls)
        last.set_value();
    };
    if (i % 7 == 0)
      store.list("", "", 1, [answered](const catalog_result&) { answered(); });
    else // the same keys and others, and refusals between
      store.commit({i % 5 == 0 ? std::vector<catalog_comparison>{{"1", 99999999}} : std::vector<catalog_comparison>{},
                    {{std::to_string(i % 3), std::to_string(i), false}, {std::to_string(i), "x", false}}},
                   [answered](const catalog_result&) { answered(); });
  }
  last.get_future().wait();
  BOOST_REQUIRE(order.size() == size_t{calls});
  BOOST_TEST(std::is_sorted(order.begin(), order.end()));
  // What was asked last on a key is what it has: 199 % 3 == 1.
  const auto found = list(store, "1", "", 1);
  BOOST_REQUIRE(found.entries.size() == 1u);
  BOOST_TEST(found.entries.front().value == "199");
}

/// Goal: a store does the same as a map. Method: random batches, compared after each. Revisions may be other numbers.
inline void random_batches_do_what_they_do_in_memory(catalog_store& other, int rounds) {
  memory_store memory;
  std::mt19937 random{1};
  std::map<uint64_t, uint64_t> revisions; // of memory: of the other
  for (int i = 0; i < rounds; ++i) {
    catalog_batch batch, translated;
    for (auto n = random() % 4; n > 0; --n)
      batch.changes.push_back({"k" + std::to_string(random() % 8), std::to_string(i), random() % 4 == 0});
    translated = batch;
    if (random() % 2 == 0) {
      auto known = list(memory, "");
      if (!known.entries.empty()) {
        const auto& e = known.entries[random() % known.entries.size()];
        const uint64_t wrong = random() % 3 == 0 ? 1 : 0;
        batch.compare.push_back({e.key, e.revision + wrong});
        translated.compare.push_back({e.key, revisions.at(e.revision) + wrong});
      }
    }
    auto one = commit(memory, batch), two = commit(other, translated);
    BOOST_REQUIRE((one.status == two.status));
    if (one.status == errc::none)
      revisions[one.revision] = two.revision;
    auto a = list(memory, ""), b = list(other, "");
    BOOST_REQUIRE(keys(a) == keys(b));
    for (size_t n = 0; n < a.entries.size(); ++n) {
      BOOST_REQUIRE(revisions.at(a.entries[n].revision) == b.entries[n].revision);
      BOOST_REQUIRE(a.entries[n].value == b.entries[n].value);
    }
  }
}

} // namespace varve::store_cases
