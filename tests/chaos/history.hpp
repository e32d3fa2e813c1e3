#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <string>

namespace varve::chaos {

/// What a client writes into a block: no two writes of a history have the same one. All zero, `blank`: what a block
/// holds that was never written.
struct stamp {
  /// Which client.
  uint32_t writer = 0;
  /// Of that client's connections: rises with each.
  uint32_t epoch = 0;
  /// Of that client's writes, from 1.
  uint64_t sequence = 0;

  auto operator<=>(const stamp&) const = default;
};

inline constexpr stamp blank{};

/// "writer 2, epoch 1, sequence 77"; "nothing" for blank.
std::string describe(const stamp& x);

/// The end of what was never answered: the connection was lost, or the answer was an error.
inline constexpr int64_t never = std::numeric_limits<int64_t>::max();

/// One operation on one block, as its client saw it. Times in ns of one clock for all clients of the history.
struct operation {
  enum class kind : uint8_t { write, read };

  kind what = kind::write;
  /// Written, or found.
  stamp value;
  int64_t begin = 0;
  int64_t end = never;
};

} // namespace varve::chaos
