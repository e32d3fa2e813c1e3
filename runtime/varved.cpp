// The daemon: reads its command line and its configuration, runs a node until a signal, and stops it in order.

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <optional>
#include <thread>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/monitoring/logging.hpp"
#include "runtime/monitoring/service_manager.hpp"
#include "runtime/varved_node.hpp"
#include "runtime/version.hpp"

namespace varve {

namespace {

using namespace std::chrono_literals;

constexpr auto help = R"(varved: one node of block volumes

  varved --config FILE [--node NAME] [--data-dir DIR] [--run-dir DIR]

  --config FILE    the configuration (TOML); check it with: varve config check FILE
  --node NAME      which node of a cluster's file
  --data-dir DIR   where the catalog and the shards are, instead of node.data_dir
  --run-dir DIR    where the sockets are, instead of node.run_dir
  --version, --help

SIGTERM and SIGINT stop it in order: requests under way end, everything is flushed. A second one ends it at once; what
was acknowledged is safe then too, what was not flushed may be lost at power loss only.

Exit codes: 0 stopped; 1 failed; 2 bad configuration, keys or command line; 3 another varved uses the folder; 4 did
not stop in time.
)";

struct arguments {
  std::string config;
  config_overrides overrides;
};

// The exit code when there is nothing to run.
std::optional<int> read_arguments(int argc, char** argv, arguments& x) {
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i], value;
    if (word == "--help" || word == "-h") {
      fmt::print("{}", help);
      return stopped;
    }
    if (word == "--version") {
      fmt::print("varved {}\n", version);
      return stopped;
    }
    if (auto at = word.find('='); at != std::string::npos) {
      value = word.substr(at + 1);
      word.resize(at);
    } else if (i + 1 < argc) {
      value = argv[++i];
    }
    auto* to = word == "--config"     ? &x.config
               : word == "--node"     ? &x.overrides.node
               : word == "--data-dir" ? &x.overrides.data_dir
               : word == "--run-dir"  ? &x.overrides.run_dir
                                      : nullptr;
    if (!to || value.empty()) {
      fmt::print(stderr, "varved: {} \"{}\"\nsee: varved --help\n", to ? "no value for" : "unknown option", word);
      return bad_config;
    }
    *to = value;
  }
  if (x.config.empty()) {
    fmt::print(stderr, "varved: which configuration? --config FILE\nsee: varved --help\n");
    return bad_config;
  }
  return std::nullopt;
}

// Before any other thread: it inherits this, and the signals come to whoever waits for them only.
sigset_t take_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return signals;
}

// What is wrong; empty when nothing is.
std::string open_log(const node_config& config) {
  if (!config.log_file.empty()) {
    std::error_code ignored; // opening it says what is wrong
    std::filesystem::create_directories(std::filesystem::path(config.log_file).parent_path(), ignored);
  }
  return start_logging(config.log_level, config.log_file, config.name);
}

// What systemd shows of a node that serves, and a sign of life if it wants one: as long as the actors answer.
void tell_service_manager(varved_node& node, bool watched) {
  if (const auto status = node.summary())
    notify_service_manager("STATUS=" + *status + (watched ? "\nWATCHDOG=1" : ""));
}

// Waits for the signal that ends the node; meanwhile tells the service manager when it serves.
int wait_for_end(varved_node& node, const sigset_t& signals) {
  constexpr std::chrono::nanoseconds look_again = 50ms;
  const std::chrono::nanoseconds watchdog = watchdog_time();
  const auto tell_every = watchdog > 0ns ? std::min<std::chrono::nanoseconds>(watchdog / 3, 10s) : 10s;
  const bool told = has_service_manager();
  int signal = 0;
  std::string said;
  for (bool ready = false; signal <= 0;) {
    const auto wait = ready ? tell_every : look_again;
    const timespec until{wait / 1s, (wait % 1s).count()};
    signal = ready && !told ? ::sigwaitinfo(&signals, nullptr) : ::sigtimedwait(&signals, nullptr, &until);
    if (signal > 0)
      break;
    if (ready) {
      if (told)
        tell_service_manager(node, watchdog > 0ns);
      continue;
    }
    const auto why = node.not_ready();
    ready = why.empty();
    if (ready) {
      spdlog::info("event=ready");
      notify_service_manager("READY=1");
      tell_service_manager(node, watchdog > 0ns);
    } else if (told && why != said) {
      // Recovery takes as long as it takes; as long as it goes on, systemd is to wait.
      notify_service_manager("STATUS=" + why + "\nEXTEND_TIMEOUT_USEC=60000000");
      said = why;
    }
  }
  return signal;
}

// Whatever hangs: a second signal, or the time limit, ends it. What was acknowledged is in the files already.
void end_at_once_if_it_hangs(const sigset_t& signals, std::chrono::nanoseconds limit) {
  std::thread{[signals, limit] {
    const auto end = std::chrono::steady_clock::now() + limit;
    int second = 0;
    siginfo_t from{};
    do {
      const auto left = std::max<std::chrono::nanoseconds>(end - std::chrono::steady_clock::now(), 0s);
      const timespec until{left / 1s, (left % 1s).count()};
      second = ::sigtimedwait(&signals, &from, &until);
      // Our own: asked by RPC to stop, which it does already.
    } while (second > 0 ? from.si_pid == ::getpid() : errno == EINTR);
    spdlog::error("event=ended-at-once reason={}", second > 0 ? "second-signal" : "time-limit");
    ::_exit(second > 0 ? 128 + second : not_stopped_in_time);
  }}.detach();
}

int run(int argc, char** argv) {
  arguments args;
  if (auto code = read_arguments(argc, argv, args))
    return *code;
  config_findings findings;
  auto config = read_config(args.config, args.overrides, findings);
  for (const auto& x : findings.problems)
    fmt::print(stderr, "{}\n", to_string(x));
  if (!findings.problems.empty())
    return bad_config;
  if (const auto& nodes = config.cluster.nodes; args.overrides.node.empty() && nodes.size() > 1) {
    std::string names;
    for (const auto& x : nodes)
      names += (names.empty() ? "" : ", ") + x.name;
    fmt::print(stderr, "{}: it describes a cluster; expected --node with one of {}\n", args.config, names);
    return bad_config;
  }

  const auto signals = take_signals();
  // What we make is ours alone.
  ::umask(0077);
  if (auto problem = open_log(config); !problem.empty()) {
    fmt::print(stderr, "varved: {}\n", problem);
    return failed;
  }
  const auto stop_timeout = config.stop_timeout;
  const bool logs_elsewhere = !config.log_file.empty();
  varved_node node{std::move(config)};
  std::string problem;
  if (auto code = node.start(problem); code != stopped) {
    spdlog::error("event=not-started reason={}", log_value(problem));
    if (logs_elsewhere)
      fmt::print(stderr, "varved: {}\n", problem);
    node.stop();
    return code;
  }
  const int signal = wait_for_end(node, signals);
  spdlog::info("event=stopping signal={}", signal);
  const std::chrono::microseconds stop_limit = std::chrono::ceil<std::chrono::microseconds>(stop_timeout + 5s);
  notify_service_manager(fmt::format("STOPPING=1\nSTATUS=flushing\nEXTEND_TIMEOUT_USEC={}", stop_limit.count()));
  end_at_once_if_it_hangs(signals, stop_timeout + 1s);
  node.stop();
  spdlog::info("event=stopped");
  spdlog::shutdown();
  return node.gave_up() ? failed : stopped;
}

} // namespace
} // namespace varve

int main(int argc, char** argv) {
  return varve::run(argc, argv);
}
