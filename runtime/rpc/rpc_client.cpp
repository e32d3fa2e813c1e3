#include "runtime/rpc/rpc_client.hpp"

#include <cerrno>
#include <cstring>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "messages/wire.hpp"

namespace varve {

namespace {

kj::StringPtr text(const std::string& x) {
  return {x.c_str(), x.size()};
}

class client : public rpc_client {
public:
  client(int fd, std::chrono::nanoseconds timeout)
    : io_(kj::setupAsyncIo()),
      stream_(io_.lowLevelProvider->wrapSocketFd(fd, kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP)),
      rpc_(*stream_, limits()), node_(rpc_.bootstrap().castAs<wire::Node>()), timeout_(timeout) {}

  ~client() noexcept override = default;

  bool lost() const override { return lost_; }
  void set_timeout(std::chrono::nanoseconds timeout) override { timeout_ = timeout; }
  void sleep(std::chrono::nanoseconds time) override {
    io_.provider->getTimer().afterDelay(time.count() * kj::NANOSECONDS).wait(io_.waitScope);
  }

  caf::expected<node_status> status() override {
    return call<node_status>(node_.statusRequest(), [](auto& x) { return from_wire(x.getStatus()); });
  }

  caf::expected<std::vector<event>> events(uint32_t limit) override {
    auto q = node_.eventsRequest();
    q.setLimit(limit);
    return call<std::vector<event>>(kj::mv(q), [](auto& x) { return list_from_wire<wire::Event>(x.getEvents()); });
  }

  caf::expected<volume_info> volume_create(const volume_spec& spec) override {
    auto q = node_.volumeCreateRequest();
    to_wire(q.initSpec(), spec);
    return call<volume_info>(kj::mv(q), read_volume);
  }

  caf::expected<std::vector<volume_info>> volume_list() override {
    return call<std::vector<volume_info>>(node_.volumeListRequest(),
                                          [](auto& x) { return list_from_wire<wire::Volume>(x.getVolumes()); });
  }

  caf::expected<volume_info> volume_show(const std::string& volume) override {
    auto q = node_.volumeShowRequest();
    q.setVolume(text(volume));
    return call<volume_info>(kj::mv(q), read_volume);
  }

  caf::expected<volume_info> volume_resize(const std::string& volume, uint64_t size_bytes) override {
    auto q = node_.volumeResizeRequest();
    q.setVolume(text(volume));
    q.setSizeBytes(size_bytes);
    return call<volume_info>(kj::mv(q), read_volume);
  }

  caf::error volume_remove(const std::string& volume, bool confirmed) override {
    auto q = node_.volumeRemoveRequest();
    q.setVolume(text(volume));
    q.setConfirmed(confirmed);
    return call_plain(kj::mv(q));
  }

  caf::expected<attachment> volume_attach(const std::string& volume, const std::string& host, bool shared) override {
    auto q = node_.volumeAttachRequest();
    q.setVolume(text(volume));
    q.setHost(text(host));
    q.setShared(shared);
    return call<attachment>(kj::mv(q), [](auto& x) { return from_wire(x.getAttachment()); });
  }

  caf::error volume_detach(const std::string& volume, bool force, const std::string& host) override {
    auto q = node_.volumeDetachRequest();
    q.setHost(text(host));
    q.setVolume(text(volume));
    q.setForce(force);
    return call_plain(kj::mv(q));
  }

  caf::expected<shard_rows> shard_list(const std::string& volume, uint64_t first, uint32_t limit) override {
    auto q = node_.shardListRequest();
    q.setVolume(text(volume));
    q.setFirst(first);
    q.setLimit(limit);
    return call<shard_rows>(kj::mv(q), [](auto& x) {
      return shard_rows{list_from_wire<wire::Shard>(x.getShards()), shard_index{x.getNext()}};
    });
  }

  caf::expected<shard_row> shard_show(const std::string& volume, uint64_t index) override {
    auto q = node_.shardShowRequest();
    q.setVolume(text(volume));
    q.setIndex(index);
    return call<shard_row>(kj::mv(q), [](auto& x) { return from_wire(x.getShard()); });
  }

