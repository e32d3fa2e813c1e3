#include "runtime/console/arguments.hpp"

#include <charconv>
#include <optional>

#include "messages/errors.hpp"
#include "runtime/config/units.hpp"

namespace varve::console {

namespace {

std::optional<argument_value> read(argument_type type, const std::string& word, std::string& why) {
  switch (type) {
  case argument_type::number: {
    uint64_t x = 0;
    const auto* end = word.data() + word.size();
    const auto [at, error] = std::from_chars(word.data(), end, x);
    if (error == std::errc{} && at == end && !word.empty())
      return argument_value{x};
    return std::nullopt;
  }
  case argument_type::size:
    if (const auto x = parse_size(word, why))
      return argument_value{*x};
    return std::nullopt;
  case argument_type::flag:
    if (word == "true" || word == "yes")
      return argument_value{true};
    if (word == "false" || word == "no")
      return argument_value{false};
    return std::nullopt;
  case argument_type::text:
  case argument_type::volume:
  case argument_type::tier: break;
  }
  return word.empty() ? std::nullopt : std::optional<argument_value>{word};
}

} // namespace

std::string usage_of(const actor_message& x) {
  auto text = x.name;
  for (const auto& a : x.arguments)
    text += ' ' + a.name;
  return text;
}

std::string expectation_of(argument_type x) {
  switch (x) {
  case argument_type::number: return "a whole number, such as 42";
  case argument_type::size: return "a size in bytes, such as 20GiB";
  case argument_type::text: return "text";
  case argument_type::volume: return "a volume, by name or number";
  case argument_type::tier: return "a tier's name";
  case argument_type::flag: return "true or false";
  }
  return "something that this version does not know";
}

caf::expected<std::vector<argument_value>> read_arguments(const actor_message& to,
                                                          const std::vector<std::string>& words) {
  if (words.size() != to.arguments.size())
    return make_error(errc::invalid_argument, "\"" + to.name + "\" got " + std::to_string(words.size()) +
                                                (words.size() == 1 ? " argument" : " arguments") +
                                                "; expected: " + usage_of(to));
  std::vector<argument_value> values;
  for (size_t i = 0; i < words.size(); ++i) {
    const auto& a = to.arguments[i];
    std::string why;
    auto value = read(a.type, words[i], why);
    if (!value)
      return make_error(errc::invalid_argument, "argument " + std::to_string(i + 1) + " of \"" + to.name + "\" (" +
                                                  a.name + ") is \"" + words[i] + "\"; expected " +
                                                  expectation_of(a.type) + (why.empty() ? "" : " (" + why + ")"));
    values.push_back(std::move(*value));
  }
  return values;
}

} // namespace varve::console
