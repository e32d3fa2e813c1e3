#include "runtime/data_plane/move_engine.hpp"

#include <algorithm>
#include <optional>

#include "runtime/data_plane/block_ranges.hpp"
#include "runtime/reactor/io.hpp"

namespace varve {

struct move_engine::move {
  move_ends ends;
  shard_key from, to;
  active_shard* source = nullptr; // used while set
  active_shard* sink = nullptr;
  block_ranges todo;
  std::shared_ptr<move_mirror> mirror; // once rounds alone do not catch up
  registered_buffer landing;           // the sink's side of the fabric
  async_mutex turn;                    // one command at a time
  bool begun = false;
  bool sealed = false;
  bool cancelled = false;
  /// The notes are not to be trusted (a digest differed): the tables are compared before the next round.
  bool compare_next = false;
  uint64_t changed_last = 0;
  unsigned rounds_without_shrinking = 0;
  boot_time closed_at{-1}; // -1: the gate is open

  /// Changed since the last take_changes, and not mirrored.
  uint64_t changed_bytes() const noexcept {
    return source->shard->changed_bytes() + (mirror ? mirror->missed_bytes() : 0);
  }
};

move_engine::move_engine(reactor& on, shard_table& shards, fabric& carrier, copy_budget& budget, foreground_load& load,
                         move_limits limits)
  : reactor_(on), shards_(shards), fabric_(carrier), budget_(budget), load_(load), limits_(limits),
    copier_(on, carrier, limits.attempts) {}

task<errc> move_engine::begin(move_ends ends) {
  const auto from = shards_.tier_of(ends.from_tier);
  const auto to = shards_.tier_of(ends.to_tier);
  if (from < 0 || to < 0)
    co_return errc::not_found;
  if (ends.from == ends.to)
    co_return errc::invalid_argument;
  auto& place = moves_[ends.id];
  if (!place) {
    place = std::make_shared<move>();
    place->ends = ends;
    place->from = {static_cast<uint16_t>(from), ends.shard, ends.from};
    place->to = {static_cast<uint16_t>(to), ends.shard, ends.to};
  }
  auto m = place;
  auto held = co_await m->turn.lock();
  if (m->begun)
    co_return errc::none;
  if (m->cancelled)
    co_return errc::cancelled;
  co_await let_gates_open();
  auto status = m->cancelled ? errc::cancelled : co_await open_ends(m);
  if (status == errc::none) {
    m->begun = true;
    co_return status;
  }
  release(*m);
  if (auto at = moves_.find(ends.id); at != moves_.end() && at->second == m)
    moves_.erase(at);
  co_return status;
}

task<errc> move_engine::open_ends(move_ptr m) {
  auto status = co_await shards_.activate(m->from, m->source);
  if (status != errc::none)
    co_return status;
  m->source->use();
  const auto& header = *m->source->header;
  if (header.incomplete || (header.sealed_by != migration_id{} && header.sealed_by != m->ends.id))
    co_return errc::shard_moved;
  if (header.sealed_by == m->ends.id) {
    // The crash came after the seal: the sink is whole, nothing was written since, and only the catalog has the say.
    status = co_await shards_.activate(m->to, m->sink);
    if (status != errc::none)
      co_return status;
    m->sink->use();
    if (m->sink->header->incomplete)
      co_return errc::bad_format;
    m->sealed = true;
    m->source->switching = true;
    co_return errc::none;
  }
  m->landing = fabric_.make_buffer(std::max(limits_.chunk_busy, limits_.chunk_quiet));
  if (m->landing.empty())
    co_return errc::limit_reached;
  auto fresh = false;
  status = co_await make_sink(m, fresh);
  if (status != errc::none)
    co_return status;
  // At another node: what it has is compared here.
  status = co_await m->sink->shard->mirror_sums(true);
  if (status == errc::none)
    status = co_await m->source->shard->mirror_sums(true);
  if (status != errc::none)
    co_return status;
  // Notes first, then the list: a write between the two is in both, and copied once too often rather than never.
  m->source->shard->track_changes(true);
  if (fresh) {
    std::vector<shard_extent> all;
    m->source->shard->extents(0, m->source->header->size, all);
    for (auto& x : all)
      if (x.state == block_state::written)
        m->todo.add(x.offset, x.offset + x.length);
  } else {
    compare(*m);
  }
  co_return errc::none;
}

task<errc> move_engine::make_sink(move_ptr m, bool& fresh) {
  shard_header header;
  header.id = m->ends.shard;
  header.size = m->source->header->size;
  header.generation = m->ends.to;
  header.fence = m->source->header->fence;
  header.incomplete = true;
  fresh = true;
  auto status = co_await shards_.create(m->to.tier, header, m->sink);
  if (status == errc::already_exists) {
    fresh = false;
    status = co_await shards_.activate(m->to, m->sink);
    const auto unusable =
      status == errc::bad_format ||
      (status == errc::none && (!m->sink->header->incomplete || m->sink->header->size != header.size));
    if (unusable) {
      // Whole, but its source was never sealed and has been written since (or the crash tore it): not a sink any more.
      m->sink = nullptr;
      fresh = true;
      status = co_await shards_.remove(m->to);
      if (status == errc::none)
        status = co_await shards_.create(m->to.tier, header, m->sink);
    }
  }
  if (status != errc::none) {
    m->sink = nullptr;
    co_return status;
  }
  m->sink->use();
  co_return errc::none;
}

void move_engine::compare(move& m) {
  const auto& a = m.source->shard->sums();
  const auto& b = m.sink->shard->sums();
  for (size_t i = 0; i < a.states.size(); ++i)
    if (a.states[i] != b.states[i] || a.crcs[i] != b.crcs[i])
      m.todo.add(i * block_size, (i + 1) * block_size);
}

void move_engine::take_changes(move& m) {
  for (auto& x : m.source->shard->take_changes())
    m.todo.add(x.offset, x.offset + x.length);
  if (m.mirror)
    for (auto missed = m.mirror->take_missed(); !missed.empty();) {
      auto [from, to] = missed.take(missed.bytes());
      m.todo.add(from, to);
    }
  if (std::exchange(m.compare_next, false))
    compare(m);
}

task<copy_round> move_engine::copy(move_ends ends, uint64_t bytes_max) {
  copy_round round;
  auto at = moves_.find(ends.id);
  if (at == moves_.end()) {
    round.status = errc::not_found;
    co_return round;
  }
  auto m = at->second;
  auto held = co_await m->turn.lock();
  if (!m->begun || m->cancelled) {
    round.status = m->cancelled ? errc::cancelled : errc::not_found;
    co_return round;
  }
  if (m->sealed)
    co_return round;
  // A pass over what changed, in as many calls as bytes_max makes of it, ends before the next begins: or writes that
  // are faster than copying would make one endless pass.
  if (m->todo.empty() || m->compare_next)
    take_changes(*m);
  round.status = co_await copy_todo(m, bytes_max, true, round);
  round.changed_bytes = m->changed_bytes();
  round.remaining_bytes = m->todo.bytes() + round.changed_bytes;
  if (m->todo.empty()) {
    const auto shrank = round.changed_bytes == 0 || round.changed_bytes < m->changed_last || m->changed_last == 0;
    m->rounds_without_shrinking = shrank ? 0 : m->rounds_without_shrinking + 1;
    m->changed_last = round.changed_bytes;
    if (m->rounds_without_shrinking >= limits_.passes_without_shrinking && !m->mirror)
      start_mirror(*m);
  }
  round.mirroring = m->mirror != nullptr;
  round.shrinking = m->rounds_without_shrinking < limits_.passes_without_shrinking;
  co_return round;
}

void move_engine::start_mirror(move& m) {
  // Nothing is being copied by the move itself now, so all its later copies hold claims of the mirror's.
  m.mirror = move_mirror::make(reactor_, fabric_, copier_, *m.source, *m.sink, limits_.mirror);
  if (m.mirror)
    m.rounds_without_shrinking = 0;
}

task<errc> move_engine::copy_todo(move_ptr m, uint64_t bytes_max, bool paced, copy_round& round) {
  auto unyielded = uint64_t{0};
  while (!m->todo.empty() && round.copied_bytes < bytes_max) {
    if (m->cancelled)
      co_return errc::cancelled;
    // Whole blocks; the last one may go beyond bytes_max.
    const auto blocks_left = (bytes_max - round.copied_bytes - 1) / block_size + 1;
    const auto chunk = std::min(paced && busy() ? limits_.chunk_busy : limits_.chunk_quiet,
                                std::min(blocks_left, shard_size_max / block_size) * block_size);
    auto [from, to] = m->todo.take(chunk);
    const auto length = to - from;
    if (paced) {
      co_await pace(length);
    } else if ((unyielded += length) >= 1u << 20) {
      // Memory to memory never waits by itself: other volumes' requests go between.
      unyielded = 0;
      co_await sleep_until(reactor_, reactor_.now());
    }
    if (m->cancelled) {
      m->todo.add(from, to);
      co_return errc::cancelled;
    }
    const auto began = reactor_.now();
    auto status = co_await copy_chunk(m, from, length, round);
    if (status != errc::none) {
      m->todo.add(from, to);
      co_return status;
    }
    round.copied_bytes += length;
    if (const auto took = std::chrono::duration<double>(reactor_.now() - began).count(); took > 0)
      chunk_rate_ += (static_cast<double>(length) / took - chunk_rate_) * (chunk_rate_ == 0 ? 1.0 : 0.1);
  }
  co_return errc::none;
}

task<errc> move_engine::copy_chunk(move_ptr m, uint64_t offset, uint64_t length, copy_round& round) {
  std::optional<block_claims::claim> held;
  if (m->mirror) {
    auto& claim = held.emplace(m->mirror->claims(), offset / block_size, length / block_size);
    co_await claim;
  }
  copy_tally tally;
  auto status = co_await copier_.copy(*m->source->shard, *m->sink->shard, m->landing, offset, length, tally);
  if (m->mirror) {
    const auto mirrored = m->mirror->take_tally();
    tally.blocks_verified += mirrored.blocks_verified;
    tally.verify_failures += mirrored.verify_failures;
  }
  round.blocks_verified += tally.blocks_verified;
  round.verify_failures += tally.verify_failures;
  co_return status;
}

bool move_engine::busy() const noexcept {
  return load_.in_flight > 0 || (load_.last.count() >= 0 && reactor_.now() - load_.last < limits_.busy_for);
}

task<void> move_engine::pace(uint64_t bytes) {
  const auto now = reactor_.now();
  auto slot = budget_.reserve(bytes, now);
  if (busy()) {
    const auto rate = std::max(limits_.busy_bytes_per_second, static_cast<uint64_t>(chunk_rate_ * limits_.busy_share));
    slot = std::max(slot, busy_pacer_.reserve(bytes, rate, now));
  }
  // Also when the slot is now: what the VMs asked meanwhile goes first.
  co_await sleep_until(reactor_, slot);
}

task<switch_result> move_engine::switch_over(move_ends ends) {
  switch_result out;
  auto at = moves_.find(ends.id);
  if (at == moves_.end()) {
    out.status = errc::not_found;
    co_return out;
  }
  auto m = at->second;
  auto held = co_await m->turn.lock();
  if (!m->begun || m->cancelled) {
    out.status = m->cancelled ? errc::cancelled : errc::not_found;
    co_return out;
  }
  if (m->sealed) {
    // Again, after a lost answer or a restart.
    if (m->closed_at.count() >= 0)
      out.gate_closed = reactor_.now() - m->closed_at;
    co_return out;
  }
  if (busy() && moves_.size() > 1 && limits_.switch_together.count() > 0) {
    co_await sleep_until(reactor_, next_slot());
    if (m->cancelled) {
      out.status = errc::cancelled;
      co_return out;
    }
  }
  // With the gate open: make what is left small, and durable.
  for (unsigned pass = 0; pass < 2 * limits_.switch_passes; ++pass) {
    if (pass == limits_.switch_passes && !m->mirror)
      start_mirror(*m);
    take_changes(*m);
    copy_round round;
    out.status = co_await copy_todo(m, ~uint64_t{0}, true, round);
    out.copied_bytes += round.copied_bytes;
    if (out.status != errc::none)
      co_return out;
    if (m->changed_bytes() <= limits_.switch_bytes)
      break;
  }
  // Whole before the source is out of service: a crash in between leaves the source in charge. The fence travels: an
  // epoch that the source refuses must not get in at the sink.
  out.status = co_await m->sink->shard->complete(m->source->header->fence);
  if (out.status != errc::none)
    co_return out;
  auto alone = co_await m->source->control.lock();
  m->source->switching = true;
  shards_.close_gate(*m->source);
  m->closed_at = reactor_.now();
  out.status = co_await switch_gated(m, out);
  out.gate_closed = reactor_.now() - m->closed_at;
  if (out.status == errc::none) {
    m->sealed = true;
  } else {
    m->closed_at = boot_time{-1};
    m->source->switching = false;
    shards_.open_gate(*m->source);
  }
  co_return out;
}

boot_time move_engine::next_slot() noexcept {
  const auto next = (reactor_.now() / limits_.switch_together + 1) * limits_.switch_together;
  if (slot_ < next) {
    slot_ = next;
    slot_taken_ = 0;
  } else if (slot_taken_ >= limits_.switch_group) {
    slot_ += limits_.switch_together;
    slot_taken_ = 0;
  }
  ++slot_taken_;
  return slot_;
}

task<void> move_engine::let_gates_open() {
  constexpr auto look_again = std::chrono::milliseconds{1};
  const auto until = reactor_.now() + limits_.gates_first;
  while (reactor_.now() < until &&
         std::any_of(moves_.begin(), moves_.end(), [](auto& x) { return x.second->closed_at.count() >= 0; }))
    co_await sleep_until(reactor_, reactor_.now() + look_again);
}

task<errc> move_engine::switch_gated(move_ptr m, switch_result& out) {
  auto& source = *m->source;
  auto& sink = *m->sink;
  auto quiet = co_await drain(reactor_.ring(), source, false, reactor_.now() + shard_table::drain_limit);
  // Nor may anything old be on its way to a sink that is about to serve: a copy that the VM did not wait for.
  if (quiet && m->mirror)
    quiet = co_await m->mirror->settle(reactor_.now() + shard_table::drain_limit);
  if (!quiet)
    co_return errc::unavailable;
  take_changes(*m);
  copy_round round;
  auto status = co_await copy_todo(m, ~uint64_t{0}, false, round);
  out.copied_bytes += round.copied_bytes;
  out.gated_bytes += round.copied_bytes;
  if (status != errc::none)
    co_return status;
  const auto& a = source.shard->sums();
  const auto& b = sink.shard->sums();
  if (a.states != b.states || a.crcs != b.crcs) {
    m->compare_next = true;
    co_return errc::checksum_mismatch;
  }
  // What changed since the sink became whole; for most nothing did.
  if (sink.shard->dirty())
    status = co_await sink.shard->flush();
  if (status == errc::none && source.header->fence > sink.header->fence)
    status = co_await sink.shard->raise_fence(source.header->fence);
  if (status == errc::none)
    status = co_await source.shard->seal(m->ends.id, m->ends.to);
  co_return status;
}

task<errc> move_engine::end(move_ends ends, bool committed, std::chrono::nanoseconds& gate_closed) {
  gate_closed = std::chrono::nanoseconds{0};
  const auto from_tier = shards_.tier_of(ends.from_tier);
  const auto to_tier = shards_.tier_of(ends.to_tier);
  // Without its sink's tier a move can still be taken back: the source must not stay sealed until that comes again.
  if (from_tier < 0 || (to_tier < 0 && committed))
    co_return errc::not_found;
  const shard_key from{static_cast<uint16_t>(from_tier), ends.shard, ends.from};
  const shard_key to{static_cast<uint16_t>(to_tier), ends.shard, ends.to};
  move_ptr m;
  async_mutex::guard held;
  if (auto at = moves_.find(ends.id); at != moves_.end()) {
    m = at->second;
    m->cancelled = true;
    held = co_await m->turn.lock();
    end_mirror(*m);
  }
  const auto closed_at = m ? m->closed_at : boot_time{-1};
  if (committed) {
    if (m && m->source)
      m->source->switching = false;
    if (m)
      release(*m);
    moves_.erase(ends.id);
    // From here on the source's requests look for a new route; its gate is never opened again.
    if (closed_at.count() >= 0)
      gate_closed = reactor_.now() - closed_at;
    co_await let_gates_open();
    auto status = co_await shards_.remove(from);
    co_return status;
  }
  active_shard* source = m ? m->source : nullptr;
  const auto opened_here = !source && !shards_.find(from);
  auto status = errc::none;
  if (!source) {
    status = co_await shards_.activate(from, source);
    if (status == errc::none)
      source->use();
    else if (status != errc::not_found)
      co_return status;
    status = errc::none;
  }
  if (source) {
    if (source->header->sealed_by == ends.id) {
      status = co_await source->shard->seal(migration_id{}, varve::generation{});
      if (status != errc::none) {
        // Still sealed: the actor asks again.
        if (!m)
          source->unuse();
        else
          m->cancelled = false;
        co_return status;
      }
    }
    source->shard->track_changes(false);
    source->switching = false;
    if (closed_at.count() >= 0) {
      gate_closed = reactor_.now() - closed_at;
      shards_.open_gate(*source);
    }
    if (!m)
      source->unuse();
  }
  if (m)
    release(*m);
  moves_.erase(ends.id);
  if (opened_here && source)
    (void)co_await shards_.passivate(from);
  if (to_tier < 0)
    co_return errc::not_found;
  status = co_await shards_.remove(to);
  co_return status;
}

task<void> move_engine::stop() {
  while (!moves_.empty()) {
    auto m = moves_.begin()->second;
    m->cancelled = true;
    auto held = co_await m->turn.lock();
    release(*m);
    moves_.erase(m->ends.id);
  }
}

void move_engine::end_mirror(move& m) {
  if (m.mirror)
    std::exchange(m.mirror, nullptr)->end();
}

namespace {

/// Over when it returns: only to begin has to be waited for.
task<void> forget_sums(shard& x) {
  (void)co_await x.mirror_sums(false);
}

} // namespace

void move_engine::release(move& m) {
  end_mirror(m);
  for (auto* x : {m.source, m.sink})
    if (x && x->shard)
      start(forget_sums(*x->shard));
  // Each is set exactly while it is used.
  if (m.source)
    m.source->unuse();
  if (m.sink)
    m.sink->unuse();
  m.source = m.sink = nullptr;
  m.begun = false;
}

} // namespace varve
