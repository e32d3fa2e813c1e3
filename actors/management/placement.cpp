#include "actors/management/placement.hpp"

#include "actors/management/placement_rule.hpp"
#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr boot_time fresh_for = 1s;
/// Questions that wait for the tiers' answers.
constexpr size_t waiting_max = 10'000;

} // namespace

placement_self::behavior_type placement(placement_self::stateful_pointer<placement_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

placement_self::behavior_type placement_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  for (const auto& x : context_->options.tiers) {
    tier_info tier;
    tier.name = x.store.name;
    tier.is_volatile = x.is_volatile();
    tier.capacity_bytes = x.capacity_bytes;
    tier.cost = x.cost;
    tier.state = "unknown";
    tiers_.push_back(std::move(tier));
  }
  return {
    [this](atom::place, const volume_record& volume, shard_index index) { return place(volume, index); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts placement_state::facts() const {
  actor_facts facts{count_fact("questions-waiting", waiting_.size()), flag_fact("tiers-known", known_)};
  for (const auto& x : tiers_)
    facts.push_back(text_fact("tier-" + x.name, x.state));
  return facts;
}

caf::typed_response_promise<std::string> placement_state::place(const volume_record& volume, shard_index index) {
  question x{volume, {volume.id, index}, self_->make_response_promise<std::string>()};
  if (waiting_.size() >= waiting_max) {
    x.promise.deliver(make_error(errc::unavailable, "placement: too many questions"));
    return x.promise;
  }
  const bool fresh = known_ && context_->now() < asked_at_ + fresh_for && placed_.count(x.shard) == 0;
  if (fresh && waiting_.empty()) {
    answer(x);
    return x.promise;
  }
  waiting_.push_back(x);
  if (unanswered_ == 0)
    refresh();
  return x.promise;
}

void placement_state::refresh() {
  asked_at_ = context_->now();
  placed_.clear();
  const auto round = ++round_;
  unanswered_ = tiers_.size();
  for (size_t i = 0; i < tiers_.size(); ++i) {
    auto tier = context_->directory->get<tier_actor>(path::tier(tiers_[i].name));
    if (!tier) {
      tiers_[i].state = placement_rule::silent;
      --unanswered_;
      continue;
    }
    self_->request(tier, context_->options.request_timeout, atom::get_v)
      .then(
        [this, i, round](tier_info& x) {
          if (round == round_)
            tiers_[i] = std::move(x);
          refreshed(round);
        },
        [this, i, round](const caf::error&) {
          // A tier that does not answer gets no new shards; it is asked again next time.
          if (round == round_)
            tiers_[i].state = placement_rule::silent;
          refreshed(round);
        });
  }
  if (unanswered_ == 0) {
    unanswered_ = 1;
    refreshed(round);
  }
}

void placement_state::refreshed(uint64_t round) {
  if (round != round_ || --unanswered_ > 0)
    return;
  known_ = true;
  auto questions = std::move(waiting_);
  waiting_.clear();
  for (auto& x : questions)
    answer(x);
}

void placement_state::answer(question& x) {
  std::string tier;
  if (auto refused = placement_rule::choose(x.volume.spec, tiers_, tier)) {
    x.promise.deliver(std::move(refused));
    return;
  }
  placed_.insert(x.shard);
  x.promise.deliver(std::move(tier));
}

} // namespace varve
