#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/reactor/io.hpp"
#include "runtime/reactor/rings.hpp"
#include "runtime/reactor/simulated_ring.hpp"

namespace varve::test {

template <class T>
task<void> keep_result(task<T> x, std::optional<T>& into) {
  into = co_await std::move(x);
}

/// A ring of some kind, with files and sockets that suit it. `missing` where the machine does not permit that kind.
class harness {
public:
  explicit harness(const std::string& kind, uint32_t entries = 64) {
    if (kind == "simulated") {
      world_ = std::make_unique<simulated_world>(42);
      disk_ = std::make_unique<simulated_disk>(*world_);
      network_ = std::make_unique<simulated_network>(*world_);
      disk_->make_folder("/conformance");
      folder_ = "/conformance";
      ring_ = std::make_unique<simulated_ring>(*world_, disk_.get(), network_.get());
    } else {
      ring_options options;
      options.kind = kind == "threads" ? ring_kind::threads : ring_kind::io_uring;
      options.entries = entries;
      auto made = make_ring(options);
      ring_ = std::move(made.ring);
      missing = made.refusal;
      auto pattern = (std::filesystem::temp_directory_path() / "varve-ring-XXXXXX").string();
      if (!::mkdtemp(pattern.data()))
        throw std::runtime_error("mkdtemp");
      folder_ = pattern;
    }
    if (ring_)
      on_ = std::make_unique<reactor>(*ring_);
  }

  ~harness() {
    on_.reset();
    ring_.reset();
    if (!world_)
      std::filesystem::remove_all(folder_);
  }

  varve::ring& ring() { return *ring_; }
  reactor& on() { return *on_; }
  bool simulated() const { return world_ != nullptr; }
  const std::string& folder() const { return folder_; }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void forget_ring() {
    on_.reset();
    ring_.reset();
  }

  std::pair<int, int> sockets() {
    if (network_)
      return network_->pair();
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
      throw std::runtime_error("socketpair");
    return {fds[0], fds[1]};
  }

  int listen(const std::string& name, int flags = 0) {
    if (network_)
      return network_->listen(name);
    const auto address = address_of(name);
    const auto fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 || ::listen(fd, 16) != 0)
      throw std::runtime_error("listen");
    return fd;
  }

  int connect(const std::string& name) {
    if (network_)
      return network_->connect(name);
    const auto address = address_of(name);
    const auto fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
      throw std::runtime_error("connect");
    return fd;
  }

  void close(int fd) {
    if (network_ && fd >= simulated_network::fd_min)
      network_->close(fd);
    else
      ::close(fd);
  }

  /// Steps until `done`; false after 20 s of the ring's time.
  template <class Done>
  bool run_until(Done done) {
    const auto end = ring_->now() + std::chrono::seconds{20};
    while (!done()) {
      if (ring_->now() >= end)
        return false;
      on_->step(end);
    }
    return true;
  }

  template <class T>
  T run(task<T> x) {
    std::optional<T> result;
    start(keep_result(std::move(x), result));
    if (!run_until([&] { return result.has_value(); }))
      throw std::runtime_error("the task does not end");
    return *result;
  }

  std::string missing;

private:
  sockaddr_un address_of(const std::string& name) const {
    sockaddr_un result{};
    result.sun_family = AF_UNIX;
    path(name).copy(result.sun_path, sizeof(result.sun_path) - 1);
    return result;
  }

  std::unique_ptr<simulated_world> world_;
  std::unique_ptr<simulated_disk> disk_;
  std::unique_ptr<simulated_network> network_;
  std::string folder_;
  std::unique_ptr<varve::ring> ring_;
  std::unique_ptr<reactor> on_;
};

} // namespace varve::test
