#pragma once

#include "messages/migration.hpp"

namespace varve {

/// The highest term under which moves were commanded here. Outlives the mover that uses it.
class move_book {
public:
  /// Whether nobody later has asked before.
  bool admits(mover_term x) {
    if (x < highest_)
      return false;
    highest_ = x;
    return true;
  }
  mover_term highest() const noexcept { return highest_; }

private:
  mover_term highest_;
};

} // namespace varve
