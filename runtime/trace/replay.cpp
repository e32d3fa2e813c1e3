#include "runtime/trace/replay.hpp"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>

#include <libnbd.h>

#include "runtime/trace/stamp.hpp"

namespace varve {

namespace {

using clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// NBD's own limit for what carries data, as servers commonly set it.
constexpr uint32_t data_bytes_max = 32u << 20;

struct nbd_deleter {
  void operator()(nbd_handle* x) const { nbd_close(x); }
};

// One request under way. Its buffer stays where it is until the answer.
struct slot {
  block_op op = block_op::read;
  uint64_t offset = 0;
  uint32_t length = 0;
  std::vector<std::byte> data;
  clock::time_point sent;
  clock::time_point answered;
  bool busy = false, done = false, failed = false;

  bool overlaps(uint64_t other_offset, uint64_t other_length) const {
    return offset < other_offset + other_length && other_offset < offset + length;
  }
};

class player {
public:
  player(const replay_options& options, replay_report& report)
    : options_(options), report_(report), nbd_(nbd_create()), slots_(std::max<size_t>(1, options.depth)),
      stamps_(options.volume) {}

  std::string play(trace_reader& trace) {
    if (!nbd_ || nbd_connect_uri(nbd_.get(), options_.uri.c_str()) < 0)
      return problem();
    const auto size = nbd_get_size(nbd_.get());
    if (size < 0)
      return problem();
    size_ = static_cast<uint64_t>(size);
    std::vector<trace_record> records;
    const auto began = clock::now();
    auto told = began;
    std::optional<std::chrono::microseconds> first;
    while (trace.next(records)) {
      for (const auto& x : records) {
        if (options_.should_stop && options_.should_stop())
          return finish(began, trace);
        if (!first)
          first = x.at;
        if (options_.speed > 0) {
          const auto due =
            began + std::chrono::duration_cast<clock::duration>(std::chrono::duration<double, std::micro>(
                      static_cast<double>((x.at - *first).count()) / options_.speed));
          if (auto trouble = wait_until(due); !trouble.empty())
            return trouble;
          report_.lag_max = std::max<std::chrono::nanoseconds>(report_.lag_max, clock::now() - due);
        }
        if (auto trouble = send(x); !trouble.empty())
          return trouble;
        if (options_.on_progress && clock::now() - told > 100ms) {
          told = clock::now();
          options_.on_progress(report_.requests, x.at - *first);
        }
      }
      records.clear();
    }
    return finish(began, trace);
  }

private:
  static std::string problem() { return nbd_get_error() ? nbd_get_error() : "libnbd failed"; }

  std::string finish(clock::time_point began, const trace_reader& trace) {
    auto trouble = drain();
    report_.duration = clock::now() - began;
    report_.torn_bytes = trace.torn_bytes();
    if (trouble.empty() && options_.verify)
      trouble = read_again();
    if (trouble.empty())
      nbd_shutdown(nbd_.get(), 0);
    return trouble;
  }

  // Handles answers until `due`.
  std::string wait_until(clock::time_point due) {
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(due - clock::now()).count();
      // poll() counts milliseconds; the rest of one is spun away by looking again.
      if (clock::now() >= due)
        return {};
      if (auto trouble = poll_once(static_cast<int>(std::clamp<int64_t>(left, 0, 100))); !trouble.empty())
        return trouble;
    }
  }

  std::string poll_once(int timeout_ms) {
    if (nbd_poll(nbd_.get(), timeout_ms) < 0)
      return problem();
    for (auto& x : slots_)
      if (x.busy && x.done)
        complete(x);
    return {};
  }

  std::string drain() {
    while (std::any_of(slots_.begin(), slots_.end(), [](const slot& x) { return x.busy; }))
      if (auto trouble = poll_once(1000); !trouble.empty())
        return trouble;
    return {};
  }

  // A free slot; with verify, one beside which nothing overlaps, since of overlapping requests nobody knows who wins.
  std::string take(uint64_t offset, uint64_t length, slot*& out) {
    for (;;) {
      out = nullptr;
      bool overlap = false;
      for (auto& x : slots_) {
        if (!x.busy)
          out = &x;
        else
          overlap = overlap || (options_.verify && x.overlaps(offset, length));
      }
      if (out && !overlap)
        return {};
      if (auto trouble = poll_once(1000); !trouble.empty())
        return trouble;
    }
  }

