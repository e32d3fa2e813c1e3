#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/chaos/stamped_block.hpp"

namespace varve::vm {

struct load_options {
  std::string disk;
  /// The volume's number in the stamps.
  uint64_t volume = 1;
  /// Block `i` lies at offset i * stride_bytes.
  uint64_t blocks = 256;
  uint64_t stride_bytes = chaos::block_bytes;
  unsigned workers = 4;
  /// Of 100 operations; the others are writes.
  unsigned reads_percent = 50;
  /// Writes of one worker between two flushes.
  unsigned flush_every = 64;
  /// Between two operations of one worker: half to one and a half of it.
  unsigned think_us = 1000;
};

/// Since the beginning. Any thread.
struct load_counters {
  std::atomic<uint64_t> reads{0}, writes{0}, flushes{0}, failed{0}, mismatches{0};
  /// The longest of those that ended since somebody last put 0 here.
  std::atomic<int64_t> longest_wait_ns{0};
};

/// Stamps blocks of a disk and compares what it reads with what it wrote last, past the page cache. Each block belongs
/// to one worker, which has one request under way: so each read has one right answer.
class guest_load {
public:
  /// `tell` gets a line for whatever is wrong; from any worker.
  guest_load(load_options options, std::function<void(const std::string&)> tell);

  /// Begins to work, held at first. Throws std::system_error for a disk that cannot be opened. Once.
  void start();
  /// Returns when nothing is under way any more.
  void hold();
  void go();

  // While it is held, one caller at a time:

  /// Writes each block. What it held before is not looked at.
  void fill();
  /// Reads each block; how many were not what was written last.
  uint64_t sweep();
  /// Of each block, the sequence of its last acknowledged write; 0: none.
  const std::vector<uint64_t>& stamps() const { return last_; }

  const load_counters& counters() const { return counters_; }
  int64_t take_longest_wait() { return counters_.longest_wait_ns.exchange(0); }

private:
  /// For O_DIRECT.
  struct alignas(chaos::block_bytes) buffer : std::array<std::byte, chaos::block_bytes> {};

  void work(unsigned number);
  void write(uint64_t block, buffer& with);
  bool read(uint64_t block, buffer& into);
  void flush();
  void waited(int64_t since_ns);
  void failed(const char* what, uint64_t block, int error);

  const load_options options_;
  const std::function<void(const std::string&)> tell_;
  int disk_ = -1;
  load_counters counters_;
  std::vector<uint64_t> last_;
  /// Blocks of which nobody knows what they hold: a write of them failed.
  std::vector<char> unknown_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = true;
  unsigned working_ = 0;
};

} // namespace varve::vm
