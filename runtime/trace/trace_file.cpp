#include "runtime/trace/trace_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace varve {

namespace {

// Records of one block: bounded so that even the largest fit.
constexpr size_t block_records_max = 16'384;
static_assert(block_records_max * trace_format::record_bytes_max <= trace_format::payload_bytes_max);

std::string system_problem(const std::string& what) {
  return what + ": " + std::strerror(errno);
}

std::string write_all(int fd, std::span<const std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const auto n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return system_problem("writing");
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

} // namespace

trace_descriptor::~trace_descriptor() {
  if (fd_ >= 0)
    ::close(fd_);
}

std::string trace_reader::open(const std::string& path) {
  file_ = trace_descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat s {};
  if (file_.get() < 0 || ::fstat(file_.get(), &s) != 0)
    return system_problem(path);
  if (!S_ISREG(s.st_mode))
    return path + ": it is not a file";
  file_bytes_ = static_cast<uint64_t>(s.st_size);
  std::vector<std::byte> bytes;
  if (!read_at(0, bytes, trace_format::header_bytes))
    return path + ": it is not a trace";
  if (auto problem = trace_format::decode_header(bytes, header_); !problem.empty())
    return path + ": " + problem;
  good_bytes_ = trace_format::header_bytes;
  return {};
}

bool trace_reader::next(std::vector<trace_record>& out) {
  std::vector<std::byte> head, payload;
  trace_format::block_head h;
  std::vector<trace_record> records;
  if (good_bytes_ == file_bytes_)
    return false;
  if (!read_at(good_bytes_, head, trace_format::block_head_bytes) || !trace_format::decode_head(head, h) ||
      !read_at(good_bytes_ + head.size(), payload, h.payload_bytes) ||
      !trace_format::decode_block(head, payload, records)) {
    torn_bytes_ = file_bytes_ - good_bytes_;
    return false;
  }
  good_bytes_ += head.size() + payload.size();
  dropped_ += h.dropped;
  recordings_ += h.resumed;
  out.insert(out.end(), records.begin(), records.end());
  return true;
}

bool trace_reader::read_at(uint64_t offset, std::vector<std::byte>& to, size_t size) const {
  if (offset + size > file_bytes_)
    return false;
  to.resize(size);
  for (size_t done = 0; done < size;) {
    const auto n = ::pread(file_.get(), to.data() + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

std::string trace_writer::open(const std::string& path, const trace_header& header) {
  struct stat s {};
  const bool is_new = ::stat(path.c_str(), &s) != 0 || s.st_size == 0;
  if (!is_new) {
    trace_reader reader;
    if (auto problem = reader.open(path); !problem.empty())
      return problem;
    if (reader.header().volume != header.volume)
      return path + ": it is a trace of volume " + reader.header().volume;
    std::vector<trace_record> records;
    while (reader.next(records)) {
      if (!records.empty())
        start_us_ = static_cast<uint64_t>(records.back().at.count());
      records.clear();
    }
    file_bytes_ = reader.good_bytes();
    cut_bytes_ = reader.torn_bytes();
    last_us_ = start_us_;
    resumed_ = true;
  }
  // O_NOFOLLOW: the daemon may be root, the folder anybody's.
  file_ = trace_descriptor{::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)};
  if (file_.get() < 0)
    return system_problem(path);
  if (!is_new)
    return ::ftruncate(file_.get(), static_cast<off_t>(file_bytes_)) == 0 ? std::string{} : system_problem(path);
  const auto bytes = trace_format::encode_header(header);
  file_bytes_ = bytes.size();
  return write_all(file_.get(), bytes, 0);
}

std::string trace_writer::write(const std::vector<trace_record>& records, uint64_t dropped) {
  for (size_t done = 0; done < records.size() || dropped != 0;) {
    std::vector<trace_record> part(records.begin() + static_cast<ptrdiff_t>(done),
                                   records.begin() +
                                     static_cast<ptrdiff_t>(std::min(records.size(), done + block_records_max)));
    done += part.size();
    const auto base = last_us_;
    for (auto& x : part) {
      // Connections share a clock, but not the order in which they read it.
      last_us_ = std::max(last_us_, start_us_ + static_cast<uint64_t>(x.at.count()));
      x.at = std::chrono::microseconds{static_cast<int64_t>(last_us_)};
    }
    const auto bytes = trace_format::encode_block(part, base, dropped, resumed_);
    // A block that failed half-way is written over by the next, or cut as torn.
    if (auto problem = write_all(file_.get(), bytes, file_bytes_); !problem.empty())
      return problem;
    file_bytes_ += bytes.size();
    dropped = 0;
    resumed_ = false;
  }
  return {};
}

std::string trace_writer::sync() {
  return ::fdatasync(file_.get()) == 0 ? std::string{} : system_problem("syncing");
}

std::string summarize(const std::string& path, trace_summary& x) {
  trace_reader reader;
  if (auto problem = reader.open(path); !problem.empty())
    return problem;
  std::vector<trace_record> records;
  while (reader.next(records)) {
    for (const auto& r : records) {
      ++x.records;
      ++x.operations[static_cast<size_t>(r.op)];
      x.bytes[static_cast<size_t>(r.op)] += r.length;
      x.end = std::max(x.end, r.offset + r.length);
      x.duration = r.at;
    }
    records.clear();
  }
  x.header = reader.header();
  x.dropped = reader.dropped();
  x.recordings = reader.recordings();
  x.torn_bytes = reader.torn_bytes();
  x.file_bytes = reader.good_bytes() + reader.torn_bytes();
  return {};
}

const char* to_string(block_op x) noexcept {
  constexpr const char* names[] = {"read", "write", "trim", "write_zeroes", "flush", "cache"};
  return static_cast<size_t>(x) < 6 ? names[static_cast<size_t>(x)] : "unknown";
}

} // namespace varve
