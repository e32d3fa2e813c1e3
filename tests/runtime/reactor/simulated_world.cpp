#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <set>
#include <string>

#include <fcntl.h>

#include "runtime/reactor/async.hpp"
#include "simulated_fixture.hpp"

using namespace varve;
using namespace varve::test;
using namespace std::chrono_literals;

namespace {

task<void> tick(reactor& on, std::chrono::nanoseconds every, std::string& order, char name) {
  for (;;) {
    co_await sleep_for(on, every);
    order += name;
  }
}

task<void> echo(varve::ring& on, int fd) {
  std::byte bytes[1000];
  for (;;) {
    iovec vector{bytes, sizeof(bytes)};
    ring_operation x;
    x.op = ring_op::receive;
    x.fd = fd;
    x.vectors = &vector;
    x.vector_count = 1;
    const auto count = co_await perform(on, x);
    if (count <= 0)
      break;
    vector.iov_len = static_cast<size_t>(count);
    x.op = ring_op::send;
    x.flags = MSG_WAITALL;
    if (co_await perform(on, x) != count)
      break;
  }
  co_await close_file(on, fd);
}

task<void> accept_and_echo(varve::ring& on, int listener, int connections) {
  while (connections-- > 0) {
    ring_operation x;
    x.op = ring_op::accept;
    x.fd = listener;
    const auto fd = co_await perform(on, x);
    if (fd < 0)
      break;
    start(echo(on, fd));
  }
}

task<void> write_some(varve::ring& on, int fd, uint64_t offset, std::vector<std::byte> bytes, int& done) {
  const std::span<const std::byte> from{bytes};
  const auto status = co_await write_fully(on, fd, offset, from);
  done += status == errc::none;
}

} // namespace

BOOST_AUTO_TEST_CASE(events_of_several_rings_come_in_order_of_time) {
  simulated_world world{1, 100h};
  simulated_ring first{world, nullptr}, second{world, nullptr};
  reactor a{first}, b{second};
  world.attach(a);
  world.attach(b);
  std::string order;
  start(tick(a, 20ms, order, 'a'));
  start(tick(b, 30ms, order, 'b'));
  world.advance(101ms);
  BOOST_TEST(std::count(order.begin(), order.end(), 'a') == 5);
  BOOST_TEST(std::count(order.begin(), order.end(), 'b') == 3);
  BOOST_TEST(order.substr(0, 3) == "aba");
  BOOST_TEST((world.now() == 100h + 101ms));
}

