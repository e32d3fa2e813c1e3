#include "runtime/config/node_config.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/config/catalog_config.hpp"
#include "runtime/config/table_reader.hpp"
#include "runtime/config/units.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr uint64_t size_limit = 1ull << 60;
constexpr std::chrono::nanoseconds day = 24h;

bool is_name(const std::string& x) {
  const auto alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (x.empty() || x.size() > 63 || !alphanumeric(x[0]))
    return false;
  return std::all_of(x.begin(), x.end(), [&](char c) { return alphanumeric(c) || c == '-' || c == '_' || c == '.'; });
}

constexpr auto name_rule = "1 to 63 of a-z, A-Z, 0-9, '-', '_', '.', starting with a letter or digit";

std::string resolve(const std::string& path, const std::string& base) {
  namespace fs = std::filesystem;
  auto full = fs::path(path).is_absolute() ? fs::path(path) : fs::path(base) / path;
  auto text = full.lexically_normal().string();
  if (text.size() > 1 && text.back() == '/')
    text.pop_back();
  return text;
}

void check_socket_path(table_reader& t, std::string_view key, const std::string& path) {
  if (path.size() >= sizeof(sockaddr_un::sun_path))
    t.refuse(key, fmt::format("socket path \"{}\" has {} bytes", path, path.size()),
             fmt::format("at most {}: a shorter run_dir", sizeof(sockaddr_un::sun_path) - 1));
}

void override_origin(config_findings& out, std::string_view table, std::string_view key, const char* option) {
  for (auto& x : out.values)
    if (x.table == table && x.key == key)
      x.origin = option;
}

void read_node(table_reader t, node_config& x, const config_overrides& overrides, config_findings& out) {
  namespace fs = std::filesystem;
  const auto folder = fs::absolute(fs::path(out.file)).parent_path().string();
  if (t.text("name", x.name) && !is_name(x.name))
    t.refuse("name", '"' + x.name + "\" is no name", name_rule);
  x.data_dir = "varve-data";
  t.text("data_dir", x.data_dir);
  if (x.data_dir.empty())
    t.refuse("data_dir", "it is empty", "a folder");
  x.data_dir =
    overrides.data_dir.empty() ? resolve(x.data_dir, folder) : resolve(overrides.data_dir, fs::current_path().string());
  t.replace_value("data_dir", toml_literal(x.data_dir));
  if (!overrides.data_dir.empty())
    override_origin(out, "node", "data_dir", "--data-dir");
  x.run_dir = default_run_dir();
  t.text("run_dir", x.run_dir);
  x.run_dir =
    overrides.run_dir.empty() ? resolve(x.run_dir, folder) : resolve(overrides.run_dir, fs::current_path().string());
  t.replace_value("run_dir", toml_literal(x.run_dir));
  if (!overrides.run_dir.empty())
    override_origin(out, "node", "run_dir", "--run-dir");
  t.integer("reactors", x.reactors, 0, 64);
  t.one_of<ring_choice>(
    "io", x.io,
    {{"auto", ring_choice::automatic}, {"io_uring", ring_choice::io_uring}, {"threads", ring_choice::threads}});
  t.duration("stop_timeout", x.stop_timeout, 1s, 1h);
  t.finish();
}

void read_tier(table_reader t, tier_config& x, const node_config& node) {
  if (!t.text("name", x.name) && !t.has("name"))
    t.refuse("name", "it is missing", "a name for the tier");
  else if (!is_name(x.name))
    t.refuse("name", '"' + x.name + "\" is no name", name_rule);
  if (!t.one_of<tier_kind>("kind", x.kind, {{"file", tier_kind::file}, {"memory", tier_kind::memory}}) &&
      !t.has("kind"))
    t.refuse("kind", "it is missing", "\"file\" or \"memory\"");
  const bool is_file = x.kind == tier_kind::file;
  if (is_file || t.has("path"))
    t.text("path", x.path);
  if (is_file && x.path.empty())
    t.refuse("path", "it is missing", "the folder of the tier's shard files");
  if (!is_file && t.has("path"))
    t.refuse("path", "a memory tier has none", "no path, or kind = \"file\"");
  if (is_file && !x.path.empty()) {
    x.path = resolve(x.path, node.data_dir);
    t.replace_value("path", toml_literal(x.path));
  }
  if (is_file || t.has("io"))
    t.one_of<file_io>("io", x.io, {{"direct", file_io::direct}, {"buffered", file_io::buffered}});
  if (!is_file && t.has("io"))
    t.refuse("io", "a memory tier has none", "no io, or kind = \"file\"");
  if (is_file || t.has("checkpoint_after"))
    t.duration("checkpoint_after", x.checkpoint_after, 100ms, 1h);
  if (!is_file && t.has("checkpoint_after"))
    t.refuse("checkpoint_after", "a memory tier has none", "no checkpoint_after, or kind = \"file\"");
  if (!t.size("capacity", x.capacity_bytes, shard_size_min, size_limit) && !t.has("capacity"))
    t.refuse("capacity", "it is missing", "a size such as \"20GiB\"");
  t.number("cost", x.cost, 0);
  if (auto e = t.table("emulate"); t.has("emulate")) {
    e.duration("read_latency", x.emulate.read_latency, 0s, 60s);
    e.duration("write_latency", x.emulate.write_latency, 0s, 60s);
    e.size("bandwidth", x.emulate.bandwidth_bytes_per_second, 64 << 10, size_limit);
    e.finish();
  }
  t.finish();
}

