// Who may open a session, and what becomes of the sessions before it.

#include "tests/runtime/remote/remote_fixture.hpp"

using namespace varve;
using namespace varve::test;

namespace {

/// A client that says exactly what it is told, right or wrong, immediately.
struct raw_client {
  raw_client(remote_fixture& on, const std::string& to = "back") : on(on), fd(on.network.connect(to)) {}
  ~raw_client() { on.network.close(fd); }

  void say(const std::vector<std::byte>& x) {
    for (size_t at = 0; at < x.size();) {
      at += on.network.push(fd, std::span{x}.subspan(at));
      on.world.advance(1ms);
      if (on.network.ended(fd))
        return;
    }
  }
  std::vector<std::byte> hear(size_t bytes, std::chrono::nanoseconds limit = 30s) {
    std::vector<std::byte> result;
    on.world.run_until(
      [&] {
        auto more = on.network.pull(fd, bytes - result.size());
        result.insert(result.end(), more.begin(), more.end());
        return result.size() == bytes || on.network.ended(fd);
      },
      limit);
    return result;
  }
  std::vector<std::byte> hear_frame() {
    auto whole = hear(remote::frame_header_bytes);
    const auto rest = remote::frame_rest_bytes(whole);
    if (!rest)
      return {};
    auto more = hear(*rest);
    whole.insert(whole.end(), more.begin(), more.end());
    return whole;
  }
  bool hung_up(std::chrono::nanoseconds limit = 60s) {
    return on.world.run_until(
      [&] {
        on.network.pull(fd, 65536);
        return on.network.ended(fd);
      },
      limit);
  }
  remote::refusal_reason refused() {
    remote::refusal x;
    auto whole = hear_frame();
    if (remote::kind_of(whole) != remote::frame::refusal || !decode(whole, x))
      return remote::refusal_reason::none;
    heard = x;
    return x.reason;
  }
  /// As far as the welcome, or why not.
  remote::refusal_reason open(const session_key& key, uint64_t incarnation, uint64_t session) {
    remote::hello hello;
    hello.key = key.id;
    hello.incarnation = incarnation;
    hello.session = session;
    said = encode(hello);
    say(said);
    asked = hear_frame();
    remote::proof proof;
    proof.mac = remote::prove(key.secret, remote::prover::client, said, asked, {});
    proved = encode(proof);
    say(proved);
    auto answer = hear_frame();
    remote::refusal no;
    if (remote::kind_of(answer) == remote::frame::welcome)
      return remote::refusal_reason::none;
    return decode(answer, no) ? no.reason : remote::refusal_reason::malformed;
  }

  remote_fixture& on;
  int fd;
  std::vector<std::byte> said, asked, proved;
  remote::refusal heard;
};

} // namespace

BOOST_AUTO_TEST_SUITE(remote_sessions)

BOOST_FIXTURE_TEST_CASE(what_an_old_session_said_never_lands_on_a_newer_write, remote_fixture) {
  make_shard("files", false);
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  // The write is on its way when the client loses the connection, and stays on its way.
  wire.hold();
  auto late = begin_write(0, 4096, 2);
  world.advance(100ms);
  BOOST_TEST(!late->status);
  wire.cut_front();
  auto& old = wire.last();
  // The same client by another way; it sends that write again, and then a newer one.
  new simulated_wire{world, network, "aside", "back"}; // as long as the world
  way = "aside";
  BOOST_TEST(finish(*late));
  BOOST_TEST((*late->status == errc::none));
  BOOST_TEST(client->counters().sent_again == 1u);
  BOOST_TEST((write(0, 4096, 3) == errc::none));
  // Now the old one arrives.
  wire.release();
  world.advance(1s);
  BOOST_TEST(old.up > 4096u);
  BOOST_TEST(stored(0, 4096) == 3);
  BOOST_TEST(read(0, 4096) == 3);
}

