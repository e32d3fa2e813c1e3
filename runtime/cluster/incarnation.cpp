#include "runtime/cluster/incarnation.hpp"

#include <algorithm>
#include <charconv>

#include "runtime/storage/durable_file.hpp"

namespace varve {

uint64_t begin_incarnation(const std::string& folder, uint64_t wall_seconds, std::string& problem) {
  const auto file = folder + "/incarnation";
  std::string text;
  uint64_t last = 0;
  if (const auto code = read_whole_file(file, 64, text, problem); code == errc::none) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), last);
    // Guessing could give a number again that others have heard.
    if (error != std::errc{} || std::string_view{end, static_cast<size_t>(text.data() + text.size() - end)} != "\n" ||
        last == UINT64_MAX) {
      problem = file + ": it holds no number; expected the last incarnation of this node, in decimal and a line end";
      return 0;
    }
  } else if (code != errc::not_found) {
    return 0;
  }
  problem.clear();
  const auto next = std::max(last + 1, wall_seconds);
  return write_file_durably(file, std::to_string(next) + '\n', problem) ? next : 0;
}

} // namespace varve
