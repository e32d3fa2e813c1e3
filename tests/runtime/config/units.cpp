#include "runtime/config/units.hpp"

#include <limits>

#include <boost/test/unit_test.hpp>

namespace varve {

using namespace std::chrono_literals;

namespace {

uint64_t size_of(std::string_view text) {
  std::string problem;
  auto x = parse_size(text, problem);
  BOOST_REQUIRE_MESSAGE(x, problem);
  return *x;
}

std::string refusal(std::string_view text) {
  std::string problem;
  BOOST_TEST(!parse_size(text, problem).has_value());
  return problem;
}

} // namespace

BOOST_AUTO_TEST_CASE(sizes_are_read_in_binary_and_decimal_units) {
  BOOST_TEST(size_of("0") == 0u);
  BOOST_TEST(size_of("4096") == 4096u);
  BOOST_TEST(size_of("20GiB") == 20ull << 30);
  BOOST_TEST(size_of("20 GiB") == 20ull << 30);
  BOOST_TEST(size_of("64K") == 64u << 10);
  BOOST_TEST(size_of("1GB") == 1'000'000'000u);
  BOOST_TEST(size_of("1.5KiB") == 1536u);
  BOOST_TEST(size_of("64TiB") == 64ull << 40);
}

BOOST_AUTO_TEST_CASE(sizes_that_are_none_are_refused_with_a_reason) {
  BOOST_TEST(refusal("") == "\"\" is not a size");
  BOOST_TEST(refusal("GiB") == "\"GiB\" is not a size");
  BOOST_TEST(refusal("-1GiB") == "\"-1GiB\" is not a size");
  BOOST_TEST(refusal("1..5GiB") == "\"1..5GiB\" is not a size");
  BOOST_TEST(refusal("5gigs") == "\"5gigs\": no unit \"gigs\"");
  BOOST_TEST(refusal("1.3B") == "\"1.3B\" is not a whole number of bytes");
  BOOST_TEST(refusal("5GiB ") == "\"5GiB \": no unit \"GiB \"");
}

BOOST_AUTO_TEST_CASE(sizes_do_not_overflow) {
  BOOST_TEST(size_of("18446744073709551615") == std::numeric_limits<uint64_t>::max());
  BOOST_TEST(refusal("18446744073709551616") == "\"18446744073709551616\" is too large");
  BOOST_TEST(refusal("16EiB") == "\"16EiB\" is too large");
  BOOST_TEST(refusal("9999999999999999999EiB") == "\"9999999999999999999EiB\" is too large");
  BOOST_TEST(refusal(std::string(4000, '9') + "GiB").ends_with("is not a size"));
}

BOOST_AUTO_TEST_CASE(what_is_written_reads_as_the_same_size) {
  for (uint64_t x : {uint64_t{0}, uint64_t{1}, uint64_t{1023}, uint64_t{1024}, uint64_t{1536}, uint64_t{5} << 40,
                     std::numeric_limits<uint64_t>::max()})
    BOOST_TEST(size_of(format_size(x)) == x);
  BOOST_TEST(format_size(20ull << 30) == "20GiB");
  BOOST_TEST(format_size(1536) == "1536B");
}

BOOST_AUTO_TEST_CASE(durations_are_read_written_and_refused) {
  std::string problem;
  BOOST_TEST((parse_duration("5ms", problem) == 5ms));
  BOOST_TEST((parse_duration("1.5h", problem) == 90min));
  BOOST_TEST((parse_duration("0", problem) == 0ns));
  BOOST_TEST((parse_duration("2min", problem) == 120s));
  BOOST_TEST(!parse_duration("45", problem).has_value());
  BOOST_TEST(problem == "\"45\" has no unit");
  BOOST_TEST(!parse_duration("0.5ns", problem).has_value());
  BOOST_TEST(!parse_duration("200000d", problem).has_value());
  BOOST_TEST(problem == "\"200000d\" is too large");
  for (auto x : {0ns, 1ns, std::chrono::nanoseconds{5ms}, std::chrono::nanoseconds{90s}, std::chrono::nanoseconds{48h}})
    BOOST_TEST((parse_duration(format_duration(x), problem) == x));
  BOOST_TEST(format_duration(90s) == "90s");
}

BOOST_AUTO_TEST_CASE(people_get_three_digits) {
  BOOST_TEST(format_size_short(1536) == "1.5 KiB");
  BOOST_TEST(format_size_short(0) == "0 B");
  BOOST_TEST(format_size_short(1023.0 * 1024 * 1024) == "0.999 GiB");
  BOOST_TEST(format_duration_short(1234567ns) == "1.23 ms");
  BOOST_TEST(format_duration_short(59999ms) == "1 min 0 s");
  BOOST_TEST(format_duration_short(2h + 5min) == "2 h 5 min");
}

} // namespace varve
