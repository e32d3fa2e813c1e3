#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace varve {

/// Told of who was refused at a port: its numeric address, and why, for people. Called on CAF's thread of connections;
/// must only pass it on.
using stranger_sink = std::function<void(const std::string& address, const std::string& why)>;

/// Of the handshakes that others begin at this port of this process, from now on those that fail are told; null ends
/// it. CAF tells nobody. Any thread.
void watch_strangers(uint16_t port, stranger_sink sink);

} // namespace varve
