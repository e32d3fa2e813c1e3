#include <fmt/format.h>

#include "runtime/cli/session.hpp"
#include "runtime/config/node_config.hpp"

namespace varve::cli {

namespace {

// Everything that is wrong, each where an editor finds it.
int refuse(session& s, const config_findings& findings) {
  if (!s.json) {
    for (const auto& x : findings.problems)
      fmt::print(stderr, "{}\n", to_string(x));
    return refused;
  }
  auto rows = nlohmann::json::array();
  for (const auto& x : findings.problems)
    rows.push_back(
      {{"file", x.file}, {"line", x.line}, {"column", x.column}, {"what", x.what}, {"expected", x.expected}});
  s.print({{"error", {{"code", "invalid_config"}, {"message", to_string(findings.problems[0])}, {"problems", rows}}}});
  return refused;
}

void check(session& s, const std::string& file) {
  config_findings findings;
  read_config(file, {}, findings);
  if (!findings.problems.empty())
    s.exit = refuse(s, findings);
  else if (s.json)
    s.print({{"file", file}, {"problems", nlohmann::json::array()}});
  else
    fmt::print("{}: good\n", file);
}

void show(session& s, std::string file) {
  if (file.empty())
    file = s.config_file();
  if (file.empty()) {
    s.exit = s.fail(usage, "usage", "which file? --config FILE");
    return;
  }
  config_findings findings;
  read_config(file, {{}, {}, s.node}, findings);
  if (!findings.problems.empty()) {
    s.exit = refuse(s, findings);
    return;
  }
  if (s.json) {
    auto rows = nlohmann::json::array();
    for (const auto& x : findings.values)
      rows.push_back({{"table", x.table}, {"key", x.key}, {"value", x.literal}, {"origin", x.origin}});
    s.print({{"values", rows}});
    return;
  }
  std::string last;
  for (const auto& x : findings.values) {
    if (x.table != last) {
      // "tier[fast]" is one of several tables; "tier[fast].emulate" is inside it.
      const auto bracket = x.table.find('[');
      const auto name = bracket == std::string::npos ? x.table : x.table.substr(0, bracket);
      const auto inner = bracket == std::string::npos ? "" : x.table.substr(x.table.find(']') + 1);
      fmt::print("{}{}\n", last.empty() ? "" : "\n",
                 bracket == std::string::npos ? '[' + name + ']'
                 : inner.empty()              ? "[[" + name + "]]"
                                              : '[' + name + inner + ']');
      last = x.table;
    }
    fmt::print("{:<40} # {}\n", x.key + " = " + x.literal, x.origin);
  }
}

} // namespace

void add_config_verbs(CLI::App& app, session& s) {
  auto* noun = app.add_subcommand("config", "Configuration files");
  noun->require_subcommand(1);
  auto file = std::make_shared<std::string>();
  auto* x = noun->add_subcommand("check", "Say everything that is wrong with a file, with its place");
  x->add_option("FILE", *file)->required();
  x->callback([file, &s] { check(s, *file); });
  x = noun->add_subcommand("show", "Print every value in force and where it comes from (--config FILE)");
  x->add_option("FILE", *file);
  x->callback([file, &s] { show(s, *file); });
}

} // namespace varve::cli
