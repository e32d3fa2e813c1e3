#include "runtime/nbd/nbd_connection.hpp"

#include <cerrno>
#include <cstring>
#include <new>

#include <sys/socket.h>

// The sending half of a connection.

namespace varve {

void nbd_connection::reply(nbd_request& x, nbd::error status) {
  x.status = status;
  if (status != nbd::error::none)
    ++counters_.errors;
  else if (x.type == nbd::command::read)
    x.reply_bytes = x.length;
  if (broken_)
    return recycle(x);
  replies_bytes_ += x.reply_bytes;
  replies_.push(x);
}

/// Sends what is queued, as far as the socket takes it; the ring sends the rest.
void nbd_connection::flush(bool direct) {
  while (!sending_ && !broken_) {
    if (!batch_open_ && !build_batch())
      return;
    if (direct) {
      msghdr message{};
      message.msg_iov = vectors_.data() + vector_;
      message.msg_iovlen = vectors_.size() - vector_;
      auto n = ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN && errno != EINTR)
        return broken();
      if (n > 0 && advance(static_cast<size_t>(n))) {
        end_batch();
        continue;
      }
    }
    let_go_of_views();
    if (broken_)
      return;
    send_.x.vectors = vectors_.data() + vector_;
    send_.x.vector_count = static_cast<uint32_t>(vectors_.size() - vector_);
    sending_ = true;
    reactor_.ring().submit(send_.x);
  }
}

void nbd_connection::sent(int32_t result) {
  sending_ = false;
  if (broken_)
    end_batch();
  else if (result < 0 && result != -EAGAIN && result != -EINTR)
    broken();
  else if (result > 0 && advance(static_cast<size_t>(result)))
    end_batch();
  pump(false);
}

bool nbd_connection::build_batch() {
  vectors_.clear();
  vector_ = 0;
  if (!said_.empty()) {
    add_vector(said_.data(), said_.size());
    return batch_open_ = true;
  }
  auto* header = headers_.get();
  for (size_t i = 0; i < batch_max && !replies_.empty(); ++i) {
    auto& x = *replies_.pop();
    auto* end = build_header(header, x);
    add_vector(header, static_cast<size_t>(end - header));
    header = end;
    if (x.status == nbd::error::none) {
      if (x.type == nbd::command::read)
        add_vector(x.block.view.empty() ? x.block.data.data() : x.block.view.data(), x.length);
      else if (x.type == nbd::command::block_status)
        add_vector(x.descriptors.data(), x.descriptors.size());
    }
    batch_.push(x);
    batch_open_ = true;
  }
  return batch_open_;
}

/// Once structured replies are agreed, reads and block status must use them; the others need not.
std::byte* nbd_connection::build_header(std::byte* to, const nbd_request& x) const {
  if (!structured_ || (x.type != nbd::command::read && x.type != nbd::command::block_status))
    return nbd::store_simple_reply(to, x.status, x.cookie);
  if (x.status == nbd::error::none && x.type == nbd::command::read) {
    to = nbd::store_structured_reply(to, nbd::reply_flag_done, nbd::reply_type::offset_data, x.cookie, 8 + x.length);
    return nbd::store(to, x.block.offset);
  }
  if (x.status == nbd::error::none)
    return nbd::store_structured_reply(to, nbd::reply_flag_done, nbd::reply_type::block_status, x.cookie,
                                       static_cast<uint32_t>(x.descriptors.size()));
  // A failed device gave nothing at all: the error lies at the request's start.
  const bool at_offset = x.type == nbd::command::read && x.status == nbd::error::io;
  to = nbd::store_structured_reply(to, nbd::reply_flag_done,
                                   at_offset ? nbd::reply_type::error_offset : nbd::reply_type::error, x.cookie,
                                   at_offset ? 14 : 6);
  to = nbd::store(to, static_cast<uint32_t>(x.status));
  to = nbd::store(to, uint16_t{0}); // length of a message
  return at_offset ? nbd::store(to, x.block.offset) : to;
}

void nbd_connection::add_vector(const std::byte* data, size_t size) {
  if (!vectors_.empty() && static_cast<const std::byte*>(vectors_.back().iov_base) + vectors_.back().iov_len == data)
    vectors_.back().iov_len += size;
  else
    vectors_.push_back({const_cast<std::byte*>(data), size});
}

/// Whether the batch is sent.
bool nbd_connection::advance(size_t bytes) {
  while (vector_ < vectors_.size()) {
    auto& x = vectors_[vector_];
    if (bytes < x.iov_len) {
      x.iov_base = static_cast<std::byte*>(x.iov_base) + bytes;
      x.iov_len -= bytes;
      return false;
    }
    bytes -= x.iov_len;
    ++vector_;
  }
  return true;
}

/// Copies what is still to be sent from a tier's memory, and releases that.
void nbd_connection::let_go_of_views() {
  auto release = [](nbd_request& x) {
    x.block.view = {};
    x.block.release(x.block);
  };
  try {
    auto at = vector_; // both are in the order of sending
    for (auto* x = batch_.front(); x; x = x->next) {
      if (x->block.view.empty())
        continue;
      auto* begin = x->block.view.data();
      auto* end = begin + x->block.view.size();
      for (auto i = at; i < vectors_.size(); ++i) {
        auto& vector = vectors_[i];
        auto* base = static_cast<const std::byte*>(vector.iov_base);
        if (base < begin || base >= end)
          continue;
        x->block.data = reactor_.buffers().take(vector.iov_len);
        std::memcpy(x->block.data.data(), base, vector.iov_len);
        vector.iov_base = x->block.data.data();
        at = i + 1;
        break;
      }
      release(*x);
    }
    for (auto* x = replies_.front(); x; x = x->next) {
      if (x->block.view.empty())
        continue;
      x->block.data = reactor_.buffers().take(x->length);
      std::memcpy(x->block.data.data(), x->block.view.data(), x->length);
      release(*x);
    }
  } catch (const std::bad_alloc&) {
    broken();
  }
}

void nbd_connection::end_batch() {
  batch_open_ = false;
  vectors_.clear();
  if (batch_.empty())
    said_.clear();
  while (auto* x = batch_.pop())
    recycle(*x);
}

/// Nothing can be sent any more. What the backend still does is waited for all the same.
void nbd_connection::broken() {
  if (broken_)
    return;
  broken_ = true;
  stop_intake();
  if (sending_)
    cancel(send_); // which still reads from the batch
  else
    end_batch();
  while (auto* x = replies_.pop())
    recycle(*x);
}

nbd_request& nbd_connection::take_request() {
  auto& x = pool_.take();
  x.connection = this;
  x.block.complete = [](block_request& done) {
    auto& mine = reinterpret_cast<nbd_request&>(done);
    mine.connection->completed(mine);
  };
  ++requests_;
  return x;
}

void nbd_connection::recycle(nbd_request& x) {
  bytes_ -= std::exchange(x.cost, 0);
  replies_bytes_ -= std::exchange(x.reply_bytes, 0);
  --requests_;
  auto& pool = reactor_.buffers();
  if (!x.payload.empty())
    pool.give(std::exchange(x.payload, {}));
  if (!x.block.data.empty())
    pool.give(std::exchange(x.block.data, {}));
  if (x.extents.capacity() > 512) {
    x.extents = {};
    x.descriptors = {};
  }
  if (!x.block.view.empty()) {
    x.block.view = {};
    x.block.release(x.block); // may complete another request
  }
  x.block.release = nullptr;
  x.block.status = errc::none;
  pool_.give(x);
}

} // namespace varve
