#include <boost/test/unit_test.hpp>

#include "tests/runtime/storage/storage_fixture.hpp"

using namespace varve;
using namespace varve::test;
using namespace std::chrono_literals;

// Coroutines that a crash ended never come back for their frames.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}

// -- rot --------------------------------------------------------------------------------------------------------------

namespace {

// Blocks 0 and 1 hold 1 and 2; a bit of block 0 has flipped.
void check_rot(file_machine& on) {
  on.mismatches.clear();
  std::vector<std::byte> bytes;
  BOOST_TEST((on.read(0, 4096, bytes) == errc::checksum_mismatch));
  BOOST_TEST((on.mismatches == std::vector<uint64_t>{0}));
  BOOST_TEST((on.reads_as(4096, 4096, 2) == errc::none));
  BOOST_TEST((on.reads_as(65536 * 3, 4096, 3) == errc::none));
  BOOST_TEST((on.read(0, 8192, bytes) == errc::checksum_mismatch));
  BOOST_TEST(on.store->statistics().checksum_mismatches == 2u);
  // A bad block does not get a good sum by a write into it.
  BOOST_TEST((on.write(100, 100, 9) == errc::checksum_mismatch));
  BOOST_TEST((on.read(0, 4096, bytes) == errc::checksum_mismatch));
  errc status;
  BOOST_TEST(on.run(on.x->verify(0, 1 << 20, status)) == 1u);
  BOOST_TEST((status == errc::none));
  block_sums sums;
  auto all = filled(1 << 20, 0);
  BOOST_TEST((on.run(on.x->read_with_sums(0, all, sums)) == errc::checksum_mismatch));
  // A whole new block heals it.
  BOOST_TEST((on.write(0, 4096, 4) == errc::none));
  BOOST_TEST((on.reads_as(0, 4096, 4) == errc::none));
}

struct rot_fixture : file_machine {
  rot_fixture() : file_machine(3) {
    create();
    BOOST_TEST((write(0, 4096, 1) == errc::none));
    BOOST_TEST((write(4096, 4096, 2) == errc::none));
    BOOST_TEST((write(65536 * 3, 4096, 3) == errc::none));
  }
};

} // namespace

BOOST_FIXTURE_TEST_CASE(a_bit_that_flips_in_an_open_shard_is_an_error, rot_fixture) {
  BOOST_REQUIRE(disk.corrupt(path(), data_at(1000), 3));
  check_rot(*this);
}

BOOST_FIXTURE_TEST_CASE(a_bit_that_flips_in_a_closed_shard_is_an_error, rot_fixture) {
  close();
  BOOST_REQUIRE(disk.corrupt(path(), data_at(1000), 3));
  BOOST_REQUIRE((open() == errc::none));
  check_rot(*this);
}

BOOST_FIXTURE_TEST_CASE(a_crash_does_not_bless_a_bit_that_flips_in_an_unmarked_region, rot_fixture) {
  BOOST_REQUIRE((run(x->checkpoint()) == errc::none));
  BOOST_TEST((write(65536 * 3, 4096, 3) == errc::none)); // marks region 3 only
  kill();
  BOOST_REQUIRE(disk.corrupt(path(), data_at(1000), 3));
  BOOST_REQUIRE((open() == errc::none));
  check_rot(*this);
}

BOOST_FIXTURE_TEST_CASE(data_in_a_hole_is_not_read, rot_fixture) {
  close();
  auto bytes = disk.contents(path());
  bytes[data_at(65536)] = std::byte{1};
  disk.put(path(), bytes);
  BOOST_REQUIRE((open() == errc::none));
  BOOST_TEST((reads_as(65536, 4096, 0) == errc::none));
}

// -- metadata ---------------------------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(one_spoilt_sector_of_metadata_is_survived_after_a_checkpoint) {
  const auto layout = shard_layout{1 << 20};
  for (uint64_t at = 0; at < layout.metadata_bytes; at += 512) {
    file_machine on{1};
    on.create();
    BOOST_TEST((on.write(0, 4096, 1) == errc::none));
    BOOST_TEST((on.run(on.x->raise_fence(epoch{8})) == errc::none));
    on.close();
    BOOST_REQUIRE(on.disk.corrupt(on.path(), at + 77, 5));
    BOOST_REQUIRE((on.open() == errc::none));
    BOOST_TEST((on.x->header().fence == epoch{8}));
    BOOST_TEST((on.reads_as(0, 4096, 1) == errc::none));
    BOOST_TEST((on.reads_as(4096, 4096, 0) == errc::none));
    // It is repaired: another one is survived too.
    on.close();
    BOOST_REQUIRE(on.disk.corrupt(on.path(), (at + 4096) % layout.metadata_bytes + 77, 5));
    BOOST_REQUIRE((on.open() == errc::none));
    BOOST_TEST((on.reads_as(0, 4096, 1) == errc::none));
  }
}

