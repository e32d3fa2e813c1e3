#include "runtime/cluster/tls_link.hpp"

#include <cerrno>
#include <cstring>
#include <set>

#include <caf/event_based_actor.hpp>
#include <caf/exit_reason.hpp>
#include <caf/io/middleman.hpp>
#include <caf/openssl/manager.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <dirent.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "messages/errors.hpp"
#include "runtime/cluster/tls_calls.hpp"
#include "runtime/monitoring/seldom.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

/// To reach a port; and, once it is reached, for both to have shown who they are.
constexpr auto reach_time = 1s;
constexpr caf::timespan greet_time = 5s;
constexpr size_t attempts_max = 4096;

/// What is wrong; empty when something listens there. CAF would wait for the answer of a silent host in the one actor
/// that makes all connections, for minutes.
std::string probe(const endpoint& to) {
  addrinfo hints{}, *all = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int e = ::getaddrinfo(to.host.c_str(), std::to_string(to.port).c_str(), &hints, &all))
    return ::gai_strerror(e);
  std::string problem = "no address";
  for (auto* x = all; x && !problem.empty(); x = x->ai_next) {
    const int fd = ::socket(x->ai_family, x->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, x->ai_protocol);
    if (fd < 0) {
      problem = std::strerror(errno);
      continue;
    }
    int error = ::connect(fd, x->ai_addr, x->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      pollfd wait{fd, POLLOUT, 0};
      socklen_t size = sizeof error;
      if (::poll(&wait, 1, std::chrono::milliseconds{reach_time}.count()) <= 0)
        error = ETIMEDOUT;
      else
        ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    problem = error ? std::strerror(error) : "";
    ::close(fd);
  }
  ::freeaddrinfo(all);
  return problem;
}

uint16_t port_of(const sockaddr_storage& x) {
  return ntohs(x.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(x).sin6_port
                                       : reinterpret_cast<const sockaddr_in&>(x).sin_port);
}

/// Whether an address is one of an endpoint's host; of a name that cannot be resolved now: perhaps.
bool is_at(const sockaddr_storage& x, const endpoint& to) {
  addrinfo hints{}, *all = nullptr;
  hints.ai_flags = AI_NUMERICHOST;
  hints.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(to.host.c_str(), nullptr, &hints, &all) != 0)
    return true;
  bool found = false;
  for (auto* at = all; at; at = at->ai_next)
    found = found || (at->ai_family == x.ss_family &&
                      (x.ss_family == AF_INET
                         ? std::memcmp(&reinterpret_cast<const sockaddr_in&>(*at->ai_addr).sin_addr,
                                       &reinterpret_cast<const sockaddr_in&>(x).sin_addr, sizeof(in_addr)) == 0
                         : std::memcmp(&reinterpret_cast<const sockaddr_in6&>(*at->ai_addr).sin6_addr,
                                       &reinterpret_cast<const sockaddr_in6&>(x).sin6_addr, sizeof(in6_addr)) == 0));
  ::freeaddrinfo(all);
  return found;
}

/// CAF does not show its sockets: they are found by their ports. Calls f(socket, address of the other end) for each.
template <class F>
void for_each_connection(const std::set<uint16_t>& control_ports, F f) {
  std::unique_ptr<DIR, decltype([](DIR* x) { ::closedir(x); })> folder{::opendir("/proc/self/fd")};
  while (auto* entry = folder ? ::readdir(folder.get()) : nullptr) {
    const int fd = std::atoi(entry->d_name);
    sockaddr_storage here{}, there{};
    socklen_t here_size = sizeof here, there_size = sizeof there;
    if (fd <= 2 || ::getpeername(fd, reinterpret_cast<sockaddr*>(&there), &there_size) != 0 ||
        (there.ss_family != AF_INET && there.ss_family != AF_INET6) ||
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&here), &here_size) != 0)
      continue;
    if (control_ports.count(port_of(here)) || control_ports.count(port_of(there)))
      f(fd, there);
  }
}

