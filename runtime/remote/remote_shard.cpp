#include "runtime/remote/remote_shard.hpp"

#include <algorithm>
#include <bit>
#include <cassert>

namespace varve {

namespace {

bool aligned(uint64_t x) noexcept {
  return x % block_size == 0;
}

/// Those of a VM.
bool changes(remote::op x) noexcept {
  return x == remote::op::write || x == remote::op::trim || x == remote::op::write_zeroes;
}

/// What the far end says of a shard, if that can be.
bool load_sound(const std::vector<std::byte>& from, shard_id id, shard_header& x, uint64_t& allocated_bytes) {
  if (from.size() != remote::summary_bytes)
    return false;
  shard_header said;
  remote::load_summary(from.data(), said, allocated_bytes);
  if (said.id != id || !std::has_single_bit(said.size) || said.size < shard_size_min || said.size > shard_size_max)
    return false;
  x = said;
  return true;
}

} // namespace

task<errc> remote_store_host::perform(remote_request& x) {
  auto* client = client_for(x);
  if (!client)
    co_return errc::unavailable;
  const auto status = co_await client->perform(x);
  co_return outcome(status);
}

remote_shard::remote_shard(std::shared_ptr<remote_store_host> host, const shard_header& header,
                           uint64_t allocated_bytes, bool dirty, uint64_t boot)
  : host_(std::move(host)), header_(header), epoch_(header.fence), allocated_bytes_(allocated_bytes), dirty_(dirty),
    dirty_boot_(dirty ? boot : 0) {
  ++host_->open;
  if (host_->options.on_open)
    host_->options.on_open();
}

remote_shard::~remote_shard() {
  --host_->open;
}

void remote_shard::lose() noexcept {
  if (!std::exchange(lost_, true))
    ++host_->lost;
}

remote_request remote_shard::request(remote::op what, uint64_t offset, uint64_t length) const {
  assert(offset <= header_.size && length <= header_.size - offset);
  remote_request x;
  x.header.op = what;
  x.header.id = header_.id;
  x.header.generation = header_.generation;
  x.header.epoch = epoch_;
  x.header.offset = static_cast<uint32_t>(offset);
  x.header.length = static_cast<uint32_t>(length);
  return x;
}

task<errc> remote_shard::ask(remote_request& x) {
  const auto began = host_->on.now();
  // As host_->perform, without a coroutine more.
  auto* client = host_->client_for(x);
  if (!client)
    co_return errc::unavailable;
  auto status = co_await client->perform(x);
  status = remote_store_host::outcome(status);
  // Its node does not have the tier: for a flush that may change; all else is asked where the shard is now.
  if (status == errc::not_found)
    status = x.header.op == remote::op::flush ? errc::unavailable : errc::shard_moved;
  // Refused now, it may have been made over the session before.
  if ((status == errc::stale_epoch || status == errc::shard_moved) && x.sent_before && changes(x.header.op))
    status = errc::unavailable;
  if (status == errc::none && (changes(x.header.op) || x.header.op == remote::op::read))
    turn_ = std::max(turn_, x.reply.argument);
  if (status == errc::checksum_mismatch) {
    host_->meter.count_mismatch();
    if (host_->options.as.on_mismatch)
      host_->options.as.on_mismatch(header_.id, x.header.offset);
  }
  if (status == errc::none) {
    const auto now = host_->on.now();
    switch (x.header.op) {
    case remote::op::read:
    case remote::op::read_with_sums:
      host_->meter.count(device_meter::kind::read, x.header.length, now - began, now);
      break;
    case remote::op::write:
    case remote::op::write_with_sums:
      host_->meter.count(device_meter::kind::write, x.header.length, now - began, now);
      break;
    case remote::op::flush: host_->meter.count(device_meter::kind::sync, 0, now - began, now); break;
    default: break;
    }
  }
  co_return status;
}

// -- data

task<errc> remote_shard::read(uint64_t offset, std::span<std::byte> into) {
  while (!into.empty()) {
    auto x = request(remote::op::read, offset, std::min<uint64_t>(into.size(), remote::payload_bytes_max));
    x.into = into.first(x.header.length);
    const auto status = co_await ask(x);
    if (status != errc::none)
      co_return status;
    offset += x.header.length;
    into = into.subspan(x.header.length);
  }
  co_return errc::none;
}

void remote_shard::clean() {
  dirty_ = false;
  if (std::exchange(noted_, false))
    host_->options.unsynced->forget(noted());
}

void remote_shard::acknowledged(const remote::reply& x) {
  // Something acknowledged by an earlier boot is not flushed, and may be gone.
  if (dirty_ && dirty_boot_ != x.boot)
    lose();
  if (!dirty_)
    dirty_boot_ = x.boot;
  dirty_ = dirty_ || lost_ || x.flags & remote::flag_dirty;
  // The sink of a move that ends with its process is nobody's.
  if (dirty_ && !noted_ && !header_.incomplete && host_->options.unsynced)
    noted_ = host_->options.unsynced->note(noted());
  ++changes_;
}

void remote_shard::note(uint64_t offset, uint64_t length) noexcept {
  if (table_ && length > 0)
    table_->note(offset / block_size, remote::blocks_of(offset, length));
}

/// One request that changes something. Noted before and after: what is copied in between may be old or new.
task<errc> remote_shard::change_part(remote_request& x) {
  const uint64_t offset = x.header.offset, length = x.header.length;
  note(offset, length);
  auto status = co_await ask(x);
  note(offset, length);
  if (status == errc::none)
    acknowledged(x.reply);
  const auto refused = status == errc::stale_epoch || status == errc::shard_moved;
  if (mirrors_ && !refused && x.header.op != remote::op::write_with_sums) {
    const auto first = offset / block_size * block_size;
    const auto fetched = co_await fetch_sums(first, remote::blocks_of(offset, length) * block_size);
    if (status == errc::none)
      status = fetched;
  }
  co_return status;
}

task<errc> remote_shard::change_all(remote::op what, uint8_t flags, uint64_t offset, uint64_t length,
                                    std::span<const std::byte> from) {
  const auto step = from.empty() ? length : remote::payload_bytes_max;
  const auto repeats = std::exchange(repeats_, 0);
  for (const auto end = offset + length; offset < end;) {
    auto x = request(what, offset, std::min<uint64_t>(end - offset, step));
    x.header.flags = flags;
    x.header.argument = repeats;
    if (!from.empty()) {
      x.from = from.first(x.header.length);
      from = from.subspan(x.header.length);
    }
    const auto status = co_await change_part(x);
    if (status != errc::none)
      co_return status;
    offset += x.header.length;
  }
  co_return errc::none;
}

task<errc> remote_shard::write(uint64_t offset, std::span<const std::byte> from) {
  return change_all(remote::op::write, 0, offset, from.size(), from);
}

task<errc> remote_shard::trim(uint64_t offset, uint64_t length) {
  return change_all(remote::op::trim, 0, offset, length, {});
}

task<errc> remote_shard::write_zeroes(uint64_t offset, uint64_t length, bool keep_allocated) {
  return change_all(remote::op::write_zeroes, keep_allocated ? remote::flag_keep_allocated : 0, offset, length, {});
}

task<errc> remote_shard::flush() {
  if (lost_)
    co_return errc::shard_failed;
  const auto covered = changes_;
  const auto boot = dirty_boot_;
  const auto had = dirty_;
  auto x = request(remote::op::flush);
  const auto status = co_await ask(x);
  // A home that is no more has been replaced by one in which all of this is durable, unless it went with its process.
  if (status != errc::none && status != errc::shard_moved)
    co_return status;
  // It made durable what the server had; what another boot had acknowledged is not among it.
  if (had && boot != x.reply.boot)
    lose();
  if (lost_)
    co_return errc::shard_failed;
  if (covered == changes_)
    clean();
  co_return errc::none;
}

void remote_shard::extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const {
  if (length == 0)
    return;
  if (table_ && mirrors_)
    return table_->extents(offset, length, out);
  const auto first = offset / block_size;
  shard_extent all{first * block_size, remote::blocks_of(offset, length) * block_size, block_state::written};
  if (!out.empty() && out.back().state == all.state && out.back().offset + out.back().length == all.offset)
    out.back().length += all.length;
  else
    out.push_back(all);
}

// -- control

task<errc> remote_shard::look() {
  auto x = request(remote::op::look);
  const auto status = co_await ask(x);
  if (status == errc::none)
    turn_ = std::max(turn_, x.reply.argument);
  co_return status;
}

task<errc> remote_shard::control(remote::op what, uint64_t argument, uint64_t argument2, uint64_t* boot) {
  auto x = request(what);
  x.header.argument = argument;
  x.header.argument2 = argument2;
  auto status = co_await ask(x);
  if (status == errc::none && !x.answer.empty() && !load_sound(x.answer, header_.id, header_, allocated_bytes_))
    status = errc::bad_format;
  if (boot)
    *boot = x.reply.boot;
  co_return status;
}

task<errc> remote_shard::checkpoint() {
  if (lost_)
    co_return errc::shard_failed;
  // What checkpoints is the far end, by itself; here what counts is that it survives.
  co_return dirty_ ? co_await flush() : errc::none;
}

task<errc> remote_shard::raise_fence(epoch to) {
  auto status = co_await control(remote::op::raise_fence, to.value(), 0);
  if (status == errc::none) {
    header_.fence = std::max(header_.fence, to);
    epoch_ = std::max(epoch_, to); // who raises it is not meant
  }
  co_return status;
}

task<errc> remote_shard::seal(migration_id by, generation replaced_by) {
  co_return co_await control(remote::op::seal, by.value(), replaced_by.value());
}

task<errc> remote_shard::complete(epoch fence) {
  if (lost_)
    co_return errc::shard_failed;
  const auto covered = changes_;
  const auto boot = dirty_boot_;
  uint64_t now = 0;
  auto status = co_await control(remote::op::complete, fence.value(), 0, &now);
  if (status != errc::none)
    co_return status;
  epoch_ = std::max(epoch_, fence);
  if (dirty_ && boot != now)
    lose();
  if (lost_)
    co_return errc::shard_failed;
  if (covered == changes_)
    clean();
  if (mirrors_)
    status = co_await refresh();
  co_return status;
}

task<uint64_t> remote_shard::verify(uint64_t, uint64_t, errc& status) {
  auto x = request(remote::op::verify, 0, header_.size);
  status = co_await ask(x);
  if (status == errc::none && x.reply.argument == 0)
    lost_ = false;
  co_return status == errc::none ? x.reply.argument : 0;
}

// -- migration

block_table& remote_shard::table() {
  if (!table_)
    table_ = std::make_unique<block_table>(header_.size / block_size);
  return *table_;
}

void remote_shard::track_changes(bool on) {
  if (on || table_)
    table().track_changes(on);
}

std::vector<shard_extent> remote_shard::take_changes() {
  return table_ ? table_->take_changes() : std::vector<shard_extent>{};
}

void remote_shard::forget_changes(uint64_t offset, uint64_t length) {
  if (table_)
    table_->forget_changes(offset, length);
}

task<errc> remote_shard::fetch_sums(uint64_t offset, uint64_t length) {
  for (const auto end = offset + length; offset < end;) {
    auto x = request(remote::op::sums, offset, std::min<uint64_t>(end - offset, remote::sums_max * block_size));
    block_sums came;
    x.sums = &came;
    const auto status = co_await ask(x);
    if (status != errc::none)
      co_return status;
    auto block = offset / block_size;
    for (size_t i = 0; i < came.crcs.size(); ++i, ++block)
      if (came.states[i] == block_state::written)
        table().set_written(block, came.crcs[i]);
      else
        table().set_hole(block);
    offset += x.header.length;
  }
  co_return errc::none;
}

task<errc> remote_shard::refresh() {
  return fetch_sums(0, header_.size);
}

task<errc> remote_shard::read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) {
  assert(aligned(offset) && aligned(into.size()));
  while (!into.empty()) {
    auto x = request(remote::op::read_with_sums, offset, std::min<uint64_t>(into.size(), remote::payload_bytes_max));
    x.into = into.first(x.header.length);
    x.sums = &sums;
    const auto status = co_await ask(x);
    if (status != errc::none)
      co_return status;
    offset += x.header.length;
    into = into.subspan(x.header.length);
  }
  co_return errc::none;
}

