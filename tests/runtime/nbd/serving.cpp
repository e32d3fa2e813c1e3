#include <boost/test/unit_test.hpp>

#include <fstream>

#include <sys/stat.h>

#include "tests/runtime/nbd/nbd_fixture.hpp"

using namespace varve;
using namespace varve::test;
using nbd::command;
using nbd::error;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(serving)

BOOST_FIXTURE_TEST_CASE(the_socket_is_for_its_owner_only_and_goes_with_the_server, nbd_fixture) {
  struct stat found {};
  BOOST_REQUIRE(::lstat(path.c_str(), &found) == 0);
  BOOST_TEST(S_ISSOCK(found.st_mode));
  BOOST_TEST((found.st_mode & 07777) == 0600u);
  BOOST_TEST(close(false));
  BOOST_TEST(::lstat(path.c_str(), &found) != 0);
}

BOOST_FIXTURE_TEST_CASE(a_live_server_is_not_replaced_and_a_dead_one_is, nbd_fixture) {
  nbd_server second{on, exports};
  BOOST_TEST((second.listen(path) == errc::already_exists));
  const auto stale = directory + "/stale";
  auto fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  stale.copy(address.sun_path, sizeof(address.sun_path) - 1);
  BOOST_REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  ::close(fd);
  BOOST_TEST((second.listen(stale) == errc::none));
  bool over = false;
  varve::start(wait_for_close(second, true, over));
  BOOST_TEST(step_until([&] { return over; }));
}

BOOST_FIXTURE_TEST_CASE(what_is_no_socket_is_left_alone, nbd_fixture) {
  const auto file = directory + "/file";
  std::ofstream{file} << "precious";
  nbd_server second{on, exports};
  BOOST_TEST((second.listen(file) == errc::already_exists));
  std::string text;
  std::ifstream{file} >> text;
  BOOST_TEST(text == "precious");
  ::unlink(file.c_str());
  BOOST_TEST((second.listen(directory + std::string(120, 'x')) == errc::invalid_argument));
  BOOST_TEST((second.listen(directory + "/no/such/folder") == errc::device_failed));
}

BOOST_AUTO_TEST_CASE(connections_beyond_the_limit_are_hung_up_on) {
  nbd_options options;
  options.connections_max = 2;
  nbd_fixture on{options};
  size_t seen = 0;
  on.server->on_connections([&](size_t count) { seen = std::max(seen, count); });
  nbd_client a{on}, b{on}, c{on};
  BOOST_TEST(a.go());
  BOOST_TEST(b.go());
  BOOST_TEST(c.sees_hang_up());
  BOOST_TEST(on.server->counters().refused == 1u);
  BOOST_TEST(seen == 2u);
  a.vanish();
  BOOST_TEST(on.step_until([&] { return on.server->connections() == 1; }));
  nbd_client d{on};
  BOOST_TEST(d.go());
}

BOOST_AUTO_TEST_CASE(a_slow_negotiation_is_cut_off_and_a_slow_user_is_not) {
  nbd_options options;
  options.negotiation_time = 50ms;
  nbd_fixture on{options};
  nbd_client done{on}, slow{on};
  BOOST_REQUIRE(done.go());
  BOOST_REQUIRE(slow.greet());
  BOOST_TEST(slow.sees_hang_up());
  BOOST_TEST(on.server->counters().protocol_errors == 1u);
  BOOST_TEST(done.read(0, 4096).size() == 4096u);
}

BOOST_AUTO_TEST_CASE(a_client_that_does_not_listen_holds_up_only_itself) {
  nbd_options options;
  options.socket_buffer_bytes = 64u << 10;
  options.bytes_in_flight_max = 4u << 20;
  nbd_fixture on{options};
  nbd_client deaf{on}, other{on};
  BOOST_REQUIRE(deaf.go());
  BOOST_REQUIRE(other.go());
  auto before = on.backend.submitted;
  for (unsigned i = 0; i < 200; ++i)
    deaf.post(command::read, 0, 1u << 20);
  for (unsigned i = 0; i < 50; ++i)
    BOOST_TEST(other.read(0, 65536).size() == 65536u);
  // Its own requests wait, and no memory of the tier is held for it.
  BOOST_TEST(on.backend.submitted - before < 50u + 10);
  BOOST_TEST(on.backend.views == 0u);
  for (unsigned i = 0; i < 200; ++i) {
    auto x = deaf.answer();
    BOOST_REQUIRE(x);
    BOOST_REQUIRE(x->data.size() == (1u << 20) + 8);
  }
}

BOOST_AUTO_TEST_CASE(requests_in_flight_are_bounded) {
  nbd_options options;
  options.requests_max = 8;
  nbd_fixture on{options, {.held = true}};
  nbd_client client{on};
  BOOST_REQUIRE(client.go());
  for (unsigned i = 0; i < 50; ++i)
    client.post(command::trim, 0, 4096);
  on.step_until([] { return false; }, 30ms);
  BOOST_TEST(on.backend.held() == 8u);
  on.backend.let_go();
  for (unsigned i = 0; i < 50; ++i)
    BOOST_REQUIRE(client.answer());
}

