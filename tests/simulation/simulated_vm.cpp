#include "tests/simulation/simulated_vm.hpp"

#include <algorithm>
#include <cstring>

namespace varve::test {

namespace {

constexpr uint64_t blocks_per_shard = shard_size_min / block_size;
constexpr size_t sector = 512;

/// A dead process may still point at them.
template <class T>
void leave(std::unique_ptr<T> x) {
  static auto* left = new std::vector<std::unique_ptr<block_request>>;
  left->push_back(std::move(x));
}

} // namespace

void simulated_vm::poke() {
  auto& random = cluster_.world.random();
  if (requests_.size() >= 4 || cluster_.node(host_).paused() || !cluster_.node(host_).backend(volume_.id))
    return;
  const auto kind = random.below(20);
  auto x = std::make_unique<request>();
  if (kind == 0) {
    x->op = block_op::flush;
    submit(std::move(x));
    return;
  }
  // Half of it goes to few blocks, so that hosts meet.
  x->count = 1 + random.below(random.chance(0.1) ? 8 : 2);
  x->first = random.chance(0.5) ? random.below(4) * blocks_per_shard % volume_.blocks + random.below(4)
                                : random.below(volume_.blocks);
  x->count = std::min(x->count, volume_.blocks - x->first);
  if (kind < 10) {
    read(x->first, x->count);
    return;
  }
  x->op = block_op::write;
  x->fua = random.chance(0.05);
  x->bytes.resize(x->count * block_size);
  for (uint64_t i = 0; i < x->count; ++i) {
    const auto value = ++volume_.last_value;
    x->values.push_back(value);
    for (size_t at = 0; at < block_size; at += sizeof value)
      std::memcpy(x->bytes.data() + i * block_size + at, &value, sizeof value);
  }
  submit(std::move(x));
}

bool simulated_vm::read(uint64_t first, uint64_t count) {
  if (!cluster_.node(host_).backend(volume_.id))
    return false;
  auto x = std::make_unique<request>();
  x->op = block_op::read;
  x->first = first;
  x->count = count;
  submit(std::move(x));
  return true;
}

void simulated_vm::submit(std::unique_ptr<request> x) {
  x->began = cluster_.world.now();
  x->world = &cluster_.world;
  x->offset = x->first * block_size;
  x->length = x->count * block_size;
  x->payload = x->bytes;
  if (x->op == block_op::write)
    for (uint64_t i = 0; i < x->count; ++i)
      volume_.history[x->first + i].begin(x->values[i], static_cast<int>(host_), x->began);
  x->complete = [](block_request& self) {
    auto& x = static_cast<request&>(self);
    x.ended = x.world->now();
    x.done = true;
  };
  requests_.push_back(std::move(x));
  cluster_.node(host_).backend(volume_.id)->submit(*requests_.back());
}

void simulated_vm::settle() {
  for (size_t i = 0; i < requests_.size();) {
    if (!requests_[i]->done) {
      ++i;
      continue;
    }
    auto x = std::move(requests_[i]);
    requests_.erase(requests_.begin() + static_cast<ptrdiff_t>(i));
    finish(*x);
  }
}

void simulated_vm::finish(request& x) {
  const auto host = static_cast<int>(host_);
  if (x.status != errc::none) {
    ++refused[x.status];
    if (x.op == block_op::flush) {
      ++flushes_failed;
      for (auto& of : volume_.history)
        of.flush_failed(host, x.ended);
    }
    return;
  }
  ++answered;
  switch (x.op) {
  case block_op::flush:
    ++flushes;
    for (auto& of : volume_.history)
      of.flushed(host, x.began);
    return;
  case block_op::write:
    ++writes;
    for (uint64_t i = 0; i < x.count; ++i)
      volume_.history[x.first + i].acknowledged(x.values[i], x.fua, x.ended);
    break;
  default:
    ++reads;
    check(x);
    break;
  }
  for (auto shard = x.first / blocks_per_shard; shard <= (x.first + x.count - 1) / blocks_per_shard; ++shard)
    cluster_.checks.done(host, {volume_.id, shard_index{shard}}, x.op == block_op::write, x.began);
}

void simulated_vm::check(request& x) {
  auto from = x.view.empty() ? std::span<const std::byte>{x.data.bytes().first(x.length)} : x.view;
  std::vector<uint64_t> sectors;
  for (uint64_t i = 0; i < x.count; ++i) {
    const auto block = from.subspan(i * block_size, block_size);
    sectors.clear();
    for (size_t at = 0; at < block_size; at += sector) {
      uint64_t value = 0;
      std::memcpy(&value, block.data() + at, sizeof value);
      if (std::memcmp(block.data() + at, block.data() + at + sizeof value, sector - sizeof value) != 0)
        throw broken_rule("block " + std::to_string(x.first + i) + " of volume " + std::to_string(volume_.id.value()) +
                          " has a torn sector");
      sectors.push_back(value);
    }
    if (auto why = volume_.history[x.first + i].read(sectors, x.began, x.ended); !why.empty())
      throw broken_rule("machine " + std::to_string(host_) + " read block " + std::to_string(x.first + i) +
                        " of volume " + std::to_string(volume_.id.value()) + ": " + why);
  }
  if (!x.view.empty() && x.release)
    x.release(x);
}

void simulated_vm::died() {
  for (auto& x : requests_)
    leave(std::move(x));
  requests_.clear();
}

boot_time simulated_vm::waiting() const {
  boot_time result{0};
  for (const auto& x : requests_)
    if (!x->done)
      result = std::max(result, cluster_.world.now() - x->began);
  return result;
}

} // namespace varve::test
