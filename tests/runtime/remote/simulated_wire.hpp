#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "runtime/reactor/async.hpp"
#include "runtime/reactor/io.hpp"
#include "runtime/reactor/simulated_ring.hpp"

namespace varve::test {

/// What is between a client and a server: it carries streams from one address to another, and delays, holds back, cuts
/// and garbles what it carries. Never destroyed in the middle of a run.
class simulated_wire {
public:
  struct stream {
    int front = -1; // the client's
    int back = -1;  // the server's
    bool over = false;
    uint64_t up = 0, down = 0; // bytes
  };

  simulated_wire(simulated_world& world, simulated_network& network, std::string from, std::string to)
    : world_(world), network_(network), ring_(world, nullptr, &network), on_(ring_), to_(std::move(to)) {
    world_.attach(on_);
    listening_ = network_.listen(from);
    start(accept());
  }

  /// Both ends see the end of every stream.
  void cut() {
    for (auto& x : streams_)
      if (!x->over) {
        x->over = true;
        network_.close(x->front);
        network_.close(x->back);
      }
  }
  /// The client sees the end; what it has said is still on its way to the server.
  void cut_front() {
    for (auto& x : streams_)
      if (!x->over)
        network_.close(x->front);
  }
  /// Nothing more reaches the server until `release`.
  void hold() { held_ = true; }
  void release() {
    held_ = false;
    released_.set();
    released_.reset();
  }
  size_t opened() const { return streams_.size(); }
  stream& last() { return *streams_.back(); }

  /// Of each piece that is carried: how often it waits, and how long at most.
  double delay_chance = 0;
  std::chrono::nanoseconds delay_max{0};
  /// Cuts a stream after a piece, with what is on its way the other way.
  double cut_chance = 0;
  /// Says a piece twice; flips a bit of one. Both towards the server and back.
  double repeat_chance = 0;
  double garble_chance = 0;
  /// Takes nothing off the server (a client that does not read).
  bool deaf = false;
  /// Pieces so far that were repeated or garbled.
  uint64_t mistreated = 0;

private:
  task<void> accept() {
    for (;;) {
      ring_operation x;
      x.op = ring_op::accept;
      x.fd = listening_;
      const auto fd = co_await perform{ring_, x};
      if (fd < 0)
        continue;
      const auto back = network_.connect(to_);
      if (back < 0) {
        network_.close(fd);
        continue;
      }
      auto made = std::make_shared<stream>();
      made->front = fd;
      made->back = back;
      streams_.push_back(made);
      start(carry(made, true));
      start(carry(made, false));
    }
  }

  task<void> carry(std::shared_ptr<stream> s, bool up) {
    const auto from = up ? s->front : s->back, to = up ? s->back : s->front;
    auto& random = world_.random();
    std::vector<std::byte> bytes(16384);
    for (;;) {
      iovec room{bytes.data(), random.between(1, bytes.size())};
      ring_operation x;
      x.op = ring_op::receive;
      x.fd = from;
      x.vectors = &room;
      x.vector_count = 1;
      const auto got = co_await perform{ring_, x};
      if (got <= 0)
        break;
      (up ? s->up : s->down) += static_cast<uint64_t>(got);
      if (random.chance(delay_chance))
        co_await sleep_until(
          ring_, world_.now() + std::chrono::nanoseconds{random.below(static_cast<uint64_t>(delay_max.count()) + 1)});
      while ((up && held_) || (!up && deaf))
        co_await released_.wait();
      std::vector<std::byte> piece(bytes.begin(), bytes.begin() + got);
      if (random.chance(garble_chance)) {
        piece[random.below(piece.size())] ^= std::byte{1} << random.below(8);
        ++mistreated;
      }
      if (random.chance(repeat_chance)) {
        piece.insert(piece.end(), piece.begin(), piece.end());
        ++mistreated;
      }
      iovec rest{piece.data(), piece.size()};
      while (rest.iov_len > 0) {
        ring_operation y;
        y.op = ring_op::send;
        y.fd = to;
        y.vectors = &rest;
        y.vector_count = 1;
        const auto sent = co_await perform{ring_, y};
        if (sent < 0)
          break;
        rest.iov_base = static_cast<std::byte*>(rest.iov_base) + sent;
        rest.iov_len -= static_cast<size_t>(sent);
      }
      if (rest.iov_len > 0 && up)
        break;
      if (random.chance(cut_chance)) {
        network_.close(from);
        break;
      }
    }
    s->over = true;
    network_.close(to);
    network_.close(from);
  }

  simulated_world& world_;
  simulated_network& network_;
  simulated_ring ring_;
  reactor on_;
  std::string to_;
  int listening_ = -1;
  bool held_ = false;
  async_event released_;
  std::list<std::shared_ptr<stream>> streams_;
};

} // namespace varve::test
