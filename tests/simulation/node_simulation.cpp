#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "runtime/catalog/records.hpp"
#include "runtime/storage/file_store.hpp"
#include "tests/simulation/simulated_node.hpp"

namespace varve::test {

namespace {

constexpr uint64_t shards = 24;
constexpr uint64_t blocks_per_shard = shard_size_min / block_size;
constexpr uint64_t blocks = shards * blocks_per_shard;
/// Several times what any one death costs: a request that waits longer is forgotten.
constexpr boot_time answer_limit = 30s;
/// Less than a VM changes of one of its hot shards.
constexpr uint64_t slow_bytes_per_second = 200'000;

/// A request of the VM, over whole blocks, each block with a value of its own.
struct vm_request : block_request {
  std::vector<std::byte> bytes;
  uint64_t first = 0, count = 0;
  std::vector<int> values;
  boot_time began{0};
  bool done = false;
};

/// A VM that keeps its volume busy and knows of each block which values it may have: the last one that was
/// acknowledged, and what was under way when its node died.
class virtual_machine {
public:
  virtual_machine(simulated_node& node, volume_id volume) : node_(node), volume_(volume), may_be_(blocks, {0}) {}

  void poke() {
    auto* backend = node_.plane->backend(volume_);
    if (!backend || requests_.size() >= 6)
      return;
    auto& random = node_.world.random();
    auto x = std::make_unique<vm_request>();
    // Some shards are hot, so that moves meet requests.
    x->first = random.chance(0.5) ? random.below(3 * blocks_per_shard) : random.below(blocks);
    x->count = std::min(1 + random.below(random.chance(0.1) ? 70 : 4), blocks - x->first);
    const auto kind = random.below(20);
    x->op = kind < 9    ? block_op::write
            : kind < 17 ? block_op::read
            : kind < 18 ? block_op::trim
            : kind < 19 ? block_op::write_zeroes
                        : block_op::flush;
    if (x->op == block_op::flush)
      x->count = 0;
    for (auto i = x->first; i < x->first + x->count; ++i)
      if (busy_.count(i))
        return;
    x->offset = x->first * block_size;
    x->length = x->count * block_size;
    x->fua = x->op == block_op::write && random.chance(0.1);
    for (uint64_t i = 0; i < x->count; ++i) {
      busy_.insert(x->first + i);
      if (x->op == block_op::read)
        continue;
      const int value = x->op == block_op::write ? static_cast<int>(++value_ % 250) + 1 : 0;
      x->values.push_back(value);
      may_be_[x->first + i].insert(value);
      if (x->op == block_op::write)
        x->bytes.insert(x->bytes.end(), block_size, static_cast<std::byte>(value));
    }
    x->payload = x->bytes;
    x->began = node_.world.now();
    x->complete = [](block_request& self) { static_cast<vm_request&>(self).done = true; };
    requests_.push_back(std::move(x));
    backend->submit(*requests_.back());
  }

  /// Looks at what was answered.
  void settle() {
    for (size_t i = 0; i < requests_.size();) {
      if (!requests_[i]->done) {
        if (node_.world.now() - requests_[i]->began > answer_limit)
          BOOST_FAIL("a request of op " << static_cast<int>(requests_[i]->op) << " at shard "
                                        << requests_[i]->first / blocks_per_shard << " hangs");
        ++i;
        continue;
      }
      auto x = std::move(requests_[i]);
      requests_.erase(requests_.begin() + static_cast<long>(i));
      if (x->status != errc::none)
        BOOST_FAIL("op " << static_cast<int>(x->op) << " at shard " << x->first / blocks_per_shard << ": "
                         << to_string(x->status));
      ++answered;
      slowest = std::max(slowest, node_.world.now() - x->began);
      if (x->op == block_op::read)
        check(*x);
      for (uint64_t j = 0; j < x->count; ++j) {
        busy_.erase(x->first + j);
        if (x->op != block_op::read)
          may_be_[x->first + j] = {x->values[j]};
      }
    }
  }

  bool idle() const { return requests_.empty(); }

  /// Its node died: what was under way may have happened or not.
  void forget() {
    for (auto& x : requests_)
      lost_.push_back(std::move(x)); // a dead process may still point at them
    requests_.clear();
    busy_.clear();
  }

