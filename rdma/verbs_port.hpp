#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include <sys/socket.h>

#include "rdma/verbs_link.hpp"

struct rdma_event_channel;
struct rdma_cm_event;

namespace varve {

/// Somebody wants to connect. Nothing is begun unless `accept` is called before the listener's function returns.
class verbs_request {
public:
  /// What the other end gave to `connect`, perhaps with zeros behind it, from a stranger perhaps.
  std::span<const std::byte> greeting() const noexcept { return greeting_; }
  /// Its address, "10.0.0.1:4711".
  const std::string& peer() const noexcept { return peer_; }
  /// Null: `problem`, and the other end is refused.
  std::unique_ptr<verbs_link> accept(verbs_link::user& told, const verbs_options& options, std::string& problem);

private:
  friend class verbs_port;
  verbs_request(verbs_port& of, rdma_cm_id* id, std::span<const std::byte> greeting, std::string peer)
    : port_(of), id_(id), greeting_(greeting), peer_(std::move(peer)) {}

  verbs_port& port_;
  rdma_cm_id* id_;
  std::span<const std::byte> greeting_;
  std::string peer_;
  bool taken_ = false;
};

/// Makes and drives the RDMA connections (librdmacm, libibverbs) of one thread, which never blocks in it.
class verbs_port {
public:
  /// Of the greeting of one that connects.
  static constexpr size_t greeting_bytes_max = 48;

  /// Whether there is a device in this machine that connections can be made with, whoever is at the other end.
  static bool available();
  /// Null: `problem`.
  static std::unique_ptr<verbs_port> open(std::string& problem);
  verbs_port(const verbs_port&) = delete;
  /// Its links are gone by then.
  ~verbs_port();

  /// Readable when `step` has something to do.
  int descriptor() const noexcept { return poll_; }
  /// Does what there is to do. Not from within itself.
  void step();

  /// Takes connections at `address`, one of a device's or of all; port 0: any. Once. The port, 0 with `problem`. What
  /// `asked` does not accept is refused.
  uint16_t listen(const sockaddr* address, std::function<void(verbs_request&)> asked, std::string& problem);

  /// Begins to connect; `greeting`: at most greeting_bytes_max bytes, which anybody on the way can read. How it goes is
  /// told to the link's user. Null: `problem`.
  std::unique_ptr<verbs_link> connect(const sockaddr* to, std::span<const std::byte> greeting, verbs_link::user& told,
                                      const verbs_options& options, std::string& problem);

private:
  friend class verbs_link;
  friend class verbs_request;

  struct entry {
    verbs_link* link = nullptr; // null: it is gone
    bool again = false;         // looked at in the next step, whatever epoll says
    std::vector<std::byte> greeting;
  };

  verbs_port() = default;
  entry* find(const verbs_link& x) noexcept;
  /// `of`: null is the port itself.
  bool watch(int fd, entry* of, std::string& problem);
  void unwatch(int fd) noexcept;
  void forget(const verbs_link& x);
  /// There is something left to do, with that link: `descriptor` stays readable.
  void again() noexcept;
  void again(const verbs_link& x) noexcept;
  void handle_events();
  void requested(rdma_cm_id* id, std::span<const std::byte> greeting);
  void happened(verbs_link& x, int event, int status);
  void hung_up(verbs_link& x);

  rdma_event_channel* channel_ = nullptr;
  int poll_ = -1;
  int again_ = -1; // an eventfd
  rdma_cm_id* listener_ = nullptr;
  std::function<void(verbs_request&)> asked_;
  std::list<entry> links_;
  bool stepping_ = false;
};

} // namespace varve
