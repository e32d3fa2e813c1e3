// The data plane over the real stores: file shards on a simulated disk, and on real rings and sockets.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>

#include <boost/test/unit_test.hpp>

#include "runtime/data_plane/reactor_data_plane.hpp"
#include "runtime/reactor/simulated_disk.hpp"
#include "runtime/reactor/simulated_ring.hpp"

#include "plane_fixture.hpp"

using namespace varve;
using namespace varve::test;

namespace {

constexpr uint64_t shard_size = shard_size_min;
constexpr volume_id volume{1};

/// A node with two file tiers on one simulated disk, and what a crash of it keeps.
struct disk_node {
  explicit disk_node(uint64_t seed, move_limits limits = {}) : world(seed), disk(world), moves(limits) {
    disk.make_folder("/fast");
    disk.make_folder("/slow");
    boot();
  }
  ~disk_node() {
    std::optional<errc> stopped;
    plane->stop([&](errc x) { stopped = x; });
    BOOST_TEST(world.run_until([&] { return stopped.has_value(); }));
    world.run_until_idle();
    plane.reset();
    world.run_until_idle();
  }
  void boot() {
    ring = std::make_unique<simulated_ring>(world, &disk);
    on = std::make_unique<reactor>(*ring);
    world.attach(*on);
    data_plane_options options;
    for (auto name : {"fast", "slow"}) {
      shard_store_options tier;
      tier.name = name;
      tier.kind = tier_kind::file;
      tier.directory = std::string{"/"} + name;
      options.tiers.push_back(tier);
    }
    options.moves = moves;
    plane = std::make_unique<reactor_data_plane>(options, std::vector<reactor*>{on.get()});
    port_options port;
    port.volume = volume;
    port.name = "vm1";
    port.size_bytes = 4 * shard_size;
    port.shard_size = shard_size;
    port.on_need = [this](std::vector<route_need> needs) {
      for (auto& x : needs)
        if (x.first.value() == 0)
          plane->set_routes(volume, {route_now()});
    };
    BOOST_TEST((call<errc>([&](auto done) { plane->open_port(port, done); }) == errc::none));
  }
  /// kill -9 or a power loss: nothing of the process runs again, and what it owned is never freed.
  void crash(bool power) {
    power ? disk.power_loss() : disk.kill();
    (void)plane.release();
    (void)on.release();
    (void)ring.release();
    boot();
  }
  /// What is written and moved: there until the disk is gone.
  void make_shard() {
    shard_header header;
    header.id = shard;
    header.size = shard_size;
    header.generation = of;
    header.fence = epoch{1};
    const auto made = call<shard_summary>([&](auto done) { plane->create_shard(tier, header, done); });
    BOOST_REQUIRE((made.status == errc::none));
  }
  route route_now() const {
    route x;
    x.first = shard_index{0};
    x.exists = true;
    x.writable = true;
    x.tier = tier;
    x.generation = of;
    x.fence = epoch{1};
    x.valid_until = world.now() + 1h;
    return x;
  }
  template <class T, class F>
  T call(F command) {
    auto result = std::make_shared<std::optional<T>>();
    command([result](T x) { *result = std::move(x); });
    if (!world.run_until([&] { return result->has_value(); }))
      throw std::runtime_error("the command does not end");
    return std::move(**result);
  }
  errc run(io& x) {
    plane->backend(volume)->submit(x);
    BOOST_REQUIRE(world.run_until([&] { return x.done; }));
    return x.status;
  }

  simulated_world world;
  simulated_disk disk;
  move_limits moves;
  std::unique_ptr<simulated_ring> ring;
  std::unique_ptr<reactor> on;
  std::unique_ptr<reactor_data_plane> plane;
  const shard_id shard{volume, shard_index{0}};
  /// Where it is.
  std::string tier = "fast";
  generation of{1};
};

/// Every change at both ends from the first pass on.
move_limits mirrored() {
  move_limits x;
  x.passes_without_shrinking = 0;
  return x;
}

} // namespace

BOOST_AUTO_TEST_SUITE(real_stores)

