#include "runtime/cli/output.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include <fmt/format.h>

namespace varve::cli {

namespace {

double seconds(caf::timespan x) {
  return std::chrono::duration<double>(x).count();
}

// Columns count letters, not bytes.
size_t width(const std::string& x) {
  return static_cast<size_t>(std::count_if(x.begin(), x.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

template <class T>
nlohmann::json or_null(bool is_known, const T& x) {
  return is_known ? nlohmann::json(x) : nlohmann::json(nullptr);
}

} // namespace

void table::print(bool headers) const {
  std::fputs(text(headers).c_str(), stdout);
}

std::string table::text(bool headers) const {
  std::string lines;
  std::vector<size_t> widths;
  for (const auto& x : head_)
    widths.push_back(headers ? width(x) - x.starts_with('>') : 0);
  for (const auto& row : rows_)
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], width(row[i]));
  auto line = [&](const std::vector<std::string>& cells, bool is_head) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      const bool right = head_[i].starts_with('>');
      const auto cell = is_head && right ? cells[i].substr(1) : cells[i];
      const std::string pad(widths[i] - width(cell), ' ');
      text += (i ? "  " : "") + (right ? pad + cell : cell + pad);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    lines += text + '\n';
  };
  if (headers)
    line(head_, true);
  for (const auto& row : rows_)
    line(row, false);
  return lines;
}

std::string utc(uint64_t seconds) {
  const auto at = static_cast<time_t>(seconds);
  std::tm t{};
  char text[32];
  if (seconds == 0 || !::gmtime_r(&at, &t) || !std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &t))
    return "-";
  return text;
}

std::string known(bool is_known, std::string text) {
  return is_known ? std::move(text) : "unknown";
}

std::string percent(double x) {
  return fmt::format("{:.0f}%", std::min(100.0, std::max(0.0, x)));
}

std::string bar(double percent) {
  constexpr int cells = 30;
  const int full = static_cast<int>(std::clamp(percent, 0.0, 100.0) / 100 * cells);
  return '[' + std::string(static_cast<size_t>(full), '#') + std::string(static_cast<size_t>(cells - full), '.') + ']';
}

nlohmann::json to_json(const volume_info& x) {
  const auto& spec = x.record.spec;
  constexpr const char* sensitivities[] = {"low", "normal", "high"};
  auto attachments = nlohmann::json::array();
  for (const auto& a : x.record.attachments)
    attachments.push_back({{"host", a.host}, {"holder", a.holder.value()}});
  constexpr const char* profiles[] = {"balanced", "latency", "capacity"};
  return {{"id", x.record.id.value()},
          {"name", spec.name},
          {"size", spec.size_bytes},
          {"shard_size", spec.shard_size},
          {"volatile", spec.is_volatile},
          {"tier", spec.tier},
          {"sensitivity", sensitivities[static_cast<size_t>(spec.sensitive) % 3]},
          {"profile", profiles[static_cast<size_t>(spec.profile) % 3]},
          {"created_at", x.record.created_at},
          {"attached", x.record.attached()},
          {"attachments", attachments},
          {"removing", x.record.removing},
          {"shards", or_null(x.shards_known(), x.shards)},
          {"allocated", or_null(x.contents_known, x.allocated_bytes)},
          {"uri", or_null(x.uri_known(), x.uri)},
          {"connections", or_null(x.clients_known, x.connections)}};
}

nlohmann::json to_json(const attachment& x) {
  return {{"volume_id", x.volume.value()}, {"host", x.host}, {"uri", x.uri}, {"socket", x.socket_path}};
}

nlohmann::json to_json(const shard_row& x) {
  return {{"index", x.home.id.index.value()},
          {"offset", x.offset},
          {"size", x.size},
          {"tier", x.home.tier},
          {"node", x.node},
          {"generation", x.home.of.value()},
          {"epoch", x.home.fence.value()},
          {"allocated", x.allocated_bytes},
          {"active", x.active},
          {"reads", x.reads},
          {"writes", x.writes},
          {"lease", x.lease},
          {"migration", x.migration.value()}};
}

nlohmann::json to_json(const tier_row& x) {
  return {{"name", x.name},
          {"node", x.node},
          {"kind", x.kind},
          {"volatile", x.is_volatile},
          {"io", x.io},
          {"directory", x.directory},
          {"capacity", x.capacity_bytes},
          {"used", x.used_bytes},
          {"shards", x.shards},
          {"active_shards", x.active_shards},
          {"cost", x.cost},
          {"emulated", x.emulated},
          {"state", x.state},
          {"problem", x.problem},
          {"read_latency", seconds(x.read_latency)},
          {"write_latency", seconds(x.write_latency)},
          {"sync_latency", seconds(x.sync_latency)},
          {"read_bytes_per_second", x.read_bytes_per_second},
          {"written_bytes_per_second", x.written_bytes_per_second},
          {"reads", x.reads},
          {"writes", x.writes},
          {"syncs", x.syncs},
          {"read_bytes", x.read_bytes},
          {"written_bytes", x.written_bytes},
          {"checksum_mismatches", x.checksum_mismatches},
          {"id", x.id}};
}

