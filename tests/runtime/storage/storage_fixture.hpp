#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>

#include <boost/test/unit_test.hpp>

#include "runtime/storage/shard_format.hpp"
#include "runtime/storage/shard_store.hpp"
#include "tests/runtime/reactor/simulated_fixture.hpp"

namespace varve::test {

inline shard_header header_for(uint64_t size, uint64_t index = 3) {
  shard_header x;
  x.id = {volume_id{7}, shard_index{index}};
  x.size = size;
  x.generation = generation{1};
  return x;
}

inline task<> open_into(shard_store& store, shard_id id, generation of, std::optional<opened_shard>& into) {
  into = co_await store.open(id, of);
}
inline task<> create_into(shard_store& store, shard_header header, std::optional<opened_shard>& into) {
  into = co_await store.create(header);
}

inline opened_shard run_open(simulated_machine& on, shard_store& store, shard_id id, generation of) {
  std::optional<opened_shard> result;
  start(open_into(store, id, of, result));
  if (!on.world.run_until([&] { return result.has_value(); }))
    throw std::runtime_error("open does not end");
  return std::move(*result);
}
inline opened_shard run_create(simulated_machine& on, shard_store& store, const shard_header& header) {
  std::optional<opened_shard> result;
  start(create_into(store, header, result));
  if (!on.world.run_until([&] { return result.has_value(); }))
    throw std::runtime_error("create does not end");
  return std::move(*result);
}

/// What each block of a shard may hold: its contents after each change that was asked for, in the order of asking.
/// Changes of a block take effect in that order.
class shadow {
public:
  explicit shadow(uint64_t blocks) : blocks_(blocks) {
    for (auto& x : blocks_)
      x.history.emplace_back(block_size, std::byte{0});
  }

  uint64_t size() const { return blocks_.size() * block_size; }

  /// A change is asked for; the index of it in each block's history.
  std::vector<std::pair<uint64_t, size_t>> change(uint64_t offset, uint64_t length,
                                                  const std::function<std::byte(uint64_t)>& value) {
    std::vector<std::pair<uint64_t, size_t>> result;
    for (auto block = offset / block_size; block * block_size < offset + length; ++block) {
      auto next = blocks_[block].history.back();
      for (uint64_t i = 0; i < block_size; ++i)
        if (auto at = block * block_size + i; at >= offset && at < offset + length)
          next[i] = value(at);
      blocks_[block].history.push_back(std::move(next));
      result.emplace_back(block, blocks_[block].base + blocks_[block].history.size() - 1);
    }
    return result;
  }
  void acknowledge(const std::vector<std::pair<uint64_t, size_t>>& change) {
    for (auto& [block, index] : change)
      blocks_[block].acknowledged = std::max(blocks_[block].acknowledged, index);
  }
  std::vector<size_t> acknowledged() const {
    std::vector<size_t> result;
    for (auto& x : blocks_)
      result.push_back(x.acknowledged);
    return result;
  }
  void flushed(const std::vector<size_t>& covered) {
    for (size_t i = 0; i < blocks_.size(); ++i) {
      auto& x = blocks_[i];
      x.flushed = std::max(x.flushed, covered[i]);
      // What can never be seen again needs no memory; a read under way may see what was there when it began.
      while (readers == 0 && x.base < x.flushed) {
        x.history.erase(x.history.begin());
        ++x.base;
      }
    }
  }

  /// Whether a part of a block may be seen, since change `from` of it.
  bool possible(uint64_t block, uint64_t at, std::span<const std::byte> seen, size_t from) const {
    auto& x = blocks_[block];
    for (auto i = std::max(from, x.base); i < x.base + x.history.size(); ++i)
      if (std::memcmp(x.history[i - x.base].data() + at, seen.data(), seen.size()) == 0)
        return true;
    return false;
  }
  size_t acknowledged(uint64_t block) const { return blocks_[block].acknowledged; }
  size_t flushed(uint64_t block) const { return blocks_[block].flushed; }
  const std::vector<std::byte>& last(uint64_t block) const { return blocks_[block].history.back(); }

  int readers = 0;

