#pragma once

#include <memory>
#include <vector>

#include "runtime/nbd/block_backend.hpp"
#include "runtime/nbd/nbd_protocol.hpp"

namespace varve {

class nbd_connection;

/// One request from its header's arrival until its reply has left. Recycled; owned by its connection's pool.
struct nbd_request {
  block_request block; // first, so that the address of the one is the address of the other
  nbd_connection* connection = nullptr;
  nbd_request* next = nullptr;
  nbd::command type = nbd::command::read;
  nbd::error status = nbd::error::none;
  bool one_extent = false;
  uint32_t length = 0;
  uint64_t cookie = 0;
  /// What it counts for against bytes_in_flight_max.
  size_t cost = 0;
  /// Of its reply's payload, while it is queued or being sent.
  size_t reply_bytes = 0;
  /// write: what block.payload shows.
  buffer payload;
  /// A large write goes to the backend in pieces, each a request of its own. Of a piece: the write that it belongs to.
  nbd_request* whole = nullptr;
  /// Of a large write: how many pieces are not complete, counting one more until all have been submitted.
  uint32_t pieces = 0;
  /// block_status: what the backend says, then what is sent.
  std::vector<volume_extent> extents;
  std::vector<std::byte> descriptors;
};

/// First in, first out, linked through the requests.
class nbd_request_list {
public:
  bool empty() const noexcept { return first_ == nullptr; }
  nbd_request* front() const noexcept { return first_; }

  void push(nbd_request& x) noexcept {
    x.next = nullptr;
    (first_ ? last_->next : first_) = &x;
    last_ = &x;
  }

  nbd_request* pop() noexcept {
    auto* x = first_;
    if (x)
      first_ = x->next;
    return x;
  }

private:
  nbd_request* first_ = nullptr;
  nbd_request* last_ = nullptr;
};

/// Request objects of one connection: as many as were ever in flight together.
class nbd_request_pool {
public:
  nbd_request& take() {
    if (!free_) {
      auto& made = owned_.emplace_back(std::make_unique<nbd_request>());
      made->next = free_;
      free_ = made.get();
    }
    auto& x = *free_;
    free_ = x.next;
    return x;
  }

  void give(nbd_request& x) noexcept {
    x.next = free_;
    free_ = &x;
  }

private:
  std::vector<std::unique_ptr<nbd_request>> owned_;
  nbd_request* free_ = nullptr;
};

} // namespace varve
