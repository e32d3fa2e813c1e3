#include "runtime/reactor/attention.hpp"
#include "runtime/reactor/operation_list.hpp"
#include "runtime/reactor/rings.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace varve {

namespace {

// Where an operation is (ring_operation::phase), so that it can be cancelled there.
enum phase : uint32_t {
  idle,
  // Waits in `overflow_` for a place in the submission queue.
  overflowed,
  // Has an entry in the submission queue, or is with the kernel.
  submitted,
  // As submitted, and waits in `cancels_` for a place for its cancellation.
  cancelling,
  // Has its result, waits in `ended_` for the next wait.
  ended,
};

constexpr int needed_ops[] = {
  IORING_OP_READ,      IORING_OP_WRITE,        IORING_OP_READV,   IORING_OP_WRITEV,   IORING_OP_FSYNC,
  IORING_OP_FALLOCATE, IORING_OP_OPENAT,       IORING_OP_CLOSE,   IORING_OP_UNLINKAT, IORING_OP_RENAMEAT,
  IORING_OP_ACCEPT,    IORING_OP_RECV,         IORING_OP_RECVMSG, IORING_OP_SEND,     IORING_OP_SENDMSG,
  IORING_OP_TIMEOUT,   IORING_OP_ASYNC_CANCEL,
};

bool of_file(ring_op x) noexcept {
  return x == ring_op::read || x == ring_op::write || x == ring_op::sync || x == ring_op::allocate;
}

// Only for what cannot happen unless the ring itself is broken: nothing that was acknowledged depends on it.
[[noreturn]] void broken(const char* what, int error) {
  std::fprintf(stderr, "varve: io_uring: %s: %s\n", what, std::strerror(error));
  std::abort();
}

class uring_ring final : public ring {
public:
  uring_ring() = default;
  ~uring_ring() override;

  // Empty, or why not.
  std::string open(const ring_options& options);

  void submit(ring_operation& x) override;
  void cancel(ring_operation& x) override;
  void wait(boot_time deadline) override;
  void wake() noexcept override { attention_.wake(wake_fd_); }
  boot_time now() const noexcept override { return now_; }
  const char* name() const noexcept override { return "io_uring"; }

private:
  void start();
  void prepare(io_uring_sqe& entry, ring_operation& x);
  bool at_once(ring_operation& x);
  bool prepare_cancel(ring_operation& x);
  void hand_on();
  void enter(bool block, boot_time deadline);
  void reap();
  void quiesce();
  bool spin_worthwhile() noexcept;
  bool spin(boot_time deadline);

  io_uring ring_{};
  bool open_ = false;
  bool started_ = false;
  std::thread::id thread_;
  int wake_fd_ = -1;
  uint64_t wake_count_ = 0; // where the kernel writes what it read from wake_fd_
  bool wake_armed_ = false;
  boot_time write_at_once_from_{0};
  boot_time spin_time_{0};
  boot_time spin_again_from_{0};
  bool lively_ = false;      // the last wait brought something
  unsigned spin_misses_ = 0; // in a row
  unsigned spin_skipped_ = 0;
  uint64_t in_flight_ = 0;       // entries that will give a completion, ours (wake, cancellations) included
  uint64_t files_in_flight_ = 0; // those of files
  boot_time now_ = detail::read_boot_clock();
  detail::operation_list overflow_;
  detail::operation_list cancels_;
  detail::operation_list ended_;
  detail::attention attention_;
};

std::string uring_ring::open(const ring_options& options) {
  // Of one thread, completions only when it asks: no interrupts of the reactor. Disabled until that thread is known.
  spin_time_ = options.spin;
  constexpr unsigned flags[] = {
    IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_R_DISABLED,
  };
  auto error = 0;
  io_uring_params parameters{};
  for (auto flag : flags) {
    parameters = {};
    parameters.flags = flag | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    parameters.cq_entries = options.entries * 8;
    error = -io_uring_queue_init_params(options.entries, &ring_, &parameters);
    if (error != EINVAL)
      break;
  }
  if (error)
    return std::string{"io_uring_setup: "} + std::strerror(error);
  open_ = true;
  constexpr auto features = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
  if ((parameters.features & features) != features)
    return "the kernel's io_uring is too old";
  if (auto* probe = io_uring_get_probe_ring(&ring_)) {
    auto missing = 0;
    for (auto op : needed_ops)
      missing += !io_uring_opcode_supported(probe, op);
    io_uring_free_probe(probe);
    if (missing)
      return "the kernel's io_uring lacks operations";
  } else {
    return "the kernel's io_uring cannot be probed";
  }
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC);
  if (wake_fd_ < 0)
    return std::string{"eventfd: "} + std::strerror(errno);
  return {};
}

