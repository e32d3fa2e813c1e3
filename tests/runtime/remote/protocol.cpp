#include <random>

#include <boost/test/unit_test.hpp>

#include "rdma/checksum.hpp"
#include "runtime/remote/remote_protocol.hpp"
#include "runtime/remote/session_keys.hpp"

using namespace varve;
using namespace varve::remote;

namespace {

using bytes = std::vector<std::byte>;

std::string hex(std::span<const std::byte> x) {
  std::string result;
  for (auto b : x) {
    constexpr char digits[] = "0123456789abcdef";
    result += digits[static_cast<unsigned>(b) >> 4];
    result += digits[static_cast<unsigned>(b) & 15];
  }
  return result;
}

request some_write() {
  request x;
  x.op = op::write;
  x.flags = flag_fua;
  x.tier = 3;
  x.tag = 0x01020304;
  x.sequence = 5;
  x.id = {volume_id{0x1122334455667788}, shard_index{9}};
  x.generation = generation{2};
  x.epoch = epoch{0x0000000700000001};
  x.offset = 4096;
  x.length = 8192;
  x.payload = 2 * 4 + 8192;
  return x;
}

bytes encoded(const request& x) {
  bytes result(request_bytes);
  encode(x, result.data());
  return result;
}

/// With its sum put right again, so that what is wrong is found by what it means.
malformed with(bytes raw, size_t at, std::initializer_list<unsigned> values) {
  for (auto v : values)
    raw[at++] = static_cast<std::byte>(v);
  store(raw.data() + raw.size() - 4, crc32c(std::span{raw}.first(raw.size() - 4)));
  request x;
  return decode(raw, x);
}

hello some_hello() {
  hello x;
  x.key = 7;
  x.incarnation = 3;
  x.session = 12;
  for (size_t i = 0; i < x.nonce.size(); ++i)
    x.nonce[i] = static_cast<std::byte>(i);
  return x;
}

} // namespace

BOOST_AUTO_TEST_SUITE(remote_protocol)

BOOST_AUTO_TEST_CASE(requests_and_replies_have_the_bytes_that_they_had) {
  BOOST_TEST(hex(encoded(some_write())) ==
             "565652510201030005000000000000000403020100100000002000000820000088776655443322110900000000000000"
             "0200000000000000010000000700000000000000000000000000000000000000000000006b80407c");
  reply y;
  y.status = errc::stale_epoch;
  y.flags = flag_dirty;
  y.tag = 1;
  y.sequence = 2;
  y.boot = 0x0102030405060708;
  y.argument = 9;
  bytes raw(reply_bytes);
  encode(y, raw.data());
  BOOST_TEST(hex(raw) ==
             "5656525002010000020000000000000001000000000000000807060504030201090000000000000000000000bcfcce06");
  BOOST_TEST(hex(encode(some_hello())) ==
             "565652480100000044000000175a1771010001000000000000000000070000000000000003000000000000000c00000000000000"
             "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fdf00d8e8");
}

BOOST_AUTO_TEST_CASE(what_is_encoded_is_decoded) {
  request x;
  BOOST_TEST((decode(encoded(some_write()), x) == malformed::none));
  const auto y = some_write();
  BOOST_TEST((x.op == y.op && x.flags == y.flags && x.tier == y.tier && x.tag == y.tag && x.sequence == y.sequence &&
              x.id == y.id && x.generation == y.generation && x.epoch == y.epoch && x.offset == y.offset &&
              x.length == y.length && x.payload == y.payload));
  hello h;
  const auto said = encode(some_hello());
  BOOST_TEST((kind_of(said) == frame::hello));
  BOOST_TEST(decode(said, h));
  BOOST_TEST((h.key == 7 && h.incarnation == 3 && h.session == 12 && h.nonce == some_hello().nonce));
  welcome w;
  w.requests_max = 4;
  w.bytes_max = 5;
  w.tiers = {{"a", 1}, {"", 2}, {std::string(tier_name_bytes_max, 'x'), 3}};
  welcome v;
  BOOST_TEST(decode(encode(w), v));
  BOOST_TEST((v.tiers == w.tiers));
  w.tiers.push_back({std::string(tier_name_bytes_max + 1, 'x'), 4});
  BOOST_TEST(!decode(encode(w), v));
  refusal r;
  r.reason = refusal_reason::version;
  r.client_min = 8;
  r.client_max = 9;
  refusal s;
  BOOST_TEST(decode(encode(r), s));
  BOOST_TEST((s.reason == r.reason && s.client_min == 8 && s.client_max == 9 && s.server_max == version_max));
}

