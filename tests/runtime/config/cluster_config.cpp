#include "runtime/config/cluster_config.hpp"

#include <boost/test/unit_test.hpp>

#include "runtime/config/node_config.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

const std::string three = R"([cluster]
name = "lab"
heartbeat = "500ms"
suspect_after = "2s"
down_after = "8s"

[security]
keys = "secret"
trusted_network = true

[[node]]
name = "a"
roles = ["manager"]
control = "127.0.0.1:1"
data = "127.0.0.1:2"

[[node]]
name = "b"
roles = ["storage", "host"]
control = "[::1]:1"
data = "[::1]:2"
data_dir = "bd"
http = "off"

[[node]]
name = "c"
roles = ["manager", "storage"]
control = "c.example:1"
data = "c.example:2"

[lease]
term = "60s"

[catalog]
kind = "etcd"
endpoints = ["http://127.0.0.1:2379"]
local = true

[[tier]]
name = "b1"
node = "b"
kind = "file"
path = "t"
capacity = "1GiB"

[[tier]]
name = "c1"
node = "c"
kind = "file"
path = "t"
capacity = "1GiB"

[[tier]]
name = "c2"
node = "c"
kind = "memory"
capacity = "1GiB"
)";

struct outcome {
  node_config config;
  config_findings findings;
};

outcome parse(const std::string& text, const std::string& node = "b") {
  outcome x;
  config_overrides overrides;
  overrides.node = node;
  x.config = parse_config(text, "/etc/varve/c.toml", overrides, x.findings);
  return x;
}

std::string with(const std::string& what, const std::string& instead) {
  auto text = three;
  const auto at = text.find(what);
  BOOST_REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), instead);
}

// What is said about the one problem.
std::string refusal(const std::string& text, const std::string& node = "b") {
  auto x = parse(text, node);
  BOOST_REQUIRE_MESSAGE(x.findings.problems.size() == 1,
                        x.findings.problems.size()
                          << " problems"
                          << (x.findings.problems.empty()
                                ? ""
                                : to_string(x.findings.problems[0]) + to_string(x.findings.problems.back())));
  const auto said = to_string(x.findings.problems[0]);
  BOOST_REQUIRE(said.starts_with("/etc/varve/c.toml:"));
  return said.substr(18);
}

std::string tier_names(const node_config& x) {
  std::string result;
  for (const auto& t : x.tiers)
    result += t.name + ' ';
  return result;
}

} // namespace

BOOST_AUTO_TEST_SUITE(cluster)

BOOST_AUTO_TEST_CASE(one_file_is_the_config_of_every_node) {
  auto b = parse(three, "b");
  for (const auto& p : b.findings.problems)
    BOOST_ERROR(to_string(p));
  BOOST_TEST(b.config.name == "b");
  BOOST_TEST((b.config.roles == node_roles{false, true, true}));
  BOOST_TEST(b.config.data_dir == "/etc/varve/bd");
  BOOST_TEST(b.config.http_host.empty());
  BOOST_TEST((b.config.lease.term == 60s));
  BOOST_TEST(tier_names(b.config) == "b1 ");
  BOOST_TEST(b.config.tiers[0].path == "/etc/varve/bd/t");
  BOOST_TEST(tier_names(parse(three, "a").config) == "");
  auto c = parse(three, "c").config;
  BOOST_TEST(tier_names(c) == "c1 c2 ");
  BOOST_TEST(c.data_dir == "/etc/varve/varve-data/c");
  BOOST_TEST(c.cluster_dir == "/etc/varve/varve-data");
  BOOST_TEST(parse(three, "").config.cluster_dir == "/etc/varve/varve-data");
  BOOST_TEST(c.run_dir == default_run_dir() + "/c");

  // What all know is the same for all.
  for (const auto& x : {b.config.cluster, c.cluster, parse(three, "").config.cluster}) {
    BOOST_TEST(x.name == "lab");
    BOOST_TEST((x.heartbeat == 500ms && x.suspect_after == 2s && x.down_after == 8s));
    BOOST_TEST(x.keys_dir == "/etc/varve/secret");
    BOOST_TEST(x.trusted_network);
    BOOST_REQUIRE(x.nodes.size() == 3u);
    BOOST_TEST((x.find("b")->control == endpoint{"::1", 1}));
    BOOST_TEST((x.find("c")->data == endpoint{"c.example", 2}));
    BOOST_TEST(to_string(x.find("c")->roles) == "manager,storage");
    BOOST_TEST(!x.find("d"));
  }
}

BOOST_AUTO_TEST_CASE(nodes_without_folders_of_their_own_are_in_the_clusters) {
  auto c = parse(with("name = \"lab\"", "name = \"lab\"\ndata_dir = \"/d\""), "c").config;
  BOOST_TEST(c.cluster_dir == "/d");
  BOOST_TEST(c.data_dir == "/d/c");
  BOOST_TEST(c.catalog.local);
}

BOOST_AUTO_TEST_CASE(show_tells_of_the_chosen_node_only) {
  for (const auto& v : parse(three, "b").findings.values)
    BOOST_TEST((v.table.find("node[a]") == std::string::npos && v.table.find("tier[c") == std::string::npos));
}

