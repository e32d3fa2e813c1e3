#include "runtime/remote/remote_reactor.hpp"

#include <algorithm>
#include <cerrno>

#include "runtime/reactor/deadline.hpp"
#include "runtime/remote/remote_address.hpp"

namespace varve {

namespace {

void add(remote_client_counters& to, const remote_client_counters& x) noexcept {
  to.sessions += x.sessions;
  to.requests += x.requests;
  to.sent_again += x.sent_again;
  to.broken_payloads += x.broken_payloads;
  to.timed_out += x.timed_out;
  to.protocol_errors += x.protocol_errors;
  to.batches += x.batches;
}

} // namespace

remote_reactor::remote_reactor(reactor& on, uint32_t index, std::shared_ptr<remote_plane::shared> of)
  : reactor_(on), index_(index), shared_(std::move(of)), peers_(shared_->options.nodes.size()) {
  std::lock_guard guard{shared_->mutex};
  shared_->parts[index_] = this;
}

remote_reactor::~remote_reactor() {
  std::lock_guard guard{shared_->mutex};
  shared_->parts[index_] = nullptr;
}

std::vector<std::unique_ptr<shard_store>> remote_reactor::make_stores() {
  std::vector<std::unique_ptr<shard_store>> result;
  const auto& nodes = shared_->options.nodes;
  for (size_t node = 0; node < nodes.size(); ++node)
    for (const auto& x : nodes[node].tiers) {
      remote_store_options options;
      options.as = x;
      options.tier = x.name;
      options.on_open = [this] { opened(); };
      options.unsynced = shared_->options.unsynced;
      auto made = std::make_unique<remote_store>(
        reactor_, [this, node](volume_id volume) { return client_to(node, volume); }, std::move(options));
      tiers_.push_back({made.get(), node});
      result.push_back(std::move(made));
    }
  return result;
}

void remote_reactor::serve(shard_table& shards, foreground_load& load) {
  shards_ = &shards;
  const auto& options = shared_->options;
  auto fd = -1;
  if (options.listen) {
    fd = options.listen(index_);
  } else {
    std::lock_guard guard{shared_->mutex};
    fd = std::exchange(shared_->listening[index_], -1);
  }
  auto with = options.server;
  with.tls = options.server_tls;
  with.part = index_;
  with.parts = options.reactors;
  server_ = std::make_unique<remote_server>(reactor_, shards, load, *shared_->keys[index_], std::move(with));
  served_ = true;
  if (fd >= 0)
    server_->listen(fd);
  std::vector<std::pair<size_t, uint32_t>> known;
  {
    std::lock_guard guard{shared_->mutex};
    for (size_t node = 0; node < peers_.size(); ++node)
      peers_[node].reactors = shared_->reactors[node];
    for (const auto& [to, way] : shared_->ways)
      if (to.own == index_)
        known.emplace_back(to.node, to.theirs);
  }
  for (auto [node, theirs] : known)
    reach(node, theirs);
  ++running_;
  start(look_after());
}

std::vector<inherited_shard> remote_reactor::inherit(volume_id volume, holder_id holder) {
  return shared_->options.unsynced ? shared_->options.unsynced->begin(volume, holder) : std::vector<inherited_shard>{};
}

void remote_reactor::retry(const shard_key& key) {
  if (server_)
    server_->retry(key);
}

// -- clients

remote_client* remote_reactor::client_to(size_t node, volume_id volume) noexcept {
  auto& to = peers_[node];
  if (to.reactors == 0 || given_up_)
    return nullptr;
  auto at = to.clients.find(static_cast<uint32_t>(volume.value() % to.reactors));
  return at == to.clients.end() ? nullptr : at->second.get();
}

void remote_reactor::reach(size_t node, uint32_t theirs) {
  if (given_up_ || closing_ || !server_)
    return; // or `serve` will see to it
  auto& made = peers_[node].clients[theirs];
  if (made)
    return made->hurry();
  made = make_client(node, theirs);
  made->start();
}

std::unique_ptr<remote_client> remote_reactor::make_client(size_t node, uint32_t theirs) {
  const auto& options = shared_->options;
  const auto& to = options.nodes[node];
  const remote_plane::shared::way_to mine{node, theirs, index_};
  auto with = options.client;
  with.incarnation = options.incarnation;
  with.tls = options.client_tls;
  with.server_name = to.name;
  with.key = [of = shared_, mine](session_key& x) {
    std::lock_guard guard{of->mutex};
    auto at = of->ways.find(mine);
    if (at == of->ways.end())
      return false;
    x = at->second.key;
    return true;
  };
  with.connect = [of = shared_, mine] {
    uint16_t port = 0;
    {
      std::lock_guard guard{of->mutex};
      auto at = of->ways.find(mine);
      if (at == of->ways.end())
        return -EHOSTUNREACH;
      port = at->second.port;
    }
    const auto& node = of->options.nodes[mine.node];
    if (of->options.connect)
      return of->options.connect(node.name, port);
    const auto at = of->names.find(node.address);
    return at.empty() ? -EHOSTUNREACH : remote::connect_tcp(remote::port_above(at, port));
  };
  with.on_session = [of = shared_, mine](const std::string& why) {
    std::lock_guard guard{of->told_mutex};
    if (of->told)
      of->told(of->options.nodes[mine.node].name, mine.theirs, mine.own, {why.empty(), why});
  };
  auto result = std::make_unique<remote_client>(reactor_, std::move(with));
  // All of them now: one more would end the session. In the same order for every client, as remote_way asks for.
  for (const auto& x : to.tiers)
    result->tier(x.name);
  return result;
}

task<void> remote_reactor::end_client(std::unique_ptr<remote_client> x) {
  co_await x->close();
  add(past_, x->counters());
  x.reset();
  if (--running_ == 0)
    idle_.set();
}

void remote_reactor::end_clients(peer& x, uint32_t from) {
  // Taken out first: what ends with them may ask for the next one at once.
  std::vector<std::unique_ptr<remote_client>> ending;
  for (auto at = x.clients.lower_bound(from); at != x.clients.end(); at = x.clients.erase(at))
    ending.push_back(std::move(at->second));
  running_ += ending.size();
  for (auto& client : ending)
    start(end_client(std::move(client)));
}

void remote_reactor::set_reactors(size_t node, uint32_t count) {
  peers_[node].reactors = count;
  end_clients(peers_[node], count);
}

// -- shards that are open here

size_t remote_reactor::open_shards() const noexcept {
  size_t result = 0;
  for (auto& x : tiers_)
    result += x.store->open_shards();
  return result;
}

/// In the middle of an opening: only notes it.
void remote_reactor::opened() {
  if (crowded_ || open_shards() <= shared_->options.open_max)
    return;
  crowded_ = true;
  remote_plane::shared::post(shared_, index_, [](remote_reactor& x) { x.wake_.set(); });
}

task<void> remote_reactor::look_after() {
  while (!closing_) {
    wake_.reset();
    deadline limit{reactor_.ring(), reactor_.now() + shared_->options.idle_time, wake_};
    co_await wake_.wait();
    co_await limit.stop();
    if (closing_)
      break;
    // A little less than there may be, so that the next few open without this.
    const auto most = shared_->options.open_max;
    co_await close_idle(std::exchange(crowded_, false) ? most - most / 8 : ~size_t{0});
    shared_->keys[index_]->expire(reactor_.now());
  }
  if (--running_ == 0)
    idle_.set();
}

bool remote_reactor::closable(const active_shard& x) noexcept {
  if (!x.store->remote() || x.in_flight || x.users || x.closings)
    return false;
  if (!x.shard->dirty())
    return true;
  // What holds changes is flushed first, so its node must answer; what has lost some is there to say so.
  auto at = std::find_if(tiers_.begin(), tiers_.end(), [&](auto& t) { return t.store == x.store; });
  auto* client = client_to(at->node, x.key.id.volume);
  return client && client->connected() && !static_cast<remote_shard&>(*x.shard).lost_changes();
}

task<void> remote_reactor::close_idle(size_t most) {
  std::vector<shard_key> idle, busy;
  shards_->for_each([&](active_shard& x) {
    if (closable(x))
      (x.touched ? busy : idle).push_back(x.key);
    if (most == ~size_t{0})
      x.touched = false;
  });
  // The busy ones only where there are too many; in no order, since each was asked for lately.
  const auto idle_count = idle.size();
  if (most != ~size_t{0})
    idle.insert(idle.end(), busy.begin(), busy.end());
  for (size_t i = 0; i < idle.size() && !closing_; ++i) {
    if (i >= idle_count && open_shards() <= most)
      break;
    if (auto* x = shards_->find(idle[i]); x && closable(*x) && (i >= idle_count || !x->touched))
      (void)co_await shards_->passivate(idle[i]);
  }
}

// -- the end

void remote_reactor::give_up_at(boot_time when) {
  ++running_;
  start(giving_up(when));
}

task<void> remote_reactor::giving_up(boot_time when) {
  deadline limit{reactor_.ring(), when, give_up_};
  co_await give_up_.wait();
  co_await limit.stop();
  given_up_ = true;
  for (auto& x : peers_)
    end_clients(x, 0);
  if (--running_ == 0)
    idle_.set();
}

task<void> remote_reactor::close_server() {
  co_await server_->close();
  served_ = false;
  unserved_.set();
  if (--running_ == 0)
    idle_.set();
}

task<void> remote_reactor::stop_serving(boot_time when) {
  if (!served_)
    co_return;
  ++running_;
  start(close_server());
  if (!served_)
    co_return;
  deadline limit{reactor_.ring(), when, unserved_};
  co_await unserved_.wait();
  co_await limit.stop();
}

task<void> remote_reactor::close() {
  closing_ = true;
  wake_.set();
  give_up_.set();
  for (auto& x : peers_)
    end_clients(x, 0);
  while (running_ > 0) {
    idle_.reset();
    co_await idle_.wait();
  }
}

// -- told by the remote_plane

void remote_reactor::revoke(uint64_t key) {
  if (server_)
    server_->revoke(key);
}

void remote_reactor::counters(remote_plane_counters& into) const {
  if (server_) {
    const auto x = server_->counters();
    into.served_sessions_now += x.connections_now;
    into.served_sessions += x.sessions;
    into.served_requests += x.requests;
    into.served_read_bytes += x.read_bytes;
    into.served_written_bytes += x.written_bytes;
    into.refused_sessions +=
      x.refused_busy + x.refused_key + x.refused_version + x.refused_old_session + x.refused_draining;
    into.refused_stale_epoch += x.refused_stale_epoch;
    into.refused_moved += x.refused_moved;
    into.protocol_errors += x.protocol_errors;
    into.broken_payloads += x.broken_payloads;
  }
  auto all = past_;
  for (auto& x : peers_)
    for (auto& [theirs, client] : x.clients) {
      add(all, client->counters());
      into.sessions_now += client->connected();
      into.requests_now += client->in_flight();
    }
  into.sessions += all.sessions;
  into.requests += all.requests;
  into.sent_again += all.sent_again;
  into.timed_out += all.timed_out;
  into.broken_payloads += all.broken_payloads;
  into.protocol_errors += all.protocol_errors;
  for (auto& x : tiers_) {
    const auto seen = x.store->statistics();
    into.read_bytes += seen.read_bytes;
    into.written_bytes += seen.written_bytes;
    into.open_shards_now += x.store->open_shards();
    into.lost_shards += x.store->lost_shards();
  }
}

} // namespace varve
