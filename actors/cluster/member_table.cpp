#include "actors/cluster/member_table.hpp"

#include <algorithm>

#include "messages/errors.hpp"

namespace varve {

member_table::member_table(const cluster_config& cluster)
  : cluster_(cluster.name), suspect_after_(cluster.suspect_after), down_after_(cluster.down_after) {
  for (const auto& x : cluster.nodes) {
    row r;
    r.info.node = x.name;
    r.info.roles = to_string(x.roles);
    r.info.control = to_string(x.control);
    r.info.data = to_string(x.data);
    rows_.push_back(std::move(r));
  }
}

caf::error member_table::hear(const node_announcement& x, boot_time now, std::vector<change>& changes) {
  if (x.protocol != cluster_protocol)
    return make_error(errc::unsupported, "node " + x.node + " (" + x.version + ") speaks protocol " +
                                           std::to_string(x.protocol) + ", this manager " +
                                           std::to_string(cluster_protocol));
  if (x.cluster != cluster_)
    return make_error(errc::not_found, "node " + x.node + " is of cluster " + x.cluster + ", this one is " + cluster_);
  auto at = std::find_if(rows_.begin(), rows_.end(), [&](auto& r) { return r.info.node == x.node; });
  if (at == rows_.end())
    return make_error(errc::not_found, "the configuration of cluster " + cluster_ + " has no node " + x.node);
  auto& info = at->info;
  // Two processes of one name, or a word that was long under way.
  if (x.incarnation < info.incarnation)
    return make_error(errc::conflict, "a later life of node " + x.node + " was heard already");
  if (x.roles != info.roles)
    return make_error(errc::invalid_argument, "node " + x.node + " was started as " + x.roles +
                                                ", in this manager's configuration it is " + info.roles);
  const bool another_life = x.incarnation != info.incarnation;
  if (another_life)
    ++info.joins;
  info.incarnation = x.incarnation;
  info.version = x.version;
  at->heard = now;
  turn(*at, x.leaving ? member_state::down : member_state::up, another_life, changes);
  return {};
}

void member_table::look(boot_time now, std::vector<change>& changes) {
  for (auto& x : rows_) {
    if (x.info.state != member_state::up && x.info.state != member_state::suspect)
      continue;
    const auto silent = now - x.heard;
    if (silent >= down_after_)
      turn(x, member_state::down, false, changes);
    else if (silent >= suspect_after_)
      turn(x, member_state::suspect, false, changes);
  }
}

boot_time member_table::next_look() const {
  auto result = boot_time::max();
  for (auto& x : rows_) {
    if (x.info.state == member_state::up)
      result = std::min(result, x.heard + suspect_after_);
    else if (x.info.state == member_state::suspect)
      result = std::min(result, x.heard + down_after_);
  }
  return result;
}

std::vector<member_info> member_table::list(boot_time now) const {
  std::vector<member_info> result;
  for (auto& x : rows_) {
    result.push_back(x.info);
    result.back().silent = x.info.incarnation == 0 ? caf::timespan{0} : caf::timespan{now - x.heard};
  }
  return result;
}

void member_table::turn(row& x, member_state to, bool another_life, std::vector<change>& changes) {
  if (x.info.state != to || another_life)
    changes.push_back({x.info.node, x.info.state, to, another_life});
  x.info.state = to;
}

} // namespace varve
