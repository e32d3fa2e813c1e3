#include <boost/test/unit_test.hpp>

#include "tests/runtime/storage/storage_fixture.hpp"

using namespace varve;
using namespace varve::test;
using namespace std::chrono_literals;

// Coroutines that a crash ended never come back for their frames.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}

namespace {

enum class crash : uint8_t { kill, power_loss };

/// All of it is one thread: ThreadSanitizer, under which a life takes ten times as long, looks at fewer.
#ifdef __SANITIZE_THREAD__
constexpr uint64_t slower = 20;
#else
constexpr uint64_t slower = 1;
#endif

// Several lives of one shard, each ended in the middle of random requests. `sink`: of one that becomes whole in the
// middle of its first life's requests, as under a mirror.
void live_and_crash(uint64_t seed, crash how, int lives, bool sink = false) {
  simulated_disk_options disk;
  disk.direct_alignment = 4096;
  file_machine on{seed, seed % 2 ? file_io::direct : file_io::buffered, disk};
  if (seed % 3 == 0)
    on.options.checkpoint_after = 3ms;
  on.store = make_file_store(*on.on, on.options);
  auto header = header_for(seed % 5 ? 256 << 10 : 1 << 20);
  header.incomplete = sink;
  on.x = run_create(on, *on.store, header).shard;
  BOOST_REQUIRE(on.x);
  // The shadow outlives its requests: coroutines that a crash ended may still name it.
  auto& run = *new shadow_run{on, *on.x, seed};
  for (auto life = 0; life < lives; ++life) {
    auto end = on.world.now() + std::chrono::microseconds{run.random.below(life % 2 ? 60000 : 8000)};
    auto width = run.random.between(1, 12);
    while (on.world.now() < end) {
      while (run.in_flight < static_cast<int>(width))
        run.begin_one();
      on.world.advance(std::chrono::microseconds{run.random.between(1, 400)});
      if (run.random.below(40) == 0)
        on.world.advance(20ms); // quiet: an idle checkpoint may begin
    }
    if (sink && life == 0) {
      BOOST_TEST((on.run(on.x->complete(epoch{1})) == errc::none));
      on.world.advance(std::chrono::microseconds{run.random.below(2000)});
    }
    if (how == crash::kill)
      on.kill();
    else
      on.power_loss();
    auto status = on.open();
    BOOST_REQUIRE_MESSAGE(status == errc::none, "open: " << to_string(status));
    run.x = on.x.get();
    run.in_flight = 0;
    std::vector<std::byte> all(run.model.size());
    status = on.run(on.x->read(0, all));
    BOOST_TEST((status == errc::none), "the whole reads with " << to_string(status));
    auto& model = run.model;
    for (uint64_t block = 0; block < model.size() / block_size; ++block) {
      auto bytes = std::span{all}.subspan(block * block_size, block_size);
      if (how == crash::kill) {
        if (!model.possible(block, 0, bytes, model.acknowledged(block)))
          BOOST_ERROR("life " << life << ": block " << block << " lost what was acknowledged");
        continue;
      }
      for (uint64_t at = 0; at < block_size; at += 512)
        if (!model.possible(block, at, bytes.subspan(at, 512), model.flushed(block)))
          BOOST_ERROR("life " << life << ": sector at " << block * block_size + at << " lost what was flushed");
    }
    model.settle(all);
    BOOST_TEST(on.mismatches.empty());
  }
  run.batches(3, 4);
}

} // namespace

BOOST_AUTO_TEST_CASE(every_acknowledged_write_survives_kill) {
  for (uint64_t seed = 1; seed <= 100 / slower; ++seed)
    BOOST_TEST_CONTEXT("seed " << seed)
  live_and_crash(seed, crash::kill, 4);
}

BOOST_AUTO_TEST_CASE(everything_flushed_survives_power_loss_at_a_thousand_points) {
  for (uint64_t seed = 1; seed <= 200 / slower; ++seed)
    BOOST_TEST_CONTEXT("seed " << seed)
  live_and_crash(seed, crash::power_loss, 5);
}

BOOST_AUTO_TEST_CASE(a_sink_that_becomes_whole_under_writes_survives_both) {
  for (uint64_t seed = 1; seed <= 150 / slower; ++seed)
    BOOST_TEST_CONTEXT("seed " << seed)
  live_and_crash(seed, seed % 2 ? crash::kill : crash::power_loss, 2, true);
}
