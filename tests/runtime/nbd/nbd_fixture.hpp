#pragma once

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/nbd/nbd_protocol.hpp"
#include "runtime/nbd/nbd_server.hpp"
#include "runtime/reactor/rings.hpp"
#include "tests/runtime/nbd/memory_backend.hpp"

namespace varve::test {

using bytes = std::vector<std::byte>;

inline bytes pattern(size_t size, uint64_t seed) {
  std::mt19937_64 random{seed};
  bytes result(size);
  for (auto& x : result)
    x = static_cast<std::byte>(random());
  return result;
}

inline bytes option_bytes(uint32_t what, const bytes& data, std::optional<uint32_t> claimed = {}) {
  bytes result;
  nbd::append(result, nbd::option_magic);
  nbd::append(result, what);
  nbd::append(result, claimed.value_or(static_cast<uint32_t>(data.size())));
  result.insert(result.end(), data.begin(), data.end());
  return result;
}
inline bytes option_bytes(nbd::option what, const bytes& data = {}) {
  return option_bytes(static_cast<uint32_t>(what), data);
}

/// The data of GO and INFO.
inline bytes info_request(std::string_view name, std::initializer_list<nbd::info> wanted = {}) {
  bytes result;
  nbd::append(result, static_cast<uint32_t>(name.size()));
  nbd::append(result, name);
  nbd::append(result, static_cast<uint16_t>(wanted.size()));
  for (auto x : wanted)
    nbd::append(result, static_cast<uint16_t>(x));
  return result;
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
inline bytes meta_request(std::string_view name, std::initializer_list<std::string_view> queries) {
  bytes result;
  nbd::append(result, static_cast<uint32_t>(name.size()));
  nbd::append(result, name);
  nbd::append(result, static_cast<uint32_t>(queries.size()));
  for (auto x : queries) {
    nbd::append(result, static_cast<uint32_t>(x.size()));
    nbd::append(result, x);
  }
  return result;
}

/// A server over a real ring and a real socket, on the test's own thread: whoever waits for bytes steps the reactor.
struct nbd_fixture {
  explicit nbd_fixture(nbd_options options = {}, memory_faults faults = {}, uint64_t size = 64u << 20)
    : made(make_ring({})), on(*made.ring), backend(on, size, faults), sealed(on, 1u << 20, {}, true),
      server(std::make_unique<nbd_server>(on, exports, options)) {
    exports.known[""] = exports.known["vm1"] = &backend;
    exports.known["sealed"] = &sealed;
    char folder[] = "/tmp/varve-nbd-XXXXXX";
    directory = ::mkdtemp(folder);
    path = directory + "/socket";
    if (server->listen(path) != errc::none)
      throw std::runtime_error{"cannot listen"};
  }
  ~nbd_fixture() {
    if (server)
      close(true);
    ::unlink(path.c_str());
    ::rmdir(directory.c_str());
  }

  template <class F>
  bool step_until(F&& done, std::chrono::milliseconds limit = std::chrono::seconds{10}) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end)
        return false;
      on.step(on.now() + std::chrono::milliseconds{1});
    }
    return true;
  }

  /// Closes and destroys the server.
  bool close(bool force) {
    bool over = false;
    varve::start(wait_for_close(*server, force, over));
    auto ended = step_until([&] { return over; });
    if (ended)
      server.reset();
    return ended;
  }

  static task<void> wait_for_close(nbd_server& server, bool force, bool& over) {
    co_await server.close(force);
    over = true;
  }

  made_ring made;
  reactor on;
  memory_backend backend;
  memory_backend sealed;
  named_exports exports;
  std::string directory;
  std::string path;
  std::unique_ptr<nbd_server> server;
};

struct nbd_answer {
  nbd::error status = nbd::error::none;
  uint64_t cookie = 0;
  bool structured = false;
  nbd::reply_type type = nbd::reply_type::none;
  uint16_t flags = 0;
  bytes data;
};

/// A client that does exactly what it is told, right or wrong.
class nbd_client {
public:
  explicit nbd_client(nbd_fixture& on) : on_(on) {
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    on.path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
      throw std::runtime_error{"cannot connect"};
  }
  ~nbd_client() { vanish(); }
  void vanish() {
    if (fd_ >= 0)
      ::close(std::exchange(fd_, -1));
  }
  void finish_sending() { ::shutdown(fd_, SHUT_WR); }
  int fd() const { return fd_; }

  /// False when the server hung up meanwhile.
  bool send(const bytes& x) { return send(x.data(), x.size()); }
  bool send(const std::byte* data, size_t size) {
    size_t at = 0;
    bool alive = true;
    on_.step_until([&] {
      auto n = ::send(fd_, data + at, size - at, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0)
        at += static_cast<size_t>(n);
      else if (n < 0 && errno != EAGAIN)
        alive = false;
      else
        drain(); // or both sides wait for each other
      return at == size || !alive;
    });
    return at == size;
  }

  /// Short when the server hung up or said nothing for long.
  bytes receive(size_t size, std::chrono::milliseconds limit = std::chrono::seconds{10}) {
    bytes result(size);
    size_t at = std::min(size, drained_.size());
    std::copy_n(drained_.begin(), at, result.begin());
    drained_.erase(drained_.begin(), drained_.begin() + static_cast<std::ptrdiff_t>(at));
    hung_up = false;
    on_.step_until(
      [&] {
        while (at < size) {
          auto n = ::recv(fd_, result.data() + at, size - at, MSG_DONTWAIT);
          if (n > 0)
            at += static_cast<size_t>(n);
          else if (n == 0 || errno != EAGAIN)
            hung_up = true;
          if (n <= 0)
            break;
        }
        return at == size || hung_up;
      },
      limit);
    result.resize(at);
    return result;
  }

