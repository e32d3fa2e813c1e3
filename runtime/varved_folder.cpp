#include "runtime/varved_folder.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/monitoring/logging.hpp"

namespace varve {

locked_folder::~locked_folder() {
  if (fd_ >= 0)
    ::close(fd_);
}

locked_folder::outcome locked_folder::take(const std::string& path, const char* option, std::string& problem) {
  std::error_code error;
  const bool is_new = std::filesystem::create_directories(path, error);
  if (error) {
    problem = path + ": " + error.message();
    return outcome::failed;
  }
  if (is_new)
    ::chmod(path.c_str(), 0700);
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0 || (s.st_uid != ::geteuid() && s.st_uid != 0)) {
    problem = path + ": it belongs to another user";
    return outcome::failed;
  }
  const auto file = path + "/varved.lock";
  fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd_ < 0) {
    problem = file + ": " + std::strerror(errno);
    return outcome::failed;
  }
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    char pid[32] = {};
    const auto n = ::pread(fd_, pid, sizeof pid - 1, 0);
    problem = fmt::format("{}: in use by another varved{}; give this one another {}", path,
                          n > 0 ? " (process " + std::string{pid, std::strcspn(pid, "\n")} + ")" : "", option);
    return outcome::in_use;
  }
  const auto pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, pid.data(), pid.size(), 0) < 0)
    spdlog::warn("event=lock-file-not-written file={}", log_value(file));
  return outcome::taken;
}

} // namespace varve
