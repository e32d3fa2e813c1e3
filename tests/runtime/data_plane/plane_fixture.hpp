#pragma once

#include <iostream>
#include <optional>
#include <set>

#include <boost/test/unit_test.hpp>

#include "fake_store.hpp"
#include "runtime/data_plane/reactor_data_plane.hpp"
#include "runtime/reactor/simulated_ring.hpp"

namespace varve::test {

using namespace std::chrono_literals;

/// A request and whether it was answered.
struct io : block_request {
  io(block_op what, uint64_t at, uint64_t size, std::byte fill = {}) {
    op = what;
    offset = at;
    length = size;
    if (op == block_op::write) {
      bytes.assign(size, fill);
      payload = bytes;
    }
    complete = [](block_request& self) { static_cast<io&>(self).done = true; };
  }
  std::vector<std::byte> bytes;
  bool done = false;

  /// Of a read: what came back.
  std::vector<std::byte> answer() {
    auto from = view.empty() ? std::span<const std::byte>{data.bytes().first(length)} : view;
    std::vector<std::byte> out(from.begin(), from.end());
    if (!view.empty() && release)
      release(*this);
    return out;
  }
};

/// One data plane over a simulated ring with two tiers, "a" and "b", and a small vm_agent for one volume: it knows
/// where each shard is, makes it when it is to be written, and grants everything.
struct plane_fixture {
  static constexpr uint64_t shard_size = shard_size_min;
  static constexpr volume_id volume{1};

  struct home {
    std::string tier = "a";
    varve::generation of{1};
  };

  explicit plane_fixture(uint64_t seed = 1) : world(seed) { boot(); }
  ~plane_fixture() { shut_down(); }

  void boot() {
    ring = std::make_unique<simulated_ring>(world, nullptr);
    on = std::make_unique<reactor>(*ring);
    world.attach(*on);
    data_plane_options options;
    options.tiers.resize(2);
    options.tiers[0].name = "a";
    options.tiers[1].name = "b";
    options.moves = moves;
    options.routes_end = routes_end;
    options.copy_bytes_per_second = copy_budget_bytes;
    options.make_store = [this](reactor& r, const shard_store_options& x) -> std::unique_ptr<shard_store> {
      return std::make_unique<fake_store>(r, world.random(), x.name == "a" ? a : b, x);
    };
    options.make_fabric = [this](reactor& r) {
      auto mine = faults;
      mine.later = [&r](std::chrono::nanoseconds time, std::function<void()> f) {
        start(later(r, time, std::move(f)));
      };
      auto made = std::make_unique<local_fabric>(mine);
      carrier = made.get();
      return made;
    };
    plane = std::make_unique<reactor_data_plane>(options, std::vector<reactor*>{on.get()});
  }
  static task<void> later(reactor& r, std::chrono::nanoseconds time, std::function<void()> f) {
    co_await sleep_for(r, time);
    f();
  }
  /// As a process that ends in order.
  void shut_down() {
    if (!plane)
      return;
    auto stopped = false;
    plane->stop([&](errc) { stopped = true; });
    BOOST_TEST(world.run_until([&] { return stopped; }));
    world.run_until_idle();
    plane.reset();
    on.reset();
    ring.reset();
  }

  void open(uint64_t size_bytes = 64 * shard_size, std::chrono::nanoseconds error_after = 0s) {
    port_options options;
    options.volume = volume;
    options.name = "vm1";
    options.size_bytes = size_bytes;
    options.shard_size = shard_size;
    options.error_after = error_after;
    options.on_need = [this](std::vector<route_need> x) {
      for (auto& need : x) {
        needs.push_back(need);
        if (answering)
          answer(need);
      }
    };
    BOOST_TEST((call(&data_plane::open_port, options) == errc::none));
  }

