// On a real device: run in a virtual machine with a software one by tests/system/rdma.py. Two ports in one process,
// each stepped in turn, or two processes.

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rdma/buffer.hpp"
#include "rdma/checksum.hpp"
#include "rdma/verbs_port.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 20s;

/// Of this machine's device.
sockaddr_in here(uint16_t port) {
  sockaddr_in x{};
  x.sin_family = AF_INET;
  x.sin_port = htons(port);
  const auto* address = std::getenv("RDMA_VM_ADDR");
  BOOST_REQUIRE_MESSAGE(address && ::inet_pton(AF_INET, address, &x.sin_addr) == 1,
                        "RDMA_VM_ADDR is to name the address of an RDMA device");
  return x;
}
const sockaddr* any(const sockaddr_in& x) {
  return reinterpret_cast<const sockaddr*>(&x);
}

std::span<const std::byte> bytes_of(std::string_view x) {
  return std::as_bytes(std::span{x});
}
std::string text_of(std::span<const std::byte> x) {
  return {reinterpret_cast<const char*>(x.data()), x.size()};
}

/// One end, and what it has been told.
struct end final : verbs_link::user {
  std::unique_ptr<verbs_link> link;
  bool up = false;
  std::optional<std::string> over;
  std::vector<std::string> came;
  std::function<void(std::span<const std::byte>)> on_message;
  bool destroys = false;

  void connected(verbs_link&) override { up = true; }
  void received(verbs_link&, std::span<const std::byte> message) override {
    came.push_back(text_of(message));
    if (on_message)
      on_message(message);
  }
  void ended(verbs_link&, const std::string& why) override {
    over = why;
    if (destroys)
      link.reset();
  }
};

/// A write that notes how it went.
struct noted_write : verbs_write {
  bool done = false;
  noted_write() {
    complete = [](verbs_write& x) { static_cast<noted_write&>(x).done = true; };
  }
};

std::unique_ptr<verbs_port> open_port() {
  std::string problem;
  auto port = verbs_port::open(problem);
  BOOST_REQUIRE_MESSAGE(port, problem);
  return port;
}

struct two_ends {
  std::unique_ptr<verbs_port> server = open_port(), client = open_port();
  uint16_t number = 0;
  std::string greeted;
  verbs_options options;
  bool accepts = true;
  end a, b; // a at the client, b at the server
  std::list<end> more;

  two_ends() {
    std::string problem;
    const auto at = here(0);
    number = server->listen(
      any(at),
      [this](verbs_request& x) {
        greeted = text_of(x.greeting()).c_str();
        auto& to = b.link ? more.emplace_back() : b;
        std::string problem;
        if (accepts)
          to.link = x.accept(to, options, problem);
        BOOST_TEST(problem == "");
      },
      problem);
    BOOST_REQUIRE_MESSAGE(number != 0, problem);
  }

  std::unique_ptr<verbs_link> begin(end& of, std::string_view greeting = "hello") {
    std::string problem;
    const auto at = here(number);
    auto link = client->connect(any(at), bytes_of(greeting), of, options, problem);
    BOOST_REQUIRE_MESSAGE(link, problem);
    return link;
  }

  void connect() {
    a.link = begin(a);
    wait([this] { return a.up && b.up; });
  }

  template <class F>
  bool wait_for(std::chrono::nanoseconds time, F f) {
    for (const auto until = std::chrono::steady_clock::now() + time; !f();) {
      if (std::chrono::steady_clock::now() >= until)
        return false;
      pollfd fds[] = {{server->descriptor(), POLLIN, 0}, {client->descriptor(), POLLIN, 0}};
      ::poll(fds, 2, 10);
      server->step();
      client->step();
    }
    return true;
  }
  template <class F>
  void wait(F f) {
    BOOST_REQUIRE_MESSAGE(wait_for(patience, f), "nothing happens");
  }
};

buffer noise(size_t size, uint64_t seed) {
  buffer x{size};
  std::mt19937_64 random{seed};
  for (size_t i = 0; i + 8 <= x.size(); i += 8) {
    const auto word = random();
    std::memcpy(x.data() + i, &word, 8);
  }
  return x;
}

verbs_region must(verbs_link& on, std::span<std::byte> memory, verbs_access access) {
  std::error_code refused;
  auto x = on.register_memory(memory, access, refused);
  BOOST_REQUIRE_MESSAGE(!x.empty(), refused.message());
  return x;
}

} // namespace

BOOST_AUTO_TEST_CASE(there_is_a_device) {
  BOOST_TEST(verbs_port::available());
}

