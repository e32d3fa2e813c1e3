#include "runtime/rpc/node_service.hpp"

#include <ctime>

#include <unistd.h>

#include "runtime/catalog/backup_file.hpp"
#include "runtime/rpc/cluster_console.hpp"
#include "runtime/rpc/console_service.hpp"

namespace varve {

namespace {

constexpr auto fill_volume = [](auto results, const volume_info& x) { to_wire(results.initVolume(), x); };
constexpr auto fill_migration = [](auto results, const migration_progress& x) { to_wire(results.initMigration(), x); };

void progress_to_wire(wire::TraceProgress::Builder to, const trace_progress& x) {
  to.setRecords(x.records);
  to.setDropped(x.dropped);
  to.setFileBytes(x.file_bytes);
}

template <class Results>
void fill_progress(Results results, const trace_progress& x) {
  if (!x.problem.empty())
    to_wire(results.initError(), make_error(errc::device_failed, x.problem));
  progress_to_wire(results.initProgress(), x);
}

class recording_service : public wire::TraceRecording::Server {
public:
  recording_service(std::shared_ptr<trace_recorder> recorder, std::shared_ptr<background> on)
    : recorder_(std::move(recorder)), background_(std::move(on)) {}

  ~recording_service() noexcept(false) {
    // Completing the file blocks.
    background_->run([recorder = std::move(recorder_)] { recorder->stop(); });
  }

  kj::Promise<void> progress(ProgressContext context) override {
    fill_progress(context.getResults(), recorder_->progress());
    return kj::READY_NOW;
  }