/// A connection into a cut network looks alive to TCP for a quarter of an hour, and CAF has no limit of its own: after
/// `limit` without an answer, to data or to a probe, the kernel gives it up.
void limit_silence(int fd, std::chrono::milliseconds limit) {
  const int on = 1, every = 1, probes = static_cast<int>(std::max<int64_t>(limit / 1s, 1));
  const auto milliseconds = static_cast<unsigned>(limit.count());
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &every, sizeof every);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

/// What is published stays for as long as the process lives, since CAF's other end remembers by address and port what
/// it found there once; behind it the gate may be another.
door_actor::behavior_type make_door(door_actor::stateful_pointer<door_state> self, const node_gate_actor& gate) {
  self->state.gate = gate;
  return {
    [self](atom::get) { return self->delegate(self->state.gate, atom::get_v); },
    [self](atom::join, const node_announcement& x, const caf::strong_actor_ptr& gate) {
      return self->delegate(self->state.gate, atom::join_v, x, gate);
    },
    [self](atom::open, const std::string& path) { return self->delegate(self->state.gate, atom::open_v, path); },
    [self](atom::publish, const node_gate_actor& x) { self->state.gate = x; },
  };
}

void publish_at(caf::event_based_actor* self, const caf::io::middleman_actor& manager, const endpoint& at,
                const caf::strong_actor_ptr& door, const std::function<void(caf::error)>& done) {
  self->request(manager, greet_time, caf::publish_atom::value, at.port, door, std::set<std::string>{}, at.host, true)
    .then([=](uint16_t) { done({}); },
          [=](const caf::error& e) {
            done(make_error(errc::unavailable, "cannot listen at " + to_string(at) + ": " + context_of(e)));
          });
}

} // namespace

void tls_link::configure(caf::actor_system_config& config, const key_files& keys) {
  config.load<caf::io::middleman>();
  config.load<caf::openssl::manager>();
  config.openssl_cafile = keys.ca;
  config.openssl_certificate = keys.certificate;
  config.openssl_key = keys.key;
}

tls_link::tls_link(caf::actor_system& system, cluster_config cluster, std::string node,
                   std::function<void(std::string code, std::string text)> publish)
  : system_(system), cluster_(std::move(cluster)), node_(std::move(node)), worker_([this] { work(); }) {
  const auto* self = cluster_.find(node_);
  if (!publish || !self)
    return;
  watched_ = self->control.port;
  // Within watch_strangers' lock.
  watch_strangers(watched_, [publish = std::move(publish), at = to_string(self->control),
                             said = seldom{}](const std::string& address, const std::string& why) mutable {
    if (said.say(address + ": " + why, std::chrono::steady_clock::now().time_since_epoch()))
      publish("STRANGER_REFUSED", address + " at the control port " + at + ": " + why);
  });
}

tls_link::~tls_link() {
  // Let go of outside the lock: the last handle of a proxy runs what is attached to it.
  std::map<std::string, node_gate_actor> last;
  {
    std::lock_guard guard{state_->mutex};
    state_->stopping = true;
    last.swap(state_->connected);
  }
  if (watched_ != 0)
    watch_strangers(watched_, {});
  state_->more.notify_all();
  worker_.join();
  shut_door(*state_);
}

void tls_link::shut_door(state& x) {
  std::lock_guard guard{x.mutex};
  if (x.door)
    caf::anon_send_exit(x.door, caf::exit_reason::user_shutdown);
  x.door = door_actor{};
}

void tls_link::publish(const node_gate_actor& gate, std::function<void(caf::error)> done) {
  const auto* self = cluster_.find(node_);
  if (!self) {
    done(make_error(errc::not_found, "node " + node_));
    return;
  }
  std::unique_lock lock{state_->mutex};
  if (state_->door) {
    caf::anon_send(state_->door, atom::publish_v, gate);
    lock.unlock();
    done({});
    return;
  }
  auto door = system_.spawn(make_door, gate);
  state_->door = door;
  system_.spawn(publish_at, system_.openssl_manager().actor_handle(), self->control,
                caf::actor_cast<caf::strong_actor_ptr>(door),
                [state = state_, done = std::move(done)](const caf::error& e) {
                  if (e)
                    shut_door(*state);
                  done(e);
                });
}

