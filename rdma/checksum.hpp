#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace varve {

/// CRC32C (Castagnoli; RFC 3720 appendix B.4) of `data`, as iSCSI computes it. `seed` is the CRC of what came
/// before, so that crc32c(b, crc32c(a)) is the CRC of a followed by b. Any thread.
uint32_t crc32c(std::span<const std::byte> data, uint32_t seed = 0) noexcept;

} // namespace varve
