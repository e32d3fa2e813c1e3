#include "runtime/config/table_reader.hpp"

#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

#include "runtime/config/nearest.hpp"
#include "runtime/config/units.hpp"

namespace varve {

namespace {

std::string_view type_name(const toml::node& x) {
  switch (x.type()) {
  case toml::node_type::table: return "a table";
  case toml::node_type::array: return "an array";
  case toml::node_type::string: return "a string";
  case toml::node_type::integer: return "an integer";
  case toml::node_type::floating_point: return "a number";
  case toml::node_type::boolean: return "a boolean";
  default: return "a date or time";
  }
}

// Replaces each ${NAME}; the first that is not set, or not closed, is returned.
std::string expand_environment(std::string& text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    if (text.compare(at, 2, "${") != 0) {
      result += text[at++];
      continue;
    }
    const auto end = text.find('}', at);
    if (end == std::string::npos)
      return "\"${\" without \"}\"";
    const auto name = text.substr(at + 2, end - at - 2);
    const char* value = std::getenv(name.c_str());
    if (!value)
      return "environment variable " + name + " is not set";
    result += value;
    at = end + 1;
  }
  text = std::move(result);
  return {};
}

} // namespace

std::string toml_literal(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      result += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      result += fmt::format("\\u{:04X}", static_cast<int>(c));
    else
      result += c;
  }
  return result + '"';
}

table_reader::table_reader(config_findings& out, const toml::table* table, std::string name,
                           toml::source_position where)
  : out_(out), table_(table), name_(std::move(name)), where_(where) {}

bool table_reader::text(std::string_view key, std::string& x) {
  const auto* found = find(key);
  if (found && !found->is_string()) {
    wrong_type(key, *found, "a string");
  } else if (found) {
    auto value = found->as_string()->get();
    auto problem = expand_environment(value);
    if (problem.empty()) {
      x = std::move(value);
      keep(key, toml_literal(x), found);
      return true;
    }
    refuse(key, problem, "a variable that is set, or the value itself");
  }
  keep(key, toml_literal(x), nullptr);
  return false;
}

bool table_reader::texts(std::string_view key, std::vector<std::string>& x) {
  const auto* found = find(key);
  std::vector<std::string> values;
  std::string problem;
  bool good = found && found->is_array();
  if (good)
    for (const auto& one : *found->as_array()) {
      good = good && one.is_string();
      if (!good)
        break;
      values.push_back(one.as_string()->get());
      if (problem.empty())
        problem = expand_environment(values.back());
    }
  if (found && !good) {
    wrong_type(key, *found, "an array of strings");
  } else if (!problem.empty()) {
    refuse(key, problem, "a variable that is set, or the value itself");
    good = false;
  }
  if (good)
    x = std::move(values);
  std::string literal;
  for (const auto& one : x)
    literal += (literal.empty() ? "" : ", ") + toml_literal(one);
  keep(key, '[' + literal + ']', good ? found : nullptr);
  return good;
}

bool table_reader::boolean(std::string_view key, bool& x) {
  const auto* found = find(key);
  const bool good = found && found->is_boolean();
  if (good)
    x = found->as_boolean()->get();
  else if (found)
    wrong_type(key, *found, "true or false");
  keep(key, x ? "true" : "false", good ? found : nullptr);
  return good;
}

bool table_reader::integer(std::string_view key, uint64_t& x, uint64_t min, uint64_t max) {
  const auto* found = find(key);
  bool good = false;
  if (found && !found->is_integer()) {
    wrong_type(key, *found, "an integer");
  } else if (found) {
    const auto value = found->as_integer()->get();
    good = value >= 0 && static_cast<uint64_t>(value) >= min && static_cast<uint64_t>(value) <= max;
    if (good)
      x = static_cast<uint64_t>(value);
    else
      refuse(key, fmt::format("{} is out of range", value), fmt::format("{} to {}", min, max));
  }
  keep(key, std::to_string(x), good ? found : nullptr);
  return good;
}

bool table_reader::number(std::string_view key, double& x, double min) {
  const auto* found = find(key);
  bool good = false;
  if (found && !found->is_number()) {
    wrong_type(key, *found, "a number");
  } else if (found) {
    const auto value = *found->value<double>();
    good = std::isfinite(value) && value >= min;
    if (good)
      x = value;
    else
      refuse(key, fmt::format("{} is out of range", value), fmt::format("a number of at least {}", min));
  }
  keep(key, fmt::format("{}", x), good ? found : nullptr);
  return good;
}