  caf::expected<std::vector<migration_id>> shard_move(const std::string& volume, uint64_t first, uint64_t count,
                                                      const std::string& to_tier) override {
    auto q = node_.shardMoveRequest();
    q.setVolume(text(volume));
    q.setFirst(first);
    q.setCount(count);
    q.setToTier(text(to_tier));
    return call<std::vector<migration_id>>(kj::mv(q), [](auto& x) {
      std::vector<migration_id> ids;
      for (auto id : x.getMigrations())
        ids.emplace_back(id);
      return ids;
    });
  }

  caf::expected<uint64_t> shard_verify(const std::string& volume, uint64_t index) override {
    auto q = node_.shardVerifyRequest();
    q.setVolume(text(volume));
    q.setIndex(index);
    return call<uint64_t>(kj::mv(q), [](auto& x) { return x.getBadBlocks(); });
  }

  caf::expected<std::vector<tier_row>> tier_list() override {
    return call<std::vector<tier_row>>(node_.tierListRequest(),
                                       [](auto& x) { return list_from_wire<wire::Tier>(x.getTiers()); });
  }

  caf::expected<std::vector<lease_info>> lease_list(const std::string& volume) override {
    auto q = node_.leaseListRequest();
    q.setVolume(text(volume));
    return call<std::vector<lease_info>>(kj::mv(q), [](auto& x) { return list_from_wire<wire::Lease>(x.getLeases()); });
  }

  caf::expected<varve::lease_history> lease_history(uint64_t after, uint32_t limit) override {
    auto q = node_.leaseHistoryRequest();
    q.setAfter(after);
    q.setLimit(limit);
    return call<varve::lease_history>(kj::mv(q), [](auto& x) {
      return varve::lease_history{x.getIncarnation(), x.getNewest(), list_from_wire<wire::LeaseEvent>(x.getEvents())};
    });
  }

  caf::error lease_break(const std::string& volume, uint64_t index) override {
    auto q = node_.leaseBreakRequest();
    q.setVolume(text(volume));
    q.setIndex(index);
    return call_plain(kj::mv(q));
  }

  caf::expected<std::vector<migration_progress>> migration_list() override {
    return call<std::vector<migration_progress>>(
      node_.migrationListRequest(), [](auto& x) { return list_from_wire<wire::Migration>(x.getMigrations()); });
  }

  caf::expected<migration_progress> migration_show(migration_id id) override {
    return call_migration(node_.migrationShowRequest(), id);
  }
  caf::expected<migration_progress> migration_cancel(migration_id id) override {
    return call_migration(node_.migrationCancelRequest(), id);
  }
  caf::expected<migration_progress> migration_pause(migration_id id) override {
    return call_migration(node_.migrationPauseRequest(), id);
  }
  caf::expected<migration_progress> migration_resume(migration_id id) override {
    return call_migration(node_.migrationResumeRequest(), id);
  }

  caf::expected<std::vector<node_condition>> node_list() override {
    return call<std::vector<node_condition>>(node_.nodeListRequest(),
                                             [](auto& x) { return list_from_wire<wire::NodeCondition>(x.getNodes()); });
  }

  caf::expected<node_condition> node_change(const std::string& node, bool cordoned, bool draining) override {
    auto q = node_.nodeChangeRequest();
    q.setNode(text(node));
    q.setCordoned(cordoned);
    q.setDraining(draining);
    return call<node_condition>(kj::mv(q), [](auto& x) { return from_wire(x.getCondition()); });
  }

  caf::expected<node_verdict> node_verify(const std::string& node, bool remove) override {
    auto q = node_.nodeVerifyRequest();
    q.setNode(text(node));
    q.setRemove(remove);
    return call<node_verdict>(kj::mv(q), [](auto& x) { return from_wire(x.getVerdict()); });
  }

  caf::expected<cluster_view> cluster_status() override {
    return call<cluster_view>(node_.clusterStatusRequest(), [](auto& x) { return from_wire(x.getCluster()); });
  }

