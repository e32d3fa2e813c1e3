#include "rdma/buffer.hpp"

#include <bit>
#include <cstdlib>
#include <new>
#include <utility>

namespace varve {

buffer::buffer(size_t size) : size_((size + alignment - 1) / alignment * alignment) {
  if (size_ == 0)
    return;
  data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, size_));
  if (!data_)
    throw std::bad_alloc{};
}

buffer::buffer(buffer&& other) noexcept
  : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

buffer& buffer::operator=(buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

buffer::~buffer() {
  std::free(data_);
}

size_t buffer_pool::class_of(size_t size) noexcept {
  return size <= buffer::alignment ? 0 : std::bit_width(size - 1) - 12;
}

buffer buffer_pool::take(size_t size) {
  auto index = class_of(size);
  auto& idle = idle_[index];
  if (idle.empty())
    return buffer{buffer::alignment << index};
  auto result = std::move(idle.back());
  idle.pop_back();
  kept_bytes_ -= result.size();
  return result;
}

void buffer_pool::give(buffer&& used) {
  auto mine = std::move(used);
  // A buffer that is not ours may be of a size between two classes; it would be short for the class it rounds up to.
  if (mine.empty() || !std::has_single_bit(mine.size()) || kept_bytes_ + mine.size() > kept_bytes_max_)
    return;
  kept_bytes_ += mine.size();
  idle_[class_of(mine.size())].push_back(std::move(mine));
}

} // namespace varve
