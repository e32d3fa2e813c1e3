#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace varve {

/// The candidate that a typo most likely meant (fewest insertions, deletions, changes and swaps of neighbours), or
/// empty when none is near enough to be worth a guess.
std::string nearest(std::string_view typed, const std::vector<std::string>& candidates);

} // namespace varve
