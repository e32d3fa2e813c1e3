#include "runtime/console/rendering.hpp"

#include <algorithm>
#include <map>

#include "runtime/cli/output.hpp"
#include "runtime/config/units.hpp"
#include "runtime/console/arguments.hpp"

namespace varve::console {

namespace {

std::string parent_of(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

std::string name_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// The tree's own letters before a name.
struct branches {
  const char *child, *last_child, *passing, *nothing;
};
constexpr branches pretty{"├── ", "└── ", "│   ", "    "};
constexpr branches plain{"|-- ", "`-- ", "|   ", "    "};

std::string mailbox_of(const actor_row& x) {
  return x.condition == actor_condition::running ? std::to_string(x.mailbox) : "-";
}

std::string age_of(const actor_row& x) {
  return x.info.age.count() == 0 ? "-" : format_duration_short(x.info.age);
}

std::string note_of(const actor_row& x) {
  if (x.condition == actor_condition::silent)
    return "does not answer";
  return x.condition == actor_condition::restarting ? x.info.last_error : "";
}

std::string kind_of(const actor_row& x) {
  constexpr std::string_view ours = "varve.";
  return x.info.type.starts_with(ours) ? x.info.type.substr(ours.size()) : x.info.type;
}

double seconds(caf::timespan x) {
  return std::chrono::duration<double>(x).count();
}

nlohmann::json json_of(const actor_fact& x) {
  switch (x.unit) {
  case fact_unit::text: return x.text;
  case fact_unit::count:
  case fact_unit::bytes: return x.number;
  case fact_unit::nanoseconds: return static_cast<double>(x.number) / 1e9;
  case fact_unit::flag: return x.number != 0;
  }
  return nullptr;
}

const char* json_name_of(argument_type x) {
  constexpr const char* names[] = {"number", "size", "text", "volume", "tier", "flag"};
  return static_cast<size_t>(x) < 6 ? names[static_cast<size_t>(x)] : "unknown";
}

} // namespace

std::string draw_tree(const std::vector<actor_row>& rows, const drawing& how) {
  const auto& lines = how.utf8 ? pretty : plain;
  // A row is the last of its parent when no later one has that parent, and the parent hides nothing.
  std::map<std::string, size_t> last;
  std::map<std::string, uint64_t> hidden;
  for (size_t i = 0; i < rows.size(); ++i) {
    last[parent_of(rows[i].info.path)] = i;
    hidden[rows[i].info.path] = rows[i].hidden;
  }
  std::map<std::string, std::string> indents; // of the children of a path
  cli::table table{{"ACTOR", "KIND", "STATE", ">MAILBOX", ">RESTARTS", ">AGE", "NOTE"}};
  // What a path hides is told below its last row.
  std::vector<std::string> open;
  auto close_until = [&](const std::string& path) {
    while (!open.empty() && path != open.back() && !path.starts_with(open.back() + '/')) {
      if (const auto more = hidden[open.back()]; more > 0)
        table.row({indents[open.back()] + lines.last_child + std::to_string(more) + " more", "", "", "", "", "",
                   "tree " + open.back()});
      open.pop_back();
    }
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto& x = rows[i];
    const auto& path = x.info.path;
    const auto parent = parent_of(path);
    close_until(path);
    std::string shown;
    if (auto above = indents.find(parent); above != indents.end()) {
      const bool is_last = last[parent] == i && hidden[parent] == 0;
      shown = above->second + (is_last ? lines.last_child : lines.child) + name_of(path);
      indents[path] = above->second + (is_last ? lines.nothing : lines.passing);
    } else {
      shown = path;
      indents[path] = "";
    }
    open.push_back(path);
    table.row({shown, kind_of(x), to_string(x.condition), mailbox_of(x), std::to_string(x.info.restarts), age_of(x),
               note_of(x)});
  }
  close_until("");
  return table.text(how.headings);
}

std::string value_of(const actor_fact& x) {
  switch (x.unit) {
  case fact_unit::text: return x.text.empty() ? "-" : x.text;
  case fact_unit::count: return std::to_string(x.number);
  case fact_unit::bytes: return format_size_short(static_cast<double>(x.number));
  case fact_unit::nanoseconds:
    return format_duration_short(std::chrono::nanoseconds{static_cast<int64_t>(x.number & INT64_MAX)});
  case fact_unit::flag: return x.number != 0 ? "yes" : "no";
  }
  return "?";
}

std::string draw_facts(const actor_facts& x) {
  cli::table table{{"NAME", "VALUE"}};
  for (const auto& f : x)
    table.row({f.name, value_of(f)});
  return table.text(false);
}

std::string draw_inspection(const actor_inspection& x) {
  actor_facts all{text_fact("path", x.row.info.path), text_fact("kind", x.row.info.type),
                  text_fact("state", to_string(x.row.condition))};
  if (const auto note = note_of(x.row); !note.empty())
    all.push_back(text_fact("note", note));
  all.push_back(text_fact("mailbox", mailbox_of(x.row)));
  all.push_back(count_fact("restarts", x.row.info.restarts));
  all.push_back(text_fact("age", age_of(x.row)));
  if (!x.row.info.last_error.empty() && x.row.condition != actor_condition::restarting)
    all.push_back(text_fact("last-error", x.row.info.last_error));
  for (auto f : x.facts) {
    f.name.insert(0, "  ");
    all.push_back(std::move(f));
  }
  return draw_facts(all);
}

std::string draw_messages(const std::string& path, const std::vector<actor_message>& all) {
  if (all.empty())
    return path + " can be sent nothing\n";
  std::string text;
  for (const auto& x : all) {
    text += "send " + path + ' ' + usage_of(x) + "\n    " + x.about + '\n';
    for (const auto& a : x.arguments)
      text += "    " + a.name + ": " + expectation_of(a.type) + '\n';
  }
  return text;
}

nlohmann::json to_json(const actor_row& x) {
  nlohmann::json result{{"path", x.info.path},
                        {"kind", x.info.type},
                        {"state", to_string(x.condition)},
                        {"restarts", x.info.restarts},
                        {"age", x.info.age.count() == 0 ? nlohmann::json{} : nlohmann::json(seconds(x.info.age))},
                        {"mailbox", nullptr},
                        {"last_error", x.info.last_error},
                        {"hidden", x.hidden}};
  if (x.condition == actor_condition::running)
    result["mailbox"] = x.mailbox;
  return result;
}

nlohmann::json to_json(const actor_facts& x) {
  std::map<std::string, nlohmann::json> values;
  for (const auto& f : x)
    values[f.name].push_back(json_of(f));
  auto result = nlohmann::json::object();
  for (auto& [name, all] : values)
    result[name] = all.size() == 1 ? all[0] : all;
  return result;
}

nlohmann::json to_json(const actor_inspection& x) {
  auto result = to_json(x.row);
  result.erase("hidden");
  result["facts"] = to_json(x.facts);
  return result;
}

nlohmann::json to_json(const actor_message& x) {
  auto arguments = nlohmann::json::array();
  for (const auto& a : x.arguments)
    arguments.push_back({{"name", a.name}, {"type", json_name_of(a.type)}});
  return {{"message", x.name}, {"about", x.about}, {"arguments", arguments}};
}

} // namespace varve::console