  /// Grants what is needed.
  void answer(const route_need& need) {
    for (auto i = need.first.value(); i < need.first.value() + need.count; ++i) {
      auto at = homes.find(i);
      if (at != homes.end()) {
        plane->set_routes(volume, {route_to(i)});
      } else if (need.write) {
        homes[i] = home{};
        plane->create_shard("a", header_of(i, homes[i].of), [this, i](shard_summary x) {
          if (x.status == errc::none || x.status == errc::already_exists)
            plane->set_routes(volume, {route_to(i)});
        });
      } else {
        plane->set_routes(volume, {absent(i, 1)});
      }
    }
  }
  route route_to(uint64_t index, std::chrono::nanoseconds term = 1h) {
    route x;
    x.first = shard_index{index};
    x.exists = true;
    x.writable = true;
    x.tier = homes[index].tier;
    x.generation = homes[index].of;
    x.fence = fence;
    x.valid_until = world.now() + term;
    return x;
  }
  route absent(uint64_t first, uint64_t count, std::chrono::nanoseconds term = 1h) {
    route x;
    x.first = shard_index{first};
    x.count = count;
    x.valid_until = world.now() + term;
    return x;
  }
  shard_header header_of(uint64_t index, generation of) {
    shard_header x;
    x.id = {volume, shard_index{index}};
    x.size = shard_size;
    x.generation = of;
    x.fence = epoch{1};
    return x;
  }
  void make_shard(uint64_t index, const std::string& tier = "a") {
    homes[index] = home{tier, generation{1}};
    BOOST_TEST((call_for<shard_summary>([&](auto done) {
                  plane->create_shard(tier, header_of(index, generation{1}), done);
                }).status == errc::none));
  }
  std::shared_ptr<fake_record> record(const std::string& tier, uint64_t index, generation of) {
    auto& shards = (tier == "a" ? a : b).shards;
    auto at = shards.find({{volume, shard_index{index}}, of});
    return at == shards.end() ? nullptr : at->second;
  }

  block_backend& backend() { return *plane->backend(volume); }
  void submit(io& x) { backend().submit(x); }
  bool finish(io& x, std::chrono::nanoseconds limit = 10min) {
    return world.run_until([&] { return x.done; }, limit);
  }
  errc run(io& x) {
    submit(x);
    BOOST_TEST(finish(x));
    return x.status;
  }
  errc write(uint64_t offset, uint64_t length, int fill) {
    io x{block_op::write, offset, length, static_cast<std::byte>(fill)};
    return run(x);
  }
  errc flush() {
    io x{block_op::flush, 0, 0};
    return run(x);
  }
  /// The value that all bytes of a range have, or -1; -2 on an error.
  int read(uint64_t offset, uint64_t length) {
    io x{block_op::read, offset, length};
    if (run(x) != errc::none)
      return -2;
    auto bytes = x.answer();
    for (auto b : bytes)
      if (b != bytes[0])
        return -1;
    return static_cast<int>(bytes[0]);
  }

  /// Runs a command of the data plane to its end.
  template <class T, class F>
  T call_for(F command, std::chrono::nanoseconds limit = 10min) {
    auto result = std::make_shared<std::optional<T>>();
    command([result](T x) { *result = std::move(x); });
    if (!world.run_until([&] { return result->has_value(); }, limit))
      throw std::runtime_error("the command does not end");
    return std::move(**result);
  }
  template <class... Parameters, class... Ts>
  errc call(void (data_plane::*f)(Parameters...), Ts... xs) {
    return call_for<errc>([&](data_plane::callback<errc> done) { (plane.get()->*f)(xs..., done); });
  }
  volume_counters counters() {
    return call_for<std::map<volume_id, volume_counters>>([&](auto done) { plane->port_counters(done); })[volume];
  }

  simulated_world world;
  fake_medium a, b;
  local_fabric_faults faults;
  move_limits moves;
  uint64_t copy_budget_bytes = 0;
  bool routes_end = true;
  std::unique_ptr<simulated_ring> ring;
  std::unique_ptr<reactor> on;
  local_fabric* carrier = nullptr;
  std::unique_ptr<reactor_data_plane> plane;

  std::map<uint64_t, home> homes;
  epoch fence{1};
  bool answering = true;
  std::vector<route_need> needs;
};

} // namespace varve::test