BOOST_AUTO_TEST_CASE(a_lost_header_never_turns_data_into_zeros) {
  // The mark of a region, and with it the knowledge that its table is out of date, is lost to rot before a restart.
  file_machine on{1};
  on.create();
  BOOST_REQUIRE((on.run(on.x->checkpoint()) == errc::none));
  BOOST_TEST((on.write(0, 4096, 1) == errc::none));
  on.kill();
  auto bytes = on.disk.contents(on.path());
  auto* records = reinterpret_cast<const header_record*>(bytes.data());
  auto newest = choose_header(records[0], records[1]).slot;
  BOOST_REQUIRE(on.disk.corrupt(on.path(), newest * header_slot_bytes + 3000));
  BOOST_REQUIRE((on.open() == errc::none));
  BOOST_TEST((on.read(0, 4096, bytes) == errc::checksum_mismatch));
  BOOST_TEST((on.reads_as(4096, 4096, 0) == errc::none));
}

BOOST_AUTO_TEST_CASE(without_a_valid_header_or_page_a_file_is_refused) {
  file_machine on{1};
  on.create();
  BOOST_TEST((on.write(0, 4096, 1) == errc::none));
  on.close();
  auto good = on.disk.contents(on.path());
  auto path = on.path();
  // Both headers torn.
  auto bytes = good;
  bytes[100] ^= std::byte{1};
  bytes[4096 + 100] ^= std::byte{1};
  on.disk.put(path, bytes);
  BOOST_TEST((on.open() == errc::bad_format));
  // Both slots of the page.
  bytes = good;
  bytes[shard_layout{1 << 20}.page_at(0, 0) + 100] ^= std::byte{1};
  bytes[shard_layout{1 << 20}.page_at(1, 0) + 100] ^= std::byte{1};
  on.disk.put(path, bytes);
  BOOST_TEST((on.open() == errc::bad_format));
  // Zeros are a valid page, but not of this header.
  std::fill(bytes.begin() + 8192, bytes.begin() + 16384, std::byte{0});
  on.disk.put(path, bytes);
  BOOST_TEST((on.open() == errc::bad_format));
  // Too short, empty, another's.
  on.disk.put(path, std::span{good}.first(4096));
  BOOST_TEST((on.open() == errc::bad_format));
  on.disk.put(path, {});
  BOOST_TEST((on.open() == errc::bad_format));
  auto other = path;
  other[other.size() - 7] = '2'; // generation
  on.disk.remove(path);
  on.disk.put(other, good);
  BOOST_TEST((run_open(on, *on.store, header_for(0).id, generation{2}).status == errc::bad_format));
  on.world.run_until_idle();
  BOOST_TEST(on.disk.open_files() == 0u);
}

BOOST_AUTO_TEST_CASE(a_newer_format_is_refused) {
  file_machine on{1};
  on.create();
  on.close();
  auto bytes = on.disk.contents(on.path());
  auto* record = reinterpret_cast<header_record*>(bytes.data());
  record->version = shard_format_version + 1;
  finish(*record);
  on.disk.put(on.path(), bytes);
  BOOST_TEST((on.open() == errc::bad_format));
}

// -- a failing device -------------------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_failed_write_leaves_old_or_new_and_no_false_alarm) {
  for (auto io : {file_io::direct, file_io::buffered})
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      file_machine on{seed, io};
      on.create();
      BOOST_TEST((on.write(0, 16384, 1) == errc::none)); // blocks 0 to 3; 4 to 7 are holes
      BOOST_TEST((on.write(0, 4, 1) == errc::none));
      on.disk.inject({ring_op::write, ".shard"});
      BOOST_TEST((on.write(0, 32768, 2) == errc::device_failed));
      for (auto round = 0; round < 2; ++round) {
        for (uint64_t block = 0; block < 8; ++block) {
          std::vector<std::byte> bytes;
          BOOST_TEST((on.read(block * 4096, 4096, bytes) == errc::none));
          auto old = block < 4 ? 1 : 0;
          BOOST_TEST((bytes[0] == std::byte(old) || bytes[0] == std::byte{2}));
        }
        on.close();
        BOOST_REQUIRE((on.open() == errc::none));
      }
      BOOST_TEST(on.mismatches.empty());
    }
}

BOOST_AUTO_TEST_CASE(a_failed_header_write_refuses_the_write_and_the_next_one_goes_on) {
  file_machine on{1};
  on.create();
  on.disk.inject({ring_op::write, ".shard"});
  BOOST_TEST((on.write(0, 4096, 1) == errc::device_failed));
  BOOST_TEST((on.reads_as(0, 4096, 0) == errc::none));
  BOOST_TEST((on.write(0, 4096, 2) == errc::none));
  on.kill();
  BOOST_REQUIRE((on.open() == errc::none));
  BOOST_TEST((on.reads_as(0, 4096, 2) == errc::none));
}

