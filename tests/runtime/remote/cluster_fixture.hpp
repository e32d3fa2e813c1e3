#pragma once

#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include "runtime/data_plane/reactor_data_plane.hpp"
#include "runtime/remote/remote_plane.hpp"
#include "tests/runtime/reactor/simulated_fixture.hpp"
#include "tests/runtime/remote/simulated_wire.hpp"

namespace varve::test {

using namespace std::chrono_literals;

/// One node: a machine with a disk, and a process with reactors on it, a data plane and its remote plane. Its tiers are
/// "NAME-files" and "NAME-memory".
struct simulated_node {
  simulated_node(simulated_world& world, std::string called) : name(std::move(called)), disk(world) {
    disk.make_folder("/" + name);
  }
  std::string files() const { return name + "-files"; }
  std::string memory() const { return name + "-memory"; }
  bool up() const { return plane != nullptr; }

  std::string name;
  simulated_disk disk;
  uint32_t reactors = 1;
  uint64_t boot = 1;
  uint64_t life = 0;
  remote_plane_options options; // limits to be
  std::vector<int> listening;
  std::vector<std::unique_ptr<simulated_ring>> rings;
  std::vector<std::unique_ptr<reactor>> on;
  std::shared_ptr<remote_plane> remote;
  /// The file of its unsynced_book: outlives the process, not the machine's power.
  std::vector<std::byte> unsynced;
  std::unique_ptr<reactor_data_plane> plane;
  /// Sessions at other nodes' reactors: whether open, by (node, theirs, own).
  std::map<std::tuple<std::string, uint32_t, uint32_t>, remote_session_state> sessions;
};

/// Some nodes, a wire between each two reactors, and in place of the actors: a keeper, who hands out keys when they are
/// asked for, and a manager, who knows where shards are, makes them, and grants all that is asked for.
struct cluster_fixture {
  static constexpr uint64_t shard_size = shard_size_min;

  struct home {
    std::string tier;
    varve::generation of{1};
    bool exists = false; // at its tier
  };

  explicit cluster_fixture(uint64_t seed = 1, std::vector<std::string> names = {"a", "b", "c"}, uint32_t reactors = 1)
    : world(seed), control_ring(world, nullptr, &network), control(control_ring) {
    world.attach(control);
    for (auto& name : names) {
      nodes.emplace_back(world, name);
      nodes.back().reactors = reactors;
    }
    for (auto& from : nodes)
      for (auto& to : nodes)
        for (uint32_t r = 0; &from != &to && r < 2 * reactors; ++r)
          wires.emplace(
            wire_name(from.name, to.name, r),
            std::make_unique<simulated_wire>(world, network, wire_name(from.name, to.name, r), at_node(to.name, r)));
    for (auto& x : nodes)
      boot(x);
    start(keep());
  }
  ~cluster_fixture() {
    keeping = false;
    for (auto& x : nodes)
      stop(x);
    world.run_until_idle();
  }

  static std::string at_node(const std::string& node, uint32_t r) { return node + ":" + std::to_string(r); }
  static std::string wire_name(const std::string& from, const std::string& to, uint32_t r) {
    return from + ">" + at_node(to, r);
  }
  simulated_wire& wire(const std::string& from, const std::string& to, uint32_t r = 0) {
    return *wires.at(wire_name(from, to, r));
  }
  simulated_node& node(const std::string& name) {
    for (auto& x : nodes)
      if (x.name == name)
        return x;
    throw std::runtime_error("no node " + name);
  }
  simulated_node& node_of(const std::string& tier) { return node(tier.substr(0, tier.find('-'))); }

  // -- lives

