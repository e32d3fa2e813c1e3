#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "runtime/data_plane/data_plane.hpp"
#include "runtime/trace/trace_file.hpp"

namespace varve {

struct trace_progress {
  uint64_t records = 0;
  uint64_t dropped = 0;
  uint64_t file_bytes = 0;
  /// Why nothing more is written; empty while all is well.
  std::string problem;
};

/// One recording: what the data plane observes goes through a bounded queue to a thread that writes the file. A file
/// that cannot keep up loses records, which are counted, and never slows the volume down. Ends with its last owner.
class trace_recorder {
public:
  struct options {
    /// Observations that wait for the file; 24 MiB.
    size_t queue_max = 1u << 20;
    /// What a crash of the process may lose.
    std::chrono::milliseconds write_every{500};
  };

  /// Opens the file and starts observing; null with a `problem` when the file cannot be had.
  static std::shared_ptr<trace_recorder> start(std::shared_ptr<data_plane> plane, volume_id volume,
                                               const trace_header& header, const std::string& path, options options,
                                               std::string& problem);
  ~trace_recorder();

  trace_progress progress() const;
  /// Ends observing, writes and syncs the rest. Blocks for that; again: only the numbers.
  trace_progress stop();

private:
  // Outlives the recorder, because the data plane holds the sink.
  struct shared_queue {
    mutable std::mutex mutex;
    std::condition_variable changed;
    std::vector<io_observation> waiting;
    size_t capacity = 0;
    uint64_t dropped = 0, dropped_told = 0;
    /// What the data plane had dropped when this recording began.
    uint64_t dropped_before = 0;
    uint64_t records = 0;
    uint64_t file_bytes = 0;
    std::string problem;
    bool stopping = false;
  };

  trace_recorder(std::shared_ptr<data_plane> plane, volume_id volume, options options)
    : plane_(std::move(plane)), volume_(volume), options_(options), queue_(std::make_shared<shared_queue>()) {}
  void run();

  std::shared_ptr<data_plane> plane_;
  volume_id volume_;
  options options_;
  trace_writer writer_;
  std::shared_ptr<shared_queue> queue_;
  std::thread thread_;
  std::once_flag stopped_;
};

} // namespace varve
