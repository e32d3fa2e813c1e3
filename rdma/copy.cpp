#include "rdma/copy.hpp"

#include <cassert>
#include <cstring>

namespace varve {

void copy_bytes(std::span<std::byte> to, std::span<const std::byte> from) noexcept {
  assert(from.size() <= to.size());
  if (!from.empty())
    std::memcpy(to.data(), from.data(), from.size());
}

} // namespace varve