  void read_all() {
    for (uint64_t first = 0; first < blocks; first += blocks_per_shard) {
      vm_request x;
      x.op = block_op::read;
      x.first = first;
      x.count = blocks_per_shard;
      x.offset = first * block_size;
      x.length = x.count * block_size;
      x.complete = [](block_request& self) { static_cast<vm_request&>(self).done = true; };
      BOOST_REQUIRE(node_.run_until([&] { return node_.plane->backend(volume_) != nullptr; }));
      node_.plane->backend(volume_)->submit(x);
      BOOST_REQUIRE(node_.run_until([&] { return x.done; }));
      BOOST_REQUIRE_MESSAGE(x.status == errc::none,
                            "reading shard " << first / blocks_per_shard << ": " << to_string(x.status));
      check(x);
    }
  }

  uint64_t answered = 0;
  boot_time slowest{0};

private:
  void check(vm_request& x) {
    auto from = x.view.empty() ? std::span<const std::byte>{x.data.bytes().first(x.length)} : x.view;
    for (uint64_t i = 0; i < x.count; ++i) {
      auto block = from.subspan(i * block_size, block_size);
      const auto is = static_cast<int>(block[0]);
      // Boost's checks cost more than all the rest: only what is wrong gets there.
      if (!std::equal(block.begin() + 1, block.end(), block.begin()))
        BOOST_FAIL("block " << x.first + i << " is torn");
      if (may_be_[x.first + i].count(is) == 0)
        BOOST_FAIL("block " << x.first + i << " reads as " << is);
      may_be_[x.first + i] = {is};
    }
    if (!x.view.empty() && x.release)
      x.release(x);
  }

  simulated_node& node_;
  volume_id volume_;
  std::vector<std::set<int>> may_be_;
  std::set<uint64_t> busy_;
  std::vector<std::unique_ptr<vm_request>> requests_;
  static inline std::vector<std::unique_ptr<vm_request>>& lost_ = *new std::vector<std::unique_ptr<vm_request>>;
  uint64_t value_ = 0;
};

struct troubles {
  bool kill_actors = false;
  bool move = false;
  bool crash = false;
  bool evict = false;
  /// Hot shards change faster than they are copied.
  bool slow_copies = false;
};

class history {
public:
  history(uint64_t seed, troubles with) : node(seed, with.slow_copies ? slow_bytes_per_second : 0), with_(with) {
    volume_spec spec;
    spec.name = "vm1";
    spec.size_bytes = shards * shard_size_min;
    spec.shard_size = shard_size_min;
    auto record = node.ask<volume_record, volume_directory_actor>(path::volumes, atom::create_v, spec);
    BOOST_REQUIRE_MESSAGE(!!record, "create: " << (record ? "" : context_of(record.error())));
    volume = record->id;
    auto attached = node.ask<attachment, host_supervisor_actor>(path::host, atom::attach_v, volume, false);
    BOOST_REQUIRE_MESSAGE(!!attached, "attach: " << (attached ? "" : context_of(attached.error())));
    vm.emplace(node, volume);
  }

  void run(boot_time time) {
    auto& random = node.world.random();
    for (const auto end = node.world.now() + time; node.world.now() < end;) {
      for (auto i = random.below(4); i > 0; --i)
        vm->poke();
      if (with_.kill_actors && random.chance(0.006))
        kill_one();
      if (with_.move && random.chance(0.008))
        move_some();
      if (with_.move && random.chance(0.003))
        meddle();
      if (with_.evict && random.chance(0.004))
        caf::anon_send(node.context->directory->get<lease_manager_actor>(path::leases), atom::evict_v,
                       shard_id{volume, shard_index{random.below(shards)}});
      if (with_.crash && random.chance(0.001)) {
        vm->forget();
        if (random.chance(0.8)) {
          node.crash();
        } else {
          node.restart();
        }
      }
      if (with_.slow_copies && random.chance(0.02))
        watch();
      node.run_for(std::chrono::milliseconds{1 + random.below(4)});
      vm->settle();
    }
  }

