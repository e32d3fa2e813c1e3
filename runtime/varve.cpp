// The command line of Varve: a client of a node's RPC; and, for a node that is stopped, a hand at its catalog.

#include <cstring>

#include <fmt/format.h>

#include "runtime/cli/session.hpp"
#include "runtime/version.hpp"

namespace {

constexpr auto footer =
  "Exit codes: 0 done; 1 refused; 2 the command line is wrong; 3 no node answers; 4 no answer in time.\n"
  "Data goes to standard output, all else to standard error. With --json failures are objects on\n"
  "standard output: {\"error\": {\"code\", \"message\"}}.";

} // namespace

int main(int argc, char** argv) {
  using namespace varve::cli;
  CLI::App app{"Varve: block volumes for virtual machines, on storage tiers", "varve"};
  session s;
  s.add_options(app);
  app.set_version_flag("--version", std::string{"varve "} + varve::version);
  app.footer(footer);
  app.require_subcommand(1);
  // Options of every verb may stand behind it.
  app.fallthrough();
  add_volume_verbs(app, s);
  add_shard_verbs(app, s);
  add_node_verbs(app, s);
  add_lease_verbs(app, s);
  add_migration_verbs(app, s);
  add_cluster_verbs(app, s);
  add_config_verbs(app, s);
  add_trace_verbs(app, s);
  add_recovery_verbs(app, s);
  add_console(app, s);
  add_completion(app, s);

  const std::vector<std::string> words(argv + 1, argv + argc);
  for (const auto& x : words)
    s.json = s.json || x == "--json";
  if (const auto problem = unknown_verb(app, words); !problem.empty())
    return s.fail(usage, "usage", problem);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e); // --help, --version
  } catch (const CLI::ParseError& e) {
    return s.fail(usage, "usage", e.what() + std::string{"\nsee: varve --help"});
  }
  return s.exit;
}
