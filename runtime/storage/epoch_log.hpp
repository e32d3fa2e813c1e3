#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "messages/errors.hpp"
#include "messages/types.hpp"
#include "runtime/reactor/reactor.hpp"
#include "runtime/storage/epoch_keeper.hpp"

namespace varve {

struct epoch_log_options {
  /// An existing folder of the node, not of a tier: what it keeps outlives the shards' files.
  std::string folder;
  /// Reserved from the first start on; more is taken when twice as much is needed.
  uint64_t reserved_bytes = 1ull << 20;
};

/// An epoch_keeper on disk. Two files, `epochs.0` and `epochs.1`, each a header and records of 32 bytes that are only
/// appended; the header with the higher sequence counts. A full one, one whose end was torn and one whose sync failed
/// are written anew into the other, which begins to count with its header, the last thing written. Both keep their
/// room, so a full device refuses neither an append nor that.
///
/// `highest`, `manager`, `raise` and `note_manager`: any thread. All I/O is done on the reactor; what comes while a
/// sync is under way goes with the next one.
class epoch_log final : public epoch_keeper {
public:
  epoch_log(reactor& on, epoch_log_options options);
  epoch_log(const epoch_log&) = delete;
  ~epoch_log() override;

  /// Reads what is there, or begins anew; reactor's thread, once, before all else. errc::bad_format when neither file
  /// can be read, or one is of a newer version; errc::device_failed, errc::tier_full. With errc::none, too, `problem`
  /// may say what could not be read: the rest is kept.
  task<errc> open(std::string& problem);

  epoch highest(shard_id id) const override;
  uint64_t manager() const override;
  size_t size() const;
  /// Bytes of the file that counts.
  uint64_t file_bytes() const;

  void raise(shard_id id, epoch to, callback done) override;
  void raise_all(std::vector<std::pair<shard_id, epoch>> xs, callback done) override;
  void note_manager(uint64_t incarnation, callback done) override;
  /// `done` on the reactor's thread, when nothing is under way any more.
  void when_idle(std::function<void()> done);

private:
  struct entry {
    shard_id id;
    uint64_t value = 0;
  };
  struct file_state {
    int fd = -1;
    unsigned slot = 0;
    uint64_t sequence = 0;
    /// In records, and how many are written.
    uint64_t capacity = 0, used = 0;
    uint32_t batch = 0;
  };

  void note(shard_id id, uint64_t value, errc refused, callback done);
  task<> flush();
  /// What is queued will be written; with mutex_ held.
  void wake();
  task<errc> append(std::span<const entry> batch);
  task<errc> rewrite();
  task<> reserve_spare();
  task<errc> reserve(int fd, uint64_t from_bytes, uint64_t to_bytes);
  struct found;
  task<errc> look(unsigned slot, found& out);
  task<errc> read_records(found& from, std::string& problem, bool& clean);
  std::string path(unsigned slot) const;

  reactor& on_;
  epoch_log_options options_;
  // The reactor's thread.
  file_state file_;
  bool failed_ = false;
  bool header_doubtful_ = false;
  /// Of the file that does not count, when known: room that it has, in records.
  uint64_t spare_capacity_ = 0;

  mutable std::mutex mutex_;
  // All below: guarded by mutex_. Volume 0 is the manager's incarnation: there is no such volume.
  std::unordered_map<shard_id, uint64_t> seen_;
  /// Of `seen_`, what waits for a sync.
  std::unordered_map<shard_id, uint64_t> not_durable_;
  std::vector<entry> queue_;
  /// Who waits for all of it.
  std::vector<callback> waiting_;
  bool flushing_ = false;
  std::vector<std::function<void()>> idle_;
  uint64_t file_bytes_ = 0;
};

/// An epoch log on a thread of its own, with a ring of its own.
class epoch_log_thread {
public:
  /// Blocks until it has been read. Null with a `problem`; with a log `problem` may say what of it was damaged.
  static std::shared_ptr<epoch_log> start(epoch_log_options options, std::string& problem);
};

} // namespace varve