BOOST_AUTO_TEST_CASE(changes_that_overlap_while_they_are_mirrored_leave_both_ends_alike) {
  // A VM that breaks its own order: writes, trims and zeroings of any alignment over each other, while the shard moves
  // there and back. That the ends agree the switch itself checks, by all their sums; here, that nothing is lost.
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      disk_node node{seed, mirrored()};
      auto& random = node.world.random();
      node.make_shard();
      constexpr uint64_t units = shard_size / 512;
      std::vector<std::set<int>> may_be(units, {0});
      std::vector<int> changing(units);
      struct change {
        std::unique_ptr<io> x;
        int value;
      };
      std::vector<change> busy;
      auto settle = [&] {
        std::erase_if(busy, [&](change& c) {
          if (!c.x->done)
            return false;
          BOOST_REQUIRE((c.x->status == errc::none));
          for (auto i = c.x->offset / 512; i < (c.x->offset + c.x->length) / 512; ++i)
            --changing[i];
          return true;
        });
      };
      auto poke = [&] {
        if (busy.size() >= 8)
          return;
        const auto kind = random.below(8);
        const auto whole = kind == 0 ? block_size / 512 : 1; // a trim leaves the rest of a block as it is
        const auto first = random.below(units) / whole * whole;
        const auto count = std::min((1 + random.below(40)) * whole, units - first);
        const auto value = kind < 2 ? 0 : static_cast<int>(1 + random.below(250));
        auto x = std::make_unique<io>(kind == 0   ? block_op::trim
                                      : kind == 1 ? block_op::write_zeroes
                                                  : block_op::write,
                                      first * 512, count * 512, static_cast<std::byte>(value));
        for (auto i = first; i < first + count; ++i) {
          if (changing[i]++ == 0)
            may_be[i].clear(); // of those that overlap from here on, any may be the last
          may_be[i].insert(value);
        }
        busy.push_back({std::move(x), value});
        node.plane->backend(volume)->submit(*busy.back().x);
      };
      auto busily = [&](auto&& until) {
        while (!until()) {
          settle();
          poke();
          node.world.advance(std::chrono::microseconds{random.below(200)});
        }
      };
      for (uint64_t id = 1; id <= 3; ++id) {
        move_ends ends;
        ends.id = migration_id{id};
        ends.shard = node.shard;
        ends.from_tier = node.tier;
        ends.to_tier = node.tier == "fast" ? "slow" : "fast";
        ends.from = node.of;
        ends.to = generation{node.of.value() + 1};
        std::optional<errc> status;
        node.plane->begin_move(ends, [&](errc x) { status = x; });
        busily([&] { return status.has_value(); });
        BOOST_REQUIRE((*status == errc::none));
        for (int i = 0; i < 3; ++i) {
          std::optional<copy_round> round;
          node.plane->copy_some(ends, ~uint64_t{0}, [&](copy_round x) { round = x; });
          busily([&] { return round.has_value(); });
          BOOST_REQUIRE((round->status == errc::none));
          BOOST_REQUIRE(round->mirroring);
        }
        std::optional<switch_result> switched;
        node.plane->switch_move(ends, [&](switch_result x) { switched = x; });
        busily([&] { return switched.has_value(); });
        BOOST_REQUIRE((switched->status == errc::none));
        node.tier = ends.to_tier;
        node.of = ends.to;
        status.reset();
        node.plane->end_move(ends, true, [&](errc x, std::chrono::nanoseconds) { status = x; });
        busily([&] { return status.has_value(); });
        BOOST_REQUIRE((*status == errc::none));
      }
      BOOST_REQUIRE(node.world.run_until([&] {
        settle();
        return busy.empty();
      }));
      io all{block_op::read, 0, shard_size};
      BOOST_REQUIRE((node.run(all) == errc::none));
      const auto bytes = all.answer();
      for (uint64_t i = 0; i < units; ++i)
        BOOST_REQUIRE_MESSAGE(may_be[i].count(static_cast<int>(bytes[i * 512])),
                              "unit " << i << " reads as " << static_cast<int>(bytes[i * 512]));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_crash_at_any_moment_of_a_move_between_file_tiers_loses_nothing_acknowledged) {
  // One shard is written, moved and written on; the process dies at a random moment. The actors' part is played here:
  // the catalog commits after switch_move; then the move is ended as the catalog says, or taken back.
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      disk_node node{seed, seed % 3 == 0 ? mirrored() : move_limits{}};
      auto& random = node.world.random();
      const auto power = seed % 4 == 0;
      node.make_shard();
      constexpr uint64_t blocks = shard_size / block_size;
      std::vector<std::set<int>> may_be(blocks, {0});
      std::map<uint64_t, std::pair<std::unique_ptr<io>, int>> busy;
      std::vector<std::unique_ptr<io>> lost; // what a dead process was asked
      auto poke = [&] {
        for (auto at = busy.begin(); at != busy.end();)
          if (at->second.first->done) {
            BOOST_REQUIRE((at->second.first->status == errc::none));
            may_be[at->first] = {at->second.second};
            at = busy.erase(at);
          } else {
            ++at;
          }
        const auto block = random.below(blocks);
        if (busy.count(block))
          return;
        const auto value = static_cast<int>(1 + random.below(250));
        auto x = std::make_unique<io>(block_op::write, block * block_size, block_size, static_cast<std::byte>(value));
        // Over a power loss only what was flushed counts.
        x->fua = power;
        may_be[block].insert(value);
        busy[block] = {std::move(x), value};
        node.plane->backend(volume)->submit(*busy[block].first);
      };
      move_ends ends;
      ends.id = migration_id{1};
      ends.shard = node.shard;
      ends.from_tier = "fast";
      ends.to_tier = "slow";
      ends.from = generation{1};
      ends.to = generation{2};
      auto committed = false;
      auto over = false;
      std::function<void()> next;
      int stage = 0;
      next = [&] {
        switch (stage++) {
        case 0:
          node.plane->begin_move(ends, [&](errc x) {
            BOOST_REQUIRE((x == errc::none));
            next();
          });
          break;
        case 1:
        case 2:
          node.plane->copy_some(ends, stage == 2 ? 16 * block_size : ~uint64_t{0}, [&](copy_round x) {
            BOOST_REQUIRE((x.status == errc::none));
            next();
          });
          break;
        case 3:
          node.plane->switch_move(ends, [&](switch_result x) {
            BOOST_REQUIRE((x.status == errc::none));
            committed = true;
            node.tier = "slow";
            node.of = generation{2};
            next();
          });
          break;
        case 4:
          node.plane->end_move(ends, true, [&](errc x, std::chrono::nanoseconds) {
            BOOST_REQUIRE((x == errc::none));
            over = true;
          });
          break;
        }
      };
      const auto die_after = random.below(600);
      for (uint64_t i = 0; i < die_after; ++i) {
        if (i == 50)
          next();
        poke();
        node.world.advance(std::chrono::microseconds{random.below(200)});
      }
      node.crash(power);
      for (auto& [block, x] : busy)
        lost.push_back(std::move(x.first));
      busy.clear();
      // Each moment leaves a move that can be ended one way, as often as one likes.
      for (int i = 0; i < 2; ++i) {
        std::optional<errc> ended;
        node.plane->end_move(ends, committed, [&](errc x, std::chrono::nanoseconds) { ended = x; });
        BOOST_REQUIRE(node.world.run_until([&] { return ended.has_value(); }));
        BOOST_REQUIRE((*ended == errc::none));
      }
      for (uint64_t block = 0; block < blocks; ++block) {
        io x{block_op::read, block * block_size, block_size};
        BOOST_REQUIRE((node.run(x) == errc::none));
        const auto bytes = x.answer();
        BOOST_REQUIRE_MESSAGE(may_be[block].count(static_cast<int>(bytes[0])),
                              "block " << block << " reads as " << static_cast<int>(bytes[0]));
      }
      // A file that was not whole yet has another name, and is the store's to overwrite.
      auto shards_in = [&](const std::string& folder) {
        auto names = node.disk.list(folder);
        return std::count_if(names.begin(), names.end(), [](auto& x) { return x.ends_with(".shard"); });
      };
      BOOST_REQUIRE_EQUAL(shards_in("/fast"), committed ? 0 : 1);
      BOOST_REQUIRE_EQUAL(shards_in("/slow"), committed ? 1 : 0);
      for (auto& x : lost)
        (void)x.release(); // the dead process's coroutines still name them
    }
  }
}

