#include <csignal>
#include <filesystem>

#include <fmt/format.h>

#include "runtime/cli/session.hpp"
#include "runtime/config/units.hpp"
#include "runtime/trace/replay.hpp"

namespace varve::cli {

namespace {

volatile std::sig_atomic_t interrupted = 0;

void interrupt_ends_it() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  // The second one ends the program as usual.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

struct trace_arguments {
  std::string volume;
  std::string file;
  std::string duration;
  std::string speed = "1";
  size_t depth = 32;
  bool verify = false;
};

double seconds(std::chrono::nanoseconds x) {
  return std::chrono::duration<double>(x).count();
}

int record(session& s, rpc_client& node, const trace_arguments& args) {
  std::chrono::nanoseconds limit{0};
  if (!args.duration.empty()) {
    std::string problem;
    const auto given = parse_duration(args.duration, problem);
    if (!given)
      return s.fail(usage, "usage", "--duration: " + problem);
    limit = *given;
  }
  interrupt_ends_it();
  // The node writes it, from a folder of its own.
  if (auto e = node.trace_start(args.volume, std::filesystem::absolute(args.file).lexically_normal().string()))
    return s.fail(e, code_of(e) == errc::volume_detached ? "first: varve volume attach " + args.volume : "");
  const auto began = std::chrono::steady_clock::now();
  s.say(fmt::format("recording {} to {}; Ctrl-C ends it", args.volume, args.file));
  while (!interrupted && (limit.count() == 0 || std::chrono::steady_clock::now() - began < limit)) {
    node.sleep(std::chrono::milliseconds{200});
    auto x = node.trace_progress();
    if (!x)
      return s.fail(x.error());
    if (s.draws())
      fmt::print(stderr, "\r\033[K{} requests, {}, {} lost", x->records,
                 format_size_short(static_cast<double>(x->file_bytes)), x->dropped);
  }
  if (s.draws())
    fmt::print(stderr, "\r\033[K");
  auto x = node.trace_stop();
  if (!x)
    return s.fail(x.error());
  if (s.json)
    s.print({{"file", args.file}, {"requests", x->records}, {"dropped", x->dropped}, {"bytes", x->file_bytes}});
  else
    fmt::print("{}: {} requests, {} lost, {}\n", args.file, x->records, x->dropped,
               format_size_short(static_cast<double>(x->file_bytes)));
  return success;
}

int info(session& s, const std::string& file) {
  trace_summary x;
  if (auto problem = summarize(file, x); !problem.empty())
    return s.fail(refused, "bad_format", problem);
  if (x.torn_bytes)
    s.say(fmt::format("{}: the last {} bytes are torn and left out", file, x.torn_bytes));
  if (s.json) {
    nlohmann::json ops, bytes;
    for (size_t i = 0; i < 6; ++i) {
      ops[to_string(static_cast<block_op>(i))] = x.operations[i];
      bytes[to_string(static_cast<block_op>(i))] = x.bytes[i];
    }
    s.print({{"volume", x.header.volume},
             {"volume_size", x.header.volume_bytes},
             {"created_at", x.header.created_at},
             {"recordings", x.recordings},
             {"requests", x.records},
             {"dropped", x.dropped},
             {"duration", seconds(x.duration)},
             {"end", x.end},
             {"operations", ops},
             {"bytes", bytes},
             {"file_bytes", x.file_bytes},
             {"torn_bytes", x.torn_bytes}});
    return success;
  }
  table t{{"", ""}};
  t.row({"volume", fmt::format("{}, {}", x.header.volume, format_size(x.header.volume_bytes))});
  t.row({"recorded", utc(x.header.created_at)});
  t.row({"recordings", std::to_string(x.recordings)});
  t.row({"duration", format_duration_short(x.duration)});
  t.row({"requests", fmt::format("{}, {} lost", x.records, x.dropped)});
  for (size_t i = 0; i < 6; ++i)
    if (x.operations[i])
      t.row({std::string{"  "} + to_string(static_cast<block_op>(i)),
             fmt::format("{}, {}", x.operations[i], format_size_short(static_cast<double>(x.bytes[i])))});
  t.row({"reaches to", format_size_short(static_cast<double>(x.end))});
  t.row({"file", format_size_short(static_cast<double>(x.file_bytes))});
  t.print(false);
  return success;
}

nlohmann::json to_json(const latency_histogram& x) {
  return {{"count", x.count()},
          {"p50", seconds(x.percentile(0.5))},
          {"p90", seconds(x.percentile(0.9))},
          {"p99", seconds(x.percentile(0.99))},
          {"p99_9", seconds(x.percentile(0.999))},
          {"max", seconds(x.max())}};
}

void print_report(session& s, const replay_report& x, bool verified) {
  const auto elapsed = std::max(seconds(x.duration), 1e-9);
  if (s.json) {
    nlohmann::json latency{{"all", to_json(x.all)}};
    for (size_t i = 0; i < 6; ++i)
      if (x.by_op[i].count())
        latency[to_string(static_cast<block_op>(i))] = to_json(x.by_op[i]);
    nlohmann::json report{{"requests", x.requests},
                          {"errors", x.errors},
                          {"skipped", x.skipped},
                          {"seconds", seconds(x.duration)},
                          {"iops", static_cast<double>(x.requests) / elapsed},
                          {"bytes_read", x.bytes_read},
                          {"bytes_written", x.bytes_written},
                          {"lag_max", seconds(x.lag_max)},
                          {"torn_bytes", x.torn_bytes},
                          {"latency", latency}};
    if (verified) {
      report["sectors_verified"] = x.sectors_verified;
      report["sectors_bad"] = x.sectors_bad;
    }
    s.print(report);
    return;
  }
  table t{{"OPERATION", ">COUNT", ">P50", ">P90", ">P99", ">P99.9", ">MAX"}};
  auto row = [&t](const std::string& name, const latency_histogram& h) {
    t.row({name, std::to_string(h.count()), format_duration_short(h.percentile(0.5)),
           format_duration_short(h.percentile(0.9)), format_duration_short(h.percentile(0.99)),
           format_duration_short(h.percentile(0.999)), format_duration_short(h.max())});
  };
  for (size_t i = 0; i < 6; ++i)
    if (x.by_op[i].count())
      row(to_string(static_cast<block_op>(i)), x.by_op[i]);
  row("all", x.all);
  t.print(!s.no_headers);
  fmt::print("{} requests in {}: {:.0f} per second, {} read, {} written, {} errors, {} skipped\n", x.requests,
             format_duration_short(x.duration), static_cast<double>(x.requests) / elapsed,
             format_size_short(static_cast<double>(x.bytes_read)),
             format_size_short(static_cast<double>(x.bytes_written)), x.errors, x.skipped);
  if (verified)
    fmt::print("{} sectors verified, {} bad\n", x.sectors_verified, x.sectors_bad);
}

int play(session& s, rpc_client& node, const trace_arguments& args) {
  replay_options options;
  options.depth = args.depth;
  options.verify = args.verify;
  if (args.speed != "max") {
    char* end = nullptr;
    options.speed = std::strtod(args.speed.c_str(), &end);
    if (args.speed.empty() || *end != '\0' || !(options.speed >= 0) || options.speed > 1e6)
      return s.fail(usage, "usage", "--speed: \"" + args.speed + "\" is neither a factor nor max");
  } else {
    options.speed = 0;
  }
  trace_summary summary;
  trace_reader trace;
  auto problem = summarize(args.file, summary);
  if (problem.empty())
    problem = trace.open(args.file);
  if (!problem.empty())
    return s.fail(refused, "bad_format", problem);
  auto volume = node.volume_show(args.volume);
  if (!volume)
    return s.fail(volume.error());
  if (!volume->uri_known())
    return s.fail(make_error(errc::unavailable, args.volume + ": where it is served is not known yet; try again"));
  if (volume->uri.empty())
    return s.fail(make_error(errc::volume_detached, args.volume), "first: varve volume attach " + args.volume);
  options.uri = volume->uri;
  options.volume = volume->record.id.value();
  interrupt_ends_it();
  options.should_stop = [] { return interrupted != 0; };
  if (s.draws())
    options.on_progress = [&](uint64_t requests, std::chrono::microseconds at) {
      const auto share =
        summary.records ? 100.0 * static_cast<double>(requests) / static_cast<double>(summary.records) : 100;
      fmt::print(stderr, "\r\033[K{} {:>4}  {} requests, {} of {}", bar(share), percent(share), requests,
                 format_duration_short(at), format_duration_short(summary.duration));
    };
  replay_report report;
  problem = replay(trace, options, report);
  if (s.draws())
    fmt::print(stderr, "\r\033[K");
  if (!problem.empty())
    return s.fail(make_error(errc::unavailable, problem));
  if (report.torn_bytes)
    s.say(fmt::format("{}: the last {} bytes are torn and left out", args.file, report.torn_bytes));
  print_report(s, report, args.verify);
  if (report.sectors_bad && !s.json)
    return s.fail(
      make_error(errc::checksum_mismatch, fmt::format("{} sectors are not what was written", report.sectors_bad)));
  return report.sectors_bad || report.errors ? refused : success;
}

} // namespace

void add_trace_verbs(CLI::App& app, session& s) {
  auto* noun = app.add_subcommand("trace", "What a volume is asked, in a file");
  noun->require_subcommand(1);
  auto args = std::make_shared<trace_arguments>();
  auto* x = noun->add_subcommand(
    "record", "Write what a volume is asked (time, operation, offset, size) to a file, until Ctrl-C");
  x->add_option("VOLUME", args->volume)->required();
  x->add_option("FILE", args->file, "Appended to if it is a trace of the volume")->required();
  x->add_option("--duration", args->duration, "End after so long, such as 1min");
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return record(s, node, *args); }); });
  x = noun->add_subcommand("info", "Say what is in a trace");
  x->add_option("FILE", args->file)->required();
  x->callback([args, &s] { s.exit = info(s, args->file); });

  x = app.add_subcommand("replay", "Ask a volume for what a trace says. WRITES OVER ITS DATA wherever the trace wrote");
  x->add_option("FILE", args->file)->required();
  x->add_option("VOLUME", args->volume, "Attached")->required();
  x->add_option("--speed", args->speed, "Times the original, such as 2; max (or 0): as fast as it goes [1]");
  x->add_option("--depth", args->depth, "Requests under way at most [32]")->check(CLI::Range(1, 1024));
  x->add_flag("--verify", args->verify,
              "Check what is read against what this replay wrote; read all of it again at the end");
  x->callback([args, &s] { s.with_node([&](rpc_client& node) { return play(s, node, *args); }); });
}

} // namespace varve::cli
