#include "tests/simulation/simulated_etcd.hpp"

#include <algorithm>

namespace varve::test {

using namespace std::chrono_literals;

/// The store of one life.
class simulated_catalog final : public catalog_store {
public:
  explicit simulated_catalog(std::weak_ptr<simulated_candidate> by) : by_(std::move(by)) {}

  void commit(catalog_batch batch, callback done) override {
    simulated_etcd::call x;
    x.is_commit = true;
    x.batch = std::move(batch);
    x.done = std::move(done);
    ask(std::move(x));
  }
  void list(std::string prefix, std::string after, size_t limit, callback done) override {
    simulated_etcd::call x;
    x.prefix = std::move(prefix);
    x.after = std::move(after);
    x.limit = limit;
    x.done = std::move(done);
    ask(std::move(x));
  }

private:
  void ask(simulated_etcd::call x) {
    auto by = by_.lock();
    if (!by || by->dead_)
      return;
    if (by->created_ == 0) {
      x.done({errc::unavailable, 0, {}, "this node does not lead (yet)"});
      return;
    }
    x.by = by_;
    by->etcd_->ask(std::move(x));
  }

  std::weak_ptr<simulated_candidate> by_;
};

void simulated_etcd::cut(const std::string& node, bool on) {
  if (on)
    cut_.insert(node);
  else
    cut_.erase(node);
}

boot_time simulated_etcd::delay() {
  return boot_time{static_cast<int64_t>(world_.random().between(static_cast<uint64_t>(options_.delay_min.count()),
                                                                static_cast<uint64_t>(options_.delay_max.count())))};
}

void simulated_etcd::ask(call x) {
  x.at = world_.now() + delay();
  x.give_up = world_.now() + options_.retry_for;
  x.sequence = ++sequence_;
  calls_.push_back(std::move(x));
}

boot_time simulated_etcd::next_event() const {
  auto result = boot_time::max();
  for (const auto& x : calls_)
    result = std::min(result, x.at);
  for (const auto& x : candidates_)
    if (auto y = x.lock(); y && !y->dead_ && !y->paused_)
      result = std::min(result, y->next_);
  return result;
}

bool simulated_etcd::deliver() {
  bool any = false;
  for (auto& x : candidates_)
    if (auto y = x.lock(); y && !y->dead_ && !y->paused_ && y->next_ <= world_.now()) {
      y->tick();
      any = true;
    }
  std::erase_if(candidates_, [](const auto& x) { return x.expired() || x.lock()->dead_; });
  for (;;) {
    auto due = calls_.end();
    for (auto at = calls_.begin(); at != calls_.end(); ++at)
      if (at->at <= world_.now() &&
          (due == calls_.end() || std::pair{at->at, at->sequence} < std::pair{due->at, due->sequence}))
        due = at;
    if (due == calls_.end())
      return any;
    auto x = std::move(*due);
    calls_.erase(due);
    carry_out(x);
    any = true;
  }
}

void simulated_etcd::carry_out(call& x) {
  auto by = x.by.lock();
  const bool is_cut = by && cut_.count(by->node_);
  const bool waits = by && !by->dead_ && (is_cut || (x.result && by->paused_));
  const auto now = world_.now();
  if (!by || (by->dead_ && x.result))
    return;
  if (waits) {
    if (now < x.give_up || by->paused_) {
      x.at = now + 50ms;
      calls_.push_back(std::move(x));
      return;
    }
    if (x.result)
      x.done({x.is_commit ? errc::timed_out : errc::unavailable, 0, {}, "etcd does not answer"});
    else
      x.done({errc::unavailable, 0, {}, "etcd does not answer; nothing was changed"});
    return;
  }
  if (x.result) {
    world_.note(2000, x.result->revision, static_cast<uint64_t>(x.result->status));
    x.done(std::move(*x.result));
    return;
  }
  x.result = std::make_unique<catalog_result>(apply(x));
  x.at = now + delay();
  x.give_up = now + options_.resolve_for;
  x.sequence = ++sequence_;
  calls_.push_back(std::move(x));
}

catalog_result simulated_etcd::apply(const call& x) {
  auto by = x.by.lock();
  if (by->created_ == 0 || by->created_ != created_) {
    ++refused_deposed;
    return {errc::unavailable, 0, {}, "this node does not lead any more: another manager does"};
  }
  catalog_result result;
  auto done = [&](catalog_result y) { result = std::move(y); };
  if (x.is_commit)
    store_.commit(x.batch, done);
  else
    store_.list(x.prefix, x.after, x.limit, done);
  if (x.is_commit && result.status == errc::none && on_commit)
    on_commit(x.batch);
  return result;
}

std::shared_ptr<simulated_candidate> simulated_candidate::make(simulated_etcd& at, std::string node,
                                                               simulated_clock clock) {
  auto result = std::make_shared<simulated_candidate>();
  result->etcd_ = &at;
  result->node_ = std::move(node);
  result->clock_ = clock;
  result->next_ = at.world_.now() + at.delay();
  at.candidates_.push_back(result);
  return result;
}

std::unique_ptr<catalog_store> simulated_candidate::store() {
  return std::make_unique<simulated_catalog>(weak_from_this());
}

void simulated_candidate::tick() {
  auto& etcd = *etcd_;
  const auto world = etcd.world_.now();
  const auto now = clock_.local(world);
  const auto term = etcd.options_.term;
  next_ = world + term / 5;
  const auto lose = [&](const std::string& why) {
    created_ = 0;
    leadership_->set({false, why});
  };
  // Before anybody else can lead, by a tenth of the term.
  if (created_ != 0 && now >= until_)
    lose("etcd was not heard of in time");
  if (etcd.cut_.count(node_))
    return;
  if (created_ != 0 && created_ == etcd.created_ && etcd.ends_ > world) {
    etcd.ends_ = world + term;
    until_ = now + term - term / 10;
    leadership_->extend(created_, until_);
    return;
  }
  if (created_ != 0)
    lose("another manager leads");
  if (etcd.created_ != 0 && etcd.ends_ > world && etcd.leader != node_)
    return;
  // Nobody leads, or our own dead predecessor does.
  etcd.leader = node_;
  etcd.created_ = created_ = ++etcd.elections;
  etcd.ends_ = world + term;
  until_ = now + term - term / 10;
  etcd.world_.note(2001, created_);
  leadership_->set({true, {}, created_, until_});
}

} // namespace varve::test
