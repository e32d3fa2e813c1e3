#include "runtime/trace/trace_recorder.hpp"

#include <future>

namespace varve {

std::shared_ptr<trace_recorder> trace_recorder::start(std::shared_ptr<data_plane> plane, volume_id volume,
                                                      const trace_header& header, const std::string& path,
                                                      options options, std::string& problem) {
  std::shared_ptr<trace_recorder> x{new trace_recorder{std::move(plane), volume, options}};
  problem = x->writer_.open(path, header);
  if (!problem.empty())
    return nullptr;
  x->queue_->capacity = options.queue_max;
  x->queue_->file_bytes = x->writer_.file_bytes();
  x->thread_ = std::thread{[self = x.get()] { self->run(); }};
  x->plane_->port_counters([queue = x->queue_, volume](const std::map<volume_id, volume_counters>& all) {
    std::lock_guard guard{queue->mutex};
    if (auto at = all.find(volume); at != all.end())
      queue->dropped_before = at->second.observations_dropped;
  });
  x->plane_->observe(volume, [queue = x->queue_](std::vector<io_observation> batch) {
    std::lock_guard guard{queue->mutex};
    const auto room = queue->stopping ? 0 : queue->capacity - queue->waiting.size();
    const auto taken = std::min(room, batch.size());
    queue->waiting.insert(queue->waiting.end(), batch.begin(), batch.begin() + static_cast<ptrdiff_t>(taken));
    queue->records += taken;
    queue->dropped += batch.size() - taken;
  });
  return x;
}

trace_recorder::~trace_recorder() {
  if (thread_.joinable())
    stop();
}

trace_progress trace_recorder::progress() const {
  std::lock_guard guard{queue_->mutex};
  return {queue_->records, queue_->dropped, queue_->file_bytes, queue_->problem};
}

trace_progress trace_recorder::stop() {
  std::call_once(stopped_, [this] {
    plane_->observe(volume_, nullptr);
    // The data plane carries out its calls in order: once it has counted, nothing more comes.
    auto counted = std::make_shared<std::promise<void>>();
    auto done = counted->get_future();
    plane_->port_counters([counted, queue = queue_, volume = volume_](const std::map<volume_id, volume_counters>& all) {
      {
        std::lock_guard guard{queue->mutex};
        if (auto at = all.find(volume); at != all.end() && at->second.observations_dropped > queue->dropped_before)
          queue->dropped += at->second.observations_dropped - queue->dropped_before;
      }
      counted->set_value();
    });
    done.wait_for(std::chrono::seconds{2});
    {
      std::lock_guard guard{queue_->mutex};
      queue_->stopping = true;
    }
    queue_->changed.notify_all();
    thread_.join();
  });
  return progress();
}

void trace_recorder::run() {
  std::vector<io_observation> batch;
  std::vector<trace_record> records;
  boot_time started{0};
  for (bool stopping = false; !stopping;) {
    uint64_t dropped = 0;
    {
      std::unique_lock guard{queue_->mutex};
      queue_->changed.wait_for(guard, options_.write_every, [this] { return queue_->stopping; });
      stopping = queue_->stopping;
      batch.clear();
      batch.swap(queue_->waiting);
      dropped = queue_->dropped - queue_->dropped_told;
      queue_->dropped_told = queue_->dropped;
      if (!queue_->problem.empty())
        continue; // the disk may be full: what comes is counted, no more
    }
    records.clear();
    for (const auto& x : batch) {
      if (started.count() == 0)
        started = x.when;
      const auto at = std::max(boot_time{0}, x.when - started);
      records.push_back(
        {std::chrono::duration_cast<std::chrono::microseconds>(at), static_cast<block_op>(x.op), x.offset, x.length});
    }
    auto problem = writer_.write(records, dropped);
    if (problem.empty() && stopping)
      problem = writer_.sync();
    std::lock_guard guard{queue_->mutex};
    queue_->file_bytes = writer_.file_bytes();
    queue_->problem = problem;
  }
}

} // namespace varve