void tls_link::connect(const std::string& node, std::function<void(caf::expected<node_gate_actor>)> done) {
  const auto* to = cluster_.find(node);
  if (!to) {
    done(make_error(errc::not_found, "node " + node));
    return;
  }
  std::unique_lock lock{state_->mutex};
  // A second connection between two nodes makes CAF forget the first, and with it the node (0.17.6).
  if (auto at = state_->connected.find(node); at != state_->connected.end()) {
    auto gate = at->second;
    lock.unlock();
    done(gate);
    return;
  }
  if (state_->attempts.size() >= attempts_max) {
    lock.unlock();
    done(make_error(errc::limit_reached, "too many connections are being made"));
    return;
  }
  state_->attempts.push_back({node, to->control, std::move(done)});
  state_->more.notify_all();
}

void tls_link::disconnect(const std::string& node) {
  const auto* to = cluster_.find(node);
  if (!to)
    return;
  node_gate_actor last; // let go of outside the lock
  {
    std::lock_guard guard{state_->mutex};
    if (auto at = state_->connected.find(node); at != state_->connected.end()) {
      last = std::move(at->second);
      state_->connected.erase(at);
    }
  }
  // That CAF finds the socket closed is the one way to make it drop a connection.
  for_each_connection({to->control.port}, [&](int fd, const sockaddr_storage& there) {
    if (port_of(there) == to->control.port && is_at(there, to->control))
      ::shutdown(fd, SHUT_RDWR);
  });
}

void tls_link::work() {
  std::set<uint16_t> ports;
  for (const auto& x : cluster_.nodes)
    ports.insert(x.control.port);
  const auto silence = std::chrono::duration_cast<std::chrono::milliseconds>(cluster_.down_after);
  auto& x = *state_;
  std::unique_lock lock{x.mutex};
  auto look_at = std::chrono::steady_clock::now();
  while (!x.stopping) {
    if (!x.attempts.empty()) {
      auto next = std::move(x.attempts.front());
      x.attempts.pop_front();
      lock.unlock();
      reach(std::move(next));
      lock.lock();
    } else {
      x.more.wait_until(lock, look_at);
    }
    if (std::chrono::steady_clock::now() >= look_at) {
      lock.unlock();
      for_each_connection(ports, [&](int fd, const sockaddr_storage&) { limit_silence(fd, silence); });
      lock.lock();
      look_at = std::chrono::steady_clock::now() + cluster_.heartbeat;
    }
  }
}

void tls_link::reach(attempt x) {
  if (auto problem = probe(x.to); !problem.empty()) {
    x.done(make_error(errc::unavailable, to_string(x.to) + ": " + problem));
    return;
  }
  system_.spawn([x = std::move(x), state = state_](caf::event_based_actor* actor) {
    auto manager = actor->system().openssl_manager().actor_handle();
    actor->request(manager, greet_time, caf::connect_atom::value, x.to.host, x.to.port)
      .then(
        [=](const caf::node_id&, const caf::strong_actor_ptr& found, const std::set<std::string>&) {
          if (!found) {
            x.done(make_error(errc::unavailable, to_string(x.to) + ": nothing of Varve is there"));
            return;
          }
          const auto gate = caf::actor_cast<node_gate_actor>(found);
          {
            std::lock_guard guard{state->mutex};
            if (!state->stopping)
              state->connected[x.node] = gate;
          }
          // Not by a monitor of this actor, which nobody would keep alive for it.
          gate->attach_functor([state, node = x.node, address = gate.address()](const caf::error&) {
            node_gate_actor last; // as above
            std::lock_guard guard{state->mutex};
            auto at = state->connected.find(node);
            if (at == state->connected.end() || !(at->second.address() == address))
              return;
            last = std::move(at->second);
            state->connected.erase(at);
          });
          x.done(gate);
        },
        [=](const caf::error& e) {
          x.done(make_error(errc::unavailable, to_string(x.to) +
                                                 ": no connection of mutual TLS (is it a node of this cluster, with a "
                                                 "certificate in force?): " +
                                                 context_of(e)));
        });
  });
}

} // namespace varve