BOOST_AUTO_TEST_CASE(idle_means_that_only_timeouts_are_left) {
  simulated_machine machine{1};
  std::string order;
  start(tick(*machine.on, 1h, order, 't'));
  const auto fd = machine.open("/d/a", O_RDWR | O_CREAT);
  auto done = 0;
  start(write_some(*machine.ring, fd, 0, filled(10'000, 1), done));
  BOOST_TEST(machine.world.run_until_idle());
  BOOST_TEST(done == 1);
  BOOST_TEST(order.empty());
  machine.disk.inject({.op = ring_op::write, .hang = true});
  start(write_some(*machine.ring, fd, 0, filled(10'000, 1), done));
  BOOST_TEST(machine.world.run_until_idle()); // hung is idle
  BOOST_TEST(!machine.world.run_until([&] { return done == 2; }, 2h));
  BOOST_TEST(order == "tt");
}

BOOST_AUTO_TEST_CASE(streams_echo_between_a_test_and_a_ring) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    simulated_machine machine{seed};
    const auto listener = machine.network.listen("nbd");
    BOOST_TEST(machine.network.connect("elsewhere") == -ECONNREFUSED);
    start(accept_and_echo(*machine.ring, listener, 2));
    for (auto i = 0; i < 2; ++i) {
      const auto fd = machine.network.connect("nbd");
      std::vector<std::byte> out, back;
      for (auto j = 0; j < 300'000; ++j)
        out.push_back(static_cast<std::byte>(j * 7 + i));
      size_t pushed = 0;
      const auto all = [&] {
        pushed += machine.network.push(fd, std::span{out}.subspan(pushed));
        const auto more = machine.network.pull(fd, 1 << 20);
        back.insert(back.end(), more.begin(), more.end());
        return back.size() == out.size();
      };
      BOOST_TEST(machine.world.run_until(all));
      BOOST_TEST((back == out));
      BOOST_TEST(!machine.network.ended(fd));
      machine.network.close(fd);
    }
    machine.world.run_until_idle();
    BOOST_TEST(machine.ring->in_flight() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_kill_closes_the_streams_of_its_process) {
  simulated_machine machine{1};
  const auto listener = machine.network.listen("nbd");
  start(accept_and_echo(*machine.ring, listener, 2));
  const auto fd = machine.network.connect("nbd");
  machine.world.run_until_idle();
  BOOST_TEST(!machine.network.ended(fd));
  machine.disk.kill();
  BOOST_TEST(machine.network.ended(fd));
  BOOST_TEST(machine.network.push(fd, filled(1, 1)) == 0u);
  BOOST_TEST(machine.network.connect("nbd") == -ECONNREFUSED); // until the next process listens
}

BOOST_AUTO_TEST_CASE(a_dead_ring_completes_nothing_more) {
  simulated_machine machine{1};
  auto done = 0;
  const auto fd = machine.open("/d/a", O_RDWR | O_CREAT);
  start(write_some(*machine.ring, fd, 0, filled(10'000, 1), done));
  machine.world.step();
  machine.disk.kill();
  start(write_some(*machine.ring, fd, 0, filled(10'000, 1), done));
  machine.world.advance(1h);
  BOOST_TEST(done == 0);
  machine.boot();
  const auto again = machine.open("/d/a", O_RDWR);
  start(write_some(*machine.ring, again, 0, filled(10'000, 1), done));
  machine.world.advance(1h);
  BOOST_TEST(done == 1);
}

BOOST_AUTO_TEST_CASE(overlapping_operations_see_mixtures_of_pages) {
  auto mixed = 0;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    simulated_machine machine{seed};
    const auto fd = machine.open("/d/a", O_RDWR | O_CREAT);
    machine.write(fd, 0, filled(64 << 10, 1));
    auto done = 0;
    start(write_some(*machine.ring, fd, 0, filled(64 << 10, 2), done));
    const auto seen = machine.read(fd, 0, 64 << 10);
    const auto twos = std::count(seen.begin(), seen.end(), std::byte{2});
    BOOST_TEST(twos % 4096 == 0);
    mixed += twos > 0 && twos < 64 << 10;
    machine.world.run_until_idle();
    BOOST_TEST((machine.read(fd, 0, 64 << 10) == filled(64 << 10, 2)));
  }
  BOOST_TEST(mixed > 5);
}

BOOST_AUTO_TEST_CASE(operations_end_in_an_order_that_the_seed_decides) {
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    simulated_machine machine{seed};
    const auto fd = machine.open("/d/a", O_RDWR | O_CREAT);
    std::vector<int> order;
    const auto noting = [](varve::ring& on, int fd, std::vector<int>& order, int i) -> task<void> {
      std::byte byte{};
      const std::span<const std::byte> from{&byte, 1};
      co_await write_fully(on, fd, static_cast<uint64_t>(i), from);
      order.push_back(i);
    };
    for (auto i = 0; i < 6; ++i)
      start(noting(*machine.ring, fd, order, i));
    machine.world.run_until_idle();
    BOOST_TEST(order.size() == 6u);
    orders.insert(order);
  }
  BOOST_TEST(orders.size() > 10u);
}

BOOST_AUTO_TEST_CASE(random_numbers_are_the_same_on_every_machine) {
  simulated_random random{0};
  BOOST_TEST(random.next() == 0xe220a8397b1dcdafull); // SplitMix64's own vector
  BOOST_TEST(random.below(0) == 0u);
  for (auto i = 0; i < 1000; ++i) {
    const auto x = random.between(3, 5);
    BOOST_TEST((x >= 3 && x <= 5));
  }
  BOOST_TEST(!random.chance(0));
  BOOST_TEST(random.chance(1));
}