  /// After a crash: what is there now is what there is.
  void settle(std::span<const std::byte> now) {
    readers = 0;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      auto& x = blocks_[i];
      x.history.clear();
      x.history.emplace_back(now.begin() + i * block_size, now.begin() + (i + 1) * block_size);
      x.base = x.acknowledged = x.flushed = 0;
    }
  }

private:
  struct block {
    std::vector<std::vector<std::byte>> history;
    size_t base = 0; // index of history.front()
    size_t acknowledged = 0, flushed = 0;
  };
  std::vector<block> blocks_;
};

/// Random requests to one shard, several at a time, each compared with a shadow.
struct shadow_run {
  /// `in_order`: only changes that cannot overtake one another are in flight together.
  shadow_run(simulated_machine& on, shard& x, uint64_t seed, bool in_order = false)
    : on(on), x(&x), random(seed), model(x.header().size / block_size), in_order(in_order) {}

  uint64_t any_offset(uint64_t length) {
    auto offset = random.below(model.size() - length + 1);
    switch (random.below(3)) {
    case 0: return offset / block_size * block_size;
    case 1: return offset / 512 * 512;
    default: return offset;
    }
  }
  uint64_t any_length() {
    switch (random.below(4)) {
    case 0: return block_size * random.between(1, 4);
    case 1: return random.between(1, 100);
    case 2: return random.between(1, 40000);
    default: return 65536 + random.below(65536);
    }
  }

  static task<> change(shadow_run& self, uint64_t offset, std::vector<std::byte> bytes, int kind) {
    // Filled in before the request begins, which takes its place in the order of requests.
    auto length = bytes.size();
    std::vector<std::pair<uint64_t, size_t>> mine;
    auto status = errc::none;
    if (kind == 0) {
      mine = self.model.change(offset, length, [&](uint64_t at) { return bytes[at - offset]; });
      status = co_await self.x->write(offset, bytes);
    } else if (kind == 1) {
      auto first = (offset + block_size - 1) / block_size * block_size;
      auto end = (offset + length) / block_size * block_size;
      if (first < end)
        mine = self.model.change(first, end - first, [](uint64_t) { return std::byte{0}; });
      status = co_await self.x->trim(offset, length);
    } else {
      mine = self.model.change(offset, length, [](uint64_t) { return std::byte{0}; });
      status = co_await self.x->write_zeroes(offset, length, kind == 3);
    }
    BOOST_TEST((status == errc::none), "a change ends with " << to_string(status));
    self.model.acknowledge(mine);
    --self.in_flight;
  }

  static task<> look(shadow_run& self, uint64_t offset, uint64_t length) {
    auto since = self.model.acknowledged();
    std::vector<std::byte> bytes(length);
    ++self.model.readers;
    auto status = co_await self.x->read(offset, bytes);
    --self.model.readers;
    BOOST_TEST((status == errc::none), "a read ends with " << to_string(status));
    for (uint64_t at = offset; at < offset + length;) {
      auto block = at / block_size;
      auto part = std::min(offset + length, (block + 1) * block_size) - at;
      if (!self.model.possible(block, at % block_size, std::span{bytes}.subspan(at - offset, part), since[block]))
        BOOST_ERROR("a read of block " << block << " gives what was never there");
      at += part;
    }
    --self.in_flight;
  }

  static task<> sync(shadow_run& self) {
    auto covered = self.model.acknowledged();
    auto status = co_await self.x->flush();
    BOOST_TEST((status == errc::none), "a flush ends with " << to_string(status));
    self.model.flushed(covered);
    --self.in_flight;
  }

  static task<> checkpoint(shadow_run& self) {
    auto status = co_await self.x->checkpoint();
    BOOST_TEST((status == errc::none), "a checkpoint ends with " << to_string(status));
    --self.in_flight;
  }

  void begin_one() {
    ++in_flight;
    auto length = any_length();
    auto offset = any_offset(length);
    auto what = random.below(20);
    if (what < 9) {
      std::vector<std::byte> bytes(length);
      auto word = random.next();
      for (uint64_t i = 0; i < length; ++i)
        bytes[i] = static_cast<std::byte>(word >> i % 8 * 8 ^ i / 8);
      start(change(*this, offset, std::move(bytes), 0));
    } else if (what < 12) {
      start(change(*this, offset, std::vector<std::byte>(length), static_cast<int>(1 + random.below(3))));
    } else if (what < 17) {
      start(look(*this, offset, length));
    } else if (what < 19) {
      start(sync(*this));
    } else {
      start(checkpoint(*this));
    }
  }

