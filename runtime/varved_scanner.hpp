#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "actors/node_context.hpp"

namespace varve {

/// Lists file tiers' folders, off the actors' threads: one scan after the other, on a thread of its own.
class tier_scanner {
public:
  /// By tier: its folder.
  explicit tier_scanner(std::map<std::string, std::string> folders);
  /// Carries out what was asked.
  ~tier_scanner();
  tier_scanner(const tier_scanner&) = delete;
  tier_scanner& operator=(const tier_scanner&) = delete;

  /// Any thread; `done` is called on the scanner's. A tier that has no folder has no files.
  void scan(const std::string& tier, std::function<void(tier_scan)> done);

private:
  void run();

  const std::map<std::string, std::string> folders_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<std::string, std::function<void(tier_scan)>>> jobs_;
  bool stopping_ = false;
  std::thread thread_; // last: runs on all of the above
};

} // namespace varve