BOOST_AUTO_TEST_CASE(after_a_failed_sync_a_shard_serves_nothing_until_it_is_opened_again) {
  for (auto io : {file_io::direct, file_io::buffered})
    for (uint64_t seed = 1; seed <= 30; ++seed) {
      file_machine on{seed, io};
      on.create();
      BOOST_TEST((on.write(0, 65536, 1) == errc::none));
      BOOST_TEST(on.x->dirty());
      on.disk.inject({ring_op::sync, ".shard"});
      BOOST_TEST((on.run(on.x->flush()) == errc::shard_failed));
      BOOST_TEST((on.run(on.x->flush()) == errc::shard_failed));
      BOOST_TEST((on.write(0, 4096, 2) == errc::shard_failed));
      std::vector<std::byte> bytes;
      BOOST_TEST((on.read(0, 4096, bytes) == errc::shard_failed));
      BOOST_TEST((on.run(on.x->checkpoint()) == errc::shard_failed));
      BOOST_TEST((on.run(on.x->raise_fence(epoch{3})) == errc::shard_failed));
      on.x.reset();
      BOOST_REQUIRE((on.open() == errc::none));
      BOOST_TEST((on.reads_as(0, 65536, 1) == errc::none));
      // What the failed sync lost is on disk after a successful open.
      on.power_loss();
      BOOST_REQUIRE((on.open() == errc::none));
      BOOST_TEST((on.reads_as(0, 65536, 1) == errc::none));
    }
}

BOOST_AUTO_TEST_CASE(a_hung_sync_does_not_let_another_flush_report_success) {
  file_machine on{1};
  on.create();
  BOOST_TEST((on.write(0, 4096, 1) == errc::none));
  simulated_fault hang{ring_op::sync, ".shard"};
  hang.hang = true;
  on.disk.inject(hang);
  std::optional<errc> first, second;
  start(store_result(on.x->flush(), first));
  on.world.advance(1ms);
  start(store_result(on.x->flush(), second));
  on.world.advance(1s);
  BOOST_TEST(!first.has_value());
  BOOST_TEST(!second.has_value());
  on.disk.release_hung();
  on.world.advance(1s);
  BOOST_TEST((first == errc::none));
  BOOST_TEST((second == errc::none));
  BOOST_TEST(!on.x->dirty());
}

// -- a full device ----------------------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_full_device_refuses_before_anything_is_acknowledged) {
  for (auto io : {file_io::direct, file_io::buffered}) {
    file_machine on{1, io};
    on.create();
    BOOST_TEST((on.write(0, 65536, 1) == errc::none));
    on.disk.options().capacity_bytes = on.disk.used_bytes() + 8192;
    BOOST_TEST((on.write(4096, 131072, 2) == errc::tier_full)); // old blocks and holes
    BOOST_TEST((on.reads_as(0, 65536, 1) == errc::none));       // the old contents stand
    BOOST_TEST((on.reads_as(65536, 131072, 0) == errc::none));
    BOOST_TEST((on.write(131072, 65536, 2) == errc::tier_full)); // holes only
    BOOST_TEST((on.reads_as(131072, 65536, 0) == errc::none));
    BOOST_TEST((on.run(on.x->write_zeroes(131072, 65536, true)) == errc::tier_full));
    // What was taken in vain is given back: two blocks still fit.
    BOOST_TEST((on.write(131072, 8192, 3) == errc::none));
    // Overwriting needs no room.
    BOOST_TEST((on.write(0, 65536, 4) == errc::none));
    BOOST_TEST((on.run(on.x->flush()) == errc::none));
    BOOST_TEST((run_create(on, *on.store, header_for(1 << 20, 4)).status == errc::tier_full));
    BOOST_TEST(on.disk.list("/d").size() == 1u);
    on.kill();
    BOOST_REQUIRE((on.open() == errc::none)); // recovery needs no room
    BOOST_TEST((on.reads_as(0, 65536, 4) == errc::none));
    // Trim, seal, checkpoint and removal work at 100 %.
    BOOST_TEST((on.run(on.x->trim(0, 65536)) == errc::none));
    on.disk.options().capacity_bytes = on.disk.used_bytes();
    BOOST_TEST((on.run(on.x->raise_fence(epoch{4})) == errc::none));
    BOOST_TEST((on.run(on.x->seal(migration_id{1}, generation{2})) == errc::none));
    BOOST_TEST((on.run(on.x->seal(migration_id{}, generation{})) == errc::none));
    BOOST_TEST((on.run(on.x->trim(131072, 4096)) == errc::none));
    BOOST_TEST((on.write(131072, 4096, 5) == errc::none)); // there is room again
    on.close();
    BOOST_REQUIRE((on.open() == errc::none));
    BOOST_TEST((on.reads_as(0, 65536, 0) == errc::none));
    BOOST_TEST((on.reads_as(131072, 4096, 5) == errc::none));
    on.close();
    BOOST_TEST((on.run(on.store->remove(header_for(0).id, generation{1})) == errc::none));
    BOOST_TEST(on.mismatches.empty());
  }
}

BOOST_AUTO_TEST_CASE(a_failed_creation_leaves_no_file) {
  for (auto op : {ring_op::write, ring_op::sync, ring_op::truncate, ring_op::allocate, ring_op::rename}) {
    file_machine on{1};
    on.disk.inject({op, ""});
    BOOST_TEST((run_create(on, *on.store, header_for(1 << 20)).status == errc::device_failed));
    on.world.run_until_idle();
    BOOST_TEST(on.disk.list("/d").size() == 0u);
    BOOST_TEST(on.disk.open_files() == 0u);
    on.create();
  }
}
