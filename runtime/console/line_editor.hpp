#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/console/completion.hpp"

namespace varve::console {

/// Reads lines from the terminal with libedit: keys as people know them (and ~/.editrc), the lines before by the arrows
/// and by Ctrl-R, completion by Tab. One at a time in a process.
class line_editor {
public:
  /// What the line up to the cursor may become.
  using completer = std::function<completion(std::string_view line)>;

  line_editor(std::string prompt, completer complete);
  ~line_editor();
  line_editor(const line_editor&) = delete;
  line_editor& operator=(const line_editor&) = delete;

  enum class outcome : uint8_t { line, interrupted, end };
  /// One line, without its end. Interrupted: by a signal, whose handler has run; what was typed is dropped.
  outcome read(std::string& line);
  /// For the arrows.
  void remember(const std::string& line);

private:
  struct parts;
  std::unique_ptr<parts> parts_;
};

} // namespace varve::console