BOOST_FIXTURE_TEST_CASE(messages_come_in_order_both_ways, two_ends) {
  connect();
  BOOST_TEST(greeted == "hello");
  BOOST_TEST(a.link->device() == b.link->device());
  std::vector<std::string> sent;
  for (size_t i = 0; i < 500; ++i) {
    const auto size = i % 3 == 0 ? i + 1 : i % 3 == 1 ? options.message_bytes_max : options.message_bytes_max - i;
    sent.push_back(std::string(size, static_cast<char>('a' + i % 26)));
    for (auto* x : {&a, &b}) {
      // Its end takes no more until some have arrived.
      wait([&] { return x->link->send(bytes_of(sent.back())); });
    }
  }
  wait([&] { return a.came.size() == sent.size() && b.came.size() == sent.size(); });
  BOOST_TEST((a.came == sent));
  BOOST_TEST((b.came == sent));
}

BOOST_FIXTURE_TEST_CASE(no_more_messages_than_agreed_are_under_way, two_ends) {
  connect();
  for (uint32_t i = 0; i < options.messages_max; ++i)
    BOOST_TEST(a.link->send(bytes_of("x")));
  BOOST_TEST(!a.link->send(bytes_of("one more")));
  wait([&] { return b.came.size() == options.messages_max; });
  wait([&] { return a.link->send(bytes_of("now")); });
  wait([&] { return b.came.size() == options.messages_max + 1; });
  BOOST_TEST(b.came.back() == "now");
}

BOOST_FIXTURE_TEST_CASE(what_is_written_is_there_before_a_message_sent_after_it, two_ends) {
  connect();
  constexpr size_t size = 256u << 10;
  auto from = noise(size, 1);
  buffer to{size};
  auto source = must(*a.link, from.bytes(), verbs_access::local);
  auto landing = must(*b.link, to.bytes(), verbs_access::peer_writes);
  size_t right = 0;
  constexpr size_t rounds = 100;
  uint32_t expected = 0;
  b.on_message = [&](auto) { right += crc32c(to.bytes()) == expected; };
  for (size_t i = 0; i < rounds; ++i) {
    from.data()[i * 64] ^= std::byte{1};
    expected = crc32c(from.bytes());
    noted_write x;
    x.from = from.bytes();
    x.of = &source;
    x.to = landing.remote();
    a.link->write(x);
    BOOST_TEST(a.link->send(bytes_of("look")));
    a.link->flush();
    wait([&] { return x.done && b.came.size() == i + 1; });
    BOOST_TEST(!x.status);
  }
  BOOST_TEST(right == rounds);
}

BOOST_FIXTURE_TEST_CASE(writes_of_all_sizes_land_where_they_belong, two_ends) {
  connect();
  // The largest is more than one work request of the software device.
  constexpr size_t most = 20u << 20;
  auto from = noise(most, 2);
  buffer to{most};
  auto source = must(*a.link, from.bytes(), verbs_access::local);
  auto landing = must(*b.link, to.bytes(), verbs_access::peer_writes);
  std::mt19937_64 random{3};
  for (size_t size : {size_t{1}, size_t{511}, size_t{4096}, size_t{4097}, size_t{1} << 20, size_t{9} << 20, most}) {
    std::memset(to.data(), 0, most);
    const auto at = random() % (most - size + 1);
    const auto begin = random() % (most - size + 1);
    noted_write x;
    x.from = from.bytes().subspan(begin, size);
    x.of = &source;
    x.to = landing.remote();
    x.to_offset = at;
    a.link->write(x);
    a.link->flush();
    wait([&] { return x.done; });
    BOOST_TEST(x.status.message() == std::error_code{}.message());
    BOOST_TEST(std::memcmp(to.data() + at, from.data() + begin, size) == 0);
    const auto outside = [&](size_t i) { return i < at || i >= at + size; };
    size_t touched = 0;
    for (size_t i = 0; i < most; ++i)
      touched += outside(i) && to.data()[i] != std::byte{0};
    BOOST_TEST(touched == 0);
  }
}

