#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "runtime/config/config_parts.hpp"

namespace varve {

using namespace std::chrono_literals;

bool is_name(const std::string& x) {
  const auto alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (x.empty() || x.size() > 63 || !alphanumeric(x[0]))
    return false;
  return std::all_of(x.begin(), x.end(), [&](char c) { return alphanumeric(c) || c == '-' || c == '_' || c == '.'; });
}

std::string resolve_path(const std::string& path, const std::string& base) {
  namespace fs = std::filesystem;
  auto full = fs::path(path).is_absolute() ? fs::path(path) : fs::path(base) / path;
  auto text = full.lexically_normal().string();
  if (text.size() > 1 && text.back() == '/')
    text.pop_back();
  return text;
}

void override_origin(config_findings& out, std::string_view table, std::string_view key, const char* option) {
  for (auto& x : out.values)
    if (x.table == table && x.key == key)
      x.origin = option;
}

void read_node_settings(table_reader& t, std::string_view table, node_config& x, const config_overrides& overrides,
                        config_findings& out) {
  namespace fs = std::filesystem;
  const auto folder = fs::absolute(fs::path(out.file)).parent_path().string();
  t.text("data_dir", x.data_dir);
  if (x.data_dir.empty())
    t.refuse("data_dir", "it is empty", "a folder");
  x.data_dir = overrides.data_dir.empty() ? resolve_path(x.data_dir, folder)
                                          : resolve_path(overrides.data_dir, fs::current_path().string());
  t.replace_value("data_dir", toml_literal(x.data_dir));
  if (!overrides.data_dir.empty())
    override_origin(out, table, "data_dir", "--data-dir");
  t.text("run_dir", x.run_dir);
  x.run_dir = overrides.run_dir.empty() ? resolve_path(x.run_dir, folder)
                                        : resolve_path(overrides.run_dir, fs::current_path().string());
  t.replace_value("run_dir", toml_literal(x.run_dir));
  if (!overrides.run_dir.empty())
    override_origin(out, table, "run_dir", "--run-dir");
  t.integer("reactors", x.reactors, 0, 64);
  t.one_of<ring_choice>(
    "io", x.io,
    {{"auto", ring_choice::automatic}, {"io_uring", ring_choice::io_uring}, {"threads", ring_choice::threads}});
  t.duration("stop_timeout", x.stop_timeout, 1s, 1h);
}

void read_single_node(table_reader& root, const toml::table& file, node_config& x, const config_overrides& overrides,
                      config_findings& out) {
  auto t = root.table("node");
  if (t.text("name", x.name) && !is_name(x.name))
    t.refuse("name", '"' + x.name + "\" is no name", name_rule);
  if (!overrides.node.empty() && overrides.node != x.name)
    root.refuse("node", "the file is of one node by itself, \"" + x.name + '"', "no --node, or its name");
  x.data_dir = "varve-data";
  x.run_dir = default_run_dir();
  read_node_settings(t, "node", x, overrides, out);
  t.finish();
  std::vector<node_config> only{std::move(x)};
  read_tiers(root, file, only, 0, false, out);
  x = std::move(only[0]);
}

} // namespace varve
