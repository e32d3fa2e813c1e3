#include "tests/chaos/stamp_client.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <thread>

#include <fmt/format.h>
#include <libnbd.h>
#include <time.h>

namespace varve::chaos {

int64_t monotonic_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

namespace {

std::vector<uint64_t> blocks_of(const stamp_options& options) {
  if (!options.only.empty())
    return options.only;
  std::vector<uint64_t> all(options.blocks);
  std::iota(all.begin(), all.end(), options.first);
  return all;
}

} // namespace

void stamp_client::close_handle::operator()(nbd_handle* x) const noexcept {
  nbd_close(x);
}

stamp_client::stamp_client(const stamp_options& options, uint32_t writer, const std::filesystem::path& log,
                           std::filesystem::path garbled, stamp_counters& counters)
  : options_(options), blocks_(blocks_of(options)), writer_(writer), log_(log, options.volume),
    garbled_(std::move(garbled)), counters_(counters), slots_(options.depth),
    random_(options.seed * 0x9e3779b97f4a7c15 + writer), epoch_(options.first_epoch - 1) {
  if (options_.sweep)
    unswept_ = blocks_;
}

stamp_client::~stamp_client() = default;

void stamp_client::run(const std::atomic<bool>& stop) {
  auto pause = std::chrono::milliseconds{20};
  while (!stop && (!options_.sweep || !unswept_.empty())) {
    if (!connect()) {
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, std::chrono::milliseconds{500});
      continue;
    }
    pause = std::chrono::milliseconds{20};
    while (!connection_over()) {
      const auto ending = stop || (options_.sweep && unswept_.empty());
      if (ending && idle())
        break;
      if (!ending)
        fill(monotonic_ns());
      // Short enough for the rate and for `stop`.
      if (nbd_poll(nbd_.get(), 5) < 0)
        break;
      collect();
    }
    collect();
    for (auto& x : slots_)
      if (x.cookie)
        ended(x, log_event::lost, 0);
    nbd_.reset();
  }
  if (options_.sweep && unswept_.empty())
    ++counters_.swept;
}

bool stamp_client::connect() {
  nbd_.reset(nbd_create());
  if (!nbd_)
    throw std::runtime_error("nbd_create: " + std::string(nbd_get_error()));
  if (nbd_connect_uri(nbd_.get(), options_.uri.c_str()) < 0) {
    // A server that is not there is what this client is made for; anything else somebody should see.
    if (const auto error = nbd_get_errno(); counters_.last_error.exchange(error) != error && error != ECONNREFUSED &&
                                            error != ENOENT && error != ECONNRESET && error != EPIPE)
      std::cerr << "varve_stamps: " << nbd_get_error() << std::endl;
    nbd_.reset();
    return false;
  }
  const auto size = nbd_get_size(nbd_.get());
  const auto needed = *std::max_element(blocks_.begin(), blocks_.end()) * options_.stride_bytes + block_bytes;
  if (size < 0 || static_cast<uint64_t>(size) < needed)
    throw std::runtime_error(fmt::format("{}: has {} bytes, needed are {}", options_.uri, size, needed));
  ++epoch_;
  ++counters_.connects;
  return true;
}

bool stamp_client::connection_over() const {
  return nbd_aio_is_dead(nbd_.get()) != 0 || nbd_aio_is_closed(nbd_.get()) != 0;
}

bool stamp_client::idle() const {
  return std::all_of(slots_.begin(), slots_.end(), [](auto& x) { return x.cookie == 0; });
}

uint64_t stamp_client::next_block() {
  if (!options_.sweep)
    return blocks_[random_() % blocks_.size()];
  auto block = unswept_.back();
  unswept_.pop_back();
  return block;
}

void stamp_client::fill(int64_t now) {
  for (auto& x : slots_) {
    if (x.cookie)
      continue;
    if (options_.sweep && unswept_.empty())
      return;
    if (options_.rate > 0) {
      if (now < next_at_)
        return;
      // What could not be sent in time is not made up for: a stall must not end in a flood.
      next_at_ = std::max(next_at_ + static_cast<int64_t>(1e9 / options_.rate), now - 100'000'000);
    }
    if (!begin(x))
      return;
  }
}

bool stamp_client::begin(slot& x) {
  const auto read = options_.sweep || random_() % 100 < options_.reads_percent;
  x.what = read                                                            ? slot::use::read
           : options_.flush_every && random_() % options_.flush_every == 0 ? slot::use::flush
                                                                           : slot::use::write;
  x.operation = ++operation_;
  x.value = blank;
  if (x.what == slot::use::flush) {
    x.begin = monotonic_ns();
    x.cookie = nbd_aio_flush(nbd_.get(), NBD_NULL_COMPLETION, 0);
  } else {
    x.block = next_block();
    const auto offset = x.block * options_.stride_bytes;
    if (x.what == slot::use::write) {
      x.value = {writer_, epoch_, ++sequence_};
      fill_block(x.data, options_.volume, x.block, x.value);
    }
    x.begin = monotonic_ns();
    log_.append({x.operation, x.begin, x.block, x.value,
                 x.what == slot::use::write ? log_event::write_begins : log_event::read_begins});
    x.cookie = x.what == slot::use::write
                 ? nbd_aio_pwrite(nbd_.get(), x.data.data(), block_bytes, offset, NBD_NULL_COMPLETION, 0)
                 : nbd_aio_pread(nbd_.get(), x.data.data(), block_bytes, offset, NBD_NULL_COMPLETION, 0);
  }
  if (x.cookie > 0)
    return true;
  // Some of it may have been sent all the same.
  ended(x, log_event::lost, 0);
  return false;
}

void stamp_client::collect() {
  for (auto& x : slots_) {
    if (!x.cookie)
      continue;
    const auto state = nbd_aio_command_completed(nbd_.get(), static_cast<uint64_t>(x.cookie));
    if (state == 0)
      continue;
    if (state > 0)
      ended(x, log_event::done, 0);
    else if (const auto error = nbd_get_errno(); connection_over() || error == ENOTCONN)
      ended(x, log_event::lost, error);
    else
      ended(x, log_event::failed, error);
  }
}

void stamp_client::ended(slot& x, log_event event, int error) {
  const auto now = monotonic_ns();
  x.cookie = 0;
  if (event == log_event::done) {
    auto longest = counters_.longest_wait_ns.load();
    while (now - x.begin > longest && !counters_.longest_wait_ns.compare_exchange_weak(longest, now - x.begin)) {
    }
    ++(x.what == slot::use::read ? counters_.reads : x.what == slot::use::write ? counters_.writes : counters_.flushes);
  } else {
    ++(event == log_event::failed ? counters_.failed : counters_.lost);
    if (error)
      counters_.last_error = error;
    if (options_.sweep)
      unswept_.push_back(x.block);
  }
  if (x.what == slot::use::flush)
    return;
  if (event == log_event::done && x.what == slot::use::read) {
    if (auto found = read_block(x.data, options_.volume, x.block)) {
      x.value = *found;
    } else {
      event = log_event::garbled;
      ++counters_.garbled;
      std::ofstream(fmt::format("{}.{}", garbled_.string(), x.operation), std::ios::binary)
        .write(reinterpret_cast<const char*>(x.data.data()), block_bytes);
    }
  }
  log_.append({x.operation, now, x.block, x.value, event, static_cast<uint32_t>(error)});
}

} // namespace varve::chaos
