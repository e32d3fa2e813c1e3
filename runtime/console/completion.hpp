#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "messages/console.hpp"

namespace varve::console {

/// What there is to complete with; asked only when it is needed. What cannot be had is empty.
class vocabulary {
public:
  virtual ~vocabulary() = default;
  /// The node that paths without a slash are within.
  virtual std::string node() = 0;
  virtual std::vector<std::string> paths() = 0;
  virtual std::vector<actor_message> messages(const std::string& path) = 0;
  virtual std::vector<std::string> volumes() = 0;
  virtual std::vector<std::string> tiers() = 0;
};

/// What the word that is being typed may become. Replaces the line from `from` on.
struct completion {
  size_t from = 0;
  /// Sorted. One that ends with a slash goes on.
  std::vector<std::string> candidates;

  /// What they have in common.
  std::string common() const;
};

completion complete(std::string_view line, vocabulary& words);

} // namespace varve::console
