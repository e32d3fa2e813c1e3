// CAF 0.17.6 asks SSL_get_error after each call, and that looks at the thread's queue of errors, which CAF does not
// empty before the call as OpenSSL asks for (SSL_get_error(3)): so what one stranger's handshake has left there ends
// the good connections of all others. Nor does it tell anybody whom it has refused. These calls stand before OpenSSL's
// own in the programs that have a link.

#include "runtime/cluster/tls_calls.hpp"

#include <map>
#include <mutex>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

namespace varve {

namespace {

struct watched_ports {
  std::mutex mutex;
  std::map<uint16_t, stranger_sink> sinks;
};

watched_ports& watched() {
  static watched_ports result;
  return result;
}

/// The numeric address, and the port.
std::pair<std::string, uint16_t> address_of(const sockaddr_storage& x) {
  char text[INET6_ADDRSTRLEN] = {};
  if (x.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(x);
    ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    return {text, ntohs(in.sin_port)};
  }
  if (x.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(x);
    ::inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
    return {text, ntohs(in.sin6_port)};
  }
  return {};
}

/// After a handshake that did not end well, or not yet.
void tell_of_stranger(SSL* ssl, int result) {
  const int error = SSL_get_error(ssl, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
    return;
  // Who only knocks and goes, as a node does that looks whether somebody listens here, was not refused.
  const auto* reason = ERR_reason_error_string(ERR_peek_error());
  if (!reason)
    return;
  const int fd = SSL_get_fd(ssl);
  sockaddr_storage own{}, other{};
  socklen_t own_size = sizeof own, other_size = sizeof other;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) != 0 ||
      ::getpeername(fd, reinterpret_cast<sockaddr*>(&other), &other_size) != 0)
    return; // it has gone already, and has no address any more
  auto& all = watched();
  std::lock_guard guard{all.mutex};
  if (auto at = all.sinks.find(address_of(own).second); at != all.sinks.end())
    at->second(address_of(other).first, reason);
}

} // namespace

void watch_strangers(uint16_t port, stranger_sink sink) {
  auto& all = watched();
  std::lock_guard guard{all.mutex};
  if (sink)
    all.sinks[port] = std::move(sink);
  else
    all.sinks.erase(port);
}

} // namespace varve

#define VARVE_WITH_CLEAN_ERRORS(name, parameters, ...)                                                                 \
  extern "C" int name parameters {                                                                                     \
    static const auto real = reinterpret_cast<int(*) parameters>(::dlsym(RTLD_NEXT, #name));                           \
    ERR_clear_error();                                                                                                 \
    return real(__VA_ARGS__);                                                                                          \
  }
VARVE_WITH_CLEAN_ERRORS(SSL_read, (SSL * ssl, void* into, int bytes), ssl, into, bytes)
VARVE_WITH_CLEAN_ERRORS(SSL_write, (SSL * ssl, const void* from, int bytes), ssl, from, bytes)
VARVE_WITH_CLEAN_ERRORS(SSL_connect, (SSL * ssl), ssl)
#undef VARVE_WITH_CLEAN_ERRORS

extern "C" int SSL_accept(SSL* ssl) {
  static const auto real = reinterpret_cast<int (*)(SSL*)>(::dlsym(RTLD_NEXT, "SSL_accept"));
  ERR_clear_error();
  const int result = real(ssl);
  if (result <= 0)
    varve::tell_of_stranger(ssl, result);
  return result;
}
