#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace varve {

/// Page-aligned memory, so that it can be read and written with O_DIRECT and registered with a fabric as it stands.
/// Empty when default-constructed or moved from.
class buffer {
public:
  static constexpr size_t alignment = 4096;

  buffer() noexcept = default;
  explicit buffer(size_t size);
  buffer(buffer&& other) noexcept;
  buffer& operator=(buffer&& other) noexcept;
  ~buffer();

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  std::span<std::byte> bytes() noexcept { return {data_, size_}; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Recycles buffers of power-of-two sizes from 4 KiB. Belongs to one reactor thread; not thread-safe.
class buffer_pool {
public:
  /// Keeps at most `kept_bytes_max` of idle buffers; what comes back beyond that is freed.
  explicit buffer_pool(size_t kept_bytes_max = 64u << 20) : kept_bytes_max_(kept_bytes_max) {}

  /// A buffer of at least `size` bytes (rounded up to a power of two, at least 4 KiB). Contents are indeterminate.
  buffer take(size_t size);
  void give(buffer&& used);
  size_t kept_bytes() const noexcept { return kept_bytes_; }

private:
  static size_t class_of(size_t size) noexcept;

  size_t kept_bytes_max_;
  size_t kept_bytes_ = 0;
  std::vector<buffer> idle_[28]; // by log2(size) - 12
};

} // namespace varve
