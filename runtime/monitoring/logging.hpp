#pragma once

#include <string>
#include <string_view>

namespace varve {

/// Sets up the log of the process: one line an event, key=value, with the node's name in each. `file` empty: standard
/// error. What is wrong, or empty.
std::string start_logging(const std::string& level, const std::string& file, const std::string& node);

/// A value of a line: quoted where it must be, so that lines stay lines and words.
std::string log_value(std::string_view x);

} // namespace varve
