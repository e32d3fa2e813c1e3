#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace varve::bench {

/// What one run is to do.
struct lease_load {
  std::string folder;
  std::string etcd;
  uint64_t shards = 100'000;
  uint64_t agents = 1;
  /// Shards (keys) asked for at once; questions under way of one agent.
  uint64_t batch = 1;
  uint64_t depth = 1;
  /// Of those of which the epoch is raised, with everything synced.
  uint64_t breaks = 0;
};

/// Nanoseconds of each request, over all agents.
inline nlohmann::json figures_of(std::vector<uint64_t>& latencies, uint64_t acquired, std::chrono::nanoseconds took) {
  std::sort(latencies.begin(), latencies.end());
  auto at = [&](double share) {
    return latencies.empty()
             ? 0.0
             : static_cast<double>(latencies[std::min(
                 latencies.size() - 1, static_cast<size_t>(share * static_cast<double>(latencies.size())))]) /
                 1e3;
  };
  return {{"acquired", acquired},
          {"seconds", static_cast<double>(took.count()) / 1e9},
          {"per_second", static_cast<double>(acquired) * 1e9 / static_cast<double>(std::max<int64_t>(1, took.count()))},
          {"p50_us", at(0.5)},
          {"p99_us", at(0.99)}};
}

nlohmann::json run_etcd(const lease_load& load);

} // namespace varve::bench
