#include "runtime/data_plane/volume_port.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "runtime/reactor/io.hpp"

namespace varve {

namespace {

/// Reads from here up are shown where they lie in the tier's memory; smaller ones are copied, which costs less than
/// keeping the shard's writers waiting for the reply to be sent.
constexpr uint64_t pin_bytes_min = 64u << 10;

/// What absent shards read as. Never written.
constexpr size_t zeros_size = 1u << 20;
alignas(4096) std::byte zeros[zeros_size];

/// Between tries to sync what is at a node that does not answer.
constexpr std::chrono::nanoseconds flush_again_after = std::chrono::milliseconds{50};

/// Pieces of one request that are under way at the same time.
constexpr uint32_t lanes_max = 8;

} // namespace

/// A request over several shards, while its lanes work on it.
struct volume_port::split {
  uint64_t next = 0;
  uint64_t end = 0;
  boot_time since{0};
  uint32_t lanes = 0;
  errc status = errc::none;
  async_event done;
};

volume_port::volume_port(reactor& on, shard_table& shards, foreground_load& load, port_options options)
  : reactor_(on), shards_(shards), load_(load), options_(std::move(options)),
    shard_bits_(static_cast<uint32_t>(std::countr_zero(options_.shard_size))),
    self_(std::make_shared<volume_port*>(this)) {
  // Left over from an earlier attachment, or from a sync that failed.
  shards_.for_each([this](active_shard& x) {
    if (x.key.id.volume == options_.volume && x.shard->dirty())
      unsynced_.add(x);
  });
}

volume_port::~volume_port() {
  *self_ = nullptr;
}

volume_port::access volume_port::access_of(const block_request& x) noexcept {
  switch (x.op) {
  case block_op::write: return access::write;
  case block_op::trim: return access::discard;
  case block_op::write_zeroes: return x.no_hole ? access::write : access::discard;
  default: return access::read;
  }
}

void volume_port::submit(block_request& x) {
  if (sink_)
    observe(x);
  load_.last = reactor_.now();
  if (x.op == block_op::flush) {
    ++active_;
    ++load_.in_flight;
    ++counters_.flushes;
    start(serve_flush(x, reactor_.now()));
    return;
  }
  assert(x.length > 0 && x.offset + x.length <= options_.size_bytes);
  const auto index = x.offset >> shard_bits_;
  const auto single = (x.offset & (options_.shard_size - 1)) + x.length <= options_.shard_size;
  switch (x.op) {
  case block_op::read:
    ++counters_.reads;
    counters_.read_bytes += x.length;
    break;
  case block_op::write:
    ++counters_.writes;
    counters_.written_bytes += x.length;
    break;
  case block_op::trim: ++counters_.trims; break;
  case block_op::write_zeroes: ++counters_.zeroes; break;
  default: break;
  }
  if (index != run_last_)
    note_run(index, x.op == block_op::write);
  ++active_;
  ++load_.in_flight;
  if (x.op == block_op::cache) {
    // Advice; fetching ahead is the predictors' business, who see it in the observations.
    finish(x, errc::none, reactor_.now());
    return;
  }
  if (single && ((x.op == block_op::read && fast_read(x)) || (x.op == block_op::write && fast_write(x))))
    return;
  start(serve(x, reactor_.now()));
}

bool volume_port::fast_read(block_request& x) {
  active_shard* shard = nullptr;
  switch (look_up(x.offset >> shard_bits_, access::read, shard)) {
  case reach::ready: break;
  case reach::absent:
    if (x.length > zeros_size)
      return false;
    x.view = {zeros, static_cast<size_t>(x.length)};
    x.release = [](block_request&) {};
    finish(x, errc::none, reactor_.now());
    return true;
  default: return false;
  }
  const auto at = x.offset & (options_.shard_size - 1);
  auto status = errc::none;
  if (x.length >= pin_bytes_min) {
    x.view = shard->shard->pin(at, x.length);
    if (!x.view.empty()) {
      shard->enter();
      x.owner = shard;
      x.release = release_pin;
      ++shard->reads;
      shard->read_bytes += x.length;
      finish(x, errc::none, reactor_.now());
      return true;
    }
  }
  x.data = reactor_.buffers().take(x.length);
  if (!shard->shard->try_read(at, x.data.bytes().first(x.length), status)) {
    reactor_.buffers().give(std::move(x.data));
    return false;
  }
  ++shard->reads;
  shard->read_bytes += x.length;
  if (status != errc::none)
    reactor_.buffers().give(std::move(x.data));
  finish(x, status, reactor_.now());
  return true;
}

void volume_port::release_pin(block_request& x) {
  auto& shard = *static_cast<active_shard*>(x.owner);
  x.view = {};
  x.release = nullptr;
  shard.shard->unpin();
  shard.leave();
}

bool volume_port::fast_write(block_request& x) {
  active_shard* shard = nullptr;
  if (x.fua || look_up(x.offset >> shard_bits_, access::write, shard) != reach::ready || shard->follower)
    return false;
  auto status = errc::none;
  if (!shard->shard->try_write(x.offset & (options_.shard_size - 1), x.payload.first(x.length), status))
    return false;
  shard->change_by(changed_here);
  if (status == errc::none)
    unsynced_.add(*shard);
  ++shard->writes;
  shard->written_bytes += x.length;
  finish(x, status, reactor_.now());
  return true;
}

task<void> volume_port::serve(block_request& x, boot_time since) {
  if (x.op == block_op::read)
    x.data = reactor_.buffers().take(x.length);
  errc status;
  if ((x.offset & (options_.shard_size - 1)) + x.length <= options_.shard_size)
    status = co_await serve_piece(x, x.offset, x.length, since);
  else
    status = co_await serve_all(x, since);
  if (status != errc::none && !x.data.empty())
    reactor_.buffers().give(std::move(x.data));
  finish(x, status, since);
}

task<errc> volume_port::serve_all(block_request& x, boot_time since) {
  split all;
  all.next = x.offset;
  all.end = x.offset + x.length;
  all.since = since;
  const auto pieces = ((all.end - 1) >> shard_bits_) - (all.next >> shard_bits_) + 1;
  all.lanes = static_cast<uint32_t>(std::min<uint64_t>(lanes_max, pieces));
  for (auto i = all.lanes; i > 0; --i)
    start(lane(x, all));
  co_await all.done.wait();
  co_return all.status;
}

task<void> volume_port::lane(block_request& x, split& of) {
  while (of.next < of.end && of.status == errc::none) {
    const auto offset = of.next;
    const auto index = offset >> shard_bits_;
    auto until = index + 1;
    // A trim of 16 million absent shards is one step.
    if (access_of(x) == access::discard)
      until = std::max(until, routes_.absent_until(index, reactor_.now()));
    of.next = until > (of.end >> shard_bits_) ? of.end : until << shard_bits_;
    if (until > index + 1 && routed(index, access::discard))
      continue;
    auto status = co_await serve_piece(x, offset, of.next - offset, of.since);
    if (status != errc::none && of.status == errc::none)
      of.status = status;
  }
  if (--of.lanes == 0)
    of.done.set();
}

task<errc> volume_port::serve_piece(block_request& x, uint64_t offset, uint64_t length, boot_time since) {
  const auto index = offset >> shard_bits_;
  const auto how = access_of(x);
  unsure_change unsure;
  for (unsigned refusals = 0;;) {
    active_shard* shard = nullptr;
    switch (look_up(index, how, shard)) {
    case reach::ready: shard->enter(); break;
    case reach::absent: break;
    default: {
      // The vm_agent learns at once how far the request goes.
      const auto count = ((x.offset + x.length - 1) >> shard_bits_) - index + 1;
      auto status = co_await acquire(index, count, how, since, shard);
      if (status != errc::none)
        co_return status;
      break;
    }
    }
    if (!shard) {
      if (x.op == block_op::read)
        std::memset(x.data.data() + (offset - x.offset), 0, length);
      co_return errc::none;
    }
    const auto key = shard->key;
    auto status = errc::none;
    if (x.op != block_op::read)
      status = co_await before_change(*shard, unsure);
    if (status == errc::none)
      status = co_await on_shard(x, *shard, offset, length);
    if (x.op != block_op::read && status == errc::none) {
      unsynced_.add(*shard);
      if (x.fua)
        status = co_await unsynced_.flush_one(*shard);
    }
    unsure.maybe_made |= unsure.turn != 0 && (status == errc::unavailable || status == errc::timed_out);
    shard->leave(); // it may be gone
    if (status == errc::none)
      co_return status;
    const auto retry = co_await again(index, how, key, status, since, refusals);
    if (!retry)
      co_return status;
  }
}

/// Of a change that may have been made at another node tells that node so; of one that was not asked for yet notes
/// whose turn it is.
task<errc> volume_port::before_change(active_shard& shard, unsure_change& x) {
  if (!shard.store->remote()) {
    shard.change_by(changed_here);
    co_return errc::none;
  }
  if (x.maybe_made) {
    shard.shard->repeat(x.turn);
    co_return errc::none;
  }
  auto status = errc::none;
  if (shard.shard->turn() == 0)
    status = co_await shard.shard->look();
  x.turn = status == errc::none ? shard.shard->turn() : 0;
  co_return status;
}

task<errc> volume_port::on_shard(block_request& x, active_shard& shard, uint64_t offset, uint64_t length) {
  const auto at = offset & (options_.shard_size - 1);
  auto status = errc::none;
  switch (x.op) {
  case block_op::read: {
    ++shard.reads;
    shard.read_bytes += length;
    auto into = x.data.bytes().subspan(offset - x.offset, length);
    status = co_await shard.shard->read(at, into);
    break;
  }
  case block_op::write: {
    ++shard.writes;
    shard.written_bytes += length;
    auto from = x.payload.subspan(offset - x.offset, length);
    status = co_await shard.shard->write(at, from);
    break;
  }
  case block_op::trim: status = co_await shard.shard->trim(at, length); break;
  case block_op::write_zeroes: status = co_await shard.shard->write_zeroes(at, length, x.no_hole); break;
  default: break;
  }
  // A change that failed is noted as one all the same.
  if (shard.follower && x.op != block_op::read && status == errc::none)
    co_await shard.follower->follow(at, length);
  co_return status;
}

task<void> volume_port::serve_flush(block_request& x, boot_time since) {
  auto status = co_await unsynced_.flush();
  // What another node holds is synced when that answers again.
  while ((status == errc::unavailable || status == errc::timed_out) && !failing_ &&
         (options_.error_after.count() == 0 || reactor_.now() - since < options_.error_after)) {
    co_await sleep_for(reactor_, flush_again_after);
    status = co_await unsynced_.flush();
  }
  finish(x, status, since);
}

void volume_port::finish(block_request& x, errc status, boot_time since) {
  const auto now = reactor_.now();
  const auto us = static_cast<uint64_t>((now - since).count()) / 1000;
  ++counters_.latency_us_buckets[std::min<size_t>(std::bit_width(us), std::size(counters_.latency_us_buckets) - 1)];
  counters_.latency_us_sum += us;
  counters_.errors += status != errc::none;
  x.status = status;
  --load_.in_flight;
  load_.last = now;
  x.complete(x);
  left();
}

void volume_port::left() {
  if (--active_ == 0 && closed_)
    idle_.set();
}

task<errc> volume_port::extents(uint64_t offset, uint64_t length, size_t extents_max, std::vector<volume_extent>& out) {
  ++active_;
  const auto since = reactor_.now();
  const auto end = offset + length;
  auto status = errc::none;
  auto add = [&out](uint64_t bytes, bool hole) {
    if (!out.empty() && out.back().hole == hole)
      out.back().length += bytes;
    else
      out.push_back({bytes, hole, hole});
  };
  out.clear();
  std::vector<shard_extent> inside;
  // One more than asked for: only then the last one asked for is as long as it can be.
  while (offset < end && out.size() <= extents_max) {
    const auto index = offset >> shard_bits_;
    const auto absent_end = routes_.absent_until(index, reactor_.now());
    if (absent_end > index) {
      const auto to = absent_end > (end >> shard_bits_) ? end : std::min(end, absent_end << shard_bits_);
      add(to - offset, true);
      offset = to;
      continue;
    }
    active_shard* shard = nullptr;
    const auto count = ((end - 1) >> shard_bits_) - index + 1;
    status = co_await acquire(index, count, access::read, since, shard);
    if (status != errc::none)
      break;
    const auto to = std::min(end, (index + 1) << shard_bits_);
    if (shard) {
      const auto base = index << shard_bits_;
      inside.clear();
      shard->shard->extents(offset - base, to - offset, inside);
      shard->leave();
      // Whole blocks come back; the first and the last are cut to what was asked.
      for (auto& x : inside) {
        const auto from = std::max(offset, base + x.offset);
        const auto until = std::min(to, base + x.offset + x.length);
        if (until > from)
          add(until - from, x.state == block_state::hole);
      }
    } else {
      add(to - offset, true);
    }
    offset = to;
  }
  if (status == errc::none && out.size() > extents_max)
    out.resize(extents_max);
  left();
  co_return status;
}

task<errc> volume_port::close(bool force) {
  closed_ = true;
  if (force)
    fail_parked();
  while (active_ > 0) {
    idle_.reset();
    co_await idle_.wait();
  }
  auto status = co_await unsynced_.flush();
  if (ticking_) {
    reactor_.ring().cancel(timer_);
    co_await tick_over_.wait();
  }
  deliver_observations();
  sink_ = nullptr;
  co_return status;
}

volume_counters volume_port::counters() const {
  return counters_;
}

} // namespace varve
