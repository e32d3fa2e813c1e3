#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace varve::console {

/// Cuts a line into commands at ';' and commands into words at blanks. Quotes ('…', "…") keep both, a backslash keeps
/// what follows it, '#' before a word begins a comment. Nothing, with a `problem` that names the column, when a quote
/// is not closed.
std::optional<std::vector<std::vector<std::string>>> split_commands(std::string_view line, std::string& problem);

/// The words of the last command of an unfinished line; the last of them, maybe empty, is the one being typed, and
/// begins at `from`.
struct unfinished {
  std::vector<std::string> words;
  size_t from = 0;
};
unfinished split_unfinished(std::string_view line);

/// As a word that split_commands reads as exactly this.
std::string quoted(const std::string& word);

enum class verb : uint8_t { tree, inspect, watch, send, kill, help, quit };

struct command_description {
  verb what;
  const char* name;
  const char* usage;
  const char* about;
};
const std::vector<command_description>& commands();

struct command {
  verb what = verb::help;
  /// An actor's path as typed; of watch also "tree", "migrations" or "events"; of help also a command. May be empty.
  std::string path;
  std::string message;
  /// As typed.
  std::vector<std::string> arguments;
  /// watch: how often, and how many times (0: until it is interrupted).
  std::chrono::nanoseconds every{std::chrono::seconds{1}};
  uint64_t count = 0;
};

/// Nothing, with a `problem` that says what was expected, when the words (at least one) are no command.
std::optional<command> parse_command(const std::vector<std::string>& words, std::string& problem);

/// What was typed as a path of that node: one that does not begin with a slash is within it.
std::string resolve(const std::string& node, const std::string& path);

} // namespace varve::console
