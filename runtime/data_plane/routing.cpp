// How a volume_port brings requests to shards: routes, parking, and asking the vm_agent.

#include <algorithm>
#include <cassert>

#include "runtime/data_plane/volume_port.hpp"
#include "runtime/reactor/io.hpp"

namespace varve {

namespace {

/// A need is said again when nothing came of it for so long.
constexpr std::chrono::nanoseconds ask_again_after = std::chrono::seconds{1};
constexpr std::chrono::nanoseconds tick_every = std::chrono::milliseconds{50};
/// A request that storage refused so often asks no faster than `ask_again_after`: a vm_agent that keeps handing out
/// a stale route must not keep both busy.
constexpr unsigned eager_refusals = 4;
/// Shards that a sequential run asks ahead, and how many neighbours make a run.
constexpr uint64_t ahead_count = 4;
constexpr uint32_t run_length_min = 2;
/// Of a need for many shards, so many are remembered as asked for one by one.
constexpr uint64_t asked_each_max = 64;
constexpr size_t observations_max = 8192;

} // namespace

/// A request that waits, in its coroutine's frame.
struct volume_port::parked_request {
  uint64_t index = 0;
  access how = access::read;
  /// Why: only what waits for a route is asked for again.
  reach why = reach::needs_route;
  boot_time since{0};
  errc outcome = errc::none;
  waiter_list::waiter waiter;
  parked_request* next = nullptr;
  parked_request* previous = nullptr;
};

class volume_port::parking {
public:
  parking(volume_port& port, uint64_t index, access how, reach why, boot_time since) : port_(port) {
    x_.index = index;
    x_.how = how;
    x_.why = why;
    x_.since = since;
  }
  parking(const parking&) = delete;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    x_.waiter.handle = handle;
    x_.previous = port_.parked_last_;
    (port_.parked_last_ ? port_.parked_last_->next : port_.parked_first_) = &x_;
    port_.parked_last_ = &x_;
    ++port_.counters_.parked_now;
    port_.start_ticking();
  }
  errc await_resume() const noexcept { return x_.outcome; }

private:
  volume_port& port_;
  parked_request x_;
};

template <class Which>
waiter_list::waiter* volume_port::unpark(errc outcome, Which which) {
  waiter_list::waiter* first = nullptr;
  auto** last = &first;
  for (auto* x = parked_first_; x;) {
    auto* next = x->next;
    if (which(*x)) {
      (x->previous ? x->previous->next : parked_first_) = x->next;
      (x->next ? x->next->previous : parked_last_) = x->previous;
      --counters_.parked_now;
      x->outcome = outcome;
      x->waiter.next = nullptr;
      *last = &x->waiter;
      last = &x->waiter.next;
    }
    x = next;
  }
  return first;
}

void volume_port::resume(waiter_list::waiter* first) {
  while (auto* x = first) {
    first = x->next;
    waiter_list::run(*x);
  }
}

bool volume_port::routed(uint64_t index, access how) const noexcept {
  auto& routes = const_cast<route_table&>(routes_);
  const auto now = reactor_.now();
  if (auto* entry = routes.find(index))
    return routes.valid(*entry, now) && (how == access::read || entry->writable);
  return how != access::write && routes_.absent_until(index, now) > index;
}

volume_port::reach volume_port::look_up(uint64_t index, access how, active_shard*& shard) {
  const auto now = reactor_.now();
  auto* entry = routes_.find(index);
  if (!entry)
    return how != access::write && routes_.absent_until(index, now) > index ? reach::absent : reach::needs_route;
  if (!routes_.valid(*entry, now) || (how != access::read && !entry->writable))
    return reach::needs_route;
  if (!entry->shard) {
    const shard_key key{entry->tier, {options_.volume, shard_index{index}}, entry->generation};
    entry->shard = shards_.find(key);
    if (!entry->shard)
      return reach::opening;
    entry->shard->shard->hold(entry->fence);
  }
  switch (entry->shard->admit(*entry)) {
  case errc::none: shard = entry->shard; return reach::ready;
  case errc::unavailable: return reach::gate;
  case errc::stale_epoch: ++counters_.fenced_stale_epoch; break;
  default: ++counters_.fenced_moved; break;
  }
  routes_.drop(index, 1);
  return reach::refused;
}

