#include "runtime/monitoring/service_manager.hpp"

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace varve {

namespace {

// A variable of the environment that is a number, and nothing else.
std::optional<uint64_t> number(const char* name) {
  const char* text = std::getenv(name);
  if (!text)
    return std::nullopt;
  uint64_t result = 0;
  auto [end, problem] = std::from_chars(text, text + std::strlen(text), result);
  if (problem != std::errc{} || *end != '\0')
    return std::nullopt;
  return result;
}

} // namespace

void notify_service_manager(std::string_view state) {
  if (!has_service_manager())
    return;
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof to.sun_path)
    return;
  std::memcpy(to.sun_path, path, std::strlen(path));
  // "@name" is the abstract name space.
  if (*path == '@')
    to.sun_path[0] = '\0';
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  // Who does not listen does not want to know.
  (void)!::sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to), size);
  ::close(fd);
}

bool has_service_manager() {
  const char* path = std::getenv("NOTIFY_SOCKET");
  return path && *path;
}

std::chrono::microseconds watchdog_time() {
  const auto time = number("WATCHDOG_USEC");
  const auto process = number("WATCHDOG_PID");
  // What a parent was told is not for us.
  if (!time || (std::getenv("WATCHDOG_PID") && process != static_cast<uint64_t>(::getpid())))
    return std::chrono::microseconds{0};
  return std::chrono::microseconds{*time};
}

} // namespace varve
