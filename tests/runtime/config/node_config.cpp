#include "runtime/config/node_config.hpp"

#include <algorithm>
#include <cstdlib>

#include <boost/test/unit_test.hpp>

namespace varve {

using namespace std::chrono_literals;

namespace {

const std::string tier = "[[tier]]\nname = \"fast\"\nkind = \"file\"\npath = \"t\"\ncapacity = \"1GiB\"\n";

struct outcome {
  node_config config;
  std::vector<std::string> problems;
  config_findings findings;
};

outcome parse(const std::string& text, config_overrides overrides = {}) {
  outcome x;
  x.config = parse_config(text, "/etc/varve/n.toml", overrides, x.findings);
  for (const auto& p : x.findings.problems)
    x.problems.push_back(to_string(p));
  return x;
}

// What is said about the one problem in `text`, without the file's name.
std::string refusal(const std::string& text) {
  auto x = parse(text);
  BOOST_REQUIRE_MESSAGE(x.problems.size() == 1, x.problems.size()
                                                  << " problems with " << text
                                                  << (x.problems.empty() ? "" : x.problems[0] + x.problems.back()));
  BOOST_REQUIRE(x.problems[0].starts_with("/etc/varve/n.toml:"));
  return x.problems[0].substr(18);
}

// The same after a good tier of five lines.
std::string refusal_after_tier(const std::string& text) {
  return refusal(tier + text);
}

} // namespace

BOOST_AUTO_TEST_CASE(the_smallest_file_is_one_durable_tier) {
  auto x = parse(tier);
  BOOST_TEST(x.problems.empty());
  BOOST_REQUIRE(x.config.tiers.size() == 1u);
  BOOST_TEST(x.config.data_dir == "/etc/varve/varve-data");
  BOOST_TEST(x.config.tiers[0].path == "/etc/varve/varve-data/t");
  BOOST_TEST(x.config.tiers[0].capacity_bytes == 1ull << 30);
  BOOST_TEST((x.config.lease.term == 45s));
  BOOST_TEST(x.config.rpc_socket == default_rpc_socket());
}

BOOST_AUTO_TEST_CASE(every_key_is_read) {
  auto x = parse("[node]\nname='n1'\ndata_dir='d'\nrun_dir='r'\nreactors=3\nio='threads'\nstop_timeout='5s'\n"
                 "[volume]\nshard_size='256KiB'\non_unavailable='error after 30s'\n"
                 "[lease]\nterm='60s'\nrenew='10s'\ndrift='2s'\ngrace='3s'\nfailover='20s'\n"
                 "[migration]\nbudget='1MiB'\nconcurrent=5\n"
                 "[nbd]\nconnections=3\nrequest_size='1MiB'\nrequests=7\nhandshake_timeout='2s'\n"
                 "[rpc]\nsocket='s'\nconnections=9\ntimeout='4s'\n[http]\nlisten='[::1]:80'\n"
                 "[log]\nlevel='debug'\nfile='l'\n[debug]\nallow_kill=true\nholder_clock=false\n"
                 "[[tier]]\nname='m'\nkind='memory'\ncapacity=1048576\ncost=1.5\n"
                 "[[tier]]\nname='f'\nkind='file'\npath='/t'\nio='buffered'\ncapacity='2GiB'\ncheckpoint_after='3s'\n"
                 "emulate={read_latency='5ms',write_latency='6ms',bandwidth='1MiB'}\n");
  for (const auto& p : x.problems)
    BOOST_ERROR(p);
  const auto& c = x.config;
  BOOST_TEST(c.name == "n1");
  BOOST_TEST(c.data_dir == "/etc/varve/d");
  BOOST_TEST(c.run_dir == "/etc/varve/r");
  BOOST_TEST(c.reactors == 3u);
  BOOST_TEST((c.io == ring_choice::threads));
  BOOST_TEST((c.stop_timeout == 5s));
  BOOST_TEST(c.shard_size == 256u << 10);
  BOOST_TEST((c.error_after == 30s));
  BOOST_TEST((c.lease.term == 60s && c.lease.renew == 10s && c.lease.drift == 2s && c.lease.grace == 3s));
  BOOST_TEST((c.lease.failover == 20s));
  BOOST_TEST(c.migration_budget == 1u << 20);
  BOOST_TEST(c.migrations_concurrent == 5u);
  BOOST_TEST((c.nbd.connections_max == 3u && c.nbd.request_bytes_max == 1u << 20 && c.nbd.requests_max == 7u));
  BOOST_TEST((c.nbd.handshake_timeout == 2s));
  BOOST_TEST(c.rpc_socket == "/etc/varve/r/s");
  BOOST_TEST(c.rpc_connections_max == 9u);
  BOOST_TEST((c.rpc_timeout == 4s));
  BOOST_TEST(c.http_host == "::1");
  BOOST_TEST(c.http_port == 80);
  BOOST_TEST(c.log_level == "debug");
  BOOST_TEST(c.log_file == "/etc/varve/d/l");
  BOOST_TEST(c.allow_kill);
  BOOST_TEST(!c.holder_clock);
  BOOST_REQUIRE(c.tiers.size() == 2u);
  BOOST_TEST((c.tiers[0].kind == tier_kind::memory && c.tiers[0].cost == 1.5));
  BOOST_TEST((c.tiers[1].io == file_io::buffered && c.tiers[1].path == "/t"));
  BOOST_TEST((c.tiers[1].checkpoint_after == 3s));
  BOOST_TEST((c.tiers[1].emulate.read_latency == 5ms && c.tiers[1].emulate.write_latency == 6ms));
  BOOST_TEST(c.tiers[1].emulate.bandwidth_bytes_per_second == 1u << 20);
}

BOOST_AUTO_TEST_CASE(an_unknown_key_is_refused_with_the_nearest_known_one) {
  BOOST_TEST(refusal_after_tier("capcity = 1\n") == "6:1: unknown key \"capcity\" in [tier[fast]]; expected capacity");
  BOOST_TEST(refusal_after_tier("[leese]\n").starts_with("6:2: unknown key \"leese\"; expected lease"));
  BOOST_TEST(refusal_after_tier("[lease]\n  trem = '45s'\n") == "7:3: unknown key \"trem\" in [lease]; expected term");
  BOOST_TEST(refusal_after_tier("[debug]\nzzzzzz = 1\n") ==
             "7:1: unknown key \"zzzzzz\" in [debug]; expected one of allow_kill, holder_clock");
}

BOOST_AUTO_TEST_CASE(a_wrong_type_is_refused_where_it_stands) {
  BOOST_TEST(refusal_after_tier("[node]\nname = 5\n") ==
             "7:8: node.name: an integer is not possible; expected a string");
  BOOST_TEST(refusal_after_tier("[node]\nreactors = '5'\n") ==
             "7:12: node.reactors: a string is not possible; expected an integer");
  BOOST_TEST(refusal_after_tier("[debug]\nallow_kill = 'yes'\n") ==
             "7:14: debug.allow_kill: a string is not possible; expected true or false");
  BOOST_TEST(refusal_after_tier("[lease]\nterm = 45\n") == "7:8: lease.term: an integer is not possible; expected a "
                                                           "duration such as \"5ms\", 1s to 1h");
  BOOST_TEST(refusal_after_tier("cost = 'much'\n") ==
             "6:8: tier[fast].cost: a string is not possible; expected a number");
  BOOST_TEST(refusal_after_tier("emulate = 5\n") ==
             "6:11: tier[fast].emulate: an integer is not possible; expected a table");
  BOOST_TEST(refusal("lease = 4\n" + tier) == "1:9: lease: an integer is not possible; expected a table");
  BOOST_TEST(refusal("tier = 4\n") == "1:8: tier: it is no list of tables; expected [[tier]] before each tier");
}

BOOST_AUTO_TEST_CASE(a_value_out_of_range_is_refused) {
  BOOST_TEST(refusal_after_tier("[node]\nreactors = 65\n")
               .starts_with("7:12: node.reactors: 65 is out of range; expected 0 to 64"));
  BOOST_TEST(refusal_after_tier("[node]\nreactors = -1\n").starts_with("7:12: node.reactors: -1 is out of range"));
  BOOST_TEST(refusal_after_tier("[node]\nio = 'aio'\n") ==
             "7:6: node.io: \"aio\" is not possible; expected one of \"auto\", \"io_uring\", \"threads\"");
  BOOST_TEST(refusal_after_tier("[node]\nname = 'a b'\n").starts_with("7:8: node.name: \"a b\" is no name"));
  BOOST_TEST(refusal_after_tier("[node]\ndata_dir = ''\n").starts_with("7:12: node.data_dir: it is empty"));
  BOOST_TEST(refusal_after_tier("[volume]\nshard_size = '3MiB'\n")
               .starts_with("7:14: volume.shard_size: 3MiB is no power of two"));
  BOOST_TEST(refusal_after_tier("[volume]\nshard_size = '128KiB'\n")
               .starts_with("7:14: volume.shard_size: \"128KiB\" is out of range"));
  BOOST_TEST(refusal_after_tier("[volume]\non_unavailable = 'explode'\n")
               .starts_with("7:18: volume.on_unavailable: \"explode\""));
  BOOST_TEST(
    refusal_after_tier("[volume]\non_unavailable = 'error after x'\n").starts_with("7:18: volume.on_unavailable"));
  BOOST_TEST(refusal_after_tier("[migration]\nbudget = '5 apples'\n")
               .starts_with("7:10: migration.budget: \"5 apples\": no unit \"apples\""));
  BOOST_TEST(refusal_after_tier("[log]\nlevel = 'loud'\n").starts_with("7:9: log.level: \"loud\" is not possible"));
  BOOST_TEST(refusal_after_tier("cost = -1.0\n").starts_with("6:8: tier[fast].cost: -1 is out of range"));
}

BOOST_AUTO_TEST_CASE(a_sensitive_term_is_short_and_outlasts_a_failover_too) {
  auto term = [](const std::string& lease) { return parse(tier + "[lease]\n" + lease).config.lease.term_sensitive(); };
  BOOST_TEST((term("") == 20s));
  // Never longer than any other's.
  BOOST_TEST((term("term='15s'\nrenew='2s'\n") == 15s));
  BOOST_TEST((term("term='2m'\nfailover='30s'\n") == 47s + 1ms));
  BOOST_TEST((term("term='2m'\nfailover='30s'\nrenew='1m'\n") == 48s + 1ms));
}

BOOST_AUTO_TEST_CASE(leases_that_cannot_outlast_a_failover_are_refused) {
  BOOST_TEST(refusal_after_tier("[lease]\nterm = '10s'\nrenew = '10s'\n") ==
             "8:9: lease.renew: 10s is not within the term; expected less than term = 10s");
  BOOST_TEST(
    refusal_after_tier("[lease]\nterm = '27s'\n") ==
    "7:8: lease.term: term − drift − renew = 11s does not outlast a failover; expected more than failover + 1s = 11s");
  BOOST_TEST(parse(tier + "[lease]\nterm = '28s'\n").problems.empty());
  BOOST_TEST(
    refusal_after_tier("[lease]\ndrift = '45s'\n").starts_with("7:9: lease.drift: 45s is not within the term"));
  BOOST_TEST(
    refusal_after_tier("[lease]\ngrace = '45s'\n").starts_with("7:9: lease.grace: 45s is not within the term"));
}

BOOST_AUTO_TEST_CASE(tiers_that_cannot_be_are_refused) {
  BOOST_TEST(refusal("") == "1:1: tier: there is none; expected at least one [[tier]] of kind \"file\"");
  BOOST_TEST(refusal("[[tier]]\nname='m'\nkind='memory'\ncapacity='1GiB'\n").find("no tier is durable") !=
             std::string::npos);
  auto twice = parse(tier + tier);
  BOOST_REQUIRE(twice.problems.size() == 2u);
  BOOST_TEST(twice.problems[0] ==
             "/etc/varve/n.toml:7:8: tier[fast].name: another tier has the name \"fast\"; expected a name of its own");
  BOOST_TEST(twice.problems[1].starts_with("/etc/varve/n.toml:9:8: tier[fast].path: another tier has the folder"));
  BOOST_TEST(refusal("[[tier]]\nname='f'\nkind='file'\npath='t'\ncapacity=0\n")
               .starts_with("5:10: tier[f].capacity: 0 bytes is out of range"));
  BOOST_TEST(
    refusal("[[tier]]\nname='f'\nkind='file'\npath='t'\n").starts_with("1:1: tier[f].capacity: it is missing"));
  BOOST_TEST(
    refusal("[[tier]]\nname='f'\nkind='file'\ncapacity='1GiB'\n").starts_with("1:1: tier[f].path: it is missing"));
  BOOST_TEST(
    refusal("[[tier]]\nname='f'\npath='t'\ncapacity='1GiB'\n").starts_with("1:1: tier[f].kind: it is missing"));
  BOOST_TEST(
    refusal("[[tier]]\nkind='file'\npath='t'\ncapacity='1GiB'\n").starts_with("1:1: tier[0].name: it is missing"));
  BOOST_TEST(refusal(tier + "[[tier]]\nname='m'\nkind='memory'\ncapacity='1GiB'\npath='x'\n")
               .starts_with("10:6: tier[m].path: a memory tier has none"));
  BOOST_TEST(refusal(tier + "[[tier]]\nname='m'\nkind='memory'\ncapacity='1GiB'\nio='direct'\n")
               .starts_with("10:4: tier[m].io: a memory tier has none"));
  BOOST_TEST(refusal(tier + "[[tier]]\nname='m'\nkind='memory'\ncapacity='1GiB'\ncheckpoint_after='1s'\n")
               .starts_with("10:18: tier[m].checkpoint_after: a memory tier has none"));
}

BOOST_AUTO_TEST_CASE(http_stays_on_loopback) {
  BOOST_TEST(refusal_after_tier("[http]\nlisten = '0.0.0.0:9480'\n")
               .starts_with("7:10: http.listen: \"0.0.0.0\" is not a loopback address"));
  BOOST_TEST(refusal_after_tier("[http]\nlisten = '127.evil.example:80'\n").find("not a loopback") !=
             std::string::npos);
  BOOST_TEST(refusal_after_tier("[http]\nlisten = '127.0.0.1'\n").find("no address with a port") != std::string::npos);
  BOOST_TEST(refusal_after_tier("[http]\nlisten = '127.0.0.1:65536'\n").find("no address with a port") !=
             std::string::npos);
  BOOST_TEST(refusal_after_tier("[http]\nlisten = ''\n").find("no address with a port") != std::string::npos);
  BOOST_TEST(parse(tier + "[http]\nlisten = 'off'\n").config.http_host.empty());
}

BOOST_AUTO_TEST_CASE(a_socket_path_that_is_too_long_for_the_kernel_is_refused) {
  BOOST_TEST(refusal_after_tier("[node]\nrun_dir = '/" + std::string(110, 'x') + "'\n").find("at most 107") !=
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(all_problems_are_told_at_once_in_the_order_of_the_file) {
  auto x = parse("[node]\nreactors = 100\nnmae = 'x'\n[lease]\nterm = 5\n");
  BOOST_REQUIRE(x.problems.size() == 4u);
  BOOST_TEST(x.problems[0].find(":1:1: tier: there is none") != std::string::npos);
  BOOST_TEST(x.problems[1].find(":2:12: node.reactors") != std::string::npos);
  BOOST_TEST(x.problems[2].find(":3:1: unknown key \"nmae\"") != std::string::npos);
  BOOST_TEST(x.problems[3].find(":5:8: lease.term") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(broken_toml_is_told_with_its_place) {
  auto x = parse("[node]\nname = \n");
  BOOST_REQUIRE(x.problems.size() == 1u);
  BOOST_TEST(x.problems[0].starts_with("/etc/varve/n.toml:2:"));
  config_findings findings;
  read_config("/nonexistent/n.toml", {}, findings);
  BOOST_REQUIRE(findings.problems.size() == 1u);
  BOOST_TEST(to_string(findings.problems[0]) == "/nonexistent/n.toml: cannot be read; expected a TOML file");
}

BOOST_AUTO_TEST_CASE(the_environment_is_expanded) {
  ::setenv("VARVE_TEST_NAME", "from-env", 1);
  ::unsetenv("VARVE_TEST_NOT_SET");
  BOOST_TEST(parse(tier + "[node]\nname = '${VARVE_TEST_NAME}-1'\n").config.name == "from-env-1");
  BOOST_TEST(refusal_after_tier("[node]\nname = '${VARVE_TEST_NOT_SET}'\n").find("VARVE_TEST_NOT_SET is not set") !=
             std::string::npos);
  BOOST_TEST(refusal_after_tier("[node]\nname = '${VARVE'\n").find("without \"}\"") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(overrides_win_and_say_so) {
  auto x = parse(tier + "[node]\ndata_dir = 'a'\n", {"/over/d", "/over/r"});
  BOOST_TEST(x.config.data_dir == "/over/d");
  BOOST_TEST(x.config.tiers[0].path == "/over/d/t");
  BOOST_TEST(x.config.rpc_socket == "/over/r/varved.sock");
  auto origin = [&](const std::string& table, const std::string& key) {
    auto at = std::find_if(x.findings.values.begin(), x.findings.values.end(),
                           [&](const auto& v) { return v.table == table && v.key == key; });
    return at == x.findings.values.end() ? "absent" : at->literal + " " + at->origin;
  };
  BOOST_TEST(origin("node", "data_dir") == "\"/over/d\" --data-dir");
  BOOST_TEST(origin("tier[fast]", "path") == "\"/over/d/t\" /etc/varve/n.toml:4");
  BOOST_TEST(origin("lease", "term") == "\"45s\" default");
}

BOOST_AUTO_TEST_CASE(the_configs_that_are_shipped_are_good) {
  config_findings of_etcd;
  BOOST_TEST((read_config(VARVE_SOURCE_DIR "/configs/etcd.toml", {}, of_etcd).catalog.kind == catalog_kind::etcd));
  for (const auto& p : of_etcd.problems)
    BOOST_ERROR(to_string(p));
  config_findings findings;
  auto x = read_config(VARVE_SOURCE_DIR "/configs/laptop.toml", {}, findings);
  for (const auto& p : findings.problems)
    BOOST_ERROR(to_string(p));
  BOOST_REQUIRE(x.tiers.size() == 3u);
  BOOST_TEST((x.tiers[0].kind == tier_kind::memory));
  BOOST_TEST((x.tiers[2].emulate.read_latency == 5ms));
}

} // namespace varve
