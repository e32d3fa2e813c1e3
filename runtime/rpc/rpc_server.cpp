#include "runtime/rpc/rpc_server.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <future>
#include <set>
#include <thread>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/io.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/monitoring/seldom.hpp"
#include "runtime/rpc/node_service.hpp"

namespace varve {

namespace {

/// How long clients may take to read their last answer and close, when the server ends.
constexpr auto goodbye_time = 500 * kj::MILLISECONDS;

std::string system_problem(const std::string& path) {
  return path + ": " + std::strerror(errno);
}

bool somebody_listens(const sockaddr_un& at) {
  kj::AutoCloseFd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
}

// A socket that listens at `path`, or -1 with a problem.
int listen_at(const std::string& path, std::string& problem) {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  if (path.size() >= sizeof at.sun_path) {
    problem = path + ": longer than a socket's path can be";
    return -1;
  }
  std::memcpy(at.sun_path, path.data(), path.size());
  if (somebody_listens(at)) {
    problem = path + ": another process listens there";
    return -1;
  }
  struct stat s {};
  if (::lstat(path.c_str(), &s) == 0 && !S_ISSOCK(s.st_mode)) {
    problem = path + ": it exists and is no socket";
    return -1;
  }
  ::unlink(path.c_str());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  // Before bind, so that there is no moment at which others may connect.
  if (fd < 0 || ::fchmod(fd, 0600) != 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(fd, 64) != 0) {
    problem = system_problem(path);
    if (fd >= 0)
      ::close(fd);
    return -1;
  }
  return fd;
}

// What Cap'n Proto has to say goes to our log. Broken peers are not our errors.
class to_log : public kj::ExceptionCallback {
public:
  void logMessage(kj::LogSeverity, const char* file, int line, int, kj::String&& text) override {
    spdlog::debug("event=rpc-library at={}:{} text=\"{}\"", file, line, text.cStr());
  }
};

class server : public rpc_server, private kj::TaskSet::ErrorHandler {
public:
  server(const gateway& to, std::shared_ptr<data_plane> plane, rpc_options options, int fd)
    : to_(to), plane_(std::move(plane)), options_(std::move(options)) {
    std::promise<void> ready;
    thread_ = std::thread{[this, fd, &ready] { run(fd, ready); }};
    ready.get_future().wait();
  }

  ~server() noexcept override {
    stop_->fulfill();
    thread_.join();
    ::unlink(options_.socket_path.c_str());
  }

  uint64_t connections() const override { return connections_; }

private:
  struct connection {
    connection(server& of, kj::Own<kj::AsyncIoStream> stream, capnp::ReaderOptions limits,
               capnp::Capability::Client bootstrap)
      : of_(of), stream_(kj::mv(stream)), network(*stream_, capnp::rpc::twoparty::Side::SERVER, limits),
        system_(capnp::makeRpcServer(network, kj::mv(bootstrap))) {
      // Of calls that are not answered yet; a client that asks for more waits.
      system_.setFlowLimit(limits.traversalLimitInWords * 4);
      ++of_.connections_;
      of_.open_.insert(this);
    }
    ~connection() noexcept(false) {
      of_.open_.erase(this);
      --of_.connections_;
    }

    server& of_;
    kj::Own<kj::AsyncIoStream> stream_;
    capnp::TwoPartyVatNetwork network;
    capnp::RpcSystem<capnp::rpc::twoparty::VatId> system_;
  };