BOOST_AUTO_TEST_CASE(threads_rings_files_and_memory_work_together_and_stop) {
  auto folder = std::filesystem::temp_directory_path() / ("varve-data-plane-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  data_plane_options options;
  options.reactors = 2;
  options.tiers.resize(2);
  options.tiers[0].name = "memory";
  options.tiers[1].name = "file";
  options.tiers[1].kind = tier_kind::file;
  options.tiers[1].directory = folder;
  options.tiers[1].io = file_io::buffered;
  std::string problem;
  {
    auto plane = make_data_plane(options, problem);
    BOOST_REQUIRE_MESSAGE(plane, problem);
    auto wait = [](auto command) {
      std::promise<errc> made;
      command([&](errc x) { made.set_value(x); });
      return made.get_future().get();
    };
    for (uint64_t v = 1; v <= 4; ++v) {
      port_options port;
      port.volume = volume_id{v};
      port.name = "vm" + std::to_string(v);
      port.size_bytes = 64 * shard_size;
      port.shard_size = shard_size;
      port.reactor = static_cast<uint32_t>(v);
      port.socket_path = folder / (port.name + ".sock");
      port.on_need = [&plane, v](std::vector<route_need> needs) {
        for (auto& need : needs)
          for (auto i = need.first.value(); i < need.first.value() + need.count; ++i) {
            route x;
            x.first = shard_index{i};
            x.valid_until = boot_time::max();
            if (!need.write) {
              plane->set_routes(volume_id{v}, {x});
              continue;
            }
            x.exists = x.writable = true;
            x.tier = v % 2 ? "memory" : "file";
            x.generation = generation{1};
            shard_header header;
            header.id = {volume_id{v}, x.first};
            header.size = shard_size;
            header.generation = generation{1};
            plane->create_shard(x.tier, header,
                                [&plane, v, x](shard_summary) { plane->set_routes(volume_id{v}, {x}); });
          }
      };
      BOOST_REQUIRE((wait([&](auto done) { plane->open_port(port, done); }) == errc::none));
    }
    // Real clients, if they are there.
    if (std::system("command -v /usr/bin/nbdsh > /dev/null 2>&1") == 0)
      for (uint64_t v = 1; v <= 4; ++v) {
        const auto uri = "nbd+unix:///?socket=" + (folder / ("vm" + std::to_string(v) + ".sock")).string();
        const auto script = "PATH=/usr/bin:/bin timeout 30 nbdsh -u '" + uri +
                            "' -c 'h.pwrite(b\"varve\" * 200000, 1234)' -c 'h.flush()'"
                            " -c 'assert h.pread(1000000, 1234) == b\"varve\" * 200000'"
                            " -c 'h.zero(4096, 8192); h.trim(65536, 0)'"
                            " -c 'assert h.pread(4096, 8192) == bytes(4096)'"
                            " -c 'assert h.pread(512, 60 * 262144) == bytes(512)'";
        BOOST_TEST(std::system(script.c_str()) == 0);
      }
    // A move between a real memory and a real file tier while it is read.
    move_ends ends;
    ends.id = migration_id{1};
    ends.shard = {volume_id{1}, shard_index{0}};
    ends.from_tier = "memory";
    ends.to_tier = "file";
    ends.from = generation{1};
    ends.to = generation{2};
    shard_header header;
    header.id = ends.shard;
    header.size = shard_size;
    header.generation = generation{1};
    std::promise<errc> made;
    plane->create_shard("memory", header, [&](shard_summary x) { made.set_value(x.status); });
    made.get_future().get(); // it may be there by now
    BOOST_TEST((wait([&](auto done) { plane->begin_move(ends, done); }) == errc::none));
    BOOST_TEST(
      (wait([&](auto done) { plane->switch_move(ends, [done](switch_result x) { done(x.status); }); }) == errc::none));
    BOOST_TEST((wait([&](auto done) {
                  plane->end_move(ends, true, [done](errc x, std::chrono::nanoseconds) { done(x); });
                }) == errc::none));
    // Destroyed with ports open: it stops by itself.
  }
  uint64_t files = 0;
  for (auto& x : std::filesystem::directory_iterator{folder}) {
    files += x.path().extension() == ".shard";
    BOOST_TEST(x.path().extension() != ".sock");
  }
  BOOST_TEST(files >= 1u);
  std::ofstream{folder / "v9-s0-g1.shard.new"} << "of a creation that a crash cut short";
  // And what was written is there for the next one.
  {
    auto plane = make_data_plane(options, problem);
    BOOST_TEST(!std::filesystem::exists(folder / "v9-s0-g1.shard.new"));
    std::promise<shard_summary> found;
    plane->activate_shard("file", {volume_id{1}, shard_index{0}}, generation{2},
                          [&](shard_summary x) { found.set_value(x); });
    auto summary = found.get_future().get();
    BOOST_TEST((summary.status == errc::none));
    BOOST_TEST(!summary.header.incomplete);
  }
  std::filesystem::remove_all(folder);
  options.tiers[1].directory = folder;
  BOOST_TEST((make_data_plane(options, problem) == nullptr));
  BOOST_TEST(!problem.empty());
}

BOOST_AUTO_TEST_SUITE_END()
