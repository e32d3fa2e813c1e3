#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "messages/console.hpp"

namespace varve::console {

struct drawing {
  /// Lines of the tree are letters that only UTF-8 has.
  bool utf8 = true;
  bool headings = true;
};

/// A table with the tree in its first column; rows as the node lists them, parents first.
std::string draw_tree(const std::vector<actor_row>& rows, const drawing& how);
std::string draw_inspection(const actor_inspection& x);
std::string draw_facts(const actor_facts& x);
std::string draw_messages(const std::string& path, const std::vector<actor_message>& all);

/// For people: "20 GiB", "1.2 ms", "yes".
std::string value_of(const actor_fact& x);

nlohmann::json to_json(const actor_row& x);
/// An object; a name that occurs more than once has a list. Bytes are bytes, times seconds.
nlohmann::json to_json(const actor_facts& x);
nlohmann::json to_json(const actor_inspection& x);
nlohmann::json to_json(const actor_message& x);

} // namespace varve::console