nlohmann::json to_json(const lease_info& x, const std::string& volume_name, const std::string& host) {
  const auto& g = x.grant;
  return {{"id", g.id.value()},
          {"volume", volume_name},
          {"shard", g.home.id.index.value()},
          {"count", g.count},
          {"mode", to_string(g.mode)},
          {"holder", g.holder.value()},
          {"host", or_null(!host.empty(), host)},
          {"epoch", g.fence.value()},
          {"term", seconds(g.term)},
          {"remaining", seconds(x.remaining)},
          {"state", x.state},
          {"tier", g.home.tier},
          {"limit", to_string(g.limit)}};
}

nlohmann::json to_json(const lease_event& x, const std::string& volume_name, const std::string& host) {
  const auto& g = x.grant;
  return {{"number", x.number},
          {"at", x.at},
          {"what", to_string(x.what)},
          {"why", x.why},
          {"id", g.id.value()},
          {"volume", volume_name},
          {"shard", g.home.id.index.value()},
          {"count", g.count},
          {"mode", to_string(g.mode)},
          {"holder", g.holder.value()},
          {"host", or_null(!host.empty(), host)},
          {"epoch", g.fence.value()},
          {"term", seconds(g.term)},
          {"tier", g.home.tier}};
}

nlohmann::json to_json(const migration_progress& x, const std::string& volume_name) {
  const auto& r = x.record;
  return {{"id", r.id.value()},
          {"volume", volume_name},
          {"shard", r.shard.index.value()},
          {"from", r.from_tier},
          {"to", r.to_tier},
          {"state", to_string(r.state)},
          {"reason", r.reason},
          {"percent", x.percent},
          {"bytes_done", x.bytes_done},
          {"bytes_total", x.bytes_total},
          {"bytes_per_second", x.bytes_per_second},
          {"remaining", seconds(x.remaining)},
          {"paused", x.paused},
          {"mirroring", x.mirroring},
          {"throttled_by", x.throttled_by},
          {"last_error", x.last_error},
          {"blocks_verified", x.blocks_verified},
          {"verify_failures", x.verify_failures},
          {"gate_closed", seconds(x.gate_closed)},
          {"started_at", r.started_at},
          {"ended_at", r.ended_at}};
}

nlohmann::json to_json(const node_status& x) {
  auto findings = nlohmann::json::array();
  for (const auto& f : x.findings)
    findings.push_back({{"code", f.code}, {"severity", f.severity}, {"text", f.text}});
  return {{"node", x.node},
          {"version", x.version},
          {"health", x.health},
          {"findings", findings},
          {"up_time", seconds(x.up_time)},
          {"volumes", x.volumes},
          {"attached_volumes", x.attached_volumes},
          {"shards", x.shards},
          {"leases", x.leases},
          {"migrations_running", x.migrations_running},
          {"manager_incarnation", x.manager_incarnation},
          {"ring", x.ring}};
}

nlohmann::json to_json(const member_info& x) {
  return {{"node", x.node},
          {"roles", x.roles},
          {"state", to_string(x.state)},
          {"incarnation", x.incarnation},
          {"version", x.version},
          {"silent", or_null(x.incarnation != 0, seconds(x.silent))},
          {"control", x.control},
          {"data", x.data},
          {"joins", x.joins}};
}

nlohmann::json to_json(const node_condition& x) {
  return {{"node", x.node},
          {"cordoned", x.cordoned},
          {"draining", x.draining},
          {"shards", or_null(x.counted, x.shards)},
          {"moving", x.moving},
          {"stuck", x.stuck},
          {"volumes_attached", or_null(x.counted, x.volumes_attached)},
          {"problem", x.problem}};
}

nlohmann::json to_json(const node_verdict& x) {
  auto reasons = nlohmann::json::array();
  for (const auto& r : x.reasons)
    reasons.push_back({{"code", r.code}, {"text", r.text}});
  return {{"ok", x.ok}, {"reasons", reasons}};
}

std::string reasons_of(const node_verdict& x) {
  std::string result;
  for (const auto& r : x.reasons)
    result += (result.empty() ? "" : "; ") + r.code + ": " + r.text;
  return result;
}

nlohmann::json to_json(const cluster_view& x) {
  auto members = nlohmann::json::array(), findings = nlohmann::json::array();
  for (const auto& m : x.members)
    members.push_back(to_json(m));
  for (const auto& f : x.findings)
    findings.push_back({{"code", f.code}, {"severity", f.severity}, {"text", f.text}});
  return {{"cluster", x.cluster}, {"node", x.node},     {"leader", or_null(!x.leader.empty(), x.leader)},
          {"seen_by", x.seen_by}, {"health", x.health}, {"findings", findings},
          {"nodes", members}};
}

nlohmann::json to_json(const event& x) {
  return {{"at", x.at}, {"code", x.code}, {"text", x.text}};
}

nlohmann::json to_json(const actor_info& x) {
  return {{"path", x.path},         {"type", x.type},        {"alive", x.alive},
          {"restarts", x.restarts}, {"age", seconds(x.age)}, {"last_error", x.last_error}};
}

} // namespace varve::cli