  /// Trouble is over: everything asked is answered, migrations end, all bytes are what they may be, and disks and
  /// catalog agree.
  void heal() {
    BOOST_REQUIRE(node.run_until([&] {
      vm->settle();
      return vm->idle();
    }));
    node.run_for(2s);
    std::string open;
    const auto over = node.run_until(
      [&] {
        open.clear();
        auto list =
          node.ask<std::vector<migration_progress>, migration_supervisor_actor>(path::migrations, atom::list_v);
        if (!list)
          return false;
        for (auto& x : *list) {
          if (x.record.ended_at != 0)
            continue;
          open += " " + std::to_string(x.record.id.value()) + ":" + to_string(x.record.state) + " " + x.last_error;
          if (x.paused)
            (void)node.ask<migration_progress, migration_supervisor_actor>(path::migrations, atom::resume_v,
                                                                           x.record.id);
        }
        return open.empty();
      },
      200s);
    BOOST_REQUIRE_MESSAGE(over, "migrations do not end:" << open);
    node.run_for(1s);
    vm->read_all();
    agree();
  }

  void agree() {
    std::set<std::string> expected, found;
    for (auto& [key, value] : node.catalog->entries) {
      if (key.rfind("shard/", 0) != 0)
        continue;
      shard_home home;
      BOOST_REQUIRE(!decode(key, value.bytes, home));
      expected.insert("/" + home.tier + "/" + to_string(shard_file_name{home.id, home.of}));
    }
    for (auto& tier : {"fast", "slow"})
      for (auto& name : node.disk.list(std::string("/") + tier))
        if (parse_shard_file_name(name))
          found.insert(std::string("/") + tier + "/" + name);
    for (auto& x : expected)
      BOOST_CHECK_MESSAGE(found.count(x), "the catalog has " << x << ", the disk has not");
    for (auto& x : found)
      // An orphan of holes, made and not recorded when the node died, is taken over by the next write there.
      BOOST_CHECK_MESSAGE(expected.count(x) || node.crashes > 0 || with_.kill_actors,
                          "the disk has " << x << ", the catalog has not");
  }

  simulated_node node;
  volume_id volume;
  std::optional<virtual_machine> vm;
  uint64_t kills = 0, moves = 0;
  /// Migrations that were seen to mirror.
  std::set<migration_id> mirrored;

private:
  void kill_one() {
    auto paths = node.actors();
    if (paths.empty())
      return;
    node.kill(paths[node.world.random().below(paths.size())]);
    ++kills;
  }

  void move_some() {
    auto& random = node.world.random();
    migration_spec spec;
    spec.volume = volume;
    spec.first = shard_index{random.chance(0.5) ? random.below(3) : random.below(shards)};
    spec.count = std::min(1 + random.below(3), shards - spec.first.value());
    spec.to_tier = random.chance(0.5) ? "slow" : "fast";
    moved_.push_back(
      node.begin<std::vector<migration_id>, migration_supervisor_actor>(path::migrations, atom::start_v, spec));
    ++moves;
  }

  void watch() {
    if (watching_ && watching_->done() && **watching_->answer)
      for (auto& x : ***watching_->answer)
        if (x.mirroring)
          mirrored.insert(x.record.id);
    if (!watching_ || watching_->done())
      watching_ =
        node.begin<std::vector<migration_progress>, migration_supervisor_actor>(path::migrations, atom::list_v);
  }

  void meddle() {
    auto& random = node.world.random();
    std::vector<migration_id> ids;
    for (auto& x : moved_)
      if (x.done() && *x.answer && **x.answer)
        ids.insert(ids.end(), (**x.answer)->begin(), (**x.answer)->end());
    if (ids.empty())
      return;
    const auto id = ids[ids.size() - 1 - random.below(std::min<uint64_t>(ids.size(), 4))];
    switch (random.below(4)) {
    case 0: node.begin<migration_progress, migration_supervisor_actor>(path::migrations, atom::cancel_v, id); break;
    case 1: node.begin<migration_progress, migration_supervisor_actor>(path::migrations, atom::pause_v, id); break;
    default: node.begin<migration_progress, migration_supervisor_actor>(path::migrations, atom::resume_v, id); break;
    }
  }

