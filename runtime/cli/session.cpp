#include "runtime/cli/session.hpp"

#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <unistd.h>

#include "runtime/config/nearest.hpp"
#include "runtime/config/node_config.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

void session::add_options(CLI::App& app) {
  app.add_flag("--json", json, "Print JSON, also of failures: {\"error\": {\"code\", \"message\"}}");
  app.add_flag("--no-headers", no_headers, "Print tables without their headings");
  app
    .add_option("--socket", socket,
                "The node's RPC socket [$VARVE_SOCKET, else the configuration's, else " + default_rpc_socket() + "]")
    ->type_name("PATH");
  app.add_option("--config", config, "The node's configuration, to find its socket [$VARVE_CONFIG]")->type_name("FILE");
  app.add_option("--timeout", timeout, "How long to wait for the node, such as 5s; 0 waits for ever")
    ->type_name("TIME");
}

std::string session::socket_path() {
  if (!socket.empty())
    return socket;
  if (const char* x = std::getenv("VARVE_SOCKET"); x && *x)
    return x;
  auto file = config;
  if (const char* x = std::getenv("VARVE_CONFIG"); file.empty() && x)
    file = x;
  if (file.empty())
    return default_rpc_socket();
  config_findings findings;
  const auto read = read_config(file, {}, findings);
  if (findings.problems.empty())
    return read.rpc_socket;
  exit = fail(usage, "invalid_config", to_string(findings.problems[0]));
  return {};
}

std::unique_ptr<rpc_client> session::connect(std::chrono::nanoseconds timeout_default) {
  auto limit = timeout_default;
  if (!timeout.empty()) {
    std::string problem;
    const auto given = parse_duration(timeout, problem);
    if (!given) {
      exit = fail(usage, "usage", "--timeout: " + problem);
      return nullptr;
    }
    limit = *given;
  }
  const auto path = socket_path();
  if (path.empty())
    return nullptr;
  std::string problem;
  auto node = rpc_client::connect(path, limit, problem);
  if (!node)
    exit = fail(unreachable, "unreachable", "no node answers at " + problem);
  node_ = node.get();
  return node;
}

void session::with_node(const std::function<int(rpc_client&)>& f) {
  const auto node = connect();
  if (!node)
    return;
  exit = f(*node);
  disconnected();
}

int session::fail(const caf::error& e, const std::string& hint, nlohmann::json found) const {
  const auto code = code_of(e);
  const bool lost = node_ && node_->lost();
  auto message = context_of(e);
  message = message.empty() ? to_string(code) : fmt::format("{}: {}", to_string(code), message);
  if (!hint.empty() && !json)
    message += "\n" + hint;
  return fail(lost                      ? unreachable
              : code == errc::timed_out ? timed_out
                                        : refused,
              lost ? "unreachable" : to_string(code), message, std::move(found));
}

int session::fail(exit_code code, const std::string& name, const std::string& message, nlohmann::json found) const {
  if (json) {
    found["error"] = {{"code", name}, {"message", message}};
    print(found);
  } else {
    fmt::print(stderr, "varve: {}\n", message);
  }
  return code;
}

void session::print(const nlohmann::json& x) {
  // Names may hold any bytes that a client sent.
  fmt::print("{}\n", x.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

void session::say(const std::string& text) const {
  if (!json)
    fmt::print(stderr, "{}\n", text);
}

bool session::draws() const {
  return !json && ::isatty(STDERR_FILENO) == 1;
}

std::map<uint64_t, std::string> session::volume_names(rpc_client& node) {
  std::map<uint64_t, std::string> names;
  if (auto volumes = node.volume_list())
    for (const auto& x : *volumes)
      names[x.record.id.value()] = x.record.spec.name;
  return names;
}

std::string unknown_verb(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* at = &app;
  for (size_t i = 0; i < words.size(); ++i) {
    const auto& word = words[i];
    if (word.starts_with('-')) {
      const auto name = word.substr(0, word.find('='));
      const CLI::Option* option = nullptr;
      for (const auto* a = at; a && !option; a = a->get_parent())
        option = a->get_option_no_throw(name);
      // Its value is the next word.
      if (option && option->get_items_expected_min() > 0 && word.find('=') == std::string::npos)
        ++i;
      continue;
    }
    const auto verbs = at->get_subcommands([](const CLI::App*) { return true; });
    if (verbs.empty())
      return {};
    std::vector<std::string> names;
    const CLI::App* next = nullptr;
    for (const auto* x : verbs) {
      if (x->check_name(word))
        next = x;
      if (!x->get_group().empty())
        names.push_back(x->get_name());
    }
    if (!next) {
      const auto near = nearest(word, names);
      auto text = fmt::format("no verb \"{}\"", word);
      if (!near.empty())
        return text + fmt::format("; did you mean \"{}\"?", near);
      text += "; there are";
      for (const auto& x : names)
        text += ' ' + x;
      return text;
    }
    at = next;
  }
  return {};
}

} // namespace varve::cli
