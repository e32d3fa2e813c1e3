// A remote tier in a reactor's own table: its port and its moves use it like a local one.

#include "rdma/local_fabric.hpp"
#include "runtime/data_plane/reactor_core.hpp"
#include "tests/runtime/remote/remote_fixture.hpp"

using namespace varve;
using namespace varve::test;

namespace {

struct moving_fixture : remote_fixture {
  static constexpr volume_id volume{7};

  moving_fixture() {
    start_client();
    std::vector<std::unique_ptr<shard_store>> stores;
    shard_store_options mine;
    mine.name = "here";
    stores.push_back(make_memory_store(*on, mine));
    remote_store_options theirs;
    theirs.as.name = "there";
    theirs.tier = "files";
    theirs.mirror_sums = true;
    stores.push_back(make_remote_store(*on, *client, theirs));
    core = std::make_unique<reactor_core>(*on, std::move(stores), std::make_unique<local_fabric>(), budget,
                                          nbd_options{}, move_limits{});
    BOOST_REQUIRE(connect());
    port_options options;
    options.volume = volume;
    options.name = "vm1";
    options.size_bytes = 64 * shard_size;
    options.shard_size = shard_size;
    BOOST_REQUIRE((run(core->open_port(options)) == errc::none));
    auto header = header_for(shard_size, 0);
    header.id.volume = volume;
    header.fence = epoch{5};
    active_shard* made = nullptr;
    BOOST_REQUIRE((run(core->shards().create(0, header, made)) == errc::none));
    route_to("here", 1);
  }
  ~moving_fixture() {
    auto stop = [this]() -> task<void> { (void)co_await core->stop(world.now() + 10s); };
    wait_for(stop());
    core.reset();
  }

  void route_to(const std::string& tier, uint64_t of, epoch fence = epoch{5}) {
    route x;
    x.exists = x.writable = true;
    x.tier = tier;
    x.generation = generation{of};
    x.fence = fence;
    x.valid_until = world.now() + 1h;
    core->port(volume)->set_routes({x});
  }
  struct io : block_request {
    bool done = false;
  };
  errc write_vm(uint64_t offset, size_t length, int value, bool flush = false) {
    auto bytes = filled(length, value);
    io x;
    x.op = flush ? block_op::flush : block_op::write;
    x.offset = offset;
    x.length = length;
    x.payload = bytes;
    x.complete = [](block_request& self) { static_cast<io&>(self).done = true; };
    core->port(volume)->submit(x);
    BOOST_REQUIRE(world.run_until([&] { return x.done; }));
    return x.status;
  }
  int read_vm(uint64_t offset, size_t length) {
    io x;
    x.op = block_op::read;
    x.offset = offset;
    x.length = length;
    x.complete = [](block_request& self) { static_cast<io&>(self).done = true; };
    core->port(volume)->submit(x);
    BOOST_REQUIRE(world.run_until([&] { return x.done; }));
    if (x.status != errc::none)
      return -2;
    std::span<const std::byte> seen =
      x.view.empty() ? std::span<const std::byte>{x.data.bytes().first(length)} : x.view;
    auto result = static_cast<int>(seen[0]);
    for (auto b : seen)
      result = b == seen[0] ? result : -1;
    if (!x.view.empty())
      x.release(x);
    return result;
  }
  move_ends ends(uint64_t id, const std::string& from, const std::string& to, uint64_t of) {
    return {migration_id{id}, {volume, shard_index{0}}, from, to, generation{of}, generation{of + 1}};
  }
  void move(const move_ends& x) {
    BOOST_TEST((run(core->moves().begin(x)) == errc::none));
    for (;;) {
      auto round = run(core->moves().copy(x, 64 << 10));
      BOOST_REQUIRE((round.status == errc::none));
      BOOST_TEST(round.verify_failures == 0u);
      // The VM goes on meanwhile.
      BOOST_TEST((write_vm(8192, 4096, static_cast<int>(10 + x.from.value())) == errc::none));
      if (round.remaining_bytes == 0)
        break;
    }
    auto over = run(core->moves().switch_over(x));
    BOOST_REQUIRE((over.status == errc::none));
    std::chrono::nanoseconds closed{0};
    BOOST_TEST((run(core->moves().end(x, true, closed)) == errc::none));
  }

  copy_budget budget;
  std::unique_ptr<reactor_core> core;
};

} // namespace

BOOST_AUTO_TEST_SUITE(remote_moving)

