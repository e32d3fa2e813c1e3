#pragma once

#include <span>
#include <string>

#include "messages/errors.hpp"
#include "runtime/reactor/reactor.hpp"

namespace varve {

/// `co_await sleep_until(reactor, when)`: 0 or -ETIME, both meaning that it is time.
inline perform sleep_until(ring& on, boot_time when) {
  ring_operation x;
  x.op = ring_op::timeout;
  x.deadline = when;
  return perform{on, x};
}
inline perform sleep_until(reactor& on, boot_time when) {
  return sleep_until(on.ring(), when);
}
inline perform sleep_for(reactor& on, std::chrono::nanoseconds time) {
  return sleep_until(on, on.now() + time);
}

/// What the result of a file operation means: errc::none for >= 0, errc::tier_full for -ENOSPC and -EDQUOT,
/// errc::not_found for -ENOENT, errc::already_exists for -EEXIST, errc::cancelled for -ECANCELED,
/// errc::device_failed for everything else.
errc errc_of_result(int32_t result) noexcept;

/// Reads all of `into` at `offset`, however short the single reads are. errc::bad_format when the file ends before.
/// `into` stays valid until the task has ended.
task<errc> read_fully(ring& on, int fd, uint64_t offset, std::span<std::byte> into);

/// The same for scattered memory. `vectors` are changed on the way.
task<errc> read_fully(ring& on, int fd, uint64_t offset, std::span<iovec> vectors);

/// Writes all of `from` at `offset`. On an error any part of it may have been written.
task<errc> write_fully(ring& on, int fd, uint64_t offset, std::span<const std::byte> from);

/// The same for scattered memory. `vectors` are changed on the way.
task<errc> write_fully(ring& on, int fd, uint64_t offset, std::span<iovec> vectors);

/// Opens a file: a descriptor >= 0, or -errno. `path` is copied into the task.
task<int32_t> open_file(ring& on, std::string path, int flags, uint32_t mode = 0600);
task<int32_t> close_file(ring& on, int fd);
/// fdatasync; of a folder too.
task<errc> sync_file(ring& on, int fd);
/// Opens, syncs and closes a folder: makes its entries durable.
task<errc> sync_folder(ring& on, std::string path);
/// ftruncate.
task<errc> resize_file(ring& on, int fd, uint64_t size);
/// fallocate(fd, flags, offset, length).
task<errc> allocate_file(ring& on, int fd, int flags, uint64_t offset, uint64_t length);
task<errc> unlink_file(ring& on, std::string path);
task<errc> rename_file(ring& on, std::string from, std::string to);

} // namespace varve