  caf::expected<std::string> not_ready() override {
    return call<std::string>(node_.readyRequest(), [](auto& x) { return std::string{x.getNotReady()}; });
  }

  caf::expected<std::vector<actor_info>> actor_list() override {
    return call<std::vector<actor_info>>(node_.actorListRequest(),
                                         [](auto& x) { return list_from_wire<wire::Actor>(x.getActors()); });
  }

  caf::error actor_kill(const std::string& path) override {
    auto q = node_.actorKillRequest();
    q.setPath(text(path));
    return call_plain(kj::mv(q));
  }

  caf::error trace_start(const std::string& volume, const std::string& file) override {
    auto q = node_.traceRecordRequest();
    q.setVolume(text(volume));
    q.setFile(text(file));
    auto started = call<nothing_yet>(kj::mv(q), [this](auto& x) {
      recording_ = x.getRecording();
      return nothing_yet{};
    });
    return started ? caf::error{} : started.error();
  }

  caf::expected<recording_progress> trace_progress() override {
    KJ_IF_MAYBE (recording, recording_)
      return call<recording_progress>(recording->progressRequest(), read_progress);
    return make_error(errc::not_found, "no recording");
  }

  caf::expected<recording_progress> trace_stop() override {
    KJ_IF_MAYBE (recording, recording_)
      return call<recording_progress>(recording->stopRequest(), read_progress);
    return make_error(errc::not_found, "no recording");
  }

  caf::expected<catalog_backup_info> catalog_backup(const std::string& file) override {
    auto q = node_.catalogBackupRequest();
    q.setFile(text(file));
    return call<catalog_backup_info>(kj::mv(q), [](auto& x) { return from_wire(x.getBackup()); });
  }

  caf::error stop() override { return call_plain(node_.stopRequest()); }

  caf::error console_open(bool allow_write) override {
    auto q = node_.consoleRequest();
    q.setAllowWrite(allow_write);
    auto opened = call<nothing_yet>(kj::mv(q), [this](auto& x) {
      console_ = x.getConsole();
      if (x.hasWriter())
        writer_ = x.getWriter();
      return nothing_yet{};
    });
    return opened ? caf::error{} : opened.error();
  }

  caf::expected<std::vector<actor_row>> console_tree(const std::string& path, uint32_t children_max) override {
    KJ_IF_MAYBE (console, console_) {
      auto q = console->treeRequest();
      q.setPath(text(path));
      q.setChildrenMax(children_max);
      return call<std::vector<actor_row>>(kj::mv(q),
                                          [](auto& x) { return list_from_wire<wire::ActorRow>(x.getActors()); });
    }
    return not_open();
  }

  caf::expected<actor_inspection> console_inspect(const std::string& path) override {
    KJ_IF_MAYBE (console, console_) {
      auto q = console->inspectRequest();
      q.setPath(text(path));
      return call<actor_inspection>(kj::mv(q), [](auto& x) {
        return actor_inspection{from_wire(x.getActor()), list_from_wire<wire::Fact>(x.getFacts())};
      });
    }
    return not_open();
  }

  caf::expected<std::vector<actor_message>> console_messages(const std::string& path) override {
    KJ_IF_MAYBE (console, console_) {
      auto q = console->messagesRequest();
      q.setPath(text(path));
      return call<std::vector<actor_message>>(
        kj::mv(q), [](auto& x) { return list_from_wire<wire::ActorMessage>(x.getMessages()); });
    }
    return not_open();
  }

  caf::expected<actor_facts> console_send(const std::string& path, const std::string& message,
                                          const std::vector<argument_value>& arguments) override {
    KJ_IF_MAYBE (writer, writer_) {
      auto q = writer->sendRequest();
      q.setPath(text(path));
      q.setMessage(text(message));
      list_to_wire<wire::Argument>(q.initArguments(static_cast<unsigned>(arguments.size())), arguments);
      return call<actor_facts>(kj::mv(q), [](auto& x) { return list_from_wire<wire::Fact>(x.getAnswer()); });
    }
    return make_error(errc::read_only, "this session was opened to read only");
  }

