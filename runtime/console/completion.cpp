#include "runtime/console/completion.hpp"

#include <algorithm>
#include <set>

#include "runtime/console/command_line.hpp"

namespace varve::console {

namespace {

using names = std::set<std::string>;

// One step down the tree, as shells do with folders.
void add_paths(const std::string& typed, vocabulary& from, names& to) {
  const bool within = !typed.starts_with('/');
  const auto prefix = within ? '/' + from.node() + '/' : std::string{};
  const auto wanted = prefix + typed;
  for (const auto& path : from.paths()) {
    if (!path.starts_with(wanted))
      continue;
    const auto slash = path.find('/', std::max<size_t>(wanted.size(), 1));
    to.insert(path.substr(prefix.size(), slash == std::string::npos ? slash : slash + 1 - prefix.size()));
  }
  // One that has children is both: it goes on.
  for (auto at = to.begin(); at != to.end();)
    at = to.contains(*at + '/') ? to.erase(at) : std::next(at);
}

void add_argument(argument_type type, vocabulary& from, names& to) {
  std::vector<std::string> all;
  if (type == argument_type::volume)
    all = from.volumes();
  else if (type == argument_type::tier)
    all = from.tiers();
  else if (type == argument_type::flag)
    all = {"true", "false"};
  to.insert(all.begin(), all.end());
}

void add_words_of_send(const std::vector<std::string>& words, vocabulary& from, names& to) {
  for (const auto& x : from.messages(resolve(from.node(), words[1]))) {
    if (words.size() == 3)
      to.insert(x.name);
    else if (x.name == words[2] && words.size() - 4 < x.arguments.size())
      add_argument(x.arguments[words.size() - 4].type, from, to);
  }
}

} // namespace

std::string completion::common() const {
  if (candidates.empty())
    return {};
  auto text = candidates.front();
  for (const auto& x : candidates) {
    const auto [a, b] = std::mismatch(text.begin(), text.end(), x.begin(), x.end());
    text.erase(a, text.end());
  }
  return text;
}

completion complete(std::string_view line, vocabulary& words) {
  const auto typed = split_unfinished(line);
  const auto& last = typed.words.back();
  const auto& name = typed.words.front();
  names found;
  if (typed.words.size() == 1) {
    for (const auto& x : commands())
      found.insert(x.name);
  } else if (typed.words.size() == 2) {
    if (name == "watch")
      found = {"tree", "migrations", "events"};
    if (name == "help")
      for (const auto& x : commands())
        found.insert(x.name);
    if (name == "tree" || name == "inspect" || name == "watch" || name == "send" || name == "kill" || name == "help") {
      names paths;
      add_paths(last, words, paths);
      found.merge(paths);
    }
  } else if (name == "send") {
    add_words_of_send(typed.words, words, found);
  } else if (name == "watch") {
    found = {"--count"};
  }
  completion result;
  result.from = typed.from;
  for (const auto& x : found)
    if (x.starts_with(last))
      result.candidates.push_back(x);
  return result;
}

} // namespace varve::console
