#include "runtime/storage/epoch_log.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include <fcntl.h>

#include "rdma/checksum.hpp"
#include "runtime/reactor/io.hpp"
#include "runtime/reactor/rings.hpp"

namespace varve {

namespace {

static_assert(std::endian::native == std::endian::little, "epoch logs are written as memory holds them");

constexpr uint64_t log_magic = 0x48434f5045565256; // "VRVEPOCH"
constexpr uint32_t log_version = 1;
constexpr uint64_t records_at = 4096;
constexpr uint64_t chunk_bytes = 1ull << 20;

/// Within one sector: it is there as a whole or not at all.
struct log_header {
  uint64_t magic = log_magic;
  uint32_t version = log_version;
  /// Of the whole, with this field 0.
  uint32_t crc = 0;
  uint64_t sequence = 0;
  /// In records.
  uint64_t capacity = 0;
  /// Written and synced before this header was.
  uint64_t first = 0;
  uint8_t reserved[472] = {};
};
static_assert(sizeof(log_header) == 512);

struct log_record {
  /// Of the file's sequence, the record's position and the rest: what lies there from an earlier use does not count.
  uint32_t crc = 0;
  /// Records written together have one number; the next ones, written after these were synced, the next.
  uint32_t batch = 0;
  uint64_t volume = 0;
  uint64_t index = 0;
  uint64_t value = 0;
};
static_assert(sizeof(log_record) == 32);

template <class T>
std::span<std::byte> bytes_of(T& x) {
  return std::as_writable_bytes(std::span{&x, 1});
}

uint32_t sum_of(log_header x) {
  x.crc = 0;
  return crc32c(bytes_of(x));
}

uint32_t sum_of(const log_record& x, uint64_t sequence, uint64_t position) {
  const uint64_t place[2] = {sequence, position};
  return crc32c(std::as_bytes(std::span{&x, 1}).subspan(sizeof x.crc), crc32c(std::as_bytes(std::span{place})));
}

log_record record(shard_id id, uint64_t value, uint32_t batch, uint64_t sequence, uint64_t position) {
  log_record x;
  x.batch = batch;
  x.volume = id.volume.value();
  x.index = id.index.value();
  x.value = value;
  x.crc = sum_of(x, sequence, position);
  return x;
}

constexpr shard_id the_manager{};

} // namespace

struct epoch_log::found {
  int fd = -1;
  unsigned slot = 0;
  log_header header;
  /// A header that counts; not a file that was never finished (its header is all zeros), nor none.
  bool valid = false;
  bool damaged = false;
};

epoch_log::epoch_log(reactor& on, epoch_log_options options) : on_(on), options_(std::move(options)) {}

epoch_log::~epoch_log() = default;

std::string epoch_log::path(unsigned slot) const {
  return options_.folder + "/epochs." + std::to_string(slot);
}

// -- reading
// -----------------------------------------------------------------------------------------------------------

task<errc> epoch_log::open(std::string& problem) {
  problem.clear();
  found both[2];
  for (unsigned slot = 0; slot < 2; ++slot)
    if (auto status = co_await look(slot, both[slot]); status != errc::none) {
      problem = path(slot) + (status == errc::bad_format ? ": of a newer version" : ": cannot be read");
      co_return status;
    }
  for (auto& x : both)
    if (x.damaged)
      problem = path(x.slot) + ": its header is damaged";
  auto* newest = both[0].valid && (!both[1].valid || both[0].header.sequence > both[1].header.sequence) ? &both[0]
                 : both[1].valid                                                                        ? &both[1]
                                                                                                        : nullptr;
  if (!newest && !problem.empty()) {
    problem += ", and there is no other; if it cannot be brought back, remove both epochs.* of the folder";
    co_return errc::bad_format;
  }
  auto clean = false;
  if (newest) {
    if (auto status = co_await read_records(*newest, problem, clean); status != errc::none)
      co_return status;
    file_ = {newest->fd, newest->slot, newest->header.sequence, newest->header.capacity, file_.used, file_.batch};
  } else {
    file_.slot = 1; // so that the first is 0
  }
  for (auto& x : both)
    if (&x != newest && x.fd >= 0) {
      spare_capacity_ = x.valid ? x.header.capacity : 0;
      (void)co_await close_file(on_.ring(), x.fd);
    }
  if (!clean) {
    const auto into = path(file_.slot ^ 1);
    if (auto status = co_await rewrite(); status != errc::none) {
      if (problem.empty())
        problem = into + ": cannot be written: " + to_string(status);
      co_return status;
    }
  }
  if (spare_capacity_ == 0)
    co_await reserve_spare();
  std::lock_guard guard{mutex_};
  file_bytes_ = records_at + file_.capacity * sizeof(log_record);
  co_return errc::none;
}

task<errc> epoch_log::look(unsigned slot, found& out) {
  out.slot = slot;
  out.fd = co_await open_file(on_.ring(), path(slot), O_RDWR | O_CLOEXEC);
  if (out.fd < 0)
    co_return errc_of_result(out.fd) == errc::not_found ? errc::none : errc::device_failed;
  auto status = co_await read_fully(on_.ring(), out.fd, 0, bytes_of(out.header));
  if (status == errc::bad_format)
    co_return errc::none; // too short: never finished
  if (status != errc::none)
    co_return status;
  const auto& x = out.header;
  const auto bytes = bytes_of(out.header);
  const auto empty = std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
  out.valid = !empty && x.magic == log_magic && x.crc == sum_of(x);
  out.damaged = !empty && !out.valid;
  co_return out.valid&& x.version > log_version ? errc::bad_format : errc::none;
}

task<errc> epoch_log::read_records(found& from, std::string& problem, bool& clean) {
  const auto& header = from.header;
  std::vector<log_record> part(std::min(header.capacity, chunk_bytes / sizeof(log_record)));
  uint64_t valid = 0, end = 0;
  uint32_t batch_before_gap = 0, newest_batch = 0;
  auto gap = false, later = false;
  std::unordered_map<shard_id, uint64_t> seen;
  for (uint64_t at = 0; at < header.capacity; at += part.size()) {
    part.resize(std::min<uint64_t>(part.size(), header.capacity - at));
    auto status = co_await read_fully(on_.ring(), from.fd, records_at + at * sizeof(log_record),
                                      std::as_writable_bytes(std::span{part}));
    if (status != errc::none) {
      problem = path(from.slot) + ": cannot be read";
      co_return status == errc::bad_format ? errc::device_failed : status;
    }
    for (uint64_t i = 0; i < part.size(); ++i) {
      const auto& x = part[i];
      if (x.crc != sum_of(x, header.sequence, at + i)) {
        gap = true;
        continue;
      }
      ++valid;
      // Whatever is whole counts, also beyond a gap: an epoch too high only makes a manager take a higher one.
      auto& value = seen[{volume_id{x.volume}, shard_index{x.index}}];
      value = std::max(value, x.value);
      if (!gap) {
        end = at + i + 1;
        batch_before_gap = x.batch;
      }
      newest_batch = std::max(newest_batch, x.batch);
      later |= gap;
    }
  }
  // What was torn was the last to be written; with a later batch behind it, it was whole once.
  if (valid < header.first || (later && newest_batch > batch_before_gap + 1))
    problem = path(from.slot) + ": some records are damaged; epochs may have been forgotten";
  clean = !later && problem.empty() && end >= header.first;
  file_.used = end;
  file_.batch = newest_batch;
  std::lock_guard guard{mutex_};
  seen_ = std::move(seen);
  co_return errc::none;
}

// -- writing
// -----------------------------------------------------------------------------------------------------------

epoch epoch_log::highest(shard_id id) const {
  std::lock_guard guard{mutex_};
  auto at = seen_.find(id);
  return epoch{at == seen_.end() ? 0 : at->second};
}

uint64_t epoch_log::manager() const {
  return highest(the_manager).value();
}

size_t epoch_log::size() const {
  std::lock_guard guard{mutex_};
  return seen_.size();
}

uint64_t epoch_log::file_bytes() const {
  std::lock_guard guard{mutex_};
  return file_bytes_;
}

void epoch_log::raise(shard_id id, epoch to, callback done) {
  note(id, to.value(), errc::stale_epoch, std::move(done));
}

void epoch_log::note_manager(uint64_t incarnation, callback done) {
  note(the_manager, incarnation, errc::deposed, std::move(done));
}

void epoch_log::note(shard_id id, uint64_t value, errc refused, callback done) {
  auto status = errc::none;
  {
    std::lock_guard guard{mutex_};
    auto at = seen_.find(id);
    const auto before = at == seen_.end() ? 0 : at->second;
    if (value < before) {
      status = refused;
    } else if (value > before || not_durable_.count(id) > 0) {
      seen_[id] = not_durable_[id] = value;
      queue_.push_back({id, value});
      waiting_.push_back(std::move(done));
      wake();
      return;
    }
  }
  done(status);
}

void epoch_log::raise_all(std::vector<std::pair<shard_id, epoch>> xs, callback done) {
  {
    std::lock_guard guard{mutex_};
    seen_.reserve(seen_.size() + xs.size());
    const auto before = queue_.size();
    for (auto& [id, to] : xs) {
      auto& value = seen_[id];
      if (to.value() > value || (to.value() == value && not_durable_.count(id) > 0)) {
        value = to.value();
        queue_.push_back({id, value});
      }
    }
    // Apart from what stays: so that its memory is one piece when it is given back.
    for (auto i = before; i < queue_.size(); ++i)
      not_durable_[queue_[i].id] = queue_[i].value;
    if (queue_.size() > before) {
      waiting_.push_back(std::move(done));
      wake();
      return;
    }
  }
  done(errc::none);
}

void epoch_log::wake() {
  if (std::exchange(flushing_, true))
    return;
  on_.post([this] { varve::start(flush()); });
}

void epoch_log::when_idle(std::function<void()> done) {
  std::lock_guard guard{mutex_};
  idle_.push_back(std::move(done));
  wake();
}

task<> epoch_log::flush() {
  for (;;) {
    std::vector<entry> batch;
    std::vector<callback> waiting;
    std::vector<std::function<void()>> idle;
    {
      std::lock_guard guard{mutex_};
      batch.swap(queue_);
      waiting.swap(waiting_);
      if (batch.empty()) {
        flushing_ = false;
        idle.swap(idle_);
      }
    }
    for (auto& done : idle)
      done();
    if (batch.empty())
      co_return;
    // What is rewritten is all that was seen, the batch included.
    const auto room = file_.fd >= 0 && !failed_ && file_.used + batch.size() <= file_.capacity;
    const auto status = room ? co_await append(batch) : co_await rewrite();
    if (status == errc::none) {
      std::lock_guard guard{mutex_};
      for (auto& x : batch)
        if (auto at = not_durable_.find(x.id); at != not_durable_.end() && at->second <= x.value)
          not_durable_.erase(at);
    }
    for (auto& done : waiting)
      done(status);
  }
}

task<errc> epoch_log::append(std::span<const entry> batch) {
  std::vector<log_record> records;
  records.reserve(batch.size());
  ++file_.batch;
  for (const auto& x : batch)
    records.push_back(record(x.id, x.value, file_.batch, file_.sequence, file_.used + records.size()));
  auto status = co_await write_fully(on_.ring(), file_.fd, records_at + file_.used * sizeof(log_record),
                                     std::as_bytes(std::span{records}));
  if (status == errc::none)
    status = co_await sync_file(on_.ring(), file_.fd);
  if (status == errc::none)
    file_.used += records.size();
  else
    failed_ = true; // after a failed sync nobody knows what of the file is there: never appended to again
  co_return status;
}

task<errc> epoch_log::reserve(int fd, uint64_t from_bytes, uint64_t to_bytes) {
  // Zeros, not only room: a sync of what is written over them later has no metadata to write.
  std::vector<std::byte> zeros(std::min(chunk_bytes, to_bytes - from_bytes));
  for (auto at = from_bytes; at < to_bytes; at += zeros.size()) {
    zeros.resize(std::min<uint64_t>(zeros.size(), to_bytes - at));
    if (auto status = co_await write_fully(on_.ring(), fd, at, zeros); status != errc::none)
      co_return status;
  }
  co_return errc::none;
}

task<> epoch_log::reserve_spare() {
  auto fd = co_await open_file(on_.ring(), path(file_.slot ^ 1), O_RDWR | O_CREAT | O_CLOEXEC);
  if (fd < 0)
    co_return; // tried again when it is needed
  auto status = co_await reserve(fd, 0, records_at + file_.capacity * sizeof(log_record));
  if (status == errc::none)
    status = co_await sync_file(on_.ring(), fd);
  if (status == errc::none)
    status = co_await sync_folder(on_.ring(), options_.folder);
  if (status == errc::none)
    spare_capacity_ = file_.capacity;
  (void)co_await close_file(on_.ring(), fd);
}

task<errc> epoch_log::rewrite() {
  const auto slot = file_.slot ^ 1;
  const auto sequence = file_.sequence + 1;
  std::vector<log_record> records;
  {
    std::lock_guard guard{mutex_};
    records.reserve(seen_.size());
    for (auto& [id, value] : seen_)
      records.push_back(record(id, value, 0, sequence, records.size()));
  }
  auto wanted = std::max<uint64_t>(options_.reserved_bytes / sizeof(log_record), 64);
  while (wanted < 2 * records.size())
    wanted *= 2;
  auto fd = co_await open_file(on_.ring(), path(slot), O_RDWR | O_CREAT | O_CLOEXEC);
  if (fd < 0)
    co_return errc_of_result(fd);
  auto status = errc::none;
  if (header_doubtful_) {
    // The last attempt may have left a header that counts: until it is surely gone, what it counts must stay.
    log_header none;
    std::memset(static_cast<void*>(&none), 0, sizeof none);
    status = co_await write_fully(on_.ring(), fd, 0, bytes_of(none));
    if (status == errc::none)
      status = co_await sync_file(on_.ring(), fd);
    if (status != errc::none) {
      (void)co_await close_file(on_.ring(), fd);
      co_return status;
    }
    header_doubtful_ = false;
  }
  auto capacity = spare_capacity_;
  if (capacity < wanted) {
    const auto kept = capacity == 0 ? 0 : records_at + capacity * sizeof(log_record);
    status = co_await reserve(fd, kept, records_at + wanted * sizeof(log_record));
    if (status == errc::none)
      capacity = wanted;
    else if (status == errc::tier_full && records.size() <= capacity)
      status = errc::none; // what it has is enough for now
  }
  if (status == errc::none && !records.empty())
    status = co_await write_fully(on_.ring(), fd, records_at, std::as_bytes(std::span{records}));
  if (status == errc::none)
    status = co_await sync_file(on_.ring(), fd);
  if (status == errc::none && spare_capacity_ == 0)
    status = co_await sync_folder(on_.ring(), options_.folder);
  log_header header;
  header.sequence = sequence;
  header.capacity = capacity;
  header.first = records.size();
  header.crc = sum_of(header);
  if (status == errc::none) {
    header_doubtful_ = true;
    status = co_await write_fully(on_.ring(), fd, 0, bytes_of(header));
  }
  if (status == errc::none)
    status = co_await sync_file(on_.ring(), fd);
  if (status != errc::none) {
    (void)co_await close_file(on_.ring(), fd);
    co_return status;
  }
  if (file_.fd >= 0)
    (void)co_await close_file(on_.ring(), file_.fd);
  spare_capacity_ = file_.capacity;
  file_ = {fd, slot, sequence, capacity, records.size(), 0};
  failed_ = header_doubtful_ = false;
  std::lock_guard guard{mutex_};
  file_bytes_ = records_at + capacity * sizeof(log_record);
  co_return errc::none;
}

// -- the thread
// --------------------------------------------------------------------------------------------------------

namespace {

/// Members in the order in which they are made.
struct running_log {
  std::unique_ptr<varve::ring> ring;
  std::unique_ptr<reactor> on;
  std::unique_ptr<epoch_log> log;
  std::thread thread;

