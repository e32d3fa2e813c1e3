#include <boost/test/unit_test.hpp>

#include "runtime/nbd/nbd_negotiation.hpp"
#include "tests/runtime/nbd/nbd_fixture.hpp"

using namespace varve;
using namespace varve::test;
using nbd::command;

namespace {

/// Seeds of one run; a failing one becomes a case of its own.
constexpr uint64_t first_seed = 20'240'601;

class garbage {
public:
  explicit garbage(uint64_t seed) : random_(seed) {}

  uint64_t operator()(uint64_t bound) { return random_() % bound; }

  bytes option() {
    const bool known_name = random_() % 3 != 0;
    std::string name = known_name ? "vm1" : std::string(random_() % 6000, 'n');
    bytes data;
    switch (random_() % 5) {
    case 0: data = pattern(random_() % 64, random_()); break;
    case 1: data = info_request(name, {nbd::info::name, nbd::info::block_size}); break;
    case 2: data = meta_request(name, {"base:", "base:allocation", "x"}); break;
    case 3: break;
    case 4: data.assign(name.size(), std::byte{'n'}); break;
    }
    mutate(data);
    std::optional<uint32_t> claimed;
    if (random_() % 20 == 0)
      claimed = static_cast<uint32_t>(random_() % 3 == 0 ? random_() : data.size() + random_() % 9 - 4);
    auto result = option_bytes(static_cast<uint32_t>(random_() % 12), data, claimed);
    if (random_() % 30 == 0)
      mutate(result);
    return result;
  }

  bytes request(uint64_t size) {
    nbd::request_header x;
    x.magic = random_() % 60 == 0 ? static_cast<uint32_t>(random_()) : nbd::request_magic;
    x.flags = random_() % 4 == 0 ? static_cast<uint16_t>(random_()) : static_cast<uint16_t>(random_() % 4 == 0);
    x.type = static_cast<command>(random_() % 40 == 0 ? random_() : random_() % 9);
    if (x.type == command::disconnect && random_() % 4)
      x.type = command::read;
    x.cookie = random_();
    x.offset = random_() % 10 == 0 ? random_() : random_() % size;
    x.length = static_cast<uint32_t>(random_() % 30 == 0 ? random_() : random_() % 20000);
    bytes result(nbd::request_size);
    nbd::store_request(result.data(), x);
    if (x.type == command::write && random_() % 10) {
      auto payload = pattern(std::min<size_t>(x.length, 300'000), x.cookie);
      result.insert(result.end(), payload.begin(), payload.end());
    }
    return result;
  }

private:
  void mutate(bytes& x) {
    for (auto i = random_() % 3; i > 0 && !x.empty(); --i)
      x[random_() % x.size()] = static_cast<std::byte>(random_());
    if (random_() % 8 == 0)
      x.resize(random_() % (x.size() + 8));
  }

  std::mt19937_64 random_;
};

/// Sends without waiting for room, and reads now and then, as somebody who means no good.
void throw_at(nbd_fixture& on, nbd_client& client, const bytes& x, bool listen) {
  bytes sink(1u << 16);
  for (size_t at = 0, tries = 0; at < x.size() && tries < 200; ++tries) {
    auto n = ::send(client.fd(), x.data() + at, x.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
      at += static_cast<size_t>(n);
    else if (errno != EAGAIN)
      return;
    on.on.step(on.on.now());
    if (listen)
      while (::recv(client.fd(), sink.data(), sink.size(), MSG_DONTWAIT) > 0)
        ;
  }
}

} // namespace

BOOST_AUTO_TEST_SUITE(fuzz)

/// Goal: the negotiation takes any bytes in any portions, always ends or asks for more, and says little. Method:
/// options half right, mutated, in random portions.
BOOST_AUTO_TEST_CASE(the_negotiation_survives_garbage) {
  nbd_options options;
  made_ring made = make_ring({});
  reactor on{*made.ring};
  memory_backend volume{on, 1u << 20};
  named_exports exports;
  exports.known["vm1"] = &volume;
  unsigned reached = 0;
  for (uint64_t seed = first_seed; seed < first_seed + 20'000; ++seed) {
    garbage make{seed};
    nbd_negotiation x{options, exports};
    bytes in, out;
    nbd::append(in, make(20) == 0 ? static_cast<uint32_t>(make(~0u)) : 3u);
    for (auto i = make(12); i > 0; --i) {
      auto more = make.option();
      in.insert(in.end(), more.begin(), more.end());
    }
    size_t head = 0, tail = 0;
    while (tail < in.size()) {
      tail = std::min<size_t>(in.size(), tail + 1 + make(4000));
      for (size_t used = 1; used > 0 && x.state() <= nbd_negotiation::phase::options; head += used) {
        used = x.feed({in.data() + head, tail - head}, out);
        BOOST_REQUIRE(used <= tail - head);
      }
      // What is not consumed fits where the contract says.
      if (x.state() <= nbd_negotiation::phase::options)
        BOOST_REQUIRE(tail - head < nbd::option_header_size + options.option_bytes_max);
    }
    BOOST_REQUIRE(out.size() < 64u << 10);
    if (x.state() == nbd_negotiation::phase::transmission) {
      ++reached;
      BOOST_REQUIRE(x.chosen() == &volume);
    }
  }
  BOOST_TEST(reached > 100u); // or it has not tested much
}

/// Goal: no bytes make the server crash, leak a request or a view, or trouble an honest client. Method: connections
/// that send mutated requests, listen or do not, and vanish at any moment; between them an honest one checks its data.
BOOST_AUTO_TEST_CASE(the_server_survives_garbage) {
  constexpr uint64_t size = 8u << 20;
  nbd_options options;
  options.bytes_in_flight_max = 4u << 20;
  nbd_fixture on{options, {.delayed = 0.2, .failed = 0.02, .seed = first_seed}, size};
  on.exports.known["honest"] = nullptr;
  memory_backend mine{on.on, 1u << 20};
  on.exports.known["honest"] = &mine;
  nbd_client honest{on};
  BOOST_REQUIRE(honest.go("honest"));
  for (uint64_t seed = first_seed; seed < first_seed + 1'500; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      garbage make{seed};
      nbd_client client{on};
      const bool listen = make(3) != 0;
      if (make(8) == 0) {
        for (auto i = make(10); i > 0; --i)
          throw_at(on, client, make.option(), listen);
      } else {
        BOOST_REQUIRE(client.go("vm1", make(2) == 0));
        for (auto i = make(40); i > 0; --i)
          throw_at(on, client, make.request(size), listen);
      }
      if (make(4) == 0)
        client.finish_sending();
      client.vanish();
      auto data = pattern(3000, seed);
      BOOST_REQUIRE((honest.write(seed % 1000, data) == nbd::error::none));
      BOOST_REQUIRE((honest.read(seed % 1000, 3000) == data));
    }
  }
  BOOST_TEST(on.step_until([&] { return on.server->connections() == 1; }));
  BOOST_TEST(on.backend.views == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