  bool possible(const trace_record& x) const {
    auto* h = nbd_.get();
    switch (x.op) {
    case block_op::flush: return nbd_can_flush(h) > 0;
    case block_op::trim:
      return nbd_can_trim(h) > 0 && x.length > 0 && x.offset <= size_ && x.length <= size_ - x.offset;
    case block_op::write_zeroes:
      return nbd_can_zero(h) > 0 && x.length > 0 && x.offset <= size_ && x.length <= size_ - x.offset;
    case block_op::cache:
      return nbd_can_cache(h) > 0 && x.length > 0 && x.offset <= size_ && x.length <= size_ - x.offset;
    case block_op::read:
    case block_op::write:
      return x.length > 0 && x.length <= data_bytes_max && x.offset <= size_ && x.length <= size_ - x.offset;
    }
    return false;
  }

  std::string send(const trace_record& x) {
    if (!possible(x)) {
      ++report_.skipped;
      return {};
    }
    slot* to = nullptr;
    if (auto trouble = take(x.offset, x.length, to); !trouble.empty())
      return trouble;
    to->op = x.op;
    to->offset = x.offset;
    to->length = x.length;
    to->done = to->failed = false;
    auto* h = nbd_.get();
    const nbd_completion_callback answered{[](void* user, int* error) {
                                             auto& s = *static_cast<slot*>(user);
                                             s.answered = clock::now();
                                             s.failed = *error != 0;
                                             s.done = true;
                                             return 1; // retire it
                                           },
                                           to, nullptr};
    if (x.op == block_op::read || x.op == block_op::write)
      to->data.resize(x.length);
    if (x.op == block_op::write)
      stamps_.write(x.offset, to->data);
    else if (options_.verify && x.op == block_op::write_zeroes)
      stamps_.zero(x.offset, x.length);
    else if (options_.verify && x.op == block_op::trim)
      stamps_.forget(x.offset, x.length);
    to->sent = clock::now();
    int64_t cookie = -1;
    switch (x.op) {
    case block_op::read: cookie = nbd_aio_pread(h, to->data.data(), x.length, x.offset, answered, 0); break;
    case block_op::write: cookie = nbd_aio_pwrite(h, to->data.data(), x.length, x.offset, answered, 0); break;
    case block_op::trim: cookie = nbd_aio_trim(h, x.length, x.offset, answered, 0); break;
    case block_op::write_zeroes: cookie = nbd_aio_zero(h, x.length, x.offset, answered, 0); break;
    case block_op::flush: cookie = nbd_aio_flush(h, answered, 0); break;
    case block_op::cache: cookie = nbd_aio_cache(h, x.length, x.offset, answered, 0); break;
    }
    if (cookie < 0)
      return problem();
    to->busy = true;
    return {};
  }

  void complete(slot& x) {
    x.busy = false;
    ++report_.requests;
    report_.errors += x.failed;
    report_.all.add(x.answered - x.sent);
    report_.by_op[static_cast<size_t>(x.op)].add(x.answered - x.sent);
    if (x.failed) {
      if (options_.verify && x.op != block_op::read)
        stamps_.forget(x.offset, x.length);
      return;
    }
    if (x.op == block_op::write)
      report_.bytes_written += x.length;
    if (x.op == block_op::read) {
      report_.bytes_read += x.length;
      if (options_.verify)
        judge(x.offset, x.data);
    }
  }

  void judge(uint64_t offset, std::span<const std::byte> bytes) {
    const auto v = stamps_.check(offset, bytes);
    report_.sectors_verified += v.sectors;
    report_.sectors_bad += v.bad;
  }

  // Everything whose contents are known, in runs.
  std::string read_again() {
    std::vector<uint64_t> sectors;
    for (const auto& x : stamps_.known())
      sectors.push_back(x.first);
    std::sort(sectors.begin(), sectors.end());
    constexpr size_t run_max = (1u << 20) / stamp_book::sector_bytes;
    std::vector<std::byte> bytes;
    for (size_t i = 0; i < sectors.size();) {
      size_t n = 1;
      while (i + n < sectors.size() && n < run_max && sectors[i + n] == sectors[i] + n)
        ++n;
      bytes.resize(n * stamp_book::sector_bytes);
      const auto offset = sectors[i] * stamp_book::sector_bytes;
      if (nbd_pread(nbd_.get(), bytes.data(), bytes.size(), offset, 0) < 0)
        ++report_.errors;
      else
        judge(offset, bytes);
      i += n;
    }
    return {};
  }

  const replay_options& options_;
  replay_report& report_;
  std::unique_ptr<nbd_handle, nbd_deleter> nbd_;
  uint64_t size_ = 0;
  std::vector<slot> slots_;
  stamp_book stamps_;
};

} // namespace

std::string replay(trace_reader& trace, const replay_options& options, replay_report& report) {
  return player{options, report}.play(trace);
}

} // namespace varve
