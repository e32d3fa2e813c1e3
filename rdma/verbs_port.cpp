#include "rdma/verbs_port.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include <arpa/inet.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace varve {

namespace {

constexpr int backlog = 128;
/// Of librdmacm: how often the device asks again before it gives a peer up, and for how long it bears with one that has
/// no room for a message (7 would be for ever).
constexpr uint8_t retries = 7;
constexpr uint8_t room_retries = 6;
/// Events taken at a time.
constexpr int events_max = 64;

std::string with_errno(const char* what) {
  return std::string{what} + ": " + std::strerror(errno);
}

std::string text_of(const sockaddr* x) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (x && x->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(x);
    ::inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
    return std::string{host} + ":" + std::to_string(ntohs(v4->sin_port));
  }
  if (x && x->sa_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(x);
    ::inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    return "[" + std::string{host} + "]:" + std::to_string(ntohs(v6->sin6_port));
  }
  return host;
}

void refuse(rdma_cm_id* id) {
  ::rdma_reject(id, nullptr, 0);
  ::rdma_destroy_id(id);
}

rdma_conn_param parameters(std::span<const std::byte> greeting) {
  rdma_conn_param x{};
  x.private_data = greeting.data();
  x.private_data_len = static_cast<uint8_t>(greeting.size());
  // Nobody reads from the other's memory.
  x.responder_resources = 0;
  x.initiator_depth = 0;
  x.flow_control = 1;
  x.retry_count = retries;
  x.rnr_retry_count = room_retries;
  return x;
}

} // namespace

// -- verbs_request

std::unique_ptr<verbs_link> verbs_request::accept(verbs_link::user& told, const verbs_options& options,
                                                  std::string& problem) {
  assert(!taken_);
  taken_ = true;
  auto& place = port_.links_.emplace_back();
  std::unique_ptr<verbs_link> made{new verbs_link{port_, id_, told, options}};
  place.link = made.get();
  auto how = parameters({});
  if (made->prepare(problem) && ::rdma_accept(id_, &how) == 0)
    return made;
  if (problem.empty())
    problem = with_errno("not accepted");
  ::rdma_reject(id_, nullptr, 0);
  return nullptr;
}

// -- verbs_port

bool verbs_port::available() {
  int count = 0;
  auto** list = ::ibv_get_device_list(&count);
  if (list)
    ::ibv_free_device_list(list);
  if (count == 0)
    return false;
  auto* channel = ::rdma_create_event_channel();
  if (channel)
    ::rdma_destroy_event_channel(channel);
  return channel != nullptr;
}

std::unique_ptr<verbs_port> verbs_port::open(std::string& problem) {
  std::unique_ptr<verbs_port> made{new verbs_port};
  made->channel_ = ::rdma_create_event_channel();
  if (!made->channel_) {
    problem = with_errno("no RDMA connections here");
    return nullptr;
  }
  made->poll_ = ::epoll_create1(EPOLL_CLOEXEC);
  made->again_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const auto fd = made->channel_->fd;
  if (made->poll_ < 0 || made->again_ < 0 || ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
    problem = with_errno("RDMA connections cannot be watched");
    return nullptr;
  }
  if (!made->watch(fd, nullptr, problem) || !made->watch(made->again_, nullptr, problem))
    return nullptr;
  return made;
}

verbs_port::~verbs_port() {
  assert(std::none_of(links_.begin(), links_.end(), [](auto& x) { return x.link; }));
  if (listener_)
    ::rdma_destroy_id(listener_);
  if (channel_)
    ::rdma_destroy_event_channel(channel_);
  for (auto fd : {poll_, again_})
    if (fd >= 0)
      ::close(fd);
}

verbs_port::entry* verbs_port::find(const verbs_link& x) noexcept {
  auto at = std::find_if(links_.begin(), links_.end(), [&](auto& y) { return y.link == &x; });
  return at == links_.end() ? nullptr : &*at;
}

void verbs_port::forget(const verbs_link& x) {
  auto at = std::find_if(links_.begin(), links_.end(), [&](auto& y) { return y.link == &x; });
  if (at == links_.end())
    return;
  at->link = nullptr;
  // What epoll has told of this step may still name it.
  if (!stepping_)
    links_.erase(at);
}

bool verbs_port::watch(int fd, entry* of, std::string& problem) {
  epoll_event x{};
  x.events = EPOLLIN;
  x.data.ptr = of;
  if (::epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &x) == 0)
    return true;
  problem = with_errno("cannot be watched");
  return false;
}

void verbs_port::unwatch(int fd) noexcept {
  ::epoll_ctl(poll_, EPOLL_CTL_DEL, fd, nullptr);
}

void verbs_port::again(const verbs_link& x) noexcept {
  if (auto* place = find(x))
    place->again = true;
  again();
}

void verbs_port::again() noexcept {
  const uint64_t one = 1;
  (void)!::write(again_, &one, sizeof one);
}

void verbs_port::step() {
  assert(!stepping_);
  stepping_ = true;
  std::array<epoll_event, events_max> ready;
  const auto count = ::epoll_wait(poll_, ready.data(), events_max, 0);
  uint64_t ignored = 0;
  (void)!::read(again_, &ignored, sizeof ignored);
  handle_events();
  for (int i = 0; i < count; ++i)
    if (auto* x = static_cast<entry*>(ready[static_cast<size_t>(i)].data.ptr))
      x->again = true;
  for (auto& x : links_)
    if (x.link && std::exchange(x.again, false) && !x.link->look())
      again(*x.link);
  for (auto& x : links_)
    if (x.link)
      x.link->flush();
  stepping_ = false;
  std::erase_if(links_, [](auto& x) { return !x.link; });
}

