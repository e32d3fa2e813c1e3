#include "runtime/console/command_line.hpp"

#include <charconv>

#include "runtime/config/nearest.hpp"
#include "runtime/config/units.hpp"

namespace varve::console {

namespace {

using namespace std::chrono_literals;

constexpr std::chrono::nanoseconds every_min = 100ms, every_max = 1h;

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/// Reads a line letter by letter; what is open at its end tells whether it is finished.
class splitter {
public:
  explicit splitter(std::string_view line) : line_(line) {}

  void run() {
    for (at_ = 0; at_ < line_.size(); ++at_)
      take(line_[at_]);
  }

  /// The commands; each has at least one word.
  std::vector<std::vector<std::string>> commands;
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  /// Where the present word began, and the quote that is open, if one is.
  size_t word_from = 0, quote_from = 0;
  char quote = 0;
  bool escaped = false, comment = false;

  void end_word() {
    if (in_word)
      words.push_back(std::move(word));
    word.clear();
    in_word = false;
  }
  void end_command() {
    end_word();
    if (!words.empty())
      commands.push_back(std::move(words));
    words.clear();
  }

private:
  void take(char c) {
    if (comment)
      return;
    if (escaped) {
      word += c;
      escaped = false;
    } else if (quote != 0) {
      if (c == quote)
        quote = 0;
      else if (c == '\\' && quote == '"')
        escaped = true;
      else
        word += c;
    } else if (is_blank(c)) {
      end_word();
    } else if (c == ';') {
      end_command();
    } else if (c == '#' && !in_word) {
      comment = true;
    } else {
      begin_word();
      if (c == '\'' || c == '"') {
        quote = c;
        quote_from = at_;
      } else if (c == '\\') {
        escaped = true;
      } else {
        word += c;
      }
    }
  }
  void begin_word() {
    if (!in_word)
      word_from = at_;
    in_word = true;
  }

  std::string_view line_;
  size_t at_ = 0;
};

std::optional<uint64_t> whole_number(const std::string& text) {
  uint64_t x = 0;
  const auto* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, x);
  return error == std::errc{} && at == end && !text.empty() ? std::optional{x} : std::nullopt;
}

const command_description* find_command(const std::string& name) {
  for (const auto& x : commands())
    if (name == x.name)
      return &x;
  return name == "exit" ? &commands().back() : nullptr;
}

bool parse_watch(std::vector<std::string> words, command& x, std::string& problem) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] != "--count" && !words[i].starts_with("--count="))
      continue;
    const bool joined = words[i] != "--count";
    const auto text = joined ? words[i].substr(8) : i + 1 < words.size() ? words[i + 1] : std::string{};
    const auto number = whole_number(text);
    if (!number || *number == 0) {
      problem = "--count takes a whole number from 1 on, not \"" + text + "\"";
      return false;
    }
    x.count = *number;
    words.erase(words.begin() + static_cast<ptrdiff_t>(i),
                words.begin() + static_cast<ptrdiff_t>(i + (joined ? 1 : 2)));
    --i;
  }
  if (words.empty() || words.size() > 2)
    return false;
  x.path = words[0];
  if (words.size() == 1)
    return true;
  const auto every = parse_duration(words[1], problem);
  if (!every)
    return false;
  if (*every < every_min || *every > every_max) {
    problem = "EVERY is " + words[1] + "; expected 100ms to 1h";
    return false;
  }
  x.every = *every;
  return true;
}

} // namespace

const std::vector<command_description>& commands() {
  static const std::vector<command_description> all{
    {verb::tree, "tree", "tree [PATH]", "Draw the actors, of all nodes or from a path on"},
    {verb::inspect, "inspect", "inspect PATH", "Ask an actor how it is"},
    {verb::watch, "watch", "watch PATH|tree|migrations|events [EVERY] [--count N]",
     "Show it again and again (each second), until Ctrl-C or N times"},
    {verb::send, "send", "send PATH MESSAGE [ARGUMENT]...", "Send an actor a message; help PATH lists them"},
    {verb::kill, "kill", "kill PATH", "End an actor as a crash would; its supervisor starts it again"},
    {verb::help, "help", "help [COMMAND|PATH]", "Say what can be typed, or what an actor can be sent"},
    {verb::quit, "quit", "quit", "End the console"},
  };
  return all;
}

std::optional<std::vector<std::vector<std::string>>> split_commands(std::string_view line, std::string& problem) {
  splitter x{line};
  x.run();
  if (x.quote != 0) {
    problem = "the quote at column " + std::to_string(x.quote_from + 1) + " is not closed";
    return std::nullopt;
  }
  if (x.escaped) {
    problem = "nothing follows the backslash at column " + std::to_string(line.size());
    return std::nullopt;
  }
  x.end_command();
  return std::move(x.commands);
}

unfinished split_unfinished(std::string_view line) {
  splitter x{line};
  x.run();
  unfinished result;
  result.from = x.in_word ? x.word_from : line.size();
  const bool typing = x.in_word;
  x.end_word();
  result.words = std::move(x.words);
  if (!typing || x.comment)
    result.words.emplace_back();
  return result;
}

std::string quoted(const std::string& word) {
  if (!word.empty() && word.find_first_of(" \t\r\n;#'\"\\") == std::string::npos)
    return word;
  std::string text = "\"";
  for (char c : word) {
    if (c == '"' || c == '\\')
      text += '\\';
    text += c;
  }
  return text + '"';
}

std::optional<command> parse_command(const std::vector<std::string>& words, std::string& problem) {
  const auto* found = find_command(words[0]);
  if (!found) {
    std::vector<std::string> names;
    for (const auto& x : commands())
      names.emplace_back(x.name);
    const auto near = nearest(words[0], names);
    problem = "no command \"" + words[0] + "\"";
    problem += near.empty() ? "; try: help" : "; did you mean \"" + near + "\"?";
    return std::nullopt;
  }
  command x;
  x.what = found->what;
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  bool fits = false;
  switch (x.what) {
  case verb::tree:
  case verb::help:
    fits = rest.size() <= 1;
    x.path = rest.empty() ? "" : rest[0];
    break;
  case verb::inspect:
  case verb::kill:
    fits = rest.size() == 1;
    x.path = fits ? rest[0] : "";
    break;
  case verb::watch: fits = parse_watch(rest, x, problem); break;
  case verb::send:
    fits = rest.size() >= 2;
    if (fits) {
      x.path = rest[0];
      x.message = rest[1];
      x.arguments.assign(rest.begin() + 2, rest.end());
    }
    break;
  case verb::quit: fits = rest.empty(); break;
  }
  if (fits)
    return x;
  if (problem.empty())
    problem = std::string{"expected: "} + found->usage;
  return std::nullopt;
}

std::string resolve(const std::string& node, const std::string& path) {
  if (path.starts_with('/'))
    return path;
  return '/' + node + '/' + path;
}

} // namespace varve::console
