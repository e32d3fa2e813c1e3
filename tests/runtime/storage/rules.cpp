#include <boost/test/unit_test.hpp>

#include <cstring>
#include <memory>

#include "rdma/checksum.hpp"
#include "runtime/reactor/task.hpp"
#include "runtime/storage/block_claims.hpp"
#include "runtime/storage/checksum_table.hpp"
#include "runtime/storage/file_store.hpp"
#include "runtime/storage/intent_map.hpp"
#include "runtime/storage/shard_format.hpp"

using namespace varve;

namespace {

// -- claims

struct gate {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> x) noexcept { waiting = x; }
  void await_resume() const noexcept {}
  std::coroutine_handle<> waiting;
};

task<> hold(block_claims& claims, uint64_t first, uint64_t count, int name, std::vector<int>& order, gate& until) {
  block_claims::claim held{claims, first, count};
  co_await held;
  order.push_back(name);
  co_await until;
}

shard_header some_header() {
  shard_header x;
  x.id = {volume_id{7}, shard_index{3}};
  x.size = 4 << 20;
  x.generation = generation{2};
  x.fence = epoch{9};
  return x;
}

std::vector<std::byte> bits_of(intent_map& x) {
  std::vector<std::byte> result(2048);
  intent_map::store(x.begin_persist(), result);
  return result;
}

void persist(intent_map& x) {
  auto said = x.begin_persist();
  x.persisted(said);
}

size_t marks(const intent_map& x) {
  size_t n = 0;
  for (size_t i = 0; i < x.regions(); ++i)
    n += x.marked(i);
  return n;
}

} // namespace

BOOST_AUTO_TEST_CASE(overlapping_claims_are_granted_in_the_order_of_asking) {
  block_claims claims;
  std::vector<int> order;
  gate gates[5];
  start(hold(claims, 0, 4, 1, order, gates[0]));
  start(hold(claims, 2, 6, 2, order, gates[1]));  // behind 1
  start(hold(claims, 6, 2, 3, order, gates[2]));  // free now, but 2 came before it
  start(hold(claims, 10, 1, 4, order, gates[3])); // overlaps nobody
  BOOST_TEST((order == std::vector<int>{1, 4}));
  gates[0].waiting.resume();
  BOOST_TEST((order == std::vector<int>{1, 4, 2}));
  gates[1].waiting.resume();
  BOOST_TEST((order == std::vector<int>{1, 4, 2, 3}));
  gates[2].waiting.resume();
  gates[3].waiting.resume();
  BOOST_TEST(claims.idle());
}

BOOST_AUTO_TEST_CASE(a_long_queue_of_claims_is_not_a_deep_stack) {
  block_claims claims;
  gate first;
  std::vector<int> order;
  struct pass {
    static task<> through(block_claims& claims, int& done) {
      block_claims::claim held{claims, 0, 1};
      co_await held;
      ++done;
    }
  };
  auto done = 0;
  start(hold(claims, 0, 1, 0, order, first));
  for (auto i = 0; i < 20000; ++i)
    start(pass::through(claims, done));
  first.waiting.resume();
  BOOST_TEST(done == 20000);
  BOOST_TEST(claims.idle());
}

// -- marks

BOOST_AUTO_TEST_CASE(a_region_is_covered_only_once_its_mark_is_durable) {
  intent_map x{64};
  BOOST_TEST(!x.covers(5, 1));
  x.want(5, 1);
  BOOST_TEST(!x.covers(5, 1));
  auto said = x.begin_persist();
  BOOST_TEST(!x.covers(5, 1));
  x.persisted(said);
  BOOST_TEST(x.covers(5, 1));
  BOOST_TEST(!x.covers(5, 2));
}