BOOST_FIXTURE_TEST_CASE(a_shard_moves_to_another_node_and_back_under_its_vm, moving_fixture) {
  BOOST_TEST((write_vm(0, 100'000, 1) == errc::none));
  BOOST_TEST((write_vm(200'000, 5'000, 2) == errc::none));
  move(ends(1, "here", "there", 1));
  route_to("there", 2);
  BOOST_TEST(read_vm(0, 8192) == 1);
  BOOST_TEST(read_vm(8192, 4096) == 11);
  BOOST_TEST(read_vm(200'000, 5'000) == 2);
  BOOST_TEST(read_vm(150'000, 5'000) == 0);
  BOOST_TEST((write_vm(4096, 4096, 3) == errc::none));
  BOOST_TEST((write_vm(0, 0, 0, true) == errc::none));
  BOOST_TEST(server_disk.unsynced_bytes() == 0u);
  BOOST_TEST(counters().refused_moved == 0u);
  std::vector<volume_extent> extents;
  BOOST_TEST((run(core->port(volume)->extents(0, shard_size, 16, extents)) == errc::none));
  BOOST_TEST(extents.size() == 4u);
  move(ends(2, "there", "here", 2));
  route_to("here", 3);
  BOOST_TEST(read_vm(0, 4096) == 1);
  BOOST_TEST(read_vm(4096, 4096) == 3);
  BOOST_TEST(read_vm(8192, 4096) == 12);
  BOOST_TEST(read_vm(200'000, 5'000) == 2);
  BOOST_TEST(server_disk.list("/s").empty());
}

BOOST_FIXTURE_TEST_CASE(a_move_goes_on_over_lost_connections, moving_fixture) {
  wire.cut_chance = 0.1;
  BOOST_TEST((write_vm(0, shard_size, 1) == errc::none));
  move(ends(1, "here", "there", 1));
  route_to("there", 2);
  wire.cut_chance = 0;
  BOOST_TEST(read_vm(16384, shard_size - 16384) == 1);
  BOOST_TEST(client->counters().sent_again > 0u);
}

BOOST_FIXTURE_TEST_CASE(a_refusal_from_afar_is_a_new_route_and_nothing_to_the_vm, moving_fixture) {
  BOOST_TEST((write_vm(0, 100'000, 1) == errc::none));
  move(ends(1, "here", "there", 1));
  route_to("there", 2);
  BOOST_TEST((write_vm(0, 4096, 2) == errc::none));
  const shard_key there{0, {volume, shard_index{0}}, generation{2}};
  std::optional<errc> raised;
  start(store_result(served->shards->raise_fence(there, epoch{6}), raised));
  BOOST_REQUIRE(world.run_until([&] { return raised.has_value(); }));
  auto bytes = filled(4096, 3);
  io x;
  x.op = block_op::write;
  x.length = bytes.size();
  x.payload = bytes;
  x.complete = [](block_request& self) { static_cast<io&>(self).done = true; };
  core->port(volume)->submit(x);
  world.advance(5s);
  BOOST_TEST(!x.done);
  BOOST_TEST(counters().refused_stale_epoch == 1u);
  BOOST_TEST(core->port(volume)->counters().fenced_stale_epoch == 1u);
  // A route that is no better: asked for again, and not all the time.
  for (auto i = 0; i < 50; ++i) {
    route_to("there", 2);
    world.advance(1ms);
  }
  BOOST_TEST(!x.done);
  BOOST_TEST(counters().refused_stale_epoch <= 51u);
  route_to("there", 2, epoch{6});
  BOOST_REQUIRE(world.run_until([&] { return x.done; }, 2s));
  BOOST_TEST((x.status == errc::none));
  BOOST_TEST(read_vm(0, 4096) == 3);
  BOOST_TEST(read_vm(4096, 4096) == 1);
}

BOOST_FIXTURE_TEST_CASE(a_node_that_does_not_answer_is_waited_for, moving_fixture) {
  BOOST_TEST((write_vm(0, 100'000, 1) == errc::none));
  move(ends(1, "here", "there", 1));
  route_to("there", 2);
  BOOST_TEST((write_vm(0, 4096, 2) == errc::none));
  way = "nowhere";
  wire.cut();
  io x;
  std::vector<std::byte> bytes(4096);
  x.op = block_op::read;
  x.length = bytes.size();
  x.complete = [](block_request& self) { static_cast<io&>(self).done = true; };
  core->port(volume)->submit(x);
  world.advance(100s); // request_time, several times
  BOOST_TEST(!x.done);
  BOOST_TEST(client->counters().timed_out >= 2u);
  way = "front";
  BOOST_REQUIRE(world.run_until([&] { return x.done; }, 10s));
  BOOST_TEST((x.status == errc::none && x.data.data()[0] == std::byte{2}));
}

BOOST_FIXTURE_TEST_CASE(a_move_that_is_given_up_leaves_nothing_there, moving_fixture) {
  BOOST_TEST((write_vm(0, 100'000, 1) == errc::none));
  const auto x = ends(1, "here", "there", 1);
  BOOST_TEST((run(core->moves().begin(x)) == errc::none));
  BOOST_TEST((run(core->moves().copy(x, 1 << 20)).status == errc::none));
  BOOST_TEST(server_disk.list("/s").size() == 1u);
  std::chrono::nanoseconds closed{0};
  BOOST_TEST((run(core->moves().end(x, false, closed)) == errc::none));
  BOOST_TEST(server_disk.list("/s").empty());
  BOOST_TEST((write_vm(0, 4096, 2) == errc::none));
  BOOST_TEST(read_vm(0, 4096) == 2);
}

BOOST_AUTO_TEST_SUITE_END()
