#include "runtime/reactor/attention.hpp"
#include "runtime/reactor/operation_list.hpp"
#include "runtime/reactor/rings.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace varve {

namespace {

// Where an operation is (ring_operation::phase).
enum phase : uint32_t { idle, queued, pooled, parked, timed, ended };

constexpr size_t vectors_max = 1024; // IOV_MAX of Linux

bool is_socket_op(ring_op op) {
  return op == ring_op::accept || op == ring_op::receive || op == ring_op::send;
}

int32_t result_of(ssize_t returned) {
  return returned >= 0 ? static_cast<int32_t>(returned) : -errno;
}

// A file operation, as the system call of its name. May block.
int32_t carry_out(const ring_operation& x) {
  const auto offset = static_cast<off_t>(x.offset);
  switch (x.op) {
  case ring_op::open: return result_of(::open(x.path, x.flags | O_CLOEXEC, x.mode));
  case ring_op::close: return result_of(::close(x.fd));
  case ring_op::read: return result_of(::preadv(x.fd, x.vectors, static_cast<int>(x.vector_count), offset));
  case ring_op::write: return result_of(::pwritev(x.fd, x.vectors, static_cast<int>(x.vector_count), offset));
  case ring_op::sync: return result_of(::fdatasync(x.fd));
  case ring_op::allocate: return result_of(::fallocate(x.fd, x.flags, offset, static_cast<off_t>(x.length)));
  case ring_op::truncate: return result_of(::ftruncate(x.fd, offset));
  case ring_op::unlink: return result_of(::unlink(x.path));
  case ring_op::rename: return result_of(::rename(x.path, x.path2));
  default: return -EINVAL;
  }
}

// File operations on threads of a pool, which may block; sockets and timers by poll on the reactor's thread.
class threads_ring final : public ring {
public:
  explicit threads_ring(const ring_options& options);
  ~threads_ring() override;

  void submit(ring_operation& x) override;
  void cancel(ring_operation& x) override;
  void wait(boot_time deadline) override;
  void wake() noexcept override { attention_.wake(wake_fd_); }
  boot_time now() const noexcept override { return now_; }
  const char* name() const noexcept override { return "threads"; }

private:
  void work();
  void hand_on();
  bool try_at_once(ring_operation& x);
  bool try_socket(ring_operation& x);
  void end(ring_operation& x, int32_t result);
  void sleep(bool block, boot_time deadline);

  int wake_fd_;
  boot_time now_ = detail::read_boot_clock();
  detail::attention attention_;
  detail::operation_list queued_;
  detail::operation_list ended_;
  std::vector<ring_operation*> parked_; // sockets, in order of arrival
  std::vector<pollfd> polled_;          // wake_fd_, then what is parked
  std::set<std::pair<boot_time, ring_operation*>> timers_;

  std::mutex mutex_;
  std::condition_variable work_there_;
  detail::operation_list pooled_;   // guarded by mutex_
  detail::operation_list finished_; // guarded by mutex_
  bool stopping_ = false;           // guarded by mutex_
  std::vector<std::thread> workers_;
};

threads_ring::threads_ring(const ring_options& options) : wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (wake_fd_ < 0)
    throw std::system_error(errno, std::generic_category(), "eventfd");
  for (uint32_t i = 0; i < std::max(options.threads, 1u); ++i)
    workers_.emplace_back([this] { work(); });
}

threads_ring::~threads_ring() {
  {
    std::lock_guard guard{mutex_};
    stopping_ = true;
  }
  work_there_.notify_all();
  for (auto& worker : workers_)
    worker.join();
  ::close(wake_fd_);
}

void threads_ring::work() {
  std::unique_lock lock{mutex_};
  for (;;) {
    work_there_.wait(lock, [this] { return stopping_ || !pooled_.empty(); });
    if (stopping_)
      return;
    auto* x = pooled_.pop();
    lock.unlock();
    x->result = carry_out(*x);
    lock.lock();
    const auto first = finished_.empty();
    finished_.push(*x);
    if (first)
      wake();
  }
}

void threads_ring::submit(ring_operation& x) {
  x.phase = queued;
  queued_.push(x);
}

void threads_ring::end(ring_operation& x, int32_t result) {
  x.result = result;
  x.phase = ended;
  ended_.push(x);
}

void threads_ring::cancel(ring_operation& x) {
  auto found = false;
  switch (x.phase) {
  case queued: found = queued_.remove(x); break;
  case pooled: {
    std::lock_guard guard{mutex_};
    found = pooled_.remove(x); // not once a thread is at it
    break;
  }
  case parked: found = std::erase(parked_, &x) > 0; break;
  case timed: found = timers_.erase({x.deadline, &x}) > 0; break;
  default: break;
  }
  if (found)
    end(x, -ECANCELED);
}

