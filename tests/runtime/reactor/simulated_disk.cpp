#include <boost/test/unit_test.hpp>

#include <set>

#include <fcntl.h>
#include <linux/falloc.h>

#include "simulated_fixture.hpp"

using namespace varve;
using namespace varve::test;
using namespace std::chrono_literals;

namespace {

constexpr auto fresh = O_RDWR | O_CREAT;

} // namespace

BOOST_AUTO_TEST_CASE(what_was_written_is_read_and_holes_are_zero) {
  simulated_machine machine{1};
  const auto fd = machine.open("/d/a", fresh);
  BOOST_REQUIRE(fd >= 0);
  BOOST_TEST((machine.write(fd, 10'000, filled(20'000, 7)) == errc::none));
  BOOST_TEST(machine.disk.size_of("/d/a") == 30'000u);
  BOOST_TEST((machine.read(fd, 10'000, 20'000) == filled(20'000, 7)));
  BOOST_TEST((machine.read(fd, 0, 10'000) == filled(10'000, 0)));
  BOOST_TEST(machine.disk.allocated_bytes("/d/a") == 6 * 4096u);
  BOOST_TEST((machine.run(allocate_file(*machine.ring, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 12'288, 8192)) ==
              errc::none));
  BOOST_TEST(machine.disk.allocated_bytes("/d/a") == 4 * 4096u);
  BOOST_TEST((machine.read(fd, 12'288, 8192) == filled(8192, 0)));
  BOOST_TEST((machine.read(fd, 20'480, 100) == filled(100, 7)));
}

BOOST_AUTO_TEST_CASE(time_does_not_start_at_zero_and_passes_with_operations) {
  simulated_machine machine{1};
  const auto start = machine.world.now();
  BOOST_TEST((start > 0ns));
  machine.open("/d/a", fresh);
  BOOST_TEST((machine.world.now() > start));
  const auto before = machine.world.now();
  machine.world.advance(5s);
  BOOST_TEST((machine.world.now() == before + 5s));
}

BOOST_AUTO_TEST_CASE(refusals_are_those_of_the_system) {
  simulated_machine machine{1};
  BOOST_TEST(machine.open("/d/none", O_RDONLY) == -ENOENT);
  BOOST_TEST(machine.open("/no-folder/a", fresh) == -ENOENT);
  BOOST_TEST(machine.open("/d", O_RDWR) == -EISDIR);
  const auto fd = machine.open("/d/a", fresh);
  BOOST_TEST(machine.open("/d/a", fresh | O_EXCL) == -EEXIST);
  const auto reader = machine.open("/d/a", O_RDONLY);
  BOOST_TEST((machine.write(reader, 0, filled(1, 1)) == errc::device_failed));
  BOOST_TEST((machine.run(unlink_file(*machine.ring, "/d/b")) == errc::not_found));
  BOOST_TEST((machine.run(rename_file(*machine.ring, "/d/b", "/d/c")) == errc::not_found));
  BOOST_TEST(machine.run(close_file(*machine.ring, fd)) == 0);
  BOOST_TEST(machine.run(close_file(*machine.ring, fd)) == -EBADF);
  BOOST_TEST(machine.disk.open_files() == 1u);
}

BOOST_AUTO_TEST_CASE(direct_access_must_be_aligned) {
  simulated_machine machine{1};
  const auto fd = machine.open("/d/a", fresh | O_DIRECT);
  buffer bytes{8192};
  auto write = [&](uint64_t offset, size_t skip, size_t length) {
    return machine.run(write_fully(*machine.ring, fd, offset, std::span<const std::byte>{bytes.data() + skip, length}));
  };
  BOOST_TEST((write(0, 0, 8192) == errc::none));
  BOOST_TEST((write(100, 0, 4096) == errc::device_failed));
  BOOST_TEST((write(0, 8, 4096) == errc::device_failed));
  BOOST_TEST((write(0, 0, 100) == errc::device_failed));
}

BOOST_AUTO_TEST_CASE(a_full_disk_refuses_writes_but_not_deleting) {
  simulated_machine machine{1, {.capacity_bytes = 64 << 10}};
  const auto fd = machine.open("/d/a", fresh);
  BOOST_TEST((machine.write(fd, 0, filled(64 << 10, 1)) == errc::none));
  BOOST_TEST((machine.write(fd, 64 << 10, filled(1, 1)) == errc::tier_full));
  BOOST_TEST((machine.write(fd, 0, filled(64 << 10, 2)) == errc::none)); // in place
  BOOST_TEST((machine.run(allocate_file(*machine.ring, fd, 0, 64 << 10, 4096)) == errc::tier_full));
  BOOST_TEST(
    (machine.run(allocate_file(*machine.ring, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)) == errc::none));
  BOOST_TEST((machine.write(fd, 64 << 10, filled(1, 1)) == errc::none));
  BOOST_TEST((machine.run(unlink_file(*machine.ring, "/d/a")) == errc::none));
  BOOST_TEST(machine.disk.used_bytes() == 64u << 10); // still open
  BOOST_TEST(machine.run(close_file(*machine.ring, fd)) == 0);
  machine.sync_names();
  BOOST_TEST(machine.disk.used_bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(synced_data_in_a_synced_folder_survives_power_loss) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      simulated_machine machine{seed};
      auto fd = machine.open("/d/a", fresh);
      BOOST_TEST((machine.write(fd, 0, filled(50'000, 1)) == errc::none));
      BOOST_TEST((machine.sync(fd) == errc::none));
      BOOST_TEST((machine.sync_names() == errc::none));
      BOOST_TEST(machine.disk.unsynced_bytes() == 0u);
      machine.disk.power_loss();
      BOOST_TEST(machine.ring->dead());
      machine.boot();
      fd = machine.open("/d/a", O_RDONLY);
      BOOST_REQUIRE(fd >= 0);
      BOOST_TEST((machine.read(fd, 0, 50'000) == filled(50'000, 1)));
    }
  }
}

BOOST_AUTO_TEST_CASE(unsynced_sectors_are_lost_or_kept_one_by_one) {
  std::set<size_t> kept_counts;
  auto middle = false;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    simulated_machine machine{seed};
    auto fd = machine.open("/d/a", fresh);
    machine.write(fd, 0, filled(64 << 10, 1));
    machine.sync(fd);
    machine.sync_names();
    machine.write(fd, 0, filled(64 << 10, 2));
    machine.write(fd, 0, filled(64 << 10, 3));
    machine.disk.power_loss();
    const auto left = machine.disk.contents("/d/a");
    BOOST_REQUIRE(left.size() == 64u << 10);
    size_t kept = 0;
    for (size_t sector = 0; sector < 128; ++sector) {
      const std::set<std::byte> values(left.begin() + sector * 512, left.begin() + (sector + 1) * 512);
      BOOST_REQUIRE(values.size() == 1u); // a sector is whole
      kept += *values.begin() == std::byte{3};
      middle |= *values.begin() == std::byte{2};
    }
    kept_counts.insert(kept);
  }
  BOOST_TEST(middle); // the first write kept, the second lost
  BOOST_TEST(kept_counts.contains(0));
  BOOST_TEST(kept_counts.contains(128));
  BOOST_TEST(kept_counts.size() > 20u);
}

BOOST_AUTO_TEST_CASE(entries_of_an_unsynced_folder_may_go_or_come_back) {
  std::set<std::string> seen;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    simulated_machine machine{seed};
    machine.disk.put("/d/old", filled(100, 1));
    machine.disk.put("/d/moved", filled(100, 2));
    const auto fd = machine.open("/d/new", fresh);
    machine.write(fd, 0, filled(100, 3));
    machine.sync(fd);
    machine.run(unlink_file(*machine.ring, "/d/old"));
    machine.run(rename_file(*machine.ring, "/d/moved", "/d/target"));
    machine.disk.power_loss();
    std::string names;
    for (auto& name : machine.disk.list("/d"))
      names += name + " ";
    seen.insert(names);
    // A rename is one change.
    BOOST_TEST(machine.disk.exists("/d/moved") != machine.disk.exists("/d/target"));
    if (machine.disk.exists("/d/new"))
      BOOST_TEST((machine.disk.contents("/d/new") == filled(100, 3)));
  }
  BOOST_TEST(seen.size() == 8u); // every mixture of the three
}

BOOST_AUTO_TEST_CASE(a_sync_in_flight_covers_only_what_was_there_when_it_began) {
  auto lost = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    simulated_machine machine{seed};
    const auto fd = machine.open("/d/a", fresh);
    machine.sync_names();
    machine.ring->options().sync = {10ms, 10ms};
    std::optional<errc> synced;
    start(store_result(sync_file(*machine.ring, fd), synced));
    machine.world.step();
    machine.write(fd, 0, filled(512, 1));
    BOOST_TEST(!synced.has_value());
    machine.world.run_until([&] { return synced.has_value(); });
    machine.disk.power_loss();
    lost += machine.disk.contents("/d/a") != filled(512, 1);
  }
  BOOST_TEST(lost > 5);
}

BOOST_AUTO_TEST_CASE(kill_keeps_what_completed_and_tears_what_was_in_flight_at_pages) {
  std::set<size_t> applied;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    simulated_machine machine{seed};
    auto fd = machine.open("/d/a", fresh);
    machine.write(fd, 0, filled(64 << 10, 1));
    const auto bytes = filled(64 << 10, 2);
    std::optional<errc> written;
    start(store_result(write_fully(*machine.ring, fd, 0, std::span<const std::byte>{bytes}), written));
    machine.world.step();
    machine.disk.kill();
    BOOST_TEST(!written.has_value());
    const auto left = machine.disk.contents("/d/a");
    BOOST_REQUIRE(left.size() == 64u << 10);
    size_t count = 0;
    for (size_t page = 0; page < 16; ++page) {
      const std::set<std::byte> values(left.begin() + page * 4096, left.begin() + (page + 1) * 4096);
      BOOST_REQUIRE(values.size() == 1u);
      count += *values.begin() == std::byte{2};
    }
    applied.insert(count);
    machine.boot();
    BOOST_TEST(machine.open("/d/a", O_RDONLY) >= 0); // the entry was never synced, but it is there
  }
  BOOST_TEST(applied.size() > 4u);
}

BOOST_AUTO_TEST_CASE(faults_hit_the_operation_and_path_that_they_name) {
  simulated_machine machine{1};
  const auto a = machine.open("/d/a", fresh), b = machine.open("/d/b", fresh);
  machine.disk.inject({.op = ring_op::write, .path_part = "/d/b", .error = EIO, .skip = 1});
  BOOST_TEST((machine.write(a, 0, filled(10, 1)) == errc::none));
  BOOST_TEST((machine.write(b, 0, filled(10, 1)) == errc::none));
  BOOST_TEST((machine.write(b, 0, filled(10, 1)) == errc::device_failed));
  BOOST_TEST((machine.write(b, 0, filled(10, 1)) == errc::none));
  machine.disk.inject({.op = ring_op::open, .error = EMFILE, .count = 2});
  BOOST_TEST(machine.open("/d/a", O_RDONLY) == -EMFILE);
  machine.disk.clear_faults();
  BOOST_TEST(machine.open("/d/a", O_RDONLY) >= 0);
}

BOOST_AUTO_TEST_CASE(what_a_failed_sync_lost_is_not_saved_by_the_next) {
  auto lost = 0;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    simulated_machine machine{seed};
    const auto fd = machine.open("/d/a", fresh);
    machine.sync_names();
    machine.write(fd, 0, filled(512, 1));
    machine.disk.inject({.op = ring_op::sync});
    BOOST_TEST((machine.sync(fd) == errc::device_failed));
    BOOST_TEST((machine.sync(fd) == errc::none));
    BOOST_TEST((machine.read(fd, 0, 512) == filled(512, 1))); // as long as the machine runs
    machine.disk.power_loss();
    lost += machine.disk.contents("/d/a") != filled(512, 1);
  }
  BOOST_TEST(lost > 10);
  BOOST_TEST(lost < 40);
}

BOOST_AUTO_TEST_CASE(a_flipped_bit_is_read_and_outlives_power_loss) {
  simulated_machine machine{1};
  machine.disk.put("/d/a", filled(5000, 0));
  BOOST_TEST(machine.disk.corrupt("/d/a", 4097, 3));
  BOOST_TEST(!machine.disk.corrupt("/d/a", 100'000));
  auto expected = filled(5000, 0);
  expected[4097] = std::byte{8};
  BOOST_TEST((machine.disk.contents("/d/a") == expected));
  machine.disk.power_loss();
  BOOST_TEST((machine.disk.contents("/d/a") == expected));
}

BOOST_AUTO_TEST_CASE(a_hung_operation_ends_only_when_it_is_released) {
  simulated_machine machine{1};
  const auto fd = machine.open("/d/a", fresh);
  machine.disk.inject({.op = ring_op::write, .hang = true});
  const auto bytes = filled(10'000, 1);
  std::optional<errc> written;
  start(store_result(write_fully(*machine.ring, fd, 0, std::span<const std::byte>{bytes}), written));
  machine.world.advance(1h);
  BOOST_TEST(!written.has_value());
  machine.disk.release_hung();
  machine.world.advance(1s);
  BOOST_REQUIRE(written.has_value());
  BOOST_TEST((*written == errc::none));
  BOOST_TEST((machine.disk.contents("/d/a") == bytes));
}

BOOST_AUTO_TEST_CASE(short_transfers_are_completed_by_the_helpers) {
  simulated_machine machine{7, {.short_chance = 0.9}};
  const auto fd = machine.open("/d/a", fresh);
  auto bytes = filled(300'000, 0);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i * 31 / 7);
  BOOST_TEST((machine.write(fd, 12'345, bytes) == errc::none));
  BOOST_TEST((machine.read(fd, 12'345, bytes.size()) == bytes));
  BOOST_TEST(machine.read(fd, 12'346, bytes.size()).empty()); // the file ends before
}

BOOST_AUTO_TEST_CASE(the_same_seed_gives_the_same_history) {
  const auto history = [](uint64_t seed) {
    simulated_machine machine{seed};
    const auto fd = machine.open("/d/a", fresh);
    const auto bytes = filled(40'000, 1);
    std::optional<errc> results[20];
    for (auto i = 0; i < 20; ++i)
      start(
        store_result(write_fully(*machine.ring, fd, static_cast<uint64_t>(i) * 7000, std::span<const std::byte>{bytes}),
                     results[i]));
    machine.world.run_until_idle();
    machine.disk.power_loss();
    return std::pair{machine.world.history_hash(), machine.disk.contents("/d/a")};
  };
  BOOST_TEST((history(5) == history(5)));
  BOOST_TEST(history(5).first != history(6).first);
}
