#pragma once

#include <map>
#include <memory>
#include <vector>

#include "runtime/nbd/block_backend.hpp"
#include "tests/simulation/block_history.hpp"
#include "tests/simulation/simulated_cluster.hpp"

namespace varve::test {

/// A volume, and what each of its blocks may read as.
struct simulated_volume {
  volume_id id;
  uint64_t blocks = 0;
  std::vector<block_history> history;
  uint64_t last_value = 0;
};

/// A VM at one host of a volume: reads, writes and flushes at random, and checks what it reads.
class simulated_vm {
public:
  simulated_vm(simulated_cluster& on, size_t host, simulated_volume& volume)
    : cluster_(on), host_(host), volume_(volume) {}
  /// Of the same simulation: what is under way is left to the dead.
  ~simulated_vm() { died(); }
  simulated_vm(const simulated_vm&) = delete;

  /// Begins a request, if its port is open and few are under way.
  void poke();
  /// Reads a range of blocks.
  bool read(uint64_t first, uint64_t count);
  /// Looks at what was answered. Throws broken_rule.
  void settle();
  bool idle() const { return requests_.empty(); }
  /// Its host died, or its port was closed: what was under way may have happened or not.
  void died();
  /// How long the oldest request has been waiting.
  boot_time waiting() const;

  size_t host() const noexcept { return host_; }
  const simulated_volume& volume() const noexcept { return volume_; }
  uint64_t answered = 0, reads = 0, writes = 0, flushes = 0, flushes_failed = 0;
  std::map<errc, uint64_t> refused;

private:
  struct request : block_request {
    std::vector<std::byte> bytes;
    std::vector<uint64_t> values;
    uint64_t first = 0, count = 0;
    boot_time began{0}, ended{0};
    bool done = false;
    simulated_world* world = nullptr;
  };

  void submit(std::unique_ptr<request> x);
  void finish(request& x);
  void check(request& x);

  simulated_cluster& cluster_;
  size_t host_;
  simulated_volume& volume_;
  std::vector<std::unique_ptr<request>> requests_;
};

} // namespace varve::test