  void run(int fd, std::promise<void>& ready) {
    to_log log;
    auto io = kj::setupAsyncIo();
    auto stopped = kj::newPromiseAndCrossThreadFulfiller<void>();
    stop_ = kj::mv(stopped.fulfiller);
    ready.set_value();
    auto listener = io.lowLevelProvider->wrapListenSocketFd(fd, kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP |
                                                                  kj::LowLevelAsyncIoProvider::ALREADY_CLOEXEC |
                                                                  kj::LowLevelAsyncIoProvider::ALREADY_NONBLOCK);
    auto recordings = std::make_shared<recording_room>();
    auto& timer = io.provider->getTimer();
    kj::TaskSet tasks{*this};
    auto accepting =
      accept(*listener, timer, recordings, tasks).eagerlyEvaluate([this](kj::Exception&& e) { taskFailed(kj::mv(e)); });
    stopped.promise.wait(io.waitScope);
    accepting = kj::Promise<void>{nullptr};
    listener = nullptr;
    // What was answered before goes out first: above all to whoever asked for this end.
    kj::evalLast([] {}).wait(io.waitScope);
    // Our half only: a client that still writes when all is closed takes that for the end, and reads no answer any
    // more.
    for (auto* x : open_)
      x->stream_->shutdownWrite();
    tasks.onEmpty().exclusiveJoin(timer.afterDelay(goodbye_time)).wait(io.waitScope);
  }

  kj::Promise<void> accept(kj::ConnectionReceiver& listener, kj::Timer& timer,
                           std::shared_ptr<recording_room> recordings, kj::TaskSet& tasks) {
    return listener.acceptAuthenticated().then(
      [=, this, &listener, &timer, &tasks](kj::AuthenticatedStream x) mutable {
        std::string peer;
        if (welcome(x, peer)) {
          capnp::ReaderOptions limits;
          limits.traversalLimitInWords = options_.message_words_max;
          limits.nestingLimit = options_.nesting_max;
          // Its own, since a connection may give rights up.
          auto c = kj::heap<connection>(*this, kj::mv(x.stream), limits,
                                        kj::heap<node_service>(to_, plane_, recordings, std::move(peer)));
          tasks.add(c->network.onDisconnect().attach(kj::mv(c)));
        }
        return accept(listener, timer, recordings, tasks);
      },
      [=, this, &listener, &timer, &tasks](kj::Exception&& e) mutable {
        // Out of descriptors, most likely: they come back.
        spdlog::warn("event=rpc-accept-failed reason=\"{}\"", e.getDescription().cStr());
        return timer.afterDelay(100 * kj::MILLISECONDS).then([=, this, &listener, &timer, &tasks]() mutable {
          return accept(listener, timer, recordings, tasks);
        });
      });
  }

  // Whether the peer may come in, and who it is.
  bool welcome(kj::AuthenticatedStream& x, std::string& peer) {
    if (connections_ >= options_.connections_max) {
      refused("limit connections_max=" + std::to_string(options_.connections_max));
      return false;
    }
    const auto credentials = kj::downcast<kj::LocalPeerIdentity>(*x.peerIdentity).getCredentials();
    KJ_IF_MAYBE (uid, credentials.uid) {
      peer = "user " + std::to_string(*uid);
      KJ_IF_MAYBE (pid, credentials.pid)
        peer += ", process " + std::to_string(*pid);
      if (*uid == 0 || *uid == ::geteuid())
        return true;
      refused("user uid=" + std::to_string(*uid));
    }
    return false;
  }

  void refused(const std::string& reason) {
    if (refused_.say(reason, std::chrono::steady_clock::now().time_since_epoch()))
      spdlog::warn("event=rpc-connection-refused reason={}", reason);
  }

  void taskFailed(kj::Exception&& e) override {
    spdlog::debug("event=rpc-connection-failed reason=\"{}\"", e.getDescription().cStr());
  }

  const gateway& to_;
  std::shared_ptr<data_plane> plane_;
  rpc_options options_;
  std::atomic<uint64_t> connections_{0};
  seldom refused_;             // of the server's thread
  std::set<connection*> open_; // of the server's thread
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> stop_;
  std::thread thread_;
};

} // namespace

std::unique_ptr<rpc_server> rpc_server::start(const gateway& to, std::shared_ptr<data_plane> plane, rpc_options options,
                                              std::string& problem) {
  const int fd = listen_at(options.socket_path, problem);
  if (fd < 0)
    return nullptr;
  return std::make_unique<server>(to, std::move(plane), std::move(options), fd);
}

} // namespace varve
