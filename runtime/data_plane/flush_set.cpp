#include "runtime/data_plane/flush_set.hpp"

#include <algorithm>

namespace varve {

struct flush_set::round {
  std::vector<active_shard*> shards;
  size_t next = 0;
  size_t lanes = 0;
  errc status = errc::none;
  async_event done;
};

void flush_set::erase(active_shard& x) noexcept {
  if (!x.unsynced)
    return;
  x.unsynced = false;
  auto at = std::find(shards_.begin(), shards_.end(), &x);
  *at = shards_.back();
  shards_.pop_back();
}

task<errc> flush_set::flush_one(active_shard& x) {
  x.use();
  auto status = co_await x.shard->flush();
  if (status == errc::none && !x.shard->dirty())
    erase(x);
  x.unuse();
  co_return status;
}

task<errc> flush_set::flush() {
  // A shard may have synced itself (checkpoint), or be volatile.
  for (size_t i = 0; i < shards_.size();) {
    if (shards_[i]->shard->dirty())
      ++i;
    else
      erase(*shards_[i]);
  }
  if (shards_.empty())
    co_return errc::none;
  if (shards_.size() == 1) {
    auto status = co_await flush_one(*shards_.front());
    co_return status;
  }
  round all;
  all.shards = shards_;
  // None may close before its turn.
  for (auto* x : all.shards)
    x->use();
  all.lanes = std::min(lanes_max, all.shards.size());
  // Counted down by lanes that end within start(), too.
  for (auto i = all.lanes; i > 0; --i)
    start(lane(all));
  co_await all.done.wait();
  co_return all.status;
}

task<void> flush_set::lane(round& of) {
  while (of.next < of.shards.size()) {
    auto* x = of.shards[of.next++];
    auto status = co_await x->shard->flush();
    if (status == errc::none && !x->shard->dirty())
      erase(*x);
    else if (of.status == errc::none)
      of.status = status;
    x->unuse();
  }
  if (--of.lanes == 0)
    of.done.set();
}

} // namespace varve