task<errc> volume_port::acquire(uint64_t index, uint64_t count, access how, boot_time since, active_shard*& shard) {
  unsigned refusals = 0;
  auto counted = false;
  for (;;) {
    shard = nullptr;
    auto found = look_up(index, how, shard);
    switch (found) {
    case reach::ready: shard->enter(); co_return errc::none;
    case reach::absent: co_return errc::none;
    case reach::refused:
      if (++refusals <= eager_refusals) {
        asked_.erase(index);
        ask(index, count, how != access::read);
      } else {
        asked_[index] = {reactor_.now(), how != access::read}; // left to the timer
      }
      break;
    case reach::needs_route: {
      // What exists must be writable to be discarded; what may be absent is only looked for.
      auto* entry = routes_.find(index);
      ask(index, count, how == access::write || (how == access::discard && entry));
      break;
    }
    case reach::opening: {
      auto* entry = routes_.find(index);
      const shard_key key{entry->tier, {options_.volume, shard_index{index}}, entry->generation};
      open_shard(key);
      if (!failing_ && opening_.count(key) == 0)
        continue; // over already, and nobody would be told
      break;
    }
    case reach::gate: break;
    }
    if (failing_)
      co_return errc::unavailable;
    if (!std::exchange(counted, true))
      ++counters_.parked;
    parking wait{*this, index, how, found, since};
    auto outcome = co_await wait;
    if (outcome != errc::none)
      co_return outcome;
  }
}

task<bool> volume_port::again(uint64_t index, access how, const shard_key& key, errc status, boot_time since,
                              unsigned& refusals) {
  const auto refused = status == errc::stale_epoch || status == errc::shard_moved;
  if (failing_ || (!refused && status != errc::unavailable && status != errc::timed_out))
    co_return false;
  if (!refused) {
    // Its node does not answer: that is the volume's to say how long to wait for.
    if (options_.error_after.count() != 0 && reactor_.now() - since >= options_.error_after)
      co_return false;
    co_await sleep_for(reactor_, tick_every);
    co_return true;
  }
  ++(status == errc::stale_epoch ? counters_.fenced_stale_epoch : counters_.fenced_moved);
  // Unless there is another route already.
  auto* entry = routes_.find(index);
  if (entry && entry->shard && entry->shard->key == key)
    routes_.drop(index, 1);
  if (++refusals <= eager_refusals)
    asked_.erase(index);
  else
    asked_[index] = {reactor_.now(), how != access::read}; // left to the timer
  co_return true;
}

void volume_port::open_shard(shard_key key) {
  // Who else waits for it is resumed with the first.
  if (!opening_.insert(key).second)
    return;
  ++active_;
  start(opening(key));
}

task<void> volume_port::opening(shard_key key) {
  const auto index = key.id.index.value();
  active_shard* out = nullptr;
  auto status = co_await shards_.activate(key, out);
  if (shards_.store(key.tier).remote() && (status == errc::unavailable || status == errc::timed_out)) {
    // Its node does not answer. The route stands: those who wait do so as long as their volume lets them.
    if (!failing_)
      co_await sleep_for(reactor_, tick_every);
    opening_.erase(key);
    retry(index);
  } else if (status != errc::none) {
    opening_.erase(key);
    // Not where the route says, or unreadable: the actors find out why, and give another route.
    auto* entry = routes_.find(index);
    if (entry && entry->generation == key.generation && entry->tier == key.tier) {
      ++counters_.fenced_moved;
      routes_.drop(index, 1);
    }
    retry(index);
  } else {
    opening_.erase(key);
    retry(index);
  }
  left();
}

// -- needs ------------------------------------------------------------------------------------------------------------

void volume_port::ask(uint64_t first, uint64_t count, bool write) {
  const auto now = reactor_.now();
  if (auto at = asked_.find(first);
      at != asked_.end() && now - at->second.at < ask_again_after && (at->second.write || !write))
    return;
  const auto each = std::min(count, asked_each_max);
  for (uint64_t i = 0; i < each; ++i)
    asked_[first + i] = {now, write};
  needs_.push_back({options_.volume, shard_index{first}, count, write});
  if (!std::exchange(needs_posted_, true))
    reactor_.post([self = self_] {
      if (*self)
        (*self)->deliver_needs();
    });
  start_ticking();
}

