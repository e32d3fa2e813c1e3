#include "runtime/config/catalog_config.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "runtime/config/units.hpp"

namespace varve {

namespace {

using namespace std::chrono_literals;

constexpr size_t endpoints_max = 16;
/// What electing and learning take beside the term, at most.
constexpr std::chrono::nanoseconds election_time = 3s;

constexpr auto endpoint_rule = "\"http://HOST:PORT\" or \"https://HOST:PORT\"";

bool is_endpoint(const std::string& x) {
  const size_t scheme = x.starts_with("http://") ? 7 : x.starts_with("https://") ? 8 : 0;
  const auto colon = x.rfind(':');
  if (scheme == 0 || colon <= scheme || colon + 1 >= x.size() || x.size() - colon > 6)
    return false;
  const auto host = x.substr(scheme, colon - scheme), port = x.substr(colon + 1);
  if (port.find_first_not_of("0123456789") != std::string::npos || std::stoul(port) < 1 || std::stoul(port) > 65535)
    return false;
  if (host.front() == '[')
    return host.size() > 2 && host.find_first_not_of("0123456789abcdefABCDEF:.", 1) == host.size() - 1 &&
           host.back() == ']';
  return std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
}

void read_endpoints(table_reader& t, catalog_config& x) {
  if (!t.texts("endpoints", x.endpoints)) {
    if (!t.has("endpoints"))
      t.refuse("endpoints", "it is missing", "where etcd is, such as [\"http://127.0.0.1:2379\"]");
    return;
  }
  if (x.endpoints.empty() || x.endpoints.size() > endpoints_max)
    return t.refuse("endpoints", fmt::format("there are {}", x.endpoints.size()),
                    fmt::format("1 to {}", endpoints_max));
  std::set<std::string> seen;
  for (const auto& e : x.endpoints) {
    if (!is_endpoint(e))
      return t.refuse("endpoints", '"' + e + "\" is no endpoint", endpoint_rule);
    if (!seen.insert(e).second)
      return t.refuse("endpoints", '"' + e + "\" stands there twice", "each member once");
    if (e.starts_with("https") != x.endpoints.front().starts_with("https"))
      return t.refuse("endpoints", "http and https are mixed", "one of them for all");
  }
}

/// One that `cluster up` can start: a member of its own, that nobody reaches from elsewhere.
void check_local(table_reader& t, const node_config& node) {
  const auto& x = node.catalog;
  if (!x.local)
    return;
  if (node.cluster.nodes.empty())
    return t.refuse("local", "the file is of one node by itself", "no local, or a cluster's file");
  if (x.endpoints.empty())
    return; // said already
  const auto& e = x.endpoints.front();
  const auto loopback =
    e.starts_with("http://127.") || e.starts_with("http://localhost:") || e.starts_with("http://[::1]:");
  if (x.endpoints.size() != 1 || !loopback)
    t.refuse("local", fmt::format("the endpoints are not one of this machine: {}", fmt::join(x.endpoints, ", ")),
             "one endpoint such as [\"http://127.0.0.1:2379\"], or no local");
}

void read_tls(table_reader t, catalog_config& x, const std::string& folder) {
  for (auto [key, to] : {std::pair{"ca", &x.tls_ca}, {"cert", &x.tls_cert}, {"key", &x.tls_key}}) {
    t.text(key, *to);
    if (to->empty())
      continue;
    *to = (std::filesystem::path{folder} / *to).lexically_normal().string();
    t.replace_value(key, toml_literal(*to));
    if (!std::filesystem::is_regular_file(*to))
      t.refuse(key, '"' + *to + "\" is no file", "a PEM file");
  }
  if (x.tls_cert.empty() != x.tls_key.empty())
    t.refuse(x.tls_cert.empty() ? "key" : "cert", "the other half is missing", "both cert and key, or neither");
  t.finish();
}

} // namespace

void read_catalog(table_reader t, node_config& node, const std::string& folder) {
  auto& x = node.catalog;
  t.one_of<catalog_kind>("kind", x.kind, {{"sqlite", catalog_kind::sqlite}, {"etcd", catalog_kind::etcd}});
  if (x.kind == catalog_kind::sqlite) {
    const auto managers = std::count_if(node.cluster.nodes.begin(), node.cluster.nodes.end(),
                                        [](const cluster_node& n) { return n.roles.manager; });
    // A file has one writer: the node in whose folder it lies.
    if (managers > 1)
      t.refuse("kind", fmt::format("\"sqlite\" is for one manager, and {} nodes are managers", managers),
               "one [[node]] with the role \"manager\", or kind = \"etcd\"");
    for (auto key : {"endpoints", "local", "prefix", "leader_term", "call_timeout", "resolve_timeout", "tls"}) {
      t.know(key);
      if (t.has(key))
        t.refuse(key, "a catalog of kind \"sqlite\" has none", fmt::format("no {}, or kind = \"etcd\"", key));
    }
    t.finish();
    return;
  }
  read_endpoints(t, x);
  t.boolean("local", x.local);
  check_local(t, node);
  const auto printable = [](char c) { return c > ' ' && c < 0x7f; };
  if (t.text("prefix", x.prefix) &&
      (x.prefix.size() < 3 || x.prefix.size() > 255 || x.prefix.front() != '/' || x.prefix.back() != '/' ||
       !std::all_of(x.prefix.begin(), x.prefix.end(), printable)))
    t.refuse("prefix", '"' + x.prefix + "\" is no prefix", "\"/NAME/\", up to 255 letters without spaces");
  if (t.duration("leader_term", x.leader_term, 2s, 60s) && x.leader_term % 1s != 0s)
    t.refuse("leader_term", format_duration(x.leader_term) + " is not possible", "whole seconds");
  else if (x.leader_term + election_time > node.lease.failover)
    // Else holders might stop before the next manager renews their leases.
    t.refuse("leader_term",
             fmt::format("{} is too long for lease.failover = {}", format_duration(x.leader_term),
                         format_duration(node.lease.failover)),
             fmt::format("at least {} less than lease.failover", format_duration(election_time)));
  // So that a leader can ask a second member before its term is over.
  t.duration("call_timeout", x.call_timeout, 100ms, 1min);
  if (2 * x.call_timeout > x.leader_term)
    t.refuse("call_timeout",
             fmt::format("{} is more than half of leader_term = {}", format_duration(x.call_timeout),
                         format_duration(x.leader_term)),
             "at most half of it");
  t.duration("resolve_timeout", x.resolve_timeout, 1s, 1h);
  if (t.has("tls") && !x.endpoints.empty() && !x.endpoints.front().starts_with("https://"))
    t.refuse("tls", "the endpoints are http", "no tls, or https endpoints");
  read_tls(t.table("tls"), x, folder);
  t.finish();
}

} // namespace varve
