// `varve cluster up` and `down`: the nodes of a cluster's file that belong on this machine, as daemons of this user.

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>

#include <fmt/format.h>
#include <sys/stat.h>

#include "runtime/cli/cluster_file.hpp"
#include "runtime/cli/daemon.hpp"
#include "runtime/cli/local_etcd.hpp"
#include "runtime/cli/session.hpp"
#include "runtime/cluster/node_keys.hpp"
#include "runtime/config/units.hpp"

namespace varve::cli {

namespace {

using namespace std::chrono_literals;

constexpr std::chrono::nanoseconds ready_time = 60s;
/// What varved takes at most beside its stop_timeout: then it ends itself.
constexpr std::chrono::nanoseconds stop_slack = 10s;
constexpr size_t log_lines = 8;

struct control_arguments {
  std::string file;
  bool force = false;
};

/// One node on its way up or down.
struct local_node {
  const node_config* config = nullptr;
  pid_t pid = 0;
  /// It is a child of ours.
  bool started = false;
  bool done = false;
  /// Why it will not be, for people.
  std::string problem;
  /// What it waits for.
  std::string why;

  std::string log() const { return config->log_file.empty() ? config->data_dir + "/varved.log" : config->log_file; }
};

bool is_within(const std::string& path, const std::string& folder) {
  return path.starts_with(folder + '/');
}

/// A folder with all above it, ours alone. What is wrong, or empty.
std::string make_folder(const std::string& path) {
  std::error_code error;
  const auto is_new = std::filesystem::create_directories(path, error);
  if (error)
    return path + ": " + error.message();
  if (is_new)
    ::chmod(path.c_str(), 0700);
  return {};
}

/// Only where nobody else keeps them: in the cluster's own folder, which is on this machine anyhow. What is wrong, or
/// empty.
std::string care_for_keys(const session& s, const cluster_file& file, std::vector<std::string>& made) {
  const auto& folder = file.cluster.keys_dir;
  std::vector<std::string> all, here;
  for (const auto& x : file.cluster.nodes)
    all.push_back(x.name);
  for (const auto& x : file.here)
    here.push_back(x.name);
  const auto hint = fmt::format("; make what is missing: varve cluster keys init {} --config {}", folder, file.path);
  if (is_within(folder, file.cluster_dir) &&
      (!std::filesystem::exists(folder + "/ca.pem") || std::filesystem::exists(folder + "/ca.key"))) {
    if (auto problem = make_folder(std::filesystem::path{folder}.parent_path()); !problem.empty())
      return problem;
    if (auto problem = make_keys(folder, file.cluster.name, all, {}, made); !problem.empty())
      return problem;
    if (!made.empty())
      s.say(fmt::format("keys made in {}: {}", folder, fmt::join(made, " ")));
  }
  for (const auto& x : check_keys(folder, here, static_cast<int64_t>(std::time(nullptr))))
    if (!x.problem.empty())
      return x.problem + hint;
  return {};
}

void start_node(local_node& x, const std::string& varved, const cluster_file& file) {
  x.pid = holder_of(x.config->data_dir);
  if (x.pid != 0)
    return; // it runs, or is about to
  x.problem = make_folder(x.config->data_dir);
  if (x.problem.empty())
    x.pid = start_daemon(
      {varved, "--config", std::filesystem::absolute(file.path).lexically_normal().string(), "--node", x.config->name},
      x.log(), x.problem);
  x.started = x.pid != 0;
}

/// One look.
void look_whether_ready(local_node& x) {
  if (int status = 0; x.started && has_ended(x.pid, status)) {
    x.problem = fmt::format("varved {}; {}:\n{}", how_it_ended(status), x.log(), last_lines(x.log(), log_lines));
    return;
  }
  auto client = rpc_client::connect(x.config->rpc_socket, 10s, x.why);
  if (!client)
    return;
  auto said = client->not_ready();
  if (!said) {
    x.why = context_of(said.error());
    return;
  }
  x.why = *said;
  x.done = said->empty();
  if (x.pid <= 0)
    x.pid = holder_of(x.config->data_dir);
}

nlohmann::json to_json(const local_node& x) {
  return {{"node", x.config->name}, {"roles", to_string(x.config->roles)}, {"pid", x.pid},
          {"started", x.started},   {"socket", x.config->rpc_socket},      {"log", x.log()}};
}

bool read(session& s, const control_arguments& args, cluster_file& file) {
  std::string problem;
  if (!read_cluster_file(args.file, file, problem)) {
    s.exit = s.fail(usage, "invalid_config", problem);
    return false;
  }
  if (file.here.empty())
    s.exit = s.fail(refused, "not_found", "no node of " + args.file + " has an address of this machine");
  return !file.here.empty();
}

bool time_limit(session& s, std::chrono::nanoseconds& limit) {
  if (s.timeout.empty())
    return true;
  std::string problem;
  const auto given = parse_duration(s.timeout, problem);
  if (given)
    limit = given->count() == 0 ? std::chrono::nanoseconds{24h} : *given;
  else
    s.exit = s.fail(usage, "usage", "--timeout: " + problem);
  return given.has_value();
}

void up(session& s, const control_arguments& args) {
  cluster_file file;
  auto limit = ready_time;
  if (!time_limit(s, limit) || !read(s, args, file))
    return;
  const auto varved = find_program("varved");
  if (varved.empty()) {
    s.exit = s.fail(refused, "not_found", "no varved beside this program, nor in $PATH");
    return;
  }
  auto refuse = [&s](const std::string& problem) { s.exit = s.fail(refused, "unavailable", problem); };
  std::vector<std::string> keys_made;
  if (auto problem = make_folder(file.cluster_dir); !problem.empty())
    return refuse(problem);
  if (auto problem = care_for_keys(s, file, keys_made); !problem.empty()) {
    s.exit = s.fail(refused, "bad_keys", problem);
    return;
  }
  bool etcd_started = false;
  if (local_etcd etcd{file}; etcd.wanted()) {
    if (auto problem = etcd.start(etcd_started); !problem.empty())
      return refuse(problem);
    if (etcd_started)
      s.say("etcd started at " + etcd.url());
  }
  std::vector<local_node> nodes;
  for (const auto& config : file.here) {
    nodes.push_back({&config});
    start_node(nodes.back(), varved, file);
  }
  // All at the same time: they wait for each other.
  wait_until(limit, [&] {
    bool all = true;
    for (auto& x : nodes) {
      if (!x.done && x.problem.empty())
        look_whether_ready(x);
      all = all && (x.done || !x.problem.empty());
    }
    return all;
  });
  auto rows = nlohmann::json::array();
  table t{{"NODE", "ROLES", "STATE", ">PID", "SOCKET"}};
  std::string problems;
  bool late = false;
  for (auto& x : nodes) {
    if (!x.done && x.problem.empty()) {
      late = true;
      x.problem = fmt::format("not ready after {}: {}; see {}", format_duration(limit), x.why, x.log());
    }
    if (!x.problem.empty())
      problems += (problems.empty() ? "" : "\n") + ("node " + x.config->name + ": " + x.problem);
    rows.push_back(to_json(x));
    rows.back()["ready"] = x.done;
    t.row({x.config->name, to_string(x.config->roles),
           !x.done     ? "not ready"
           : x.started ? "started"
                       : "ready",
           x.pid > 0 ? std::to_string(x.pid) : "-", x.config->rpc_socket});
  }
  const nlohmann::json found{
    {"cluster", file.cluster.name}, {"nodes", rows}, {"keys_made", keys_made}, {"etcd_started", etcd_started}};
  if (!s.json)
    t.print(!s.no_headers);
  if (!problems.empty())
    s.exit = s.fail(late ? timed_out : refused, late ? "timed_out" : "unavailable", problems, found);
  else if (s.json)
    s.print(found);
}

/// Who is stopped first: those that need others, before those that others need.
int rank(const node_roles& x) {
  return x.manager ? 3 : x.storage && x.host ? 1 : x.storage ? 2 : 0;
}

/// False: it still runs.
void stop_node(local_node& x, bool force) {
  const auto& folder = x.config->data_dir;
  x.pid = holder_of(folder);
  x.started = x.pid != 0;
  auto gone = [&] { return holder_of(folder) == 0; };
  if (x.pid > 0 && ::kill(x.pid, SIGTERM) != 0 && errno != ESRCH)
    x.problem = fmt::format("process {}: {}", x.pid, std::strerror(errno));
  else if (x.pid < 0)
    x.problem = "somebody holds its folder " + folder;
  else
    x.done = x.pid == 0 || wait_until(x.config->stop_timeout + stop_slack, gone);
  if (!x.done && x.pid > 0 && force) {
    ::kill(x.pid, SIGKILL);
    x.done = wait_until(stop_slack, gone);
  }
  if (x.done)
    x.problem.clear();
  else if (x.problem.empty())
    x.problem = fmt::format("process {} did not stop; see {}, or end it with --force: what was not flushed is lost at "
                            "power loss only",
                            x.pid, x.log());
}

void down(session& s, const control_arguments& args) {
  cluster_file file;
  if (!read(s, args, file))
    return;
  std::vector<local_node> nodes;
  for (const auto& config : file.here)
    nodes.push_back({&config});
  std::stable_sort(nodes.begin(), nodes.end(),
                   [](auto& a, auto& b) { return rank(a.config->roles) < rank(b.config->roles); });
  auto rows = nlohmann::json::array();
  std::string problems;
  for (auto& x : nodes) {
    stop_node(x, args.force);
    rows.push_back({{"node", x.config->name}, {"was_running", x.started}, {"stopped", x.done}});
    if (!x.problem.empty())
      problems += (problems.empty() ? "" : "\n") + ("node " + x.config->name + ": " + x.problem);
    if (!s.json && x.done)
      fmt::print("{}  {}\n", x.config->name, x.started ? "stopped" : "was not running");
  }
  // Managers that are still there need it.
  bool etcd_stopped = false;
  if (local_etcd etcd{file}; etcd.wanted() && problems.empty()) {
    problems = etcd.stop(etcd_stopped);
    if (!s.json && etcd_stopped)
      fmt::print("etcd  stopped\n");
  }
  const nlohmann::json found{{"cluster", file.cluster.name}, {"nodes", rows}, {"etcd_stopped", etcd_stopped}};
  if (!problems.empty())
    s.exit = s.fail(timed_out, "timed_out", problems, found);
  else if (s.json)
    s.print(found);
}

} // namespace

void add_cluster_control(CLI::App& noun, session& s) {
  auto args = std::make_shared<control_arguments>();
  auto* x =
    noun.add_subcommand("up", "Start the nodes of a file that belong on this machine, and wait until they serve");
  x->add_option("FILE", args->file, "The cluster's configuration")->required();
  x->callback([args, &s] { up(s, *args); });
  x = noun.add_subcommand("down",
                          "Stop the nodes of a file that run on this machine, hosts before storage before managers");
  x->add_option("FILE", args->file, "The cluster's configuration")->required();
  x->add_flag("--force", args->force, "Kill those that do not stop in their time");
  x->callback([args, &s] { down(s, *args); });
}

} // namespace varve::cli
