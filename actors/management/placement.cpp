#include "actors/management/placement.hpp"

#include <algorithm>

#include "actors/management/placement_rule.hpp"
#include "messages/errors.hpp"
#include "runtime/caf/reporting.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr boot_time fresh_for = 1s;
/// Of a tier that is asked: one that is slower than this gets nothing now, and holds up no shard elsewhere.
constexpr caf::timespan tier_patience = 1s;
/// Questions that wait for the tiers' answers.
constexpr size_t waiting_max = 10'000;

} // namespace

placement_self::behavior_type placement(placement_self::stateful_pointer<placement_state> self, context_ptr context) {
  return self->state.make_behavior(std::move(context));
}

placement_self::behavior_type placement_state::make_behavior(context_ptr context) {
  context_ = std::move(context);
  tiers_ = storage_tiers_of(context_->options);
  policy_ = std::make_unique<placement_rule>();
  return {
    [this](atom::place, const volume_record& volume, shard_index index) { return place(volume, index); },
    [this](atom::change, const std::vector<std::string>& nodes) { cordon(nodes); },
    [this](atom::report) { return report_of(self_, facts()); },
  };
}

actor_facts placement_state::facts() const {
  actor_facts facts{count_fact("questions-waiting", waiting_.size()), flag_fact("tiers-known", known_)};
  for (const auto& x : tiers_)
    facts.push_back(text_fact("tier-" + x.info.name, x.info.state));
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

void placement_state::cordon(const std::vector<std::string>& nodes) {
  for (auto& x : tiers_)
    x.cordoned = std::find(nodes.begin(), nodes.end(), x.node) != nodes.end();
  plans_.clear();
}

void placement_state::refresh() {
  asked_at_ = context_->now();
  placed_.clear();
  plans_.clear();
  const auto round = ++round_;
  unanswered_ = tiers_.size();
  for (size_t i = 0; i < tiers_.size(); ++i) {
    auto tier = context_->directory->get<tier_actor>(path::tier(tiers_[i].info.name));
    if (!tier) {
      tiers_[i].info.state = silent_tier;
      --unanswered_;
      continue;
    }
    self_->request(tier, std::min(tier_patience, context_->options.request_timeout), atom::get_v)
      .then(
        [this, i, round](tier_info& x) {
          if (round == round_) {
            tiers_[i].info = std::move(x);
            // It has room, but takes nothing.
            if (tiers_[i].info.state == "draining")
              tiers_[i].info.state = silent_tier;
          }
          refreshed(round);
        },
        [this, i, round](const caf::error&) {
          // A tier that does not answer gets no new shards; it is asked again next time.
          if (round == round_)
            tiers_[i].info.state = silent_tier;
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
  const auto& spec = x.volume.spec;
  const auto [at, is_new] = plans_.try_emplace({spec.size_bytes, request_of(spec)});
  caf::error refused;
  if (is_new)
    refused = policy_->determine_shard_placement(spec.size_bytes, request_of(spec), tiers_, at->second);
  if (refused)
    plans_.erase(at);
  else {
    const auto& hosts = x.volume.attachments;
    refused = choose_tier(at->second, tiers_, spec, x.shard, hosts.empty() ? std::string{} : hosts.front().host, tier);
  }
  if (refused) {
    x.promise.deliver(std::move(refused));
    return;
  }
  placed_.insert(x.shard);
  x.promise.deliver(std::move(tier));
}

} // namespace varve
