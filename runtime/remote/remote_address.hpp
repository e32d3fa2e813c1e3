#pragma once

#include <string>

#include "messages/errors.hpp"

namespace varve::remote {

/// "192.0.2.1:7411", "[2001:db8::1]:7411": numeric, since names are looked up by others than reactors. An fd >= 0 or
/// -errno (-EINVAL: no such address).

/// Bound and listening, non-blocking; port 0: any (see local_address).
int listen_tcp(const std::string& address, int backlog = 128);
/// Non-blocking and on its way: the first send or receive says whether it arrived.
int connect_tcp(const std::string& address);

/// The same with a port so much higher; empty when there is no such port.
std::string port_above(const std::string& address, uint16_t by);

/// Of this and the other end, as above; empty when the socket has none.
std::string local_address(int fd);
std::string peer_of(int fd);

} // namespace varve::remote
