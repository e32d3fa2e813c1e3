#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "messages/errors.hpp"
#include "rdma/buffer.hpp"
#include "runtime/reactor/reactor.hpp"

namespace varve {

enum class block_op : uint8_t { read, write, trim, write_zeroes, flush, cache };

/// One request of a VM. It belongs to the front end (NBD, replay), which keeps it alive until `complete`.
struct block_request {
  block_op op = block_op::read;
  bool fua = false;
  /// write_zeroes: keep the blocks allocated (NBD_CMD_FLAG_NO_HOLE).
  bool no_hole = false;
  /// Within the volume; length > 0 except for flush.
  uint64_t offset = 0;
  uint64_t length = 0;
  /// write: the bytes, at least `length`. Not owned.
  std::span<const std::byte> payload;

  /// read: where the bytes are when it is complete with errc::none. Either `data` (owned: give it back to the reactor's
  /// pool) holds them from its start, or `view` shows them in the tier's memory until `release` is called.
  buffer data;
  std::span<const std::byte> view;
  void (*release)(block_request& self) = nullptr;

  errc status = errc::none;
  /// Called once on the reactor's thread, perhaps from within `submit`.
  void (*complete)(block_request& self) = nullptr;

  /// The backend's own.
  void* owner = nullptr;
};

/// A run of a volume in one state, in bytes; for NBD block status.
struct volume_extent {
  uint64_t length = 0;
  /// No space is taken; reads as zeros.
  bool hole = false;
  bool zero = false;
};

/// What a front end serves: one volume on one reactor. Reactor's thread only.
class block_backend {
public:
  virtual ~block_backend() = default;

  virtual uint64_t size_bytes() const noexcept = 0;
  virtual bool read_only() const noexcept = 0;

  /// Starts a request that is within size_bytes(). Requests may complete in any order; flush covers all writes, trims
  /// and zeroes that completed before it was submitted, on whatever connection.
  virtual void submit(block_request& x) = 0;

  /// The extents of a range, in order, at most `extents_max`, at least one; the last may be cut short of the range.
  virtual task<errc> extents(uint64_t offset, uint64_t length, size_t extents_max, std::vector<volume_extent>& out) = 0;
};

/// Which exports there are. Reactor's thread only.
class export_directory {
public:
  virtual ~export_directory() = default;
  /// Null when there is none of that name. The empty name is the default export, if there is one.
  virtual block_backend* find(std::string_view name) = 0;
  virtual std::vector<std::string> names() const = 0;
};

} // namespace varve
