#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace varve {

/// Writes metrics in Prometheus' text format, family by family: first the head, then its samples.
class metrics_text {
public:
  using labels = std::vector<std::pair<std::string_view, std::string>>;

  void counter(std::string_view name, std::string_view help) { head(name, help, "counter"); }
  void gauge(std::string_view name, std::string_view help) { head(name, help, "gauge"); }
  void histogram(std::string_view name, std::string_view help) { head(name, help, "histogram"); }

  /// Of the family begun last.
  void sample(double value, const labels& with = {}) { line("", with, value); }
  void sample(uint64_t value, const labels& with = {}) { line("", with, static_cast<double>(value)); }
  /// `counts[i]` of at most `bounds[i]`, not cumulative; one more than bounds: the rest.
  void buckets(std::span<const double> bounds, std::span<const uint64_t> counts, double sum, const labels& with = {});

  const std::string& text() const noexcept { return text_; }

private:
  void head(std::string_view name, std::string_view help, std::string_view type);
  void line(std::string_view suffix, const labels& with, double value);

  std::string name_;
  std::string text_;
};

} // namespace varve
