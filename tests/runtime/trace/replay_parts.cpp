#include <algorithm>
#include <vector>

#include <boost/test/unit_test.hpp>

#include "runtime/trace/latency_histogram.hpp"
#include "runtime/trace/stamp.hpp"

namespace varve {

using namespace std::chrono_literals;

BOOST_AUTO_TEST_CASE(percentiles_are_right_to_a_few_percent) {
  latency_histogram h;
  BOOST_TEST(h.percentile(0.5).count() == 0);
  for (int i = 1; i <= 100'000; ++i)
    h.add(std::chrono::microseconds{i});
  BOOST_TEST(h.count() == 100'000u);
  for (double share : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999}) {
    const auto exact = 1e8 * share, seen = static_cast<double>(h.percentile(share).count());
    BOOST_TEST(seen >= exact * 0.999);
    BOOST_TEST(seen <= exact * 1.04);
  }
  BOOST_TEST((h.percentile(1) == 100ms));
  BOOST_TEST((h.max() == 100ms));
}

BOOST_AUTO_TEST_CASE(extreme_latencies_fit) {
  latency_histogram h;
  h.add(-1ns);
  h.add(0ns);
  h.add(std::chrono::nanoseconds::max());
  BOOST_TEST((h.percentile(0.5) == 0ns));
  BOOST_TEST((h.percentile(1) == std::chrono::nanoseconds::max()));
}

BOOST_AUTO_TEST_CASE(what_was_written_is_recognised_and_nothing_else) {
  stamp_book book{7};
  std::vector<std::byte> old(4096), now(4096);
  book.write(8192, old);
  BOOST_TEST(book.check(8192, old).sectors == 8u);
  BOOST_TEST(book.check(8192, old).bad == 0u);
  book.write(8192, now);
  BOOST_TEST(book.check(8192, now).bad == 0u);
  // Lost: the write before. Misdirected: another sector's. Torn: half and half. Another volume's.
  BOOST_TEST(book.check(8192, old).bad == 8u);
  auto moved = now;
  std::rotate(moved.begin(), moved.begin() + 512, moved.end());
  BOOST_TEST(book.check(8192, moved).bad == 8u);
  auto torn = now;
  std::copy(old.begin(), old.begin() + 256, torn.begin());
  BOOST_TEST(book.check(8192, torn).bad == 1u);
  stamp_book other{8};
  std::vector<std::byte> foreign(4096);
  other.write(8192, foreign);
  other.write(8192, foreign);
  BOOST_TEST(book.check(8192, foreign).bad == 8u);
}

BOOST_AUTO_TEST_CASE(only_whole_known_sectors_are_judged) {
  stamp_book book{1};
  std::vector<std::byte> bytes(2048), zeros(2048);
  book.write(512 * 10, bytes);
  std::vector<std::byte> ragged(700);
  book.write(512 * 11 + 100, ragged);
  // Sector 11 and 12 were touched and not covered.
  std::vector<std::byte> read(2048);
  BOOST_TEST(book.check(512 * 10, read).sectors == 2u);
  book.zero(512 * 10, 2048);
  BOOST_TEST(book.check(512 * 10, zeros).sectors == 4u);
  BOOST_TEST(book.check(512 * 10, zeros).bad == 0u);
  BOOST_TEST(book.check(512 * 10 + 1, zeros).sectors == 3u);
  book.forget(512 * 11, 1);
  BOOST_TEST(book.check(512 * 10, zeros).sectors == 3u);
  book.forget(0, UINT64_MAX / 2);
  BOOST_TEST(book.known().empty());
}

} // namespace varve
