#include "tests/chaos/history_check.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "tests/chaos/register_check.hpp"

namespace varve::chaos {

check_result check_history(const history& all) {
  check_result result;
  for (const auto& x : all.garbled)
    result.violations.push_back(
      {x.volume, x.block,
       fmt::format("at {:.6f} s it held what is no stamp of this block", static_cast<double>(x.op.end) / 1e9)});
  std::vector<operation> block;
  for (auto at = all.operations.begin(); at != all.operations.end();) {
    const auto same = [&](auto& x) { return x.volume == at->volume && x.block == at->block; };
    const auto end = std::find_if_not(at, all.operations.end(), same);
    block.clear();
    std::transform(at, end, std::back_inserter(block), [](auto& x) { return x.op; });
    ++result.blocks;
    if (auto wrong = check_register(block))
      result.violations.push_back({at->volume, at->block, wrong->text});
    at = end;
  }
  std::stable_sort(result.violations.begin(), result.violations.end(), [](auto& a, auto& b) {
    return std::pair{a.volume, a.block} < std::pair{b.volume, b.block};
  });
  return result;
}

void find_waits(const std::vector<std::filesystem::path>& paths, std::vector<wait_window>& windows) {
  for_each_operation(paths, [&](const logged_operation& x) {
    for (auto& w : windows) {
      if (x.volume != w.volume || x.over < w.from || x.op.begin > w.to || !w.blocks.contains(x.block))
        continue;
      w.longest = std::max(w.longest, std::min(x.over, w.to) - std::max(x.op.begin, w.from));
      if (x.over > w.to)
        ++w.waiting;
      else
        ++(x.outcome == log_event::done ? w.answered : w.refused);
    }
  });
}

} // namespace varve::chaos
