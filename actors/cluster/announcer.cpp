#include "actors/cluster/announcer.hpp"

#include "actors/cluster/node_gate.hpp"
#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"

namespace varve {

announcer_actor::behavior_type announcer(announcer_actor::stateful_pointer<announcer_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

announcer_actor::behavior_type announcer_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  self_->set_exit_handler([this](const caf::exit_msg& x) {
    announce(true);
    self_->quit(x.reason);
  });
  self_->send(self_, atom::tick_v);
  return {
    [this](atom::tick) {
      announce(false);
      self_->delayed_send(self_, caf::timespan{context_->options.cluster.heartbeat}, atom::tick_v);
    },
    [this](atom::report) { return report_of(self_, {count_fact("managers-refusing", refused_.size())}); },
  };
}

void announcer_state::announce(bool leaving) {
  auto words = announcement_of(*context_);
  words.leaving = leaving;
  for (const auto& node : context_->options.cluster.nodes) {
    if (!node.roles.manager)
      continue;
    const auto& options = context_->options;
    auto manager = context_->directory->get<membership_actor>(
      node.name == options.name ? path::membership : path::membership_of(node.name));
    if (!manager)
      continue; // the peer says that it is unreachable
    self_->request(manager, caf::timespan{options.cluster.suspect_after}, atom::join_v, words)
      .then([this, node = node.name](const std::string&) { refused_.erase(node); },
            [this, node = node.name](const caf::error& e) {
              const auto code = code_of(e);
              if (code == errc::unavailable || code == errc::timed_out)
                return; // the next heartbeat tries again
              const auto why = context_of(e);
              if (std::exchange(refused_[node], why) != why)
                context_->publish("JOIN_REFUSED", "manager " + node + ": " + why);
            });
  }
}

} // namespace varve
