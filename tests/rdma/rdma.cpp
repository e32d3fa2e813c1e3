#include <boost/test/unit_test.hpp>

#include <array>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "rdma/buffer.hpp"
#include "rdma/checksum.hpp"

using namespace varve;

namespace {

uint32_t crc_of(std::string_view text, uint32_t seed = 0) {
  return crc32c(std::as_bytes(std::span{text}), seed);
}

// The definition, bit by bit.
uint32_t slow_crc(std::span<const std::byte> data) {
  auto state = ~0u;
  for (auto byte : data) {
    state ^= std::to_integer<uint32_t>(byte);
    for (auto bit = 0; bit < 8; ++bit)
      state = (state >> 1) ^ (state & 1 ? 0x82f63b78u : 0);
  }
  return ~state;
}

bool page_aligned(const buffer& x) {
  return reinterpret_cast<uintptr_t>(x.data()) % buffer::alignment == 0;
}

} // namespace

BOOST_AUTO_TEST_CASE(checksums_are_those_of_rfc_3720) {
  std::array<std::byte, 32> bytes{};
  BOOST_TEST(crc32c(bytes) == 0x8a9136aau);
  bytes.fill(std::byte{0xff});
  BOOST_TEST(crc32c(bytes) == 0x62a8ab43u);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i);
  BOOST_TEST(crc32c(bytes) == 0x46dd794eu);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(31 - i);
  BOOST_TEST(crc32c(bytes) == 0x113fdb5cu);
  BOOST_TEST(crc_of("123456789") == 0xe3069283u);
}

BOOST_AUTO_TEST_CASE(checksums_of_any_length_and_alignment_agree_with_the_definition) {
  std::vector<std::byte> bytes(5000);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i * 2654435761u >> 13);
  for (size_t length : {0, 1, 2, 7, 8, 9, 63, 64, 65, 511, 512, 1000, 4095, 4096, 4097})
    for (size_t start : {0, 1, 3, 8, 15}) {
      const auto part = std::span{std::as_const(bytes)}.subspan(start, length);
      BOOST_TEST(crc32c(part) == slow_crc(part));
    }
}

BOOST_AUTO_TEST_CASE(a_checksum_goes_on_where_another_ended) {
  BOOST_TEST(crc_of("") == 0u);
  BOOST_TEST(crc_of("", 0x12345678u) == 0x12345678u);
  constexpr std::string_view text = "a yearly layer of sediment";
  for (size_t cut = 0; cut <= text.size(); ++cut)
    BOOST_TEST(crc_of(text.substr(cut), crc_of(text.substr(0, cut))) == crc_of(text));
  BOOST_TEST(crc_of("ab") != crc_of("ba"));
}

BOOST_AUTO_TEST_CASE(a_buffer_is_aligned_and_has_one_owner) {
  buffer none;
  BOOST_TEST(none.empty());
  BOOST_TEST(buffer{0}.empty());
  buffer a{1};
  BOOST_TEST(a.size() == 4096u);
  BOOST_TEST(page_aligned(a));
  BOOST_TEST(buffer{4097}.size() == 8192u);
  std::memset(a.data(), 7, a.size());
  auto* const where = a.data();
  buffer b{std::move(a)};
  BOOST_TEST(a.empty());
  BOOST_TEST(b.data() == where);
  buffer c;
  c = std::move(b);
  BOOST_TEST(c.data() == where);
  BOOST_TEST((c.bytes().back() == std::byte{7}));
}

BOOST_AUTO_TEST_CASE(a_pool_rounds_up_to_powers_of_two) {
  buffer_pool pool;
  for (auto [asked, given] : {std::pair<size_t, size_t>{1, 4096},
                              {4096, 4096},
                              {4097, 8192},
                              {8192, 8192},
                              {8193, 16384},
                              {100'000, 131'072},
                              {1 << 20, 1 << 20},
                              {(1 << 20) + 1, 1 << 21}}) {
    auto x = pool.take(asked);
    BOOST_TEST(x.size() == given);
    BOOST_TEST(page_aligned(x));
  }
}

BOOST_AUTO_TEST_CASE(a_pool_gives_back_what_it_was_given) {
  buffer_pool pool;
  auto x = pool.take(10'000);
  auto* const where = x.data();
  pool.give(std::move(x));
  BOOST_TEST(x.empty());
  BOOST_TEST(pool.kept_bytes() == 16'384u);
  BOOST_TEST(pool.take(4096).data() != where); // another size
  BOOST_TEST(pool.take(9000).data() == where);
  BOOST_TEST(pool.kept_bytes() == 0u);
  pool.give(buffer{});
  BOOST_TEST(pool.kept_bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(a_pool_keeps_no_more_than_its_bound) {
  buffer_pool pool{64 << 10};
  std::vector<buffer> taken;
  for (auto i = 0; i < 20; ++i)
    taken.push_back(pool.take(8192));
  for (auto& x : taken)
    pool.give(std::move(x));
  BOOST_TEST(pool.kept_bytes() == 64u << 10);
  pool.give(pool.take(1 << 20)); // larger than the bound: freed
  BOOST_TEST(pool.kept_bytes() == 64u << 10);
  for (auto i = 0; i < 8; ++i)
    (void)pool.take(8192);
  BOOST_TEST(pool.kept_bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(a_buffer_of_a_size_between_classes_is_never_given_out_short) {
  buffer_pool pool;
  // Not a power of two: whoever takes it must still get what was asked for.
  pool.give(buffer{12'288});
  BOOST_TEST(pool.take(16'384).size() >= 16'384u);
  pool.give(buffer{12'288});
  BOOST_TEST(pool.take(8192).size() >= 8192u);
}
