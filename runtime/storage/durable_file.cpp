#include "runtime/storage/durable_file.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace varve {

namespace {

class descriptor {
public:
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() { close(); }
  int get() const { return fd_; }
  bool close() {
    const auto fd = fd_;
    fd_ = -1;
    return fd < 0 || ::close(fd) == 0;
  }

private:
  int fd_;
};

bool failed(const std::string& path, std::string& problem) {
  problem = path + ": " + std::strerror(errno);
  return false;
}

} // namespace

bool write_file_durably(const std::string& path, std::string_view bytes, std::string& problem) {
  const auto under = path + ".part";
  {
    descriptor file{::open(under.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)};
    auto good = file.get() >= 0 && ::fchmod(file.get(), 0600) == 0;
    for (auto left = bytes; good && !left.empty();) {
      const auto n = ::write(file.get(), left.data(), left.size());
      if (n < 0 && errno == EINTR)
        continue;
      good = n >= 0;
      if (good)
        left.remove_prefix(static_cast<size_t>(n));
    }
    if (!good || ::fsync(file.get()) != 0 || !file.close() || ::rename(under.c_str(), path.c_str()) != 0) {
      failed(path, problem);
      ::unlink(under.c_str());
      return false;
    }
  }
  return sync_folder_of(path, problem);
}

errc read_whole_file(const std::string& path, uint64_t bytes_max, std::string& out, std::string& problem) {
  out.clear();
  descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.get() < 0) {
    const auto absent = errno == ENOENT || errno == ENOTDIR;
    failed(path, problem);
    return absent ? errc::not_found : errc::device_failed;
  }
  char part[4096];
  for (;;) {
    const auto n = ::read(file.get(), part, sizeof part);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0) {
      failed(path, problem);
      return errc::device_failed;
    }
    if (n == 0)
      return errc::none;
    out.append(part, static_cast<size_t>(n));
    if (out.size() > bytes_max) {
      problem = path + ": longer than any that was written";
      return errc::bad_format;
    }
  }
}

bool sync_folder_of(const std::string& path, std::string& problem) {
  const auto slash = path.rfind('/');
  const auto folder = slash == std::string::npos ? std::string{"."} : slash == 0 ? "/" : path.substr(0, slash);
  descriptor place{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  return (place.get() >= 0 && ::fsync(place.get()) == 0) || failed(folder, problem);
}

} // namespace varve