BOOST_FIXTURE_TEST_CASE(a_new_session_waits_until_the_old_one_is_drained, remote_fixture) {
  make_shard("files", false);
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  simulated_fault hang;
  hang.op = ring_op::write;
  hang.hang = true;
  server_disk.inject(hang);
  auto stuck = begin_write(0, 4096, 2);
  world.advance(1s);
  const auto sessions_before = counters().sessions;
  wire.cut();
  world.advance(3s);
  // The device still has it: nobody may be told that it has not.
  BOOST_TEST(counters().sessions == sessions_before);
  BOOST_TEST(!client->connected());
  server_disk.release_hung();
  BOOST_TEST(finish(*stuck));
  BOOST_TEST((*stuck->status == errc::none));
  BOOST_TEST(counters().sessions > sessions_before);
  BOOST_TEST(read(0, 4096) == 2);
}

BOOST_FIXTURE_TEST_CASE(a_session_that_cannot_be_drained_in_time_is_refused_and_tried_again, remote_fixture) {
  make_shard("files", false);
  simulated_fault hang;
  hang.op = ring_op::write;
  hang.hang = true;
  server_disk.inject(hang);
  auto stuck = begin_write(0, 4096, 2);
  world.advance(1s);
  wire.cut();
  world.advance(35s); // beyond handshake_time, several times
  BOOST_TEST(!client->connected());
  BOOST_TEST((stuck->status == errc::timed_out)); // request_time
  server_disk.release_hung();
  BOOST_TEST(connect());
  BOOST_TEST((write(0, 4096, 3) == errc::none));
  BOOST_TEST(read(0, 4096) == 3);
}

BOOST_FIXTURE_TEST_CASE(an_older_session_is_refused, remote_fixture) {
  raw_client a{*this};
  BOOST_TEST((a.open(used, 2, 5) == remote::refusal_reason::none));
  raw_client b{*this}, c{*this}, d{*this}, e{*this};
  BOOST_TEST((b.open(used, 2, 5) == remote::refusal_reason::old_session));
  BOOST_TEST((c.open(used, 1, 99) == remote::refusal_reason::old_session));
  BOOST_TEST(!network.ended(a.fd));
  BOOST_TEST((d.open(used, 2, 6) == remote::refusal_reason::none));
  BOOST_TEST(a.hung_up());
  // A newer incarnation begins at 1 again.
  BOOST_TEST((e.open(used, 3, 1) == remote::refusal_reason::none));
  BOOST_TEST(d.hung_up());
  BOOST_TEST(counters().refused_old_session == 2u);
}

BOOST_FIXTURE_TEST_CASE(wrong_expired_unknown_and_withdrawn_keys_open_nothing, remote_fixture) {
  auto wrong = used;
  wrong.secret[3] ^= std::byte{1};
  raw_client a{*this};
  BOOST_TEST((a.open(wrong, 1, 1) == remote::refusal_reason::key));
  auto unknown = used;
  unknown.id = 99;
  raw_client b{*this};
  BOOST_TEST((b.open(unknown, 1, 1) == remote::refusal_reason::key));
  auto expired = make_key(9, 1003);
  expired.expires = world.now() - 1s;
  keys.known[9] = expired;
  raw_client c{*this};
  BOOST_TEST((c.open(expired, 1, 1) == remote::refusal_reason::key));
  BOOST_TEST(counters().refused_key == 3u);
  BOOST_TEST(counters().sessions == 0u);
  raw_client d{*this};
  BOOST_TEST((d.open(used, 1, 1) == remote::refusal_reason::none));
  server().revoke(used.id);
  BOOST_TEST(d.hung_up());
  BOOST_TEST((said("another key") && said("unknown key") && said("expired key") && said("withdrawn")));
}

BOOST_FIXTURE_TEST_CASE(a_key_that_expires_ends_its_session_unless_it_is_given_longer, remote_fixture) {
  make_shard("files", false);
  keys.known[7].expires = world.now() + 10s;
  wire.cut();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  const auto before = counters().sessions;
  world.advance(8s);
  keys.known[7].expires = world.now() + 10s;
  world.advance(5s);
  BOOST_TEST((write(0, 4096, 2) == errc::none));
  BOOST_TEST(counters().sessions == before);
  world.advance(10s);
  auto one = begin_write(0, 4096, 3);
  world.advance(5s);
  BOOST_TEST(!one->status);
  BOOST_TEST(stored(0, 4096) == 2);
  // The control side hands out a new one.
  keys.known[10] = make_key(10, 1001);
  used = keys.known[10];
  BOOST_TEST(finish(*one));
  BOOST_TEST((*one->status == errc::none));
}