void volume_port::note_run(uint64_t index, bool write) {
  run_length_ = index == run_last_ + 1 ? run_length_ + 1 : 0;
  run_last_ = index;
  if (run_length_ < run_length_min)
    return;
  const auto how = write ? access::write : access::read;
  const auto shards = (options_.size_bytes + options_.shard_size - 1) >> shard_bits_;
  for (auto i = index + 1; i <= index + ahead_count && i < shards; ++i)
    if (!routed(i, how))
      ask(i, 1, write);
}

void volume_port::deliver_needs() {
  needs_posted_ = false;
  auto needs = std::exchange(needs_, {});
  std::sort(needs.begin(), needs.end(), [](auto& a, auto& b) {
    return std::pair{a.write, a.first} < std::pair{b.write, b.first};
  });
  // Neighbours become one need, repeats none.
  size_t kept = 0;
  for (auto& x : needs) {
    if (kept > 0 && needs[kept - 1].write == x.write &&
        needs[kept - 1].first.value() + needs[kept - 1].count >= x.first.value()) {
      auto& last = needs[kept - 1];
      last.count = std::max(last.first.value() + last.count, x.first.value() + x.count) - last.first.value();
    } else {
      needs[kept++] = x;
    }
  }
  needs.resize(kept);
  if (!needs.empty() && options_.on_need)
    options_.on_need(std::move(needs));
}

// -- the timer: repeats, deadlines, observations ----------------------------------------------------------------------

void volume_port::start_ticking() {
  if (std::exchange(ticking_, true))
    return;
  tick_over_.reset();
  timer_ = {};
  timer_.op = ring_op::timeout;
  timer_.deadline = reactor_.now() + tick_every;
  timer_.fd = -1;
  timer_.path = reinterpret_cast<const char*>(this); // a timeout has no path: it carries whose it is
  timer_.complete = [](ring_operation& x) {
    auto* self = const_cast<volume_port*>(reinterpret_cast<const volume_port*>(x.path));
    self->tick();
  };
  reactor_.ring().submit(timer_);
}

void volume_port::tick() {
  const auto now = reactor_.now();
  ticking_ = false;
  std::erase_if(asked_, [&](auto& x) { return now - x.second.at >= ask_again_after; });
  auto* late = options_.error_after.count() == 0
                 ? nullptr
                 : unpark(errc::timed_out, [&](auto& x) { return now - x.since >= options_.error_after; });
  ask_for_parked();
  deliver_observations();
  if (parked_first_ || (!closed_ && !asked_.empty()))
    start_ticking();
  // A close that waits for this has waited for all that was parked before, so `late` is empty then.
  if (!ticking_)
    tick_over_.set();
  resume(late);
}

bool volume_port::waits_to_write(const parked_request& x) noexcept {
  return x.how == access::write || (x.how == access::discard && routes_.find(x.index));
}

void volume_port::ask_for_parked() {
  for (auto* x = parked_first_; x; x = x->next)
    if (x->why == reach::needs_route || x->why == reach::refused)
      ask(x->index, 1, waits_to_write(*x));
}

// -- commands ---------------------------------------------------------------------------------------------------------

void volume_port::adopt(port_options options) {
  options_.on_need = std::move(options.on_need);
  options_.error_after = options.error_after;
  options_.name = std::move(options.name);
  options_.read_only = options.read_only;
  asked_.clear();
  ask_for_parked();
}