BOOST_FIXTURE_TEST_CASE(many_writes_are_rung_for_together_and_told_of_seldom, two_ends) {
  connect();
  constexpr size_t block = 4096, count = 500;
  auto from = noise(block * count, 4);
  buffer to{block * count};
  auto source = must(*a.link, from.bytes(), verbs_access::local);
  auto landing = must(*b.link, to.bytes(), verbs_access::peer_writes);
  std::vector<noted_write> all(count);
  const auto before = a.link->counters();
  for (size_t i = 0; i < count; ++i) {
    all[i].from = from.bytes().subspan(i * block, block);
    all[i].of = &source;
    all[i].to = landing.remote();
    all[i].to_offset = i * block;
    a.link->write(all[i]);
  }
  BOOST_TEST(a.link->counters().doorbells == before.doorbells);
  wait([&] { return std::all_of(all.begin(), all.end(), [](auto& x) { return x.done; }); });
  for (auto& x : all)
    BOOST_TEST(!x.status);
  BOOST_TEST(crc32c(to.bytes()) == crc32c(from.bytes()));
  const auto after = a.link->counters();
  BOOST_TEST(after.writes - before.writes == count);
  BOOST_TEST(after.written_bytes - before.written_bytes == block * count);
  BOOST_TEST(after.doorbells - before.doorbells < count / 4);
  BOOST_TEST(after.signals - before.signals < count / 2);
}

// -- what a peer cannot do

namespace {

/// Writes to `to`, which is not allowed; what the write says.
std::error_code refused_write(two_ends& x, end& from, const remote_memory& to, size_t size = 4096) {
  auto bytes = noise(size, 5);
  auto source = must(*from.link, bytes.bytes(), verbs_access::local);
  noted_write w;
  w.from = bytes.bytes().first(size);
  w.of = &source;
  w.to = to;
  from.link->write(w);
  from.link->flush();
  x.wait([&] { return w.done; });
  return w.status;
}

bool untouched(const buffer& x) {
  return std::all_of(x.bytes().begin(), x.bytes().end(), [](auto y) { return y == std::byte{0x11}; });
}

struct guarded_ends : two_ends {
  buffer target{64u << 10};

  guarded_ends() {
    connect();
    std::memset(target.data(), 0x11, target.size());
  }
  /// Both ends know, and nothing was written.
  void check_refused(std::error_code status) {
    BOOST_TEST((status == std::errc::permission_denied), status.message());
    wait([this] { return a.over.has_value() && b.over.has_value(); });
    BOOST_TEST(untouched(target));
  }
};

} // namespace

BOOST_FIXTURE_TEST_CASE(a_key_whose_registration_has_ended_is_refused, guarded_ends) {
  auto landing = must(*b.link, target.bytes(), verbs_access::peer_writes);
  const auto told = landing.remote();
  landing = {};
  check_refused(refused_write(*this, a, told));
}

BOOST_FIXTURE_TEST_CASE(memory_that_was_registered_for_this_end_alone_is_refused, guarded_ends) {
  auto own = must(*b.link, target.bytes(), verbs_access::local);
  check_refused(refused_write(*this, a, own.remote()));
}

BOOST_FIXTURE_TEST_CASE(what_lies_beyond_a_region_is_refused, guarded_ends) {
  auto landing = must(*b.link, target.bytes().first(8192), verbs_access::peer_writes);
  auto told = landing.remote();
  told.address += 4096;
  check_refused(refused_write(*this, a, told, 8192));
}

BOOST_FIXTURE_TEST_CASE(what_was_registered_for_another_peer_is_refused, guarded_ends) {
  end other;
  other.link = begin(other, "other");
  wait([&] { return other.up && !more.empty() && more.front().up; });
  auto landing = must(*b.link, target.bytes(), verbs_access::peer_writes);
  const auto status = refused_write(*this, other, landing.remote());
  BOOST_TEST((status == std::errc::permission_denied), status.message());
  wait([&] { return other.over && more.front().over; });
  BOOST_TEST(untouched(target));
  // The one it is for does not notice.
  auto from = noise(4096, 6);
  auto source = must(*a.link, from.bytes(), verbs_access::local);
  noted_write x;
  x.from = from.bytes();
  x.of = &source;
  x.to = landing.remote();
  a.link->write(x);
  wait([&] { return x.done; });
  BOOST_TEST(!x.status);
  BOOST_TEST(std::memcmp(target.data(), from.data(), 4096) == 0);
}

