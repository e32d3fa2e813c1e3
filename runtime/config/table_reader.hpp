#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <toml++/toml.h>

#include "runtime/config/node_config.hpp"

namespace varve {

/// Reads one TOML table key by key: what is wrong goes to `problems` with its place, what holds in the end (also the
/// defaults) to `values`. finish() refuses the keys that nobody asked for.
class table_reader {
public:
  /// `table` may be null: all defaults. `where` names the place of an absent key: the table's own.
  table_reader(config_findings& out, const toml::table* table, std::string name, toml::source_position where);

  /// Each leaves `x` as it is when the key is absent or wrong; true when the file sets it to something possible.
  bool text(std::string_view key, std::string& x);
  /// An array of strings.
  bool texts(std::string_view key, std::vector<std::string>& x);
  bool boolean(std::string_view key, bool& x);
  bool integer(std::string_view key, uint64_t& x, uint64_t min, uint64_t max);
  bool number(std::string_view key, double& x, double min);
  bool size(std::string_view key, uint64_t& x, uint64_t min, uint64_t max);
  bool duration(std::string_view key, std::chrono::nanoseconds& x, std::chrono::nanoseconds min,
                std::chrono::nanoseconds max);

  template <class T>
  bool one_of(std::string_view key, T& x, const std::vector<std::pair<std::string, T>>& choices) {
    std::string name;
    for (const auto& c : choices)
      if (c.second == x)
        name = c.first;
    const auto before = name;
    if (!text(key, name))
      return false;
    for (const auto& c : choices) {
      if (c.first == name) {
        x = c.second;
        return true;
      }
    }
    std::string expected = "one of";
    for (const auto& c : choices)
      expected += (expected == "one of" ? " \"" : ", \"") + c.first + '"';
    refuse(key, '"' + name + "\" is not possible", expected);
    replace_value(key, '"' + before + '"');
    return false;
  }

  /// The sub-table of that name; reads as empty when absent or of another type.
  table_reader table(std::string_view key);

  /// Makes a key known that is read elsewhere.
  void know(std::string_view key) { known_.emplace_back(key); }
  /// Says that a key's value cannot be; points to the key, or to the table where it is absent.
  void refuse(std::string_view key, std::string what, std::string expected);
  /// The effective value when it is not what stands in the file (a path resolved).
  void replace_value(std::string_view key, std::string literal);
  /// Refuses unknown keys.
  void finish();

  bool has(std::string_view key) const { return table_ && table_->contains(key); }

private:
  const toml::node* find(std::string_view key);
  void keep(std::string_view key, std::string literal, const toml::node* from);
  void wrong_type(std::string_view key, const toml::node& found, std::string expected);

  config_findings& out_;
  const toml::table* table_;
  std::string name_;
  toml::source_position where_;
  std::vector<std::string> known_;
};

/// A basic string as TOML writes it.
std::string toml_literal(std::string_view text);

} // namespace varve