BOOST_AUTO_TEST_CASE(each_malformed_field_is_named) {
  const auto raw = encoded(some_write());
  request x;
  auto broken = raw;
  broken[0] ^= std::byte{1};
  BOOST_TEST((decode(broken, x) == malformed::magic));
  broken = raw;
  broken[40] ^= std::byte{1};
  BOOST_TEST((decode(broken, x) == malformed::checksum));
  BOOST_TEST((with(raw, 4, {0}) == malformed::op));
  BOOST_TEST((with(raw, 4, {op_last + 1u}) == malformed::op));
  BOOST_TEST((with(raw, 5, {0x80}) == malformed::flags));
  BOOST_TEST((with(raw, 5, {flag_keep_allocated}) == malformed::flags)); // no write_zeroes
  BOOST_TEST((with(raw, 8, {0, 0, 0, 0, 0, 0, 0, 0}) == malformed::sequence));
  BOOST_TEST((with(raw, 20, {0, 0, 0, 0x40}) == malformed::range)); // ends beyond any shard
  BOOST_TEST((with(raw, 24, {0, 0, 0, 0}) == malformed::range));
  BOOST_TEST((with(raw, 24, {0xff, 0xff, 0xff, 0xff}) == malformed::range));
  BOOST_TEST((with(raw, 28, {0, 0, 0, 0}) == malformed::payload));
  BOOST_TEST((with(raw, 28, {0xff, 0xff, 0xff, 0xff}) == malformed::payload));
  BOOST_TEST((with(raw, 80, {1}) == malformed::reserved));
  auto y = some_write();
  y.op = op::write_with_sums;
  y.flags = 0;
  y.offset = 512;
  BOOST_TEST((decode(encoded(y), x) == malformed::range)); // whole blocks only
  y = {};
  y.op = op::flush;
  y.sequence = 1;
  BOOST_TEST((decode(encoded(y), x) == malformed::none));
  y.payload = 1;
  BOOST_TEST((decode(encoded(y), x) == malformed::payload));

  auto said = encode(some_hello());
  BOOST_TEST(frame_rest_bytes(std::span{said}.first(frame_header_bytes)).has_value());
  auto header = said;
  store(header.data() + 8, handshake_bytes_max + 1);
  store(header.data() + 12, crc32c(std::span{header}.first(12)));
  BOOST_TEST(!frame_rest_bytes(std::span{header}.first(frame_header_bytes)).has_value());
  said.back() ^= std::byte{1};
  BOOST_TEST(!kind_of(said).has_value());
}

