#include "runtime/nbd/nbd_server.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace varve {

namespace {

/// Between tries to accept when the process has no descriptor left: the waiting client would make it spin.
constexpr std::chrono::milliseconds accept_pause{100};

enum class occupant : uint8_t { nobody, dead_server, somebody };

bool set_path(sockaddr_un& address, const std::string& path) {
  if (path.empty() || path.size() >= sizeof(address.sun_path))
    return false;
  address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return true;
}

occupant look_at(const std::string& path) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0)
    return errno == ENOENT ? occupant::nobody : occupant::somebody;
  if (!S_ISSOCK(found.st_mode))
    return occupant::somebody;
  sockaddr_un address;
  set_path(address, path);
  auto fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return occupant::somebody;
  auto refused = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 && errno == ECONNREFUSED;
  ::close(fd);
  return refused ? occupant::dead_server : occupant::somebody;
}

} // namespace

nbd_server::nbd_server(reactor& on, export_directory& exports, nbd_options options)
  : reactor_(on), exports_(exports), options_(std::move(options)) {}

nbd_server::~nbd_server() {
  assert(fd_ < 0 && connections_.empty());
}

errc nbd_server::listen(const std::string& path) {
  assert(fd_ < 0 && !closing_);
  sockaddr_un address;
  // Bound under another name and renamed: replacing the dead server's file and taking its place are one step.
  const auto temporary = path + ".new";
  if (!set_path(address, temporary))
    return errc::invalid_argument;
  if (look_at(path) == occupant::somebody)
    return errc::already_exists;
  auto fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return errc::device_failed;
  ::unlink(temporary.c_str());
  struct stat made {};
  // The mode of the socket itself is what bind gives the file (less the umask), so it never exists with a wider one.
  if (::fchmod(fd, 0600) != 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    ::close(fd);
    return errc::device_failed;
  }
  if (::chmod(temporary.c_str(), 0600) != 0 || ::listen(fd, options_.backlog) != 0 ||
      ::lstat(temporary.c_str(), &made) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0) {
    ::unlink(temporary.c_str());
    ::close(fd);
    return errc::device_failed;
  }
  fd_ = fd;
  path_ = path;
  path_inode_ = made.st_ino;
  accept();
  return errc::none;
}

void nbd_server::submit(operation& x, void (*complete)(ring_operation&)) {
  x.self = this;
  x.in_flight = true;
  x.x.complete = complete;
  reactor_.ring().submit(x.x);
}

void nbd_server::accept() {
  accept_.x.op = ring_op::accept;
  accept_.x.fd = fd_;
  submit(accept_, [](ring_operation& x) {
    auto& mine = reinterpret_cast<operation&>(x);
    mine.in_flight = false;
    mine.self->accepted(x.result);
  });
}

void nbd_server::accepted(int32_t result) {
  if (result >= 0 && (closing_ || connections_.size() >= options_.connections_max)) {
    ++counters_.refused;
    ::close(result);
  } else if (result >= 0) {
    ++counters_.accepted;
    auto& made = connections_.emplace_back(std::make_unique<nbd_connection>(
      reactor_, result, exports_, options_, counters_, [this](nbd_connection& x) { ended(x); }));
    counters_.open = connections_.size();
    made->start();
    if (on_connections_)
      on_connections_(connections_.size());
  }
  if (closing_)
    return settle();
  if (result >= 0 || result == -ECONNABORTED || result == -EINTR || result == -EAGAIN)
    return accept();
  pause_.x.op = ring_op::timeout;
  pause_.x.deadline = reactor_.now() + accept_pause;
  submit(pause_, [](ring_operation& x) {
    auto& mine = reinterpret_cast<operation&>(x);
    mine.in_flight = false;
    if (mine.self->closing_)
      mine.self->settle();
    else
      mine.self->accept();
  });
}

void nbd_server::ended(nbd_connection& x) {
  auto found = std::find_if(connections_.begin(), connections_.end(), [&](auto& y) { return y.get() == &x; });
  assert(found != connections_.end());
  connections_.erase(found);
  counters_.open = connections_.size();
  if (on_connections_)
    on_connections_(connections_.size());
  if (closing_)
    settle();
}

/// Closing is over when nothing of ours is in flight. Last in every function that gets here: who waits for it may
/// destroy us.
void nbd_server::settle() {
  if (!connections_.empty() || accept_.in_flight || pause_.in_flight)
    return;
  if (drain_.in_flight) {
    reactor_.ring().cancel(drain_.x);
    return; // its completion comes back here
  }
  if (fd_ >= 0)
    ::close(std::exchange(fd_, -1));
  over_.set();
}

task<void> nbd_server::close(bool force) {
  if (!std::exchange(closing_, true) && fd_ >= 0) {
    struct stat found {};
    if (::lstat(path_.c_str(), &found) == 0 && found.st_ino == path_inode_)
      ::unlink(path_.c_str());
    if (accept_.in_flight)
      reactor_.ring().cancel(accept_.x);
    if (pause_.in_flight)
      reactor_.ring().cancel(pause_.x);
    if (!force) {
      drain_.x.op = ring_op::timeout;
      drain_.x.deadline = reactor_.now() + options_.drain_time;
      submit(drain_, [](ring_operation& x) {
        auto& mine = reinterpret_cast<operation&>(x);
        mine.in_flight = false;
        for (auto& connection : mine.self->connections_)
          connection->close(true);
        mine.self->settle();
      });
    }
  }
  for (auto& connection : connections_)
    connection->close(force);
  if (!over_.is_set())
    settle();
  co_await over_.wait();
}

} // namespace varve
