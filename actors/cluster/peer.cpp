#include "actors/cluster/peer.hpp"

#include <algorithm>

#include "actors/cluster/node_gate.hpp"
#include "runtime/caf/cluster_link.hpp"
#include "runtime/caf/reporting.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

caf::timespan back_off(unsigned attempts) {
  return std::min<caf::timespan>(100ms * (1u << std::min(attempts, 5u)), 2s);
}

} // namespace

peer_actor::behavior_type peer(peer_actor::stateful_pointer<peer_state> self, context_ptr context, std::string node,
                               std::vector<remote_path> wanted, std::shared_ptr<leader_watch> leaders) {
  return self->state.make_behavior(std::move(context), std::move(node), std::move(wanted), std::move(leaders));
}

peer_state::~peer_state() {
  for (auto& [there, x] : wanted_)
    forget(x);
}

peer_actor::behavior_type peer_state::make_behavior(context_ptr context, std::string node,
                                                    std::vector<remote_path> wanted,
                                                    std::shared_ptr<leader_watch> leaders) {
  context_ = std::move(context);
  node_ = std::move(node);
  leaders_ = std::move(leaders);
  dials_ = dials(context_->options.cluster, context_->options.name, node_);
  for (auto& x : wanted) {
    wanted_[x.there].here = x.here;
    wanted_[x.there].of_leader = x.of_leader;
  }
  self_->set_down_handler([this](const caf::down_msg& x) { on_down(x); });
  if (dials_)
    connect();
  else
    self_->delayed_send(self_, caf::timespan{context_->options.cluster.suspect_after}, atom::tick_v, round_);
  return {
    [this](atom::join, const node_announcement& x, const caf::strong_actor_ptr& gate) { return join(x, gate); },
    [this](atom::tick, uint64_t round) {
      if (round != round_)
        return;
      if (dials_)
        connect();
      else if (!known_)
        complain("it has not connected");
    },
    [this](atom::renew, uint64_t round) {
      if (round == round_)
        greet();
    },
    [this](atom::open, const std::string& there) {
      wanted_[there].asking = false;
      open(there);
    },
    [](const returned& x) { x.run(); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts peer_state::facts() const {
  const auto found = std::count_if(wanted_.begin(), wanted_.end(), [](auto& x) { return bool(x.second.actor); });
  return {text_fact("node", node_),
          text_fact("state", known_ ? "connected" : "not connected"),
          flag_fact("connects", dials_),
          count_fact("incarnation", incarnation_),
          flag_fact("leads", leads_ != 0),
          count_fact("actors-found", static_cast<uint64_t>(found)),
          count_fact("actors-wanted", wanted_.size()),
          text_fact("trouble", trouble_)};
}

// -- the connection
// --------------------------------------------------------------------------------------------------------

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
    lost(context_of(gate.error()));
    return;
  }
  gate_ = *gate;
  self_->monitor(gate_);
  introduce();
}

void peer_state::introduce() {
  auto own = context_->directory->get<caf::strong_actor_ptr>(path::gate);
  if (!own) {
    lost("this node's gate is starting");
    return;
  }
  self_
    ->request(gate_, caf::timespan{context_->options.cluster.suspect_after}, atom::join_v, announcement_of(*context_),
              own)
    .then(
      [this, round = round_](const node_announcement& x) {
        if (round != round_)
          return;
        if (known_)
          greeted(x);
        else
          recognised(x);
      },
      [this, round = round_](const caf::error& e) {
        if (round != round_)
          return;
        if (known_)
          not_greeted(e);
        else
          lost("it does not say which node it is: " + context_of(e));
      });
}

caf::result<node_announcement> peer_state::join(const node_announcement& x, const caf::strong_actor_ptr& gate) {
  if (x.incarnation < incarnation_)
    return make_error(errc::conflict, "a later life of node " + node_ + " was heard already");
  const auto now = caf::actor_cast<node_gate_actor>(gate);
  if (known_ && gate_ == now && x.incarnation == incarnation_) {
    led(x.leads);
  } else {
    drop_gate();
    ++round_;
    gate_ = now;
    self_->monitor(gate_);
    recognised(x);
  }
  return announcement_of(*context_);
}

void peer_state::recognised(const node_announcement& x) {
  if (auto refused = check(x, *context_)) {
    lost(context_of(refused));
    return;
  }
  if (x.node != node_) {
    lost("at its address is node " + x.node);
    return;
  }
  if (x.incarnation < incarnation_) {
    lost("an earlier life of it answers");
    return;
  }
  incarnation_ = x.incarnation;
  known_ = true;
  attempts_ = 0;
  trouble_.clear();
  context_->publish("PEER_CONNECTED", "node " + node_ + " " + x.version);
  for (auto& [there, entry] : wanted_) {
    entry.attempts = 0;
    if (!entry.of_leader)
      open(there);
  }
  greeted(x);
}

void peer_state::greeted(const node_announcement& x) {
  if (x.incarnation != incarnation_) {
    lost("it was started again");
    return;
  }
  led(x.leads);
  self_->delayed_send(self_, caf::timespan{context_->options.cluster.heartbeat}, atom::renew_v, round_);
}

void peer_state::greet() {
  if (dials_) {
    // With the gate of now: the other one may have lost it, and so this node, while the connection stands.
    introduce();
    return;
  }
  self_->request(gate_, caf::timespan{context_->options.cluster.suspect_after}, atom::get_v)
    .then(
      [this, round = round_](const node_announcement& x) {
        if (round == round_)
          greeted(x);
      },
      [this, round = round_](const caf::error& e) {
        if (round == round_)
          not_greeted(e);
      });
}

void peer_state::not_greeted(const caf::error& e) {
  if (e.category() == make_error(errc::unavailable).category()) {
    lost(context_of(e)); // it has answered
    return;
  }
  context_->link->disconnect(node_);
  lost("it does not answer: " + context_of(e));
}

void peer_state::lost(const std::string& why) {
  drop_gate();
  ++round_;
  complain(why);
  if (dials_)
    self_->delayed_send(self_, back_off(attempts_++), atom::tick_v, round_);
}

void peer_state::drop_gate() {
  if (gate_)
    self_->demonitor(gate_.address());
  gate_ = node_gate_actor{};
  known_ = false;
  leads_ = 0;
  for (auto& [there, x] : wanted_) {
    forget(x);
    x.asking = false;
  }
}

void peer_state::complain(const std::string& why) {
  if (std::exchange(trouble_, why) != why)
    context_->publish("PEER_UNREACHABLE", "node " + node_ + ": " + why);
}

// -- its actors
// --------------------------------------------------------------------------------------------------------

void peer_state::led(uint64_t term) {
  // Whoever manages himself talks to his own.
  const bool admitted = term != 0 && leads_as(*context_) == 0 && leaders_->admits(term);
  leads_ = admitted ? term : 0;
  for (auto& [there, x] : wanted_) {
    if (!x.of_leader)
      continue;
    // Another manager's, or this node's own, may have stood in its place and be gone.
    const bool stands = x.actor && context_->directory->get<caf::actor_addr>(x.here) == x.actor;
    if (!admitted || (x.actor && !stands))
      forget(x);
    if (admitted && !x.actor)
      open(there);
  }
}

void peer_state::open(const std::string& there) {
  auto& x = wanted_[there];
  if (!known_ || x.actor || x.asking || (x.of_leader && leads_ == 0))
    return;
  x.asking = true;
  self_->request(gate_, context_->options.request_timeout, atom::open_v, there)
    .then(
      [this, there, round = round_](const caf::strong_actor_ptr& actor) {
        if (round != round_)
          return;
        wanted_[there].asking = false;
        if (actor)
          found(there, actor);
      },
      [this, there, round = round_](const caf::error&) {
        if (round != round_)
          return;
        // Starting, or restarting.
        wanted_[there].asking = false;
        open_later(there);
      });
}

void peer_state::open_later(const std::string& there) {
  auto& x = wanted_[there];
  if (x.asking)
    return;
  x.asking = true;
  self_->delayed_send(self_, back_off(x.attempts++), atom::open_v, there);
}

void peer_state::found(const std::string& there, const caf::strong_actor_ptr& actor) {
  auto& x = wanted_[there];
  // Asked under a number that another has passed meanwhile.
  if (x.actor || (x.of_leader && (leads_ == 0 || leads_as(*context_) != 0 || !leaders_->admits(leads_))))
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
      open_later(there);
    }
}

void peer_state::forget(entry& x) {
  if (!x.actor)
    return;
  context_->directory->remove(x.here, x.actor);
  x.actor = {};
}

} // namespace varve
