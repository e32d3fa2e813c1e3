#pragma once

#include <chrono>
#include <map>
#include <string>

namespace varve {

/// Which lines for people are to be said: the same one again not before a minute has passed, so that whoever comes back
/// a thousand times fills no log. Bounded when somebody makes up reasons: what is beyond is not said. One thread.
class seldom {
public:
  static constexpr std::chrono::nanoseconds again_after = std::chrono::minutes{1};
  static constexpr size_t remembered_max = 1024;

  /// `now` by any clock that only goes on.
  bool say(const std::string& line, std::chrono::nanoseconds now) {
    if (auto at = said_.find(line); at != said_.end()) {
      if (now - at->second < again_after)
        return false;
      at->second = now;
      return true;
    }
    if (said_.size() >= remembered_max)
      std::erase_if(said_, [&](const auto& x) { return now - x.second >= again_after; });
    return said_.size() < remembered_max && said_.emplace(line, now).second;
  }

private:
  std::map<std::string, std::chrono::nanoseconds> said_;
};

} // namespace varve
