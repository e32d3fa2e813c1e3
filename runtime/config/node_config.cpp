#include "runtime/config/node_config.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/config/catalog_config.hpp"
#include "runtime/config/config_parts.hpp"
#include "runtime/config/table_reader.hpp"
#include "runtime/config/units.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr std::chrono::nanoseconds day = 24h;

void check_socket_path(table_reader& t, std::string_view key, const std::string& path) {
  if (path.size() >= sizeof(sockaddr_un::sun_path))
    t.refuse(key, fmt::format("socket path \"{}\" has {} bytes", path, path.size()),
             fmt::format("at most {}: a shorter run_dir", sizeof(sockaddr_un::sun_path) - 1));
}

void read_volume(table_reader t, node_config& x) {
  if (t.size("shard_size", x.shard_size, shard_size_min, shard_size_max) && !std::has_single_bit(x.shard_size))
    t.refuse("shard_size", format_size(x.shard_size) + " is no power of two", "a power of two, 256KiB to 1GiB");
  std::string rule = "park";
  constexpr auto expected = "\"park\", or \"error after D\" with a duration D of 1s to 1d";
  if (t.text("on_unavailable", rule) && rule != "park") {
    constexpr std::string_view prefix = "error after ";
    std::string problem;
    const auto after =
      rule.starts_with(prefix) ? parse_duration(std::string_view{rule}.substr(prefix.size()), problem) : std::nullopt;
    if (after && *after >= 1s && *after <= day)
      x.error_after = *after;
    else
      t.refuse("on_unavailable", '"' + rule + "\" is not possible", expected);
  }
  t.finish();
}

void read_lease(table_reader t, lease_config& x) {
  t.duration("term", x.term, 1s, 1h);
  t.duration("renew", x.renew, 100ms, 1h);
  t.duration("drift", x.drift, 0s, 1h);
  t.duration("grace", x.grace, 0s, 1h);
  t.duration("failover", x.failover, 0s, 1h);
  const auto stop_at = x.term - x.drift;
  if (x.renew >= x.term)
    t.refuse("renew", fmt::format("{} is not within the term", format_duration(x.renew)),
             fmt::format("less than term = {}", format_duration(x.term)));
  else if (x.drift >= x.term)
    t.refuse("drift", fmt::format("{} is not within the term", format_duration(x.drift)),
             fmt::format("less than term = {}", format_duration(x.term)));
  // Else a manager that fails over in time would still find holders that have stopped (DESIGN section 6).
  else if (stop_at - x.renew <= x.failover + 1s)
    t.refuse("term",
             fmt::format("term − drift − renew = {} does not outlast a failover", format_duration(stop_at - x.renew)),
             fmt::format("more than failover + 1s = {}", format_duration(x.failover + 1s)));
  if (x.grace >= x.term)
    t.refuse("grace", fmt::format("{} is not within the term", format_duration(x.grace)),
             fmt::format("less than term = {}", format_duration(x.term)));
  t.finish();
}

// Metrics and health need no login, so they stay on this machine.
bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos);
}

void read_rest(table_reader& root, node_config& x) {
  auto migration = root.table("migration");
  migration.size("budget", x.migration_budget, 0, config_size_limit);
  migration.integer("concurrent", x.migrations_concurrent, 1, 64);
  migration.finish();

  auto nbd = root.table("nbd");
  nbd.integer("connections", x.nbd.connections_max, 1, 4096);
  nbd.size("request_size", x.nbd.request_bytes_max, 1 << 20, 64 << 20);
  nbd.integer("requests", x.nbd.requests_max, 1, 4096);
  nbd.duration("handshake_timeout", x.nbd.handshake_timeout, 100ms, 1h);
  nbd.finish();

  auto rpc = root.table("rpc");
  x.rpc_socket = "varved.sock";
  rpc.text("socket", x.rpc_socket);
  x.rpc_socket = resolve_path(x.rpc_socket, x.run_dir);
  rpc.replace_value("socket", toml_literal(x.rpc_socket));
  check_socket_path(rpc, "socket", x.rpc_socket);
  rpc.integer("connections", x.rpc_connections_max, 1, 4096);
  rpc.duration("timeout", x.rpc_timeout, 100ms, 1h);
  rpc.finish();

  auto http = root.table("http");
  read_http_listen(http, "listen", x);
  http.finish();

  auto log = root.table("log");
  log.one_of<std::string>(
    "level", x.log_level,
    {{"trace", "trace"}, {"debug", "debug"}, {"info", "info"}, {"warning", "warning"}, {"error", "error"}});
  log.text("file", x.log_file);
  if (!x.log_file.empty()) {
    x.log_file = resolve_path(x.log_file, x.data_dir);
    log.replace_value("file", toml_literal(x.log_file));
  }
  log.finish();

  auto debug = root.table("debug");
  debug.boolean("allow_kill", x.allow_kill);
  debug.boolean("holder_clock", x.holder_clock);
  debug.finish();
}

} // namespace

