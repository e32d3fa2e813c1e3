#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <sys/socket.h>
#include <sys/uio.h>

#include "messages/types.hpp"

namespace varve {

/// What a ring can be asked to do. Results are those of the system call of the same name: >= 0, or -errno.
enum class ring_op : uint8_t {
  /// openat(AT_FDCWD, path, flags | O_CLOEXEC, mode) -> file descriptor.
  open,
  /// Whoever closes a descriptor has cancelled and awaited what waits on it: closing does not end it, and the number
  /// may soon be another's.
  close,
  /// preadv / pwritev of `vectors` at `offset`; may be short.
  read,
  write,
  /// fdatasync; `fd` may be a directory.
  sync,
  /// fallocate(fd, flags, offset, length).
  allocate,
  /// ftruncate to `offset` (done inline where the ring has no such operation).
  truncate,
  unlink,
  /// rename `path` to `path2`.
  rename,
  /// Accepts one connection from the listening socket `fd` -> file descriptor (non-blocking, close-on-exec).
  accept,
  /// recvmsg / sendmsg of `vectors`; may be short; a receive of 0 bytes is the end of the stream. Sends never raise
  /// SIGPIPE.
  receive,
  send,
  /// Completes with -ETIME when `deadline` has come, or -ECANCELED.
  timeout,
};

/// One operation. It belongs to whoever submits it, and neither moves nor dies until `complete` has been called
/// with it; what it points to (path, vectors, bytes) lives as long.
struct ring_operation {
  ring_op op = ring_op::close;
  int fd = -1;
  int flags = 0;
  uint32_t mode = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  const char* path = nullptr;
  const char* path2 = nullptr;
  const iovec* vectors = nullptr;
  uint32_t vector_count = 0;
  /// read, write: goes through the page cache, and may be done at once where that is quicker than handing it on.
  bool page_cache = false;
  boot_time deadline{0};

  /// Called once, on the reactor's thread, from within `ring::wait`.
  void (*complete)(ring_operation& self) = nullptr;
  int32_t result = 0;

  /// The ring's own; not to be touched by others.
  msghdr message{};
  int64_t kernel_time[2] = {0, 0};
  ring_operation* next = nullptr;
  uint32_t phase = 0;
};

/// The submission and completion of operations, of one reactor thread. Production has io_uring or a thread pool
/// behind it, simulation a seeded model of disk, sockets and time. All but `wake` belong to the reactor's thread.
class ring {
public:
  virtual ~ring() = default;

  /// Queues an operation; it is handed on at the next `wait` at the latest. Never fails: what cannot be queued waits
  /// in a list, what the system refuses completes with -errno. Never calls `complete` itself.
  virtual void submit(ring_operation& x) = 0;

  /// Asks for an operation in flight to end early with -ECANCELED; it may still end otherwise. Its `complete` is
  /// called all the same.
  virtual void cancel(ring_operation& x) = 0;

  /// Hands on what is queued, waits for a completion, `wake` or `deadline` (returns at once when `deadline` <= now),
  /// and calls `complete` for everything that ended.
  virtual void wait(boot_time deadline) = 0;

  /// Makes a current or the next `wait` return. Any thread.
  virtual void wake() noexcept = 0;

  /// CLOCK_BOOTTIME, cached at the last return of `wait`.
  virtual boot_time now() const noexcept = 0;

  /// "io_uring", "threads" or "simulated".
  virtual const char* name() const noexcept = 0;

  /// Operations that ended so far. The reactor's thread.
  uint64_t completed() const noexcept { return completed_; }

protected:
  void finish(ring_operation& x, int32_t result) {
    ++completed_;
    x.result = result;
    x.complete(x); // may end the life of `x`
  }

private:
  uint64_t completed_ = 0;
};

} // namespace varve
