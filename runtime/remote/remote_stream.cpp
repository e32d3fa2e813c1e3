#include "runtime/remote/remote_stream.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include <sys/socket.h>

namespace varve {

namespace {

constexpr size_t cipher_in_bytes = 64u << 10;
/// Encrypted at a time; a multiple of TLS's records.
constexpr size_t cipher_chunk_bytes = 128u << 10;
/// Of TLS's largest record. Pieces that are smaller share one: each costs as much as encrypting some KiB.
constexpr size_t record_bytes = 16u << 10;
/// Of one system call (UIO_MAXIOV).
constexpr size_t vectors_max = 1024;

} // namespace

/// Waits for one operation on the socket.
class remote_stream::transfer {
public:
  transfer(remote_stream& of, operation& with, ring_op what, const iovec* vectors, size_t count)
    : stream_(of), operation_(with) {
    operation_.x.op = what;
    operation_.x.fd = of.fd_;
    operation_.x.vectors = vectors;
    operation_.x.vector_count = static_cast<uint32_t>(count);
  }
  transfer(const transfer&) = delete;

  bool await_ready() const noexcept { return stream_.cut_; }
  void await_suspend(std::coroutine_handle<> waiting) {
    assert(!operation_.in_flight);
    operation_.waiting = waiting;
    operation_.in_flight = true;
    operation_.x.complete = [](ring_operation& x) {
      auto& self = reinterpret_cast<operation&>(x);
      self.in_flight = false;
      self.waiting.resume();
    };
    stream_.reactor_.ring().submit(operation_.x);
    began_ = true;
  }
  int32_t await_resume() const noexcept { return began_ ? operation_.x.result : -ECANCELED; }

private:
  remote_stream& stream_;
  operation& operation_;
  bool began_ = false;
};

remote_stream::remote_stream(reactor& on, int fd, bool direct, std::unique_ptr<tls_session> tls)
  : reactor_(on), fd_(fd), direct_(direct), tls_(std::move(tls)) {
  if (tls_)
    cipher_in_ = std::make_unique<std::byte[]>(cipher_in_bytes);
}

remote_stream::~remote_stream() {
  assert(fd_ < 0 && !receive_.in_flight && !send_.in_flight);
}

void remote_stream::cut() {
  if (std::exchange(cut_, true))
    return;
  for (auto* x : {&receive_, &send_})
    if (x->in_flight)
      reactor_.ring().cancel(x->x);
}

task<void> remote_stream::close() {
  assert(cut_ && !receive_.in_flight && !send_.in_flight);
  ring_operation x;
  x.op = ring_op::close;
  x.fd = std::exchange(fd_, -1);
  co_await perform{reactor_.ring(), x};
}

task<bool> remote_stream::secure() {
  if (!tls_)
    co_return true;
  for (;;) {
    const auto state = tls_->shake_hands();
    // Also of a failed one: the alert says why.
    begin_send({}, true);
    const auto sent = co_await finish_send();
    if (state == tls_session::state::failed) {
      problem_ = tls_->problem();
      co_return false;
    }
    if (sent < 0) {
      problem_ = "hung up in the handshake of TLS";
      co_return false;
    }
    if (state == tls_session::state::open)
      break;
    iovec room{cipher_in_.get(), cipher_in_bytes};
    transfer bytes{*this, receive_, ring_op::receive, &room, 1};
    const auto got = co_await bytes;
    if (got == -EAGAIN || got == -EINTR)
      continue;
    if (got <= 0) {
      problem_ = "hung up in the handshake of TLS";
      co_return false;
    }
    tls_->put({cipher_in_.get(), static_cast<size_t>(got)});
  }
  binding_ = tls_->binding();
  co_return true;
}

// -- receiving

/// Decrypts what has been put in.
int32_t remote_stream::read_open(const iovec* vectors, uint32_t count) {
  int32_t all = 0;
  for (uint32_t i = 0; i < count; ++i) {
    std::span room{static_cast<std::byte*>(vectors[i].iov_base), vectors[i].iov_len};
    while (!room.empty()) {
      const auto got = tls_->read(room);
      if (got <= 0) {
        if (all > 0)
          return all; // it will be said again
        if (got == -2)
          problem_ = tls_->problem();
        return got == 0 ? -EAGAIN : got == -1 ? 0 : -EPROTO;
      }
      all += got;
      room = room.subspan(static_cast<size_t>(got));
    }
  }
  return all;
}

task<int32_t> remote_stream::receive(const iovec* vectors, uint32_t count) {
  for (;;) {
    if (cut_)
      co_return -ECANCELED;
    if (!tls_) {
      transfer bytes{*this, receive_, ring_op::receive, vectors, count};
      const auto got = co_await bytes;
      if (got == -EAGAIN || got == -EINTR)
        continue;
      co_return got;
    }
    if (const auto open = read_open(vectors, count); open != -EAGAIN)
      co_return open;
    iovec room{cipher_in_.get(), cipher_in_bytes};
    transfer bytes{*this, receive_, ring_op::receive, &room, 1};
    const auto got = co_await bytes;
    if (got == -EAGAIN || got == -EINTR)
      continue;
    if (got <= 0)
      co_return got;
    tls_->put({cipher_in_.get(), static_cast<size_t>(got)});
  }
}

int32_t remote_stream::receive_now(const iovec* vectors, uint32_t count) {
  if (cut_)
    return -ECANCELED;
  if (tls_)
    if (const auto open = read_open(vectors, count); open != -EAGAIN)
      return open;
  if (!direct_)
    return -EAGAIN;
  iovec cipher{cipher_in_.get(), cipher_in_bytes};
  msghdr message{};
  message.msg_iov = tls_ ? &cipher : const_cast<iovec*>(vectors);
  message.msg_iovlen = tls_ ? 1 : count;
  const auto got = ::recvmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (got < 0)
    return errno == EINTR ? -EAGAIN : -errno;
  if (got == 0 || !tls_)
    return static_cast<int32_t>(got);
  tls_->put({cipher_in_.get(), static_cast<size_t>(got)});
  return read_open(vectors, count);
}

// -- sending

/// Whether there is something to send; with TLS it is encrypted then.
bool remote_stream::prepare() {
  while (!sending_.empty() && sending_.front().iov_len == 0)
    sending_ = sending_.subspan(1);
  if (!tls_)
    return !sending_.empty();
  if (cipher_at_ < cipher_out_.size())
    return true;
  cipher_out_.clear();
  cipher_at_ = 0;
  gathered_.clear();
  auto right = true;
  for (size_t taken = 0; right && !sending_.empty() && taken < cipher_chunk_bytes;) {
    auto& x = sending_.front();
    const std::span part{static_cast<const std::byte*>(x.iov_base), std::min(x.iov_len, cipher_chunk_bytes - taken)};
    if (gathered_.size() + part.size() > record_bytes)
      right = encrypt_gathered();
    if (part.size() < record_bytes)
      gathered_.insert(gathered_.end(), part.begin(), part.end());
    else
      right = right && tls_->write(part);
    taken += part.size();
    x.iov_base = static_cast<std::byte*>(x.iov_base) + part.size();
    x.iov_len -= part.size();
    if (x.iov_len == 0)
      sending_ = sending_.subspan(1);
  }
  if (!right || !encrypt_gathered()) {
    send_error_ = -EPROTO;
    return false;
  }
  tls_->take(cipher_out_);
  return !cipher_out_.empty();
}

bool remote_stream::encrypt_gathered() {
  const auto right = gathered_.empty() || tls_->write(gathered_);
  gathered_.clear();
  return right;
}

void remote_stream::advance(size_t bytes) {
  if (tls_) {
    cipher_at_ += bytes;
    return;
  }
  while (bytes > 0) {
    auto& x = sending_.front();
    const auto part = std::min(x.iov_len, bytes);
    x.iov_base = static_cast<std::byte*>(x.iov_base) + part;
    x.iov_len -= part;
    bytes -= part;
    if (x.iov_len == 0)
      sending_ = sending_.subspan(1);
  }
}

bool remote_stream::begin_send(std::span<iovec> vectors, bool at_once) {
  sending_ = vectors;
  if (!at_once || !direct_)
    return false;
  while (send_error_ == 0 && !cut_ && prepare()) {
    if (tls_)
      cipher_vector_ = {cipher_out_.data() + cipher_at_, cipher_out_.size() - cipher_at_};
    msghdr message{};
    message.msg_iov = tls_ ? &cipher_vector_ : sending_.data();
    message.msg_iovlen = tls_ ? 1 : std::min(sending_.size(), vectors_max);
    const auto sent = ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      advance(static_cast<size_t>(sent));
      continue;
    }
    if (errno == EINTR)
      continue;
    if (errno != EAGAIN)
      send_error_ = -errno;
    return false;
  }
  return send_error_ == 0 && !cut_;
}

task<int32_t> remote_stream::finish_send() {
  while (send_error_ == 0 && !cut_ && prepare()) {
    if (tls_)
      cipher_vector_ = {cipher_out_.data() + cipher_at_, cipher_out_.size() - cipher_at_};
    transfer bytes{*this, send_, ring_op::send, tls_ ? &cipher_vector_ : sending_.data(),
                   tls_ ? 1 : std::min(sending_.size(), vectors_max)};
    const auto sent = co_await bytes;
    if (sent >= 0)
      advance(static_cast<size_t>(sent));
    else if (sent != -EAGAIN && sent != -EINTR)
      send_error_ = sent;
  }
  sending_ = {};
  co_return send_error_ != 0 ? send_error_ : cut_ ? -ECANCELED : 0;
}

} // namespace varve
