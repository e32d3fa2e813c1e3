#include "runtime/cli/daemon.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace varve::cli {

using namespace std::chrono_literals;

std::string find_program(const std::string& name, const std::string& further) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<std::string> folders;
  if (const auto self = fs::read_symlink("/proc/self/exe", ignored); !self.empty()) {
    folders.push_back(self.parent_path());
    if (!further.empty())
      folders.push_back(self.parent_path() / further);
  }
  if (const char* path = std::getenv("PATH")) {
    std::istringstream in{path};
    for (std::string folder; std::getline(in, folder, ':');)
      folders.push_back(folder);
  }
  for (const auto& folder : folders)
    if (const auto file = fs::path{folder} / name; !folder.empty() && ::access(file.c_str(), X_OK) == 0)
      return file.lexically_normal();
  return {};
}

pid_t start_daemon(const std::vector<std::string>& words, const std::string& log, std::string& problem) {
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  // Closed by a successful exec; else it brings the errno.
  int said[2];
  if (out < 0 || ::pipe2(said, O_CLOEXEC) != 0) {
    problem = log + ": " + std::strerror(errno);
    if (out >= 0)
      ::close(out);
    return 0;
  }
  std::vector<char*> argv;
  for (const auto& x : words)
    argv.push_back(const_cast<char*>(x.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setsid();
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const int in = ::open("/dev/null", O_RDONLY);
    // The folder that somebody stands in could not be unmounted.
    const bool ready = in >= 0 && ::dup2(in, 0) == 0 && ::dup2(out, 1) == 1 && ::dup2(out, 2) == 2 && ::chdir("/") == 0;
    if (ready)
      ::execv(argv[0], argv.data());
    const int error = errno;
    [[maybe_unused]] const auto n = ::write(said[1], &error, sizeof error);
    ::_exit(127);
  }
  const int fork_error = errno;
  ::close(out);
  ::close(said[1]);
  int error = 0;
  if (child > 0 && ::read(said[0], &error, sizeof error) != sizeof error)
    error = 0;
  ::close(said[0]);
  if (child > 0 && error == 0)
    return child;
  problem = words[0] + ": " + std::strerror(child > 0 ? error : fork_error);
  return 0;
}

pid_t holder_of(const std::string& folder) {
  const int fd = ::open((folder + "/varved.lock").c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return 0;
  pid_t holder = 0;
  // Shared: two who look do not take each other for a node.
  if (::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    char text[32] = {};
    holder = ::pread(fd, text, sizeof text - 1, 0) > 0 ? std::atoi(text) : 0;
    if (holder <= 0)
      holder = -1;
  }
  ::close(fd);
  return holder;
}

bool has_ended(pid_t child, int& status) {
  return ::waitpid(child, &status, WNOHANG) == child;
}

std::string how_it_ended(int status) {
  return WIFEXITED(status) ? fmt::format("ended with exit code {}", WEXITSTATUS(status))
                           : fmt::format("was ended by signal {}", WTERMSIG(status));
}

bool wait_until(std::chrono::nanoseconds limit, const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!done()) {
    if (std::chrono::steady_clock::now() >= end)
      return false;
    std::this_thread::sleep_for(50ms);
  }
  return true;
}

std::string last_lines(const std::string& file, size_t lines_max) {
  std::ifstream in{file};
  std::deque<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
    if (lines.size() > lines_max)
      lines.pop_front();
  }
  std::string text;
  for (const auto& x : lines)
    text += "  " + x + '\n';
  return text;
}

} // namespace varve::cli
