#pragma once

#include <optional>
#include <span>
#include <string>

#include "tests/chaos/history.hpp"

namespace varve::chaos {

/// Why no order of a block's operations explains them.
struct violation {
  enum class kind : uint8_t {
    /// A read found what nobody has written.
    never_written,
    /// A read had ended before the write of what it found began.
    before_its_write,
    /// The block held one value throughout a time in which it must have held another: a stale read, a lost write, or a
    /// value that came back.
    out_of_order,
    /// Not the block's fault: two writes of the same stamp, a write of `blank`, or an end before its begin.
    no_history,
  };

  kind what = kind::out_of_order;
  /// The value that was found where it must not be, and, of out_of_order, the one that must have been there between.
  stamp value;
  stamp other;
  /// For people: both values, and when they were seen.
  std::string text;
};

/// Whether a block behaved as a register that begins blank: each operation takes effect at one moment between its begin
/// and its end, and a read finds the latest write. A write that was never answered takes effect at any moment after its
/// begin, or not at all; a read that was never answered says nothing.
///
/// Exact, in O(n log n): since every write has a value of its own, a read says which write it saw. Then the operations
/// of one value, its write and its reads, are neighbours in any explaining order, and only two moments of them matter,
/// the first end and the last begin. First end before last begin: the block held the value from the one to the other (a
/// forward zone). Otherwise all of them share the time from the last begin to the first end, and can take effect
/// together at any moment of it (a backward zone). There is an order if and only if no read ends before its write
/// begins, forward zones do not overlap, and no backward zone lies within a forward one: P. B. Gibbons, E. Korach,
/// "Testing Shared Memories", SIAM Journal on Computing 26 (4), 1997, section 4.
std::optional<violation> check_register(std::span<const operation> history);

/// The same by trying all orders (J. M. Wing, C. Gong, "Testing and Verifying Concurrent Objects", 1993, with the
/// memory of visited states of G. Lowe, "Testing for Linearizability", 2017). At most 24 operations: what the other is
/// tested against.
bool some_order_explains(std::span<const operation> history);

} // namespace varve::chaos