BOOST_FIXTURE_TEST_CASE(a_handshake_that_was_overheard_opens_nothing, remote_fixture) {
  raw_client a{*this};
  BOOST_TEST((a.open(used, 1, 1) == remote::refusal_reason::none));
  raw_client b{*this};
  b.say(a.said);
  BOOST_TEST((b.hear_frame() != a.asked)); // another nonce
  b.say(a.proved);
  BOOST_TEST((b.refused() == remote::refusal_reason::key));
  BOOST_TEST(b.hung_up());
  BOOST_TEST(!network.ended(a.fd));
}

BOOST_FIXTURE_TEST_CASE(a_server_without_the_key_is_not_believed, remote_fixture) {
  keys.known[7].secret[0] ^= std::byte{1};
  start_client();
  world.advance(2s);
  BOOST_TEST(!client->connected());
  // And one that welcomes anybody: it has to prove the key, too.
  stop_client();
  auto faked = -1;
  client_options.connect = [this, &faked] {
    auto [mine, theirs] = network.pair();
    faked = theirs;
    return mine;
  };
  start_client();
  world.advance(10ms);
  (void)network.pull(faked, 65536);
  auto asked = encode(remote::challenge{1, 0, {}});
  network.push(faked, asked);
  world.advance(10ms);
  remote::welcome welcome;
  welcome.requests_max = 10;
  welcome.bytes_max = 64 << 20;
  auto answer = encode(welcome);
  network.push(faked, answer);
  world.advance(10ms);
  BOOST_TEST(!client->connected());
  BOOST_TEST(std::count(sessions.begin(), sessions.end(), "the server does not have the key") == 1);
}

BOOST_FIXTURE_TEST_CASE(a_refusal_names_both_sides_versions, remote_fixture) {
  raw_client a{*this};
  remote::hello hello;
  hello.version_min = 7;
  hello.version_max = 9;
  a.say(encode(hello));
  BOOST_TEST((a.refused() == remote::refusal_reason::version));
  BOOST_TEST((a.heard.client_min == 7 && a.heard.client_max == 9 && a.heard.server_min == remote::version_min &&
              a.heard.server_max == remote::version_max));
  BOOST_TEST(a.hung_up());
  BOOST_TEST(said("speaks versions 7 to 9, this server 1 to 1"));
}

BOOST_FIXTURE_TEST_CASE(garbage_and_silence_end_only_their_own_connection, remote_fixture) {
  make_shard("files", false);
  auto& random = world.random();
  for (auto i = 0; i < 50; ++i) {
    raw_client a{*this};
    std::vector<std::byte> bytes(random.between(16, 4000));
    for (auto& b : bytes)
      b = static_cast<std::byte>(random.next());
    a.say(bytes);
    BOOST_TEST(a.hung_up(1s));
  }
  // Right so far, and then nothing; or garbage where requests belong; or a huge one.
  raw_client slow{*this};
  BOOST_TEST(slow.hung_up(11s));
  keys.known[8] = make_key(8, 1002);
  for (auto i = 0u; i < 20; ++i) {
    raw_client a{*this};
    BOOST_REQUIRE((a.open(keys.known[8], 1, i + 1) == remote::refusal_reason::none));
    std::vector<std::byte> bytes(random.between(88, 4000));
    for (auto& b : bytes)
      b = static_cast<std::byte>(random.next());
    a.say(bytes);
    BOOST_TEST(a.hung_up(1s));
  }
  // A request that stops in the middle holds its memory for a while only.
  raw_client half{*this};
  BOOST_REQUIRE((half.open(keys.known[8], 2, 1) == remote::refusal_reason::none));
  remote::request big;
  big.op = remote::op::write;
  big.sequence = 1;
  big.length = remote::payload_bytes_max;
  big.payload = big.length + remote::prefix_bytes(big.op, 0, big.length);
  std::vector<std::byte> header(remote::request_bytes);
  encode(big, header.data());
  half.say(header);
  BOOST_TEST(counters().bytes_now > 8u << 20);
  BOOST_TEST(half.hung_up(31s));
  world.advance(1s);
  BOOST_TEST(counters().bytes_now == 0u);
  // All the while:
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  BOOST_TEST(client->counters().sessions == 1u);
  // Fifty times the same from the same is said once, and again after a while.
  auto times = 0;
  for (auto& line : logged)
    times += line.find("not Varve's protocol") != std::string::npos;
  BOOST_TEST((times >= 1 && times <= 3));
}

