#include "actors/cluster/data_link.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "runtime/caf/reporting.hpp"
#include "runtime/remote/remote_io.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

caf::timespan back_off(unsigned attempts) {
  return std::min<caf::timespan>(100ms * (1u << std::min(attempts, 5u)), 2s);
}

} // namespace

data_link_actor::behavior_type data_link(data_link_actor::stateful_pointer<data_link_state> self, context_ptr context,
                                         std::string node) {
  return self->state.make_behavior(std::move(context), std::move(node));
}

data_link_actor::behavior_type data_link_state::make_behavior(context_ptr context, std::string node) {
  context_ = std::move(context);
  node_ = std::move(node);
  self_->set_down_handler([this](const caf::down_msg& x) { keeper_down(x); });
  for (uint32_t own = 0; own < context_->remote->reactors(); ++own)
    again(own, 0s);
  return {
    [this](atom::change, uint32_t theirs, uint32_t own, bool open, const std::string& why) {
      session(theirs, own, open, why);
    },
    [this](atom::renew, uint32_t own, uint64_t round) {
      if (rows_[own].round == round)
        renew(own);
    },
    [this](atom::tick, uint64_t round) { look(round); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts data_link_state::facts() const {
  const auto with_keys = std::count_if(rows_.begin(), rows_.end(), [](auto& x) { return x.second.has_keys; });
  return {text_fact("node", node_),
          count_fact("reactors", rows_.size()),
          count_fact("reactors-there", theirs_),
          count_fact("reactors-with-keys", static_cast<uint64_t>(with_keys)),
          count_fact("sessions-closed", closed_.size()),
          text_fact("refused", refused_)};
}

// -- keys
// ----------------------------------------------------------------------------------------------------------------

void data_link_state::again(uint32_t own, caf::timespan in) {
  self_->delayed_send(self_, in, atom::renew_v, own, ++rows_[own].round);
}

void data_link_state::renew(uint32_t own) {
  auto& x = rows_[own];
  auto keeper = context_->directory->get<data_keeper_actor>(path::data_keeper_of(node_));
  if (!keeper) {
    // The peer says that the node is unreachable. Keys that are had hold until their end.
    again(own, back_off(x.attempts++));
    return;
  }
  if (keeper_ != keeper.address()) {
    keeper_ = keeper.address();
    self_->monitor(keeper);
  }
  const auto& options = context_->options;
  const auto asked_at = context_->now();
  self_
    ->request(keeper, options.request_timeout, atom::get_v, data_access_request{options.name, options.incarnation, own})
    .then(
      [this, own, round = x.round, asked_at](const data_access& answer) {
        if (rows_[own].round == round)
          granted(own, asked_at, answer);
      },
      [this, own, round = x.round](const caf::error& e) {
        auto& x = rows_[own];
        if (x.round != round)
          return;
        const auto code = code_of(e);
        if (code != errc::unavailable && code != errc::timed_out) {
          const auto why = context_of(e);
          if (std::exchange(refused_, why) != why)
            context_->publish("DATA_KEYS_REFUSED", "node " + node_ + ": " + why);
        }
        again(own, back_off(x.attempts++));
      });
}

void data_link_state::granted(uint32_t own, boot_time asked_at, const data_access& x) {
  auto& row = rows_[own];
  std::vector<session_key> keys;
  for (const auto& given : x.keys) {
    session_key key;
    if (given.secret.size() != key.secret.size())
      break;
    key.id = given.id;
    std::memcpy(key.secret.data(), given.secret.data(), key.secret.size());
    // Counted from the question: the node, which counts from its answer, ends it later.
    key.expires = asked_at + x.term;
    keys.push_back(key);
  }
  if (keys.empty() || keys.size() != x.keys.size() || x.term.count() <= 0) {
    if (std::exchange(refused_, "unusable keys") != "unusable keys")
      context_->publish("DATA_KEYS_REFUSED", "node " + node_ + " sent " + std::to_string(x.keys.size()) +
                                               " keys of which not all are of 32 bytes with a term");
    again(own, back_off(row.attempts++));
    return;
  }
  refused_.clear();
  row.attempts = 0;
  row.has_keys = true;
  theirs_ = static_cast<uint32_t>(keys.size());
  // Sessions with reactors that are no more will not open again, and nobody waits for them.
  std::erase_if(closed_, [this](auto& at) { return at.first.first >= theirs_; });
  context_->remote->set_reactors(node_, theirs_);
  for (uint32_t i = 0; i < theirs_; ++i)
    context_->remote->set_key(node_, i, own, x.keys[i].port, keys[i]);
  again(own, x.term / 3);
}

void data_link_state::keeper_down(const caf::down_msg& x) {
  if (!(keeper_ == x.source))
    return;
  keeper_ = {};
  // Of its successor; the node may have been started again, with other reactors.
  for (auto& [own, row] : rows_) {
    row.attempts = 0;
    again(own, back_off(row.attempts++));
  }
}

// -- sessions
// ------------------------------------------------------------------------------------------------------------

void data_link_state::session(uint32_t theirs, uint32_t own, bool open, const std::string& why) {
  const bool all_open = closed_.empty();
  if (open)
    closed_.erase({theirs, own});
  else if (theirs_ == 0 || theirs < theirs_)
    closed_[{theirs, own}] = why;
  if (closed_.empty()) {
    ++trouble_;
    if (std::exchange(told_, false))
      context_->publish("DATA_REACHABLE", "the shards of node " + node_ + " can be read and written again");
  } else if (all_open) {
    // One that comes back soon is nobody's business: the requests of VMs wait meanwhile.
    self_->delayed_send(self_, caf::timespan{context_->options.cluster.suspect_after}, atom::tick_v, ++trouble_);
  }
}

void data_link_state::look(uint64_t round) {
  if (round != trouble_ || closed_.empty() || std::exchange(told_, true))
    return;
  context_->publish("DATA_UNREACHABLE",
                    "the shards of node " + node_ + " can be neither read nor written: " + closed_.begin()->second);
}

} // namespace varve