  kj::Promise<void> stop(StopContext context) override {
    return serve<trace_progress>(
      context,
      [this](answer<trace_progress> done) {
        background_->run([recorder = recorder_, done] { done({}, recorder->stop()); });
      },
      [](auto results, const trace_progress& x) { fill_progress(results, x); });
  }

private:
  std::shared_ptr<trace_recorder> recorder_;
  std::shared_ptr<background> background_;
};

} // namespace

background::background()
  : thread_([this] {
      for (std::unique_lock guard{mutex_};;) {
        changed_.wait(guard, [this] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty())
          return;
        auto job = std::move(jobs_.front());
        jobs_.pop_front();
        guard.unlock();
        job();
        job = nullptr;
        guard.lock();
      }
    }) {}

background::~background() {
  {
    std::lock_guard guard{mutex_};
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void background::run(std::function<void()> job) {
  {
    std::lock_guard guard{mutex_};
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
}

kj::Promise<void> node_service::status(StatusContext context) {
  return serve<node_status>(
    context, [this](auto done) { to_.status(std::move(done)); },
    [](auto results, const node_status& x) { to_wire(results.initStatus(), x); });
}

kj::Promise<void> node_service::events(EventsContext context) {
  return serve<std::vector<event>>(
    context, [this, limit = context.getParams().getLimit()](auto done) { to_.events(limit, std::move(done)); },
    [](auto results, const std::vector<event>& x) {
      list_to_wire<wire::Event>(results.initEvents(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> node_service::volumeCreate(VolumeCreateContext context) {
  return serve_change<volume_info>(
    *rights_, context,
    [this, spec = from_wire(context.getParams().getSpec())](auto done) { to_.volume_create(spec, std::move(done)); },
    fill_volume);
}

kj::Promise<void> node_service::volumeList(VolumeListContext context) {
  return serve<std::vector<volume_info>>(
    context, [this](auto done) { to_.volume_list(std::move(done)); },
    [](auto results, const std::vector<volume_info>& x) {
      list_to_wire<wire::Volume>(results.initVolumes(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> node_service::volumeShow(VolumeShowContext context) {
  return serve<volume_info>(
    context,
    [this, volume = std::string{context.getParams().getVolume()}](auto done) {
      to_.volume_show(volume, std::move(done));
    },
    fill_volume);
}

kj::Promise<void> node_service::volumeResize(VolumeResizeContext context) {
  return serve_change<volume_info>(
    *rights_, context,
    [this, volume = std::string{context.getParams().getVolume()},
     size = context.getParams().getSizeBytes()](auto done) { to_.volume_resize(volume, size, std::move(done)); },
    fill_volume);
}

kj::Promise<void> node_service::volumeRemove(VolumeRemoveContext context) {
  return serve_change<nothing>(
    *rights_, context,
    [this, volume = std::string{context.getParams().getVolume()}, confirmed = context.getParams().getConfirmed()](
      auto done) { to_.volume_remove(volume, confirmed, std::move(done)); },
    fill_nothing);
}

kj::Promise<void> node_service::volumeAttach(VolumeAttachContext context) {
  return serve_change<attachment>(
    *rights_, context,
    [this, volume = std::string{context.getParams().getVolume()}, host = std::string{context.getParams().getHost()},
     shared = context.getParams().getShared()](auto done) { to_.volume_attach(volume, host, shared, std::move(done)); },
    [](auto results, const attachment& x) { to_wire(results.initAttachment(), x); });
}

kj::Promise<void> node_service::volumeDetach(VolumeDetachContext context) {
  return serve_change<nothing>(
    *rights_, context,
    [this, volume = std::string{context.getParams().getVolume()}, force = context.getParams().getForce(),
     host = std::string{context.getParams().getHost()}](auto done) {
      to_.volume_detach(volume, force, host, std::move(done));
    },
    fill_nothing);
}

kj::Promise<void> node_service::shardList(ShardListContext context) {
  auto params = context.getParams();
  return serve<shard_rows>(
    context,
    [this, volume = std::string{params.getVolume()}, first = params.getFirst(), limit = params.getLimit()](auto done) {
      to_.shard_list(volume, first, limit, std::move(done));
    },
    [](auto results, const shard_rows& x) {
      list_to_wire<wire::Shard>(results.initShards(static_cast<unsigned>(x.shards.size())), x.shards);
      results.setNext(x.next.value());
    });
}

kj::Promise<void> node_service::shardShow(ShardShowContext context) {
  return serve<shard_row>(
    context,
    [this, volume = std::string{context.getParams().getVolume()}, index = context.getParams().getIndex()](auto done) {
      to_.shard_show(volume, index, std::move(done));
    },
    [](auto results, const shard_row& x) { to_wire(results.initShard(), x); });
}

kj::Promise<void> node_service::shardMove(ShardMoveContext context) {
  auto params = context.getParams();
  return serve_change<std::vector<migration_id>>(
    *rights_, context,
    [this, volume = std::string{params.getVolume()}, first = params.getFirst(), count = params.getCount(),
     tier = std::string{params.getToTier()}](auto done) {
      to_.shard_move(volume, first, count, tier, std::move(done));
    },
    [](auto results, const std::vector<migration_id>& x) {
      auto list = results.initMigrations(static_cast<unsigned>(x.size()));
      for (unsigned i = 0; i < list.size(); ++i)
        list.set(i, x[i].value());
    });
}

kj::Promise<void> node_service::shardVerify(ShardVerifyContext context) {
  return serve_change<uint64_t>(
    *rights_, context,
    [this, volume = std::string{context.getParams().getVolume()}, index = context.getParams().getIndex()](auto done) {
      to_.shard_verify(volume, index, std::move(done));
    },
    [](auto results, uint64_t x) { results.setBadBlocks(x); });
}

kj::Promise<void> node_service::tierList(TierListContext context) {
  return serve<std::vector<tier_row>>(
    context, [this](auto done) { to_.tier_list(std::move(done)); },
    [](auto results, const std::vector<tier_row>& x) {
      list_to_wire<wire::Tier>(results.initTiers(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> node_service::leaseList(LeaseListContext context) {
  return serve<std::vector<lease_info>>(
    context,
    [this, volume = std::string{context.getParams().getVolume()}](auto done) {
      to_.lease_list(volume, std::move(done));
    },
    [](auto results, const std::vector<lease_info>& x) {
      list_to_wire<wire::Lease>(results.initLeases(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> node_service::leaseBreak(LeaseBreakContext context) {
  return serve_change<nothing>(
    *rights_, context,
    [this, volume = std::string{context.getParams().getVolume()}, index = context.getParams().getIndex()](auto done) {
      to_.lease_break(volume, index, std::move(done));
    },
    fill_nothing);
}

kj::Promise<void> node_service::leaseHistory(LeaseHistoryContext context) {
  return serve<lease_history>(
    context,
    [this, after = context.getParams().getAfter(), limit = context.getParams().getLimit()](auto done) {
      to_.lease_history(after, limit, std::move(done));
    },
    [](auto results, const lease_history& x) {
      results.setIncarnation(x.incarnation);
      results.setNewest(x.newest);
      list_to_wire<wire::LeaseEvent>(results.initEvents(static_cast<unsigned>(x.events.size())), x.events);
    });
}

kj::Promise<void> node_service::migrationList(MigrationListContext context) {
  return serve<std::vector<migration_progress>>(
    context, [this](auto done) { to_.migration_list(std::move(done)); },
    [](auto results, const std::vector<migration_progress>& x) {
      list_to_wire<wire::Migration>(results.initMigrations(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> node_service::migrationShow(MigrationShowContext context) {
  return serve<migration_progress>(
    context,
    [this, id = migration_id{context.getParams().getId()}](auto done) { to_.migration_show(id, std::move(done)); },
    fill_migration);
}

kj::Promise<void> node_service::migrationCancel(MigrationCancelContext context) {
  return serve_change<migration_progress>(
    *rights_, context,
    [this, id = migration_id{context.getParams().getId()}](auto done) { to_.migration_cancel(id, std::move(done)); },
    fill_migration);
}

kj::Promise<void> node_service::migrationPause(MigrationPauseContext context) {
  return serve_change<migration_progress>(
    *rights_, context,
    [this, id = migration_id{context.getParams().getId()}](auto done) { to_.migration_pause(id, std::move(done)); },
    fill_migration);
}

kj::Promise<void> node_service::migrationResume(MigrationResumeContext context) {
  return serve_change<migration_progress>(
    *rights_, context,
    [this, id = migration_id{context.getParams().getId()}](auto done) { to_.migration_resume(id, std::move(done)); },
    fill_migration);
}

kj::Promise<void> node_service::nodeList(NodeListContext context) {
  return serve<std::vector<node_condition>>(
    context, [this](auto done) { to_.node_list(std::move(done)); },
    [](auto results, const std::vector<node_condition>& x) {
      list_to_wire<wire::NodeCondition>(results.initNodes(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> node_service::nodeChange(NodeChangeContext context) {
  auto q = context.getParams();
  return serve_change<node_condition>(
    *rights_, context,
    [this, node = std::string{q.getNode()}, cordoned = q.getCordoned(), draining = q.getDraining()](auto done) {
      to_.node_change(node, cordoned, draining, std::move(done));
    },
    [](auto results, const node_condition& x) { to_wire(results.initCondition(), x); });
}

kj::Promise<void> node_service::nodeVerify(NodeVerifyContext context) {
  auto q = context.getParams();
  return serve<node_verdict>(
    context,
    [this, node = std::string{q.getNode()}, remove = q.getRemove()](auto done) {
      to_.node_verify(node, remove, std::move(done));
    },
    [](auto results, const node_verdict& x) { to_wire(results.initVerdict(), x); });
}

kj::Promise<void> node_service::clusterStatus(ClusterStatusContext context) {
  return serve<cluster_view>(
    context, [this](auto done) { to_.cluster_status(std::move(done)); },
    [](auto results, const cluster_view& x) { to_wire(results.initCluster(), x); });
}

kj::Promise<void> node_service::ready(ReadyContext context) {
  return serve<std::string>(
    context,
    [this](answer<std::string> done) {
      const auto& not_ready = to_.outside().not_ready;
      if (!not_ready)
        return done({}, {});
      recordings_->on->run([not_ready, done] { done({}, not_ready()); });
    },
    [](auto results, const std::string& x) { results.setNotReady(x); });
}

kj::Promise<void> node_service::actorList(ActorListContext context) {
  return serve<std::vector<actor_info>>(
    context, [this](auto done) { to_.actor_list(std::move(done)); },
    [](auto results, const std::vector<actor_info>& x) {
      list_to_wire<wire::Actor>(results.initActors(static_cast<unsigned>(x.size())), x);
    });
}

kj::Promise<void> node_service::actorKill(ActorKillContext context) {
  return serve_change<nothing>(
    *rights_, context,
    [this, path = std::string{context.getParams().getPath()}](auto done) { to_.actor_kill(path, std::move(done)); },
    fill_nothing);
}

kj::Promise<void> node_service::traceRecord(TraceRecordContext context) {
  // It writes a file.
  if (rights_->read_only) {
    to_wire(context.getResults().initError(), refused_to_reader());
    return kj::READY_NOW;
  }
  const std::string file{context.getParams().getFile()};
  auto found = ask<volume_record>([this, volume = std::string{context.getParams().getVolume()}](auto done) {
    to_.volume_record_of(volume, std::move(done));
  });
  context.releaseParams();
  return found.then([this, context, file](outcome<volume_record> x) mutable -> kj::Promise<void> {
    auto refuse = [context](caf::error e) mutable -> kj::Promise<void> {
      to_wire(context.getResults().initError(), e);
      return kj::READY_NOW;
    };
    const auto& record = x.value;
    if (x.error)
      return refuse(x.error);
    if (!file.starts_with('/'))
      return refuse(make_error(errc::invalid_argument, "file \"" + file + "\" is no absolute path"));
    if (!plane_)
      return refuse(make_error(errc::unsupported, "this node has no data path"));
    if (!record.attached())
      return refuse(make_error(errc::volume_detached, record.spec.name));
    if (const auto& here = to_.options(); !here.cluster.empty() && !record.at(here.node))
      return refuse(make_error(errc::volume_detached, record.spec.name + " is attached at " +
                                                        record.attachments.front().host + ": ask that node"));
    if (!recordings_->by_volume[record.id.value()].expired())
      return refuse(make_error(errc::already_exists, "volume " + record.spec.name + " is being recorded"));
    auto opened = ask<std::shared_ptr<trace_recorder>>([this, record, file](auto done) {
      recordings_->on->run([plane = plane_, record, file, done] {
        std::string problem;
        const trace_header header{record.spec.name, record.spec.size_bytes, static_cast<uint64_t>(std::time(nullptr))};
        auto recorder = trace_recorder::start(plane, record.id, header, file, {}, problem);
        // Before the recorder is moved: arguments are evaluated in any order.
        auto error = recorder ? caf::error{} : make_error(errc::invalid_argument, problem);
        done(std::move(error), std::move(recorder));
      });
    });
    return opened.then([this, context, id = record.id.value()](outcome<std::shared_ptr<trace_recorder>> y) mutable {
      if (y.error)
        return to_wire(context.getResults().initError(), y.error);
      recordings_->by_volume[id] = y.value;
      context.getResults().setRecording(kj::heap<recording_service>(y.value, recordings_->on));
    });
  });
}

kj::Promise<void> node_service::stop(StopContext context) {
  return serve_change<nothing>(
    *rights_, context, [this](auto done) { to_.stop(std::move(done)); }, fill_nothing);
}

kj::Promise<void> node_service::console(ConsoleContext context) {
  const bool allow_write = context.getParams().getAllowWrite();
  auto results = context.getResults();
  if (allow_write && rights_->read_only) {
    to_wire(results.initError(), refused_to_reader());
    return kj::READY_NOW;
  }
  rights_->read_only = !allow_write;
  auto console = std::make_shared<cluster_console>(to_, cluster_console::asked_by::people);
  results.setConsole(kj::heap<console_service>(console));
  if (allow_write) {
    if (const auto& publish = to_.outside().publish)
      publish("CONSOLE_WRITER", "a console that may act on actors: " + rights_->peer);
    results.setWriter(kj::heap<console_writer_service>(console, rights_));
  }
  return kj::READY_NOW;
}

kj::Promise<void> node_service::catalogBackup(CatalogBackupContext context) {
  const std::string file{context.getParams().getFile()};
  context.releaseParams();
  auto refuse = [context](caf::error e) mutable -> kj::Promise<void> {
    to_wire(context.getResults().initError(), e);
    return kj::READY_NOW;
  };
  if (rights_->read_only)
    return refuse(refused_to_reader());
  if (!file.starts_with('/'))
    return refuse(make_error(errc::invalid_argument, "file \"" + file + "\" is no absolute path"));
  if (::access(file.c_str(), F_OK) == 0)
    return refuse(make_error(errc::already_exists, file));
  // A name of its own: one that a crash left behind is in nobody's way.
  const auto part = file + ".part" + std::to_string(++recordings_->backups) + "." + std::to_string(::getpid());
  auto copied = ask<nothing>([this, part](auto done) { to_.catalog_copy(part, std::move(done)); });
  return copied.then([this, context, refuse, file, part](outcome<nothing> x) mutable -> kj::Promise<void> {
    if (x.error) {
      if (code_of(x.error) != errc::already_exists)
        ::unlink(part.c_str());
      return refuse(x.error);
    }
    auto finished = ask<catalog_backup_info>([this, file, part](auto done) {
      recordings_->on->run([file, part, done] {
        catalog_backup_info info;
        auto error = finish_backup(part, file, info);
        if (error)
          ::unlink(part.c_str());
        done(std::move(error), info);
      });
    });
    return finished.then([context, refuse](outcome<catalog_backup_info> y) mutable -> kj::Promise<void> {
      if (y.error)
        return refuse(y.error);
      to_wire(context.getResults().initBackup(), y.value);
      return kj::READY_NOW;
    });
  });
}

} // namespace varve