  std::vector<shard_store_options> tiers_of(const simulated_node& x) {
    std::vector<shard_store_options> result(2);
    result[0].name = x.files();
    result[0].kind = tier_kind::file;
    result[0].directory = "/" + x.name;
    result[0].io = file_io::buffered;
    result[1].name = x.memory();
    return result;
  }
  void boot(simulated_node& x) {
    ++x.life;
    std::vector<reactor*> on;
    x.listening.clear();
    for (uint32_t i = 0; i < x.reactors; ++i) {
      x.rings.push_back(std::make_unique<simulated_ring>(world, &x.disk, &network));
      x.on.push_back(std::make_unique<reactor>(*x.rings.back()));
      world.attach(*x.on.back());
      on.push_back(x.on.back().get());
      x.listening.push_back(network.listen(at_node(x.name, i)));
    }
    auto options = x.options;
    options.name = x.name;
    options.incarnation = x.life;
    options.reactors = x.reactors;
    for (auto& other : nodes)
      if (other.name != x.name)
        options.nodes.push_back({other.name, at_node(other.name, 0), tiers_of(other)});
    options.server.boot = x.boot;
    options.server.volatile_boot = 1000 * x.boot + x.life;
    options.server.direct = options.client.direct = false;
    options.server.random = options.client.random = [this](std::span<std::byte> bytes) {
      for (auto& b : bytes)
        b = static_cast<std::byte>(world.random().next());
    };
    options.server.log = [this, name = x.name](const std::string& line) { logged.push_back(name + ": " + line); };
    options.listen = [&x](uint32_t reactor) { return x.listening[reactor]; };
    options.connect = [this, from = x.name](const std::string& to, uint16_t port) {
      return network.connect(wire_name(from, to, port));
    };
    options.unsynced = std::make_shared<unsynced_book>(
      x.boot, x.unsynced, [&x, life = x.life](uint64_t slot, std::span<const std::byte> record) {
        if (life != x.life)
          return false;
        x.unsynced.resize(std::max<size_t>(x.unsynced.size(), (slot + 1) * record.size()));
        std::copy(record.begin(), record.end(), x.unsynced.begin() + static_cast<ptrdiff_t>(slot * record.size()));
        return true;
      });
    std::string problem;
    x.remote = remote_plane::make(options, problem);
    x.remote->on_session([&x](std::string at, uint32_t theirs, uint32_t own, remote_session_state state) {
      x.sessions[{at, theirs, own}] = state;
    });
    data_plane_options plane;
    plane.tiers = tiers_of(x);
    plane.make_peers = x.remote->peers();
    plane.moves = moves;
    x.plane = std::make_unique<reactor_data_plane>(plane, on);
  }
  void stop(simulated_node& x, std::chrono::nanoseconds limit = 10min) {
    if (!x.up())
      return;
    auto stopped = false;
    x.plane->stop([&](errc) { stopped = true; });
    BOOST_TEST(world.run_until([&] { return stopped; }, limit));
    x.plane.reset();
    x.remote.reset();
    world.run_until([] { return false; }, 1ms); // what was posted
    x.on.clear();
    x.rings.clear();
    x.sessions.clear();
  }
  /// Its process is killed, or the machine loses power. Memory tiers are empty afterwards.
  void kill(simulated_node& x, bool power = false) {
    if (power) {
      x.disk.power_loss();
      ++x.boot;
      x.unsynced.clear();
    } else {
      x.disk.kill();
    }
    (void)x.plane.release();
    for (auto& r : x.on)
      (void)r.release();
    for (auto& r : x.rings)
      (void)r.release();
    x.on.clear();
    x.rings.clear();
    x.remote.reset();
    x.sessions.clear();
    ports.erase(x.name);
  }

  // -- the keeper

  task<void> keep() {
    for (uint64_t round = 0; keeping; ++round) {
      for (auto& from : nodes)
        for (auto& to : nodes)
          if (keeping && &from != &to && from.up() && to.up())
            introduce(from, to);
      co_await sleep_for(control, 50ms);
    }
  }
  /// Gives `from` what it needs to do I/O at `to`, where it has no session.
  void introduce(simulated_node& from, simulated_node& to) {
    auto& told = known[{from.name, to.name}];
    const auto both = std::pair{from.life, to.life};
    if (std::exchange(told, both) != both)
      from.remote->set_reactors(to.name, to.reactors);
    for (uint32_t theirs = 0; theirs < to.reactors; ++theirs)
      for (uint32_t own = 0; own < from.reactors; ++own) {
        auto& state = from.sessions[{to.name, theirs, own}];
        if (state.open || (!state.why.empty() && state.why != "refused: key"))
          continue;
        state.why = "asked";
        session_key key;
        key.id = ++keys;
        key.initiator = static_cast<uint64_t>(from.name[0]) * 100 + own;
        key.rights = remote_rights::control;
        for (auto& b : key.secret)
          b = static_cast<std::byte>(world.random().next());
        key.expires = world.now() + 24h;
        to.remote->allow(theirs, key);
        from.remote->set_key(to.name, theirs, own, static_cast<uint16_t>(theirs), key);
        last_key = key;
      }
  }
  remote_session_state session(const std::string& from, const std::string& to, uint32_t theirs = 0, uint32_t own = 0) {
    return node(from).sessions[{to, theirs, own}];
  }
  bool connected() {
    return world.run_until(
      [&] {
        for (auto& from : nodes)
          for (auto& to : nodes)
            if (&from != &to && from.up() && to.up() && !from.sessions[{to.name, 0, 0}].open)
              return false;
        return true;
      },
      30s);
  }

