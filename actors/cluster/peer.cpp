#include "actors/cluster/peer.hpp"

#include <algorithm>

#include "runtime/caf/cluster_link.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

caf::timespan back_off(unsigned attempts) {
  return std::min<caf::timespan>(100ms * (1u << std::min(attempts, 5u)), 2s);
}

} // namespace

peer_actor::behavior_type peer(peer_actor::stateful_pointer<peer_state> self, context_ptr context, std::string node,
                               std::vector<remote_path> wanted) {
  return self->state.make_behavior(std::move(context), std::move(node), std::move(wanted));
}

peer_state::~peer_state() {
  for (auto& [there, x] : wanted_)
    forget(x);
}

peer_actor::behavior_type peer_state::make_behavior(context_ptr context, std::string node,
                                                    std::vector<remote_path> wanted) {
  context_ = std::move(context);
  node_ = std::move(node);
  for (auto& x : wanted)
    wanted_[x.there].here = x.here;
  self_->set_down_handler([this](const caf::down_msg& x) { on_down(x); });
  connect();
  return {
    [this](atom::tick, uint64_t round) {
      if (round == round_)
        connect();
    },
    [this](atom::renew, uint64_t round) {
      if (round == round_)
        greet();
    },
    [this](atom::open, const std::string& there) { open(there); },
    [](const returned& x) { x.run(); },
  };
}

void peer_state::connect() {
  const auto round = ++round_;
  context_->link->connect(
    node_, returning<caf::expected<node_gate_actor>>(self_, [this, round](const caf::expected<node_gate_actor>& gate) {
      if (round == round_)
        connected(gate);
    }));
}

void peer_state::connected(const caf::expected<node_gate_actor>& gate) {
  if (!gate) {
    connect_later(context_of(gate.error()));
    return;
  }
  gate_ = *gate;
  self_->monitor(gate_);
  self_->request(gate_, context_->options.request_timeout, atom::get_v)
    .then(
      [this, round = round_](const node_announcement& x) {
        if (round == round_)
          recognised(x);
      },
      [this, round = round_](const caf::error& e) {
        if (round == round_)
          lost("it does not say which node it is: " + context_of(e));
      });
}

void peer_state::recognised(const node_announcement& x) {
  if (x.protocol != cluster_protocol) {
    lost("it speaks protocol " + std::to_string(x.protocol) + " (" + x.version + "), this node " +
         std::to_string(cluster_protocol) + " (" + context_->options.version + ")");
    return;
  }
  if (x.cluster != context_->options.cluster.name || x.node != node_) {
    lost("at its address is node " + x.node + " of cluster " + x.cluster);
    return;
  }
  known_ = true;
  attempts_ = 0;
  trouble_.clear();
  context_->publish("PEER_CONNECTED", "node " + node_ + " " + x.version);
  for (auto& [there, entry] : wanted_) {
    entry.attempts = 0;
    open(there);
  }
  self_->delayed_send(self_, caf::timespan{context_->options.cluster.heartbeat}, atom::renew_v, round_);
}

void peer_state::greet() {
  self_->request(gate_, caf::timespan{context_->options.cluster.suspect_after}, atom::get_v)
    .then(
      [this, round = round_](const node_announcement&) {
        if (round == round_)
          self_->delayed_send(self_, caf::timespan{context_->options.cluster.heartbeat}, atom::renew_v, round_);
      },
      [this, round = round_](const caf::error& e) {
        if (round != round_)
          return;
        context_->link->disconnect(node_);
        lost("it does not answer: " + context_of(e));
      });
}

void peer_state::open(const std::string& there) {
  if (!known_ || wanted_[there].actor)
    return;
  self_->request(gate_, context_->options.request_timeout, atom::open_v, there)
    .then(
      [this, there, round = round_](const caf::strong_actor_ptr& actor) {
        if (round == round_ && actor)
          found(there, actor);
      },
      [this, there, round = round_](const caf::error&) {
        // Starting, or restarting, or the manager's part of another node.
        if (round == round_)
          self_->delayed_send(self_, back_off(wanted_[there].attempts++), atom::open_v, there);
      });
}

void peer_state::found(const std::string& there, const caf::strong_actor_ptr& actor) {
  auto& x = wanted_[there];
  if (x.actor)
    return;
  x.actor = caf::actor_cast<caf::actor_addr>(actor);
  x.attempts = 0;
  self_->monitor(x.actor);
  context_->directory->put(x.here, actor);
}

void peer_state::on_down(const caf::down_msg& x) {
  if (gate_ && x.source == gate_.address()) {
    lost("the connection was lost");
    return;
  }
  for (auto& [there, entry] : wanted_)
    if (entry.actor == x.source) {
      forget(entry);
      // Its supervisor starts it again there.
      self_->delayed_send(self_, back_off(entry.attempts++), atom::open_v, there);
    }
}

void peer_state::lost(const std::string& why) {
  if (gate_)
    self_->demonitor(gate_.address());
  gate_ = node_gate_actor{};
  known_ = false;
  for (auto& [there, x] : wanted_)
    forget(x);
  connect_later(why);
}

void peer_state::connect_later(const std::string& why) {
  if (std::exchange(trouble_, why) != why)
    context_->publish("PEER_UNREACHABLE", "node " + node_ + ": " + why);
  self_->delayed_send(self_, back_off(attempts_++), atom::tick_v, ++round_);
}

void peer_state::forget(entry& x) {
  if (!x.actor)
    return;
  context_->directory->remove(x.here, x.actor);
  x.actor = {};
}

} // namespace varve
