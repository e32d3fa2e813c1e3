#include "actors/cluster/membership.hpp"

#include "runtime/caf/reporting.hpp"

namespace varve {

namespace {

/// Names in refusals are the other side's: bounded, so that no stranger fills the memory with them.
constexpr size_t refused_max = 1024;

} // namespace

membership_self::behavior_type membership(membership_self::stateful_pointer<membership_state> self,
                                          context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

membership_self::behavior_type membership_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  table_.emplace(context_->options.cluster);
  look();
  return {
    [this](atom::join, const node_announcement& x) { return join(x); },
    [this](atom::list) { return table_->list(context_->now()); },
    [this](atom::tick) { look(); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

caf::result<std::string> membership_state::join(const node_announcement& x) {
  std::vector<member_table::change> changes;
  if (auto e = table_->hear(x, context_->now(), changes)) {
    const auto why = context_of(e);
    if (refused_.size() >= refused_max)
      refused_.clear();
    if (std::exchange(refused_[x.node], why) != why)
      context_->publish("NODE_REFUSED", why);
    return e;
  }
  refused_.erase(x.node);
  tell(changes);
  return context_->options.name;
}

actor_facts membership_state::facts() const {
  actor_facts result;
  for (const auto& x : table_->list(context_->now()))
    result.push_back(text_fact(x.node, to_string(x.state)));
  return result;
}

void membership_state::look() {
  std::vector<member_table::change> changes;
  table_->look(context_->now(), changes);
  tell(changes);
  // A heartbeat moves the next look further away: looking each heartbeat is simpler than moving a timer each time.
  self_->delayed_send(self_, caf::timespan{context_->options.cluster.heartbeat}, atom::tick_v);
}

void membership_state::tell(const std::vector<member_table::change>& changes) {
  for (const auto& x : changes) {
    const auto what = "node " + x.node + ": " + to_string(x.from) + " -> " + to_string(x.to);
    if (x.to == member_state::up)
      context_->publish("NODE_UP", what + (x.another_life && x.from != member_state::unknown ? " (restarted)" : ""));
    else
      context_->publish(x.to == member_state::suspect ? "NODE_SUSPECT" : "NODE_DOWN", what);
  }
}

} // namespace varve