// One try without blocking; false when it would block. kernel_time[0] counts the bytes of earlier tries.
bool threads_ring::try_socket(ring_operation& x) {
  if (x.op == ring_op::accept) {
    const auto result = result_of(::accept4(x.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (result == -EAGAIN || result == -EINTR || result == -ECONNABORTED)
      return false;
    end(x, result);
    return true;
  }
  for (;;) {
    // What is left of the vectors.
    std::array<iovec, 64> vectors;
    size_t count = 0;
    uint64_t bytes = 0;
    auto skip = static_cast<uint64_t>(x.kernel_time[0]);
    for (uint32_t i = 0; i < x.vector_count && count < vectors.size(); ++i) {
      const auto& vector = x.vectors[i];
      if (skip >= vector.iov_len && vector.iov_len > 0) {
        skip -= vector.iov_len;
        continue;
      }
      vectors[count] = {static_cast<std::byte*>(vector.iov_base) + skip, vector.iov_len - skip};
      bytes += vectors[count++].iov_len;
      skip = 0;
    }
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = count;
    const auto flags = (x.flags & ~MSG_WAITALL) | MSG_DONTWAIT | MSG_NOSIGNAL;
    const auto result =
      result_of(x.op == ring_op::send ? ::sendmsg(x.fd, &message, flags) : ::recvmsg(x.fd, &message, flags));
    if (result == -EINTR)
      continue;
    if (result == -EAGAIN && (x.kernel_time[0] == 0 || (x.flags & MSG_WAITALL)))
      return false;
    if (result > 0)
      x.kernel_time[0] += result;
    const auto done = x.kernel_time[0];
    const auto more = result > 0 && static_cast<uint64_t>(done) < detail::bytes_of(x);
    // Short, or more vectors than fit above.
    if (more && ((x.flags & MSG_WAITALL) || static_cast<uint64_t>(result) == bytes))
      continue;
    end(x, done > 0 ? static_cast<int32_t>(done) : result);
    return true;
  }
}

// What needs no thread.
bool threads_ring::try_at_once(ring_operation& x) {
  if (x.op != ring_op::read || x.vector_count > vectors_max)
    return false;
  // From the page cache. Where that cannot be told, or the file ends here, a thread finds out.
  const auto result =
    ::preadv2(x.fd, x.vectors, static_cast<int>(x.vector_count), static_cast<off_t>(x.offset), RWF_NOWAIT);
  if (result <= 0)
    return false;
  end(x, static_cast<int32_t>(result));
  return true;
}

void threads_ring::hand_on() {
  detail::operation_list for_pool;
  auto pool_count = 0;
  while (auto* x = queued_.pop()) {
    if (x->op == ring_op::timeout) {
      x->phase = timed;
      timers_.emplace(x->deadline, x);
    } else if (is_socket_op(x->op)) {
      x->kernel_time[0] = 0;
      if (x->op == ring_op::accept)
        if (const auto flags = ::fcntl(x->fd, F_GETFL); flags >= 0 && !(flags & O_NONBLOCK))
          ::fcntl(x->fd, F_SETFL, flags | O_NONBLOCK); // a client that has gone again must not block us
      if (!try_socket(*x)) {
        x->phase = parked;
        parked_.push_back(x);
      }
    } else if (!try_at_once(*x)) {
      x->phase = pooled;
      for_pool.push(*x);
      ++pool_count;
    }
  }
  if (pool_count == 0)
    return;
  {
    std::lock_guard guard{mutex_};
    pooled_.append(for_pool);
  }
  if (pool_count == 1)
    work_there_.notify_one();
  else
    work_there_.notify_all();
}

void threads_ring::sleep(bool block, boot_time deadline) {
  polled_.clear();
  polled_.push_back({wake_fd_, POLLIN, 0});
  for (auto* x : parked_)
    polled_.push_back({x->fd, static_cast<short>(x->op == ring_op::send ? POLLOUT : POLLIN), 0});
  timespec time{0, 0};
  auto* timeout = &time;
  if (!timers_.empty())
    deadline = std::min(deadline, timers_.begin()->first);
  if (block && deadline == boot_time::max()) {
    timeout = nullptr;
  } else if (block) {
    const auto left = std::max(deadline - detail::read_boot_clock(), boot_time{0});
    time = {static_cast<time_t>(left.count() / 1'000'000'000), static_cast<long>(left.count() % 1'000'000'000)};
  }
  if (::ppoll(polled_.data(), polled_.size(), timeout, nullptr) <= 0)
    for (auto& x : polled_)
      x.revents = 0; // interrupted: indeterminate
}

void threads_ring::wait(boot_time deadline) {
  hand_on();
  const auto block = ended_.empty() && deadline > now_ && attention_.fall_asleep();
  sleep(block, deadline);
  attention_.get_up();
  now_ = detail::read_boot_clock();
  if (polled_.front().revents) {
    uint64_t count;
    (void)!::read(wake_fd_, &count, sizeof(count));
  }
  detail::operation_list done;
  done.append(ended_);
  {
    std::lock_guard guard{mutex_};
    done.append(finished_);
  }
  size_t kept = 0;
  const auto parked_count = parked_.size();
  for (size_t i = 0; i < parked_count; ++i)
    if (!polled_[i + 1].revents || !try_socket(*parked_[i]))
      parked_[kept++] = parked_[i];
  parked_.resize(kept);
  while (!timers_.empty() && timers_.begin()->first <= now_) {
    auto& x = *timers_.begin()->second;
    timers_.erase(timers_.begin());
    end(x, -ETIME);
  }
  done.append(ended_);
  while (auto* x = done.pop()) {
    x->phase = idle;
    finish(*x, x->result);
  }
}

} // namespace

std::unique_ptr<ring> make_threads_ring(const ring_options& options) {
  return std::make_unique<threads_ring>(options);
}

} // namespace varve
