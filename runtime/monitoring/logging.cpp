#include "runtime/monitoring/logging.hpp"

#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace varve {

std::string start_logging(const std::string& level, const std::string& file, const std::string& node) {
  try {
    auto logger = file.empty() ? spdlog::stderr_logger_mt("varve") : spdlog::basic_logger_mt("varve", file);
    logger->set_pattern("time=%Y-%m-%dT%H:%M:%S.%f%z level=%l node=" + node + " %v");
    logger->set_level(spdlog::level::from_str(level));
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(std::move(logger));
    return {};
  } catch (const spdlog::spdlog_ex& e) {
    return e.what();
  }
}

std::string log_value(std::string_view x) {
  if (!x.empty() && x.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:+@,") ==
                      std::string_view::npos)
    return std::string{x};
  std::string result = "\"";
  for (const char c : x) {
    if (c == '"' || c == '\\')
      result += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      result += fmt::format("\\x{:02x}", static_cast<int>(c));
    else
      result += c;
  }
  return result + '"';
}

} // namespace varve