void read_http_listen(table_reader& t, std::string_view key, node_config& x) {
  constexpr auto expected = "\"127.0.0.1:PORT\", \"[::1]:PORT\" or \"off\"";
  auto listen = x.http_host.empty() ? "off" : to_string(endpoint{x.http_host, x.http_port});
  if (!t.text(key, listen))
    return;
  const auto at = parse_endpoint(listen);
  if (listen == "off")
    x.http_host.clear();
  else if (!at)
    t.refuse(key, '"' + listen + "\" is no address with a port", expected);
  else if (!is_loopback(at->host))
    t.refuse(key, '"' + at->host + "\" is not a loopback address", expected);
  else
    x.http_host = at->host, x.http_port = at->port;
}

std::chrono::nanoseconds lease_config::term_sensitive() const {
  // Either way of renewing is enough: term − drift − renewal > failover + 1s, as read_lease checks of `term`.
  const auto beyond = drift + failover + 1s;
  const auto least = std::min(beyond + renew, beyond * 3 / 2) + 1ms;
  return std::min(term, std::max<std::chrono::nanoseconds>(20s, least));
}

std::string to_string(const config_problem& x) {
  auto place = x.file;
  if (x.line != 0)
    place += fmt::format(":{}:{}", x.line, x.column);
  return place + ": " + x.what + (x.expected.empty() ? "" : "; expected " + x.expected);
}

node_config read_config(const std::string& file, const config_overrides& overrides, config_findings& findings) {
  std::ifstream in{file, std::ios::binary};
  std::ostringstream text;
  if (std::filesystem::is_directory(file) || !in || !(text << in.rdbuf())) {
    findings.file = file;
    findings.problems.push_back({file, 0, 0, "cannot be read", "a TOML file"});
    return {};
  }
  return parse_config(text.str(), file, overrides, findings);
}

node_config parse_config(const std::string& text, const std::string& file, const config_overrides& overrides,
                         config_findings& findings) {
  findings.file = file;
  node_config x;
  toml::table table;
  try {
    table = toml::parse(text, file);
  } catch (const toml::parse_error& e) {
    const auto at = e.source().begin;
    findings.problems.push_back({file, at.line, at.column, std::string{e.description()}, "TOML"});
    return x;
  }
  table_reader root{findings, &table, "", {1, 1}};
  if (is_cluster_file(table))
    read_cluster(root, table, x, overrides, findings);
  else
    read_single_node(root, table, x, overrides, findings);
  read_volume(root.table("volume"), x);
  read_lease(root.table("lease"), x.lease);
  read_catalog(root.table("catalog"), x, std::filesystem::absolute(file).parent_path().string());
  read_rest(root, x);
  root.finish();
  std::stable_sort(findings.problems.begin(), findings.problems.end(), [](const auto& a, const auto& b) {
    return std::pair{a.line, a.column} < std::pair{b.line, b.column};
  });
  return x;
}

std::string default_run_dir() {
  if (::geteuid() == 0)
    return "/run/varve";
  if (const char* dir = std::getenv("XDG_RUNTIME_DIR"); dir && *dir == '/')
    return std::string{dir} + "/varve";
  return "/tmp/varve-" + std::to_string(::geteuid());
}

std::string default_rpc_socket() {
  return default_run_dir() + "/varved.sock";
}

} // namespace varve