BOOST_AUTO_TEST_CASE(a_lone_write_marks_its_region_and_later_ones_mark_ahead_by_doubling) {
  intent_map x{64};
  x.want(20, 1);
  persist(x);
  BOOST_TEST(marks(x) == 1u);
  x.want(40, 1);
  persist(x);
  BOOST_TEST(marks(x) == 3u);
  x.want(8, 1);
  persist(x);
  BOOST_TEST(marks(x) == 7u);
  for (auto i : {0, 50, 33, 16})
    x.want(i, 1), persist(x);
  BOOST_TEST(marks(x) == 64u);
  // A checkpoint ends the active period; who wrote at random will again, but is believed half as much each time.
  auto marks_after_a_checkpoint = [&x] {
    x.begin_clearing();
    x.finish_clearing();
    BOOST_TEST(!x.any());
    x.want(3, 1);
    persist(x);
    return marks(x);
  };
  BOOST_TEST(marks_after_a_checkpoint() == 32u);
  BOOST_TEST(marks_after_a_checkpoint() == 32u); // one mark since: doubled, then halved
  x.begin_clearing();
  x.finish_clearing();
  for (auto i = 0; i < 8; ++i) {
    x.begin_clearing();
    x.finish_clearing();
  }
  x.want(3, 1);
  persist(x);
  BOOST_TEST(marks(x) == 1u);
}

BOOST_AUTO_TEST_CASE(marking_ahead_stays_within_a_shard_of_few_regions) {
  intent_map x{4};
  for (auto i = 0; i < 6; ++i)
    x.want(3, 1), persist(x);
  BOOST_TEST(marks(x) == 4u);
}

BOOST_AUTO_TEST_CASE(a_checkpoint_leaves_the_marks_of_what_was_touched_meanwhile) {
  intent_map x{64};
  x.want(1, 3);
  persist(x);
  x.begin_clearing();
  BOOST_TEST(x.covers(2, 1));
  x.touch(2, 1);
  x.finish_clearing();
  BOOST_TEST(!x.covers(1, 1));
  BOOST_TEST(x.covers(2, 1));
  BOOST_TEST(!x.covers(3, 1));
}

BOOST_AUTO_TEST_CASE(a_mark_asked_for_while_the_header_that_takes_it_back_is_written_is_not_durable) {
  intent_map x{64};
  x.want(1, 1);
  persist(x);
  x.begin_clearing();
  x.finish_clearing();
  auto said = x.begin_persist(); // the header without the mark
  x.want(1, 1);
  BOOST_TEST(!x.covers(1, 1));
  x.persisted(said);
  BOOST_TEST(!x.covers(1, 1));
  persist(x);
  BOOST_TEST(x.covers(1, 1));
}

BOOST_AUTO_TEST_CASE(marks_travel_through_a_header) {
  intent_map x{64};
  x.want(0, 1), persist(x);
  x.want(63, 1);
  auto bits = bits_of(x);
  intent_map y{64};
  y.load(bits);
  for (size_t i = 0; i < 64; ++i)
    BOOST_TEST(y.marked(i) == x.marked(i));
  BOOST_TEST(y.covers(63, 1));
}

// -- format

BOOST_AUTO_TEST_CASE(a_header_comes_back_as_it_was_written) {
  auto x = some_header();
  x.incomplete = true;
  x.sealed_by = migration_id{5};
  x.sealed_for = generation{6};
  auto record = record_of(x);
  record.sequence = 1;
  finish(record);
  BOOST_TEST((check(record) == slot_state::valid));
  auto y = header_of(record);
  BOOST_TEST((y.id == x.id && y.size == x.size && y.generation == x.generation && y.fence == x.fence && y.incomplete &&
              y.sealed_by == x.sealed_by && y.sealed_for == x.sealed_for));
}

BOOST_AUTO_TEST_CASE(the_newest_valid_header_slot_counts) {
  auto a = record_of(some_header()), b = a;
  a.sequence = 8;
  b.sequence = 9;
  finish(a);
  finish(b);
  BOOST_TEST(choose_header(a, b).slot == 1u);
  BOOST_TEST(choose_header(b, a).slot == 0u);
  BOOST_TEST(choose_header(a, b).both);
  auto torn = b;
  torn.intents[5] ^= 1;
  BOOST_TEST(choose_header(a, torn).slot == 0u);
  BOOST_TEST(!choose_header(a, torn).both);
  a.intents[0] ^= 1;
  BOOST_TEST((choose_header(a, torn).status == errc::bad_format));
}

