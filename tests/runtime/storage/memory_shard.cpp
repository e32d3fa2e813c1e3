#include <boost/test/unit_test.hpp>

#include <cstring>

#include "tests/runtime/storage/storage_fixture.hpp"

using namespace varve;
using namespace varve::test;
using namespace std::chrono_literals;

namespace {

struct memory_fixture : simulated_machine {
  memory_fixture() : simulated_machine(1) { make({}); }

  void make(tier_emulation emulate) {
    x.reset();
    shard_store_options options;
    options.emulate = emulate;
    options.on_mismatch = [this](shard_id, uint64_t offset) { mismatches.push_back(offset); };
    store = make_memory_store(*on, options);
    auto opened = run_create(*this, *store, header_for(1 << 20));
    BOOST_REQUIRE((opened.status == errc::none));
    x = std::move(opened.shard);
  }

  std::unique_ptr<shard_store> store;
  std::unique_ptr<shard> x;
  std::vector<uint64_t> mismatches;
};

} // namespace

BOOST_FIXTURE_TEST_CASE(random_requests_of_any_alignment_agree_with_a_shadow, memory_fixture) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    make({});
    shadow_run{*this, *x, seed}.batches(20, 8);
  }
  BOOST_TEST(store->statistics().checksum_mismatches == 0u);
}

BOOST_FIXTURE_TEST_CASE(an_emulated_memory_tier_agrees_with_a_shadow_too, memory_fixture) {
  make({100us, 200us, 100 << 20});
  shadow_run{*this, *x, 5, true}.batches(10, 8);
  auto before = world.now();
  auto block = filled(block_size, 1);
  BOOST_TEST((run(x->write(0, block)) == errc::none));
  BOOST_TEST(((world.now() - before) >= 200us));
  errc status;
  BOOST_TEST(!x->try_write(0, block, status));
}

BOOST_FIXTURE_TEST_CASE(requests_are_answered_without_a_task, memory_fixture) {
  errc status = errc::unavailable;
  auto block = filled(block_size, 7), into = filled(block_size, 0);
  BOOST_TEST(x->try_write(4096, block, status));
  BOOST_TEST((status == errc::none));
  BOOST_TEST(x->try_read(4096, into, status));
  BOOST_TEST((into == block));
  BOOST_TEST(x->allocated_bytes() == block_size);
  BOOST_TEST(x->dirty());
  BOOST_TEST((run(x->flush()) == errc::none));
  BOOST_TEST(!x->dirty());
}

BOOST_FIXTURE_TEST_CASE(a_view_is_pinned_and_writers_wait_for_it_in_order, memory_fixture) {
  auto one = filled(8192, 1), two = filled(4096, 2), three = filled(4096, 3);
  BOOST_REQUIRE((run(x->write(0, one)) == errc::none));
  BOOST_TEST(x->pin(1, 4096).empty());
  BOOST_TEST(x->pin(8192, 4096).empty()); // a hole
  auto view = x->pin(0, 8192);
  BOOST_REQUIRE(view.size() == 8192u);
  errc status;
  BOOST_TEST(!x->try_write(0, two, status));
  std::optional<errc> first, second;
  start(store_result(x->write(0, two), first));
  start(store_result(x->write(0, three), second));
  BOOST_TEST(!first.has_value());
  BOOST_TEST((view[0] == std::byte{1}));
  BOOST_TEST(x->pin(0, 4096).empty());     // or writers would starve
  BOOST_TEST(x->try_read(0, one, status)); // reads go on
  x->unpin();
  BOOST_TEST(first.has_value());
  BOOST_TEST(second.has_value());
  BOOST_TEST((x->pin(0, 4096)[0] == std::byte{3}));
  x->unpin();
}

BOOST_FIXTURE_TEST_CASE(a_flipped_bit_in_memory_is_an_error_and_other_blocks_still_read, memory_fixture) {
  auto bytes = filled(16384, 9), into = filled(4096, 0);
  BOOST_REQUIRE((run(x->write(0, bytes)) == errc::none));
  auto view = x->pin(0, 4096);
  x->unpin();
  const_cast<std::byte&>(view[100]) ^= std::byte{1};
  BOOST_TEST((run(x->read(0, into)) == errc::checksum_mismatch));
  BOOST_TEST((run(x->write(10, std::span{into}.first(5))) == errc::checksum_mismatch));
  BOOST_TEST(x->pin(0, 4096).empty());
  BOOST_TEST((run(x->read(4096, into)) == errc::none));
  BOOST_TEST(mismatches.size() == 2u);
  BOOST_TEST(store->statistics().checksum_mismatches == 2u);
  errc status;
  BOOST_TEST(run(x->verify(0, 1 << 20, status)) == 1u);
  BOOST_TEST((run(x->write(0, into)) == errc::none));
  BOOST_TEST(run(x->verify(0, 1 << 20, status)) == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_closed_shard_keeps_its_contents_until_it_is_removed, memory_fixture) {
  auto id = x->header().id;
  auto of = x->header().generation;
  auto bytes = filled(4096, 9), into = filled(4096, 0);
  BOOST_REQUIRE((run(x->write(0, bytes)) == errc::none));
  BOOST_TEST((run(store->remove(id, of)) == errc::unavailable));
  BOOST_TEST((run_open(*this, *store, id, of).status == errc::unavailable));
  x.reset();
  auto again = run_open(*this, *store, id, of);
  BOOST_REQUIRE((again.status == errc::none));
  BOOST_TEST((run(again.shard->read(0, into)) == errc::none));
  BOOST_TEST((into == bytes));
  BOOST_TEST((run(again.shard->seal(migration_id{1}, generation{2})) == errc::none));
  BOOST_TEST((run(again.shard->read(0, into)) == errc::shard_moved));
  again.shard.reset();
  BOOST_TEST((run(store->remove(id, of)) == errc::none));
  BOOST_TEST((run(store->remove(id, of)) == errc::not_found));
  BOOST_TEST((run_open(*this, *store, id, of).status == errc::not_found));
}