  caf::error console_kill(const std::string& path) override {
    KJ_IF_MAYBE (writer, writer_) {
      auto q = writer->killRequest();
      q.setPath(text(path));
      return call_plain(kj::mv(q));
    }
    return make_error(errc::read_only, "this session was opened to read only");
  }

private:
  struct nothing_yet {};

  static caf::error not_open() { return make_error(errc::unavailable, "the console was not opened"); }

  static constexpr auto read_volume = [](auto& x) { return from_wire(x.getVolume()); };
  static constexpr auto read_progress = [](auto& x) {
    auto p = x.getProgress();
    return recording_progress{p.getRecords(), p.getDropped(), p.getFileBytes()};
  };

  // A node is trusted, but a listing of many leases is long: 512 MiB.
  static capnp::ReaderOptions limits() {
    capnp::ReaderOptions x;
    x.traversalLimitInWords = 64ull << 20;
    return x;
  }

  // The stream must be given its limits, which TwoPartyClient does not take in this version.
  struct peer {
    peer(kj::AsyncIoStream& stream, capnp::ReaderOptions limits)
      : network(stream, capnp::rpc::twoparty::Side::CLIENT, limits), system(capnp::makeRpcClient(network)) {}
    capnp::Capability::Client bootstrap() {
      capnp::MallocMessageBuilder message(4);
      auto id = message.getRoot<capnp::rpc::twoparty::VatId>();
      id.setSide(capnp::rpc::twoparty::Side::SERVER);
      return system.bootstrap(id);
    }
    capnp::TwoPartyVatNetwork network;
    capnp::RpcSystem<capnp::rpc::twoparty::VatId> system;
  };

  template <class T, class Request, class Read>
  caf::expected<T> call(Request request, Read read) {
    if (lost_)
      return make_error(errc::unavailable, "the connection to the node is lost");
    try {
      using response_type = decltype(request.send().wait(io_.waitScope));
      kj::Promise<response_type> sent = request.send();
      if (timeout_.count() > 0)
        sent = io_.provider->getTimer().timeoutAfter(timeout_.count() * kj::NANOSECONDS, kj::mv(sent));
      auto response = sent.wait(io_.waitScope);
      if (auto error = from_wire(response.getError()))
        return error;
      return read(response);
    } catch (const kj::Exception& e) {
      if (e.getType() == kj::Exception::Type::OVERLOADED)
        return make_error(errc::timed_out, "the node did not answer in time; what was asked may still happen");
      lost_ = e.getType() == kj::Exception::Type::DISCONNECTED;
      return make_error(errc::unavailable, lost_ ? "the connection to the node is lost" : e.getDescription().cStr());
    }
  }

  template <class Request>
  caf::error call_plain(Request request) {
    auto x = call<nothing_yet>(kj::mv(request), [](auto&) { return nothing_yet{}; });
    return x ? caf::error{} : x.error();
  }

  template <class Request>
  caf::expected<migration_progress> call_migration(Request request, migration_id id) {
    request.setId(id.value());
    return call<migration_progress>(kj::mv(request), [](auto& x) { return from_wire(x.getMigration()); });
  }

  kj::AsyncIoContext io_;
  kj::Own<kj::AsyncIoStream> stream_;
  peer rpc_;
  wire::Node::Client node_;
  kj::Maybe<wire::TraceRecording::Client> recording_;
  kj::Maybe<wire::Console::Client> console_;
  kj::Maybe<wire::ConsoleWriter::Client> writer_;
  std::chrono::nanoseconds timeout_;
  bool lost_ = false;
};

} // namespace

std::unique_ptr<rpc_client> rpc_client::connect(const std::string& socket_path, std::chrono::nanoseconds timeout,
                                                std::string& problem) {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof at.sun_path) {
    problem = socket_path + ": longer than a socket's path can be";
    return nullptr;
  }
  std::memcpy(at.sun_path, socket_path.data(), socket_path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) {
    problem = socket_path + ": " + std::strerror(errno);
    if (fd >= 0)
      ::close(fd);
    return nullptr;
  }
  return std::make_unique<client>(fd, timeout);
}

} // namespace varve
