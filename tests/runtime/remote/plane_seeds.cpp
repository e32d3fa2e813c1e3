// Data planes of three nodes under cut and slow wires, killed processes, lost power, fences and moves, from seeds.

#include "tests/runtime/remote/cluster_fixture.hpp"

using namespace varve;
using namespace varve::test;

namespace {

constexpr uint64_t size = cluster_fixture::shard_size;
constexpr uint64_t shards = 4;
/// Every other lane's region lies in two shards.
constexpr uint64_t region = size / 8 * 3;
constexpr uint64_t lanes = 2 * shards - 1;
constexpr uint64_t base_of(uint64_t lane) {
  return lane * size / 2 + size / 4;
}

struct chaos_cluster : cluster_fixture {
  using cluster_fixture::cluster_fixture;

  /// One request of a VM, from within a coroutine.
  struct [[nodiscard]] served {
    served(block_backend& to, io& x) : to_(to), x_(x) {}
    bool await_ready() {
      to_.submit(x_);
      return x_.done;
    }
    void await_suspend(std::coroutine_handle<> handle) { x_.waiting = handle; }
    errc await_resume() const { return x_.status; }
    block_backend& to_;
    io& x_;
  };

  /// A command to a node's data plane: errc::unavailable when the node is not up, or not any more.
  template <class Command>
  task<errc> ask(std::string at, Command command) {
    auto& of = node(at);
    if (!of.up())
      co_return errc::unavailable;
    const auto life = of.life;
    auto result = std::make_shared<std::optional<errc>>();
    command(*of.plane, [result](errc e) { *result = e; });
    while (!*result && of.up() && of.life == life)
      co_await sleep_for(control, 1ms);
    co_return result->value_or(errc::unavailable);
  }

  // -- VMs