BOOST_AUTO_TEST_CASE(random_bytes_are_never_more_than_refused) {
  std::mt19937_64 random{20'240'601};
  for (auto i = 0; i < 20'000; ++i) {
    bytes raw(random() % 200 + request_bytes);
    for (auto& b : raw)
      b = static_cast<std::byte>(random());
    request x;
    reply y;
    // Half of them get as far as their fields.
    const std::span head{raw.data(), request_bytes}, short_head{raw.data(), reply_bytes};
    if (i % 2) {
      store(raw.data(), uint32_t{0x51525656});
      store(raw.data() + request_bytes - 4, crc32c(head.first(request_bytes - 4)));
    }
    if (decode(head, x) == malformed::none)
      BOOST_TEST(uint64_t{x.offset} + x.length <= shard_size_max);
    (void)decode(short_head, y);
    // Frames whose sums are right and whose bodies are anything.
    for (auto kind = 1u; kind <= 5; ++kind) {
      auto whole = encode(some_hello());
      whole.resize(frame_header_bytes + random() % 120);
      for (size_t at = frame_header_bytes; at < whole.size(); ++at)
        whole[at] = static_cast<std::byte>(random());
      const auto sum = crc32c(std::span{whole}.subspan(frame_header_bytes));
      store(whole.data() + 4, static_cast<uint8_t>(kind));
      store(whole.data() + 8, static_cast<uint32_t>(whole.size() - frame_header_bytes));
      store(whole.data() + 12, crc32c(std::span{whole}.first(12)));
      whole.resize(whole.size() + 4);
      store(whole.data() + whole.size() - 4, sum);
      BOOST_REQUIRE(kind_of(whole).has_value());
      hello a;
      challenge b;
      proof c;
      welcome d;
      refusal e;
      (void)decode(whole, a);
      (void)decode(whole, b);
      (void)decode(whole, c);
      (void)decode(whole, d);
      (void)decode(whole, e);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_range_has_a_sum_for_each_block_that_it_touches) {
  BOOST_TEST(blocks_of(0, 4096) == 1u);
  BOOST_TEST(blocks_of(4095, 2) == 2u);
  BOOST_TEST(blocks_of(512, 8192) == 3u);
  bytes data(8192, std::byte{3});
  bytes sums(12);
  store_sums(512, data, sums.data());
  BOOST_TEST(load<uint32_t>(sums.data()) == crc32c(std::span{data}.first(3584)));
  BOOST_TEST(load<uint32_t>(sums.data() + 8) == crc32c(std::span{data}.last(512)));
  BOOST_TEST(sums_match(512, data, sums.data()));
  data[8191] ^= std::byte{1};
  BOOST_TEST(!sums_match(512, data, sums.data()));
}

BOOST_AUTO_TEST_CASE(states_and_summaries_survive_the_way) {
  block_sums x;
  for (uint32_t i = 0; i < 19; ++i) {
    x.states.push_back(i % 3 ? block_state::written : block_state::hole);
    x.crcs.push_back(i % 3 ? i * 1000 : 0);
  }
  bytes raw(sums_bytes(19) + states_bytes(19));
  store_states(x, raw.data());
  block_sums y;
  load_states(raw.data(), 19, y);
  BOOST_TEST((y.states == x.states && y.crcs == x.crcs));

  shard_header h;
  h.id = {volume_id{1}, shard_index{2}};
  h.size = 1 << 20;
  h.generation = generation{3};
  h.fence = epoch{4};
  h.incomplete = true;
  h.sealed_by = migration_id{5};
  h.sealed_for = generation{6};
  bytes summary(summary_bytes);
  store_summary(h, 777, summary.data());
  shard_header g;
  uint64_t allocated = 0;
  load_summary(summary.data(), g, allocated);
  BOOST_TEST((g.id == h.id && g.size == h.size && g.generation == h.generation && g.fence == h.fence && g.incomplete &&
              g.sealed_by == h.sealed_by && g.sealed_for == h.sealed_for && allocated == 777));
}

BOOST_AUTO_TEST_CASE(a_proof_is_of_one_key_one_end_one_conversation_and_one_channel) {
  std::array<std::byte, 32> secret{}, other{};
  other[31] = std::byte{1};
  const auto said = encode(some_hello());
  const auto asked = encode(challenge{1, 0, {}});
  const bytes channel(32, std::byte{9});
  const auto x = prove(secret, prover::client, said, asked, channel);
  // As Python's hmac computes it.
  BOOST_TEST(hex(x) == "ccd16eb58d9e1c2cdf1bfa41651af5ffe39e5f6a5ea7450e06755bf23d481308");
  BOOST_TEST(same(x, prove(secret, prover::client, said, asked, channel)));
  BOOST_TEST(!same(x, prove(other, prover::client, said, asked, channel)));
  BOOST_TEST(!same(x, prove(secret, prover::server, said, asked, channel)));
  BOOST_TEST(!same(x, prove(secret, prover::client, asked, said, channel)));
  BOOST_TEST(!same(x, prove(secret, prover::client, said, asked, {})));
}

BOOST_AUTO_TEST_SUITE_END()
