#include "runtime/remote/remote_connection.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "runtime/remote/remote_address.hpp"

namespace varve {

namespace {

/// Payloads from here up are received where they belong, even if that takes a call more.
constexpr size_t large_bytes = 128u << 10;

} // namespace

remote_connection::remote_connection(remote_server& of, int fd)
  : server_(of), reactor_(of.reactor_), peer_(remote::peer_of(fd)),
    stream_(of.reactor_, fd, of.options_.direct,
            of.options_.tls ? tls_session::server(of.options_.tls) : std::unique_ptr<tls_session>{}) {
  shake_until_ = reactor_.now() + of.options_.handshake_time;
}

remote_connection::~remote_connection() {
  assert(requests_ == 0 && bytes_ == 0);
}

void remote_connection::start() {
  varve::start(run());
}

task<void> remote_connection::run() {
  auto why = co_await shake_hands();
  shaking_ = false;
  --server_.handshakes_;
  if (why.empty() && !ended_) {
    in_ = reactor_.buffers().take(server_.options_.receive_bytes);
    headers_ = std::make_unique<std::byte[]>(batch_max * remote::reply_bytes);
    vectors_.reserve(3 * batch_max);
    why = co_await take_requests();
  }
  end(why);
  if (!why_.empty())
    server_.trouble(peer_, why_);
  while (at_shards_ > 0 || sending_) {
    idle_.reset();
    co_await idle_.wait();
  }
  end_batch();
  while (auto* x = replies_.pop())
    recycle(*x);
  if (filling_)
    recycle(*std::exchange(filling_, nullptr));
  if (!in_.empty())
    reactor_.buffers().give(std::move(in_));
  server_.session_over(*this);
  co_await stream_.close();
  server_.ended(*this); // this is no more
}

void remote_connection::end(const std::string& why) {
  if (std::exchange(ended_, true))
    return;
  why_ = why;
  stream_.cut();
  if (claims_)
    claims_->set();
  // Its requests at gates, and itself if it waits for room, see that it has ended.
  server_.gates_.set();
  server_.room_.set();
}

bool remote_connection::look_after(boot_time now) {
  if (ended_)
    return false;
  const auto limit = server_.options_.stall_time;
  if (shaking_) {
    if (now >= shake_until_) {
      ++server_.counters_.protocol_errors;
      end("too slow a handshake");
    }
    return true;
  }
  if (sending_ && now - sent_ >= limit) {
    ++server_.counters_.protocol_errors;
    end("takes no replies");
  } else if ((filling_ || tail_ > head_) && !short_of_room_ && now - received_ >= limit) {
    ++server_.counters_.protocol_errors;
    end("stopped in the middle of a request");
  }
  return sending_ || filling_ || tail_ > head_;
}

// -- receiving

/// Returns why it ends; empty when the client has closed.
task<std::string> remote_connection::take_requests() {
  auto at_once = true; // whether replies may go before the ring is asked
  for (;;) {
    received_ = reactor_.now();
    for (unsigned round = 0;; ++round) {
      parsed_ = 0;
      room_seen_ = server_.rooms_;
      pumping_ = true;
      auto wrong = parse();
      pumping_ = false;
      if (!wrong.empty()) {
        ++server_.counters_.protocol_errors;
        co_return wrong;
      }
      if (ended_)
        co_return std::string{};
      flush(at_once);
      // Something more is likely there: the rest of a payload, or the requests of a client that keeps several going.
      if (short_of_room_ || round >= rounds_max || !(filling_ || parsed_ > 1))
        break;
      const auto count = prepare_receive();
      const auto got = stream_.receive_now(receive_vectors_, count);
      if (got <= 0)
        break; // the end will be seen again
      took(static_cast<size_t>(got));
    }
    if (short_of_room_) {
      // Unless the flush has made room already.
      if (room_seen_ == server_.rooms_) {
        server_.room_.reset(); // each who waits does
        co_await server_.room_.wait();
      }
      if (ended_)
        co_return std::string{};
      continue;
    }
    if (filling_ || tail_ > head_)
      server_.watch();
    const auto count = prepare_receive();
    const auto got = co_await stream_.receive(receive_vectors_, count);
    if (ended_)
      co_return std::string{};
    if (got <= 0) {
      const auto midway = filling_ || tail_ > head_;
      if (got == -EPROTO)
        co_return "TLS: " + stream_.problem();
      co_return midway ? "hung up in the middle of a request" : "";
    }
    took(static_cast<size_t>(got));
  }
}

uint32_t remote_connection::prepare_receive() {
  // What is left is the beginning of one header: moving it is cheaper than wrapping around it.
  if (head_ > 0) {
    std::memmove(in_.data(), in_.data() + head_, tail_ - head_);
    tail_ -= head_;
    head_ = 0;
  }
  uint32_t count = 0;
  if (filling_) {
    auto& x = *filling_;
    if (filled_ < x.prefix.size())
      receive_vectors_[count++] = {x.prefix.data() + filled_, x.prefix.size() - filled_};
    const auto at = filled_ - std::min(filled_, x.prefix.size());
    if (at < x.data_bytes)
      receive_vectors_[count++] = {x.data.data() + at, x.data_bytes - at};
  }
  auto room = in_.size() - tail_;
  if (expect_large_)
    room = std::min<size_t>(room, block_size);
  receive_vectors_[count++] = {in_.data() + tail_, room};
  return count;
}

void remote_connection::took(size_t bytes) {
  received_ = reactor_.now();
  if (filling_) {
    const auto here = std::min(bytes, filling_->prefix.size() + filling_->data_bytes - filled_);
    filled_ += here;
    bytes -= here;
  }
  tail_ += bytes;
}

/// Moves what has been received of a payload to where it belongs; whether it is whole.
bool remote_connection::fill() {
  auto& x = *filling_;
  while (head_ < tail_) {
    const auto in_prefix = filled_ < x.prefix.size();
    auto* to = in_prefix ? x.prefix.data() + filled_ : x.data.data() + (filled_ - x.prefix.size());
    const auto wanted = in_prefix ? x.prefix.size() - filled_ : x.prefix.size() + x.data_bytes - filled_;
    const auto here = std::min(wanted, tail_ - head_);
    if (here == 0)
      break;
    std::memcpy(to, in_.data() + head_, here);
    head_ += here;
    filled_ += here;
  }
  return filled_ == x.prefix.size() + x.data_bytes;
}

std::string remote_connection::parse() {
  short_of_room_ = false;
  const auto& options = server_.options_;
  while (!ended_) {
    if (filling_) {
      if (!fill())
        return {};
      execute(*std::exchange(filling_, nullptr));
      continue;
    }
    if (tail_ - head_ < remote::request_bytes)
      return {};
    remote::request header;
    const auto wrong = remote::decode(std::span{in_.data() + head_, remote::request_bytes}, header);
    if (wrong != remote::malformed::none)
      return std::string{"a malformed request: "} + remote::to_string(wrong);
    // In order and each once: what is sent a second time has no place in a session.
    if (header.sequence != sequence_ + 1)
      return "a request out of sequence";
    const auto cost = remote::cost_of(header);
    if (requests_ >= options.requests_max || bytes_ + cost > options.bytes_max)
      return "more requests than it has credits for";
    if (!server_.take_bytes(cost)) {
      short_of_room_ = true;
      return {};
    }
    if (const auto now = reactor_.now(); now >= key_expires_) {
      // It may have been given a longer life meanwhile.
      const auto* key = server_.keys_.find(key_);
      if (!key || now >= key->expires) {
        server_.give_bytes(cost);
        return "an expired key";
      }
      key_expires_ = key->expires;
    }
    head_ += remote::request_bytes;
    sequence_ = header.sequence;
    ++parsed_;
    ++server_.counters_.requests;
    auto& x = take_request();
    x.header = header;
    x.cost = cost;
    bytes_ += cost;
    x.reply = {};
    x.reply.tag = header.tag;
    x.reply.sequence = header.sequence;
    x.prefix.clear();
    x.data_bytes = 0;
    expect_large_ = header.payload > large_bytes;
    if (header.payload > 0) {
      x.prefix.resize(remote::prefix_bytes(header.op, header.offset, header.length));
      x.data_bytes = header.payload - static_cast<uint32_t>(x.prefix.size());
      if (x.data_bytes > 0)
        x.data = reactor_.buffers().take(x.data_bytes);
      filling_ = &x;
      filled_ = 0;
      continue;
    }
    execute(x);
  }
  return {};
}

// -- sending

void remote_connection::flush(bool at_once) {
  while (!sending_ && !ended_) {
    if (!batch_open_ && !build_batch())
      return;
    if (stream_.begin_send(vectors_, at_once)) {
      end_batch();
      continue;
    }
    sending_ = true;
    sent_ = reactor_.now();
    server_.watch();
    varve::start(send_rest());
  }
}

task<void> remote_connection::send_rest() {
  for (;;) {
    const auto status = co_await stream_.finish_send();
    end_batch();
    if (status != 0) {
      end(status == -ECANCELED ? "" : "hung up");
      break;
    }
    sent_ = reactor_.now();
    if (ended_ || !build_batch())
      break;
    stream_.begin_send(vectors_, false);
  }
  sending_ = false;
  idle_.set();
}

bool remote_connection::build_batch() {
  vectors_.clear();
  auto* header = headers_.get();
  for (size_t i = 0; i < batch_max && !replies_.empty(); ++i) {
    auto& x = *replies_.pop();
    encode(x.reply, header);
    vectors_.push_back({header, remote::reply_bytes});
    header += remote::reply_bytes;
    if (x.reply.payload > 0) {
      if (!x.prefix.empty())
        vectors_.push_back({x.prefix.data(), x.prefix.size()});
      if (x.data_bytes > 0)
        vectors_.push_back({x.data.data(), x.data_bytes});
    }
    batch_.push(x);
    batch_open_ = true;
  }
  return batch_open_;
}

void remote_connection::end_batch() {
  batch_open_ = false;
  // Room that is given back may let this very connection go on, and begin the next batch.
  for (auto done = std::exchange(batch_, {}); auto* x = done.pop();)
    recycle(*x);
}

incoming_request& remote_connection::take_request() {
  ++requests_;
  if (!free_) {
    owned_.push_back(std::make_unique<incoming_request>());
    return *owned_.back();
  }
  auto& x = *free_;
  free_ = x.next;
  return x;
}

void remote_connection::recycle(incoming_request& x) {
  --requests_;
  if (!x.data.empty())
    reactor_.buffers().give(std::exchange(x.data, {}));
  const auto cost = std::exchange(x.cost, 0);
  bytes_ -= cost;
  x.next = free_;
  free_ = &x;
  server_.give_bytes(cost); // may let another connection go on
}

} // namespace varve
