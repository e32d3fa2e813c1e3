#include "runtime/storage/shard_device.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "runtime/reactor/io.hpp"

namespace varve {

namespace {

using namespace std::chrono_literals;

// Rates are folded once per window; a rate's memory is a few seconds.
constexpr std::chrono::nanoseconds window = 500ms;
constexpr double memory_seconds = 5;

void decay(std::chrono::nanoseconds& mean, std::chrono::nanoseconds sample) noexcept {
  // 1/16: some dozens of operations back. The first sample starts the mean.
  mean = mean.count() == 0 ? sample : mean + (sample - mean) / 16;
}

} // namespace

void device_meter::fold(device_statistics& into, uint64_t read_bytes, uint64_t written_bytes,
                        std::chrono::nanoseconds time) noexcept {
  auto seconds = std::chrono::duration<double>(time).count();
  auto keep = std::exp(-seconds / memory_seconds);
  into.read_bytes_per_second = into.read_bytes_per_second * keep + read_bytes / seconds * (1 - keep);
  into.written_bytes_per_second = into.written_bytes_per_second * keep + written_bytes / seconds * (1 - keep);
}

void device_meter::count(kind what, uint64_t bytes, std::chrono::nanoseconds latency, boot_time now) noexcept {
  if (window_began_.count() == 0)
    window_began_ = now;
  if (now - window_began_ >= window) {
    fold(seen_, window_read_bytes_, window_written_bytes_, now - window_began_);
    window_began_ = now;
    window_read_bytes_ = window_written_bytes_ = 0;
  }
  switch (what) {
  case kind::read:
    ++seen_.reads;
    seen_.read_bytes += bytes;
    window_read_bytes_ += bytes;
    decay(seen_.read_latency_mean, latency);
    break;
  case kind::write:
    ++seen_.writes;
    seen_.written_bytes += bytes;
    window_written_bytes_ += bytes;
    decay(seen_.write_latency_mean, latency);
    break;
  case kind::sync:
    ++seen_.syncs;
    decay(seen_.sync_latency_mean, latency);
    break;
  }
}

device_statistics device_meter::statistics(boot_time now) const noexcept {
  auto result = seen_;
  if (auto open = now - window_began_; window_began_.count() != 0 && open >= window)
    fold(result, window_read_bytes_, window_written_bytes_, open);
  return result;
}

boot_time slow_down::due(bool write, uint64_t bytes, boot_time now) noexcept {
  auto begin = std::max(free_at_, now);
  if (how_.bandwidth_bytes_per_second)
    begin += std::chrono::nanoseconds(
      static_cast<int64_t>(1e9 * static_cast<double>(bytes) / static_cast<double>(how_.bandwidth_bytes_per_second)));
  free_at_ = begin;
  return begin + (write ? how_.write_latency : how_.read_latency);
}

task<> shard_device::pass_time(bool write, uint64_t bytes) {
  if (!slow_down_.active())
    co_return;
  auto due = slow_down_.due(write, bytes, now());
  while (now() < due)
    if (co_await sleep_until(ring(), due) == -ECANCELED)
      break;
}

task<errc> shard_device::read(shard_file file, uint64_t offset, std::span<std::byte> into) {
  auto began = now();
  auto bytes = into.size();
  iovec vector{into.data(), into.size()};
  ring_operation x;
  x.op = ring_op::read;
  x.fd = file.fd;
  x.page_cache = !file.direct;
  x.offset = offset;
  x.vectors = &vector;
  x.vector_count = 1;
  auto result = co_await perform(ring(), x);
  auto status = errc::none;
  // A short or interrupted read is rare: only then the loop.
  if (result < static_cast<int64_t>(bytes)) {
    auto done = static_cast<uint64_t>(std::max(result, 0));
    status = co_await read_fully(ring(), file.fd, offset + done, into.subspan(done));
  }
  if (slow_down_.active())
    co_await pass_time(false, bytes);
  meter_.count(device_meter::kind::read, bytes, now() - began, now());
  co_return status == errc::none ? status : errc::device_failed;
}

task<errc> shard_device::write(shard_file file, uint64_t offset, std::span<const std::byte> from) {
  auto began = now();
  auto bytes = from.size();
  iovec vector{const_cast<std::byte*>(from.data()), from.size()};
  ring_operation x;
  x.op = ring_op::write;
  x.fd = file.fd;
  x.page_cache = !file.direct;
  x.offset = offset;
  x.vectors = &vector;
  x.vector_count = 1;
  auto result = co_await perform(ring(), x);
  auto status = errc::none;
  if (result >= 0 || result == -EINTR || result == -EAGAIN) {
    auto done = static_cast<uint64_t>(std::max(result, 0));
    if (done < bytes)
      status = co_await write_fully(ring(), file.fd, offset + done, from.subspan(done));
  } else {
    status = errc_of_result(result);
  }
  if (slow_down_.active())
    co_await pass_time(true, bytes);
  meter_.count(device_meter::kind::write, bytes, now() - began, now());
  co_return status == errc::none || status == errc::tier_full ? status : errc::device_failed;
}

task<errc> shard_device::sync(int fd) {
  auto began = now();
  auto status = co_await sync_file(ring(), fd);
  meter_.count(device_meter::kind::sync, 0, now() - began, now());
  co_return status == errc::none ? status : errc::device_failed;
}

task<errc> shard_device::allocate(int fd, int flags, uint64_t offset, uint64_t length, bool& unsupported) {
  ring_operation x;
  x.op = ring_op::allocate;
  x.fd = fd;
  x.flags = flags;
  x.offset = offset;
  x.length = length;
  unsupported = false;
  for (auto tries = 0;; ++tries) {
    auto result = co_await perform(ring(), x);
    if ((result == -EINTR || result == -EAGAIN) && tries < 16)
      continue;
    unsupported = result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL;
    auto status = errc_of_result(result);
    co_return status == errc::none || status == errc::tier_full ? status : errc::device_failed;
  }
}

} // namespace varve
