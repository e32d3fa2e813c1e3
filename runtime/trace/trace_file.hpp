#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/trace/trace_format.hpp"

namespace varve {

/// A file descriptor that is closed with its owner.
class trace_descriptor {
public:
  explicit trace_descriptor(int fd = -1) noexcept : fd_(fd) {}
  trace_descriptor(trace_descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  trace_descriptor& operator=(trace_descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~trace_descriptor();
  int get() const noexcept { return fd_; }

private:
  int fd_;
};

/// Reads a trace block by block. Blocks the calling thread; an open file is not changed by anybody else but by
/// appending.
class trace_reader {
public:
  /// What is wrong, or empty.
  std::string open(const std::string& path);

  const trace_header& header() const noexcept { return header_; }

  /// Appends the records of the next block. False at the end, or where the file breaks off: see torn_bytes().
  bool next(std::vector<trace_record>& out);

  /// After next() was false: bytes at the end that are no whole block, as a crash of the recorder leaves them.
  uint64_t torn_bytes() const noexcept { return torn_bytes_; }
  /// The end of the last whole block.
  uint64_t good_bytes() const noexcept { return good_bytes_; }
  uint64_t dropped() const noexcept { return dropped_; }
  /// Recordings in the file.
  uint64_t recordings() const noexcept { return recordings_; }

private:
  bool read_at(uint64_t offset, std::vector<std::byte>& to, size_t size) const;

  trace_descriptor file_;
  trace_header header_;
  uint64_t file_bytes_ = 0;
  uint64_t good_bytes_ = 0;
  uint64_t torn_bytes_ = 0;
  uint64_t dropped_ = 0;
  uint64_t recordings_ = 1;
};

/// Writes a trace, or goes on with one after cutting what a crash left of its last block. Blocks the calling thread.
class trace_writer {
public:
  /// What is wrong, or empty. An existing file must be a trace of the same volume.
  std::string open(const std::string& path, const trace_header& header);

  /// Times count from the start of this recording. What is wrong, or empty.
  std::string write(const std::vector<trace_record>& records, uint64_t dropped);
  /// Makes all of it durable. What is wrong, or empty.
  std::string sync();

  uint64_t file_bytes() const noexcept { return file_bytes_; }
  /// Cut from an existing file when it was opened.
  uint64_t cut_bytes() const noexcept { return cut_bytes_; }

private:
  trace_descriptor file_;
  uint64_t file_bytes_ = 0;
  uint64_t cut_bytes_ = 0;
  /// When this recording began, on the file's time.
  uint64_t start_us_ = 0;
  uint64_t last_us_ = 0;
  bool resumed_ = false;
};

/// All of a trace, for `trace info`.
struct trace_summary {
  trace_header header;
  uint64_t records = 0, dropped = 0, recordings = 1;
  uint64_t operations[6] = {};
  uint64_t bytes[6] = {};
  /// Highest byte that was asked for.
  uint64_t end = 0;
  std::chrono::microseconds duration{0};
  uint64_t file_bytes = 0, torn_bytes = 0;
};

/// What is wrong, or empty. A torn tail is no error.
std::string summarize(const std::string& path, trace_summary& x);

const char* to_string(block_op x) noexcept;

} // namespace varve
