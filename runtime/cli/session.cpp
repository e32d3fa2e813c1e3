#include "runtime/cli/session.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <unistd.h>

#include "runtime/cli/cluster_file.hpp"
#include "runtime/config/nearest.hpp"
#include "runtime/config/node_config.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

constexpr auto answers_within = std::chrono::seconds{2};

} // namespace

void session::add_options(CLI::App& app) {
  app.add_flag("--json", json, "Print JSON, also of failures: {\"error\": {\"code\", \"message\"}}");
  app.add_flag("--no-headers", no_headers, "Print tables without their headings");
  app
    .add_option("--socket", socket,
                "The node's RPC socket [$VARVE_SOCKET, else the configuration's, else " + default_rpc_socket() + "]")
    ->type_name("PATH");
  app.add_option("--config", config, "The node's or the cluster's configuration, to find its socket [$VARVE_CONFIG]")
    ->type_name("FILE");
  app.add_option("--node", node, "Which node of a cluster is asked [the first one here that answers]")
    ->type_name("NAME");
  app.add_option("--timeout", timeout, "How long to wait for the node, such as 5s; 0 waits for ever")
    ->type_name("TIME");
}

std::string session::config_file() const {
  if (!config.empty())
    return config;
  const char* x = std::getenv("VARVE_CONFIG");
  return x ? x : "";
}

std::vector<std::string> session::socket_paths() {
  if (!socket.empty())
    return {socket};
  if (const char* x = std::getenv("VARVE_SOCKET"); x && *x && config.empty() && node.empty())
    return {x};
  if (const auto file = config_file(); !file.empty()) {
    config_findings findings;
    const auto read = read_config(file, {{}, {}, node}, findings);
    if (!findings.problems.empty()) {
      exit = fail(usage, "invalid_config", to_string(findings.problems[0]));
      return {};
    }
    if (!node.empty() || read.cluster.nodes.size() <= 1)
      return {read.rpc_socket};
    cluster_file cluster;
    std::string problem;
    if (!read_cluster_file(file, cluster, problem)) {
      exit = fail(usage, "invalid_config", problem);
      return {};
    }
    std::vector<std::string> paths;
    for (const auto& x : cluster.here)
      paths.push_back(x.rpc_socket);
    if (paths.empty())
      exit = fail(unreachable, "unreachable", "no node of " + file + " has an address of this machine");
    return paths;
  }
  if (!node.empty())
    return {default_run_dir() + '/' + node + "/varved.sock"};
  // A node by itself; else the nodes of a cluster have folders of their own there.
  std::vector<std::string> paths{default_rpc_socket()};
  std::error_code ignored;
  if (!std::filesystem::exists(paths[0], ignored))
    for (const auto& x : std::filesystem::directory_iterator{default_run_dir(), ignored})
      if (auto path = x.path() / "varved.sock"; std::filesystem::exists(path, ignored))
        paths.push_back(path);
  if (paths.size() > 1) {
    paths.erase(paths.begin());
    std::sort(paths.begin(), paths.end());
  }
  return paths;
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
  const auto paths = socket_paths();
  std::unique_ptr<rpc_client> node;
  std::string problem, problems;
  for (size_t i = 0; i < paths.size() && !node; ++i) {
    node = rpc_client::connect(paths[i], limit, problem);
    // Whoever is stopped still takes connections: where there are others, they are asked instead.
    if (node && paths.size() > 1) {
      node->set_timeout(answers_within);
      if (!node->actor_list()) {
        problem = paths[i] + ": it takes the connection and does not answer";
        node = nullptr;
      } else {
        node->set_timeout(limit);
      }
    }
    problems += (problems.empty() ? "" : ", nor at ") + problem;
  }
  if (!node && !paths.empty())
    exit = fail(unreachable, "unreachable", "no node answers at " + problems);
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
