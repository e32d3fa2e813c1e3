// varve_stamps: writes and reads stamped blocks over NBD, and checks what clients saw.
//   run    one process with several connections to one volume; JSON on stdout when it ends
//   check  the histories of many logs, block by block; exit code 1 when one is not a register's
//   waits  how long requests waited within given times
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tests/chaos/history_check.hpp"
#include "tests/chaos/stamp_client.hpp"

using namespace varve::chaos;

namespace {

std::atomic<bool> told_to_stop{false};

struct run_options {
  stamp_options stamps;
  uint32_t writer = 1;
  unsigned connections = 1;
  double seconds = 10;
  double drain_seconds = 30;
  std::filesystem::path logs;
  bool progress = false;
};

nlohmann::json summary(const stamp_counters& x) {
  return {{"reads", x.reads.load()},
          {"writes", x.writes.load()},
          {"flushes", x.flushes.load()},
          {"failed", x.failed.load()},
          {"lost", x.lost.load()},
          {"garbled", x.garbled.load()},
          {"connects", x.connects.load()},
          {"swept", x.swept.load()},
          {"last_error", x.last_error.load()},
          {"time", monotonic_ns()},
          {"longest_wait_ms", static_cast<double>(x.longest_wait_ns.load()) / 1e6}};
}

int run(const run_options& options) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGTERM, [](int) { told_to_stop = true; });
  std::signal(SIGINT, [](int) { told_to_stop = true; });
  stamp_counters counters;
  std::atomic<unsigned> running{options.connections};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.connections; ++i)
    threads.emplace_back([&, i] {
      const auto writer = options.writer + i;
      const auto name =
        options.logs / ("writer" + std::to_string(writer) + "-" + std::to_string(options.stamps.first_epoch));
      try {
        stamp_client client(options.stamps, writer, name.string() + ".log", name.string() + ".garbled", counters);
        client.run(told_to_stop);
      } catch (const std::exception& e) {
        // Without its log a history proves nothing.
        std::cerr << "varve_stamps: " << e.what() << std::endl;
        std::_Exit(2);
      }
      --running;
    });
  using clock = std::chrono::steady_clock;
  const auto seconds = [](double x) {
    return std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(x));
  };
  const auto end = clock::now() + seconds(options.seconds);
  auto next_line = clock::now() + std::chrono::seconds{1};
  while (running && !told_to_stop && clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    if (options.progress && clock::now() >= next_line) {
      next_line += std::chrono::seconds{1};
      std::cout << summary(counters).dump() << std::endl;
    }
  }
  told_to_stop = true;
  for (const auto limit = clock::now() + seconds(options.drain_seconds); running && clock::now() < limit;)
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  auto result = summary(counters);
  result["undrained"] = running.load();
  std::cout << result.dump() << std::endl;
  const auto whole = !options.stamps.sweep || counters.swept == options.connections;
  // A connection that hangs has its thread, and what it waits for is in the log as begun.
  std::_Exit(counters.garbled || !whole ? 1 : 0);
}

int check(const std::vector<std::filesystem::path>& paths) {
  const auto all = read_logs(paths);
  const auto result = check_history(all);
  nlohmann::json out{{"operations", all.operations.size()},
                     {"blocks", result.blocks},
                     {"reads", all.reads},
                     {"writes", all.writes},
                     {"failed", all.failed},
                     {"lost", all.lost},
                     {"unanswered", all.unanswered},
                     {"garbled", all.garbled.size()},
                     {"violations", nlohmann::json::array()}};
  for (const auto& x : result.violations)
    out["violations"].push_back({{"volume", x.volume}, {"block", x.block}, {"what", x.text}});
  std::cout << out.dump(1) << std::endl;
  return result.violations.empty() ? 0 : 1;
}

int waits(const std::vector<std::filesystem::path>& paths, const std::string& windows) {
  std::vector<wait_window> wanted;
  std::ifstream file(windows);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    wait_window x;
    auto well = static_cast<bool>(words >> x.from >> x.to >> x.volume);
    for (uint64_t block; well && words >> block;)
      x.blocks.insert(block);
    if (!well || !words.eof() || x.blocks.empty()) {
      std::cerr << windows << ": \"" << line << "\": expected FROM_NS TO_NS VOLUME BLOCK.." << std::endl;
      return 2;
    }
    wanted.push_back(x);
  }
  find_waits(paths, wanted);
  nlohmann::json out = nlohmann::json::array();
  for (const auto& x : wanted)
    out.push_back({{"longest_ms", static_cast<double>(x.longest) / 1e6},
                   {"answered", x.answered},
                   {"refused", x.refused},
                   {"waiting", x.waiting}});
  std::cout << out.dump(1) << std::endl;
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  CLI::App app{"Stamps blocks of volumes over NBD and checks what was read."};
  app.require_subcommand(1);
  run_options options;
  auto* running = app.add_subcommand("run", "read and write one volume");
  auto& s = options.stamps;
  running->add_option("--uri", s.uri, "as `volume attach` prints it")->required();
  running->add_option("--logs", options.logs, "a folder: gets writerN-EPOCH.log for each connection")->required();
  running->add_option("--volume", s.volume, "its number in the history");
  running->add_option("--writer", options.writer, "the first connection's; the others' follow");
  running->add_option("--connections", options.connections)->check(CLI::Range(1, 256));
  running->add_option("--first", s.first, "block");
  running->add_option("--blocks", s.blocks)->check(CLI::PositiveNumber);
  running->add_option("--only", s.only, "blocks, instead of --first and --blocks")->delimiter(',');
  running->add_option("--stride", s.stride_bytes, "bytes between blocks")
    ->check(CLI::Range(uint64_t{block_bytes}, uint64_t{1} << 40));
  running->add_option("--reads", s.reads_percent, "percent")->check(CLI::Range(0, 100));
  running->add_option("--depth", s.depth, "requests in flight on each connection")->check(CLI::Range(1, 1024));
  running->add_option("--rate", s.rate, "operations a second on each connection; 0: no limit");
  running->add_option("--flush-every", s.flush_every, "writes; 0: never");
  running->add_flag("--sweep", s.sweep, "read each block once, on each connection");
  running->add_option("--epoch", s.first_epoch, "of the first connection")->check(CLI::PositiveNumber);
  running->add_option("--seed", s.seed);
  running->add_option("--seconds", options.seconds, "then stop (also at SIGTERM)");
  running->add_option("--drain", options.drain_seconds, "how long to wait for what is in flight then");
  running->add_flag("--progress", options.progress, "a line of JSON each second");
  std::vector<std::filesystem::path> logs;
  auto* checking = app.add_subcommand("check", "is each block a register?");
  checking->add_option("logs", logs)->required();
  std::string windows;
  auto* waiting = app.add_subcommand("waits", "how long requests waited");
  waiting->add_option("--windows", windows, "a file of lines FROM_NS TO_NS VOLUME BLOCK..")->required();
  waiting->add_option("logs", logs)->required();
  CLI11_PARSE(app, argc, argv);
  try {
    return *running ? run(options) : *checking ? check(logs) : waits(logs, windows);
  } catch (const std::exception& e) {
    std::cerr << "varve_stamps: " << e.what() << std::endl;
    return 2;
  }
}
