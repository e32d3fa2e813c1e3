#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <system_error>

#include "rdma/buffer.hpp"

namespace varve {

/// Memory that a fabric may write into, and its registration with that fabric. It owns both and outlives every
/// transfer that names it. Dies before the fabric.
class registered_buffer {
public:
  /// What the fabric keeps for it; ends the registration when it dies.
  class registration {
  public:
    virtual ~registration() = default;
  };

  registered_buffer() noexcept = default;
  registered_buffer(buffer memory, std::unique_ptr<registration> held) noexcept
    : memory_(std::move(memory)), held_(std::move(held)) {}
  // A defaulted move assignment would free the old memory, or swap it out, before the old registration has ended.
  registered_buffer(registered_buffer&&) noexcept = default;
  registered_buffer& operator=(registered_buffer&& other) noexcept {
    held_.swap(other.held_);
    std::swap(memory_, other.memory_);
    return *this;
  }

  std::span<std::byte> bytes() noexcept { return memory_.bytes(); }
  std::span<const std::byte> bytes() const noexcept { return memory_.bytes(); }
  bool empty() const noexcept { return memory_.empty(); }

private:
  buffer memory_;
  std::unique_ptr<registration> held_; // below the memory: ends first
};

/// One transfer. It belongs to whoever starts it and neither moves nor dies until `complete` has been called; nor do
/// its two ends.
struct fabric_transfer {
  std::span<const std::byte> from;
  registered_buffer* into = nullptr;
  /// Where in `into`, in bytes; the whole of `from` fits there.
  size_t into_offset = 0;

  /// Called once on the thread that drives the fabric, perhaps from within `fabric::transfer`. With a status, any
  /// part of the bytes may have arrived. Without one they all did, but only checksums say whether as they were sent.
  void (*complete)(fabric_transfer& self) = nullptr;
  std::error_code status;
};

/// What carries bytes into registered memory: RDMA, TCP, or a copy within the process. One thread.
class fabric {
public:
  virtual ~fabric() = default;

  /// Makes `size` bytes that may be transferred into; empty when the system refuses (limit on locked memory).
  virtual registered_buffer make_buffer(size_t size) = 0;

  /// Starts a transfer. Transfers may end in any order.
  virtual void transfer(fabric_transfer& x) = 0;

  /// "local", "tcp", "verbs".
  virtual const char* name() const noexcept = 0;
};

} // namespace varve