BOOST_FIXTURE_TEST_CASE(a_write_that_does_not_fit_is_not_begun, guarded_ends) {
  auto from = noise(8192, 7);
  auto source = must(*a.link, from.bytes(), verbs_access::local);
  auto landing = must(*b.link, target.bytes().first(4096), verbs_access::peer_writes);
  auto begin = [&](std::span<const std::byte> bytes, uint64_t offset) {
    noted_write x;
    x.from = bytes;
    x.of = &source;
    x.to = landing.remote();
    x.to_offset = offset;
    a.link->write(x);
    BOOST_TEST(x.done); // already
    return x.status;
  };
  BOOST_TEST((begin(from.bytes(), 0) == std::errc::invalid_argument));
  BOOST_TEST((begin(from.bytes().first(4096), 1) == std::errc::invalid_argument));
  BOOST_TEST((begin(from.bytes().first(1), ~0ull) == std::errc::invalid_argument));
  // Nor one of memory that was not registered.
  BOOST_TEST((begin(target.bytes().first(16), 0) == std::errc::invalid_argument));
  wait_for(100ms, [] { return false; });
  BOOST_TEST(a.link->connected());
  BOOST_TEST(untouched(target));
}

BOOST_FIXTURE_TEST_CASE(a_message_longer_than_the_other_end_takes_ends_the_link, two_ends) {
  options.message_bytes_max = 8192;
  a.link = begin(a);
  options.message_bytes_max = 4096; // of the server
  wait([&] { return a.up && b.up; });
  BOOST_TEST(a.link->send(bytes_of(std::string(8192, 'x'))));
  wait([&] { return a.over && b.over; });
  BOOST_TEST(b.came.empty());
}

// -- beginnings and ends

BOOST_FIXTURE_TEST_CASE(who_is_not_accepted_hears_so, two_ends) {
  accepts = false;
  a.link = begin(a, "stranger");
  wait([&] { return a.over.has_value(); });
  BOOST_TEST(*a.over == "refused");
  BOOST_TEST(!a.up);
  BOOST_TEST(greeted == "stranger");
}

BOOST_FIXTURE_TEST_CASE(nobody_listens_there, two_ends) {
  number = static_cast<uint16_t>(number == 65535 ? 1024 : number + 1);
  a.link = begin(a);
  wait([&] { return a.over.has_value(); });
  BOOST_TEST(!a.up);
}

BOOST_FIXTURE_TEST_CASE(an_address_that_no_device_reaches_is_said_to_be, two_ends) {
  auto far = here(4711);
  ::inet_pton(AF_INET, "203.0.113.7", &far.sin_addr);
  std::string problem;
  a.link = client->connect(any(far), {}, a, options, problem);
  if (a.link)
    wait([&] { return a.over.has_value(); });
  BOOST_TEST((a.over || problem.find("203.0.113.7:4711") != std::string::npos), problem);
  BOOST_TEST(!a.up);
}

BOOST_FIXTURE_TEST_CASE(the_other_end_is_told_of_the_end, two_ends) {
  connect();
  b.destroys = true;
  a.link->end("enough");
  BOOST_TEST(*a.over == "enough");
  BOOST_TEST(!a.link->send(bytes_of("late")));
  wait([&] { return b.over.has_value(); });
  BOOST_TEST(!b.link);
}

BOOST_FIXTURE_TEST_CASE(an_end_completes_what_was_begun, two_ends) {
  connect();
  auto from = noise(4u << 20, 8);
  buffer to{4u << 20};
  auto source = must(*a.link, from.bytes(), verbs_access::local);
  auto landing = must(*b.link, to.bytes(), verbs_access::peer_writes);
  std::vector<noted_write> all(200);
  for (auto& x : all) {
    x.from = from.bytes();
    x.of = &source;
    x.to = landing.remote();
    a.link->write(x);
  }
  a.link->flush();
  const auto early = std::count_if(all.begin(), all.end(), [](auto& x) { return x.done; });
  BOOST_TEST(early < 200);
  a.link->end("enough");
  for (auto& x : all) {
    BOOST_TEST(x.done);
    BOOST_TEST((!x.status || x.status == std::errc::operation_canceled));
  }
  // Nothing of it is on its way any more: the memory is free for others.
  std::memset(from.data(), 0x22, from.size());
  const auto landed = crc32c(to.bytes());
  wait_for(200ms, [] { return false; });
  BOOST_TEST(crc32c(to.bytes()) == landed);
  BOOST_TEST(std::count(to.bytes().begin(), to.bytes().end(), std::byte{0x22}) <
             static_cast<ptrdiff_t>(to.size() / 100));
}

