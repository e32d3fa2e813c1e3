#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <map>

#include "tests/runtime/nbd/nbd_fixture.hpp"

using namespace varve;
using namespace varve::test;
using nbd::command;
using nbd::error;

namespace {

constexpr uint64_t size = 64u << 20;

struct transmission_fixture : nbd_fixture {
  transmission_fixture() : nbd_fixture{{}, {}, size}, client{*this} { BOOST_REQUIRE(client.go()); }
  nbd_client client;
};

/// Every legal and many illegal requests on one connection, many at a time, against a copy of what should be there.
void check_random_requests(nbd_fixture& on, bool modern, uint64_t seed, unsigned rounds) {
  constexpr uint32_t region = 4u << 20;
  nbd_client client{on};
  BOOST_REQUIRE(client.go("vm1", modern));
  std::mt19937_64 random{seed};
  bytes expected(region);
  for (unsigned round = 0; round < rounds; ++round) {
    // Within a round ranges do not overlap, since requests may end in any order.
    std::map<uint64_t, std::pair<uint64_t, uint32_t>> reads; // cookie -> range
    std::map<uint64_t, bytes> wanted;
    const unsigned count = 1 + random() % 16;
    const uint32_t lane = region / count;
    for (unsigned i = 0; i < count; ++i) {
      const uint32_t limit = random() % 4 == 0 ? lane : std::min<uint32_t>(lane, 9000);
      const uint32_t length = 1 + random() % limit;
      const uint64_t offset = uint64_t{i} * lane + random() % (lane - length + 1);
      auto at = expected.begin() + static_cast<std::ptrdiff_t>(offset);
      switch (random() % 4) {
      case 0: {
        auto data = pattern(length, random());
        client.post(command::write, offset, length, random() % 2 ? nbd::command_flag_fua : 0, data);
        std::copy(data.begin(), data.end(), at);
        break;
      }
      case 1:
        client.post(command::write_zeroes, offset, length, random() % 2 ? nbd::command_flag_no_hole : 0);
        std::fill(at, at + length, std::byte{0});
        break;
      default: {
        auto cookie = client.post(command::read, offset, length);
        reads[cookie] = {offset, length};
        wanted[cookie] = bytes(at, at + length);
      }
      }
    }
    for (unsigned i = 0; i < count; ++i) {
      auto x = client.answer();
      BOOST_REQUIRE(x);
      BOOST_REQUIRE((x->status == error::none));
      if (auto found = wanted.find(x->cookie); found != wanted.end()) {
        if (x->structured)
          x->data.erase(x->data.begin(), x->data.begin() + 8);
        BOOST_REQUIRE((x->data == found->second));
        wanted.erase(found);
      }
    }
    BOOST_REQUIRE(wanted.empty());
  }
  BOOST_TEST((bytes(on.backend.bytes(), on.backend.bytes() + region) == expected));
  BOOST_TEST(on.backend.views == 0u);
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(transmission, transmission_fixture)

BOOST_AUTO_TEST_CASE(what_is_written_is_read_at_any_alignment) {
  for (auto [offset, length] : {std::pair{0u, 1u},
                                {1u, 1u},
                                {4095u, 2u},
                                {511u, 4097u},
                                {0u, 4096u},
                                {123u, 131072u},
                                {4096u, 131072u},
                                {77u, 131073u},
                                {1u << 20, 1u << 20},
                                {3u, (32u << 20)}}) {
    auto data = pattern(length, length);
    BOOST_TEST((client.write(offset, data) == error::none));
    BOOST_TEST((client.read(offset, length) == data));
  }
}

BOOST_AUTO_TEST_CASE(the_last_byte_is_there_and_the_next_is_not) {
  BOOST_TEST((client.write(size - 1, bytes(1)) == error::none));
  BOOST_TEST(client.read(size - 1, 1).size() == 1u);
  BOOST_TEST((client.request(command::read, size - 1, 2).status == error::invalid));
  BOOST_TEST((client.request(command::read, size, 1).status == error::invalid));
  BOOST_TEST((client.request(command::read, ~uint64_t{0}, 4096).status == error::invalid));
  BOOST_TEST((client.write(size - 1, bytes(2)) == error::no_space));
  BOOST_TEST((client.write(~uint64_t{0} - 4095, bytes(8192)) == error::no_space));
  BOOST_TEST((client.request(command::write_zeroes, size - 1, 2).status == error::no_space));
  BOOST_TEST((client.request(command::trim, size - 1, 2).status == error::invalid));
  BOOST_TEST((client.request(command::cache, size - 1, 2).status == error::invalid));
  BOOST_TEST((client.request(command::block_status, size - 1, 2).status == error::invalid));
}

BOOST_AUTO_TEST_CASE(a_refused_large_write_leaves_the_stream_in_step) {
  BOOST_TEST((client.write(size - 4096, pattern(1u << 20, 1)) == error::no_space));
  BOOST_TEST((client.write(0, pattern(40u << 20, 2)) == error::invalid));
  BOOST_TEST((client.write(0, bytes(8, std::byte{8})) == error::none));
}

BOOST_AUTO_TEST_CASE(nothing_of_no_length_is_done) {
  for (auto x :
       {command::read, command::write, command::trim, command::cache, command::write_zeroes, command::block_status})
    BOOST_TEST((client.request(x, 0, 0).status == error::invalid));
}

BOOST_AUTO_TEST_CASE(unknown_commands_and_flags_are_invalid) {
  BOOST_TEST((client.request(static_cast<command>(8), 0, 4096).status == error::invalid));
  BOOST_TEST((client.request(static_cast<command>(0xffff), 0, 4096).status == error::invalid));
  for (auto x :
       {command::read, command::trim, command::cache, command::write_zeroes, command::block_status, command::flush})
    BOOST_TEST((client.request(x, 0, x == command::flush ? 0 : 4096, 1 << 9).status == error::invalid));
  BOOST_TEST((client.request(command::write, 0, 4, nbd::command_flag_df, bytes(4)).status == error::invalid));
  BOOST_TEST((client.request(command::write, 0, 4, nbd::command_flag_no_hole, bytes(4)).status == error::invalid));
  BOOST_TEST((client.request(command::read, 0, 4, nbd::command_flag_req_one).status == error::invalid));
  BOOST_TEST((client.request(command::trim, 0, 4, nbd::command_flag_fast_zero).status == error::invalid));
  BOOST_TEST((client.request(command::flush, 1, 0).status == error::invalid));
  BOOST_TEST((client.request(command::flush, 0, 1).status == error::invalid));
}

BOOST_AUTO_TEST_CASE(legal_flags_are_honoured) {
  BOOST_TEST((client.write(0, pattern(8192, 3), nbd::command_flag_fua) == error::none));
  BOOST_TEST(backend.fua == 1u);
  BOOST_TEST((client.write(0, pattern(1u << 20, 3), nbd::command_flag_fua) == error::none));
  BOOST_TEST(backend.fua > 2u); // every piece of it
  auto fast = nbd::command_flag_fast_zero | nbd::command_flag_no_hole;
  BOOST_TEST((client.request(command::write_zeroes, 0, 4096, fast).status == error::none));
  BOOST_TEST((client.read(0, 4096, nbd::command_flag_df | nbd::command_flag_fua) == bytes(4096)));
  BOOST_TEST((client.request(command::flush, 0, 0).status == error::none));
  BOOST_TEST(backend.flushes == 1u);
  BOOST_TEST((client.request(command::cache, 0, 4096).status == error::none));
  BOOST_TEST((client.request(command::trim, 0, 4096).status == error::none));
}

BOOST_AUTO_TEST_CASE(reads_beyond_the_payload_limit_are_refused) {
  BOOST_TEST((client.request(command::read, 0, (32u << 20) + 1).status == error::invalid));
  BOOST_TEST((client.request(command::read, 0, (32u << 20) + 1, nbd::command_flag_df).status == error::overflow));
}

BOOST_AUTO_TEST_CASE(a_structured_read_is_one_chunk_with_its_offset) {
  auto x = client.request(command::read, 8192, 100);
  BOOST_TEST(x.structured);
  BOOST_TEST((x.type == nbd::reply_type::offset_data));
  BOOST_TEST(x.flags == nbd::reply_flag_done);
  BOOST_TEST(x.data.size() == 108u);
  BOOST_TEST(nbd::load<uint64_t>(x.data.data()) == 8192u);
}

BOOST_AUTO_TEST_CASE(a_failed_read_is_an_error_chunk_with_its_offset) {
  backend.faults().failed = 1;
  for (auto failure : {errc::checksum_mismatch, errc::device_failed, errc::shard_failed}) {
    backend.faults().failure = failure;
    auto x = client.request(command::read, 8192, 100);
    BOOST_TEST((x.type == nbd::reply_type::error_offset));
    BOOST_TEST(x.flags == nbd::reply_flag_done);
    BOOST_REQUIRE(x.data.size() == 14u);
    BOOST_TEST(nbd::load<uint32_t>(x.data.data()) == 5u);
    BOOST_TEST(nbd::load<uint64_t>(x.data.data() + 6) == 8192u);
  }
}

BOOST_AUTO_TEST_CASE(the_backends_refusals_have_their_numbers) {
  backend.faults().failed = 1;
  for (auto [failure, expected] : {std::pair{errc::tier_full, error::no_space},
                                   {errc::device_failed, error::io},
                                   {errc::checksum_mismatch, error::io},
                                   {errc::unsupported, error::not_supported},
                                   {errc::invalid_argument, error::invalid},
                                   {errc::unavailable, error::io},
                                   {errc::timed_out, error::io}}) {
    backend.faults().failure = failure;
    BOOST_TEST((client.write(0, bytes(4096)) == expected));
    BOOST_TEST((client.write(0, bytes(1u << 20)) == expected));
    BOOST_TEST((client.request(command::trim, 0, 4096).status == expected));
  }
  BOOST_TEST((client.request(command::block_status, 0, 4096).status == error::io));
}

BOOST_AUTO_TEST_CASE(block_status_tells_holes_from_data) {
  BOOST_TEST((client.write(8192, pattern(4096, 4)) == error::none));
  auto x = client.request(command::block_status, 0, 65536);
  BOOST_TEST((x.type == nbd::reply_type::block_status));
  BOOST_REQUIRE(x.data.size() == 4u + 3 * 8);
  BOOST_TEST(nbd::load<uint32_t>(&x.data[0]) == nbd::allocation_context_id);
  uint32_t expected[] = {8192, 3, 4096, 0, 65536 - 12288, 3};
  for (unsigned i = 0; i < 6; ++i)
    BOOST_TEST(nbd::load<uint32_t>(&x.data[4 + 4 * i]) == expected[i]);
  auto one = client.request(command::block_status, 0, 65536, nbd::command_flag_req_one);
  BOOST_TEST(one.data.size() == 12u);
  auto odd = client.request(command::block_status, 8195, 10);
  BOOST_REQUIRE(odd.data.size() == 12u);
  BOOST_TEST(nbd::load<uint32_t>(&odd.data[4]) == 10u);
}

BOOST_AUTO_TEST_CASE(without_its_context_block_status_is_invalid) {
  nbd_client plain{*this};
  BOOST_REQUIRE(plain.go("vm1", false));
  BOOST_TEST((plain.request(command::block_status, 0, 4096).status == error::invalid));
  BOOST_TEST((plain.request(command::read, 0, 4096, nbd::command_flag_df).status == error::invalid));
  BOOST_TEST(!plain.request(command::read, 0, 4096).structured);
}

BOOST_AUTO_TEST_CASE(a_read_only_export_takes_no_writes) {
  nbd_client reader{*this};
  BOOST_REQUIRE(reader.go("sealed"));
  BOOST_TEST((reader.write(0, bytes(4096)) == error::not_permitted));
  BOOST_TEST((reader.write(0, bytes(1u << 20)) == error::not_permitted));
  BOOST_TEST((reader.request(command::trim, 0, 4096).status == error::not_permitted));
  BOOST_TEST((reader.request(command::write_zeroes, 0, 4096).status == error::not_permitted));
  BOOST_TEST(reader.read(0, 4096).size() == 4096u);
  BOOST_TEST((reader.request(command::flush, 0, 0).status == error::none));
}

BOOST_AUTO_TEST_CASE(a_wrong_magic_ends_the_connection_and_no_other) {
  nbd_client other{*this};
  BOOST_REQUIRE(other.go());
  client.send(pattern(28, 5));
  BOOST_TEST(client.sees_hang_up());
  BOOST_TEST(server->counters().protocol_errors == 1u);
  BOOST_TEST(other.read(0, 4096).size() == 4096u);
}

BOOST_AUTO_TEST_CASE(disconnect_ends_it_after_what_was_asked_before) {
  backend.faults().held = true;
  client.post(command::read, 0, 4096);
  client.post(command::disconnect, 0, 0);
  BOOST_TEST(step_until([&] { return backend.held() == 1; }));
  backend.let_go();
  BOOST_TEST(client.answer().has_value());
  BOOST_TEST(client.sees_hang_up());
  BOOST_TEST(step_until([&] { return server->connections() == 0; }));
}

BOOST_AUTO_TEST_CASE(a_client_that_only_stops_sending_gets_its_answers) {
  backend.faults().held = true;
  for (unsigned i = 0; i < 5; ++i)
    client.post(command::read, 0, 4096);
  client.finish_sending();
  BOOST_TEST(step_until([&] { return backend.held() == 5; }));
  backend.let_go();
  for (unsigned i = 0; i < 5; ++i)
    BOOST_TEST(client.answer().has_value());
  BOOST_TEST(client.sees_hang_up());
}

BOOST_AUTO_TEST_CASE(requests_may_come_one_byte_at_a_time) {
  auto data = pattern(5000, 6);
  bytes message(nbd::request_size);
  nbd::store_request(message.data(), {nbd::request_magic, 0, command::write, 42, 100, 5000});
  message.insert(message.end(), data.begin(), data.end());
  for (auto& x : message) {
    BOOST_REQUIRE(client.send(&x, 1));
    if (&x - message.data() < 64)
      on.step(on.now());
  }
  auto x = client.answer();
  BOOST_REQUIRE(x);
  BOOST_TEST(x->cookie == 42u);
  BOOST_TEST((client.read(100, 5000) == data));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(random_requests)

BOOST_AUTO_TEST_CASE(simple_and_structured_clients_see_one_volume) {
  for (bool modern : {false, true}) {
    nbd_fixture on{{}, {}, size};
    check_random_requests(on, modern, 11, 150);
  }
}

BOOST_AUTO_TEST_CASE(a_backend_that_delays_and_reorders_changes_nothing) {
  for (bool copies : {false, true}) {
    nbd_fixture on{{}, {.delayed = 0.6, .copies = copies, .seed = 3}, size};
    check_random_requests(on, true, 12, 100);
  }
}

BOOST_AUTO_TEST_CASE(without_direct_system_calls_the_ring_does_it_all) {
  nbd_options options;
  options.direct = false;
  nbd_fixture on{options, {.delayed = 0.3}, size};
  check_random_requests(on, true, 13, 100);
}

BOOST_AUTO_TEST_CASE(small_socket_buffers_and_tight_limits_only_slow_it_down) {
  nbd_options options;
  options.socket_buffer_bytes = 4096;
  options.requests_max = 2;
  options.bytes_in_flight_max = 64u << 10;
  nbd_fixture on{options, {.delayed = 0.3}, size};
  check_random_requests(on, true, 14, 60);
}

BOOST_AUTO_TEST_CASE(a_large_write_fails_as_a_whole_when_a_piece_fails) {
  nbd_fixture on{{}, {.delayed = 0.5, .failed = 0.2, .seed = 5}, size};
  nbd_client client{on};
  BOOST_REQUIRE(client.go());
  unsigned failures = 0;
  for (unsigned i = 0; i < 40; ++i) {
    auto data = pattern(1u << 20, i);
    if (client.write(777, data) == error::none)
      BOOST_TEST((bytes(on.backend.bytes() + 777, on.backend.bytes() + 777 + data.size()) == data));
    else
      ++failures;
  }
  BOOST_TEST(failures > 0u);
  BOOST_TEST(failures < 40u);
}

BOOST_AUTO_TEST_SUITE_END()