  bool drain() {
    return on.world.run_until([this] { return in_flight == 0; });
  }

  /// Everything as the last changes left it.
  void compare() {
    std::vector<std::byte> all(model.size());
    auto status = on.run(x->read(0, all));
    BOOST_TEST((status == errc::none), "the whole reads with " << to_string(status));
    for (uint64_t block = 0; block < model.size() / block_size; ++block)
      if (std::memcmp(all.data() + block * block_size, model.last(block).data(), block_size) != 0)
        BOOST_ERROR("block " << block << " is not what was written last");
    // What the shard calls a hole holds no data.
    std::vector<shard_extent> extents;
    x->extents(0, model.size(), extents);
    uint64_t written = 0;
    for (auto& extent : extents)
      if (extent.state == block_state::written)
        written += extent.length;
    BOOST_TEST(written == x->allocated_bytes());
  }

  void batches(int count, int width) {
    for (auto i = 0; i < count; ++i) {
      for (auto j = 0; j < (in_order ? 1 : width); ++j)
        begin_one();
      BOOST_REQUIRE(drain());
      if (i % 5 == 4)
        compare();
    }
    compare();
  }

  simulated_machine& on;
  shard* x;
  simulated_random random;
  shadow model;
  bool in_order;
  int in_flight = 0;
};

/// One machine with one file store in /d.
struct file_machine : simulated_machine {
  explicit file_machine(uint64_t seed, file_io io = file_io::direct, simulated_disk_options disk_options = {})
    : simulated_machine(seed, disk_options) {
    options.name = "test";
    options.kind = tier_kind::file;
    options.directory = "/d";
    options.io = io;
    options.on_mismatch = [this](shard_id, uint64_t offset) { mismatches.push_back(offset); };
    store = make_file_store(*on, options);
  }
  ~file_machine() {
    // After a crash in the middle of requests, their coroutines never end, and what they use is not taken away.
    x.reset();
    store.reset();
    world.run_until_idle();
    world.advance(std::chrono::seconds{1});
  }

  void create(uint64_t size = 1 << 20) {
    auto opened = run_create(*this, *store, header_for(size));
    BOOST_REQUIRE_MESSAGE(opened.status == errc::none, "create: " << to_string(opened.status));
    x = std::move(opened.shard);
  }
  errc open() {
    auto header = header_for(0);
    auto opened = run_open(*this, *store, header.id, header.generation);
    x = std::move(opened.shard);
    return opened.status;
  }
  /// As passivation does.
  void close() {
    BOOST_REQUIRE((run(x->checkpoint()) == errc::none));
    x.reset();
    world.run_until_idle();
  }
  /// The process is gone; another one starts.
  void after_crash() {
    (void)x.release();
    (void)store.release();
    (void)on.release();
    (void)ring.release();
    boot();
    store = make_file_store(*on, options);
  }
  void kill() {
    disk.kill();
    after_crash();
  }
  void power_loss() {
    disk.power_loss();
    after_crash();
  }

  std::string path() const { return "/d/" + disk.list("/d").front(); }
  uint64_t data_at(uint64_t offset) const { return shard_layout{1 << 20}.data_offset + offset; }

  errc write(uint64_t offset, size_t length, int value) {
    auto bytes = filled(length, value);
    return run(x->write(offset, bytes));
  }
  errc read(uint64_t offset, size_t length, std::vector<std::byte>& into) {
    into.assign(length, std::byte{0xee});
    return run(x->read(offset, into));
  }
  errc reads_as(uint64_t offset, size_t length, int value) {
    std::vector<std::byte> bytes;
    auto status = read(offset, length, bytes);
    if (status == errc::none && bytes != filled(length, value))
      BOOST_ERROR("not what was written");
    return status;
  }

  shard_store_options options;
  std::unique_ptr<shard_store> store;
  std::unique_ptr<shard> x;
  std::vector<uint64_t> mismatches;
};

} // namespace varve::test