BOOST_FIXTURE_TEST_CASE(what_was_said_before_hanging_up_is_heard, two_ends) {
  connect();
  for (int i = 0; i < 10; ++i)
    BOOST_TEST(a.link->send(bytes_of(std::to_string(i))));
  a.link->flush();
  // Its device has all of it acknowledged before it hangs up; the other end does not look until then.
  const auto until = std::chrono::steady_clock::now() + patience;
  while (a.link->counters().signals == 0 || std::chrono::steady_clock::now() < until - patience + 200ms)
    client->step();
  a.link->end("said all");
  std::this_thread::sleep_for(200ms);
  wait([&] { return b.over.has_value(); });
  BOOST_TEST(b.came.size() == 10);
}

BOOST_FIXTURE_TEST_CASE(more_messages_than_one_look_takes_all_come, two_ends) {
  options.messages_max = 3000;
  options.message_bytes_max = 64;
  connect();
  for (uint32_t i = 0; i < options.messages_max; ++i)
    BOOST_TEST(a.link->send(bytes_of(std::to_string(i))));
  a.link->flush();
  const auto began = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() < began + 1s)
    client->step();
  wait([&] { return b.came.size() == options.messages_max; });
  BOOST_TEST(b.came.back() == std::to_string(options.messages_max - 1));
}

BOOST_FIXTURE_TEST_CASE(a_key_ends_when_another_region_takes_its_place, guarded_ends) {
  auto landing = must(*b.link, target.bytes(), verbs_access::peer_writes);
  const auto told = landing.remote();
  buffer next{4096};
  auto fresh = must(*b.link, next.bytes(), verbs_access::peer_writes);
  landing = std::move(fresh);
  check_refused(refused_write(*this, a, told));
}

namespace {

/// A peer that does by verbs what verbs_link never does.
struct odd_end {
  rdma_event_channel* channel = ::rdma_create_event_channel();
  rdma_cm_id* id = nullptr;
  ibv_pd* domain = nullptr;
  ibv_cq* queue = nullptr;
  ibv_mr* registered = nullptr;
  buffer memory{64u << 10};
  bool up = false, over = false;

  explicit odd_end(const sockaddr_in& to) {
    BOOST_REQUIRE(channel && ::rdma_create_id(channel, &id, nullptr, RDMA_PS_TCP) == 0);
    ::fcntl(channel->fd, F_SETFL, O_NONBLOCK);
    BOOST_REQUIRE(::rdma_resolve_addr(id, nullptr, const_cast<sockaddr*>(any(to)), 2000) == 0);
  }
  ~odd_end() {
    if (id->qp)
      ::rdma_destroy_qp(id);
    if (registered)
      ::ibv_dereg_mr(registered);
    if (queue)
      ::ibv_destroy_cq(queue);
    if (domain)
      ::ibv_dealloc_pd(domain);
    ::rdma_destroy_id(id);
    ::rdma_destroy_event_channel(channel);
  }
  void step(uint8_t rnr_retries) {
    rdma_cm_event* event = nullptr;
    if (::rdma_get_cm_event(channel, &event) != 0)
      return;
    const auto what = event->event;
    ::rdma_ack_cm_event(event);
    if (what == RDMA_CM_EVENT_ADDR_RESOLVED) {
      BOOST_REQUIRE(::rdma_resolve_route(id, 2000) == 0);
    } else if (what == RDMA_CM_EVENT_ROUTE_RESOLVED) {
      domain = ::ibv_alloc_pd(id->verbs);
      queue = ::ibv_create_cq(id->verbs, 16, nullptr, nullptr, 0);
      ibv_qp_init_attr how{};
      how.send_cq = how.recv_cq = queue;
      how.qp_type = IBV_QPT_RC;
      how.cap.max_send_wr = how.cap.max_recv_wr = 8;
      how.cap.max_send_sge = how.cap.max_recv_sge = 1;
      BOOST_REQUIRE(::rdma_create_qp(id, domain, &how) == 0);
      constexpr int local = IBV_ACCESS_LOCAL_WRITE;
      registered = ::ibv_reg_mr(domain, memory.data(), memory.size(), local);
      rdma_conn_param with{};
      with.rnr_retry_count = rnr_retries;
      with.retry_count = 7;
      BOOST_REQUIRE(::rdma_connect(id, &with) == 0);
    } else if (what == RDMA_CM_EVENT_ESTABLISHED) {
      up = true;
    } else {
      over = true;
    }
  }
  void post(ibv_wr_opcode op, uint32_t bytes, const remote_memory& to = {}) {
    ibv_sge where{reinterpret_cast<uint64_t>(memory.data()), bytes, registered->lkey};
    ibv_send_wr work{}, *bad = nullptr;
    work.opcode = op;
    work.sg_list = &where;
    work.num_sge = bytes > 0 ? 1 : 0;
    work.send_flags = IBV_SEND_SIGNALED;
    work.wr.rdma.remote_addr = to.address;
    work.wr.rdma.rkey = to.key;
    BOOST_REQUIRE(::ibv_post_send(id->qp, &work, &bad) == 0);
  }
};

} // namespace

