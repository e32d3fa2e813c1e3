#include "runtime/monitoring/node_metrics.hpp"

#include <cstdio>
#include <fstream>

#include <boost/test/unit_test.hpp>
#include <unistd.h>

namespace varve {

namespace {

node_snapshot full() {
  node_snapshot x;
  x.version = "0.1.0";
  x.status.emplace();
  x.status->findings = {{"TIER_FAILED", "error", "t"}, {"TIER_FAILED", "error", "u"}};
  x.volumes.emplace(3);
  x.volumes->at(0).record.attachments.emplace_back();
  x.volumes->at(0).contents_known = x.volumes->at(1).contents_known = true;
  x.volumes->at(0).allocated_bytes = 4096;
  x.volumes->at(1).allocated_bytes = 8192;
  x.volumes->at(2).allocated_bytes = 1; // of one tier; the other did not answer
  x.tiers.resize(1);
  x.tiers[0].name = "fa\"st";
  x.tiers[0].shards = 5;
  x.tiers[0].active_shards = 2;
  x.tiers[0].checksum_mismatches = 1;
  x.leases.resize(3);
  x.leases[0].state = x.leases[1].state = x.leases[2].state = "granted";
  x.migrations.resize(2);
  x.migrations[0].record.id = migration_id{1};
  x.migrations[0].record.from_tier = "a";
  x.migrations[0].record.to_tier = "b";
  x.migrations[0].bytes_done = 100;
  x.migrations[1] = x.migrations[0];
  x.migrations[1].record.id = migration_id{2};
  x.migrations[1].record.state = migration_state::committed;
  x.migrations[1].gate_closed = std::chrono::milliseconds{3};
  x.actors = {{"management", "varve.management-supervisor", true, 2, {}, ""}};
  x.members.resize(3);
  x.members[0].state = x.members[1].state = member_state::up;
  x.members[2].state = member_state::down;
  x.remote.emplace();
  x.remote->refused_stale_epoch = 4;
  x.remote->served_written_bytes = 8192;
  x.counters[volume_id{1}].reads = 10;
  x.counters[volume_id{1}].latency_us_buckets[3] = 10;
  x.counters[volume_id{1}].latency_us_sum = 60;
  return x;
}

bool has(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

} // namespace

BOOST_AUTO_TEST_CASE(the_metrics_pass_promtool) {
  BOOST_REQUIRE_MESSAGE(std::string{VARVE_PROMTOOL}.find("NOTFOUND") == std::string::npos,
                        "promtool is in Debian's package prometheus");
  node_metrics m;
  for (const auto& text : {m.render({}), m.render(full())}) {
    char file[] = "/tmp/varve-metrics-XXXXXX";
    ::close(::mkstemp(file));
    std::ofstream{file} << text;
    FILE* tool = ::popen((std::string{VARVE_PROMTOOL} + " check metrics < " + file + " 2>&1").c_str(), "r");
    std::string said;
    for (char buffer[512]; std::fgets(buffer, sizeof buffer, tool);)
      said += buffer;
    BOOST_TEST(::pclose(tool) == 0);
    BOOST_TEST(said == "");
    ::unlink(file);
  }
}

BOOST_AUTO_TEST_CASE(values_are_those_of_the_snapshot) {
  node_metrics m;
  const auto text = m.render(full());
  BOOST_TEST(has(text, "varve_build_info{version=\"0.1.0\"} 1"));
  BOOST_TEST(has(text, "varve_health_status{code=\"TIER_FAILED\"} 1"));
  BOOST_TEST(has(text, "varve_volumes{state=\"attached\"} 1"));
  BOOST_TEST(has(text, "varve_volumes{state=\"detached\"} 2"));
  BOOST_TEST(has(text, "varve_volume_allocated_bytes 12288"));
  BOOST_TEST(has(text, "varve_volume_contents_unknown 1"));
  BOOST_TEST(has(text, "varve_volume_io_operations_total{op=\"read\"} 10"));
  BOOST_TEST(has(text, "varve_volume_io_duration_seconds_bucket{le=\"4e-06\"} 0"));
  BOOST_TEST(has(text, "varve_volume_io_duration_seconds_bucket{le=\"8e-06\"} 10"));
  BOOST_TEST(has(text, "varve_volume_io_duration_seconds_count 10"));
  BOOST_TEST(has(text, "varve_shards{tier=\"fa\\\"st\",state=\"idle\"} 3"));
  BOOST_TEST(has(text, "varve_checksum_mismatches_total{tier=\"fa\\\"st\"} 1"));
  BOOST_TEST(has(text, "varve_leases{kind=\"read\",state=\"granted\"} 3"));
  BOOST_TEST(has(text, "varve_migrations{state=\"planned\"} 1"));
  BOOST_TEST(has(text, "varve_migrations_total{result=\"committed\"} 1"));
  BOOST_TEST(has(text, "varve_migration_bytes_total{from=\"a\",to=\"b\"} 200"));
  BOOST_TEST(has(text, "varve_migration_gate_closed_seconds_bucket{le=\"0.005\"} 1"));
  BOOST_TEST(has(text, "varve_actors{type=\"varve.management-supervisor\"} 1"));
  BOOST_TEST(has(text, "varve_cluster_nodes{state=\"up\"} 2"));
  BOOST_TEST(has(text, "varve_cluster_nodes{state=\"down\"} 1"));
  BOOST_TEST(has(text, "varve_remote_refused_total{reason=\"stale_epoch\"} 4"));
  BOOST_TEST(has(text, "varve_remote_bytes_total{side=\"server\",op=\"write\"} 8192"));
  BOOST_TEST(has(m.render({}), "varve_health_status{code=\"UNKNOWN\"} 1"));
}

BOOST_AUTO_TEST_CASE(what_is_not_known_is_not_there_and_not_zero) {
  auto lines = [](std::optional<std::vector<volume_info>> volumes, const std::string& name) {
    auto x = full();
    x.volumes = std::move(volumes);
    node_metrics m;
    return m.render(x).find("\n" + name) != std::string::npos;
  };
  BOOST_TEST(lines(std::vector<volume_info>{}, "varve_volume_allocated_bytes 0\n"));
  BOOST_TEST(!lines(std::vector<volume_info>(2), "varve_volume_allocated_bytes"));
  BOOST_TEST(lines(std::vector<volume_info>(2), "varve_volume_contents_unknown 2\n"));
  BOOST_TEST(lines(std::vector<volume_info>(2), "varve_volumes{state=\"detached\"} 2\n"));
  for (auto* name :
       {"varve_volumes", "varve_volume_size_bytes", "varve_volume_allocated_bytes", "varve_volume_contents_unknown"})
    BOOST_TEST(!lines(std::nullopt, name), name);
}

BOOST_AUTO_TEST_CASE(totals_never_go_back) {
  node_metrics m;
  auto x = full();
  m.render(x);
  // The port was closed and opened: it counts anew. One migration fell out of the list, one was told of twice.
  x.counters[volume_id{1}].reads = 3;
  x.migrations.erase(x.migrations.begin());
  auto text = m.render(x);
  BOOST_TEST(has(text, "varve_volume_io_operations_total{op=\"read\"} 13"));
  BOOST_TEST(has(text, "varve_migration_bytes_total{from=\"a\",to=\"b\"} 200"));
  BOOST_TEST(has(text, "varve_migrations_total{result=\"committed\"} 1"));
  x.counters.clear();
  BOOST_TEST(has(m.render(x), "varve_volume_io_operations_total{op=\"read\"} 13"));
  x.counters[volume_id{1}].reads = 1;
  BOOST_TEST(has(m.render(x), "varve_volume_io_operations_total{op=\"read\"} 14"));
}

} // namespace varve
