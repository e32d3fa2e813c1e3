#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace varve {

/// What the monitoring endpoint serves; called on its threads, a few at a time.
struct http_pages {
  /// /metrics: Prometheus' text format.
  std::function<std::string()> metrics;
  /// /readyz: empty when the node serves; else why not.
  std::function<std::string()> not_ready;
  /// /version: JSON.
  std::string version;
};

/// /metrics, /livez, /readyz and /version for people and Prometheus, on loopback only, on threads of its own.
class http_server {
public:
  /// Null with a `problem`. Port 0: any; see port().
  static std::unique_ptr<http_server> start(const std::string& host, uint16_t port, http_pages pages,
                                            std::string& problem);
  virtual ~http_server() = default;
  virtual uint16_t port() const = 0;
};

} // namespace varve