  // -- the manager

  home& home_of(shard_id id) {
    auto [at, fresh] = homes.try_emplace(id);
    if (fresh)
      at->second.tier = first_tier;
    return at->second;
  }
  shard_header header_of(shard_id id) {
    shard_header x;
    x.id = id;
    x.size = shard_size;
    x.generation = homes[id].of;
    x.fence = fence;
    return x;
  }
  void open(const std::string& at, volume_id volume, uint64_t size = 16 * shard_size,
            std::chrono::nanoseconds error_after = 0s, holder_id holder = {}) {
    port_options options;
    options.volume = volume;
    options.holder = holder == holder_id{} ? holder_id{1000 + ++holders} : holder;
    options.name = "vm" + std::to_string(volume.value());
    options.size_bytes = size;
    options.shard_size = shard_size;
    options.error_after = error_after;
    options.on_need = [this, at, life = node(at).life](std::vector<route_need> needs) {
      for (auto& x : needs)
        start(answer(at, life, x));
    };
    auto& x = node(at);
    BOOST_REQUIRE((call(x, [&](auto done) { x.plane->open_port(options, done); }) == errc::none));
    ports[at].push_back(options);
  }
  /// Grants what is needed, after a while.
  task<void> answer(std::string at, uint64_t life, route_need need) {
    co_await sleep_for(control, std::chrono::microseconds{world.random().between(50, 2000)});
    for (auto i = need.first.value(); i < need.first.value() + need.count; ++i) {
      const shard_id id{need.volume, shard_index{i}};
      if (!homes.count(id) && !need.write) {
        route x;
        x.first = id.index;
        x.valid_until = world.now() + 1h;
        if (auto& of = node(at); of.up() && of.life == life)
          of.plane->set_routes(need.volume, {x});
        continue;
      }
      auto& h = home_of(id);
      if (!h.exists) {
        auto& of = node_of(h.tier);
        if (!of.up())
          continue; // asked for again
        std::optional<errc> made;
        of.plane->create_shard(h.tier, header_of(id), [&made](shard_summary x) { made = x.status; });
        while (!made && of.up())
          co_await sleep_for(control, 100us);
        if (!made || (*made != errc::none && *made != errc::already_exists))
          continue;
        h.exists = true;
      }
      if (auto& of = node(at); granting && of.up() && of.life == life)
        of.plane->set_routes(need.volume, {route_to(id)});
    }
  }
  route route_to(shard_id id) {
    const auto& h = home_of(id);
    route x;
    x.first = id.index;
    x.exists = true;
    x.writable = true;
    x.tier = h.tier;
    x.generation = h.of;
    x.fence = fence;
    x.valid_until = world.now() + 1h;
    return x;
  }
  /// The fence of one shard rises; whoever comes with an older epoch is refused from then on.
  errc raise_fence(shard_id id) {
    const auto& h = home_of(id);
    auto& of = node_of(h.tier);
    fence = epoch{fence.value() + 1};
    return call(of, [&](auto done) { of.plane->raise_fence(h.tier, id, h.of, fence, done); });
  }
  move_ends ends_of(shard_id id, const std::string& to, uint64_t number = 1) {
    const auto& h = home_of(id);
    move_ends x;
    x.id = migration_id{number};
    x.shard = id;
    x.from_tier = h.tier;
    x.to_tier = to;
    x.from = h.of;
    x.to = generation{h.of.value() + 1};
    return x;
  }
  /// What the catalog's commit does.
  void commit(const move_ends& x) { homes[x.shard] = {x.to_tier, x.to, true}; }

  // -- commands

