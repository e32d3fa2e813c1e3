#include "tests/system/vm/guest_load.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

namespace varve::vm {

namespace {

/// CLOCK_MONOTONIC of the guest: it stands still while QEMU has stopped the machine.
int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds{1};
}

constexpr chaos::stamp stamp_of(uint64_t sequence) {
  return sequence == 0 ? chaos::blank : chaos::stamp{1, 1, sequence};
}

} // namespace

guest_load::guest_load(load_options options, std::function<void(const std::string&)> tell)
  : options_(std::move(options)), tell_(std::move(tell)), last_(options_.blocks), unknown_(options_.blocks) {}

void guest_load::start() {
  disk_ = ::open(options_.disk.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  if (disk_ < 0)
    throw std::system_error(errno, std::generic_category(), options_.disk);
  for (unsigned i = 0; i < options_.workers; ++i)
    workers_.emplace_back([this, i] { work(i); });
}

void guest_load::hold() {
  std::unique_lock lock(mutex_);
  held_ = true;
  changed_.wait(lock, [this] { return working_ == 0; });
}

void guest_load::go() {
  std::lock_guard lock(mutex_);
  held_ = false;
  changed_.notify_all();
}

void guest_load::fill() {
  buffer data;
  for (uint64_t block = 0; block < options_.blocks; ++block)
    write(block, data);
}

uint64_t guest_load::sweep() {
  buffer data;
  uint64_t wrong = 0;
  for (uint64_t block = 0; block < options_.blocks; ++block)
    wrong += !read(block, data);
  return wrong;
}

void guest_load::work(unsigned number) {
  std::mt19937_64 random(number + 1);
  buffer data;
  const auto own = (options_.blocks - number + options_.workers - 1) / options_.workers;
  unsigned unflushed = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !held_; });
      ++working_;
    }
    const auto block = number + random() % own * options_.workers;
    if (random() % 100 < options_.reads_percent) {
      read(block, data);
    } else {
      write(block, data);
      if (++unflushed >= options_.flush_every) {
        unflushed = 0;
        flush();
      }
    }
    {
      std::lock_guard lock(mutex_);
      if (--working_ == 0)
        changed_.notify_all();
    }
    ::usleep(options_.think_us / 2 + random() % (options_.think_us + 1));
  }
}

void guest_load::write(uint64_t block, buffer& with) {
  const auto sequence = last_[block] + 1;
  chaos::fill_block(with, options_.volume, block, stamp_of(sequence));
  const auto began = now_ns();
  const auto done = ::pwrite(disk_, with.data(), with.size(), static_cast<off_t>(block * options_.stride_bytes));
  if (done != static_cast<ssize_t>(with.size())) {
    failed("write", block, done < 0 ? errno : EIO);
    unknown_[block] = true;
    return;
  }
  waited(began);
  last_[block] = sequence;
  unknown_[block] = false;
  ++counters_.writes;
}

bool guest_load::read(uint64_t block, buffer& into) {
  const auto began = now_ns();
  const auto done = ::pread(disk_, into.data(), into.size(), static_cast<off_t>(block * options_.stride_bytes));
  if (done != static_cast<ssize_t>(into.size())) {
    failed("read", block, done < 0 ? errno : EIO);
    return false;
  }
  waited(began);
  ++counters_.reads;
  const auto found = chaos::read_block(into, options_.volume, block);
  const auto expected = stamp_of(last_[block]);
  if (found == expected || (unknown_[block] && found == stamp_of(last_[block] + 1)))
    return true;
  ++counters_.mismatches;
  tell_("mismatch: block " + std::to_string(block) + ": expected sequence " + std::to_string(last_[block]) +
        ", found " + (found ? std::to_string(found->sequence) : "no stamp of this block"));
  return false;
}

void guest_load::flush() {
  const auto began = now_ns();
  if (::fdatasync(disk_) != 0) {
    failed("flush", 0, errno);
    return;
  }
  waited(began);
  ++counters_.flushes;
}

void guest_load::waited(int64_t since_ns) {
  const auto took = now_ns() - since_ns;
  auto& longest = counters_.longest_wait_ns;
  for (auto known = longest.load(); known < took && !longest.compare_exchange_weak(known, took);) {
  }
}

void guest_load::failed(const char* what, uint64_t block, int error) {
  ++counters_.failed;
  tell_(std::string("failed: ") + what + " of block " + std::to_string(block) + ": " + std::strerror(error));
}

} // namespace varve::vm
