#include "runtime/remote/remote_address.hpp"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace varve::remote {

namespace {

/// Beyond the system's limit where we may; where not, as much as there is.
constexpr int buffer_bytes = 4 << 20;

using addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

addresses resolve(const std::string& address, bool passive) {
  addresses none{nullptr, &freeaddrinfo};
  const auto colon = address.rfind(':');
  if (colon == std::string::npos)
    return none;
  auto host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  if (host.empty() || ::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0)
    return none;
  return {found, &freeaddrinfo};
}

void tune(int fd) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  for (auto [forced, plain] : {std::pair{SO_SNDBUFFORCE, SO_SNDBUF}, std::pair{SO_RCVBUFFORCE, SO_RCVBUF}})
    if (::setsockopt(fd, SOL_SOCKET, forced, &buffer_bytes, sizeof(buffer_bytes)) != 0)
      ::setsockopt(fd, SOL_SOCKET, plain, &buffer_bytes, sizeof(buffer_bytes));
}

std::string shown(const sockaddr_storage& x, socklen_t size) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&x), size, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return {};
  return x.ss_family == AF_INET6 ? std::string{"["} + host + "]:" + port : std::string{host} + ":" + port;
}

} // namespace

int listen_tcp(const std::string& address, int backlog) {
  auto at = resolve(address, true);
  if (!at)
    return -EINVAL;
  const auto fd = ::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  const int one = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  tune(fd); // accepted ones inherit it
  if (::bind(fd, at->ai_addr, at->ai_addrlen) != 0 || ::listen(fd, backlog) != 0) {
    const auto error = errno;
    ::close(fd);
    return -error;
  }
  return fd;
}

int connect_tcp(const std::string& address) {
  auto at = resolve(address, false);
  if (!at)
    return -EINVAL;
  const auto fd = ::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  tune(fd);
  if (::connect(fd, at->ai_addr, at->ai_addrlen) != 0 && errno != EINPROGRESS) {
    const auto error = errno;
    ::close(fd);
    return -error;
  }
  return fd;
}

std::string port_above(const std::string& address, uint16_t by) {
  const auto colon = address.rfind(':');
  if (colon == std::string::npos)
    return {};
  unsigned port = 0;
  const auto* end = address.data() + address.size();
  const auto [rest, error] = std::from_chars(address.data() + colon + 1, end, port);
  if (error != std::errc{} || rest != end || port + by > 65535)
    return {};
  return address.substr(0, colon + 1) + std::to_string(port + by);
}

std::string local_address(int fd) {
  sockaddr_storage x{};
  socklen_t size = sizeof(x);
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&x), &size) == 0 ? shown(x, size) : std::string{};
}

std::string peer_of(int fd) {
  sockaddr_storage x{};
  socklen_t size = sizeof(x);
  return ::getpeername(fd, reinterpret_cast<sockaddr*>(&x), &size) == 0 ? shown(x, size)
                                                                        : "descriptor:" + std::to_string(fd);
}

} // namespace varve::remote
