#include <cstdio>
#include <filesystem>
#include <fstream>

#include <boost/test/unit_test.hpp>

#include "runtime/config/node_config.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

const std::string tier = "[[tier]]\nname = \"fast\"\nkind = \"file\"\npath = \"t\"\ncapacity = \"1GiB\"\n";
const std::string etcd = "[catalog]\nkind = 'etcd'\n";
const std::string good = etcd + "endpoints = ['http://a:1']\n"; // three lines

node_config parse(const std::string& text, std::vector<std::string>& problems) {
  config_findings findings;
  auto x = parse_config(text + tier, "/etc/varve/n.toml", {}, findings);
  for (const auto& p : findings.problems)
    problems.push_back(to_string(p).substr(18));
  return x;
}

std::string refusal(const std::string& text) {
  std::vector<std::string> problems;
  parse(text, problems);
  BOOST_REQUIRE_MESSAGE(problems.size() == 1u, problems.size() << " problems with " << text);
  return problems.front();
}

} // namespace

BOOST_AUTO_TEST_SUITE(catalog_configs)

BOOST_AUTO_TEST_CASE(sqlite_is_what_one_gets) {
  std::vector<std::string> problems;
  BOOST_TEST((parse("", problems).catalog.kind == catalog_kind::sqlite));
  BOOST_TEST((parse("[catalog]\nkind = 'sqlite'\n", problems).catalog.kind == catalog_kind::sqlite));
  BOOST_TEST(problems.empty());
}

BOOST_AUTO_TEST_CASE(every_key_of_etcd_is_read) {
  const auto folder = std::filesystem::temp_directory_path() / ("varve-config-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  for (auto name : {"ca", "cert", "key"})
    std::ofstream{folder / name} << "PEM";
  ::setenv("VARVE_TEST_ETCD", "b.example", 1);
  std::vector<std::string> problems;
  config_findings findings;
  const auto text = etcd +
                    "endpoints = ['https://[::1]:2379', 'https://${VARVE_TEST_ETCD}:1']\nprefix = '/v/one/'\n"
                    "leader_term = '6s'\ncall_timeout = '1s'\nresolve_timeout = '9s'\n"
                    "tls = { ca = 'ca', cert = './cert', key = '" +
                    (folder / "key").string() + "' }\n" + tier;
  const auto x = parse_config(text, (folder / "n.toml").string(), {}, findings).catalog;
  for (const auto& p : findings.problems)
    BOOST_ERROR(to_string(p));
  BOOST_TEST((x.kind == catalog_kind::etcd));
  BOOST_TEST((x.endpoints == std::vector<std::string>{"https://[::1]:2379", "https://b.example:1"}));
  BOOST_TEST(x.prefix == "/v/one/");
  BOOST_TEST((x.leader_term == 6s && x.call_timeout == 1s && x.resolve_timeout == 9s));
  BOOST_TEST(x.tls_ca == (folder / "ca").string());
  BOOST_TEST(x.tls_cert == (folder / "cert").string());
  BOOST_TEST(x.tls_key == (folder / "key").string());
  for (const auto& v : findings.values)
    if (v.table == "catalog" && v.key == "endpoints")
      BOOST_TEST(v.literal == "[\"https://[::1]:2379\", \"https://b.example:1\"]");
  std::filesystem::remove_all(folder);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_is_refused_where_it_stands) {
  BOOST_TEST(refusal("[catalog]\nkind = 'etd'\n") ==
             "2:8: catalog.kind: \"etd\" is not possible; expected one of \"sqlite\", \"etcd\"");
  BOOST_TEST(refusal("[catalog]\nprefix = '/x/'\n") == "2:10: catalog.prefix: a catalog of kind \"sqlite\" has none; "
                                                       "expected no prefix, or kind = \"etcd\"");
  BOOST_TEST(refusal(etcd) == "1:1: catalog.endpoints: it is missing; expected where etcd is, such as "
                              "[\"http://127.0.0.1:2379\"]");
  BOOST_TEST(refusal(etcd + "endpoints = 'http://a:1'\n") ==
             "3:13: catalog.endpoints: a string is not possible; expected an array of strings");
  BOOST_TEST(refusal(etcd + "endpoints = ['http://a:1', 2]\n") ==
             "3:13: catalog.endpoints: an array is not possible; expected an array of strings");
  BOOST_TEST(refusal(etcd + "endpoints = []\n") == "3:13: catalog.endpoints: there are 0; expected 1 to 16");
  for (std::string bad : {"a:1", "http://a", "http://:1", "http://a:0", "http://a:65536", "http://a:1x", "ftp://a:1",
                          "http://a b:1", "http://[::1:1", "http://[]:1"})
    BOOST_TEST(refusal(etcd + "endpoints = ['" + bad + "']\n") ==
               "3:13: catalog.endpoints: \"" + bad +
                 "\" is no endpoint; expected \"http://HOST:PORT\" or \"https://HOST:PORT\"");
  BOOST_TEST(refusal(etcd + "endpoints = ['http://a:1', 'http://a:1']\n") ==
             "3:13: catalog.endpoints: \"http://a:1\" stands there twice; expected each member once");
  BOOST_TEST(refusal(etcd + "endpoints = ['http://a:1', 'https://b:1']\n") ==
             "3:13: catalog.endpoints: http and https are mixed; expected one of them for all");
  for (std::string bad : {"", "/", "//", "varve/", "/varve", "/a b/"})
    BOOST_TEST(refusal(good + "prefix = '" + bad + "'\n").starts_with("4:10: catalog.prefix: "));
  BOOST_TEST(refusal(good + "leader_term = '5500ms'\n") ==
             "4:15: catalog.leader_term: 5500ms is not possible; expected whole seconds");
  BOOST_TEST(refusal(good + "leader_term = '8s'\n") == "4:15: catalog.leader_term: 8s is too long for lease.failover = "
                                                       "10s; expected at least 3s less than lease.failover");
  BOOST_TEST(refusal(good + "call_timeout = '3s'\n") ==
             "4:16: catalog.call_timeout: 3s is more than half of leader_term = 5s; expected at most half of it");
  BOOST_TEST(refusal(good + "endpoint = ['x']\n") == "4:1: unknown key \"endpoint\" in [catalog]; expected endpoints");
}

BOOST_AUTO_TEST_CASE(tls_is_whole_or_not_there) {
  const auto tls = etcd + "endpoints = ['https://a:1']\n";
  BOOST_TEST(refusal(tls + "tls = { ca = '/nowhere/ca.pem' }\n") ==
             "4:14: catalog.tls.ca: \"/nowhere/ca.pem\" is no file; expected a PEM file");
  BOOST_TEST(refusal(tls + "tls = { cert = '/etc/passwd' }\n") ==
             "4:16: catalog.tls.cert: the other half is missing; expected both cert and key, or neither");
  BOOST_TEST(refusal(good + "tls = { ca = '/etc/passwd' }\n") ==
             "4:7: catalog.tls: the endpoints are http; expected no tls, or https endpoints");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
