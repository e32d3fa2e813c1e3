#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/reactor/ring.hpp"
#include "runtime/reactor/simulated_world.hpp"

namespace varve {

struct simulated_network_options {
  /// How much a stream holds in each direction before its sender waits, in bytes.
  size_t buffer_bytes = 64 << 10;
  /// How often a receive or send without MSG_WAITALL is short for no reason.
  double short_chance = 0.1;
};

/// Streams between the rings of one simulation, or between a ring and a test. Descriptors are told from those of a
/// simulated_disk by their size.
class simulated_network {
public:
  static constexpr int fd_min = 1'000'000;

  explicit simulated_network(simulated_world& world, simulated_network_options options = {})
    : world_(world), options_(options) {}
  simulated_network(const simulated_network&) = delete;
  ~simulated_network();

  simulated_network_options& options() noexcept { return options_; }

  /// The two ends of a stream, as of socketpair.
  std::pair<int, int> pair();
  /// A listening socket. `host` tells machines apart, for `cut`.
  int listen(const std::string& address, int host = 0);
  /// The client's end of a new stream; -ECONNREFUSED when nobody listens there, -EHOSTUNREACH when one of the two
  /// cannot reach the other.
  int connect(const std::string& address, int host = 0);
  /// The other end sees the end of the stream, once it has read what is there.
  void close(int fd);

  /// What one machine says does not reach another any more (or does again): streams hold it back, and the end of a
  /// stream is not seen. What has arrived can be read.
  void cut(int from, int to, bool on);
  bool is_cut(int from, int to) const { return cuts_.count({from, to}) != 0; }

  // A test as the other end; immediate.

  /// How many bytes found room.
  size_t push(int fd, std::span<const std::byte> bytes);
  /// Takes at most so many bytes.
  std::vector<std::byte> pull(int fd, size_t bytes_max);
  size_t readable(int fd) const;
  /// Whether the other end is closed and everything was taken.
  bool ended(int fd) const;

private:
  friend class simulated_ring;

  struct endpoint {
    int peer = -1; // -1: closed
    int host = 0, peer_host = 0;
    bool end_held_back = false; // the peer has closed it, and a cut hides that
    std::deque<std::byte> inbox;
    std::string listens_at;
    std::deque<int> backlog;
    simulated_ring* owner = nullptr; // whose process uses it
  };

  static constexpr int32_t would_block = -11; // EAGAIN

  static bool is_socket(int fd) noexcept { return fd >= fd_min; }
  // Results, or would_block; `done` counts what earlier tries have moved.
  int32_t try_receive(const ring_operation& x, uint64_t done);
  int32_t try_send(const ring_operation& x, uint64_t done);
  int32_t try_accept(const ring_operation& x, simulated_ring* owner);
  void own(int fd, simulated_ring* owner);
  void close_all_of(simulated_ring* owner);
  void changed(int fd);

  simulated_world& world_;
  simulated_network_options options_;
  std::map<int, endpoint> ends_;
  std::set<std::pair<int, int>> cuts_;
  std::vector<simulated_ring*> rings_;
  int next_fd_ = fd_min;
};

} // namespace varve
