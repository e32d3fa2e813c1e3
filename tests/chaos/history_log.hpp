#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "tests/chaos/history.hpp"

namespace varve::chaos {

enum class log_event : uint32_t {
  write_begins = 1,
  read_begins,
  /// Answered; of a read, `value` is what it found.
  done,
  /// Answered with an error, or the connection ended first.
  failed,
  lost,
  /// A read that found what is no block's stamp.
  garbled,
};

struct log_record {
  /// Of this log: the same in an operation's begin and end.
  uint64_t operation = 0;
  /// CLOCK_MONOTONIC, ns: one for all processes of a machine.
  int64_t time = 0;
  uint64_t block = 0;
  stamp value;
  log_event event = log_event::done;
  /// errno, of `failed`.
  uint32_t error = 0;
};
static_assert(sizeof(log_record) == 48);

/// What one connection's client did and saw. A begin is in the file before the request is sent, so that a history is
/// whole also when its client was killed. One thread.
class history_log {
public:
  /// Throws std::system_error when the file cannot be made.
  history_log(const std::filesystem::path& path, uint64_t volume);
  ~history_log();
  history_log(const history_log&) = delete;
  history_log& operator=(const history_log&) = delete;

  /// Throws std::system_error.
  void append(const log_record& x);

private:
  int fd_;
};

struct logged_operation {
  uint64_t volume = 0;
  uint64_t block = 0;
  /// As the checker takes it: `never` ends what was not answered well.
  operation op;
  /// Nullopt: there is no end of it in the log.
  std::optional<log_event> outcome;
  /// When that was, for its client.
  int64_t over = never;
};

struct history {
  /// By volume and block. Reads that say nothing are left out.
  std::vector<logged_operation> operations;
  /// Reads that found no stamp.
  std::vector<logged_operation> garbled;
  uint64_t reads = 0, writes = 0, failed = 0, lost = 0, unanswered = 0;
};

/// Calls `f` for each operation of these logs. Throws std::runtime_error, which names the file, for what is no log; a
/// last record that is not whole is its killed client's.
void for_each_operation(const std::vector<std::filesystem::path>& paths,
                        const std::function<void(const logged_operation&)>& f);

/// Of all these logs together. Throws as for_each_operation does.
history read_logs(const std::vector<std::filesystem::path>& paths);

} // namespace varve::chaos
