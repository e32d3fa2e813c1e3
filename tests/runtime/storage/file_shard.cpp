#include <map>

#include <boost/test/unit_test.hpp>

#include <chrono>

#include "tests/runtime/storage/storage_fixture.hpp"

using namespace varve;
using namespace varve::test;
using namespace std::chrono_literals;

// Coroutines that a crash ended never come back for their frames.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}

BOOST_AUTO_TEST_CASE(random_requests_of_any_alignment_agree_with_a_shadow) {
  // Goal: data, sums and states agree whatever overlaps. Method: batches of concurrent requests at any alignment, in
  // both modes, with flushes, checkpoints, idle times and reopening in between.
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      simulated_disk_options disk;
      disk.short_chance = seed % 3 == 0 ? 0.1 : 0;
      disk.direct_alignment = 4096;
      file_machine on{seed, seed % 2 ? file_io::direct : file_io::buffered, disk};
      on.create(seed % 4 ? 256 << 10 : 1 << 20);
      shadow_run run{on, *on.x, seed};
      for (auto round = 0; round < 4; ++round) {
        run.batches(10, 8);
        if (round == 1)
          on.world.advance(5s);
        if (round == 2) {
          on.close();
          BOOST_REQUIRE((on.open() == errc::none));
          run.x = on.x.get();
          run.compare();
        }
      }
      errc status;
      BOOST_TEST(on.run(on.x->verify(0, run.model.size(), status)) == 0u);
      BOOST_TEST(on.mismatches.size() == 0u);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_new_shard_is_a_sparse_file_of_holes_and_its_metadata_has_room) {
  file_machine on{1};
  on.create(1 << 20);
  BOOST_TEST(on.disk.size_of(on.path()) == shard_layout{1 << 20}.file_bytes);
  BOOST_TEST(on.disk.allocated_bytes(on.path()) == shard_layout{1 << 20}.metadata_bytes);
  BOOST_TEST((on.reads_as(0, 1 << 20, 0) == errc::none));
  BOOST_TEST(on.x->allocated_bytes() == 0u);
  BOOST_TEST((on.write(4096, 8192, 1) == errc::none));
  BOOST_TEST(on.x->allocated_bytes() == 8192u);
  BOOST_TEST(on.disk.allocated_bytes(on.path()) == shard_layout{1 << 20}.metadata_bytes + 8192);
  BOOST_TEST((on.run(on.x->trim(4096, 4096)) == errc::none));
  BOOST_TEST(on.disk.allocated_bytes(on.path()) == shard_layout{1 << 20}.metadata_bytes + 4096);
  BOOST_TEST(on.x->allocated_bytes() == 4096u);
}

BOOST_AUTO_TEST_CASE(a_created_shard_survives_power_loss_at_once) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    file_machine on{seed};
    on.create();
    on.power_loss();
    BOOST_TEST((on.open() == errc::none));
    BOOST_TEST((on.reads_as(0, 1 << 20, 0) == errc::none));
  }
}

BOOST_AUTO_TEST_CASE(what_is_there_is_not_created_again_and_what_is_not_there_is_not_found) {
  file_machine on{1};
  BOOST_TEST((on.open() == errc::not_found));
  on.create();
  BOOST_TEST((run_create(on, *on.store, header_for(1 << 20)).status == errc::unavailable)); // in use
  BOOST_TEST((on.run(on.store->remove(on.x->header().id, on.x->header().generation)) == errc::unavailable));
  on.close();
  BOOST_TEST((run_create(on, *on.store, header_for(1 << 20)).status == errc::already_exists));
  BOOST_TEST((run_create(on, *on.store, header_for(12345)).status == errc::invalid_argument));
  BOOST_TEST((on.run(on.store->remove(header_for(0).id, generation{1})) == errc::none));
  BOOST_TEST((on.run(on.store->remove(header_for(0).id, generation{1})) == errc::not_found));
  BOOST_TEST(on.disk.list("/d").size() == 0u);
}