BOOST_AUTO_TEST_CASE(a_file_without_clusters_knows_of_none) {
  auto x = parse("[[tier]]\nname='f'\nkind='file'\npath='t'\ncapacity='1GiB'\n", "");
  BOOST_TEST(x.findings.problems.empty());
  BOOST_TEST(x.config.cluster.nodes.empty());
  BOOST_TEST((x.config.roles == node_roles{true, true, true}));
  BOOST_TEST(refusal("[[tier]]\nname='f'\nkind='file'\npath='t'\ncapacity='1GiB'\n", "b") ==
             "1:1: node: the file is of one node by itself, \"node\"; expected no --node, or its name");
  BOOST_TEST(parse("[[tier]]\nname='f'\nkind='file'\npath='t'\ncapacity='1GiB'\n", "node").findings.problems.empty());
  BOOST_TEST(refusal("[[tier]]\nname='f'\nkind='file'\npath='t'\ncapacity='1GiB'\nnode='b'\n", "")
               .find("the file is of one node") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(each_mistake_is_found_whoever_reads_the_file) {
  struct {
    const char *what, *instead, *said;
  } cases[] = {
    {"name = \"c\"\nroles", "name = \"b\"\nroles", "another node has the name"},
    {"name = \"c\"\nroles", "name = \"gate\"\nroles", "is a name that Varve keeps for itself"},
    {"roles = [\"manager\"]", "roles = [\"manger\"]", "\"manger\" is no role"},
    {"roles = [\"manager\"]", "roles = []", "it is no list of roles"},
    {"roles = [\"manager\"]\n", "", "it is missing"},
    {"control = \"127.0.0.1:1\"", "control = \"127.0.0.1\"", "is no address with a port"},
    {"control = \"127.0.0.1:1\"", "control = \"127.0.0.1:0\"", "is no address with a port"},
    {"control = \"127.0.0.1:1\"", "control = \"127.0.0.1:2\"", "is its control address"},
    {"control = \"[::1]:1\"", "control = \"127.0.0.1:2\"", "node \"a\" has the address 127.0.0.1:2"},
    {"data = \"127.0.0.1:2\"\n", "", "it is missing"},
    {"suspect_after = \"2s\"", "suspect_after = \"900ms\"", "is less than two heartbeats"},
    {"down_after = \"8s\"", "down_after = \"2s\"", "is not after suspect_after"},
    {"node = \"c\"", "node = \"d\"", "there is no node \"d\""},
    {"node = \"c\"", "node = \"a\"", "node \"a\" has no role \"storage\""},
    {"node = \"b\"\n", "", "it is missing"},
    {"name = \"c2\"", "name = \"b1\"", "another tier has the name"},
    {"capacity = \"1GiB\"\n\n[[tier]]\nname = \"c2\"", "capcity = \"1GiB\"\n\n[[tier]]\nname = \"c2\"", ""},
    {"keys = \"secret\"", "keys = \"\"", "it is empty"},
    {"heartbeat", "hartbeat", "expected heartbeat"},
    {"http = \"off\"", "http = \"0.0.0.0:80\"", "is not a loopback address"},
    {"control = \"c.example:1\"", "control = \"127.0.0.1:3\"", "node \"a\" on the same machine has the address"},
    {"name = \"lab\"", "data_dir = \"\"", "it is empty"},
    {"kind = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\nlocal = true", "kind = \"sqlite\"",
     "is for one manager, and 2 nodes are managers"},
    {"http://127.0.0.1:2379", "http://etcd.example:2379", "are not one of this machine: http://etcd.example:2379"},
    {"\"http://127.0.0.1:2379\"", "\"http://127.0.0.1:2379\", \"http://127.0.0.1:2380\"",
     "are not one of this machine: http://127.0.0.1:2379, http://127.0.0.1:2380"},
    {"http://127.0.0.1:2379", "https://127.0.0.1:2379", "are not one of this machine"},
  };
  for (const auto& x : cases)
    for (const auto* node : {"a", "b", "c", ""}) {
      const auto findings = parse(with(x.what, x.instead), node).findings;
      const auto found = std::any_of(findings.problems.begin(), findings.problems.end(), [&](auto& p) {
        return p.line > 0 && to_string(p).find(x.said) != std::string::npos;
      });
      BOOST_TEST(found, x.instead << " read as " << node << ": "
                                  << (findings.problems.empty() ? "good" : to_string(findings.problems[0])));
    }
}

BOOST_AUTO_TEST_CASE(what_a_cluster_cannot_be_without) {
  auto none = with("roles = [\"manager\"]", "roles = [\"host\"]");
  none.replace(none.find("\"manager\", \"storage\""), 20, "\"storage\"");
  BOOST_TEST(refusal(none).find("no node is a manager") != std::string::npos);
  auto bare = three.substr(0, three.rfind("[[tier]]\nname = \"c1"));
  BOOST_TEST(refusal(bare).find("no tier of node \"c\" is durable") != std::string::npos);
  BOOST_TEST(refusal(three, "d") == "11:1: node: there is no node \"d\"; expected --node with the name of a [[node]]");
  BOOST_TEST(!parse("[cluster]\nname='x'\n").findings.problems.empty());
}

BOOST_AUTO_TEST_CASE(endpoints) {
  BOOST_TEST((parse_endpoint("h:1") == endpoint{"h", 1}));
  BOOST_TEST((parse_endpoint("[fe80::1%eth0]:65535") == endpoint{"fe80::1%eth0", 65535}));
  BOOST_TEST(to_string(endpoint{"::1", 5}) == "[::1]:5");
  for (const auto* bad :
       {"", ":", "h", "h:", ":1", "h:65536", "h:-1", "h: 1", "h:1x", "::1:5", "[]:1", "a b:1", "h/:1"})
    BOOST_TEST(!parse_endpoint(bad), bad);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
