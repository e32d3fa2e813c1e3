#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "messages/errors.hpp"
#include "runtime/cli/output.hpp"
#include "runtime/rpc/rpc_client.hpp"

namespace varve::cli {

/// One run of the program: the options that every verb has, the conversation with the node, and how it ends. Data goes
/// to standard output, all else to standard error; with --json a failure is an object on standard output.
class session {
public:
  /// Adds the options of every verb.
  void add_options(CLI::App& app);

  /// Runs `f` with a connection; its result ends the program.
  void with_node(const std::function<int(rpc_client&)>& f);

  /// A connection; none with a failure, told as the others are. What fails later is told as of the latest one.
  std::unique_ptr<rpc_client> connect(std::chrono::nanoseconds timeout_default = std::chrono::seconds{30});
  /// The connection is gone.
  void disconnected() { node_ = nullptr; }

  /// Says why, and gives the exit code that goes with it. `hint` is for people only; `found` is an object, and with
  /// --json stands beside the error.
  int fail(const caf::error& e, const std::string& hint = {}, nlohmann::json found = nlohmann::json::object()) const;
  int fail(exit_code code, const std::string& name, const std::string& message,
           nlohmann::json found = nlohmann::json::object()) const;

  /// Prints as JSON.
  static void print(const nlohmann::json& x);
  /// To standard error; nothing with --json.
  void say(const std::string& text) const;
  /// Progress is drawn only for people.
  bool draws() const;

  /// Names for the numbers of volumes.
  static std::map<uint64_t, std::string> volume_names(rpc_client& node);

  bool json = false;
  bool no_headers = false;
  std::string socket;
  std::string config;
  /// Of a cluster; empty: the first one here that answers.
  std::string node;
  /// Empty: 30 s for what is quick, none for what takes its time.
  std::string timeout;
  int exit = success;

  /// --config, or $VARVE_CONFIG; empty: neither.
  std::string config_file() const;

private:
  /// Where the node listens, or where the nodes of this machine do: by --socket, $VARVE_SOCKET, --config or
  /// $VARVE_CONFIG, or the default; --node chooses. None with a failure.
  std::vector<std::string> socket_paths();

  rpc_client* node_ = nullptr;
};

void add_volume_verbs(CLI::App& app, session& s);
void add_shard_verbs(CLI::App& app, session& s);
void add_migration_verbs(CLI::App& app, session& s);
void add_lease_verbs(CLI::App& app, session& s);
/// tier, status, events, actor, stop.
void add_node_verbs(CLI::App& app, session& s);
void add_cluster_verbs(CLI::App& app, session& s);
/// up and down, below `noun`.
void add_cluster_control(CLI::App& noun, session& s);
/// node, and cluster upgrade.
void add_node_tools(CLI::App& app, CLI::App& cluster, session& s);
void add_config_verbs(CLI::App& app, session& s);
void add_trace_verbs(CLI::App& app, session& s);
/// catalog, and more of tier; after the node's.
void add_recovery_verbs(CLI::App& app, session& s);
void add_console(CLI::App& app, session& s);
void add_completion(CLI::App& app, session& s);

/// What `migration ls` prints.
table migration_table(rpc_client& node, const std::vector<migration_progress>& all);
/// What `events` prints.
table event_table(const std::vector<event>& all);

/// The first word that is no verb, with the nearest that is; empty when all are. For words before options' values.
std::string unknown_verb(const CLI::App& app, const std::vector<std::string>& words);

} // namespace varve::cli