BOOST_FIXTURE_TEST_CASE(a_request_said_twice_is_carried_out_once, remote_fixture) {
  make_shard("files", false);
  raw_client a{*this};
  keys.known[8] = make_key(8, 1002);
  BOOST_REQUIRE((a.open(keys.known[8], 1, 1) == remote::refusal_reason::none));
  auto bytes = filled(4096, 4);
  remote::request one;
  one.op = remote::op::write;
  one.id = x->header().id;
  one.generation = x->header().generation;
  one.epoch = epoch{5};
  one.length = 4096;
  one.payload = 4100;
  one.sequence = 1;
  std::vector<std::byte> whole(remote::request_bytes + 4);
  encode(one, whole.data());
  remote::store_sums(0, bytes, whole.data() + remote::request_bytes);
  whole.insert(whole.end(), bytes.begin(), bytes.end());
  a.say(whole);
  remote::reply reply;
  auto answer = a.hear(remote::reply_bytes);
  BOOST_REQUIRE((answer.size() == remote::reply_bytes && decode(answer, reply) == remote::malformed::none));
  BOOST_TEST((reply.status == errc::none && reply.boot == 1));
  BOOST_TEST((write(0, 4096, 5) == errc::none));
  a.say(whole);
  BOOST_TEST(a.hung_up(1s));
  BOOST_TEST(said("out of sequence"));
  BOOST_TEST(stored(0, 4096) == 5);
}

BOOST_FIXTURE_TEST_CASE(credits_are_not_to_be_exceeded, remote_fixture) {
  server_options.requests_max = 3;
  stop_server();
  boot_server();
  make_shard("files", false);
  keys.known[8] = make_key(8, 1002);
  raw_client a{*this};
  BOOST_REQUIRE((a.open(keys.known[8], 1, 1) == remote::refusal_reason::none));
  served->shards->close_gate(*at_server());
  std::vector<std::byte> all;
  for (auto i = 1u; i <= 4; ++i) {
    remote::request one;
    one.op = remote::op::read;
    one.id = x->header().id;
    one.generation = x->header().generation;
    one.epoch = epoch{5};
    one.length = 4096;
    one.sequence = i;
    std::vector<std::byte> header(remote::request_bytes);
    encode(one, header.data());
    all.insert(all.end(), header.begin(), header.end());
  }
  a.say(all);
  BOOST_TEST(a.hung_up(1s));
  BOOST_TEST(said("credits"));
  served->shards->open_gate(*at_server());
}

