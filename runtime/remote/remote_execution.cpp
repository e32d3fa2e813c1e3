// How a remote_connection brings requests to shards.

#include <algorithm>
#include <bit>

#include "rdma/checksum.hpp"
#include "runtime/remote/remote_connection.hpp"
#include "runtime/storage/checksum_table.hpp"

namespace varve {

namespace {

/// Reads from here up hold a claim on their blocks, which spares computing their sums a second time; smaller ones are
/// not worth keeping writers waiting.
constexpr uint32_t stored_sums_bytes_min = 64u << 10;

bool whole_blocks(const remote::request& x) noexcept {
  return x.offset % block_size == 0 && x.length % block_size == 0;
}

/// Those that a migration's other end asks of a shard, which may be a sink that is not whole yet.
bool of_migration(remote::op x) noexcept {
  return x == remote::op::read_with_sums || x == remote::op::write_with_sums || x == remote::op::sums;
}

bool holes_only(const block_sums& x, uint64_t first, uint64_t count) noexcept {
  return std::all_of(x.states.begin() + static_cast<ptrdiff_t>(first),
                     x.states.begin() + static_cast<ptrdiff_t>(first + count),
                     [](auto s) { return s == block_state::hole; });
}

} // namespace

void remote_connection::execute(incoming_request& x) {
  ++at_shards_;
  ++server_.load_.in_flight;
  server_.load_.last = reactor_.now();
  const auto& header = x.header;
  if (header.tier >= server_.tiers_.size())
    return completed(x, errc::not_found);
  x.reply.boot = server_.tiers_[header.tier].boot;
  if (header.id.volume.value() % server_.options_.parts != server_.options_.part)
    return completed(x, errc::unavailable);
  if (remote::of_control(header.op) && rights_ != remote_rights::control)
    return completed(x, errc::unsupported);
  // Where the storage checks the sums itself, once for both, it is left to it.
  if (header.op == remote::op::write && !whole_blocks(header) &&
      !remote::sums_match(header.offset, {x.data.data(), x.data_bytes}, x.prefix.data())) {
    x.reply.flags |= remote::flag_broken;
    return completed(x, errc::checksum_mismatch);
  }
  if (!at_once(x))
    varve::start(serve(x));
}

/// What needs no waiting, as a volume_port does it.
bool remote_connection::at_once(incoming_request& x) {
  const auto& header = x.header;
  if (header.op != remote::op::read && (header.op != remote::op::write || header.flags || header.argument))
    return false;
  auto* shard = server_.shards_.find({header.tier, header.id, header.generation});
  if (!shard)
    return false;
  route_entry entry;
  entry.fence = header.epoch;
  entry.generation = header.generation;
  if (shard->admit(entry) != errc::none || uint64_t{header.offset} + header.length > shard->header->size)
    return false;
  auto status = errc::none;
  if (header.op == remote::op::write) {
    if (shard->follower)
      return false;
    std::span<const std::byte> from{x.data.data(), x.data_bytes};
    if (whole_blocks(header) && !remote::sums_match(header.offset, from, x.prefix.data())) {
      x.reply.flags |= remote::flag_broken;
      completed(x, errc::checksum_mismatch);
      return true;
    }
    if (!shard->shard->try_write(header.offset, from, status))
      return false;
    ++shard->writes;
    shard->change_by(initiator_);
    x.reply.argument = shard->turn;
    shard->changed_remotely = true;
    shard->written_bytes += header.length;
    server_.counters_.written_bytes += header.length;
    x.reply.flags = shard->shard->dirty() ? remote::flag_dirty : 0;
    completed(x, status);
    return true;
  }
  x.data = reactor_.buffers().take(header.length);
  if (!shard->shard->try_read(header.offset, x.data.bytes().first(header.length), status)) {
    reactor_.buffers().give(std::exchange(x.data, {}));
    return false;
  }
  ++shard->reads;
  shard->read_bytes += header.length;
  server_.counters_.read_bytes += header.length;
  x.reply.argument = shard->turn;
  if (status == errc::none) {
    x.data_bytes = header.length;
    const auto blocks = remote::blocks_of(header.offset, header.length);
    x.prefix.resize(remote::sums_bytes(blocks));
    if (whole_blocks(header)) {
      // Just verified, and nothing has been written since: what is stored is what travels.
      const auto& sums = shard->shard->sums();
      const auto first = header.offset / block_size;
      auto* to = x.prefix.data();
      for (auto i = first; i < first + blocks; ++i)
        to = remote::store(to, sums.states[i] == block_state::hole ? crc_of_zeros() : sums.crcs[i]);
    } else {
      remote::store_sums(header.offset, x.data.bytes().first(header.length), x.prefix.data());
    }
  }
  completed(x, status);
  return true;
}

task<void> remote_connection::serve(incoming_request& x) {
  auto status = errc::none;
  const shard_key key{x.header.tier, x.header.id, x.header.generation};
  if (x.header.op >= remote::op::create)
    status = co_await control(x, key);
  else
    status = co_await on_shard(x);
  completed(x, status);
}

/// A data request, or a migration's.
task<errc> remote_connection::on_shard(incoming_request& x) {
  active_shard* shard = nullptr;
  // As at home: a flush is neither kept out by a gate nor by a fence. What it covers was acknowledged.
  const auto passes = of_migration(x.header.op) || x.header.op == remote::op::flush;
  auto status = co_await enter(x, shard, passes);
  if (status != errc::none)
    co_return status;
  if (uint64_t{x.header.offset} + x.header.length > shard->header->size)
    status = errc::invalid_argument;
  else
    status = co_await data(x, *shard);
  if (x.header.op <= remote::op::write_zeroes)
    x.reply.argument = shard->turn;
  x.reply.flags |= shard->shard->dirty() ? remote::flag_dirty : 0;
  if (passes)
    shard->unuse();
  else
    shard->leave(); // may resume who drains: the shard may be gone
  co_return status;
}

/// Opens the shard, waits at its gate, checks generation and fence; counts it in when they are right.
task<errc> remote_connection::enter(const incoming_request& x, active_shard*& shard, bool passes) {
  const auto& header = x.header;
  const shard_key key{header.tier, header.id, header.generation};
  const auto until = reactor_.now() + server_.options_.gate_time;
  route_entry entry;
  entry.fence = header.epoch;
  entry.generation = header.generation;
  for (;;) {
    // The session is over: nothing of it may begin, since its successor may be told so at any moment.
    if (ended_)
      co_return errc::cancelled;
    shard = server_.shards_.find(key);
    if (!shard) {
      const auto status = co_await server_.shards_.activate(key, shard);
      if (status == errc::not_found) {
        ++server_.counters_.refused_moved;
        co_return errc::shard_moved;
      }
      if (status != errc::none)
        co_return status;
      continue;
    }
    if (passes) {
      if (of_migration(header.op) && header.epoch < shard->header->fence) {
        ++server_.counters_.refused_stale_epoch;
        co_return errc::stale_epoch;
      }
      shard->use();
      co_return errc::none;
    }
    switch (shard->admit(entry)) {
    case errc::none: shard->enter(); co_return errc::none;
    case errc::unavailable: break;
    case errc::stale_epoch: ++server_.counters_.refused_stale_epoch; co_return errc::stale_epoch;
    default: ++server_.counters_.refused_moved; co_return errc::shard_moved;
    }
    if (reactor_.now() >= until)
      co_return errc::unavailable;
    ++server_.at_gates_;
    server_.watch();
    server_.gates_.reset(); // each who waits does
    co_await server_.gates_.wait();
    --server_.at_gates_;
  }
}

task<errc> remote_connection::data(incoming_request& x, active_shard& shard) {
  const auto& header = x.header;
  auto& storage = *shard.shard;
  switch (header.op) {
  case remote::op::read: {
    ++shard.reads;
    shard.read_bytes += header.length;
    server_.counters_.read_bytes += header.length;
    const auto first = header.offset / block_size;
    const auto blocks = remote::blocks_of(header.offset, header.length);
    if (holes_only(storage.sums(), first, blocks)) {
      x.reply.flags |= remote::flag_zeros;
      auto refused = co_await storage.read(header.offset, {}); // it may have failed
      co_return refused;
    }
    x.data = reactor_.buffers().take(header.length);
    auto into = x.data.bytes().first(header.length);
    if (whole_blocks(header) && header.length >= stored_sums_bytes_min) {
      // Under a claim, so that bytes and stored sums belong together.
      x.sums.crcs.clear();
      x.sums.states.clear();
      auto status = co_await storage.read_with_sums(header.offset, into, x.sums);
      if (status == errc::none) {
        x.data_bytes = header.length;
        x.prefix.resize(remote::sums_bytes(blocks));
        auto* to = x.prefix.data();
        for (uint32_t i = 0; i < blocks; ++i)
          to = remote::store(to, x.sums.states[i] == block_state::hole ? crc_of_zeros() : x.sums.crcs[i]);
      }
      co_return status;
    }
    auto status = co_await storage.read(header.offset, into);
    if (status == errc::none) {
      x.data_bytes = header.length;
      x.prefix.resize(remote::sums_bytes(blocks));
      remote::store_sums(header.offset, into, x.prefix.data());
    }
    co_return status;
  }
  case remote::op::write:
  case remote::op::trim:
  case remote::op::write_zeroes: {
    auto status = co_await change(x, shard);
    // A change that failed is noted as one all the same.
    if (shard.follower && status == errc::none)
      co_await shard.follower->follow(header.offset, header.length);
    if (status == errc::none && header.flags & remote::flag_fua)
      status = co_await storage.flush();
    co_return status;
  }
  case remote::op::flush: {
    auto status = co_await storage.flush();
    co_return status;
  }
  case remote::op::read_with_sums: {
    x.data = reactor_.buffers().take(header.length);
    x.sums.crcs.clear();
    x.sums.states.clear();
    auto status = co_await storage.read_with_sums(header.offset, x.data.bytes().first(header.length), x.sums);
    if (status != errc::none)
      co_return status;
    x.prefix.resize(remote::prefix_bytes(header.op, header.offset, header.length));
    remote::store_states(x.sums, x.prefix.data());
    x.data_bytes = holes_only(x.sums, 0, x.sums.states.size()) ? 0 : header.length;
    co_return errc::none;
  }
  case remote::op::write_with_sums: {
    x.sums.crcs.clear();
    x.sums.states.clear();
    remote::load_states(x.prefix.data(), remote::blocks_of(header.offset, header.length), x.sums);
    if (x.data_bytes == 0) {
      if (!holes_only(x.sums, 0, x.sums.states.size()))
        co_return errc::invalid_argument;
      x.data = reactor_.buffers().take(header.length); // of holes nothing is looked at
    }
    std::span<const std::byte> from = x.data.bytes().first(header.length);
    auto status = co_await storage.write_with_sums(header.offset, from, x.sums);
    x.reply.flags |= status == errc::checksum_mismatch ? remote::flag_broken : 0;
    server_.counters_.written_bytes += header.length;
    x.prefix.clear();
    x.data_bytes = 0;
    co_return status;
  }
  case remote::op::sums: {
    const auto first = header.offset / block_size, count = header.length / block_size;
    const auto& all = storage.sums();
    x.sums.crcs.assign(all.crcs.begin() + first, all.crcs.begin() + first + count);
    x.sums.states.assign(all.states.begin() + first, all.states.begin() + first + count);
    x.prefix.resize(remote::prefix_bytes(header.op, header.offset, header.length));
    remote::store_states(x.sums, x.prefix.data());
    co_return errc::none;
  }
  case remote::op::extents: {
    std::vector<shard_extent> found;
    storage.extents(header.offset, header.length, found);
    found.resize(std::min<size_t>(found.size(), remote::extents_max));
    x.prefix.resize(found.size() * remote::extent_bytes);
    for (size_t i = 0; i < found.size(); ++i)
      remote::store_extent(found[i], x.prefix.data() + i * remote::extent_bytes);
    const uint64_t end = found.empty() ? header.offset : found.back().offset + found.back().length;
    x.reply.argument = std::min<uint64_t>(end, uint64_t{header.offset} + header.length) - header.offset;
    co_return errc::none;
  }
  default: co_return errc::unsupported;
  }
}

task<errc> remote_connection::change(incoming_request& x, active_shard& shard) {
  const auto& header = x.header;
  auto& storage = *shard.shard;
  // It may have been made before: again it would undo what others did since.
  if (header.argument && shard.changed_since(header.argument, initiator_))
    co_return errc::conflict;
  shard.change_by(initiator_);
  shard.changed_remotely = true;
  if (header.op == remote::op::trim)
    co_return co_await storage.trim(header.offset, header.length);
  if (header.op == remote::op::write_zeroes)
    co_return co_await storage.write_zeroes(header.offset, header.length, header.flags & remote::flag_keep_allocated);
  ++shard.writes;
  shard.written_bytes += header.length;
  server_.counters_.written_bytes += header.length;
  std::span<const std::byte> from{x.data.data(), x.data_bytes};
  auto status = errc::none;
  if (whole_blocks(header)) {
    // The sums that came are checked and stored: end to end, and computed once here.
    const auto blocks = remote::blocks_of(header.offset, header.length);
    x.sums.crcs.resize(blocks);
    std::memcpy(x.sums.crcs.data(), x.prefix.data(), remote::sums_bytes(blocks));
    x.sums.states.assign(blocks, block_state::written);
    status = co_await storage.write_with_sums(header.offset, from, x.sums);
    x.reply.flags |= status == errc::checksum_mismatch ? remote::flag_broken : 0;
  } else {
    status = co_await storage.write(header.offset, from);
  }
  co_return status;
}

void remote_connection::summarize(incoming_request& x, active_shard& shard) {
  x.prefix.resize(remote::summary_bytes);
  remote::store_summary(*shard.header, shard.shard->allocated_bytes(), x.prefix.data());
  x.reply.flags |= shard.shard->dirty() ? remote::flag_dirty : 0;
}

task<errc> remote_connection::control(incoming_request& x, const shard_key& key) {
  const auto& header = x.header;
  auto& shards = server_.shards_;
  if (ended_)
    co_return errc::cancelled;
  active_shard* shard = nullptr;
  auto status = errc::none;
  switch (header.op) {
  case remote::op::create: {
    shard_header made;
    made.id = header.id;
    made.size = header.argument;
    made.generation = header.generation;
    made.fence = header.epoch;
    made.incomplete = header.argument2 != 0;
    if (!std::has_single_bit(made.size) || made.size < shard_size_min || made.size > shard_size_max)
      co_return errc::invalid_argument;
    status = co_await shards.create(key.tier, made, shard);
    if (status == errc::none)
      summarize(x, *shard);
    co_return status;
  }
  case remote::op::remove: co_return co_await shards.remove(key);
  case remote::op::passivate: co_return co_await shards.passivate(key);
  case remote::op::raise_fence: co_return co_await shards.raise_fence(key, epoch{header.argument});
  case remote::op::verify: co_return co_await shards.verify(key, x.reply.argument);
  default: break;
  }
  status = co_await shards.activate(key, shard);
  if (status != errc::none)
    co_return status;
  shard->use();
  switch (header.op) {
  case remote::op::checkpoint: status = co_await shard->shard->checkpoint(); break;
  case remote::op::complete: status = co_await shard->shard->complete(epoch{header.argument}); break;
  case remote::op::seal: {
    auto alone = co_await shard->control.lock();
    shards.close_gate(*shard);
    const auto quiet = co_await drain(reactor_.ring(), *shard, false, reactor_.now() + shard_table::drain_limit);
    status = errc::unavailable;
    if (quiet)
      status = co_await shard->shard->seal(migration_id{header.argument}, generation{header.argument2});
    shards.open_gate(*shard);
    break;
  }
  case remote::op::look: x.reply.argument = shard->turn; break;
  default: break; // activate
  }
  if (status == errc::none)
    summarize(x, *shard);
  shard->unuse();
  co_return status;
}

void remote_connection::completed(incoming_request& x, errc status) {
  --at_shards_;
  --server_.load_.in_flight;
  server_.load_.last = reactor_.now();
  server_.counters_.broken_payloads += (x.reply.flags & remote::flag_broken) != 0;
  // What came with a write is nobody's any more; early, so that the next one finds it warm.
  const auto answers = x.header.payload == 0 && status == errc::none;
  if (!answers) {
    if (!x.data.empty())
      reactor_.buffers().give(std::exchange(x.data, {}));
    x.data_bytes = 0;
    x.prefix.clear();
  }
  x.reply.status = status;
  x.reply.payload = static_cast<uint32_t>(x.prefix.size()) + x.data_bytes;
  if (ended_) {
    recycle(x);
    if (at_shards_ == 0)
      idle_.set();
    return;
  }
  replies_.push(x);
  // With nothing else on its way there is nothing to send it with.
  if (!pumping_)
    flush(at_shards_ == 0);
}

} // namespace varve
