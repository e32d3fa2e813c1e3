#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/runtime/catalog/temporary_folder.hpp"

extern char** environ;

namespace varve {

/// A port on loopback that nobody has just now.
inline uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&a), size) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&a), &size) != 0)
    throw std::runtime_error("no free port");
  ::close(fd);
  return ntohs(a.sin_port);
}

/// Runs a command of the shell to its end; what it prints. Throws when it fails.
inline std::string shell(const std::string& command) {
  auto* out = ::popen((command + " 2>&1").c_str(), "r");
  std::string text;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, out)) > 0;)
    text.append(buffer, n);
  if (::pclose(out) != 0)
    throw std::runtime_error(command + ": " + text);
  return text;
}

/// A real etcd of one member, with a folder and ports of its own; ends with the test, however that ends.
class etcd_server {
public:
  /// `options` are added to its command line; `url` is http or https.
  explicit etcd_server(std::vector<std::string> options = {}, std::string scheme = "http")
    : options_(std::move(options)), scheme_(std::move(scheme)), port_(free_port()), peer_port_(free_port()) {
    start();
  }
  ~etcd_server() {
    if (pid_ > 0)
      kill();
  }

  std::string endpoint() const { return scheme_ + "://127.0.0.1:" + std::to_string(port_); }
  uint16_t port() const { return port_; }
  const std::string& folder() const { return folder_.path; }

  void start() {
    const auto peer = "http://127.0.0.1:" + std::to_string(peer_port_);
    std::vector<std::string> words{"setpriv",
                                   "--pdeathsig",
                                   "KILL",
                                   "etcd",
                                   "--data-dir",
                                   folder_.path + "/etcd",
                                   "--listen-client-urls",
                                   endpoint(),
                                   "--advertise-client-urls",
                                   endpoint(),
                                   "--listen-peer-urls",
                                   peer,
                                   "--initial-advertise-peer-urls",
                                   peer,
                                   "--initial-cluster",
                                   "default=" + peer,
                                   "--log-level",
                                   "error"};
    words.insert(words.end(), options_.begin(), options_.end());
    std::vector<char*> arguments;
    for (auto& w : words)
      arguments.push_back(w.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    const auto log = folder_.path + "/log";
    posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    const int code = ::posix_spawnp(&pid_, "setpriv", &files, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    if (code != 0)
      throw std::runtime_error("setpriv (util-linux) cannot be started");
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (!serves()) {
      int status = 0;
      const bool ended = ::waitpid(pid_, &status, WNOHANG) == pid_;
      if (ended || std::chrono::steady_clock::now() > end) {
        if (ended)
          pid_ = 0;
        std::ifstream in{log};
        throw std::runtime_error("etcd (Debian package etcd-server) does not start: " +
                                 std::string{std::istreambuf_iterator<char>{in}, {}});
      }
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
  }
  /// kill -9.
  void kill() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  /// Returns when all of its threads stand.
  void pause() {
    ::kill(pid_, SIGSTOP);
    int status = 0;
    ::waitpid(pid_, &status, WUNTRACED);
  }
  void go_on() { ::kill(pid_, SIGCONT); }

  /// Of etcd's own client.
  std::string ctl(const std::string& arguments) const {
    return shell("ETCDCTL_API=3 etcdctl --endpoints=" + endpoint() + ' ' + arguments);
  }

private:
  bool serves() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port_);
    const bool listens = ::connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
    ::close(fd);
    if (!listens || scheme_ != "http")
      return listens;
    try {
      ctl("get x"); // it listens before it has a leader
      return true;
    } catch (const std::runtime_error&) {
      return false;
    }
  }

  temporary_folder folder_;
  std::vector<std::string> options_;
  std::string scheme_;
  uint16_t port_, peer_port_;
  pid_t pid_ = 0;
};

} // namespace varve
