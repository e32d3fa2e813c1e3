#include "runtime/console/history.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace varve::console {

namespace {

// Ours alone, also if it was there with other rights before. -1 with errno.
int open_private(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd >= 0 && ::fchmod(fd, 0600) != 0) {
    ::close(fd);
    return -1;
  }
  return fd;
}

bool write_all(int fd, const std::string& text) {
  // In one call: lines of two consoles do not mix.
  return ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

} // namespace

std::string default_history_path() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state == '/')
    return std::string{state} + "/varve/history";
  if (const char* home = std::getenv("HOME"); home && *home == '/')
    return std::string{home} + "/.local/state/varve/history";
  return {};
}

history::history(std::string path) : path_(std::move(path)) {
  if (path_.empty()) {
    problem_ = "no $XDG_STATE_HOME and no $HOME";
    return;
  }
  const auto folder = std::filesystem::path(path_).parent_path();
  std::error_code error;
  if (std::filesystem::create_directories(folder, error))
    ::chmod(folder.c_str(), 0700);
  if (error)
    problem_ = folder.string() + ": " + error.message();
}

std::vector<std::string> history::load() {
  std::vector<std::string> lines;
  if (!problem_.empty())
    return lines;
  std::ifstream file{path_};
  for (std::string line; std::getline(file, line);)
    if (!line.empty())
      lines.push_back(std::move(line));
  file.close();
  const bool grown = lines.size() > 2 * lines_max;
  if (lines.size() > lines_max)
    lines.erase(lines.begin(), lines.end() - lines_max);
  if (grown) {
    std::string text;
    for (const auto& x : lines)
      text += x + '\n';
    // Whole or not at all.
    const auto next = path_ + "." + std::to_string(::getpid());
    const int fd = open_private(next, O_WRONLY | O_TRUNC);
    const bool written = fd >= 0 && write_all(fd, text);
    if (fd >= 0)
      ::close(fd);
    if (!written || std::rename(next.c_str(), path_.c_str()) != 0)
      ::unlink(next.c_str());
  }
  last_ = lines.empty() ? "" : lines.back();
  return lines;
}

void history::add(const std::string& line) {
  if (!problem_.empty() || line.empty() || line == last_ || line.find('\n') != std::string::npos)
    return;
  const int fd = open_private(path_, O_WRONLY | O_APPEND);
  if (fd < 0 || !write_all(fd, line + '\n'))
    problem_ = path_ + ": " + std::strerror(errno);
  if (fd >= 0)
    ::close(fd);
  last_ = line;
}

} // namespace varve::console
