#include "runtime/remote/host_names.hpp"

#include <chrono>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

namespace varve {

namespace {

/// A host may get another address.
constexpr std::chrono::seconds look_again_after{30};

/// Between "[" and "]" where it has colons of its own.
std::string host_of(const std::string& address) {
  auto host = address.substr(0, address.rfind(':'));
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  return host;
}

bool numeric(const std::string& host) {
  std::byte x[16];
  return ::inet_pton(AF_INET, host.c_str(), x) == 1 || ::inet_pton(AF_INET6, host.c_str(), x) == 1;
}

} // namespace

struct host_names::state {
  struct entry {
    std::string address;
    std::chrono::steady_clock::time_point at{};
    bool under_way = false;
  };
  std::mutex mutex;
  std::map<std::string, entry> known; // guarded by mutex
};

host_names::host_names() : state_(std::make_shared<state>()) {}

std::string host_names::look_up(const std::string& address, std::string& problem) {
  const auto colon = address.rfind(':');
  const auto host = host_of(address);
  if (colon == std::string::npos || host.empty()) {
    problem = '"' + address + "\" is not HOST:PORT";
    return {};
  }
  if (numeric(host))
    return address;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const auto error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    problem = host + ": " + ::gai_strerror(error);
    return {};
  }
  char text[NI_MAXHOST];
  const auto error =
    ::getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST | NI_NUMERICSERV);
  const auto six = found->ai_family == AF_INET6;
  ::freeaddrinfo(found);
  if (error != 0) {
    problem = host + ": " + ::gai_strerror(error);
    return {};
  }
  return (six ? '[' + std::string{text} + ']' : std::string{text}) + address.substr(colon);
}

std::string host_names::find(const std::string& address) {
  if (numeric(host_of(address)))
    return address;
  std::lock_guard guard{state_->mutex};
  auto& x = state_->known[address];
  const auto now = std::chrono::steady_clock::now();
  if (x.under_way || (!x.address.empty() && now - x.at < look_again_after))
    return x.address;
  x.under_way = true;
  auto look = [of = state_, address] {
    std::string problem;
    auto result = look_up(address, problem);
    std::lock_guard guard{of->mutex};
    auto& x = of->known[address];
    x.under_way = false;
    x.at = std::chrono::steady_clock::now();
    if (!result.empty())
      x.address = std::move(result);
  };
  try {
    std::thread{look}.detach();
  } catch (const std::system_error&) {
    x.under_way = false; // no more threads now: the next try
  }
  return x.address;
}

} // namespace varve