BOOST_AUTO_TEST_CASE(every_flipped_bit_of_a_header_is_noticed) {
  auto x = record_of(some_header());
  finish(x);
  auto* bytes = reinterpret_cast<unsigned char*>(&x);
  for (size_t i = 0; i < sizeof x; ++i) {
    bytes[i] ^= static_cast<unsigned char>(1u << i % 8);
    BOOST_REQUIRE((check(x) == slot_state::invalid));
    bytes[i] ^= static_cast<unsigned char>(1u << i % 8);
  }
}

BOOST_AUTO_TEST_CASE(a_newer_format_is_refused_even_beside_an_older_header) {
  auto a = record_of(some_header()), b = a;
  a.sequence = 9;
  b.version = shard_format_version + 1;
  finish(a);
  finish(b);
  BOOST_TEST((check(b) == slot_state::newer));
  BOOST_TEST((choose_header(a, b).status == errc::bad_format));
}

// -- table

namespace {

struct table_on_disk {
  table_on_disk()
    : header(record_of(some_header())), slots{std::vector<table_record>(2), std::vector<table_record>(2)} {
    std::memset(static_cast<void*>(slots[0].data()), 0, 2 * sizeof(table_record));
    std::memset(static_cast<void*>(slots[1].data()), 0, 2 * sizeof(table_record));
    table_pages{2}.store_slots(header);
  }

  void checkpoint(const block_table& table, table_pages& pages) {
    auto sequence = pages.next_sequence();
    for (auto page : pages.take_stale()) {
      table_pages::encode(table, some_header(), page, sequence, slots[pages.slot(page) ^ 1][page]);
      pages.flip(page, sequence);
    }
    header = record_of(some_header());
    pages.store_slots(header);
  }

  errc load(block_table& table) {
    table_pages pages{2};
    return pages.load(slots[0], slots[1], header, table);
  }

  header_record header;
  std::vector<table_record> slots[2];
};

} // namespace

BOOST_AUTO_TEST_CASE(a_table_comes_back_with_its_sums_and_states) {
  table_on_disk disk;
  block_table table{1024};
  table_pages pages{2};
  BOOST_TEST((disk.load(table) == errc::none)); // never written: holes
  table.set_written(3, 0x1234);
  table.set_written(1000, 0x5678);
  pages.stale(3, 1);
  pages.stale(1000, 1);
  disk.checkpoint(table, pages);
  block_table again{1024};
  BOOST_TEST((disk.load(again) == errc::none));
  BOOST_TEST(again.crc(3) == 0x1234u);
  BOOST_TEST(again.crc(1000) == 0x5678u);
  BOOST_TEST(again.hole(4));
  BOOST_TEST(again.allocated_bytes() == 2 * block_size);
}

BOOST_AUTO_TEST_CASE(a_spoilt_page_is_never_replaced_by_one_of_another_time) {
  table_on_disk disk;
  block_table table{1024};
  table_pages pages{2};
  table.set_written(3, 1);
  pages.stale(3, 1);
  disk.checkpoint(table, pages);
  // The other slot says hole, validly: taken for current it would turn data into zeros.
  disk.slots[pages.slot(0)][0].crcs[3] ^= 4;
  block_table again{1024};
  BOOST_TEST((disk.load(again) == errc::bad_format));
  // Of the same time it will do.
  table_pages::encode(table, some_header(), 0, 1, disk.slots[pages.slot(0) ^ 1][0]);
  BOOST_TEST((disk.load(again) == errc::none));
  BOOST_TEST(again.crc(3) == 1u);
}

BOOST_AUTO_TEST_CASE(a_page_of_another_shard_is_not_valid) {
  block_table table{1024};
  table_record x;
  table_pages::encode(table, some_header(), 0, 1, x);
  auto other = some_header();
  BOOST_TEST(valid(x, other, 0));
  BOOST_TEST(!valid(x, other, 1));
  other.generation = generation{3};
  BOOST_TEST(!valid(x, other, 0));
  other = some_header();
  other.id.index = shard_index{4};
  BOOST_TEST(!valid(x, other, 0));
}

