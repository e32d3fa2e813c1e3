#include "runtime/remote/remote_server.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include <unistd.h>

#include "runtime/remote/remote_connection.hpp"

namespace varve {

namespace {

constexpr std::chrono::milliseconds tick_every{100};
/// Between tries to accept when the process has no descriptor left.
constexpr std::chrono::milliseconds accept_pause{100};

} // namespace

remote_server::remote_server(reactor& on, shard_table& shards, foreground_load& load, session_keys& keys,
                             remote_server_options options)
  : reactor_(on), shards_(shards), load_(load), keys_(keys), options_(std::move(options)) {
  assert(options_.bytes_max >= remote::payload_bytes_max + (64u << 10) && options_.requests_max > 0);
  for (size_t i = 0; i < shards.tiers(); ++i) {
    const auto& store = shards.store(static_cast<uint16_t>(i));
    if (store.remote())
      break; // they are the last
    const auto& tier = store.options();
    tiers_.push_back({tier.name, tier.kind == tier_kind::memory ? options_.volatile_boot : options_.boot});
  }
}

remote_server::~remote_server() {
  assert(listening_.empty() && connections_.empty() && !timer_.in_flight);
}

void remote_server::submit(operation& x, void (*complete)(ring_operation&)) {
  x.self = this;
  x.in_flight = true;
  x.x.complete = complete;
  reactor_.ring().submit(x.x);
}

void remote_server::listen(int fd) {
  assert(!closing_ && listening_.empty());
  listening_.push_back(fd);
  accepts_.push_back(std::make_unique<operation>());
  accept();
}

void remote_server::accept() {
  auto& x = *accepts_.front();
  x.x.op = ring_op::accept;
  x.x.fd = listening_.front();
  submit(x, [](ring_operation& x) {
    auto& mine = reinterpret_cast<operation&>(x);
    mine.in_flight = false;
    mine.self->accepted(x.result);
  });
}

void remote_server::accepted(int32_t result) {
  if (result >= 0)
    adopt(result);
  if (closing_)
    return settle();
  if (result >= 0 || result == -ECONNABORTED || result == -EINTR || result == -EAGAIN)
    return accept();
  auto& x = *accepts_.front();
  x.x.op = ring_op::timeout;
  x.x.deadline = reactor_.now() + accept_pause;
  submit(x, [](ring_operation& x) {
    auto& mine = reinterpret_cast<operation&>(x);
    mine.in_flight = false;
    if (mine.self->closing_)
      mine.self->settle();
    else
      mine.self->accept();
  });
}

void remote_server::adopt(int fd) {
  ++counters_.accepted;
  auto& made = connections_.emplace_back(std::make_unique<remote_connection>(*this, fd));
  ++handshakes_;
  if (closing_ || connections_.size() > options_.connections_max || handshakes_ > options_.handshakes_max) {
    ++counters_.refused_busy;
    made->end("too many connections");
  }
  watch();
  made->start();
}

task<remote::refusal> remote_server::claim_session(remote_connection& x, uint64_t initiator_id, uint64_t incarnation,
                                                   uint64_t session) {
  auto& who = initiators_[initiator_id]; // never removed: there are as many as there are reactors in the cluster
  remote::refusal no;
  if (std::pair{incarnation, session} <= std::pair{who.incarnation, who.session}) {
    no.reason = remote::refusal_reason::old_session;
    no.incarnation = who.incarnation;
    no.session = who.session;
    co_return no;
  }
  // At once, so that an older one that comes late is refused, also while this one waits.
  who.incarnation = incarnation;
  who.session = session;
  while (who.current) {
    // What it has received and not begun is nobody's; what it has begun is waited for.
    who.current->end({});
    who.changed.reset();
    x.claims_ = &who.changed;
    co_await who.changed.wait();
    x.claims_ = nullptr;
    if (x.ended_) {
      no.reason = remote::refusal_reason::draining;
      co_return no;
    }
    if (std::pair{incarnation, session} != std::pair{who.incarnation, who.session}) {
      no.reason = remote::refusal_reason::old_session;
      no.incarnation = who.incarnation;
      no.session = who.session;
      co_return no;
    }
  }
  who.current = &x;
  ++counters_.sessions;
  co_return no;
}

void remote_server::session_over(remote_connection& x) {
  if (x.initiator() == 0)
    return;
  auto& who = initiators_[x.initiator()];
  if (who.current == &x)
    who.current = nullptr;
  if (!closing_) {
    ++syncing_;
    varve::start(sync_changed());
  }
  who.changed.set();
}

task<void> remote_server::sync_changed() {
  std::vector<shard_key> changed;
  shards_.for_each([&](active_shard& x) {
    if (std::exchange(x.changed_remotely, false) && x.shard->dirty())
      changed.push_back(x.key);
  });
  for (const auto& key : changed) {
    auto* x = shards_.find(key);
    if (!x)
      continue; // it was synced to close
    x->use();
    (void)co_await x->shard->flush(); // one that fails says so to whoever asks next
    x->unuse();
  }
  --syncing_;
  if (closing_)
    settle();
}

/// Last in whatever gets here: the connection is no more.
void remote_server::ended(remote_connection& x) {
  auto found = std::find_if(connections_.begin(), connections_.end(), [&](auto& y) { return y.get() == &x; });
  assert(found != connections_.end());
  connections_.erase(found);
  if (closing_)
    settle();
}

void remote_server::trouble(const std::string& peer, const std::string& why) {
  if (!options_.log)
    return;
  // A peer's port differs with each connection: the same reason is once for all of them.
  if (logged_.say(peer.substr(0, peer.rfind(':')) + ": " + why, reactor_.now()))
    options_.log("remote I/O from " + peer + ": " + why);
}

bool remote_server::take_bytes(uint64_t bytes) {
  if (counters_.bytes_now > 0 && counters_.bytes_now + bytes > options_.total_bytes_max)
    return false;
  counters_.bytes_now += bytes;
  counters_.bytes_now_max = std::max(counters_.bytes_now_max, counters_.bytes_now);
  return true;
}

void remote_server::give_bytes(uint64_t bytes) {
  counters_.bytes_now -= bytes;
  if (bytes == 0)
    return;
  ++rooms_;
  room_.set();
}

void remote_server::retry(const shard_key&) {
  // Gates close rarely and for milliseconds: who waits looks for itself whether it was its own.
  gates_.set();
}

void remote_server::revoke(uint64_t key) {
  std::vector<remote_connection*> its;
  for (auto& x : connections_)
    if (x->key() == key)
      its.push_back(x.get());
  for (auto* x : its)
    x->end("its key was withdrawn");
}

void remote_server::watch() {
  if (timer_.in_flight)
    return;
  timer_.x.op = ring_op::timeout;
  timer_.x.deadline = reactor_.now() + tick_every;
  submit(timer_, [](ring_operation& x) {
    auto& mine = reinterpret_cast<operation&>(x);
    mine.in_flight = false;
    mine.self->tick();
  });
}

void remote_server::tick() {
  if (closing_ && connections_.empty())
    return settle();
  auto more = false;
  const auto now = reactor_.now();
  for (auto& x : connections_)
    more |= x->look_after(now);
  more |= at_gates_ > 0;
  if (more)
    watch();
  if (at_gates_ > 0)
    gates_.set();
}

/// Last in whatever gets here: who waits for it may destroy us.
void remote_server::settle() {
  if (!connections_.empty() || syncing_ > 0)
    return;
  for (auto& x : accepts_)
    if (x->in_flight)
      return;
  if (timer_.in_flight) {
    reactor_.ring().cancel(timer_.x); // its completion comes back here
    return;
  }
  for (auto fd : std::exchange(listening_, {}))
    ::close(fd); // a simulated one is nobody's: that fails, as it may
  over_.set();
}

task<void> remote_server::close() {
  if (!std::exchange(closing_, true)) {
    for (auto& x : accepts_)
      if (x->in_flight)
        reactor_.ring().cancel(x->x);
    std::vector<remote_connection*> all;
    for (auto& x : connections_)
      all.push_back(x.get());
    for (auto* x : all)
      x->end({});
    settle();
  }
  co_await over_.wait();
}

remote_server_counters remote_server::counters() const {
  auto result = counters_;
  result.connections_now = connections_.size();
  return result;
}

} // namespace varve