  struct lane_state {
    std::vector<std::byte> model = std::vector<std::byte>(region);
    int left = 150;
  };
  task<void> lane(std::string at, volume_id volume, uint64_t base, simulated_random random, lane_state& of) {
    auto& to = *node(at).plane->backend(volume);
    for (; of.left > 0; --of.left) {
      const auto length = random.chance(0.5) ? block_size * random.between(1, 8) : random.between(1, 20'000);
      auto offset = random.below(region - length + 1);
      if (random.chance(0.5))
        offset = offset / block_size * block_size;
      const auto where = of.model.begin() + static_cast<ptrdiff_t>(offset);
      const auto what = random.below(10);
      io x{what < 5   ? block_op::write
           : what < 6 ? block_op::write_zeroes
           : what < 9 ? block_op::read
                      : block_op::flush,
           what < 9 ? base + offset : 0, what < 9 ? length : 0};
      x.fua = what < 5 && random.chance(0.1);
      if (what < 5) {
        for (auto& b : x.bytes)
          b = static_cast<std::byte>(random.next());
        std::copy(x.bytes.begin(), x.bytes.end(), where);
      } else if (what < 6) {
        std::fill_n(where, length, std::byte{0});
      }
      const auto status = co_await served{to, x};
      BOOST_TEST((status == errc::none), "ends with " << to_string(status));
      if (what >= 6 && what < 9 && status == errc::none)
        BOOST_TEST((x.answer() == std::vector<std::byte>(where, where + static_cast<ptrdiff_t>(length))),
                   "what was acknowledged is not there");
      // Time for what else goes on.
      co_await sleep_for(control, std::chrono::milliseconds{random.below(60)});
    }
  }

  // -- what goes on

  task<void> fences(simulated_random random) {
    for (; working; co_await sleep_for(control, std::chrono::milliseconds{random.between(50, 800)})) {
      const shard_id id{volume_id{7 + random.below(2)}, shard_index{random.below(shards)}};
      auto at = homes.find(id);
      if (at == homes.end() || !at->second.exists)
        continue;
      const auto h = at->second;
      // Known before it counts: who is granted after this has it.
      fence = epoch{fence.value() + 1};
      auto raise = [h, id, to = fence](data_plane& plane, auto done) { plane.raise_fence(h.tier, id, h.of, to, done); };
      const auto status = co_await ask(node_of(h.tier).name, raise);
      raised += status == errc::none;
    }
    --busy;
  }

  task<void> move(simulated_random random) {
    for (uint64_t number = 1; working; ++number) {
      co_await sleep_for(control, std::chrono::milliseconds{random.between(1, 300)});
      const shard_id id{volume_id{7 + random.below(2)}, shard_index{random.below(shards)}};
      auto at = homes.find(id);
      if (at == homes.end() || !at->second.exists)
        continue;
      const char* tiers[] = {"a-files", "b-files", "c-files", "a-memory"};
      const std::string to = tiers[random.below(4)];
      if (to == at->second.tier)
        continue;
      const auto x = ends_of(id, to, number);
      const auto source = node_of(x.from_tier).name;
      auto switched = false;
      for (auto tries = 0; tries < 40 && !switched; ++tries) {
        auto begin = [x](data_plane& plane, auto done) { plane.begin_move(x, done); };
        auto status = co_await ask(source, begin);
        for (auto copied = false; status == errc::none && !copied;) {
          auto last = std::make_shared<copy_round>();
          auto copy = [x, last](data_plane& plane, auto done) {
            plane.copy_some(x, 48 << 10, [last, done](copy_round r) {
              *last = r;
              done(r.status);
            });
          };
          status = co_await ask(source, copy);
          copied = last->remaining_bytes < (64u << 10) || !last->shrinking;
        }
        if (status == errc::none && random.chance(0.9)) {
          auto change = [x](data_plane& plane, auto done) {
            plane.switch_move(x, [done](switch_result r) { done(r.status); });
          };
          status = co_await ask(source, change);
          switched = status == errc::none;
        }
        if (random.chance(0.1))
          break;
        if (!switched)
          co_await sleep_for(control, 300ms);
      }
      const auto committed = switched && random.chance(0.9);
      if (committed)
        commit(x);
      for (;;) {
        auto end = [x, committed](data_plane& plane, auto done) {
          plane.end_move(x, committed, [done](errc e, std::chrono::nanoseconds) { done(e); });
        };
        const auto status = co_await ask(source, end);
        if (status == errc::none)
          break;
        co_await sleep_for(control, 300ms);
      }
      ++(committed ? moved : taken_back);
    }
    --busy;
  }

  task<void> faults(simulated_random random) {
    for (; working; co_await sleep_for(control, std::chrono::milliseconds{random.between(50, 700)})) {
      if (random.chance(0.6)) {
        for (auto& [name, w] : wires)
          if (random.chance(0.3))
            w->cut();
        continue;
      }
      auto& x = node(random.chance(0.5) ? "b" : "c");
      kill(x);
      co_await sleep_for(control, std::chrono::milliseconds{random.between(1, 3000)});
      boot(x);
      ++restarts;
    }
    --busy;
  }

  bool working = true;
  int busy = 0;
  uint64_t moved = 0, taken_back = 0, raised = 0, restarts = 0;
};

struct outcome {
  uint64_t moved = 0, taken_back = 0, raised = 0, restarts = 0, sent_again = 0, refused = 0, history = 0;
};

outcome run_seed(uint64_t seed) {
  outcome result;
  BOOST_TEST_CONTEXT("seed " << seed) {
    chaos_cluster f{seed, {"a", "b", "c"}, seed % 3 == 0 ? 2u : 1u};
    auto& random = f.world.random();
    for (auto& [name, w] : f.wires) {
      w->delay_chance = 0.1;
      w->delay_max = std::chrono::milliseconds{random.between(1, 10)};
      w->cut_chance = 0.004;
    }
    const volume_id volumes[] = {volume_id{7}, volume_id{8}};
    chaos_cluster::lane_state all[2][lanes];
    for (auto v = 0; v < 2; ++v) {
      f.first_tier = v == 0 ? "b-files" : "a-files";
      f.open("a", volumes[v], shards * size);
      BOOST_REQUIRE((f.write("a", volumes[v], 0, 4096, 0) == errc::none));
      for (uint64_t i = 0; i < lanes; ++i)
        start(f.lane("a", volumes[v], base_of(i), simulated_random{random.next()}, all[v][i]));
    }
    f.busy = 3;
    start(f.faults(simulated_random{random.next()}));
    start(f.fences(simulated_random{random.next()}));
    start(f.move(simulated_random{random.next()}));
    auto over = [&] {
      for (auto& v : all)
        for (auto& x : v)
          if (x.left > 0)
            return false;
      return true;
    };
    BOOST_REQUIRE_MESSAGE(f.world.run_until(over, 30min), "requests do not end");
    f.working = false;
    BOOST_REQUIRE_MESSAGE(f.world.run_until([&] { return f.busy == 0; }, 5min), "a move does not end");
    for (auto& [name, w] : f.wires)
      w->cut_chance = 0;
    // It is all there, for whoever looks from wherever.
    for (auto v = 0; v < 2; ++v) {
      BOOST_TEST((f.flush("a", volumes[v]) == errc::none));
      BOOST_TEST(f.volume_counters_of("a", volumes[v]).errors == 0u);
      const auto by = seed % 2 ? "c" : "b";
      f.open(by, volumes[v], shards * size);
      for (uint64_t i = 0; i < lanes; ++i)
        for (auto at : {"a", by}) {
          chaos_cluster::io x{block_op::read, base_of(i), region};
          f.submit(at, volumes[v], x);
          BOOST_REQUIRE(f.finish(x));
          BOOST_TEST((x.status == errc::none && x.answer() == all[v][i].model), "not what it was, seen from " << at);
        }
    }
    for (auto& [id, h] : f.homes) {
      uint64_t bad = 1;
      auto verified = f.call_for<errc>([&, id = id, h = h](auto done) {
        f.node_of(h.tier).plane->verify_shard(h.tier, id, h.of, [&bad, done](errc e, uint64_t n) {
          bad = n;
          done(e);
        });
      });
      BOOST_TEST((verified == errc::none && bad == 0));
    }
    result = {f.moved, f.taken_back, f.raised, f.restarts, 0, 0, f.world.history_hash()};
    for (auto at : {"a", "b", "c"}) {
      const auto x = f.counters(at);
      BOOST_TEST(x.lost_shards == 0u);
      result.sent_again += x.sent_again;
      result.refused += x.refused_stale_epoch + x.refused_moved;
    }
  }
  return result;
}

/// Blocks that each hold a number, which grows with each write. What a FLUSH has answered for is never undone.
struct flushing_cluster : chaos_cluster {
  static constexpr uint64_t blocks = 12;
  using chaos_cluster::chaos_cluster;