BOOST_FIXTURE_TEST_CASE(what_is_no_message_ends_the_link_unheard, two_ends) {
  buffer target{64u << 10};
  for (auto op : {IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND}) {
    odd_end odd{here(number)};
    wait([&] { return odd.step(5), odd.up && b.up; });
    auto landing = must(*b.link, target.bytes(), verbs_access::peer_writes);
    // More than a slot has room for, and nothing at all.
    odd.post(op, op == IBV_WR_SEND ? 0 : 32u << 10, landing.remote());
    wait([&] { return b.over.has_value(); });
    BOOST_TEST(*b.over == "what came is no message");
    BOOST_TEST(b.came.empty());
    landing = {};
    b.link.reset();
    b.up = false;
    b.over.reset();
  }
}

BOOST_FIXTURE_TEST_CASE(a_peer_that_would_have_this_end_wait_for_ever_is_refused, two_ends) {
  odd_end odd{here(number)};
  wait([&] { return odd.step(7), odd.over; });
  BOOST_TEST(!odd.up);
  BOOST_TEST(!b.link);
}

BOOST_FIXTURE_TEST_CASE(an_end_from_within_a_message_comes_after_it, two_ends) {
  connect();
  b.on_message = [&](auto) {
    b.link->end("heard enough");
    BOOST_TEST(!b.over.has_value()); // it is not told in the middle of a step
  };
  BOOST_TEST(a.link->send(bytes_of("one")));
  BOOST_TEST(a.link->send(bytes_of("two")));
  wait([&] { return a.over && b.over; });
  BOOST_TEST(b.came.size() == 1);
  BOOST_TEST(*b.over == "heard enough");
}

/// The other process of the test below, which starts it: connects, tells where it may be written to, and stays.
BOOST_AUTO_TEST_CASE(another_process, *boost::unit_test::disabled()) {
  auto port = open_port();
  end mine;
  std::string problem;
  const auto at = here(static_cast<uint16_t>(std::atoi(std::getenv("VERBS_TEST_PORT"))));
  mine.link = port->connect(any(at), bytes_of("child"), mine, {}, problem);
  BOOST_REQUIRE_MESSAGE(mine.link, problem);
  buffer memory{1u << 20};
  verbs_region landing;
  while (!mine.over) {
    pollfd fd{port->descriptor(), POLLIN, 0};
    ::poll(&fd, 1, 10);
    port->step();
    if (mine.up && landing.empty()) {
      landing = must(*mine.link, memory.bytes(), verbs_access::peer_writes);
      const auto told = landing.remote();
      mine.link->send(std::as_bytes(std::span{&told, 1}));
    }
  }
}

BOOST_FIXTURE_TEST_CASE(a_killed_process_is_noticed_and_what_it_did_not_take_fails, two_ends) {
  const auto child = ::fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    // A new program: this one's devices are not for a fork of it.
    ::setenv("VERBS_TEST_PORT", std::to_string(number).c_str(), 1);
    ::execl("/proc/self/exe", "another_process", "--run_test=another_process", nullptr);
    ::_exit(127);
  }
  remote_memory told;
  b.on_message = [&](std::span<const std::byte> x) {
    BOOST_REQUIRE(x.size() == sizeof told);
    std::memcpy(&told, x.data(), sizeof told);
  };
  wait([&] { return told.bytes > 0; });
  auto from = noise(1u << 20, 9);
  auto source = must(*b.link, from.bytes(), verbs_access::local);
  auto write_all = [&] {
    auto all = std::make_unique<std::vector<noted_write>>(100);
    for (auto& x : *all) {
      x.from = from.bytes();
      x.of = &source;
      x.to = told;
      b.link->write(x);
    }
    b.link->flush();
    return all;
  };
  auto before = write_all();
  wait([&] { return std::all_of(before->begin(), before->end(), [](auto& x) { return x.done; }); });
  for (auto& x : *before)
    BOOST_TEST(!x.status);
  auto during = write_all();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  wait([&] { return b.over.has_value(); });
  for (auto& x : *during)
    BOOST_TEST(x.done);
  BOOST_TEST(std::any_of(during->begin(), during->end(), [](auto& x) { return bool{x.status}; }));
}