BOOST_AUTO_TEST_CASE(closing_gives_back_the_descriptor) {
  file_machine on{1};
  on.create();
  BOOST_TEST(on.disk.open_files() == 1u);
  on.close();
  BOOST_TEST(on.disk.open_files() == 0u);
}

BOOST_AUTO_TEST_CASE(header_changes_are_durable) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    file_machine on{seed};
    auto header = header_for(1 << 20);
    header.incomplete = true;
    on.x = run_create(on, *on.store, header).shard;
    BOOST_REQUIRE(on.x);
    BOOST_TEST((on.run(on.x->raise_fence(epoch{5})) == errc::none));
    BOOST_TEST((on.run(on.x->raise_fence(epoch{4})) == errc::none));
    BOOST_TEST((on.run(on.x->flush()) == errc::none)); // a sink's name is durable from its first flush on
    on.power_loss();
    BOOST_REQUIRE((on.open() == errc::none));
    BOOST_TEST((on.x->header().fence == epoch{5}));
    BOOST_TEST(on.x->header().incomplete);
    BOOST_TEST((on.run(on.x->complete(epoch{})) == errc::none));
    BOOST_TEST((on.run(on.x->seal(migration_id{9}, generation{2})) == errc::none));
    on.power_loss();
    BOOST_REQUIRE((on.open() == errc::none));
    BOOST_TEST(!on.x->header().incomplete);
    BOOST_TEST((on.x->header().sealed_by == migration_id{9}));
    BOOST_TEST((on.x->header().sealed_for == generation{2}));
    std::vector<std::byte> bytes;
    BOOST_TEST((on.read(0, 4096, bytes) == errc::shard_moved));
    BOOST_TEST((on.write(0, 4096, 1) == errc::shard_moved));
    BOOST_TEST((on.run(on.x->seal(migration_id{}, generation{})) == errc::none));
    on.kill();
    BOOST_REQUIRE((on.open() == errc::none));
    BOOST_TEST((on.write(0, 4096, 1) == errc::none));
  }
}

BOOST_AUTO_TEST_CASE(an_idle_shard_is_checkpointed_and_then_costs_nothing) {
  file_machine on{1};
  on.create();
  BOOST_TEST((on.write(0, 4096, 1) == errc::none));
  auto marked = [&] {
    auto bytes = on.disk.contents(on.path());
    auto* records = reinterpret_cast<const header_record*>(bytes.data());
    auto& newest = records[choose_header(records[0], records[1]).slot];
    return std::any_of(std::begin(newest.intents), std::end(newest.intents), [](uint8_t x) { return x != 0; });
  };
  BOOST_TEST(marked());
  on.world.advance(14s);
  BOOST_TEST(marked());
  on.world.advance(20s);
  BOOST_TEST(!marked());
  BOOST_TEST(!on.x->dirty());
  auto events = on.world.events();
  on.world.advance(60s);
  BOOST_TEST(on.world.events() == events);
  // Destroying the shard in the middle of an idle checkpoint: opening it again waits for that.
  BOOST_TEST((on.write(0, 4096, 2) == errc::none));
  for (auto i = 0; i < 400000 && on.ring->in_flight() < 2; ++i)
    on.world.advance(100us);
  on.x.reset();
  BOOST_TEST((on.open() == errc::none));
  BOOST_TEST((on.reads_as(0, 4096, 2) == errc::none));
}

BOOST_AUTO_TEST_CASE(random_writes_do_not_pay_a_sync_for_each_region) {
  file_machine on{1};
  on.create(4 << 20);
  simulated_random random{1};
  auto before = on.store->statistics().syncs;
  for (auto i = 0; i < 200; ++i)
    BOOST_REQUIRE((on.write(random.below(1024) * 4096, 4096, i) == errc::none));
  BOOST_TEST(on.store->statistics().syncs - before <= 8u);
}