uring_ring::~uring_ring() {
  if (open_) {
    if (started_ && std::this_thread::get_id() == thread_) {
      quiesce();
    } else {
      // The thread has ended (our owner joined it), and with it what was in flight and the registration of the ring's
      // descriptor; an index of its table means nothing on this thread.
      ring_.int_flags = 0;
      ring_.enter_ring_fd = ring_.ring_fd;
    }
    io_uring_queue_exit(&ring_);
  }
  if (wake_fd_ >= 0)
    ::close(wake_fd_);
}

// Memory may be freed once we are gone: nothing may be in flight then.
void uring_ring::quiesce() {
  io_uring_sync_cancel_reg cancel_all{};
  cancel_all.fd = -1;
  cancel_all.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
  cancel_all.timeout = {-1, -1};
  io_uring_submit_and_get_events(&ring_);
  io_uring_register_sync_cancel(&ring_, &cancel_all);
  // A hung device must not hang us for ever: then its buffers are at risk, but so is everything.
  const auto give_up = detail::read_boot_clock() + std::chrono::seconds{5};
  while (in_flight_ > 0 && detail::read_boot_clock() < give_up) {
    __kernel_timespec pause{0, 100'000'000};
    io_uring_cqe* first = nullptr;
    io_uring_submit_and_wait_timeout(&ring_, &first, 1, &pause, nullptr);
    unsigned head, count = 0;
    io_uring_cqe* entry;
    io_uring_for_each_cqe(&ring_, head, entry) {
      ++count;
    }
    io_uring_cq_advance(&ring_, count);
    in_flight_ -= std::min<uint64_t>(in_flight_, count);
  }
}

