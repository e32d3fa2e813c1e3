// What every ring must do, whatever is behind it: one table of cases, run over all three.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <linux/falloc.h>

#include "harness.hpp"

using namespace varve;
using namespace varve::test;
using namespace std::chrono_literals;

namespace {

const char* const kinds[] = {"io_uring", "threads", "simulated"};

#define FOR_EACH_RING(name)                                                                                            \
  void check_##name(harness& with);                                                                                    \
  BOOST_DATA_TEST_CASE(name, boost::unit_test::data::make(kinds), kind) {                                              \
    harness with{kind};                                                                                                \
    if (!with.missing.empty()) {                                                                                       \
      BOOST_TEST_MESSAGE("not on this machine: " << with.missing);                                                     \
      BOOST_TEST(true);                                                                                                \
      return;                                                                                                          \
    }                                                                                                                  \
    check_##name(with);                                                                                                \
  }                                                                                                                    \
  void check_##name(harness& with)

constexpr auto fresh = O_RDWR | O_CREAT;

std::vector<std::byte> pattern(size_t size, unsigned seed) {
  std::vector<std::byte> result(size);
  for (size_t i = 0; i < size; ++i)
    result[i] = static_cast<std::byte>((i * 2654435761u + seed) >> 11);
  return result;
}

std::span<const std::byte> as_const(const std::vector<std::byte>& x) {
  return x;
}

// An operation on its own, without a coroutine.
struct single : ring_operation {
  single() {
    complete = [](ring_operation& x) { ++static_cast<single&>(x).ended; };
  }
  int ended = 0;
};

single socket_operation(ring_op op, int fd, const iovec& vector, int flags = 0) {
  single x;
  x.op = op;
  x.fd = fd;
  x.vectors = &vector;
  x.vector_count = 1;
  x.flags = flags;
  return x;
}

single timeout_at(boot_time when) {
  single x;
  x.op = ring_op::timeout;
  x.deadline = when;
  return x;
}

} // namespace

