// Histories of one block: which of them a register explains.
#include <chrono>
#include <random>
#include <vector>

#include <boost/test/unit_test.hpp>

#include "tests/chaos/register_check.hpp"

using namespace varve::chaos;
using kind = violation::kind;

namespace {

stamp value(uint64_t n) {
  return n ? stamp{1, 1, n} : blank;
}

operation write(uint64_t n, int64_t begin, int64_t end) {
  return {operation::kind::write, value(n), begin, end};
}
operation read(uint64_t n, int64_t begin, int64_t end) {
  return {operation::kind::read, value(n), begin, end};
}

/// What both say of it: a violation that only one of them sees is a mistake of this test's own subject.
std::optional<violation> check(const std::vector<operation>& history) {
  auto found = check_register(history);
  if (!found || found->what != kind::no_history)
    BOOST_TEST(some_order_explains(history) == !found.has_value());
  return found;
}

#define GOOD(...)                                                                                                      \
  do {                                                                                                                 \
    auto found = check({__VA_ARGS__});                                                                                 \
    BOOST_TEST(!found, (found ? found->text : ""));                                                                    \
  } while (false)

#define BAD(why, ...)                                                                                                  \
  do {                                                                                                                 \
    auto found = check({__VA_ARGS__});                                                                                 \
    BOOST_REQUIRE(found);                                                                                              \
    BOOST_TEST((found->what == why), found->text);                                                                     \
  } while (false)

} // namespace

BOOST_AUTO_TEST_CASE(what_one_client_does_is_explained) {
  GOOD();
  GOOD(read(0, 1, 2));
  GOOD(read(0, 1, 2), write(1, 3, 4), read(1, 5, 6), write(2, 7, 8), read(2, 9, 10), read(2, 11, 12));
}

BOOST_AUTO_TEST_CASE(concurrent_operations_may_be_in_any_order) {
  GOOD(write(1, 1, 10), read(0, 2, 3), read(1, 4, 5), read(1, 11, 12));
  GOOD(write(1, 1, 10), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6));
  GOOD(write(1, 1, 10), write(2, 2, 9), read(1, 11, 12));
  GOOD(write(1, 1, 10), write(2, 2, 9), read(2, 11, 12));
  // What begins at the moment at which another ends is concurrent with it.
  GOOD(write(1, 1, 2), read(0, 2, 3));
}

BOOST_AUTO_TEST_CASE(a_stale_read_is_found) {
  BAD(kind::out_of_order, write(1, 1, 2), write(2, 3, 4), read(1, 5, 6));
  BAD(kind::out_of_order, write(1, 1, 2), read(0, 3, 4));
  BAD(kind::out_of_order, write(1, 1, 9), read(1, 2, 3), read(0, 4, 5));
}

BOOST_AUTO_TEST_CASE(a_lost_write_is_found) {
  BAD(kind::out_of_order, write(1, 1, 2), read(1, 3, 4), write(2, 5, 6), read(1, 7, 8), read(1, 9, 10));
  BAD(kind::out_of_order, write(1, 1, 2), read(0, 3, 4), read(0, 5, 6));
}

BOOST_AUTO_TEST_CASE(what_nobody_has_written_is_found) {
  BAD(kind::never_written, write(1, 1, 2), read(7, 3, 4));
  BAD(kind::before_its_write, read(1, 1, 2), write(1, 3, 4));
}

BOOST_AUTO_TEST_CASE(a_value_that_comes_back_is_found) {
  BAD(kind::out_of_order, write(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8));
  BAD(kind::out_of_order, write(1, 1, 20), write(2, 2, 20), read(1, 3, 4), read(2, 5, 6), read(1, 7, 8));
  // Two readers that disagree on the order of two concurrent writes.
  BAD(kind::out_of_order, write(1, 1, 4), write(2, 1, 4), read(1, 5, 8), read(2, 5, 6), read(1, 9, 10),
      read(2, 11, 12));
}

BOOST_AUTO_TEST_CASE(an_unanswered_write_takes_effect_late_or_never) {
  GOOD(write(1, 1, never), read(0, 2, 3), read(0, 4, 5));
  GOOD(write(1, 1, never), write(2, 2, 3), read(2, 4, 5), read(1, 6, 7), read(1, 8, 9));
  GOOD(write(1, 1, never), write(2, 2, never), read(2, 4, 5), read(1, 6, 7));
  GOOD(write(1, 1, 2), write(2, 3, never), read(1, 4, 5), read(2, 6, 7));
  // But only once.
  BAD(kind::out_of_order, write(1, 1, never), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7), read(1, 8, 9));
  BAD(kind::out_of_order, write(1, 1, never), read(1, 2, 3), read(0, 4, 5));
  // And not before it began.
  BAD(kind::before_its_write, read(1, 1, 2), write(1, 3, never));
}

