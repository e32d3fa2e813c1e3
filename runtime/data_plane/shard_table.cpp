#include "runtime/data_plane/shard_table.hpp"

#include "runtime/reactor/deadline.hpp"
#include "runtime/reactor/io.hpp"

namespace varve {

task<bool> drain(ring& on, active_shard& x, bool users_too, boot_time until) {
  auto quiet = [&x, users_too] { return x.in_flight == 0 && (!users_too || x.users == 0); };
  if (quiet())
    co_return true;
  deadline limit{on, until, x.quiet};
  ++x.draining;
  while (!quiet() && !limit.passed()) {
    x.quiet.reset();
    co_await x.quiet.wait();
  }
  --x.draining;
  co_await limit.stop();
  co_return quiet();
}

shard_table::shard_table(reactor& on, std::vector<std::unique_ptr<shard_store>> stores, shard_watcher& watcher)
  : reactor_(on), stores_(std::move(stores)), watcher_(watcher) {}

shard_table::~shard_table() {
  // What a hung device holds on to must outlive its operation: not freed rather than freed too early.
  for (auto& [key, x] : shards_)
    if (x->in_flight || x->users)
      (void)x->shard.release();
}

int shard_table::tier_of(const std::string& name) const noexcept {
  for (size_t i = 0; i < stores_.size(); ++i)
    if (stores_[i]->options().name == name)
      return static_cast<int>(i);
  return -1;
}

active_shard* shard_table::find(const shard_key& key) noexcept {
  auto at = shards_.find(key);
  return at != shards_.end() && at->second->shard && !at->second->leaving ? at->second.get() : nullptr;
}

std::shared_ptr<shard_table::place> shard_table::find_place(const shard_key& key) {
  auto at = shards_.find(key);
  return at == shards_.end() ? nullptr : at->second;
}

task<errc> shard_table::create(uint16_t tier, shard_header header, active_shard*& out) {
  out = nullptr;
  const shard_key key{tier, header.id, header.generation};
  while (auto other = find_place(key)) {
    if (find(key))
      co_return errc::already_exists;
    co_await other->settled.wait();
  }
  auto mine = std::make_shared<place>(key);
  shards_[key] = mine;
  auto opened = co_await stores_[tier]->create(header);
  auto status = co_await settle_open(mine, std::move(opened));
  if (status == errc::none)
    out = mine.get();
  co_return status;
}

task<errc> shard_table::activate(shard_key key, active_shard*& out) {
  out = nullptr;
  while (auto other = find_place(key)) {
    if (auto* found = find(key)) {
      out = found;
      co_return errc::none;
    }
    co_await other->settled.wait();
    if (other->status != errc::none)
      co_return other->status;
  }
  auto mine = std::make_shared<place>(key);
  shards_[key] = mine;
  auto opened = co_await stores_[key.tier]->open(key.id, key.generation);
  auto status = co_await settle_open(mine, std::move(opened));
  if (status == errc::none)
    out = mine.get();
  co_return status;
}

task<void> shard_table::inherit(shard_key key, uint64_t size, uint64_t verifier) {
  while (auto other = find_place(key)) {
    if (find(key))
      co_return; // never closed, it knows of its changes itself
    co_await other->settled.wait();
  }
  shard_header header;
  header.id = key.id;
  header.generation = key.generation;
  header.size = size;
  opened_shard opened;
  opened.shard = stores_[key.tier]->inherit(header, verifier);
  if (!opened.shard)
    co_return;
  auto mine = std::make_shared<place>(key);
  shards_[key] = mine;
  (void)co_await settle_open(mine, std::move(opened));
}

task<errc> shard_table::settle_open(std::shared_ptr<place> x, opened_shard opened) {
  if (opened.status != errc::none) {
    let_go(x, opened.status);
    co_return opened.status;
  }
  x->store = stores_[x->key.tier].get();
  x->shard = std::move(opened.shard);
  x->header = &x->shard->header();
  x->turn = x->opened_turn = static_cast<uint64_t>(reactor_.now().count());
  // A shard that recovery found acknowledged but unsynced data in is its port's to flush.
  x->settled.set();
  watcher_.retry(x->key);
  co_return errc::none;
}

void shard_table::let_go(std::shared_ptr<place> x, errc status) {
  x->status = status;
  shards_.erase(x->key);
  x->settled.set();
}

void shard_table::open_gate(active_shard& x) {
  if (--x.closings == 0)
    watcher_.retry(x.key);
}

task<errc> shard_table::passivate(shard_key key, bool even_failed) {
  auto x = find_place(key);
  if (!x || !find(key))
    co_return x ? errc::unavailable : errc::none;
  if (x->in_flight || x->users || x->closings || x->control.locked())
    co_return errc::unavailable;
  auto held = co_await x->control.lock();
  // A write during the checkpoint would be lost with the shard: the gate keeps it out.
  close_gate(*x);
  x->use();
  auto status = co_await x->shard->checkpoint();
  x->unuse();
  if (even_failed && status == errc::shard_failed)
    status = errc::none;
  if (status == errc::none && (x->users || x->closings > 1))
    status = errc::unavailable;
  if (status != errc::none) {
    open_gate(*x);
    co_return status;
  }
  x->leaving = true;
  x->settled.reset();
  watcher_.forget(*x, false);
  x->header = nullptr;
  x->shard.reset();
  held.unlock();
  let_go(x, errc::none);
  // Who parked at the gate meanwhile has it opened again.
  watcher_.retry(key);
  co_return errc::none;
}

task<void> shard_table::leave_remote(volume_id volume) {
  std::vector<shard_key> keys;
  for_each([&](active_shard& x) {
    if (x.key.id.volume == volume && x.store->remote())
      keys.push_back(x.key);
  });
  for (auto& key : keys)
    (void)co_await passivate(key, true);
}

task<errc> shard_table::raise_fence(shard_key key, epoch to) {
  active_shard* found = nullptr;
  auto status = co_await activate(key, found);
  if (status != errc::none)
    co_return status;
  auto x = find_place(key);
  auto held = co_await x->control.lock();
  if (x->leaving || x->switching)
    co_return errc::unavailable;
  if (to <= x->header->fence)
    co_return errc::none;
  x->use();
  close_gate(*x);
  auto quiet = co_await drain(reactor_.ring(), *x, false, reactor_.now() + drain_limit);
  if (quiet)
    status = co_await x->shard->raise_fence(to);
  else
    status = errc::unavailable;
  open_gate(*x);
  x->unuse();
  co_return status;
}

task<errc> shard_table::remove(shard_key key) {
  while (auto x = find_place(key)) {
    if (!find(key)) {
      // Being opened or closed by somebody else.
      co_await x->settled.wait();
      continue;
    }
    x->leaving = true;
    x->settled.reset();
    close_gate(*x);
    auto held = co_await x->control.lock();
    auto quiet = co_await drain(reactor_.ring(), *x, true, reactor_.now() + drain_limit);
    if (!quiet) {
      x->leaving = false;
      x->settled.set();
      open_gate(*x);
      co_return errc::unavailable;
    }
    watcher_.forget(*x, true);
    x->header = nullptr;
    x->shard.reset();
    held.unlock();
    watcher_.retry(key);
    // The place stays until the file is gone, so that nobody opens it in between.
    auto status = co_await stores_[key.tier]->remove(key.id, key.generation);
    if (status == errc::not_found)
      status = errc::none;
    let_go(x, errc::not_found);
    co_return status;
  }
  auto mine = std::make_shared<place>(key);
  mine->leaving = true;
  shards_[key] = mine;
  auto status = co_await stores_[key.tier]->remove(key.id, key.generation);
  let_go(mine, errc::not_found);
  co_return status == errc::not_found ? errc::none : status;
}

task<errc> shard_table::verify(shard_key key, uint64_t& bad_blocks) {
  bad_blocks = 0;
  active_shard* found = nullptr;
  auto status = co_await activate(key, found);
  if (status != errc::none)
    co_return status;
  auto x = find_place(key);
  x->use();
  bad_blocks = co_await x->shard->verify(0, x->header->size, status);
  x->unuse();
  co_return status;
}

task<errc> shard_table::close_all(boot_time deadline) {
  auto first = errc::none;
  std::vector<shard_key> keys;
  for (auto& [key, x] : shards_)
    keys.push_back(key);
  for (auto& key : keys) {
    auto x = find_place(key);
    if (!x || !find(key))
      continue;
    x->leaving = true;
    x->settled.reset();
    close_gate(*x);
    auto held = co_await x->control.lock();
    auto status = errc::unavailable;
    auto quiet = co_await drain(reactor_.ring(), *x, true, deadline);
    if (quiet) {
      status = co_await x->shard->checkpoint();
      watcher_.forget(*x, false);
      x->header = nullptr;
      x->shard.reset();
      held.unlock();
      let_go(x, errc::unavailable);
    }
    if (first == errc::none)
      first = status;
  }
  co_return first;
}

} // namespace varve