BOOST_FIXTURE_TEST_CASE(a_client_that_does_not_read_is_bounded_and_then_hung_up_on, remote_fixture) {
  make_shard("files", false);
  BOOST_TEST((write(0, shard_size, 1) == errc::none));
  keys.known[8] = make_key(8, 1002);
  raw_client a{*this};
  BOOST_REQUIRE((a.open(keys.known[8], 1, 1) == remote::refusal_reason::none));
  // As much as its credits allow, and it takes nothing.
  uint64_t cost = 0;
  for (auto i = 1u;; ++i) {
    remote::request one;
    one.op = remote::op::read;
    one.id = x->header().id;
    one.generation = x->header().generation;
    one.epoch = epoch{5};
    one.length = static_cast<uint32_t>(shard_size);
    one.sequence = i;
    if (i > 256 || cost + remote::cost_of(one) > server_options.bytes_max)
      break;
    cost += remote::cost_of(one);
    std::vector<std::byte> header(remote::request_bytes);
    encode(one, header.data());
    for (size_t at = 0; at < header.size();) {
      at += network.push(a.fd, std::span{header}.subspan(at));
      world.advance(1ms);
    }
  }
  world.advance(2s);
  BOOST_TEST(counters().bytes_now > 60u << 20);
  BOOST_TEST(counters().bytes_now <= server_options.bytes_max);
  // Others are served meanwhile.
  BOOST_TEST((write(0, 4096, 2) == errc::none));
  world.advance(30s);
  BOOST_TEST(said("takes no replies"));
  BOOST_TEST(counters().bytes_now == 0u);
}

BOOST_FIXTURE_TEST_CASE(all_connections_together_are_bounded_and_go_on, remote_fixture) {
  server_options.total_bytes_max = 1u << 20;
  stop_server();
  boot_server();
  make_shard("files", false);
  std::vector<std::shared_ptr<pending>> all;
  for (auto i = 0; i < 30; ++i)
    all.push_back(begin_write(0, shard_size, i + 1));
  for (auto& one : all)
    BOOST_TEST((finish(*one) && *one->status == errc::none));
  BOOST_TEST(counters().bytes_now_max <= 1u << 20);
  BOOST_TEST(counters().bytes_now_max > 700u << 10);
  BOOST_TEST(counters().bytes_now == 0u);
}

BOOST_FIXTURE_TEST_CASE(so_many_connections_and_no_more, remote_fixture) {
  server_options.handshakes_max = 3;
  stop_server();
  boot_server();
  std::vector<std::unique_ptr<raw_client>> all;
  for (auto i = 0; i < 6; ++i) {
    all.push_back(std::make_unique<raw_client>(*this));
    world.advance(1ms);
  }
  BOOST_TEST(counters().refused_busy == 3u);
  BOOST_TEST((!network.ended(all[2]->fd) && network.ended(all[3]->fd)));
  world.advance(11s);
  BOOST_TEST(counters().connections_now == 0u);
  BOOST_TEST(connect());
}

BOOST_FIXTURE_TEST_CASE(what_a_crash_may_have_taken_fails_the_flush, remote_fixture) {
  make_shard("files", false);
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  BOOST_TEST((run(x->flush()) == errc::none));
  // Nothing unflushed: another boot is no matter.
  crash_server(true, 2);
  BOOST_TEST(read(0, 4096) == 1);
  BOOST_TEST((run(x->flush()) == errc::none));
  BOOST_TEST((boots == std::vector<std::pair<uint64_t, uint64_t>>{{1, 2}}));
  BOOST_TEST((write(0, 4096, 2) == errc::none));
  crash_server(true, 3);
  // The flush would succeed at the server, which knows nothing of it.
  BOOST_TEST((run(x->flush()) == errc::shard_failed));
  BOOST_TEST((write(4096, 4096, 3) == errc::none));
  BOOST_TEST((run(x->flush()) == errc::shard_failed));
  BOOST_TEST(remote().lost_changes());
}

BOOST_FIXTURE_TEST_CASE(a_process_that_was_killed_loses_nothing_that_was_acknowledged, remote_fixture) {
  make_shard("files", false);
  for (auto i = 0; i < 20; ++i)
    BOOST_TEST((write(static_cast<uint64_t>(i) * 4096, 4096, i + 1) == errc::none));
  auto last = begin_write(0, 4096, 99);
  world.advance(50us);
  crash_server(false, 1); // the same boot of the machine
  BOOST_TEST((finish(*last) && *last->status == errc::none));
  BOOST_TEST(read(0, 4096) == 99);
  for (auto i = 1; i < 20; ++i)
    BOOST_TEST(read(static_cast<uint64_t>(i) * 4096, 4096) == i + 1);
  BOOST_TEST((run(x->flush()) == errc::none));
  BOOST_TEST(server_disk.unsynced_bytes() == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