BOOST_AUTO_TEST_CASE(an_unanswered_read_says_nothing) {
  GOOD(write(1, 1, 2), read(0, 3, never), read(1, 4, 5));
  GOOD(write(1, 1, 2), read(9, 3, never));
}

BOOST_AUTO_TEST_CASE(what_is_no_history_is_said_to_be_none) {
  BAD(kind::no_history, write(1, 1, 2), write(1, 3, 4));
  BAD(kind::no_history, write(0, 1, 2));
  BAD(kind::no_history, write(1, 2, 1));
}

BOOST_AUTO_TEST_CASE(a_violation_names_both_values_and_when) {
  auto found =
    check_register(std::vector{write(1, 1'000'000'000, 2'000'000'000), write(2, 3'000'000'000, 4'000'000'000),
                               read(1, 5'000'000'000, 6'000'000'000)});
  BOOST_REQUIRE(found);
  BOOST_TEST(found->text ==
             "writer 1, epoch 1, sequence 1 was there at 2.000000 s and again at 5.000000 s; between these "
             "was writer 1, epoch 1, sequence 2, written and read within 3.000000 s to 4.000000 s");
}

BOOST_AUTO_TEST_CASE(both_checkers_agree_on_random_histories) {
  // Times from a small range make ties; values found are any that may be there, so about half of the histories are bad.
  std::mt19937 random{20261125};
  auto below = [&](uint32_t n) { return random() % n; };
  unsigned good = 0, bad = 0;
  for (int i = 0; i < 60'000; ++i) {
    std::vector<operation> history;
    const auto writes = 1 + below(4), reads = 1 + below(5), times = 4 + below(20);
    for (uint32_t n = 1; n <= writes; ++n) {
      const auto begin = below(times);
      history.push_back(write(n, begin, below(5) ? begin + below(6) : never));
    }
    for (uint32_t n = 0; n < reads; ++n) {
      const auto begin = below(times);
      history.push_back(read(below(writes + 1), begin, begin + below(6)));
    }
    const auto explained = some_order_explains(history);
    ++(explained ? good : bad);
    if (explained == check_register(history).has_value()) {
      for (const auto& x : history)
        BOOST_TEST_MESSAGE((x.what == operation::kind::write ? "write " : "read ")
                           << x.value.sequence << ' ' << x.begin << ' ' << x.end);
      BOOST_FAIL("history " << i << " is " << (explained ? "good" : "bad") << ", and the checker says otherwise");
    }
  }
  BOOST_TEST(good > 5'000u);
  BOOST_TEST(bad > 5'000u);
}

namespace {

/// A register with `clients` at once, each operation taking effect at a random moment within its time.
std::vector<operation> true_history(size_t count, unsigned clients, uint32_t seed) {
  std::mt19937_64 random{seed};
  std::vector<operation> history;
  std::vector<std::pair<int64_t, size_t>> effects; // when, which
  std::vector<int64_t> free_at(clients);
  for (size_t i = 0; i < count; ++i) {
    auto& mine = free_at[i % clients];
    const auto begin = mine + static_cast<int64_t>(random() % 100);
    const auto end = begin + 1 + static_cast<int64_t>(random() % 1000);
    mine = end + 1;
    history.push_back({random() % 2 ? operation::kind::write : operation::kind::read, value(i + 1), begin, end});
    effects.push_back({begin + static_cast<int64_t>(random() % (end - begin + 1)), i});
  }
  std::sort(effects.begin(), effects.end());
  auto held = blank;
  for (auto [at, i] : effects) {
    if (history[i].what == operation::kind::write)
      held = history[i].value;
    else
      history[i].value = held;
  }
  for (auto& x : history)
    if (x.what == operation::kind::write && random() % 50 == 0)
      x.end = never; // its answer was lost
  return history;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_million_operations_take_seconds_and_one_stale_read_among_them_is_found) {
  auto history = true_history(1'000'000, 32, 1);
  const auto began = std::chrono::steady_clock::now();
  auto found = check_register(history);
  BOOST_TEST(!found, (found ? found->text : ""));
  BOOST_TEST((std::chrono::steady_clock::now() - began < std::chrono::seconds{20}));

  std::mt19937_64 random{2};
  for (int i = 0; i < 5; ++i) {
    auto spoilt = history;
    size_t at;
    do
      at = 1'000 + random() % (history.size() - 1'000);
    while (history[at].what != operation::kind::read);
    // What was there 1,000 operations ago, and has been overwritten many times since.
    size_t old = at - 1'000;
    while (spoilt[old].what != operation::kind::read)
      --old;
    spoilt[at].value = spoilt[old].value;
    found = check_register(spoilt);
    BOOST_REQUIRE(found);
    BOOST_TEST((found->what == kind::out_of_order));
  }
}
