#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/reactor/io.hpp"
#include "runtime/reactor/simulated_ring.hpp"

namespace varve::test {

template <class T>
task<void> store_result(task<T> x, std::optional<T>& into) {
  into = co_await std::move(x);
}

/// One simulated machine with one reactor.
struct simulated_machine {
  explicit simulated_machine(uint64_t seed, simulated_disk_options options = {}) : world(seed), disk(world, options) {
    disk.make_folder("/d");
    boot();
  }

  /// A new process: after a kill or power loss, or to begin with.
  void boot() {
    on.reset();
    ring.reset();
    ring = std::make_unique<simulated_ring>(world, &disk, &network);
    on = std::make_unique<reactor>(*ring);
    world.attach(*on);
  }

  /// Runs a task to its end.
  template <class T>
  T run(task<T> x) {
    std::optional<T> result;
    start(store_result(std::move(x), result));
    if (!world.run_until([&] { return result.has_value(); }))
      throw std::runtime_error("the task does not end");
    return *result;
  }

  int open(const std::string& path, int flags) { return run(open_file(*ring, path, flags)); }
  errc write(int fd, uint64_t offset, const std::vector<std::byte>& bytes) {
    return run(write_fully(*ring, fd, offset, std::span<const std::byte>{bytes}));
  }
  std::vector<std::byte> read(int fd, uint64_t offset, size_t length) {
    std::vector<std::byte> result(length);
    if (run(read_fully(*ring, fd, offset, std::span<std::byte>{result})) != errc::none)
      result.clear();
    return result;
  }
  errc sync(int fd) { return run(sync_file(*ring, fd)); }
  errc sync_names() { return run(sync_folder(*ring, "/d")); }

  simulated_world world;
  simulated_disk disk;
  simulated_network network{world};
  std::unique_ptr<simulated_ring> ring;
  std::unique_ptr<reactor> on;
};

inline std::vector<std::byte> filled(size_t size, int value) {
  return std::vector<std::byte>(size, static_cast<std::byte>(value));
}

} // namespace varve::test
