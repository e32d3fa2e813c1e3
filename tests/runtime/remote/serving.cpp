#include "tests/runtime/remote/remote_fixture.hpp"

using namespace varve;
using namespace varve::test;

BOOST_AUTO_TEST_SUITE(remote_serving)

BOOST_FIXTURE_TEST_CASE(a_remote_shard_is_read_and_written_like_a_local_one, remote_fixture) {
  for (auto tier : {"files", "memory"}) {
    make_shard(tier);
    BOOST_TEST(read(0, 8192) == 0);
    BOOST_TEST((write(4096, 8192, 7) == errc::none));
    BOOST_TEST((write(100, 50, 9) == errc::none));
    BOOST_TEST(read(4096, 8192) == 7);
    BOOST_TEST(read(100, 50) == 9);
    BOOST_TEST(read(150, 10) == 0);
    BOOST_TEST(stored(4096, 8192, tier) == 7);
    BOOST_TEST(x->dirty());
    BOOST_TEST((run(x->flush()) == errc::none));
    BOOST_TEST(!x->dirty());
    BOOST_TEST((run(x->trim(4096, 4096)) == errc::none));
    BOOST_TEST((run(x->write_zeroes(8192, 100, true)) == errc::none));
    BOOST_TEST(read(4096, 4196) == 0);
    BOOST_TEST(read(8292, 3996) == 7);
    std::vector<shard_extent> extents;
    x->extents(0, shard_size, extents);
    BOOST_REQUIRE(extents.size() == 4u);
    BOOST_TEST((extents[1].offset == 4096u && extents[1].length == 4096u && extents[1].state == block_state::hole));
    BOOST_TEST(x->allocated_bytes() == 2 * block_size);
    BOOST_TEST((run(x->checkpoint()) == errc::none));
    x.reset();
    BOOST_TEST((run(store->remove(header_for(0).id, generation{1})) == errc::none));
    BOOST_TEST(!at_server(tier));
  }
  BOOST_TEST(counters().protocol_errors == 0u);
  BOOST_TEST(counters().bytes_now == 0u);
}

BOOST_FIXTURE_TEST_CASE(requests_of_one_round_travel_together, remote_fixture) {
  make_shard("files", false);
  const auto before = client->counters().batches;
  std::vector<std::shared_ptr<pending>> all;
  for (auto i = 0; i < 32; ++i)
    all.push_back(begin_write(static_cast<uint64_t>(i) * 4096, 4096, i + 1));
  for (auto& one : all)
    BOOST_TEST(finish(*one));
  BOOST_TEST(client->counters().batches - before <= 3u);
  for (auto i = 0; i < 32; ++i)
    BOOST_TEST(read(static_cast<uint64_t>(i) * 4096, 4096) == i + 1);
}