  template <class T, class F>
  T call_for(F command, std::chrono::nanoseconds limit = 10min) {
    auto result = std::make_shared<std::optional<T>>();
    command([result](T x) { *result = std::move(x); });
    if (!world.run_until([&] { return result->has_value(); }, limit))
      throw std::runtime_error("the command does not end");
    return std::move(**result);
  }
  template <class F>
  errc call(simulated_node&, F command, std::chrono::nanoseconds limit = 10min) {
    return call_for<errc>(std::move(command), limit);
  }
  errc begin(const move_ends& x) {
    return call_for<errc>([&](auto done) { node_of(x.from_tier).plane->begin_move(x, done); });
  }
  copy_round copy(const move_ends& x, uint64_t most = ~uint64_t{0}) {
    return call_for<copy_round>([&](auto done) { node_of(x.from_tier).plane->copy_some(x, most, done); });
  }
  switch_result switch_over(const move_ends& x) {
    return call_for<switch_result>([&](auto done) { node_of(x.from_tier).plane->switch_move(x, done); });
  }
  errc end(const move_ends& x, bool committed) {
    return call_for<errc>([&](auto done) {
      node_of(x.from_tier).plane->end_move(x, committed, [done](errc e, std::chrono::nanoseconds) { done(e); });
    });
  }
  remote_plane_counters counters(const std::string& at) {
    return call_for<remote_plane_counters>([&](auto done) { node(at).remote->counters(done); });
  }
  volume_counters volume_counters_of(const std::string& at, volume_id volume) {
    return call_for<std::map<volume_id, volume_counters>>(
      [&](auto done) { node(at).plane->port_counters(done); })[volume];
  }
  std::vector<shard_counters> active(const std::string& at, const std::string& tier) {
    return call_for<std::vector<shard_counters>>([&](auto done) { node(at).plane->list_active(tier, done); });
  }

  // -- requests of VMs

  struct io : block_request {
    io(block_op what, uint64_t at, uint64_t size, int fill = 0) {
      op = what;
      offset = at;
      length = size;
      if (op == block_op::write) {
        bytes.assign(size, static_cast<std::byte>(fill));
        payload = bytes;
      }
      complete = [](block_request& self) {
        auto& mine = static_cast<io&>(self);
        mine.done = true;
        if (mine.waiting)
          mine.waiting.resume();
      };
    }
    std::vector<std::byte> answer() {
      auto from = view.empty() ? std::span<const std::byte>{data.bytes().first(length)} : view;
      std::vector<std::byte> out(from.begin(), from.end());
      if (!view.empty() && release)
        release(*this);
      return out;
    }
    std::vector<std::byte> bytes;
    bool done = false;
    std::coroutine_handle<> waiting;
  };
  void submit(const std::string& at, volume_id volume, io& x) { node(at).plane->backend(volume)->submit(x); }
  bool finish(io& x, std::chrono::nanoseconds limit = 10min) {
    return world.run_until([&] { return x.done; }, limit);
  }
  errc write(const std::string& at, volume_id volume, uint64_t offset, uint64_t length, int fill) {
    io x{block_op::write, offset, length, fill};
    submit(at, volume, x);
    BOOST_REQUIRE(finish(x));
    return x.status;
  }
  errc flush(const std::string& at, volume_id volume) {
    io x{block_op::flush, 0, 0};
    submit(at, volume, x);
    BOOST_REQUIRE(finish(x));
    return x.status;
  }
  /// The value that all bytes of a range have, or -1; -2 on an error.
  int read(const std::string& at, volume_id volume, uint64_t offset, uint64_t length) {
    io x{block_op::read, offset, length};
    submit(at, volume, x);
    BOOST_REQUIRE(finish(x));
    if (x.status != errc::none)
      return -2;
    auto bytes = x.answer();
    for (auto b : bytes)
      if (b != bytes[0])
        return -1;
    return static_cast<int>(bytes[0]);
  }

  simulated_world world;
  simulated_network network{world};
  simulated_ring control_ring;
  reactor control;
  std::list<simulated_node> nodes;
  std::map<std::string, std::unique_ptr<simulated_wire>> wires;
  move_limits moves;

  bool keeping = true;
  bool granting = true;
  uint64_t keys = 0;
  uint64_t holders = 0;
  session_key last_key;
  std::map<std::pair<std::string, std::string>, std::pair<uint64_t, uint64_t>> known;
  std::map<shard_id, home> homes;
  std::string first_tier = "b-files";
  epoch fence{5};
  std::map<std::string, std::vector<port_options>> ports;
  std::vector<std::string> logged;
};

} // namespace varve::test
