#include "runtime/config/nearest.hpp"

#include <algorithm>

namespace varve {

namespace {

// Optimal string alignment: Levenshtein's distance with swaps of neighbours.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

} // namespace

std::string nearest(std::string_view typed, const std::vector<std::string>& candidates) {
  // The table is quadratic, and nobody means a word of this length.
  if (typed.size() > 64)
    return {};
  std::string best;
  size_t best_distance = 0;
  for (const auto& x : candidates) {
    const auto d = x.starts_with(typed) && typed.size() >= 2 ? 1 : distance(typed, x);
    if (d <= std::max<size_t>(1, std::min<size_t>(3, std::max(typed.size(), x.size()) / 2)) &&
        (best.empty() || d < best_distance)) {
      best = x;
      best_distance = d;
    }
  }
  return best;
}

} // namespace varve
