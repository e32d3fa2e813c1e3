// varve_testnet NODES [--seed N]: network namespaces for so many nodes on this machine, and the switch between them.
//
// Node i has the address 10.77.0.i in a namespace of its own, on a TAP device whose other end is this process: frames
// pass through the rules of tests/chaos/wire.hpp, so that delays, losses and cuts of one direction need nothing of the
// kernel but TAP (sch_netem and act_gact are often left out), and come from a seed. Nothing has a name: the namespaces
// are held open by this process alone, and are gone with it however it ends.
//
// Prints {"pid": P, "namespaces": ["/proc/P/fd/N", ..]} once they are up; then takes the commands of wire::command on
// stdin, one a line, each answered by "ok" or what is wrong with it. Ends at the end of stdin.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <map>
#include <queue>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/chaos/wire.hpp"

using varve::chaos::wire;

namespace {

constexpr int mtu = 9000;
/// Of frames on their way: what exceeds it is lost, as in a switch. Bounds memory while a path is slow.
constexpr size_t queue_bytes_max = 64 << 20;

int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

int checked(int result, const char* what) {
  if (result < 0)
    throw std::system_error(errno, std::generic_category(), what);
  return result;
}

struct port {
  int space = -1;
  int tap = -1;
};

void bring_up(int socket, const char* name) {
  ifreq x{};
  std::strncpy(x.ifr_name, name, IFNAMSIZ - 1);
  checked(ioctl(socket, SIOCGIFFLAGS, &x), "SIOCGIFFLAGS");
  x.ifr_flags |= IFF_UP | IFF_RUNNING;
  checked(ioctl(socket, SIOCSIFFLAGS, &x), "SIOCSIFFLAGS");
}

void set_address(int socket, const char* name, unsigned node) {
  ifreq x{};
  std::strncpy(x.ifr_name, name, IFNAMSIZ - 1);
  x.ifr_mtu = mtu;
  checked(ioctl(socket, SIOCSIFMTU, &x), "SIOCSIFMTU");
  auto* address = reinterpret_cast<sockaddr_in*>(&x.ifr_addr);
  *address = {};
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(0x0a4d0000 | node);
  checked(ioctl(socket, SIOCSIFADDR, &x), "SIOCSIFADDR");
  address->sin_addr.s_addr = htonl(0xffffff00);
  checked(ioctl(socket, SIOCSIFNETMASK, &x), "SIOCSIFNETMASK");
}

/// In a thread of its own, which then lives in the new namespace and ends.
port make_port(unsigned node) {
  port made;
  std::exception_ptr trouble;
  std::thread([&] {
    try {
      checked(unshare(CLONE_NEWNET), "a network namespace (unshare)");
      made.space = checked(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), "/proc/thread-self/ns/net");
      made.tap = checked(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), "/dev/net/tun");
      ifreq x{};
      std::strncpy(x.ifr_name, "node", IFNAMSIZ - 1);
      x.ifr_flags = IFF_TAP | IFF_NO_PI;
      checked(ioctl(made.tap, TUNSETIFF, &x), "TUNSETIFF");
      const auto socket = checked(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
      set_address(socket, "node", node);
      bring_up(socket, "node");
      bring_up(socket, "lo");
      close(socket);
    } catch (...) {
      trouble = std::current_exception();
    }
  }).join();
  if (trouble)
    std::rethrow_exception(trouble);
  return made;
}

struct frame {
  int64_t at = 0;
  uint64_t number = 0;
  unsigned to = 0;
  std::vector<char> data;

  bool operator<(const frame& x) const { return at != x.at ? at > x.at : number > x.number; } // the earliest on top
};

class network_switch {
public:
  network_switch(wire& rules, std::vector<port> ports) : rules_(rules), ports_(std::move(ports)) {}

