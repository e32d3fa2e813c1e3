#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/chaos/history_log.hpp"
#include "tests/chaos/stamped_block.hpp"

struct nbd_handle;

namespace varve::chaos {

struct stamp_options {
  std::string uri;
  /// The volume's number in the history.
  uint64_t volume = 1;
  /// Block `i` lies at offset i * stride_bytes. These, or those of [first, first + blocks) when it is empty.
  std::vector<uint64_t> only;
  uint64_t first = 0;
  uint64_t blocks = 64;
  uint64_t stride_bytes = block_bytes;
  /// Of 100 operations; the others are writes.
  unsigned reads_percent = 50;
  /// Requests in flight on one connection.
  unsigned depth = 4;
  /// Operations a second, at most; 0: no limit.
  double rate = 0;
  /// One FLUSH after about so many writes; 0: none.
  unsigned flush_every = 64;
  /// Reads each block once, and again until it is read, instead of running on.
  bool sweep = false;
  /// Of the client's first connection: above those of an earlier run with the same writers.
  uint32_t first_epoch = 1;
  uint64_t seed = 1;
};

/// What the connections of one process did. Any thread.
struct stamp_counters {
  std::atomic<uint64_t> reads{0}, writes{0}, flushes{0}, failed{0}, lost{0}, garbled{0}, connects{0};
  /// Of sweeping connections: those that have read all.
  std::atomic<uint64_t> swept{0};
  /// Between a request and its answer, of all that were answered.
  std::atomic<int64_t> longest_wait_ns{0};
  /// What the last error was, as errno; 0: none.
  std::atomic<int> last_error{0};
};

/// One connection to a volume: writes and reads stamped blocks, connects again when it is lost, and logs it all. Its
/// thread is the caller's.
class stamp_client {
public:
  /// `garbled` gets what a read found that is no stamp, one file each.
  stamp_client(const stamp_options& options, uint32_t writer, const std::filesystem::path& log,
               std::filesystem::path garbled, stamp_counters& counters);
  ~stamp_client();

  /// Until `stop`, then until all in flight is answered or the connection ends; of a sweep, until all is read.
  void run(const std::atomic<bool>& stop);

private:
  struct slot {
    alignas(64) std::array<std::byte, block_bytes> data;
    uint64_t operation = 0;
    uint64_t block = 0;
    stamp value;
    int64_t begin = 0;
    /// libnbd's; 0: free.
    int64_t cookie = 0;
    enum class use : uint8_t { read, write, flush } what = use::read;
  };
  struct close_handle {
    void operator()(nbd_handle* x) const noexcept;
  };

  bool connect();
  void fill(int64_t now);
  bool begin(slot& x);
  void collect();
  void ended(slot& x, log_event event, int error);
  uint64_t next_block();
  bool idle() const;
  bool connection_over() const;

  const stamp_options options_;
  const std::vector<uint64_t> blocks_;
  const uint32_t writer_;
  history_log log_;
  const std::filesystem::path garbled_;
  stamp_counters& counters_;
  std::unique_ptr<nbd_handle, close_handle> nbd_;
  std::vector<slot> slots_;
  std::mt19937_64 random_;
  std::vector<uint64_t> unswept_;
  uint32_t epoch_;
  uint64_t sequence_ = 0;
  uint64_t operation_ = 0;
  int64_t next_at_ = 0;
};

/// CLOCK_MONOTONIC, ns.
int64_t monotonic_ns();

} // namespace varve::chaos