task<errc> remote_shard::write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) {
  assert(aligned(offset) && aligned(from.size()) && sums.crcs.size() == from.size() / block_size);
  size_t at = 0;
  while (!from.empty()) {
    auto x = request(remote::op::write_with_sums, offset, std::min<uint64_t>(from.size(), remote::payload_bytes_max));
    const auto blocks = x.header.length / block_size;
    block_sums part;
    part.crcs.assign(sums.crcs.begin() + static_cast<ptrdiff_t>(at),
                     sums.crcs.begin() + static_cast<ptrdiff_t>(at + blocks));
    part.states.assign(sums.states.begin() + static_cast<ptrdiff_t>(at),
                       sums.states.begin() + static_cast<ptrdiff_t>(at + blocks));
    x.sums = &part;
    x.from = from.first(x.header.length);
    const auto status = co_await change_part(x);
    if (status != errc::none)
      co_return status;
    for (size_t i = 0; mirrors_ && i < blocks; ++i)
      if (part.states[i] == block_state::written)
        table().set_written(offset / block_size + i, part.crcs[i]);
      else
        table().set_hole(offset / block_size + i);
    at += blocks;
    offset += x.header.length;
    from = from.subspan(x.header.length);
  }
  co_return errc::none;
}

const block_sums& remote_shard::sums() const noexcept {
  assert(mirrors_);
  return const_cast<remote_shard*>(this)->table().sums();
}

