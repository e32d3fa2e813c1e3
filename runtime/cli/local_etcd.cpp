#include "runtime/cli/local_etcd.hpp"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/cli/daemon.hpp"
#include "runtime/storage/durable_file.hpp"

namespace varve::cli {

using namespace std::chrono_literals;

namespace {

constexpr auto start_time = 30s, stop_time = 20s;

bool listens(const endpoint& at) {
  addrinfo hints{}, *all = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(at.host.c_str(), std::to_string(at.port).c_str(), &hints, &all) != 0)
    return false;
  bool open = false;
  for (auto* x = all; x && !open; x = x->ai_next) {
    const int fd = ::socket(x->ai_family, x->ai_socktype | SOCK_CLOEXEC, x->ai_protocol);
    open = fd >= 0 && ::connect(fd, x->ai_addr, x->ai_addrlen) == 0;
    if (fd >= 0)
      ::close(fd);
  }
  ::freeaddrinfo(all);
  return open;
}

} // namespace

local_etcd::local_etcd(const cluster_file& of)
  : wanted_(of.catalog.kind == catalog_kind::etcd && of.catalog.local),
    url_(wanted_ ? of.catalog.endpoints.front() : std::string{}), folder_(of.cluster_dir + "/etcd") {}

int local_etcd::running() const {
  std::ifstream in{folder_ + ".pid"};
  int pid = 0;
  if (!(in >> pid) || pid <= 1)
    return 0;
  // Numbers of processes are given again: it is ours if it was told our folder.
  std::ifstream words{fmt::format("/proc/{}/cmdline", pid)};
  const std::string line{std::istreambuf_iterator<char>{words}, {}};
  return line.find(folder_ + '\0') != std::string::npos ? pid : 0;
}

std::string local_etcd::start(bool& started) {
  started = false;
  const auto at = parse_endpoint(url_.substr(std::string_view{"http://"}.size()));
  if (!at)
    return url_ + " is no address with a port";
  if (running() != 0)
    return wait_until(start_time, [&] { return listens(*at); }) ? std::string{}
                                                                : "etcd runs, and does not listen at " + url_;
  if (listens(*at))
    return "something else than this cluster's etcd listens at " + url_ +
           ": stop it, or give catalog.endpoints another port";
  // In a build's own tools, where ./run unpacks it.
  const auto program = find_program("etcd", "../../tools/usr/bin");
  if (program.empty())
    return "no etcd here: install or unpack the Debian package etcd-server, or use catalog.kind = \"sqlite\"";
  std::string problem;
  // A member that is alone talks to no peers: any port that is free will do.
  const auto child = start_daemon(
    {program, "--name", "varve", "--data-dir", folder_, "--listen-client-urls", url_, "--advertise-client-urls", url_,
     "--listen-peer-urls", "http://127.0.0.1:0", "--initial-advertise-peer-urls", "http://127.0.0.1:0",
     "--initial-cluster", "varve=http://127.0.0.1:0", "--auto-compaction-retention", "1h", "--log-level", "warn"},
    folder_ + ".log", problem);
  if (child == 0)
    return problem;
  started = true;
  if (!write_file_durably(folder_ + ".pid", std::to_string(child) + '\n', problem)) {
    ::kill(child, SIGTERM);
    return problem;
  }
  int status = 0;
  bool ended = false;
  const auto up = wait_until(start_time, [&] {
    ended = has_ended(child, status);
    return ended || listens(*at);
  });
  if (ended)
    return fmt::format("etcd {}; {}:\n{}", how_it_ended(status), folder_ + ".log", last_lines(folder_ + ".log", 5));
  return up ? std::string{} : "etcd does not listen at " + url_ + "; see " + folder_ + ".log";
}

std::string local_etcd::stop(bool& stopped) {
  const int pid = running();
  stopped = pid != 0;
  if (!stopped)
    return {};
  ::kill(pid, SIGTERM);
  if (!wait_until(stop_time, [&] { return running() == 0; }))
    return fmt::format("etcd (process {}) does not stop", pid);
  ::unlink((folder_ + ".pid").c_str());
  return {};
}

} // namespace varve::cli