BOOST_AUTO_TEST_CASE(sums_travel_with_the_blocks) {
  file_machine on{1};
  on.create();
  BOOST_TEST((on.write(4096, 4096, 1) == errc::none));
  BOOST_TEST((on.write(12288, 4096, 2) == errc::none));
  on.x->track_changes(true);
  block_sums sums;
  auto bytes = filled(32768, 0xee);
  BOOST_REQUIRE((on.run(on.x->read_with_sums(0, bytes, sums)) == errc::none));
  BOOST_TEST((sums.states[0] == block_state::hole));
  BOOST_TEST((sums.states[1] == block_state::written));
  BOOST_TEST(sums.crcs[1] == on.x->sums().crcs[1]);
  BOOST_TEST((on.run(on.x->write_with_sums(65536, bytes, sums)) == errc::none));
  BOOST_TEST((on.reads_as(65536 + 4096, 4096, 1) == errc::none));
  BOOST_TEST(on.x->changed_bytes() >= 8192u);
  BOOST_TEST(on.x->allocated_bytes() == 4 * 4096u);
  // Damaged on the way.
  bytes[4097] ^= std::byte{1};
  BOOST_TEST((on.run(on.x->write_with_sums(0, bytes, sums)) == errc::checksum_mismatch));
  BOOST_TEST((on.reads_as(4096, 4096, 1) == errc::none));
  // Holes are punched where there was data.
  bytes[4097] ^= std::byte{1};
  BOOST_TEST((on.write(0, 4096, 7) == errc::none));
  BOOST_TEST((on.run(on.x->write_with_sums(0, bytes, sums)) == errc::none));
  BOOST_TEST((on.reads_as(0, 4096, 0) == errc::none));
  BOOST_TEST(on.x->allocated_bytes() == 4 * 4096u);
}

BOOST_AUTO_TEST_CASE(a_sink_is_whole_from_its_completion_on_whatever_power_loss_takes) {
  for (uint64_t seed = 1; seed <= 60; ++seed)
    BOOST_TEST_CONTEXT("seed " << seed) {
      file_machine on{seed, seed % 2 ? file_io::direct : file_io::buffered};
      auto header = header_for(1 << 20);
      header.incomplete = true;
      on.x = run_create(on, *on.store, header).shard;
      BOOST_REQUIRE(on.x);
      const auto syncs = on.store->statistics().syncs;
      simulated_random random{seed};
      std::map<uint64_t, int> written;
      for (auto i = 0; i < 40; ++i) {
        const auto block = random.below(256);
        written[block] = i + 1;
        BOOST_REQUIRE((on.write(block * 4096, 4096, i + 1) == errc::none));
      }
      // Marked from the start: no write waits for a mark.
      BOOST_TEST(on.store->statistics().syncs == syncs);
      BOOST_REQUIRE((on.run(on.x->complete(epoch{7})) == errc::none));
      BOOST_TEST(on.store->statistics().syncs == syncs + 1);
      on.power_loss();
      BOOST_REQUIRE((on.open() == errc::none));
      BOOST_TEST(!on.x->header().incomplete);
      BOOST_TEST((on.x->header().fence == epoch{7}));
      for (auto [block, value] : written)
        BOOST_TEST((on.reads_as(block * 4096, 4096, value) == errc::none));
      BOOST_TEST(on.mismatches.empty());
    }
}

BOOST_AUTO_TEST_CASE(an_emulated_device_takes_its_time) {
  file_machine on{1};
  on.options.emulate = {5ms, 6ms, 0};
  on.store = make_file_store(*on.on, on.options);
  on.create();
  BOOST_TEST((on.write(0, 4096, 1) == errc::none));
  auto before = on.world.now();
  BOOST_TEST((on.write(0, 4096, 1) == errc::none));
  BOOST_TEST(((on.world.now() - before) >= 6ms));
  before = on.world.now();
  BOOST_TEST((on.reads_as(0, 4096, 1) == errc::none));
  BOOST_TEST(((on.world.now() - before) >= 5ms));
  BOOST_TEST((on.store->statistics().read_latency_mean >= 5ms));
}
