#pragma once

#include <string>

#include "messages/types.hpp"

namespace varve {

/// As people are told of a shard: VOLUME.INDEX.
inline std::string name_of(shard_id x) {
  return std::to_string(x.volume.value()) + "." + std::to_string(x.index.value());
}

} // namespace varve
