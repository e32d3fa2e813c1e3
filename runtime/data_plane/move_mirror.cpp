#include "runtime/data_plane/move_mirror.hpp"

#include <algorithm>

#include "runtime/reactor/deadline.hpp"

namespace varve {

std::shared_ptr<move_mirror> move_mirror::make(reactor& on, fabric& carrier, block_copier copier, active_shard& source,
                                               active_shard& sink, mirror_limits limits) {
  std::vector<registered_buffer> landings;
  for (unsigned i = 0; i < limits.lanes; ++i) {
    auto landing = carrier.make_buffer(limits.chunk);
    if (landing.empty())
      break; // with fewer, then
    landings.push_back(std::move(landing));
  }
  if (landings.empty())
    return nullptr;
  return std::make_shared<move_mirror>(on, copier, source, sink, limits, std::move(landings));
}

move_mirror::move_mirror(reactor& on, block_copier copier, active_shard& source, active_shard& sink,
                         mirror_limits limits, std::vector<registered_buffer> landings)
  : reactor_(on), copier_(copier), source_(source), sink_(sink), limits_(limits), landings_(std::move(landings)),
    lanes_(landings_.size()) {
  source_.follower = this;
}

task<void> move_mirror::follow(uint64_t offset, uint64_t length) {
  if (ended_ || late_ > 0 || length == 0)
    co_return;
  auto self = shared_from_this();
  auto x = std::make_shared<change>();
  const auto from = offset / block_size * block_size;
  const auto to = (offset + length + block_size - 1) / block_size * block_size;
  start(bring(self, x, from, to));
  if (x->over)
    co_return;
  deadline limit{reactor_.ring(), reactor_.now() + limits_.wait, x->done};
  co_await x->done.wait();
  if (!x->over) {
    x->late = true;
    ++late_;
  }
  co_await limit.stop();
}

task<void> move_mirror::bring([[maybe_unused]] std::shared_ptr<move_mirror> self, std::shared_ptr<change> x,
                              uint64_t from, uint64_t to) {
  source_.use();
  sink_.use();
  ++under_way_;
  co_await lanes_.acquire();
  for (auto at = from; at < to && !ended_;) {
    const auto end = std::min(to, at + limits_.chunk);
    co_await bring_chunk(at, end);
    at = end;
  }
  lanes_.release();
  x->over = true;
  late_ -= x->late;
  if (--under_way_ == 0)
    settled_.set();
  x->done.set();
  sink_.unuse();
  source_.unuse(); // the shards may be gone when it returns
}

task<void> move_mirror::bring_chunk(uint64_t from, uint64_t to) {
  block_claims::claim held{claims_, from / block_size, (to - from) / block_size};
  co_await held;
  if (ended_)
    co_return;
  // Before the blocks are read: what changes from here on is noted again, and followed by a copy of its own.
  source_.shard->forget_changes(from, to - from);
  auto landing = std::move(landings_.back());
  landings_.pop_back();
  auto status = co_await copier_.copy(*source_.shard, *sink_.shard, landing, from, to - from, tally_);
  landings_.push_back(std::move(landing));
  if (status != errc::none)
    missed_.add(from, to);
}

task<bool> move_mirror::settle(boot_time until) {
  if (under_way_ == 0)
    co_return true;
  deadline limit{reactor_.ring(), until, settled_};
  while (under_way_ > 0 && !limit.passed()) {
    settled_.reset();
    co_await settled_.wait();
  }
  co_await limit.stop();
  co_return under_way_ == 0;
}

void move_mirror::end() noexcept {
  ended_ = true;
  source_.follower = nullptr;
}

} // namespace varve
