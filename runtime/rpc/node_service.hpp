#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include <kj/async.h>

#include "messages/wire.hpp"
#include "runtime/rpc/gateway.hpp"
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

/// messages/varve.capnp in terms of the gateway. Lives on the RPC's thread, like every promise here.
class node_service : public wire::Node::Server {
public:
  node_service(const gateway& to, std::shared_ptr<data_plane> plane) : to_(to), plane_(std::move(plane)) {}

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
  kj::Promise<void> migrationList(MigrationListContext context) override;
  kj::Promise<void> migrationShow(MigrationShowContext context) override;
  kj::Promise<void> migrationCancel(MigrationCancelContext context) override;
  kj::Promise<void> migrationPause(MigrationPauseContext context) override;
  kj::Promise<void> migrationResume(MigrationResumeContext context) override;
  kj::Promise<void> actorList(ActorListContext context) override;
  kj::Promise<void> actorKill(ActorKillContext context) override;
  kj::Promise<void> traceRecord(TraceRecordContext context) override;
  kj::Promise<void> stop(StopContext context) override;
  kj::Promise<void> catalogBackup(CatalogBackupContext context) override;

private:
  const gateway& to_;
  std::shared_ptr<data_plane> plane_;
  std::shared_ptr<background> background_ = std::make_shared<background>();
  uint64_t backups_ = 0;
  /// By volume; those that ended are dead.
  std::map<uint64_t, std::weak_ptr<trace_recorder>> recordings_;
};

} // namespace varve