  /// Whether the server closes the connection, saying nothing more.
  bool sees_hang_up() { return receive(1).empty() && hung_up; }

  bool greet(uint32_t flags = nbd::flag_fixed_newstyle | nbd::flag_no_zeroes) {
    if (receive(18).size() != 18)
      return false;
    bytes x;
    nbd::append(x, flags);
    return send(x);
  }

  /// The type of an option's last reply; the data of all replies before are in `infos`.
  std::optional<nbd::option_reply> ask(nbd::option what, const bytes& data = {}) {
    infos.clear();
    if (!send(option_bytes(what, data)))
      return std::nullopt;
    for (;;) {
      auto header = receive(20);
      if (header.size() < 20 || nbd::load<uint64_t>(header.data()) != nbd::option_reply_magic ||
          nbd::load<uint32_t>(header.data() + 8) != static_cast<uint32_t>(what))
        return std::nullopt;
      auto type = static_cast<nbd::option_reply>(nbd::load<uint32_t>(header.data() + 12));
      auto rest = receive(nbd::load<uint32_t>(header.data() + 16));
      if (type == nbd::option_reply::ack || static_cast<uint32_t>(type) >> 31)
        return type;
      infos.push_back(rest);
    }
  }

  /// Into transmission, with all that a modern client asks for, or with nothing.
  bool go(std::string_view name = "vm1", bool modern = true) {
    if (!greet())
      return false;
    if (modern &&
        (ask(nbd::option::structured_reply) != nbd::option_reply::ack ||
         ask(nbd::option::set_meta_context, meta_request(name, {nbd::allocation_context})) != nbd::option_reply::ack))
      return false;
    return ask(nbd::option::go, info_request(name)) == nbd::option_reply::ack;
  }

  uint64_t post(nbd::command type, uint64_t offset, uint32_t length, uint16_t flags = 0, const bytes& payload = {}) {
    nbd::request_header x{nbd::request_magic, flags, type, ++cookie_, offset, length};
    bytes message(nbd::request_size);
    nbd::store_request(message.data(), x);
    message.insert(message.end(), payload.begin(), payload.end());
    if (type == nbd::command::read)
      reads_[cookie_] = length;
    send(message);
    return cookie_;
  }

  /// The next reply, whoever it is to; none when the server hung up.
  std::optional<nbd_answer> answer() {
    nbd_answer x;
    auto magic = receive(4);
    if (magic.size() < 4)
      return std::nullopt;
    if (nbd::load<uint32_t>(magic.data()) == nbd::simple_reply_magic) {
      auto rest = receive(12);
      if (rest.size() < 12)
        return std::nullopt;
      x.status = static_cast<nbd::error>(nbd::load<uint32_t>(rest.data()));
      x.cookie = nbd::load<uint64_t>(rest.data() + 4);
      if (auto found = reads_.find(x.cookie); found != reads_.end() && x.status == nbd::error::none)
        x.data = receive(found->second);
      return x;
    }
    if (nbd::load<uint32_t>(magic.data()) != nbd::structured_reply_magic)
      return std::nullopt;
    auto rest = receive(16);
    if (rest.size() < 16)
      return std::nullopt;
    x.structured = true;
    x.flags = nbd::load<uint16_t>(rest.data());
    x.type = static_cast<nbd::reply_type>(nbd::load<uint16_t>(rest.data() + 2));
    x.cookie = nbd::load<uint64_t>(rest.data() + 4);
    x.data = receive(nbd::load<uint32_t>(rest.data() + 12));
    if (static_cast<uint16_t>(x.type) >> 15)
      x.status = static_cast<nbd::error>(nbd::load<uint32_t>(x.data.data()));
    return x;
  }

  /// One request and its reply.
  nbd_answer request(nbd::command type, uint64_t offset, uint32_t length, uint16_t flags = 0,
                     const bytes& payload = {}) {
    auto cookie = post(type, offset, length, flags, payload);
    auto x = answer();
    if (!x || x->cookie != cookie)
      throw std::runtime_error{"no answer"};
    return *x;
  }
  nbd::error write(uint64_t offset, const bytes& payload, uint16_t flags = 0) {
    return request(nbd::command::write, offset, static_cast<uint32_t>(payload.size()), flags, payload).status;
  }
  /// Empty when it failed.
  bytes read(uint64_t offset, uint32_t length, uint16_t flags = 0) {
    auto x = request(nbd::command::read, offset, length, flags);
    if (x.status != nbd::error::none)
      return {};
    if (x.structured)
      x.data.erase(x.data.begin(), x.data.begin() + 8);
    return x.data;
  }

  bool hung_up = false;
  std::vector<bytes> infos;

private:
  void drain() {
    std::byte x[16384];
    for (ssize_t n; (n = ::recv(fd_, x, sizeof(x), MSG_DONTWAIT)) > 0;)
      drained_.insert(drained_.end(), x, x + n);
  }

  nbd_fixture& on_;
  int fd_ = -1;
  std::vector<std::byte> drained_; // received while sending
  uint64_t cookie_ = 0;
  std::map<uint64_t, uint32_t> reads_;
};

} // namespace varve::test
