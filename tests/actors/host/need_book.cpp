#include "actors/host/need_book.hpp"

#include <random>
#include <set>

#include <boost/test/unit_test.hpp>

namespace varve {

using namespace std::chrono_literals;

namespace {

need_book::range range(uint64_t first, uint64_t count, bool write = false) {
  return {first, count, write, 0, 0s};
}

bool is(const std::optional<need_book::range>& x, uint64_t first, uint64_t count, bool write = false) {
  return x && x->first == first && x->count == count && x->write == write;
}

} // namespace

BOOST_AUTO_TEST_SUITE(need_book_)

BOOST_AUTO_TEST_CASE(neighbours_are_asked_for_together) {
  need_book book;
  book.add(5, 1, false, 0s);
  book.add(7, 1, false, 0s);
  book.add(6, 1, false, 0s);
  book.add(20, 2, false, 0s);
  BOOST_TEST(is(book.next(0s), 5, 3));
  BOOST_TEST(is(book.next(0s), 20, 2));
  BOOST_TEST(!book.next(0s));
}

BOOST_AUTO_TEST_CASE(what_is_asked_for_already_is_not_asked_for_again) {
  need_book book;
  book.add(1, 4, true, 0s);
  BOOST_TEST(is(book.next(0s), 1, 4, true));
  book.add(2, 1, false, 0s);
  book.add(2, 3, true, 0s);
  BOOST_TEST(book.waiting() == 0u);
  // Reading covers no writing.
  book.add(30, 1, false, 0s);
  BOOST_TEST(is(book.next(0s), 30, 1, false));
  book.add(30, 1, true, 0s);
  BOOST_TEST(is(book.next(0s), 30, 1, true));
}

BOOST_AUTO_TEST_CASE(only_so_many_acquires_are_under_way) {
  need_book book{{.in_flight_max = 2}};
  for (uint64_t i = 0; i < 5; ++i)
    book.add(i * 10, 1, false, 0s);
  auto first = book.next(0s);
  BOOST_TEST(is(book.next(0s), 10, 1));
  BOOST_TEST(!book.next(0s));
  BOOST_TEST(!book.wake_at().has_value()); // an answer goes on, not a timer
  book.done(*first, {*first}, 1s);
  BOOST_TEST(is(book.next(1s), 20, 1));
  BOOST_TEST(!book.next(1s));
}

BOOST_AUTO_TEST_CASE(a_long_run_is_asked_for_in_parts) {
  need_book book{{.in_flight_max = 10, .read_count_max = 100, .write_count_max = 4}};
  book.add(0, 10, true, 0s);
  BOOST_TEST(is(book.next(0s), 0, 4, true));
  BOOST_TEST(is(book.next(0s), 4, 4, true));
  BOOST_TEST(is(book.next(0s), 8, 2, true));
  book.add(0, 250, false, 0s);
  BOOST_TEST(is(book.next(0s), 0, 100));
}

BOOST_AUTO_TEST_CASE(what_was_not_granted_is_tried_again_later_each_time) {
  need_book book{{.retry_min = 20ms, .retry_max = 100ms}};
  book.add(0, 10, false, 0s);
  auto asked = book.next(0s);
  book.done(*asked, {range(2, 3), range(7, 1)}, 1s);
  BOOST_TEST(book.waiting() == 3u);
  BOOST_TEST(!book.next(1s));
  BOOST_TEST((book.wake_at() == boot_time{1s + 20ms}));
  BOOST_TEST(is(book.next(1s + 20ms), 0, 2));
  BOOST_TEST(is(book.next(1s + 20ms), 5, 2));
  BOOST_TEST(is(book.next(1s + 20ms), 8, 2));
  need_book other{{.retry_min = 20ms, .retry_max = 100ms}};
  other.add(1, 1, true, 0s);
  boot_time now{0};
  std::vector<int64_t> waits;
  for (int i = 0; i < 5; ++i) {
    auto x = other.next(now);
    BOOST_REQUIRE(x.has_value());
    other.done(*x, {}, now);
    waits.push_back(((*other.wake_at() - now) / 1ms));
    now = *other.wake_at();
  }
  BOOST_TEST(waits == (std::vector<int64_t>{20, 40, 80, 100, 100}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_read_grant_does_not_satisfy_a_write) {
  need_book book;
  book.add(0, 2, true, 0s);
  auto asked = book.next(0s);
  book.done(*asked, {range(0, 2, false)}, 0s);
  BOOST_TEST(book.waiting() == 1u);
}

BOOST_AUTO_TEST_CASE(a_new_need_is_not_held_up_by_a_refused_neighbour) {
  need_book book;
  book.add(5, 1, false, 0s);
  auto asked = book.next(0s);
  book.done(*asked, {}, 0s);
  book.add(6, 1, false, 1ms);
  BOOST_TEST(is(book.next(1ms), 6, 1));
}

BOOST_AUTO_TEST_CASE(parts_set_apart_are_asked_for_apart) {
  need_book book;
  book.add_apart(0, 2, true, 0s);
  book.add_apart(2, 2, true, 0s);
  book.add(4, 1, true, 0s);
  BOOST_TEST(is(book.next(0s), 0, 2, true));
  BOOST_TEST(is(book.next(0s), 2, 2, true));
  BOOST_TEST(is(book.next(0s), 4, 1, true));
}

BOOST_AUTO_TEST_CASE(everything_needed_is_granted_in_the_end_however_little_is_granted_at_a_time) {
  // Method: random needs, and answers that grant random parts, from seeds; then time goes on until nothing waits.
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    std::minstd_rand random{seed};
    need_book book{{.in_flight_max = 3, .read_count_max = 16, .write_count_max = 4}};
    std::set<std::pair<uint64_t, bool>> wanted;
    std::vector<need_book::range> under_way;
    boot_time now{0};
    auto answer = [&] {
      const auto at = random() % under_way.size();
      const auto asked = under_way[at];
      under_way.erase(under_way.begin() + static_cast<long>(at));
      std::vector<need_book::range> granted;
      for (auto i = asked.first; i < asked.end(); ++i)
        if (random() % 3 != 0) {
          granted.push_back(range(i, 1, asked.write));
          wanted.erase({i, asked.write});
          wanted.erase({i, false});
        }
      book.done(asked, granted, now);
    };
    for (int i = 0; i < 300; ++i) {
      now += std::chrono::milliseconds{random() % 10};
      if (random() % 2 == 0) {
        const uint64_t first = random() % 60, count = 1 + random() % 5;
        const bool write = random() % 2 == 0;
        for (auto j = first; j < first + count; ++j)
          wanted.insert({j, write});
        book.add(first, count, write, now);
      }
      while (auto x = book.next(now))
        under_way.push_back(*x);
      BOOST_TEST_REQUIRE(under_way.size() <= 3u);
      if (!under_way.empty())
        answer();
    }
    for (int i = 0; i < 20'000 && (!under_way.empty() || book.waiting() > 0); ++i) {
      while (auto x = book.next(now))
        under_way.push_back(*x);
      if (!under_way.empty())
        answer();
      else if (auto at = book.wake_at())
        now = *at;
    }
    BOOST_TEST_REQUIRE(wanted.empty(), "seed " << seed << ": " << wanted.size() << " never granted");
    BOOST_TEST(book.in_flight() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(of_two_that_stay_apart_and_begin_alike_the_one_that_is_due_is_asked_for) {
  need_book book;
  book.add_apart(0, 2, false, 5s);
  book.add_apart(0, 6, false, 1s);
  BOOST_TEST(!book.next(0s));
  BOOST_TEST((*book.wake_at() == 1s));
  BOOST_TEST(is(book.next(1s), 0, 6));
  BOOST_TEST(!book.next(1s));
  BOOST_TEST(is(book.next(5s), 0, 2));
}

BOOST_AUTO_TEST_CASE(what_waits_apart_covers_a_need_within_it) {
  need_book book;
  book.add_apart(0, 6, true, 5s);
  book.add(2, 2, false, 0s);
  BOOST_TEST(book.waiting() == 1u);
  book.add(5, 2, false, 0s); // beyond its end
  BOOST_TEST(book.waiting() == 2u);
}

BOOST_AUTO_TEST_CASE(all_of_a_large_volume_that_lies_scattered_can_be_asked_for_again) {
  // As after a manager was lost. Looking at all that waits for each would take minutes, and fail by the time limit.
  need_book book;
  constexpr uint64_t ranges = 200'000;
  for (uint64_t i = 0; i < ranges; ++i)
    book.add((i * 7919 % ranges) * 10, 1, true, 0s);
  BOOST_TEST(book.waiting() == ranges);
  uint64_t asked = 0;
  while (auto x = book.next(0s)) {
    BOOST_TEST_REQUIRE(is(x, asked * 10, 1, true));
    book.done(*x, {*x}, 0s);
    ++asked;
  }
  BOOST_TEST(asked == ranges);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
