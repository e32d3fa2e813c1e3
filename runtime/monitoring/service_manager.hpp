#pragma once

#include <chrono>
#include <string_view>

namespace varve {

/// Tells systemd, when it listens: lines such as "READY=1", "STATUS=...", "WATCHDOG=1".
void notify_service_manager(std::string_view state);

/// Whether anybody listens.
bool has_service_manager();

/// Within which systemd wants to hear "WATCHDOG=1" again and again; 0: it does not.
std::chrono::microseconds watchdog_time();

} // namespace varve
