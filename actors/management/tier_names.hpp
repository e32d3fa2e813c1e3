#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace varve {

/// Numbers for the names of tiers, in the order in which they came: so that of a million rows none holds a name. A
/// cluster may have thousands of tiers, and each row that is made looks one up.
class tier_names {
public:
  /// Gives the name a number, unless it has one.
  uint32_t number(const std::string& name) {
    const auto at = place(name);
    if (at != sorted_.end() && names_[*at] == name)
      return *at;
    const auto result = static_cast<uint32_t>(names_.size());
    names_.push_back(name);
    sorted_.insert(at, result);
    return result;
  }
  /// None: it has no number.
  std::optional<uint32_t> find(const std::string& name) const {
    const auto at = const_cast<tier_names*>(this)->place(name);
    return at != sorted_.end() && names_[*at] == name ? std::optional{*at} : std::nullopt;
  }
  const std::string& operator[](uint32_t number) const { return names_[number]; }
  /// By number.
  const std::vector<std::string>& all() const noexcept { return names_; }
  size_t size() const noexcept { return names_.size(); }

private:
  std::vector<uint32_t>::iterator place(const std::string& name) {
    return std::lower_bound(sorted_.begin(), sorted_.end(), name,
                            [this](uint32_t x, const std::string& y) { return names_[x] < y; });
  }

  std::vector<std::string> names_;
  /// Numbers in the order of their names.
  std::vector<uint32_t> sorted_;
};

} // namespace varve
