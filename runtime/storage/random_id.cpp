#include "runtime/storage/random_id.hpp"

#include <fmt/format.h>
#include <sys/random.h>

namespace varve {

std::string make_random_id() {
  unsigned char bytes[random_id_letters / 2];
  if (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    return {};
  std::string result;
  for (const auto x : bytes)
    result += fmt::format("{:02x}", x);
  return result;
}

} // namespace varve