task<errc> remote_shard::mirror_sums(bool on) {
  if (mirrors_ == on || (!on && host_->options.mirror_sums))
    co_return errc::none;
  // What is changed while they are fetched fetches its own behind it.
  mirrors_ = on;
  auto status = on ? co_await refresh() : errc::none;
  if (status != errc::none)
    mirrors_ = false;
  if (!mirrors_)
    table_.reset();
  co_return status;
}

// -- store

remote_store::remote_store(reactor& on, remote_way way, remote_store_options options)
  : host_(std::make_shared<remote_store_host>(on, std::move(way), std::move(options))) {}

task<opened_shard> remote_store::create(const shard_header& header) {
  remote_request x;
  x.header.op = remote::op::create;
  x.header.id = header.id;
  x.header.generation = header.generation;
  x.header.epoch = header.fence;
  x.header.argument = header.size;
  x.header.argument2 = header.incomplete;
  co_return co_await opened(x);
}

task<opened_shard> remote_store::open(shard_id id, generation of) {
  remote_request x;
  x.header.op = host_->options.mirror_sums ? remote::op::activate : remote::op::look;
  x.header.id = id;
  x.header.generation = of;
  co_return co_await opened(x);
}

std::unique_ptr<shard> remote_store::inherit(const shard_header& header, uint64_t verifier) {
  auto made = std::make_unique<remote_shard>(host_, header, 0, true, verifier);
  made->inherit();
  return made;
}

task<errc> remote_store::remove(shard_id id, generation of) {
  remote_request x;
  x.header.op = remote::op::remove;
  x.header.id = id;
  x.header.generation = of;
  co_return co_await host_->perform(x);
}

task<opened_shard> remote_store::opened(remote_request& x) {
  opened_shard result;
  result.status = co_await host_->perform(x);
  if (result.status != errc::none)
    co_return result;
  shard_header header;
  uint64_t allocated = 0;
  if (!load_sound(x.answer, x.header.id, header, allocated)) {
    result.status = errc::bad_format;
    co_return result;
  }
  auto made =
    std::make_unique<remote_shard>(host_, header, allocated, (x.reply.flags & remote::flag_dirty) != 0, x.reply.boot);
  if (host_->options.mirror_sums) {
    result.status = co_await made->mirror_sums(true);
    if (result.status != errc::none)
      co_return result;
  }
  result.shard = std::move(made);
  co_return result;
}

std::unique_ptr<shard_store> make_remote_store(reactor& on, remote_client& client, remote_store_options options) {
  client.tier(options.tier); // before there is a session
  return std::make_unique<remote_store>(
    on, [&client](volume_id) { return &client; }, std::move(options));
}

} // namespace varve