bool table_reader::size(std::string_view key, uint64_t& x, uint64_t min, uint64_t max) {
  const auto* found = find(key);
  const auto expected = fmt::format("a size such as \"20GiB\", {} to {}", format_size(min), format_size(max));
  bool good = false;
  if (found && found->is_integer() && found->as_integer()->get() >= 0) {
    const auto value = static_cast<uint64_t>(found->as_integer()->get());
    good = value >= min && value <= max;
    if (good)
      x = value;
    else
      refuse(key, fmt::format("{} bytes is out of range", value), expected);
  } else if (found && found->is_string()) {
    std::string problem;
    const auto value = parse_size(found->as_string()->get(), problem);
    good = value && *value >= min && *value <= max;
    if (good)
      x = *value;
    else
      refuse(key, value ? fmt::format("\"{}\" is out of range", found->as_string()->get()) : problem, expected);
  } else if (found) {
    wrong_type(key, *found, expected);
  }
  keep(key, toml_literal(format_size(x)), good ? found : nullptr);
  return good;
}

bool table_reader::duration(std::string_view key, std::chrono::nanoseconds& x, std::chrono::nanoseconds min,
                            std::chrono::nanoseconds max) {
  const auto* found = find(key);
  const auto expected = fmt::format("a duration such as \"5ms\", {} to {}", format_duration(min), format_duration(max));
  bool good = false;
  if (found && found->is_string()) {
    std::string problem;
    const auto value = parse_duration(found->as_string()->get(), problem);
    good = value && *value >= min && *value <= max;
    if (good)
      x = *value;
    else
      refuse(key, value ? fmt::format("\"{}\" is out of range", found->as_string()->get()) : problem, expected);
  } else if (found) {
    wrong_type(key, *found, expected);
  }
  keep(key, toml_literal(format_duration(x)), good ? found : nullptr);
  return good;
}

table_reader table_reader::table(std::string_view key) {
  const auto* found = find(key);
  const auto name = name_.empty() ? std::string{key} : name_ + '.' + std::string{key};
  if (found && !found->is_table())
    wrong_type(key, *found, "a table");
  if (found && found->is_table())
    return {out_, found->as_table(), name, found->source().begin};
  return {out_, nullptr, name, where_};
}

void table_reader::refuse(std::string_view key, std::string what, std::string expected) {
  auto at = where_;
  if (table_)
    if (const auto* found = table_->get(key); found && found->source().begin)
      at = found->source().begin;
  const auto full = name_.empty() ? std::string{key} : name_ + '.' + std::string{key};
  out_.problems.push_back({out_.file, at.line, at.column, full + ": " + std::move(what), std::move(expected)});
}

void table_reader::replace_value(std::string_view key, std::string literal) {
  for (auto& x : out_.values)
    if (x.table == name_ && x.key == key)
      x.literal = literal;
}

void table_reader::finish() {
  if (!table_)
    return;
  for (const auto& [key, value] : *table_) {
    const std::string name{key.str()};
    bool is_known = false;
    for (const auto& x : known_)
      is_known = is_known || x == name;
    if (is_known)
      continue;
    const auto near = nearest(name, known_);
    auto at = key.source().begin ? key.source().begin : value.source().begin;
    std::string expected;
    if (near.empty())
      for (const auto& x : known_)
        expected += (expected.empty() ? "one of " : ", ") + x;
    else
      expected = near;
    out_.problems.push_back({out_.file, at.line, at.column,
                             "unknown key \"" + name + '"' + (name_.empty() ? "" : " in [" + name_ + ']'), expected});
  }
}

const toml::node* table_reader::find(std::string_view key) {
  known_.emplace_back(key);
  return table_ ? table_->get(key) : nullptr;
}

void table_reader::keep(std::string_view key, std::string literal, const toml::node* from) {
  std::string origin = "default";
  if (from)
    origin = fmt::format("{}:{}", out_.file, from->source().begin.line);
  out_.values.push_back({name_, std::string{key}, std::move(literal), std::move(origin)});
}

void table_reader::wrong_type(std::string_view key, const toml::node& found, std::string expected) {
  refuse(key, fmt::format("{} is not possible", type_name(found)), std::move(expected));
}

} // namespace varve
