#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "tests/chaos/history.hpp"

namespace varve::chaos {

inline constexpr size_t block_bytes = 4096;

/// A block of which every byte follows from its stamp and its place: half of one and half of another is neither.
void fill_block(std::span<std::byte, block_bytes> to, uint64_t volume, uint64_t block, const stamp& value);

/// The stamp that fills the whole block, `blank` where all is zero; nullopt for what no client has written here: torn,
/// damaged, or another block's.
std::optional<stamp> read_block(std::span<const std::byte, block_bytes> from, uint64_t volume, uint64_t block);

} // namespace varve::chaos
