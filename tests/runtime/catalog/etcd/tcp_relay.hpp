#pragma once

#include <atomic>
#include <list>
#include <mutex>
#include <thread>

#include <poll.h>

#include "tests/runtime/catalog/etcd/etcd_server.hpp"

namespace varve {

/// Stands between a client and a server on loopback, and can be a bad network: bytes of one direction vanish, and
/// connections break.
class tcp_relay {
public:
  explicit tcp_relay(uint16_t to) : to_(to) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a = loopback(0);
    socklen_t size = sizeof a;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&a), size) != 0 || ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&a), &size) != 0)
      throw std::runtime_error("relay");
    port_ = ntohs(a.sin_port);
    thread_ = std::thread{[this] { run(); }};
  }
  ~tcp_relay() {
    stopping_ = true;
    thread_.join();
    for (auto& x : pairs_)
      ::close(x.client), ::close(x.server);
    ::close(listener_);
  }

  std::string endpoint() const { return "http://127.0.0.1:" + std::to_string(port_); }
  /// From now on what the server answers is lost.
  void lose_answers(bool on) { lose_answers_ = on; }
  void lose_requests(bool on) { lose_requests_ = on; }
  /// The first request that contains `text` is let through, and all answers from then on are lost.
  void lose_answers_after(const std::string& text) { expect(text, false); }
  /// The first request that contains `text` is kept, with all that follow, until `release`.
  void hold_requests_from(const std::string& text) { expect(text, true); }
  /// Waits until that request has come.
  void wait_for_it() {
    while (expecting_)
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  void release() { holding_ = false; }
  /// Breaks all connections, once; new ones are taken.
  void cut() {
    cut_ = true;
    while (cut_)
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }

private:
  void expect(const std::string& text, bool hold) {
    text_ = text;
    hold_ = hold;
    expecting_ = true;
  }

  struct pair {
    int client, server;
  };

  static sockaddr_in loopback(uint16_t port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port);
    return a;
  }

  void run() {
    while (!stopping_) {
      if (cut_) {
        for (auto& x : pairs_)
          ::close(x.client), ::close(x.server);
        pairs_.clear();
        cut_ = false;
      }
      std::vector<pollfd> all{{listener_, POLLIN, 0}};
      for (auto& x : pairs_) {
        all.push_back({x.client, POLLIN, 0});
        all.push_back({x.server, POLLIN, 0});
      }
      if (::poll(all.data(), all.size(), 5) <= 0)
        continue;
      size_t i = 1;
      for (auto at = pairs_.begin(); at != pairs_.end(); i += 2) {
        const bool open =
          (all[i].revents == 0 || holding_ || pass(at->client, at->server, lose_requests_, expecting_)) &&
          (all[i + 1].revents == 0 || pass(at->server, at->client, lose_answers_, false));
        if (open) {
          ++at;
        } else {
          ::close(at->client), ::close(at->server);
          at = pairs_.erase(at);
        }
      }
      if (all[0].revents != 0) {
        pair x{::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC), ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        const auto a = loopback(to_);
        if (::connect(x.server, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0)
          pairs_.push_back(x);
        else
          ::close(x.client), ::close(x.server);
      }
    }
  }

  bool pass(int from, int to, bool lose, bool look) {
    char buffer[65536];
    // Looked at first: it may have to stay where it is.
    auto n = ::recv(from, buffer, sizeof buffer, look ? MSG_PEEK : 0);
    if (n <= 0)
      return false;
    if (look) {
      const bool found = std::string{buffer, static_cast<size_t>(n)}.find(text_) != std::string::npos;
      if (found && hold_)
        holding_ = true;
      else if (found)
        lose_answers_ = true;
      if (found)
        expecting_ = false;
      if (holding_)
        return true;
      n = ::recv(from, buffer, static_cast<size_t>(n), 0);
    }
    return lose || ::send(to, buffer, static_cast<size_t>(n), MSG_NOSIGNAL) == n;
  }

  const uint16_t to_;
  uint16_t port_ = 0;
  int listener_ = -1;
  std::list<pair> pairs_;
  std::atomic<bool> stopping_{false}, cut_{false}, lose_answers_{false}, lose_requests_{false}, expecting_{false},
    holding_{false};
  std::string text_; // set while nothing is expected
  bool hold_ = false;
  std::thread thread_;
};

} // namespace varve
