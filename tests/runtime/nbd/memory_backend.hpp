#pragma once

#include <map>
#include <random>
#include <string>
#include <vector>

#include <sys/mman.h>

#include "runtime/nbd/block_backend.hpp"

namespace varve::test {

/// How a memory_backend misbehaves. Everything by the seed.
struct memory_faults {
  /// Share of requests that are not completed within submit, but between now and so much later, in any order.
  double delayed = 0;
  std::chrono::nanoseconds delay_max{std::chrono::microseconds{300}};
  /// Share of requests that fail, and how.
  double failed = 0;
  errc failure = errc::device_failed;
  /// Reads give a copy (`data`) rather than a `view`.
  bool copies = false;
  /// Nothing completes until let_go().
  bool held = false;
  uint64_t seed = 1;
};

/// An in-memory volume behind the contract that the data plane fulfils, to test front ends with.
class memory_backend final : public block_backend {
public:
  memory_backend(reactor& on, uint64_t size, memory_faults faults = {}, bool read_only = false)
    : reactor_(on), size_(size), read_only_(read_only), faults_(faults), random_(faults.seed),
      written_(size / block_size + 1) {
    bytes_ = static_cast<std::byte*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (bytes_ == MAP_FAILED)
      throw std::bad_alloc{};
    ::madvise(bytes_, size, MADV_HUGEPAGE);
  }
  ~memory_backend() override { ::munmap(bytes_, size_); }

  uint64_t size_bytes() const noexcept override { return size_; }
  bool read_only() const noexcept override { return read_only_; }

  void submit(block_request& x) override {
    ++submitted;
    if (x.fua)
      ++fua;
    if (faults_.held)
      held_.push_back(&x);
    else if (faults_.delayed > 0 && chance(faults_.delayed))
      start(later(&x));
    else
      carry_out(x);
  }

  task<errc> extents(uint64_t offset, uint64_t length, size_t extents_max, std::vector<volume_extent>& out) override {
    if (faults_.delayed > 0 && chance(faults_.delayed))
      co_await pause();
    if (faults_.failed > 0 && chance(faults_.failed))
      co_return faults_.failure;
    const auto end = offset + length;
    while (offset < end) {
      const bool hole = !written_[offset / block_size];
      const auto until = std::min(end, (offset / block_size + 1) * block_size);
      if (!out.empty() && out.back().hole == hole)
        out.back().length += until - offset;
      else if (out.size() == extents_max)
        break;
      else
        out.push_back({.length = until - offset, .hole = hole, .zero = hole});
      offset = until;
    }
    co_return errc::none;
  }

  /// Completes what `held` has kept, and holds no more.
  void let_go() {
    faults_.held = false;
    for (auto* x : std::exchange(held_, {}))
      carry_out(*x);
  }

  size_t held() const noexcept { return held_.size(); }
  memory_faults& faults() noexcept { return faults_; }
  std::byte* bytes() noexcept { return bytes_; }

  uint64_t submitted = 0;
  uint64_t fua = 0;
  uint64_t flushes = 0;
  /// Views given out and not released.
  uint64_t views = 0;

private:
  bool chance(double share) { return std::uniform_real_distribution<>{}(random_) < share; }

  perform pause() {
    ring_operation x;
    x.op = ring_op::timeout;
    x.deadline = reactor_.now() + std::chrono::nanoseconds{std::uniform_int_distribution<int64_t>{
                                    0, std::max<int64_t>(faults_.delay_max.count(), 1)}(random_)};
    return perform{reactor_.ring(), x};
  }

  task<void> later(block_request* x) {
    co_await pause();
    carry_out(*x);
  }

  void carry_out(block_request& x) {
    x.status = errc::none;
    if (faults_.failed > 0 && chance(faults_.failed)) {
      x.status = faults_.failure;
      return x.complete(x);
    }
    const auto first = x.offset / block_size;
    const auto last = (x.offset + x.length + block_size - 1) / block_size;
    switch (x.op) {
    case block_op::read:
      if (faults_.copies) {
        x.data = reactor_.buffers().take(x.length);
        std::memcpy(x.data.data(), bytes_ + x.offset, x.length);
      } else {
        ++views;
        x.owner = this;
        x.view = {bytes_ + x.offset, x.length};
        x.release = [](block_request& done) { --static_cast<memory_backend*>(done.owner)->views; };
      }
      break;
    case block_op::write:
      std::memcpy(bytes_ + x.offset, x.payload.data(), x.length);
      std::fill(written_.begin() + first, written_.begin() + last, 1);
      break;
    case block_op::trim:
    case block_op::write_zeroes:
      std::memset(bytes_ + x.offset, 0, x.length);
      for (auto i = first; i < last; ++i)
        if (x.no_hole)
          written_[i] = 1;
        else if (i * block_size >= x.offset && (i + 1) * block_size <= x.offset + x.length)
          written_[i] = 0;
      break;
    case block_op::flush: ++flushes; break;
    case block_op::cache: break;
    }
    x.complete(x);
  }

  reactor& reactor_;
  uint64_t size_;
  bool read_only_;
  memory_faults faults_;
  std::mt19937_64 random_;
  std::vector<uint8_t> written_; // by block
  std::byte* bytes_ = nullptr;
  std::vector<block_request*> held_;
};

/// Exports by name.
class named_exports final : public export_directory {
public:
  std::map<std::string, block_backend*, std::less<>> known;
  block_backend* find(std::string_view name) override {
    auto found = known.find(name);
    return found == known.end() ? nullptr : found->second;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    for (auto& [name, backend] : known)
      if (!name.empty())
        result.push_back(name);
    return result;
  }
};

} // namespace varve::test