  /// Until stdin ends.
  void run() {
    std::vector<pollfd> waiting{{STDIN_FILENO, POLLIN, 0}};
    for (auto& p : ports_)
      waiting.push_back({p.tap, POLLIN, 0});
    for (;;) {
      timespec limit{}, *until = nullptr;
      if (!frames_.empty()) {
        const auto left = std::max<int64_t>(0, frames_.top().at - now_ns());
        limit = {left / 1'000'000'000, left % 1'000'000'000};
        until = &limit;
      }
      if (ppoll(waiting.data(), waiting.size(), until, nullptr) < 0 && errno != EINTR)
        checked(-1, "ppoll");
      if (waiting[0].revents && !take_commands())
        return;
      for (size_t i = 1; i < waiting.size(); ++i)
        if (waiting[i].revents)
          take_frames(static_cast<unsigned>(i));
      for (const auto now = now_ns(); !frames_.empty() && frames_.top().at <= now; frames_.pop()) {
        const auto& x = frames_.top();
        deliver(x.to, x.data);
        queued_bytes_ -= x.data.size();
      }
    }
  }

private:
  bool take_commands() {
    std::array<char, 4096> buffer;
    const auto got = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got <= 0)
      return false;
    input_.append(buffer.data(), static_cast<size_t>(got));
    for (size_t end; (end = input_.find('\n')) != std::string::npos; input_.erase(0, end + 1)) {
      const auto wrong = rules_.command(input_.substr(0, end));
      std::cout << (wrong.empty() ? "ok" : wrong) << std::endl;
    }
    return true;
  }

  void take_frames(unsigned from) {
    // Bounded, so that one node's flood leaves the others their turn.
    for (int i = 0; i < 64; ++i) {
      std::array<char, mtu + 64> buffer;
      const auto got = read(ports_[from - 1].tap, buffer.data(), buffer.size());
      if (got < 14)
        return;
      std::array<char, 6> source, target;
      std::memcpy(target.data(), buffer.data(), 6);
      std::memcpy(source.data(), buffer.data() + 6, 6);
      learned_[source] = from;
      const auto known = learned_.find(target);
      const auto now = now_ns();
      for (unsigned to = 1; to <= ports_.size(); ++to)
        if (to != from && (known == learned_.end() || known->second == to))
          send(from, to, now, {buffer.data(), buffer.data() + got});
    }
  }

  void send(unsigned from, unsigned to, int64_t now, std::vector<char> data) {
    const auto at = rules_.arrival(from, to, now);
    if (at < 0 || queued_bytes_ + data.size() > queue_bytes_max)
      return;
    if (at <= now) {
      deliver(to, data);
      return;
    }
    queued_bytes_ += data.size();
    frames_.push({at, ++number_, to, std::move(data)});
  }

  void deliver(unsigned to, const std::vector<char>& data) {
    // A full device drops it.
    [[maybe_unused]] auto put = write(ports_[to - 1].tap, data.data(), data.size());
  }

  wire& rules_;
  std::vector<port> ports_;
  std::map<std::array<char, 6>, unsigned> learned_;
  std::priority_queue<frame> frames_;
  size_t queued_bytes_ = 0;
  uint64_t number_ = 0;
  std::string input_;
};

} // namespace

int main(int argc, char** argv) {
  const auto nodes = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 0;
  const auto seed = argc == 4 && argv[2] == std::string("--seed") ? std::strtoull(argv[3], nullptr, 10) : 1;
  if (nodes < 1 || nodes > 32 || argc == 3 || argc > 4) {
    std::cerr << "usage: varve_testnet NODES (1 to 32) [--seed N]" << std::endl;
    return 2;
  }
  try {
    std::vector<port> ports;
    for (unsigned i = 1; i <= nodes; ++i)
      ports.push_back(make_port(i));
    nlohmann::json ready{{"pid", getpid()}, {"namespaces", nlohmann::json::array()}};
    for (auto& p : ports)
      ready["namespaces"].push_back("/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(p.space));
    wire rules(static_cast<unsigned>(nodes), seed);
    std::cout << ready.dump() << std::endl;
    network_switch(rules, std::move(ports)).run();
  } catch (const std::system_error& e) {
    std::cerr << "varve_testnet: " << e.what() << std::endl;
    return e.code().value() == EPERM || e.code().value() == EACCES || e.code().value() == ENOENT ? 77 : 1;
  }
  return 0;
}