  ~running_log() {
    if (!thread.joinable())
      return;
    auto over = std::make_shared<std::promise<void>>();
    auto idle = over->get_future();
    log->when_idle([over] { over->set_value(); });
    const auto in_time = idle.wait_for(std::chrono::seconds{10}) == std::future_status::ready;
    on->stop();
    thread.join();
    if (in_time)
      return;
    // A hung device may still write into what these own.
    log.release();
    on.release();
    ring.release();
  }
};

task<> open_into(epoch_log& log, std::string& problem, std::shared_ptr<std::promise<errc>> into) {
  into->set_value(co_await log.open(problem));
}

} // namespace

std::shared_ptr<epoch_log> epoch_log_thread::start(epoch_log_options options, std::string& problem) {
  auto made = std::make_shared<running_log>();
  ring_options with;
  with.kind = ring_kind::threads;
  with.threads = 1;
  made->ring = make_ring(with).ring;
  made->on = std::make_unique<reactor>(*made->ring);
  made->log = std::make_unique<epoch_log>(*made->on, std::move(options));
  auto opened = std::make_shared<std::promise<errc>>();
  made->on->post([&problem, log = made->log.get(), opened] { varve::start(open_into(*log, problem, opened)); });
  made->thread = std::thread{[on = made->on.get()] { on->run(); }};
  if (auto status = opened->get_future().get(); status != errc::none) {
    if (problem.empty())
      problem = to_string(status);
    return nullptr;
  }
  auto* log = made->log.get();
  return {std::move(made), log};
}

} // namespace varve