void uring_ring::start() {
  thread_ = std::this_thread::get_id();
  // liburing 2.3 declares io_uring_enable_rings, but does not export it.
  if (auto error = -io_uring_register(static_cast<unsigned>(ring_.ring_fd), IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
      error > 0)
    broken("cannot enable the ring", error);
  // Saves a look-up of the descriptor in each system call; not needed for anything.
  io_uring_register_ring_fd(&ring_);
  started_ = true;
}

void uring_ring::prepare(io_uring_sqe& entry, ring_operation& x) {
  const auto one = x.vector_count == 1;
  switch (x.op) {
  case ring_op::open: io_uring_prep_openat(&entry, AT_FDCWD, x.path, x.flags | O_CLOEXEC, x.mode); break;
  case ring_op::close: io_uring_prep_close(&entry, x.fd); break;
  case ring_op::read:
    if (one)
      io_uring_prep_read(&entry, x.fd, x.vectors->iov_base, static_cast<unsigned>(x.vectors->iov_len), x.offset);
    else
      io_uring_prep_readv(&entry, x.fd, x.vectors, x.vector_count, x.offset);
    break;
  case ring_op::write:
    if (one)
      io_uring_prep_write(&entry, x.fd, x.vectors->iov_base, static_cast<unsigned>(x.vectors->iov_len), x.offset);
    else
      io_uring_prep_writev(&entry, x.fd, x.vectors, x.vector_count, x.offset);
    break;
  case ring_op::sync: io_uring_prep_fsync(&entry, x.fd, IORING_FSYNC_DATASYNC); break;
  case ring_op::allocate:
    io_uring_prep_fallocate(&entry, x.fd, x.flags, static_cast<off_t>(x.offset), static_cast<off_t>(x.length));
    break;
  case ring_op::truncate: break; // done by submit
  case ring_op::unlink: io_uring_prep_unlinkat(&entry, AT_FDCWD, x.path, 0); break;
  case ring_op::rename: io_uring_prep_renameat(&entry, AT_FDCWD, x.path, AT_FDCWD, x.path2, 0); break;
  case ring_op::accept: io_uring_prep_accept(&entry, x.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); break;
  case ring_op::receive:
  case ring_op::send: {
    const auto flags = x.flags | MSG_NOSIGNAL;
    if (one) {
      // The scalar form spares the kernel the message header.
      if (x.op == ring_op::send)
        io_uring_prep_send(&entry, x.fd, x.vectors->iov_base, x.vectors->iov_len, flags);
      else
        io_uring_prep_recv(&entry, x.fd, x.vectors->iov_base, x.vectors->iov_len, flags);
      break;
    }
    x.message = {};
    x.message.msg_iov = const_cast<iovec*>(x.vectors);
    x.message.msg_iovlen = x.vector_count;
    if (x.op == ring_op::send)
      io_uring_prep_sendmsg(&entry, x.fd, &x.message, static_cast<unsigned>(flags));
    else
      io_uring_prep_recvmsg(&entry, x.fd, &x.message, static_cast<unsigned>(flags));
    break;
  }
  case ring_op::timeout: {
    const auto when = std::max(x.deadline, boot_time{0});
    x.kernel_time[0] = when.count() / 1'000'000'000;
    x.kernel_time[1] = when.count() % 1'000'000'000;
    static_assert(sizeof(x.kernel_time) == sizeof(__kernel_timespec));
    io_uring_prep_timeout(&entry, reinterpret_cast<__kernel_timespec*>(x.kernel_time), 0,
                          IORING_TIMEOUT_ABS | IORING_TIMEOUT_BOOTTIME);
    break;
  }
  }
  io_uring_sqe_set_data(&entry, &x);
  ++in_flight_;
  files_in_flight_ += of_file(x.op);
}

void uring_ring::submit(ring_operation& x) {
  if (x.op == ring_op::truncate) {
    // The kernels that we run on have no such operation; it only changes an inode.
    x.result = ::ftruncate(x.fd, static_cast<off_t>(x.offset)) == 0 ? 0 : -errno;
    x.phase = ended;
    ended_.push(x);
    return;
  }
  if (x.page_cache && at_once(x)) {
    x.phase = ended;
    ended_.push(x);
    return;
  }
  // Behind those that wait already, or they would starve.
  auto* entry = overflow_.empty() ? io_uring_get_sqe(&ring_) : nullptr;
  if (!entry) {
    x.phase = overflowed;
    overflow_.push(x);
    return;
  }
  x.phase = submitted;
  prepare(*entry, x);
}

// What the page cache takes or has is a copy of memory; handing it to a worker of the kernel, as io_uring does with
// buffered writes on most file systems, costs ten times that.
bool uring_ring::at_once(ring_operation& x) {
  // A small write may wait all the same when the kernel throttles who dirties memory too fast: after one that did, the
  // workers get them for a while, since a reactor has other volumes to serve.
  constexpr uint64_t bytes_max = 128 << 10;
  constexpr boot_time too_long = std::chrono::milliseconds{5}, trusted_again_after = std::chrono::seconds{1};
  if ((x.op != ring_op::read && x.op != ring_op::write) || x.vector_count != 1 || x.vectors->iov_len > bytes_max)
    return false;
  ssize_t result;
  if (x.op == ring_op::read) {
    result = ::preadv2(x.fd, x.vectors, 1, static_cast<off_t>(x.offset), RWF_NOWAIT);
  } else {
    const auto began = detail::read_boot_clock();
    if (began < write_at_once_from_)
      return false;
    result = ::pwrite(x.fd, x.vectors->iov_base, x.vectors->iov_len, static_cast<off_t>(x.offset));
    if (result < 0)
      result = -errno;
    if (const auto ended_at = detail::read_boot_clock(); ended_at - began > too_long)
      write_at_once_from_ = ended_at + trusted_again_after;
    x.result = static_cast<int32_t>(result);
    return true;
  }
  // Not in the cache, the file's end, or an error: the kernel's worker finds out which.
  if (result <= 0)
    return false;
  x.result = static_cast<int32_t>(result);
  return true;
}

bool uring_ring::prepare_cancel(ring_operation& x) {
  auto* entry = io_uring_get_sqe(&ring_);
  if (!entry)
    return false;
  io_uring_prep_cancel(entry, &x, 0);
  io_uring_sqe_set_data(entry, nullptr);
  ++in_flight_;
  return true;
}

void uring_ring::cancel(ring_operation& x) {
  if (x.phase == overflowed) {
    overflow_.remove(x);
    x.result = -ECANCELED;
    x.phase = ended;
    ended_.push(x);
  } else if (x.phase == submitted && !prepare_cancel(x)) {
    x.phase = cancelling;
    cancels_.push(x);
  }
}

// Fills the submission queue from what waits for it.
void uring_ring::hand_on() {
  for (;;) {
    while (!overflow_.empty()) {
      auto* entry = io_uring_get_sqe(&ring_);
      if (!entry)
        break;
      auto* x = overflow_.pop();
      x->phase = submitted;
      prepare(*entry, *x);
    }
    while (!cancels_.empty()) {
      if (io_uring_sq_space_left(&ring_) == 0)
        break;
      auto* x = cancels_.pop();
      x->phase = submitted;
      prepare_cancel(*x);
    }
    if (overflow_.empty() && cancels_.empty())
      return;
    // A full queue is the one case of more than one system call in a round.
    auto taken = io_uring_submit(&ring_);
    if (taken <= 0)
      return; // the completion queue is full: the rest goes next time
  }
}

void uring_ring::enter(bool block, boot_time deadline) {
  int result;
  if (!block) {
    result = io_uring_submit_and_get_events(&ring_);
  } else if (deadline == boot_time::max()) {
    result = io_uring_submit_and_wait(&ring_, 1);
  } else {
    // `now_` is from before the completions that were run meanwhile.
    const auto left = std::max(deadline - detail::read_boot_clock(), boot_time{0});
    __kernel_timespec time{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
    io_uring_cqe* first = nullptr;
    result = io_uring_submit_and_wait_timeout(&ring_, &first, 1, &time, nullptr);
  }
  // EBUSY: completions have to be reaped first. EAGAIN: out of memory for now; the entries stay in the queue.
  if (result < 0 && result != -EINTR && result != -ETIME && result != -EBUSY && result != -EAGAIN)
    broken("io_uring_enter", -result);
}

void uring_ring::reap() {
  // Only what is there now: completions lead to submissions, which end in a later round.
  auto count = io_uring_cq_ready(&ring_);
  io_uring_cqe* entry;
  while (count-- > 0 && io_uring_peek_cqe(&ring_, &entry) == 0) {
    auto* x = static_cast<ring_operation*>(io_uring_cqe_get_data(entry));
    const auto result = entry->res;
    // Seen before it is run, so that a nested wait does not run it again.
    io_uring_cqe_seen(&ring_, entry);
    --in_flight_;
    if (!x)
      continue; // a cancellation: the operation itself says how it ended
    if (reinterpret_cast<uint64_t*>(x) == &wake_count_) {
      wake_armed_ = false;
      continue;
    }
    if (x->phase == cancelling)
      cancels_.remove(*x);
    x->phase = idle;
    if (of_file(x->op)) {
      --files_in_flight_;
      // Who waits for a device takes its time; a look would only slow down the processor's other half, and the host.
      lively_ = false;
    }
    finish(*x, result);
  }
}

// Whether looking for a while before sleeping is likely to save the sleep. Sleeping and being woken costs both sides
// tens of microseconds where processors are virtual; but time spent looking in vain is lost to others.
bool uring_ring::spin_worthwhile() noexcept {
  constexpr unsigned misses_max = 4, skips_max = 16;
  if (spin_time_ == boot_time{0} || !lively_ || now_ < spin_again_from_)
    return false;
  // A device takes longer than we would look; and where it is virtual, its host may need this very processor for it.
  if (files_in_flight_ > 0)
    return false;
  if (spin_misses_ < misses_max)
    return true;
  // It has not been worth it lately: look again only now and then whether that has changed.
  if (++spin_skipped_ < skips_max)
    return false;
  spin_skipped_ = 0;
  return true;
}

// Without system calls: the kernel says in the ring's flags that work of ours waits to be run by `enter`.
bool uring_ring::spin(boot_time deadline) {
  if (io_uring_sq_ready(&ring_) > 0)
    io_uring_submit(&ring_);
  constexpr boot_time yield_every = std::chrono::microseconds{10};
  // Who gives the processor away while others want it may wait for whole turns of theirs (Linux 6.18 takes the rest of
  // one's own turn, too); who sleeps and is woken goes first.
  constexpr boot_time too_long = std::chrono::microseconds{500}, trusted_again_after = std::chrono::milliseconds{100};
  auto now = detail::read_boot_clock();
  const auto until = std::min(deadline, now + spin_time_);
  auto yield_at = now + yield_every;
  do {
    for (unsigned i = 0; i < 16; ++i) {
      if (__atomic_load_n(ring_.sq.kflags, __ATOMIC_ACQUIRE) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW) ||
          io_uring_cq_ready(&ring_) > 0 || attention_.woken()) {
        spin_misses_ = 0;
        return true;
      }
      __builtin_ia32_pause();
    }
    now = detail::read_boot_clock();
    if (now >= yield_at) {
      // Whom we have just answered may have been woken on this very processor, and cannot come while we look.
      ::sched_yield();
      const auto back = detail::read_boot_clock();
      if (back - now > too_long) {
        spin_again_from_ = back + trusted_again_after;
        return true; // something may have come meanwhile
      }
      yield_at = back + yield_every;
    }
  } while (now < until);
  ++spin_misses_;
  return false;
}

void uring_ring::wait(boot_time deadline) {
  if (!started_)
    start();
  hand_on();
  if (!wake_armed_) {
    if (auto* entry = io_uring_get_sqe(&ring_)) {
      io_uring_prep_read(entry, wake_fd_, &wake_count_, sizeof(wake_count_), 0);
      io_uring_sqe_set_data(entry, &wake_count_);
      ++in_flight_;
      wake_armed_ = true;
    }
  }
  // Unarmed (the queue is full): a wake would not be seen, so do not sleep.
  auto block = wake_armed_ && ended_.empty() && overflow_.empty() && cancels_.empty() && deadline > now_;
  block = block && !(spin_worthwhile() && spin(deadline)) && attention_.fall_asleep();
  enter(block, deadline);
  lively_ = io_uring_cq_ready(&ring_) > 0 || !ended_.empty();
  attention_.get_up();
  now_ = detail::read_boot_clock();
  // First what ended without the kernel; only what is there now.
  detail::operation_list done;
  done.append(ended_);
  while (auto* x = done.pop()) {
    x->phase = idle;
    finish(*x, x->result);
  }
  reap();
}

} // namespace

std::unique_ptr<ring> make_uring_ring(const ring_options& options, std::string& refusal) {
  auto result = std::make_unique<uring_ring>();
  refusal = result->open(options);
  if (!refusal.empty())
    return nullptr;
  return result;
}

} // namespace varve
