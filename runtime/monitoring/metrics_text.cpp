#include "runtime/monitoring/metrics_text.hpp"

#include <fmt/format.h>

namespace varve {

namespace {

std::string escaped(std::string_view x) {
  std::string result;
  for (const char c : x) {
    if (c == '\\' || c == '"')
      result += '\\';
    if (c == '\n')
      result += "\\n";
    else
      result += c;
  }
  return result;
}

} // namespace

void metrics_text::buckets(std::span<const double> bounds, std::span<const uint64_t> counts, double sum,
                           const labels& with) {
  uint64_t total = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    total += counts[i];
    auto all = with;
    all.emplace_back("le", i < bounds.size() ? fmt::format("{}", bounds[i]) : "+Inf");
    line("_bucket", all, static_cast<double>(total));
  }
  line("_sum", with, sum);
  line("_count", with, static_cast<double>(total));
}

void metrics_text::head(std::string_view name, std::string_view help, std::string_view type) {
  name_ = name;
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void metrics_text::line(std::string_view suffix, const labels& with, double value) {
  text_ += name_;
  text_ += suffix;
  for (size_t i = 0; i < with.size(); ++i)
    text_ += fmt::format("{}{}=\"{}\"", i ? "," : "{", with[i].first, escaped(with[i].second));
  text_ += with.empty() ? " " : "} ";
  text_ += fmt::format("{}\n", value);
}

} // namespace varve