  task<void> run(simulated_random random, int rounds) {
    uint64_t number = 0;
    std::map<uint64_t, uint64_t> acknowledged;
    for (; rounds > 0; --rounds) {
      auto& to = *node("a").plane->backend(volume_id{7});
      for (auto i = random.between(1, 4); i > 0; --i) {
        const auto block = random.below(blocks);
        io x{block_op::write, block * size / 4, block_size};
        ++number;
        for (size_t at = 0; at < block_size; at += sizeof(number))
          std::memcpy(x.bytes.data() + at, &number, sizeof(number));
        const auto status = co_await served{to, x};
        BOOST_TEST((status == errc::none));
        acknowledged[block] = number;
        co_await sleep_for(control, std::chrono::milliseconds{random.below(40)});
      }
      io x{block_op::flush, 0, 0};
      const auto status = co_await served{to, x};
      if (status == errc::none) {
        flushed = acknowledged;
        continue;
      }
      BOOST_TEST((status == errc::shard_failed), "ends with " << to_string(status));
      ++failed;
      auto close = [](data_plane& plane, auto done) { plane.close_port(volume_id{7}, false, done); };
      (void)co_await ask("a", close);
      auto options = ports["a"].back();
      options.holder = holder_id{1000 + ++holders}; // another VM
      auto open_again = [options](data_plane& plane, auto done) { plane.open_port(options, done); };
      (void)co_await ask("a", open_again);
      // Whatever is there now is what later flushes answer for.
      acknowledged = flushed;
    }
    --busy;
  }
  task<void> power(simulated_random random) {
    for (; working; co_await sleep_for(control, std::chrono::milliseconds{random.between(100, 900)})) {
      auto& x = node("b");
      kill(x, random.chance(0.7));
      co_await sleep_for(control, std::chrono::milliseconds{random.between(1, 300)});
      boot(x);
      ++restarts;
    }
    --busy;
  }