uint16_t verbs_port::listen(const sockaddr* address, std::function<void(verbs_request&)> asked, std::string& problem) {
  assert(!listener_);
  rdma_cm_id* id = nullptr;
  if (::rdma_create_id(channel_, &id, nullptr, RDMA_PS_TCP) != 0) {
    problem = with_errno("no RDMA connections here");
    return 0;
  }
  if (::rdma_bind_addr(id, const_cast<sockaddr*>(address)) != 0 || ::rdma_listen(id, backlog) != 0) {
    problem = with_errno(("listening at " + text_of(address)).c_str());
    ::rdma_destroy_id(id);
    return 0;
  }
  listener_ = id;
  asked_ = std::move(asked);
  return ntohs(::rdma_get_src_port(id));
}

std::unique_ptr<verbs_link> verbs_port::connect(const sockaddr* to, std::span<const std::byte> greeting,
                                                verbs_link::user& told, const verbs_options& options,
                                                std::string& problem) {
  assert(greeting.size() <= greeting_bytes_max);
  rdma_cm_id* id = nullptr;
  if (::rdma_create_id(channel_, &id, nullptr, RDMA_PS_TCP) != 0) {
    problem = with_errno("no RDMA connections here");
    return nullptr;
  }
  auto& place = links_.emplace_back();
  place.greeting.assign(greeting.begin(), greeting.end());
  std::unique_ptr<verbs_link> made{new verbs_link{*this, id, told, options}};
  place.link = made.get();
  if (::rdma_resolve_addr(id, nullptr, const_cast<sockaddr*>(to), static_cast<int>(options.resolve_time.count())) !=
      0) {
    problem = with_errno(("no way to " + text_of(to)).c_str());
    return nullptr;
  }
  return made;
}

/// Each is acknowledged before anything is done because of it: an id with one that is not cannot be destroyed.
void verbs_port::handle_events() {
  for (int i = 0; i < events_max; ++i) {
    rdma_cm_event* event = nullptr;
    if (::rdma_get_cm_event(channel_, &event) != 0)
      return;
    const auto what = event->event;
    const auto status = event->status;
    auto* id = event->id;
    const auto& how = event->param.conn;
    // The other end says how long this one's device bears with it when it has no room: not for ever.
    const auto endless = (what == RDMA_CM_EVENT_CONNECT_REQUEST || what == RDMA_CM_EVENT_ESTABLISHED) &&
                         how.rnr_retry_count > room_retries;
    std::vector<std::byte> said;
    if (what == RDMA_CM_EVENT_CONNECT_REQUEST && event->param.conn.private_data) {
      const auto* data = static_cast<const std::byte*>(event->param.conn.private_data);
      said.assign(data, data + event->param.conn.private_data_len);
    }
    ::rdma_ack_cm_event(event);
    if (what == RDMA_CM_EVENT_CONNECT_REQUEST && endless)
      refuse(id);
    else if (what == RDMA_CM_EVENT_CONNECT_REQUEST)
      requested(id, said);
    else if (id->context && endless)
      static_cast<verbs_link*>(id->context)->end("the other end asks for endless patience");
    else if (id->context)
      happened(*static_cast<verbs_link*>(id->context), what, status);
  }
  again();
}

void verbs_port::requested(rdma_cm_id* id, std::span<const std::byte> greeting) {
  id->context = nullptr; // the listener's, which it begins with
  verbs_request x{*this, id, greeting, text_of(::rdma_get_peer_addr(id))};
  asked_(x);
  if (!x.taken_)
    refuse(id);
}

/// What came before it hung up was acknowledged, and is taken first.
void verbs_port::hung_up(verbs_link& x) {
  auto* place = find(x);
  for (auto more = true; more && place->link;)
    more = !x.look();
  if (place->link)
    x.end("hung up");
}

void verbs_port::happened(verbs_link& x, int event, int status) {
  auto because = [&](const char* what) {
    const auto number = status < 0 ? -status : status;
    return number == 0 ? std::string{what} : std::string{what} + " (" + std::strerror(number) + ")";
  };
  switch (event) {
  case RDMA_CM_EVENT_ADDR_RESOLVED:
    if (::rdma_resolve_route(x.id_, static_cast<int>(x.options_.resolve_time.count())) != 0)
      x.end(with_errno("no route"));
    return;
  case RDMA_CM_EVENT_ROUTE_RESOLVED: {
    std::string problem;
    if (!x.prepare(problem))
      return x.end(problem);
    auto how = parameters(find(x)->greeting);
    if (::rdma_connect(x.id_, &how) != 0)
      x.end(with_errno("not connected"));
    return;
  }
  case RDMA_CM_EVENT_ESTABLISHED: return x.made();
  case RDMA_CM_EVENT_ADDR_ERROR: return x.end(because("the address is not found"));
  case RDMA_CM_EVENT_ROUTE_ERROR: return x.end(because("no route"));
  case RDMA_CM_EVENT_UNREACHABLE: return x.end(because("not reached"));
  case RDMA_CM_EVENT_CONNECT_ERROR: return x.end(because("not connected"));
  case RDMA_CM_EVENT_REJECTED: return x.end("refused");
  case RDMA_CM_EVENT_DISCONNECTED: return hung_up(x);
  case RDMA_CM_EVENT_DEVICE_REMOVAL: return x.end("the device is gone");
  default: return; // of the time after the end
  }
}

} // namespace varve
