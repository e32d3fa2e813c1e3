#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace varve {

/// Where something listens: a host's name or address, and a TCP port.
struct endpoint {
  std::string host;
  uint16_t port = 0;

  bool operator==(const endpoint&) const = default;
};

/// "HOST:PORT", an IPv6 address in brackets (RFC 3986, section 3.2.2). Nothing when it is none of these; a port of 0 is
/// one.
std::optional<endpoint> parse_endpoint(std::string_view text);

std::string to_string(const endpoint& x);

} // namespace varve