BOOST_AUTO_TEST_CASE(bytes_in_flight_are_bounded_also_within_one_write) {
  nbd_options options;
  options.bytes_in_flight_max = 1u << 20;
  nbd_fixture on{options, {.held = true}};
  nbd_client client{on};
  BOOST_REQUIRE(client.go());
  // More than the sockets hold, so send as much as goes.
  auto data = pattern(16u << 20, 1);
  bytes message(nbd::request_size);
  nbd::store_request(message.data(), {nbd::request_magic, 0, command::write, 1, 0, 16u << 20});
  message.insert(message.end(), data.begin(), data.end());
  size_t at = 0;
  on.step_until(
    [&] {
      auto n = ::send(client.fd(), &message[at], message.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
      at += n > 0 ? static_cast<size_t>(n) : 0;
      return at == message.size();
    },
    50ms);
  BOOST_TEST(at < (8u << 20));
  BOOST_TEST(on.backend.held() <= 8u);
  on.backend.let_go();
  BOOST_TEST(client.send(&message[at], message.size() - at));
  auto x = client.answer();
  BOOST_REQUIRE(x);
  BOOST_TEST((bytes(on.backend.bytes(), on.backend.bytes() + data.size()) == data));
}

BOOST_AUTO_TEST_CASE(a_client_that_vanishes_leaves_nothing_behind) {
  for (unsigned i = 0; i < 30; ++i) {
    nbd_fixture on{{}, {.delayed = 0.5, .copies = i % 2 == 0, .seed = i}};
    nbd_client client{on};
    BOOST_REQUIRE(client.go());
    for (unsigned k = 0; k < 10; ++k) {
      client.post(command::read, 0, 1u << 20);
      client.post(command::write, 4096 * k, 4096, 0, pattern(4096, k));
    }
    // Half a header, or half a payload.
    auto part = pattern(27, 1);
    if (i % 3 == 1) {
      part.resize(nbd::request_size + 5000);
      nbd::store_request(part.data(), {nbd::request_magic, 0, command::write, 1, 0, 200000});
    }
    client.send(part);
    for (unsigned k = 0; k < i; ++k)
      on.on.step(on.on.now());
    client.vanish();
    BOOST_TEST(on.step_until([&] { return on.server->connections() == 0; }));
    BOOST_TEST(on.backend.views == 0u);
  }
}

BOOST_AUTO_TEST_CASE(closing_answers_what_is_in_flight_and_refuses_the_rest) {
  nbd_options options;
  options.requests_max = 4;
  nbd_fixture on{options, {.held = true}};
  nbd_client client{on};
  BOOST_REQUIRE(client.go());
  for (unsigned i = 0; i < 8; ++i)
    client.post(command::trim, 0, 4096);
  BOOST_REQUIRE(on.step_until([&] { return on.backend.held() == 4; }));
  on.step_until([] { return false; }, 5ms);
  bool over = false;
  varve::start(nbd_fixture::wait_for_close(*on.server, false, over));
  on.step_until([] { return false; }, 20ms);
  BOOST_TEST(!over);
  on.backend.let_go();
  unsigned good = 0, refused = 0;
  for (unsigned i = 0; i < 8; ++i) {
    auto x = client.answer();
    BOOST_REQUIRE(x);
    good += x->status == error::none;
    refused += x->status == error::shutdown;
  }
  BOOST_TEST(good == 4u);
  BOOST_TEST(refused == 4u);
  BOOST_TEST(client.sees_hang_up());
  BOOST_TEST(on.step_until([&] { return over; }));
  on.server.reset();
}

BOOST_AUTO_TEST_CASE(closing_waits_for_deaf_clients_only_so_long) {
  nbd_options options;
  options.drain_time = 50ms;
  options.socket_buffer_bytes = 4096;
  nbd_fixture on{options};
  nbd_client deaf{on};
  BOOST_REQUIRE(deaf.go());
  for (unsigned i = 0; i < 20; ++i)
    deaf.post(command::read, 0, 1u << 20);
  on.step_until([] { return false; }, 5ms);
  BOOST_TEST(on.close(false));
}

BOOST_AUTO_TEST_CASE(a_forced_close_waits_for_the_backend_and_for_nothing_else) {
  nbd_fixture on{{}, {.held = true}};
  nbd_client client{on}, negotiating{on};
  BOOST_REQUIRE(client.go());
  BOOST_REQUIRE(negotiating.greet());
  client.post(command::write, 0, 4096, 0, bytes(4096));
  BOOST_REQUIRE(on.step_until([&] { return on.backend.held() == 1; }));
  bool over = false;
  varve::start(nbd_fixture::wait_for_close(*on.server, true, over));
  on.step_until([] { return false; }, 20ms);
  BOOST_TEST(!over);
  on.backend.let_go();
  BOOST_TEST(on.step_until([&] { return over; }, 1s));
  on.server.reset();
}

BOOST_AUTO_TEST_SUITE_END()
