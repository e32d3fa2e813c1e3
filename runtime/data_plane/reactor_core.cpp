#include "runtime/data_plane/reactor_core.hpp"

#include <bit>

namespace varve {

reactor_core::reactor_core(reactor& on, std::vector<std::unique_ptr<shard_store>> stores,
                           std::unique_ptr<fabric> carrier, copy_budget& budget, nbd_options nbd, move_limits limits,
                           std::unique_ptr<reactor_peers> peers)
  : reactor_(on), nbd_(std::move(nbd)), peers_(std::move(peers)), shards_(on, std::move(stores), *this),
    fabric_(std::move(carrier)), moves_(on, shards_, *fabric_, budget, load_, limits) {
  // On the reactor's thread. Nothing that ends this comes before.
  if (peers_)
    on.post([this] { peers_->serve(shards_, load_); });
}

reactor_core::~reactor_core() {
  // A port that is still open here has requests that a hung device holds on to: it must outlive them.
  for (auto& [volume, x] : ports_)
    new std::shared_ptr<exported>{x};
}

volume_port* reactor_core::port(volume_id volume) noexcept {
  auto at = ports_.find(volume);
  return at == ports_.end() ? nullptr : at->second->port.get();
}

block_backend* reactor_core::exported::find(std::string_view name) {
  return !closing && (name.empty() || name == port->options().name) ? port.get() : nullptr;
}

task<errc> reactor_core::open_port(port_options options) {
  if (!std::has_single_bit(options.shard_size) || options.shard_size < shard_size_min ||
      options.shard_size > shard_size_max || options.size_bytes > volume_size_max)
    co_return errc::invalid_argument;
  if (auto at = ports_.find(options.volume); at != ports_.end()) {
    if (at->second->closing)
      co_return errc::unavailable;
    at->second->port->adopt(std::move(options));
    co_return errc::none;
  }
  if (peers_)
    for (const auto& y : peers_->inherit(options.volume, options.holder))
      // A tier that is in no file any more: nobody can say what became of it.
      if (const auto tier = shards_.tier_of(y.tier); tier >= 0)
        co_await shards_.inherit({static_cast<uint16_t>(tier), y.id, y.of}, options.shard_size, y.verifier);
  if (ports_.count(options.volume) != 0)
    co_return errc::unavailable; // opened meanwhile
  auto x = std::make_shared<exported>();
  const auto volume = options.volume;
  const auto path = options.socket_path;
  x->port = std::make_unique<volume_port>(reactor_, shards_, load_, std::move(options));
  if (!path.empty()) {
    x->server = std::make_unique<nbd_server>(reactor_, *x, nbd_);
    x->server->on_connections([of = x.get()](size_t count) { of->connections = count; });
    auto status = x->server->listen(path);
    if (status != errc::none)
      co_return status;
  }
  ports_[volume] = std::move(x);
  co_return errc::none;
}

task<errc> reactor_core::close_port(volume_id volume, bool force) {
  auto at = ports_.find(volume);
  if (at == ports_.end())
    co_return errc::none;
  auto x = at->second;
  if (x->closing) {
    // Under way already: all that can be added is force.
    if (!force)
      co_return errc::unavailable;
    x->port->fail_parked();
    if (x->server)
      co_await x->server->close(true);
    co_return errc::none;
  }
  x->closing = true;
  if (force)
    x->port->fail_parked();
  // Connections end when their requests have: after that nothing is submitted.
  if (x->server)
    co_await x->server->close(force);
  auto status = co_await x->port->close(force);
  ports_.erase(volume);
  x->port->leave_unsynced();
  // No lease leads there any more. What was lost there has been said now, and is the next port's no longer.
  co_await shards_.leave_remote(volume);
  co_return status;
}

void reactor_core::counters(std::map<volume_id, volume_counters>& into) const {
  for (auto& [volume, x] : ports_) {
    auto mine = x->port->counters();
    mine.connections = x->connections;
    into[volume] = mine;
  }
}

task<errc> reactor_core::stop(boot_time deadline) {
  auto first = errc::none;
  if (peers_) {
    // Half of the time is for those nodes that answer.
    const auto half = reactor_.now() + (deadline - reactor_.now()) / 2;
    peers_->give_up_at(half);
    co_await peers_->stop_serving(half);
  }
  std::vector<volume_id> volumes;
  for (auto& [volume, x] : ports_)
    volumes.push_back(volume);
  for (auto volume : volumes) {
    auto status = co_await close_port(volume, true);
    if (first == errc::none)
      first = status;
  }
  co_await moves_.stop();
  auto status = co_await shards_.close_all(deadline);
  if (peers_)
    co_await peers_->close();
  co_return first == errc::none ? status : first;
}

void reactor_core::retry(const shard_key& key) {
  if (peers_)
    peers_->retry(key);
  auto* at = port(key.id.volume);
  if (!at)
    return;
  if (auto* x = shards_.find(key))
    at->opened(*x);
  at->retry(key.id.index.value());
}

void reactor_core::forget(active_shard& x, bool gone) {
  if (auto* at = port(x.key.id.volume))
    at->forget(x, gone);
}

} // namespace varve