BOOST_AUTO_TEST_CASE(extents_are_merged_and_widened_to_blocks) {
  block_table table{64};
  table.set_written(1, 0);
  table.set_written(2, 0);
  table.set_written(5, 0);
  std::vector<shard_extent> out;
  table.extents(100, 5 * block_size, out); // blocks 0 to 5
  BOOST_REQUIRE(out.size() == 4u);
  BOOST_TEST(out[0].length == block_size);
  BOOST_TEST((out[1].state == block_state::written));
  BOOST_TEST(out[1].offset == block_size);
  BOOST_TEST(out[1].length == 2 * block_size);
  BOOST_TEST(out[3].offset == 5 * block_size);
  // Asked in pieces it is the same.
  std::vector<shard_extent> pieces;
  for (uint64_t i = 0; i < 6; ++i)
    table.extents(i * block_size, block_size, pieces);
  BOOST_TEST(pieces.size() == 4u);
}

BOOST_AUTO_TEST_CASE(changes_are_noted_once_and_forgotten_when_taken) {
  block_table table{64};
  table.note(1, 4);
  BOOST_TEST(table.changed_bytes() == 0u);
  table.track_changes(true);
  table.note(1, 4);
  table.note(3, 4);
  table.note(60, 4);
  BOOST_TEST(table.changed_bytes() == 10 * block_size);
  auto changes = table.take_changes();
  BOOST_REQUIRE(changes.size() == 2u);
  BOOST_TEST(changes[0].offset == block_size);
  BOOST_TEST(changes[0].length == 6 * block_size);
  BOOST_TEST(changes[1].offset == 60 * block_size);
  BOOST_TEST(changes[1].length == 4 * block_size);
  BOOST_TEST(table.changed_bytes() == 0u);
  BOOST_TEST(table.take_changes().empty());
  // A range that is copied by itself.
  table.note(10, 4);
  table.forget_changes(11 * block_size, 2 * block_size);
  table.forget_changes(11 * block_size, 2 * block_size);
  BOOST_TEST(table.changed_bytes() == 2 * block_size);
  BOOST_TEST(table.take_changes().size() == 2u);
}

// -- names

BOOST_AUTO_TEST_CASE(a_file_name_says_volume_index_and_generation) {
  shard_file_name x{{volume_id{0xabcdef}, shard_index{1 << 24}}, generation{12}};
  auto parsed = parse_shard_file_name(to_string(x));
  BOOST_REQUIRE(parsed.has_value());
  BOOST_TEST((*parsed == x));
  for (auto bad : {"", "v.shard", "v1-s2-g3", "v1-s2-g3.shard.new", "v1-s2-gx.shard", "w1-s2-g3.shard"})
    BOOST_TEST(!parse_shard_file_name(bad).has_value());
}

// -- an emulated device

BOOST_AUTO_TEST_CASE(an_emulated_device_adds_latency_and_queues_for_bandwidth) {
  using namespace std::chrono_literals;
  slow_down x{{5ms, 7ms, 1000000}};
  BOOST_TEST((x.due(false, 1000, 1s) == 1s + 1ms + 5ms));
  BOOST_TEST((x.due(true, 1000, 1s) == 1s + 2ms + 7ms));
  BOOST_TEST((x.due(false, 0, 2s) == 2s + 5ms));
}

BOOST_AUTO_TEST_CASE(a_meter_decays_what_it_has_seen) {
  using namespace std::chrono_literals;
  device_meter x;
  boot_time now = 1h;
  for (auto i = 0; i < 200; ++i, now += 100ms)
    x.count(device_meter::kind::read, 100000, 1ms, now);
  auto busy = x.statistics(now);
  BOOST_TEST(busy.reads == 200u);
  BOOST_TEST((busy.read_latency_mean == 1ms));
  BOOST_TEST(busy.read_bytes_per_second > 0.9e6);
  BOOST_TEST(busy.read_bytes_per_second < 1.1e6);
  BOOST_TEST(x.statistics(now + 60s).read_bytes_per_second < 1e5);
}