BOOST_FIXTURE_TEST_CASE(more_than_the_credits_wait_their_turn, remote_fixture) {
  server_options.requests_max = 4;
  stop_server();
  boot_server();
  make_shard();
  std::vector<std::shared_ptr<pending>> all;
  for (auto i = 0; i < 40; ++i)
    all.push_back(begin_write(static_cast<uint64_t>(i) * 4096, 4096, i + 1));
  for (auto& one : all)
    BOOST_TEST((finish(*one) && *one->status == errc::none));
  BOOST_TEST(counters().protocol_errors == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_stale_epoch_is_refused_and_counted, remote_fixture) {
  make_shard("files", false);
  for (auto tier : {"files", "memory"}) {
    if (tier == std::string{"memory"}) {
      x.reset();
      store.reset();
      make_shard(tier, false);
    }
    const auto before = counters().refused_stale_epoch;
    BOOST_TEST((write(0, 4096, 1) == errc::none));
    std::optional<errc> raised;
    start(store_result(served->shards->raise_fence(key_of(tier), epoch{6}), raised));
    BOOST_REQUIRE(world.run_until([&] { return raised.has_value(); }));
    BOOST_TEST((write(0, 4096, 2) == errc::stale_epoch));
    std::vector<std::byte> bytes(4096);
    BOOST_TEST((run(x->read(0, bytes)) == errc::stale_epoch));
    BOOST_TEST((run(x->trim(0, 4096)) == errc::stale_epoch));
    BOOST_TEST(counters().refused_stale_epoch == before + 3);
    BOOST_TEST(stored(0, 4096, tier) == 1);
    // With the lease that raised it.
    remote().hold(epoch{6});
    BOOST_TEST((write(0, 4096, 3) == errc::none));
    BOOST_TEST(read(0, 4096) == 3);
  }
}

BOOST_FIXTURE_TEST_CASE(another_generation_a_sealed_and_an_absent_shard_have_moved, remote_fixture) {
  make_shard("files", false);
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  BOOST_TEST((run(x->seal(migration_id{4}, generation{2})) == errc::none));
  BOOST_TEST((x->header().sealed_by == migration_id{4}));
  BOOST_TEST((write(0, 4096, 2) == errc::shard_moved));
  BOOST_TEST((run(x->seal(migration_id{0}, generation{0})) == errc::none));
  BOOST_TEST((write(0, 4096, 3) == errc::none));
  std::optional<errc> removed;
  start(store_result(served->shards->remove(key_of()), removed));
  BOOST_REQUIRE(world.run_until([&] { return removed.has_value(); }));
  BOOST_TEST((write(0, 4096, 2) == errc::shard_moved));
  BOOST_TEST(counters().refused_moved == 2u);
}

BOOST_FIXTURE_TEST_CASE(a_request_waits_at_a_closed_gate, remote_fixture) {
  make_shard();
  auto& shard = *at_server();
  served->shards->close_gate(shard);
  auto one = begin_write(0, 4096, 5);
  world.advance(1s);
  BOOST_TEST(!one->status);
  BOOST_TEST(stored(0, 4096) == 0);
  served->shards->open_gate(shard);
  BOOST_TEST(finish(*one, 10ms)); // told, not at the next tick
  BOOST_TEST((*one->status == errc::none));
}

BOOST_FIXTURE_TEST_CASE(a_gate_that_stays_closed_is_told_of, remote_fixture) {
  server_options.gate_time = 2s;
  stop_server();
  boot_server();
  make_shard();
  served->shards->close_gate(*at_server());
  BOOST_TEST((write(0, 4096, 5) == errc::unavailable));
  served->shards->open_gate(*at_server());
  BOOST_TEST((write(0, 4096, 5) == errc::none));
}

BOOST_FIXTURE_TEST_CASE(a_range_beyond_the_shard_is_refused, remote_fixture) {
  make_shard();
  remote_request y;
  std::vector<std::byte> bytes(4096);
  y.header.op = remote::op::read;
  y.header.id = x->header().id;
  y.header.generation = x->header().generation;
  y.header.epoch = epoch{5};
  y.header.offset = shard_size;
  y.header.length = 4096;
  y.into = bytes;
  auto ask = [&]() -> task<errc> { co_return co_await client->perform(y); };
  BOOST_TEST((run(ask()) == errc::invalid_argument));
}

BOOST_FIXTURE_TEST_CASE(data_keys_make_and_move_nothing, remote_fixture) {
  make_shard();
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  keys.known[8] = make_key(8, 1002, remote_rights::data);
  used = keys.known[8];
  wire.cut();
  BOOST_TEST((write(0, 4096, 2) == errc::none) == false); // with mirror_sums it asks for sums afterwards
  BOOST_TEST(read(0, 4096) == 2);
  BOOST_TEST((run(x->seal(migration_id{4}, generation{2})) == errc::unsupported));
  BOOST_TEST((run(x->raise_fence(epoch{9})) == errc::unsupported));
  auto header = header_for(shard_size, 4);
  BOOST_TEST((run_create(*this, *store, header).status == errc::unsupported));
  BOOST_TEST((run(store->remove(x->header().id, generation{1})) == errc::unsupported));
  BOOST_TEST(at_server());
}

BOOST_FIXTURE_TEST_CASE(a_sink_is_filled_and_completed_from_afar, remote_fixture) {
  start_client();
  remote_store_options options;
  options.as.name = "server/files";
  options.tier = "files";
  options.mirror_sums = true;
  store = make_remote_store(*on, *client, options);
  BOOST_REQUIRE(connect());
  auto header = header_for(shard_size);
  header.incomplete = true;
  header.fence = epoch{5};
  auto opened = run_create(*this, *store, header);
  BOOST_REQUIRE((opened.status == errc::none));
  x = std::move(opened.shard);
  BOOST_TEST(x->header().incomplete);
  auto bytes = filled(4 * 4096, 6);
  block_sums sums;
  sums.states = {block_state::written, block_state::hole, block_state::written, block_state::written};
  for (auto i = 0u; i < 4; ++i)
    sums.crcs.push_back(sums.states[i] == block_state::hole ? 0 : crc32c(std::span{bytes}.subspan(i * 4096, 4096)));
  BOOST_TEST((run(x->write_with_sums(8192, bytes, sums)) == errc::none));
  BOOST_TEST((write(0, 4096, 1) == errc::shard_moved)); // no VM's
  // Only holes: no bytes travel.
  const auto up = wire.last().up;
  block_sums none{{0, 0, 0, 0}, std::vector<block_state>(4, block_state::hole)};
  BOOST_TEST((run(x->write_with_sums(65536, bytes, none)) == errc::none));
  BOOST_TEST(wire.last().up - up < 300u);
  sums.crcs[0] ^= 1;
  BOOST_TEST((run(x->write_with_sums(8192, bytes, sums)) == errc::checksum_mismatch));
  BOOST_TEST(counters().broken_payloads == 3u); // it was sent again, in vain
  BOOST_TEST((run(x->complete(epoch{6})) == errc::none));
  BOOST_TEST((!x->header().incomplete && x->header().fence == epoch{6}));
  BOOST_TEST(x->sums().states.size() == shard_size / block_size);
  BOOST_TEST((x->sums().states == at_server()->shard->sums().states));
  BOOST_TEST((x->sums().crcs == at_server()->shard->sums().crcs));
  std::vector<std::byte> back(4 * 4096);
  block_sums came;
  remote().hold(epoch{5});
  BOOST_TEST((run(x->read_with_sums(8192, back, came)) == errc::stale_epoch));
  remote().hold(epoch{6});
  BOOST_TEST((run(x->read_with_sums(8192, back, came)) == errc::none));
  BOOST_TEST((came.states == sums.states));
  BOOST_TEST((back[0] == std::byte{6} && back[4096] == std::byte{0} && back[8192] == std::byte{6}));
  auto status = errc::device_failed;
  BOOST_TEST(run(x->verify(0, shard_size, status)) == 0u);
  BOOST_TEST((status == errc::none));
}

BOOST_FIXTURE_TEST_CASE(rot_at_the_server_is_an_error_here, remote_fixture) {
  make_shard();
  auto mismatches = 0;
  BOOST_TEST((write(0, 4096, 1) == errc::none));
  BOOST_TEST((run(x->checkpoint()) == errc::none));
  const auto path = "/s/" + server_disk.list("/s").front();
  BOOST_REQUIRE(server_disk.corrupt(path, shard_layout{shard_size}.data_offset + 100));
  std::vector<std::byte> bytes(4096);
  BOOST_TEST((run(x->read(0, bytes)) == errc::checksum_mismatch));
  BOOST_TEST(client->counters().broken_payloads == 0u); // nobody sent it again for that
  (void)mismatches;
}

BOOST_FIXTURE_TEST_CASE(a_garbled_stream_ends_its_connection_only, remote_fixture) {
  client_options.attempts = 10; // or chance decides
  make_shard();
  wire.garble_chance = 0.05;
  for (auto i = 0; i < 200; ++i) {
    const auto at = static_cast<uint64_t>(i % 60) * 4096;
    const auto status = write(at, 4096, i % 250 + 1);
    BOOST_TEST((status == errc::none), to_string(status));
    BOOST_TEST(read(at, 4096) == i % 250 + 1);
  }
  BOOST_TEST(wire.mistreated > 10u);
  BOOST_TEST(counters().protocol_errors + client->counters().protocol_errors + counters().broken_payloads +
               client->counters().broken_payloads >
             5u);
}

BOOST_FIXTURE_TEST_CASE(many_shards_of_both_sides_of_a_shadow_agree, remote_fixture) {
  make_shard();
  shadow_run all{*this, *x, 5};
  all.batches(40, 6);
}

BOOST_AUTO_TEST_SUITE_END()
