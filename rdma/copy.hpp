#pragma once

#include <cstddef>
#include <span>

namespace varve {

/// Copies all of `from` to the start of `to`, which is as long at least and does not overlap. Out of line, since GCC
/// turns a copy of a known few KiB into `rep movs`, which takes half as long again as the C library's. Any thread.
void copy_bytes(std::span<std::byte> to, std::span<const std::byte> from) noexcept;

} // namespace varve
