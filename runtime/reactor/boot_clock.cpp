#include "runtime/reactor/operation_list.hpp"

#include <ctime>

namespace varve::detail {

boot_time read_boot_clock() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

} // namespace varve::detail
