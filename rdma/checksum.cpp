#include "rdma/checksum.hpp"

#include <algorithm>
#include <limits>

#include <isa-l/crc.h>

namespace varve {

uint32_t crc32c(std::span<const std::byte> data, uint32_t seed) noexcept {
  // ISA-L keeps the raw register; the CRC is its complement, before and after.
  auto state = ~seed;
  while (!data.empty()) {
    // Its length is an int.
    auto part = data.first(std::min<size_t>(data.size(), std::numeric_limits<int>::max()));
    auto* bytes = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(part.data()));
    state = crc32_iscsi(bytes, static_cast<int>(part.size()), state);
    data = data.subspan(part.size());
  }
  return ~state;
}

} // namespace varve
