#include "runtime/reactor/io.hpp"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>

namespace varve {

namespace {

// Interrupted or busy for a moment: worth another try, under a bound so that a broken device cannot spin us.
constexpr int retries_max = 16;

bool transient(int32_t result) {
  return result == -EINTR || result == -EAGAIN;
}

// Drops the first `count` bytes of `vectors`.
std::span<iovec> skip(std::span<iovec> vectors, size_t count) {
  while (!vectors.empty() && count >= vectors.front().iov_len) {
    count -= vectors.front().iov_len;
    vectors = vectors.subspan(1);
  }
  if (!vectors.empty()) {
    vectors.front().iov_base = static_cast<std::byte*>(vectors.front().iov_base) + count;
    vectors.front().iov_len -= count;
  }
  return vectors;
}

task<errc> transfer_fully(ring& on, ring_op op, int fd, uint64_t offset, std::span<iovec> vectors) {
  // IOV_MAX of Linux.
  constexpr size_t vectors_max = 1024;
  auto retries = 0;
  vectors = skip(vectors, 0);
  while (!vectors.empty()) {
    ring_operation x;
    x.op = op;
    x.fd = fd;
    x.offset = offset;
    x.vectors = vectors.data();
    x.vector_count = static_cast<uint32_t>(std::min(vectors.size(), vectors_max));
    auto result = co_await perform(on, x);
    if (transient(result) && ++retries <= retries_max)
      continue;
    if (result < 0)
      co_return errc_of_result(result);
    if (result == 0)
      co_return op == ring_op::read ? errc::bad_format : errc::device_failed;
    retries = 0;
    offset += static_cast<uint64_t>(result);
    vectors = skip(vectors, static_cast<size_t>(result));
  }
  co_return errc::none;
}

task<int32_t> perform_retried(ring& on, ring_operation x) {
  for (auto retries = 0;; ++retries) {
    auto result = co_await perform(on, x);
    if (!transient(result) || retries == retries_max)
      co_return result;
  }
}

} // namespace

errc errc_of_result(int32_t result) noexcept {
  if (result >= 0)
    return errc::none;
  switch (-result) {
  case ENOSPC:
  case EDQUOT: return errc::tier_full;
  case ENOENT: return errc::not_found;
  case EEXIST: return errc::already_exists;
  case ECANCELED: return errc::cancelled;
  default: return errc::device_failed;
  }
}

task<errc> read_fully(ring& on, int fd, uint64_t offset, std::span<std::byte> into) {
  iovec vector{into.data(), into.size()};
  const std::span<iovec> one{&vector, 1};
  co_return co_await transfer_fully(on, ring_op::read, fd, offset, one);
}

task<errc> read_fully(ring& on, int fd, uint64_t offset, std::span<iovec> vectors) {
  return transfer_fully(on, ring_op::read, fd, offset, vectors);
}

task<errc> write_fully(ring& on, int fd, uint64_t offset, std::span<const std::byte> from) {
  iovec vector{const_cast<std::byte*>(from.data()), from.size()};
  const std::span<iovec> one{&vector, 1};
  co_return co_await transfer_fully(on, ring_op::write, fd, offset, one);
}

task<errc> write_fully(ring& on, int fd, uint64_t offset, std::span<iovec> vectors) {
  return transfer_fully(on, ring_op::write, fd, offset, vectors);
}

task<int32_t> open_file(ring& on, std::string path, int flags, uint32_t mode) {
  ring_operation x;
  x.op = ring_op::open;
  x.path = path.c_str();
  x.flags = flags;
  x.mode = mode;
  co_return co_await perform_retried(on, x);
}

task<int32_t> close_file(ring& on, int fd) {
  ring_operation x;
  x.op = ring_op::close;
  x.fd = fd;
  // Not tried again: after EINTR the descriptor is closed, and may be someone else's.
  co_return co_await perform(on, x);
}

task<errc> sync_file(ring& on, int fd) {
  ring_operation x;
  x.op = ring_op::sync;
  x.fd = fd;
  // Not tried again: a second sync reports success for what the first one lost.
  auto result = co_await perform(on, x);
  co_return errc_of_result(result);
}

task<errc> sync_folder(ring& on, std::string path) {
  auto fd = co_await open_file(on, std::move(path), O_RDONLY | O_DIRECTORY);
  if (fd < 0)
    co_return errc_of_result(fd);
  auto status = co_await sync_file(on, fd);
  (void)co_await close_file(on, fd);
  co_return status;
}

task<errc> resize_file(ring& on, int fd, uint64_t size) {
  ring_operation x;
  x.op = ring_op::truncate;
  x.fd = fd;
  x.offset = size;
  auto result = co_await perform_retried(on, x);
  co_return errc_of_result(result);
}

task<errc> allocate_file(ring& on, int fd, int flags, uint64_t offset, uint64_t length) {
  ring_operation x;
  x.op = ring_op::allocate;
  x.fd = fd;
  x.flags = flags;
  x.offset = offset;
  x.length = length;
  auto result = co_await perform_retried(on, x);
  co_return errc_of_result(result);
}

task<errc> unlink_file(ring& on, std::string path) {
  ring_operation x;
  x.op = ring_op::unlink;
  x.path = path.c_str();
  auto result = co_await perform_retried(on, x);
  co_return errc_of_result(result);
}

task<errc> rename_file(ring& on, std::string from, std::string to) {
  ring_operation x;
  x.op = ring_op::rename;
  x.path = from.c_str();
  x.path2 = to.c_str();
  auto result = co_await perform_retried(on, x);
  co_return errc_of_result(result);
}

} // namespace varve
