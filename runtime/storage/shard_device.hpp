#pragma once

#include <span>

#include "runtime/reactor/reactor.hpp"
#include "runtime/storage/shard_store.hpp"

namespace varve {

/// Keeps device_statistics as operations end.
class device_meter {
public:
  enum class kind : uint8_t { read, write, sync };

  void count(kind what, uint64_t bytes, std::chrono::nanoseconds latency, boot_time now) noexcept;
  void count_mismatch() noexcept { ++seen_.checksum_mismatches; }
  /// As of `now`: rates fall while nothing happens.
  device_statistics statistics(boot_time now) const noexcept;

private:
  static void fold(device_statistics& into, uint64_t read_bytes, uint64_t written_bytes,
                   std::chrono::nanoseconds window) noexcept;

  device_statistics seen_;
  boot_time window_began_{0};
  uint64_t window_read_bytes_ = 0, window_written_bytes_ = 0;
};

/// The extra time of an emulated device: one queue for its bandwidth, a latency for each operation.
class slow_down {
public:
  explicit slow_down(tier_emulation how) noexcept : how_(how) {}
  bool active() const noexcept {
    return how_.read_latency.count() || how_.write_latency.count() || how_.bandwidth_bytes_per_second;
  }
  /// When an operation that has just ended is to be seen to end.
  boot_time due(bool write, uint64_t bytes, boot_time now) noexcept;

private:
  tier_emulation how_;
  boot_time free_at_{0};
};

/// What an open file is.
struct shard_file {
  int fd = -1;
  /// O_DIRECT: memory, offset and length of data I/O are aligned to blocks.
  bool direct = false;
};

/// Data I/O of one store's files: measured, and slowed down where the tier says so. Reactor's thread only.
class shard_device {
public:
  shard_device(varve::reactor& on, const tier_emulation& emulate) : reactor_(on), slow_down_(emulate) {}

  /// All of `into` or an error; the file ending before is errc::device_failed.
  task<errc> read(shard_file file, uint64_t offset, std::span<std::byte> into);
  task<errc> write(shard_file file, uint64_t offset, std::span<const std::byte> from);
  task<errc> sync(int fd);
  /// fallocate; `unsupported` tells that the file system has no such operation.
  task<errc> allocate(int fd, int flags, uint64_t offset, uint64_t length, bool& unsupported);

  /// Lets the emulated time of an operation pass.
  task<> pass_time(bool write, uint64_t bytes);
  bool emulated() const noexcept { return slow_down_.active(); }

  device_meter& meter() noexcept { return meter_; }
  const device_meter& meter() const noexcept { return meter_; }
  buffer_pool& buffers() noexcept { return reactor_.buffers(); }
  varve::ring& ring() noexcept { return reactor_.ring(); }
  boot_time now() const noexcept { return reactor_.now(); }

private:
  varve::reactor& reactor_;
  slow_down slow_down_;
  device_meter meter_;
};

/// Memory of a reactor's pool for the time of one operation.
class lent_buffer {
public:
  lent_buffer() noexcept = default;
  lent_buffer(buffer_pool& from, size_t size) : pool_(&from), buffer_(from.take(size)), size_(size) {}
  lent_buffer(const lent_buffer&) = delete;
  ~lent_buffer() {
    if (pool_)
      pool_->give(std::move(buffer_));
  }
  void take(buffer_pool& from, size_t size) {
    pool_ = &from;
    buffer_ = from.take(size);
    size_ = size;
  }
  std::span<std::byte> bytes() noexcept { return buffer_.bytes().first(size_); }

private:
  buffer_pool* pool_ = nullptr;
  buffer buffer_;
  size_t size_ = 0;
};

} // namespace varve
