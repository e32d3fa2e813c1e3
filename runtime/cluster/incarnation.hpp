#pragma once

#include <cstdint>
#include <string>

namespace varve {

/// The number of a new life of this node's process in its cluster: higher than any before, and durable in `folder` when
/// this returns. 0 with a `problem` when it cannot be. `wall_seconds` (since 1970, UTC) is its least value, so that a
/// node that comes back with an empty folder is still heard. Blocks; for the process that has locked the folder.
uint64_t begin_incarnation(const std::string& folder, uint64_t wall_seconds, std::string& problem);

} // namespace varve