  troubles with_;
  std::vector<simulated_node::pending<std::vector<migration_id>>> moved_;
  std::optional<simulated_node::pending<std::vector<migration_progress>>> watching_;
};

/// VARVE_SEEDS=first:count runs others than the suite's.
std::pair<uint64_t, uint64_t> seeds(uint64_t count) {
  if (auto* text = std::getenv("VARVE_SEEDS")) {
    char* rest = nullptr;
    const auto first = std::strtoull(text, &rest, 10);
    return {first, *rest == ':' ? std::strtoull(rest + 1, nullptr, 10) : 1};
  }
  return {1, count};
}

/// How many migrations mirrored.
size_t run_seed(uint64_t seed, troubles with, boot_time time) {
  size_t mirrored = 0;
  BOOST_TEST_CONTEXT("seed " << seed) {
    history x{seed, with};
    x.run(time);
    x.heal();
    BOOST_TEST_MESSAGE("seed " << seed << ": " << x.vm->answered << " answers, the slowest after "
                               << x.vm->slowest / 1ms << " ms, " << x.kills << " kills, " << x.moves << " moves, "
                               << x.mirrored.size() << " mirrored, " << x.node.crashes << " crashes, "
                               << x.node.root_restarts << " restarts of the root");
    BOOST_TEST(x.vm->answered > 100u);
    mirrored = x.mirrored.size();
  }
  return mirrored;
}

size_t run_seeds(uint64_t count, troubles with, boot_time time) {
  const auto [first, n] = seeds(count);
  size_t mirrored = 0;
  for (auto seed = first; seed < first + n; ++seed)
    mirrored += run_seed(seed, with, time);
  return mirrored;
}

} // namespace

BOOST_AUTO_TEST_SUITE(node_simulation_)

BOOST_AUTO_TEST_CASE(a_quiet_node_serves_its_volume) {
  run_seeds(3, {}, 3s);
}

BOOST_AUTO_TEST_CASE(moves_are_never_seen) {
  run_seeds(70, {.move = true}, 4s);
}

BOOST_AUTO_TEST_CASE(leases_taken_away_come_back) {
  run_seeds(30, {.evict = true}, 4s);
}

BOOST_AUTO_TEST_CASE(any_actor_may_die) {
  run_seeds(100, {.kill_actors = true}, 5s);
}

BOOST_AUTO_TEST_CASE(any_actor_may_die_while_shards_move) {
  run_seeds(130, {.kill_actors = true, .move = true, .evict = true}, 5s);
}

BOOST_AUTO_TEST_CASE(the_node_may_die_while_shards_move) {
  run_seeds(130, {.move = true, .crash = true}, 6s);
}

BOOST_AUTO_TEST_CASE(everything_at_once) {
  run_seeds(130, {.kill_actors = true, .move = true, .crash = true, .evict = true}, 6s);
}

BOOST_AUTO_TEST_CASE(shards_that_change_faster_than_they_are_copied_move_all_the_same) {
  BOOST_TEST(run_seeds(20, {.move = true, .slow_copies = true}, 12s) > 0u);
}

BOOST_AUTO_TEST_CASE(everything_at_once_while_changes_are_mirrored) {
  BOOST_TEST(
    run_seeds(20, {.kill_actors = true, .move = true, .crash = true, .evict = true, .slow_copies = true}, 12s) > 0u);
}

// -- seeds that found something

BOOST_AUTO_TEST_CASE(what_a_dead_manager_was_asked_is_asked_of_the_next) {
  run_seed(154, {.kill_actors = true}, 5s);
}

BOOST_AUTO_TEST_CASE(a_tier_that_is_being_started_again_is_not_full) {
  run_seed(186, {.kill_actors = true}, 5s);
  run_seed(430, {.kill_actors = true, .move = true, .crash = true, .evict = true}, 6s);
}

BOOST_AUTO_TEST_CASE(a_run_that_a_dead_agent_was_asked_for_its_successor_gives_back) {
  run_seed(33, {.kill_actors = true, .move = true, .evict = true}, 5s);
}

BOOST_AUTO_TEST_CASE(a_new_agent_takes_no_shard_within_a_run_for_absent) {
  run_seed(335, {.kill_actors = true, .move = true, .crash = true, .evict = true}, 6s);
}

BOOST_AUTO_TEST_CASE(one_seed_is_one_history) {
  auto run = [] {
    history x{77, {.kill_actors = true, .move = true, .crash = true, .evict = true}};
    x.run(3s);
    x.heal();
    return std::pair{x.node.world.history_hash(), x.vm->answered};
  };
  BOOST_TEST((run() == run()));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve::test
