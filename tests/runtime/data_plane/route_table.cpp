#include <random>

#include <boost/test/unit_test.hpp>

#include "runtime/data_plane/route_table.hpp"

using namespace varve;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(routes)

namespace {
route_entry entry_until(boot_time until) {
  route_entry x;
  x.valid_until = until;
  x.generation = generation{1};
  return x;
}
} // namespace

BOOST_AUTO_TEST_CASE(a_route_ends_with_its_term_and_not_a_nanosecond_later) {
  route_table table;
  table.set(5, entry_until(10s));
  BOOST_TEST(table.valid(*table.find(5), 10s - 1ns));
  BOOST_TEST(!table.valid(*table.find(5), 10s));
  BOOST_TEST(table.find(4) == nullptr);
}

BOOST_AUTO_TEST_CASE(an_extension_holds_for_what_is_there_and_not_for_what_comes_later) {
  route_table table;
  table.set(1, entry_until(10s));
  table.set_absent(100, 50, 10s);
  table.extend(20s, 1s);
  table.set(2, entry_until(10s));
  BOOST_TEST(table.valid(*table.find(1), 15s));
  BOOST_TEST(!table.valid(*table.find(2), 15s));
  BOOST_TEST(table.absent_until(100, 15s) == 150u);
  // Ends before one that was promised to others: not taken, and nothing is shortened.
  table.extend(12s, 11s);
  BOOST_TEST(table.valid(*table.find(1), 15s));
  BOOST_TEST(!table.valid(*table.find(2), 15s));
}

BOOST_AUTO_TEST_CASE(an_extension_revives_nothing) {
  route_table table;
  table.set(1, entry_until(10s));
  table.set_absent(100, 50, 10s);
  table.set(2, entry_until(30s));
  table.extend(40s, 10s); // said by who does not know of those
  BOOST_TEST(!table.valid(*table.find(1), 11s));
  BOOST_TEST(table.absent_until(100, 11s) == 100u);
  BOOST_TEST(table.valid(*table.find(2), 39s));
  // Nor does a later one, nor one after a gap.
  table.extend(50s, 20s);
  BOOST_TEST(!table.valid(*table.find(1), 21s));
  table.extend(90s, 60s);
  BOOST_TEST(!table.valid(*table.find(1), 61s));
  BOOST_TEST(!table.valid(*table.find(2), 61s));
  table.set(1, entry_until(65s));
  table.set_absent(100, 50, 65s);
  table.extend(99s, 64s);
  BOOST_TEST(table.valid(*table.find(1), 98s));
  BOOST_TEST(table.absent_until(100, 98s) == 150u);
}

BOOST_AUTO_TEST_CASE(a_shard_that_comes_to_be_is_cut_out_of_the_run_of_absent_ones) {
  route_table table;
  table.set_absent(0, 1000, 10s);
  table.set(500, entry_until(10s));
  BOOST_TEST(table.absent_until(0, 1s) == 500u);
  BOOST_TEST(table.absent_until(500, 1s) == 500u);
  BOOST_TEST(table.absent_until(501, 1s) == 1000u);
  table.set_absent(400, 200, 10s);
  BOOST_TEST(table.find(500) == nullptr);
  BOOST_TEST(table.absent_until(0, 1s) == 1000u);
  BOOST_TEST(table.absent_until(0, 10s) == 0u);
}

BOOST_AUTO_TEST_CASE(a_table_for_64_tib_costs_nothing_until_it_is_used) {
  route_table table;
  const auto shards = volume_size_max / shard_size_default;
  table.set_absent(0, shards, 10s);
  table.set(0, entry_until(10s));
  table.set(shards - 1, entry_until(10s));
  BOOST_TEST(table.footprint_bytes() < 100'000u);
  BOOST_TEST(table.absent_until(1, 1s) == shards - 1);
  table.drop(0, shards);
  BOOST_TEST(table.find(0) == nullptr);
  BOOST_TEST(table.absent_until(1, 1s) == 1u);
}

BOOST_AUTO_TEST_CASE(random_changes_agree_with_a_plain_map) {
  // The model: for each index nothing, absent or existing.
  std::mt19937_64 random{7};
  route_table table;
  constexpr uint64_t size = 2000;
  std::vector<int> model(size, 0);
  for (int step = 0; step < 20'000; ++step) {
    const auto first = random() % size;
    const auto count = std::min<uint64_t>(size - first, 1 + (random() % 8 == 0 ? random() % 900 : random() % 5));
    switch (random() % 3) {
    case 0:
      table.set(first, entry_until(10s));
      model[first] = 2;
      break;
    case 1:
      table.set_absent(first, count, 10s);
      std::fill_n(model.begin() + static_cast<long>(first), count, 1);
      break;
    default:
      table.drop(first, count);
      std::fill_n(model.begin() + static_cast<long>(first), count, 0);
      break;
    }
    const auto probe = random() % size;
    BOOST_REQUIRE_EQUAL(table.find(probe) != nullptr, model[probe] == 2);
    auto end = probe;
    while (end < size && model[end] == 1)
      ++end;
    BOOST_REQUIRE_EQUAL(table.absent_until(probe, 1s), end);
    if (step % 100 == 0) {
      uint64_t seen = 0;
      table.for_each(first, count, [&](uint64_t i, route_entry&) { seen += model[i] == 2; });
      BOOST_REQUIRE_EQUAL(seen, std::count(model.begin() + static_cast<long>(first),
                                           model.begin() + static_cast<long>(first + count), 2));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
