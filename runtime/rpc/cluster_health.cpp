#include "runtime/rpc/cluster_health.hpp"

#include <algorithm>
#include <set>

namespace varve {

namespace {

bool is_error(const health_finding& x) {
  return x.severity == "error";
}

} // namespace

void assess(cluster_view& x) {
  if (x.leader.empty())
    x.findings.push_back({"NO_LEADER", "error", "no manager leads: nothing is created, attached or moved"});
  std::set<std::string> versions;
  for (const auto& m : x.members) {
    if (!m.version.empty() && m.state != member_state::down)
      versions.insert(m.version);
    const auto known = std::any_of(x.findings.begin(), x.findings.end(), [&](const health_finding& f) {
      return f.code.starts_with("NODE_") && f.text.starts_with("node " + m.node + ' ');
    });
    if (known)
      continue; // the manager has said it
    if (m.state == member_state::down)
      x.findings.push_back({"NODE_DOWN", "error", "node " + m.node + " (" + m.roles + ") is down"});
    else if (m.state == member_state::suspect)
      x.findings.push_back({"NODE_SUSPECT", "warning", "node " + m.node + " (" + m.roles + ") has fallen silent"});
    else if (m.state == member_state::unknown)
      x.findings.push_back(
        {"NODE_NEVER_SEEN", "warning", "node " + m.node + " (" + m.roles + ") was not heard since the manager began"});
  }
  if (versions.size() > 1) {
    std::string list;
    for (const auto& v : versions)
      list += (list.empty() ? "" : ", ") + v;
    x.findings.push_back({"VERSIONS_DIFFER", "warning", "the nodes run " + list});
  }
  std::stable_partition(x.findings.begin(), x.findings.end(), is_error);
  x.health = x.findings.empty()                                            ? "ok"
             : std::any_of(x.findings.begin(), x.findings.end(), is_error) ? "error"
                                                                           : "warning";
}

} // namespace varve
