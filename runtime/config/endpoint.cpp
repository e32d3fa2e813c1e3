#include "runtime/config/endpoint.hpp"

#include <charconv>

namespace varve {

std::optional<endpoint> parse_endpoint(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos)
    return std::nullopt;
  auto host = text.substr(0, colon);
  const auto digits = text.substr(colon + 1);
  endpoint x;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), x.port);
  if (error != std::errc{} || end != digits.data() + digits.size())
    return std::nullopt;
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed)
    host = host.substr(1, host.size() - 2);
  const auto allowed = bracketed ? ":%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
                                 : "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
  if (host.empty() || host.find_first_not_of(allowed) != std::string_view::npos)
    return std::nullopt;
  x.host = host;
  return x;
}

std::string to_string(const endpoint& x) {
  const auto port = std::to_string(x.port);
  return x.host.find(':') == std::string::npos ? x.host + ':' + port : '[' + x.host + "]:" + port;
}

} // namespace varve
