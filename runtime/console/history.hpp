#pragma once

#include <string>
#include <vector>

namespace varve::console {

/// $XDG_STATE_HOME/varve/history, or ~/.local/state/varve/history; empty when there is neither.
std::string default_history_path();

/// Lines that were typed before, in a file that only its owner may read (0600, in a folder of 0700). Each line is
/// added when it is typed: consoles may share the file, and none is lost when one is killed. Without a file nothing is
/// kept and nothing fails.
class history {
public:
  static constexpr size_t lines_max = 1000;

  /// An empty path: none.
  explicit history(std::string path);

  /// The latest, oldest first. Cuts a file that has grown to more than twice as many.
  std::vector<std::string> load();
  /// Nothing for an empty line, for one with a line break and for the line before.
  void add(const std::string& line);
  /// Why nothing is kept; empty when it is.
  const std::string& problem() const { return problem_; }

private:
  std::string path_;
  std::string problem_;
  std::string last_;
};

} // namespace varve::console