  std::map<uint64_t, uint64_t> flushed;
  uint64_t failed = 0;
};

} // namespace

BOOST_AUTO_TEST_SUITE(remote_plane_seeds)

BOOST_AUTO_TEST_CASE(nothing_is_lost_and_no_vm_notices) {
  outcome all;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const auto one = run_seed(seed);
    all.moved += one.moved;
    all.taken_back += one.taken_back;
    all.raised += one.raised;
    all.restarts += one.restarts;
    all.sent_again += one.sent_again;
    all.refused += one.refused;
  }
  BOOST_TEST_MESSAGE("moved " << all.moved << ", taken back " << all.taken_back << ", fences " << all.raised
                              << ", restarts " << all.restarts << ", sent again " << all.sent_again << ", refused "
                              << all.refused);
  // It was hard enough.
  BOOST_TEST(all.moved > 100u);
  BOOST_TEST(all.taken_back > 10u);
  BOOST_TEST(all.raised > 200u);
  BOOST_TEST(all.restarts > 50u);
  BOOST_TEST(all.sent_again > 200u);
  BOOST_TEST(all.refused > 80u);
}

BOOST_AUTO_TEST_CASE(one_seed_is_one_history) {
  BOOST_TEST(run_seed(3).history == run_seed(3).history);
}

BOOST_AUTO_TEST_CASE(what_a_flush_answered_for_is_there_after_power_was_lost) {
  uint64_t failed = 0, restarts = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed)
    BOOST_TEST_CONTEXT("seed " << seed) {
      flushing_cluster f{seed, {"a", "b"}};
      auto& random = f.world.random();
      f.open("a", volume_id{7}, shards * size);
      f.busy = 1;
      start(f.run(simulated_random{random.next()}, 60));
      f.world.advance(100ms);
      start(f.power(simulated_random{random.next()}));
      BOOST_REQUIRE(f.world.run_until([&] { return f.busy == 0; }, 30min));
      f.busy = 1;
      f.working = false;
      BOOST_REQUIRE(f.world.run_until([&] { return f.busy == 0; }, 1min));
      f.kill(f.node("b"), true);
      f.boot(f.node("b"));
      f.open("b", volume_id{7}, shards * size);
      for (auto& [block, number] : f.flushed) {
        chaos_cluster::io x{block_op::read, block * size / 4, block_size};
        f.submit("b", volume_id{7}, x);
        BOOST_REQUIRE(f.finish(x));
        const auto bytes = x.answer();
        uint64_t seen = 0;
        std::memcpy(&seen, bytes.data(), sizeof(seen));
        BOOST_TEST(seen >= number, "block " << block << " is what it was before its flush");
      }
      failed += f.failed;
      restarts += f.restarts;
    }
  BOOST_TEST(failed > 20u);
  BOOST_TEST(restarts > 100u);
}

BOOST_AUTO_TEST_SUITE_END()