void volume_port::set_routes(std::vector<route> routes) {
  if (routes.empty())
    return;
  auto low = ~uint64_t{0};
  uint64_t high = 0;
  for (auto& x : routes) {
    const auto first = x.first.value();
    low = std::min(low, first);
    high = std::max(high, first + x.count);
    if (x.count <= asked_each_max)
      for (auto i = first; i < first + x.count; ++i)
        asked_.erase(i);
    else
      std::erase_if(asked_, [&](auto& a) { return a.first >= first && a.first < first + x.count; });
    if (!x.exists) {
      routes_.set_absent(first, x.count, x.valid_until);
      continue;
    }
    const auto tier = shards_.tier_of(x.tier);
    if (tier < 0)
      continue; // no such tier here: what needs it asks again
    route_entry entry;
    entry.fence = x.fence;
    entry.generation = x.generation;
    entry.valid_until = x.valid_until;
    entry.tier = static_cast<uint16_t>(tier);
    entry.writable = x.writable;
    routes_.set(first, entry);
  }
  resume(unpark(errc::none, [=](auto& x) { return x.index >= low && x.index < high; }));
}

void volume_port::refuse_needs(shard_index first, uint64_t count, bool write, errc why) {
  const auto inside = [=](uint64_t index) { return index >= first.value() && index - first.value() < count; };
  std::erase_if(asked_, [&](auto& x) { return inside(x.first) && x.second.write == write; });
  resume(unpark(why, [&](auto& x) {
    return inside(x.index) && (x.why == reach::needs_route || x.why == reach::refused) && (!write || waits_to_write(x));
  }));
}

task<void> volume_port::drop_routes(shard_index first, uint64_t count) {
  ++active_;
  std::vector<shard_key> inside;
  routes_.for_each(first.value(), count, [&](uint64_t, route_entry& x) {
    if (x.shard && x.shard->in_flight)
      inside.push_back(x.shard->key);
  });
  routes_.drop(first.value(), count);
  for (auto key : inside) {
    auto* x = shards_.find(key);
    if (!x)
      continue; // it could only close empty
    x->use();
    // A hung device delays the answer; whoever waits for it has time-outs of its own.
    for (auto quiet = false; !quiet;)
      quiet = co_await drain(reactor_.ring(), *x, false, reactor_.now() + shard_table::drain_limit);
    x->unuse();
  }
  left();
}

void volume_port::extend_routes(boot_time valid_until) {
  routes_.extend(valid_until, reactor_.now());
  resume(unpark(errc::none, [this](auto& x) { return x.why == reach::needs_route && routed(x.index, x.how); }));
}

void volume_port::fail_parked() {
  failing_ = true;
  resume(unpark(errc::unavailable, [](auto&) { return true; }));
}

void volume_port::retry(uint64_t index) {
  resume(unpark(errc::none, [index](auto& x) { return x.index == index; }));
}

void volume_port::forget(active_shard& x, bool gone) {
  unsynced_.erase(x);
  const auto index = x.key.id.index.value();
  auto* entry = routes_.find(index);
  if (!entry || entry->tier != x.key.tier || entry->generation != x.key.generation)
    return;
  entry->shard = nullptr;
  if (!gone)
    return;
  routes_.drop(index, 1);
  for (auto* p = parked_first_; p; p = p->next)
    if (p->index == index) {
      p->why = reach::refused;
      ++counters_.fenced_moved;
    }
}

// -- observations -----------------------------------------------------------------------------------------------------

void volume_port::observe(std::function<void(std::vector<io_observation>)> sink) {
  deliver_observations();
  sink_ = std::move(sink);
  if (sink_)
    observations_.reserve(observations_max);
}

void volume_port::observe(const block_request& x) {
  if (observations_.size() == observations_max) {
    ++counters_.observations_dropped;
    return;
  }
  // The timer runs only while there is something to tell.
  if (observations_.empty())
    start_ticking();
  observations_.push_back({reactor_.now(), x.offset, static_cast<uint32_t>(std::min<uint64_t>(x.length, ~uint32_t{0})),
                           static_cast<uint8_t>(x.op)});
  // Half is left for what comes before the next round.
  if (observations_.size() >= observations_max / 2 && !std::exchange(observations_posted_, true))
    reactor_.post([self = self_] {
      if (*self)
        (*self)->deliver_observations();
    });
}

void volume_port::deliver_observations() {
  observations_posted_ = false;
  if (observations_.empty())
    return;
  std::vector<io_observation> batch;
  batch.reserve(observations_max);
  batch.swap(observations_);
  if (sink_)
    sink_(std::move(batch));
}

} // namespace varve
