#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include <kj/async.h>

#include "messages/wire.hpp"
#include "runtime/rpc/gateway.hpp"
#include "runtime/rpc/serving.hpp"
#include "runtime/trace/trace_recorder.hpp"

namespace varve {

/// A thread for what blocks: files of traces are opened and completed here, one after the other.
class background {
public:
  background();
  ~background();
  void run(std::function<void()> job);

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

/// The recordings of all connections, and the thread that writes what they ask for.
struct recording_room {
  std::shared_ptr<background> on = std::make_shared<background>();
  /// Those that ended are dead.
  std::map<uint64_t, std::weak_ptr<trace_recorder>> by_volume;
  /// Of the catalog, begun so far.
  uint64_t backups = 0;
};

/// messages/varve.capnp in terms of the gateway, for one connection. Lives on the RPC's thread, like every promise
/// here.
class node_service : public wire::Node::Server {
public:
  node_service(const gateway& to, std::shared_ptr<data_plane> plane, std::shared_ptr<recording_room> recordings,
               std::string peer)
    : to_(to), plane_(std::move(plane)), recordings_(std::move(recordings)) {
    rights_->peer = std::move(peer);
  }

  kj::Promise<void> status(StatusContext context) override;
  kj::Promise<void> events(EventsContext context) override;
  kj::Promise<void> volumeCreate(VolumeCreateContext context) override;
  kj::Promise<void> volumeList(VolumeListContext context) override;
  kj::Promise<void> volumeShow(VolumeShowContext context) override;
  kj::Promise<void> volumeResize(VolumeResizeContext context) override;
  kj::Promise<void> volumeRemove(VolumeRemoveContext context) override;
  kj::Promise<void> volumeAttach(VolumeAttachContext context) override;
  kj::Promise<void> volumeDetach(VolumeDetachContext context) override;
  kj::Promise<void> shardList(ShardListContext context) override;
  kj::Promise<void> shardShow(ShardShowContext context) override;
  kj::Promise<void> shardMove(ShardMoveContext context) override;
  kj::Promise<void> shardVerify(ShardVerifyContext context) override;
  kj::Promise<void> tierList(TierListContext context) override;
  kj::Promise<void> leaseList(LeaseListContext context) override;
  kj::Promise<void> leaseBreak(LeaseBreakContext context) override;
  kj::Promise<void> leaseHistory(LeaseHistoryContext context) override;
  kj::Promise<void> migrationList(MigrationListContext context) override;
  kj::Promise<void> migrationShow(MigrationShowContext context) override;
  kj::Promise<void> migrationCancel(MigrationCancelContext context) override;
  kj::Promise<void> migrationPause(MigrationPauseContext context) override;
  kj::Promise<void> migrationResume(MigrationResumeContext context) override;
  kj::Promise<void> clusterStatus(ClusterStatusContext context) override;
  kj::Promise<void> nodeList(NodeListContext context) override;
  kj::Promise<void> nodeChange(NodeChangeContext context) override;
  kj::Promise<void> nodeVerify(NodeVerifyContext context) override;
  kj::Promise<void> ready(ReadyContext context) override;
  kj::Promise<void> actorList(ActorListContext context) override;
  kj::Promise<void> actorKill(ActorKillContext context) override;
  kj::Promise<void> traceRecord(TraceRecordContext context) override;
  kj::Promise<void> stop(StopContext context) override;
  kj::Promise<void> catalogBackup(CatalogBackupContext context) override;
  kj::Promise<void> console(ConsoleContext context) override;

private:
  const gateway& to_;
  std::shared_ptr<data_plane> plane_;
  std::shared_ptr<recording_room> recordings_;
  std::shared_ptr<session_rights> rights_ = std::make_shared<session_rights>();
};

} // namespace varve
