#pragma once

#include <functional>
#include <string>

#include "runtime/trace/latency_histogram.hpp"
#include "runtime/trace/trace_file.hpp"

namespace varve {

struct replay_options {
  /// NBD: nbd+unix:///NAME?socket=PATH.
  std::string uri;
  /// Names the volume in what is written.
  uint64_t volume = 0;
  /// Times the original; 0: as fast as it goes.
  double speed = 1;
  /// Requests under way at most.
  size_t depth = 32;
  /// Judge what is read by what this replay wrote, and read all of that again at the end.
  bool verify = false;
  /// Called about ten times a second with requests done, and seconds of the trace played. May be empty.
  std::function<void(uint64_t requests, std::chrono::microseconds at)> on_progress;
  /// Looked at between requests; true ends the replay early. May be empty.
  std::function<bool()> should_stop;
};

struct replay_report {
  uint64_t requests = 0, errors = 0;
  /// Beyond the volume's end, or of a kind that the volume does not offer.
  uint64_t skipped = 0;
  uint64_t bytes_read = 0, bytes_written = 0;
  std::chrono::nanoseconds duration{0};
  /// How late the latest request was sent: the volume, or depth, could not keep up.
  std::chrono::nanoseconds lag_max{0};
  latency_histogram all, by_op[6];
  uint64_t sectors_verified = 0, sectors_bad = 0;
  /// Bytes at the end of the trace that a crash of its recorder left.
  uint64_t torn_bytes = 0;
};

/// Asks a volume over NBD for what a trace says. What went wrong with the conversation as a whole, or empty; failed
/// requests are counted, not told.
std::string replay(trace_reader& trace, const replay_options& options, replay_report& report);

} // namespace varve