void read_tiers(table_reader& root, const toml::table& file, node_config& x, config_findings& out) {
  root.know("tier");
  if (!root.has("tier")) {
    root.refuse("tier", "there is none", "at least one [[tier]] of kind \"file\"");
    return;
  }
  const auto* list = file.get_as<toml::array>("tier");
  if (!list || !list->is_homogeneous<toml::table>()) {
    root.refuse("tier", "it is no list of tables", "[[tier]] before each tier");
    return;
  }
  std::set<std::string> names, paths;
  bool durable = false;
  for (const auto& entry : *list) {
    const auto& table = *entry.as_table();
    const auto where = table.source().begin;
    tier_config tier;
    const auto* name = table.get_as<std::string>("name");
    table_reader t{out, &table, "tier[" + (name ? name->get() : std::to_string(x.tiers.size())) + ']', where};
    read_tier(t, tier, x);
    if (!tier.name.empty() && !names.insert(tier.name).second)
      t.refuse("name", "another tier has the name \"" + tier.name + '"', "a name of its own");
    if (!tier.path.empty() && !paths.insert(tier.path).second)
      t.refuse("path", "another tier has the folder \"" + tier.path + '"', "a folder of its own");
    durable = durable || tier.kind == tier_kind::file;
    x.tiers.push_back(std::move(tier));
  }
  if (!durable)
    root.refuse("tier", "no tier is durable", "at least one of kind \"file\"");
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

void read_http(table_reader t, node_config& x) {
  std::string listen = fmt::format("{}:{}", x.http_host, x.http_port);
  constexpr auto expected = "\"127.0.0.1:PORT\", \"[::1]:PORT\" or \"off\"";
  if (t.text("listen", listen)) {
    const auto colon = listen.rfind(':');
    uint64_t port = 65536;
    if (colon != std::string::npos && colon + 1 < listen.size() && listen.size() - colon <= 6 &&
        listen.find_first_not_of("0123456789", colon + 1) == std::string::npos)
      port = std::stoul(listen.substr(colon + 1));
    auto host = listen.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
      host = host.substr(1, host.size() - 2);
    if (listen == "off") {
      x.http_host.clear();
    } else if (port > 65535) {
      t.refuse("listen", '"' + listen + "\" is no address with a port", expected);
    } else if (host != "localhost" && host != "::1" &&
               !(host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos)) {
      // Metrics and health need no login, so they stay on this machine.
      t.refuse("listen", '"' + host + "\" is not a loopback address", expected);
    } else {
      x.http_host = host;
      x.http_port = static_cast<uint16_t>(port);
    }
  }
  t.finish();
}

void read_rest(table_reader& root, node_config& x) {
  auto migration = root.table("migration");
  migration.size("budget", x.migration_budget, 0, size_limit);
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
  x.rpc_socket = resolve(x.rpc_socket, x.run_dir);
  rpc.replace_value("socket", toml_literal(x.rpc_socket));
  check_socket_path(rpc, "socket", x.rpc_socket);
  rpc.integer("connections", x.rpc_connections_max, 1, 4096);
  rpc.duration("timeout", x.rpc_timeout, 100ms, 1h);
  rpc.finish();

  read_http(root.table("http"), x);

  auto log = root.table("log");
  log.one_of<std::string>(
    "level", x.log_level,
    {{"trace", "trace"}, {"debug", "debug"}, {"info", "info"}, {"warning", "warning"}, {"error", "error"}});
  log.text("file", x.log_file);
  if (!x.log_file.empty()) {
    x.log_file = resolve(x.log_file, x.data_dir);
    log.replace_value("file", toml_literal(x.log_file));
  }
  log.finish();

  auto debug = root.table("debug");
  debug.boolean("allow_kill", x.allow_kill);
  debug.finish();
}

} // namespace

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
  read_node(root.table("node"), x, overrides, findings);
  read_volume(root.table("volume"), x);
  read_lease(root.table("lease"), x.lease);
  read_catalog(root.table("catalog"), x, std::filesystem::absolute(file).parent_path().string());
  read_rest(root, x);
  read_tiers(root, table, x, findings);
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