FOR_EACH_RING(files_are_written_read_cut_renamed_and_removed) {
  auto& ring = with.ring();
  const auto path = with.path("a"), other = with.path("b");
  BOOST_TEST(with.run(open_file(ring, path, O_RDWR)) == -ENOENT);
  const auto fd = with.run(open_file(ring, path, fresh));
  BOOST_REQUIRE(fd >= 0);
  BOOST_TEST(with.run(open_file(ring, path, fresh | O_EXCL)) == -EEXIST);
  const auto bytes = pattern(100'000, 1);
  BOOST_TEST((with.run(write_fully(ring, fd, 500, as_const(bytes))) == errc::none));
  std::vector<std::byte> back(bytes.size());
  BOOST_TEST((with.run(read_fully(ring, fd, 500, std::span<std::byte>{back})) == errc::none));
  BOOST_TEST((back == bytes));
  BOOST_TEST((with.run(sync_file(ring, fd)) == errc::none));
  BOOST_TEST((with.run(resize_file(ring, fd, 1000)) == errc::none));
  BOOST_TEST((with.run(read_fully(ring, fd, 500, std::span<std::byte>{back})) == errc::bad_format)); // ends before
  BOOST_TEST((with.run(read_fully(ring, fd, 0, std::span<std::byte>{back}.first(1000))) == errc::none));
  BOOST_TEST((back[499] == std::byte{0}));
  BOOST_TEST((back[500] == bytes[0]));
  BOOST_TEST((with.run(rename_file(ring, path, other)) == errc::none));
  BOOST_TEST((with.run(sync_folder(ring, with.folder())) == errc::none));
  BOOST_TEST((with.run(unlink_file(ring, path)) == errc::not_found));
  BOOST_TEST((with.run(unlink_file(ring, other)) == errc::none));
  BOOST_TEST(with.run(close_file(ring, fd)) == 0);
  BOOST_TEST(with.run(close_file(ring, fd)) == -EBADF);
}

FOR_EACH_RING(vectors_are_gathered_and_scattered) {
  auto& ring = with.ring();
  const auto fd = with.run(open_file(ring, with.path("a"), fresh));
  auto bytes = pattern(9000, 2);
  std::vector<iovec> parts;
  for (size_t at = 0; at < bytes.size(); at += 3000)
    parts.push_back({bytes.data() + at, 3000});
  BOOST_TEST((with.run(write_fully(ring, fd, 0, std::span<iovec>{parts})) == errc::none));
  std::vector<std::byte> back(9000);
  std::vector<iovec> into{{back.data(), 1}, {nullptr, 0}, {back.data() + 1, 4999}, {back.data() + 5000, 4000}};
  BOOST_TEST((with.run(read_fully(ring, fd, 0, std::span<iovec>{into})) == errc::none));
  BOOST_TEST((back == bytes));
  with.run(close_file(ring, fd));
}

FOR_EACH_RING(a_punched_range_reads_as_zeros) {
  auto& ring = with.ring();
  const auto fd = with.run(open_file(ring, with.path("a"), fresh));
  const auto bytes = pattern(16'384, 3);
  with.run(write_fully(ring, fd, 0, as_const(bytes)));
  const auto status = with.run(allocate_file(ring, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
  BOOST_TEST((status == errc::none));
  std::vector<std::byte> back(16'384);
  with.run(read_fully(ring, fd, 0, std::span<std::byte>{back}));
  auto expected = bytes;
  std::fill_n(expected.begin() + 4096, 8192, std::byte{0});
  BOOST_TEST((back == expected));
  // Allocating beyond the end makes the file longer.
  BOOST_TEST((with.run(allocate_file(ring, fd, 0, 16'384, 4096)) == errc::none));
  BOOST_TEST((with.run(read_fully(ring, fd, 16'384, std::span<std::byte>{back}.first(4096))) == errc::none));
  with.run(close_file(ring, fd));
}

FOR_EACH_RING(a_bad_descriptor_is_an_error_and_not_a_crash) {
  auto& ring = with.ring();
  std::byte byte{};
  const auto read = with.run(read_fully(ring, 987'654, 0, std::span<std::byte>{&byte, 1}));
  BOOST_TEST((read == errc::device_failed));
  BOOST_TEST((with.run(sync_file(ring, 987'654)) == errc::device_failed));
  BOOST_TEST((with.run(resize_file(ring, 987'654, 0)) == errc::device_failed));
  iovec vector{&byte, 1};
  auto receive = socket_operation(ring_op::receive, 9'876'543, vector);
  ring.submit(receive);
  with.run_until([&] { return receive.ended > 0; });
  BOOST_TEST(receive.result == -EBADF);
}

FOR_EACH_RING(streams_carry_bytes_both_ways_and_end) {
  auto& ring = with.ring();
  const auto [a, b] = with.sockets();
  const auto out = pattern(1 << 20, 4);
  std::vector<std::byte> in(out.size());
  // Far more than the socket holds: both go on in turns.
  iovec from{const_cast<std::byte*>(out.data()), out.size()}, into{in.data(), in.size()};
  auto send = socket_operation(ring_op::send, a, from, MSG_WAITALL);
  auto receive = socket_operation(ring_op::receive, b, into, MSG_WAITALL);
  ring.submit(send);
  ring.submit(receive);
  BOOST_TEST(with.run_until([&] { return send.ended && receive.ended; }));
  BOOST_TEST(send.result == 1 << 20);
  BOOST_TEST(receive.result == 1 << 20);
  BOOST_TEST((in == out));
  // Two vectors, and what is there is enough.
  std::byte head[4], tail[60];
  const iovec two[] = {{head, 4}, {tail, 60}};
  auto some = socket_operation(ring_op::receive, a, two[0]);
  some.vector_count = 2;
  iovec ten{const_cast<std::byte*>(out.data()), 10};
  auto ten_bytes = socket_operation(ring_op::send, b, ten, MSG_WAITALL);
  ring.submit(some);
  ring.submit(ten_bytes);
  BOOST_TEST(with.run_until([&] { return some.ended && ten_bytes.ended; }));
  BOOST_TEST((some.result > 0 && some.result <= 10));
  BOOST_TEST(std::memcmp(head, out.data(), std::min(some.result, 4)) == 0);
  with.close(b);
  auto rest = socket_operation(ring_op::receive, a, into, MSG_WAITALL);
  ring.submit(rest);
  BOOST_TEST(with.run_until([&] { return rest.ended > 0; }));
  BOOST_TEST(rest.result == 10 - some.result); // what was left, or the end
  auto last = socket_operation(ring_op::receive, a, into);
  ring.submit(last);
  BOOST_TEST(with.run_until([&] { return last.ended > 0; }));
  BOOST_TEST(last.result == 0);
  auto broken = socket_operation(ring_op::send, a, ten);
  ring.submit(broken);
  BOOST_TEST(with.run_until([&] { return broken.ended > 0; }));
  BOOST_TEST(broken.result == -EPIPE); // and no SIGPIPE
  with.close(a);
}

FOR_EACH_RING(connections_are_accepted_as_they_come) {
  auto& ring = with.ring();
  for (auto flags : {0, int{SOCK_NONBLOCK}}) {
    const auto name = "socket-" + std::to_string(flags);
    const auto listener = with.listen(name, flags);
    single early;
    early.op = ring_op::accept;
    early.fd = listener;
    ring.submit(early);
    with.on().step(ring.now() + 1ms);
    BOOST_TEST(early.ended == 0);
    const auto first = with.connect(name), second = with.connect(name);
    single late;
    late.op = ring_op::accept;
    late.fd = listener;
    ring.submit(late);
    BOOST_TEST(with.run_until([&] { return early.ended && late.ended; }));
    BOOST_TEST(early.result >= 0);
    BOOST_TEST(late.result >= 0);
    BOOST_TEST(early.result != late.result);
    if (!with.simulated()) {
      BOOST_TEST((::fcntl(early.result, F_GETFL) & O_NONBLOCK) != 0);
      BOOST_TEST((::fcntl(early.result, F_GETFD) & FD_CLOEXEC) != 0);
    }
    // An accepted socket waits for what comes, also where it is non-blocking.
    std::byte bytes[3]{};
    const iovec vector{bytes, 3};
    auto receive = socket_operation(ring_op::receive, early.result, vector, MSG_WAITALL);
    auto send = socket_operation(ring_op::send, first, vector, MSG_WAITALL);
    auto send_too = socket_operation(ring_op::send, second, vector, MSG_WAITALL);
    ring.submit(receive);
    with.on().step(ring.now() + 1ms);
    BOOST_TEST(receive.ended == 0);
    ring.submit(send);
    ring.submit(send_too);
    BOOST_TEST(with.run_until([&] { return receive.ended && send.ended && send_too.ended; }));
    BOOST_TEST(receive.result == 3);
    for (auto fd : {early.result, late.result, first, second, listener})
      with.close(fd);
  }
}

FOR_EACH_RING(timeouts_end_in_order_and_never_early) {
  auto& ring = with.ring();
  const auto start = ring.now();
  auto third = timeout_at(start + 30ms), first = timeout_at(start - 1s), second = timeout_at(start + 10ms);
  std::vector<int> order;
  for (auto* x : {&third, &first, &second})
    ring.submit(*x);
  while (order.size() < 3) {
    BOOST_REQUIRE(ring.now() < start + 10s);
    with.on().step(boot_time::max());
    for (auto* x : {&first, &second, &third})
      if (x->ended && std::exchange(x->ended, 0)) {
        order.push_back(x == &first ? 1 : x == &second ? 2 : 3);
        BOOST_TEST(x->result == -ETIME);
        BOOST_TEST((ring.now() >= x->deadline));
      }
  }
  BOOST_TEST((order == std::vector<int>{1, 2, 3}));
  const auto status = [](reactor& on) -> task<int32_t> { co_return co_await sleep_for(on, 5ms); };
  const auto before = ring.now();
  BOOST_TEST(with.run(status(with.on())) == -ETIME);
  BOOST_TEST((ring.now() >= before + 5ms));
}

FOR_EACH_RING(a_wait_ends_at_its_deadline_and_not_before) {
  auto& ring = with.ring();
  BOOST_TEST(!with.on().step(ring.now()));
  const auto deadline = ring.now() + 20ms;
  while (ring.now() < deadline)
    BOOST_TEST(!with.on().step(deadline));
  BOOST_TEST((ring.now() < deadline + 5s));
}

FOR_EACH_RING(what_waits_can_be_cancelled) {
  auto& ring = with.ring();
  const auto [a, b] = with.sockets();
  const auto listener = with.listen("socket");
  std::byte byte{};
  const iovec vector{&byte, 1};
  auto timeout = timeout_at(ring.now() + 1h), far = timeout_at(boot_time::max());
  auto receive = socket_operation(ring_op::receive, a, vector);
  single accept;
  accept.op = ring_op::accept;
  accept.fd = listener;
  const auto all = {&timeout, &far, &receive, &accept};
  // Once with the ring long enough to be waiting, once at once.
  for (auto rounds : {5, 0}) {
    for (auto* x : all) {
      x->ended = 0;
      ring.submit(*x);
    }
    for (auto i = 0; i < rounds; ++i)
      with.on().step(ring.now() + 1ms);
    for (auto* x : all) {
      BOOST_TEST(x->ended == 0);
      ring.cancel(*x);
      BOOST_TEST(x->ended == 0); // never within the call
    }
    BOOST_TEST(with.run_until([&] { return std::all_of(all.begin(), all.end(), [](auto* x) { return x->ended; }); }));
    for (auto* x : all)
      BOOST_TEST(x->result == -ECANCELED);
  }
  // The same memory again: the old cancellation must not hit it.
  receive.ended = 0;
  ring.submit(receive);
  auto send = socket_operation(ring_op::send, b, vector);
  ring.submit(send);
  BOOST_TEST(with.run_until([&] { return receive.ended && send.ended; }));
  BOOST_TEST(receive.result == 1);
  for (auto fd : {a, b, listener})
    with.close(fd);
}

static void check_overflow(harness& with) {
  auto& ring = with.ring();
  const auto fd = with.run(open_file(ring, with.path("a"), fresh));
  const auto bytes = pattern(4096, 5);
  with.run(write_fully(ring, fd, 0, as_const(bytes)));
  constexpr size_t count = 3000;
  std::vector<single> operations(count), timeouts(count);
  std::vector<uint16_t> values(count);
  std::vector<iovec> vectors(count);
  for (size_t i = 0; i < count; ++i) {
    vectors[i] = {&values[i], 2};
    operations[i].op = ring_op::read;
    operations[i].fd = fd;
    operations[i].vectors = &vectors[i];
    operations[i].vector_count = 1;
    operations[i].offset = i;
    ring.submit(operations[i]);
    timeouts[i] = timeout_at(boot_time::max());
    ring.submit(timeouts[i]);
  }
  // Wherever each of them is by now: in the queue or before it.
  for (auto& x : timeouts)
    ring.cancel(x);
  const auto ended = [](const auto& x) { return x.ended > 0; };
  BOOST_TEST(with.run_until([&] {
    return std::all_of(operations.begin(), operations.end(), ended) &&
           std::all_of(timeouts.begin(), timeouts.end(), ended);
  }));
  size_t right = 0, cancelled = 0;
  for (size_t i = 0; i < count; ++i) {
    right += operations[i].ended == 1 && operations[i].result == 2 && std::memcmp(&values[i], &bytes[i], 2) == 0;
    cancelled += timeouts[i].ended == 1 && timeouts[i].result == -ECANCELED;
  }
  BOOST_TEST(right == count);
  BOOST_TEST(cancelled == count);
  with.run(close_file(ring, fd));
}

BOOST_DATA_TEST_CASE(more_operations_than_the_queue_holds_all_end_once, boost::unit_test::data::make(kinds), kind) {
  harness with{kind, 8};
  if (!with.missing.empty())
    return;
  check_overflow(with);
}

FOR_EACH_RING(operations_submitted_by_completions_go_on) {
  struct chain : ring_operation {
    varve::ring* on = nullptr;
    int left = 1000;
  } x;
  x.on = &with.ring();
  x.op = ring_op::timeout;
  x.complete = [](ring_operation& y) {
    auto& self = static_cast<chain&>(y);
    if (--self.left > 0)
      self.on->submit(self);
  };
  with.ring().submit(x);
  BOOST_TEST(with.run_until([&] { return x.left == 0; }));
}

FOR_EACH_RING(a_wake_from_another_thread_ends_a_wait) {
  auto& on = with.on();
  std::atomic<int> ran = 0;
  constexpr auto count = 20'000;
  std::thread other([&] {
    for (auto i = 0; i < count; ++i)
      on.post([&ran] { ++ran; });
  });
  if (with.simulated())
    other.join(); // its wait does not sleep
  BOOST_TEST(with.run_until([&] { return ran == count; }));
  if (!with.simulated())
    other.join();
  // One at a time, into a ring that sleeps.
  if (with.simulated())
    return;
  for (auto i = 0; i < 50; ++i) {
    std::thread late([&] { on.post([&ran] { ++ran; }); });
    while (ran != count + i + 1)
      on.step(boot_time::max());
    late.join();
  }
}

FOR_EACH_RING(posts_run_in_order_and_never_within_the_call) {
  auto& on = with.on();
  std::string order;
  on.post([&] {
    order += "a";
    on.post([&] { order += "c"; });
    order += "b";
  });
  BOOST_TEST(order.empty());
  BOOST_TEST(on.step(boot_time::max()));
  BOOST_TEST(order == "ab");
  BOOST_TEST(on.step(boot_time::max())); // did not sleep: there was mail
  BOOST_TEST(order == "abc");
}

BOOST_AUTO_TEST_CASE(a_reactor_runs_on_its_own_thread_until_it_is_stopped) {
  for (std::string kind : {"io_uring", "threads"}) {
    harness with{kind};
    if (!with.missing.empty())
      continue;
    auto& on = with.on();
    std::thread thread([&] { on.run(); });
    std::atomic<int> ran = 0;
    std::thread::id where;
    on.post([&] {
      where = std::this_thread::get_id();
      ++ran;
    });
    const auto expected = thread.get_id();
    on.post([&] { ++ran; });
    on.stop();
    thread.join();
    BOOST_TEST(ran == 2); // what was posted before the stop was run
    BOOST_TEST((where == expected));
    on.run(); // stopped once and for all: returns at once
  }
}

BOOST_AUTO_TEST_CASE(a_ring_ends_with_operations_in_flight) {
  for (std::string kind : {"io_uring", "threads", "simulated"})
    for (auto own_thread : {false, true}) {
      harness with{kind};
      if (!with.missing.empty() || (own_thread && with.simulated()))
        continue;
      const auto [a, b] = with.sockets();
      std::byte byte{};
      const iovec vector{&byte, 1};
      auto receive = socket_operation(ring_op::receive, a, vector);
      auto timeout = timeout_at(with.ring().now() + 1h);
      const auto use = [&] {
        with.ring().submit(receive);
        with.ring().submit(timeout);
        with.on().step(with.ring().now() + 1ms);
      };
      if (own_thread)
        std::thread(use).join();
      else
        use();
      with.forget_ring();
      // Nobody writes where the operation pointed to.
      if (!with.simulated())
        BOOST_TEST(::send(b, "x", 1, MSG_NOSIGNAL) == 1);
      std::this_thread::sleep_for(5ms);
      BOOST_TEST((byte == std::byte{0}));
      BOOST_TEST(receive.ended + timeout.ended == 0);
      with.close(a);
      with.close(b);
    }
}

BOOST_AUTO_TEST_CASE(the_kind_of_ring_is_chosen_and_a_refusal_is_told) {
  ring_options options;
  options.kind = ring_kind::threads;
  auto threads = make_ring(options);
  BOOST_TEST(threads.ring->name() == "threads");
  BOOST_TEST(threads.refusal.empty());
  auto automatic = make_ring({});
  BOOST_REQUIRE(automatic.ring);
  BOOST_TEST(automatic.refusal.empty() == (std::string{automatic.ring->name()} == "io_uring"));
  // More entries than any kernel gives, without room for rounding down: refused, or given with fewer.
  options.kind = ring_kind::io_uring;
  options.entries = 0;
  auto refused = make_ring(options);
  BOOST_TEST(!refused.ring);
  BOOST_TEST(!refused.refusal.empty());
  options.kind = ring_kind::automatic;
  auto fallen_back = make_ring(options);
  BOOST_REQUIRE(fallen_back.ring);
  BOOST_TEST(fallen_back.ring->name() == "threads");
  BOOST_TEST(!fallen_back.refusal.empty());
}
