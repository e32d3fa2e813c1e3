#include "runtime/data_plane/reactor_data_plane.hpp"

#include <atomic>
#include <cstring>
#include <future>

#include <fcntl.h>
#include <unistd.h>

#include "messages/errors.hpp"
#include "runtime/storage/file_store.hpp"

namespace varve {

namespace {

/// The key of a shard in a named tier; false when there is no such tier.
bool key_of(reactor_core& core, const std::string& tier, shard_id id, generation of, shard_key& key) {
  const auto index = core.shards().tier_of(tier);
  if (index < 0)
    return false;
  key = {static_cast<uint16_t>(index), id, of};
  return true;
}

shard_summary summary_of(errc status, active_shard* x) {
  shard_summary out;
  out.status = status;
  if (x) {
    out.header = *x->header;
    out.allocated_bytes = x->shard->allocated_bytes();
  }
  return out;
}

// Coroutines take everything by value: the call that starts them is over when they go on.

task<void> run_open(reactor_core& core, port_options options, data_plane::callback<errc> done) {
  auto status = co_await core.open_port(std::move(options));
  done(status);
}

task<void> run_close(reactor_core& core, volume_id volume, bool force, data_plane::callback<errc> done) {
  auto status = co_await core.close_port(volume, force);
  done(status);
}

task<void> run_drop(reactor_core& core, volume_id volume, shard_index first, uint64_t count,
                    data_plane::callback<errc> done) {
  if (auto* port = core.port(volume))
    co_await port->drop_routes(first, count);
  done(errc::none);
}

task<void> run_create(reactor_core& core, std::string tier, shard_header header,
                      data_plane::callback<shard_summary> done) {
  shard_key key;
  active_shard* x = nullptr;
  auto status = errc::not_found;
  if (key_of(core, tier, header.id, header.generation, key))
    status = co_await core.shards().create(key.tier, header, x);
  done(summary_of(status, x));
}

task<void> run_activate(reactor_core& core, std::string tier, shard_id id, generation of,
                        data_plane::callback<shard_summary> done) {
  shard_key key;
  active_shard* x = nullptr;
  auto status = errc::not_found;
  if (key_of(core, tier, id, of, key))
    status = co_await core.shards().activate(key, x);
  done(summary_of(status, x));
}

task<void> run_passivate(reactor_core& core, std::string tier, shard_id id, generation of,
                         data_plane::callback<errc> done) {
  shard_key key;
  auto status = errc::not_found;
  if (key_of(core, tier, id, of, key))
    status = co_await core.shards().passivate(key);
  done(status);
}

task<void> run_raise(reactor_core& core, std::string tier, shard_id id, generation of, epoch to,
                     data_plane::callback<errc> done) {
  shard_key key;
  auto status = errc::not_found;
  if (key_of(core, tier, id, of, key))
    status = co_await core.shards().raise_fence(key, to);
  done(status);
}

task<void> run_remove(reactor_core& core, std::string tier, shard_id id, generation of,
                      data_plane::callback<errc> done) {
  shard_key key;
  auto status = errc::not_found;
  if (key_of(core, tier, id, of, key))
    status = co_await core.shards().remove(key);
  done(status);
}

task<void> run_verify(reactor_core& core, std::string tier, shard_id id, generation of,
                      data_plane::callback<errc, uint64_t> done) {
  shard_key key;
  auto status = errc::not_found;
  uint64_t bad_blocks = 0;
  if (key_of(core, tier, id, of, key))
    status = co_await core.shards().verify(key, bad_blocks);
  done(status, bad_blocks);
}

task<void> run_begin(reactor_core& core, move_ends ends, data_plane::callback<errc> done) {
  auto status = co_await core.moves().begin(ends);
  done(status);
}

task<void> run_copy(reactor_core& core, move_ends ends, uint64_t bytes_max, data_plane::callback<copy_round> done) {
  auto round = co_await core.moves().copy(ends, bytes_max);
  done(round);
}

task<void> run_switch(reactor_core& core, move_ends ends, data_plane::callback<switch_result> done) {
  auto result = co_await core.moves().switch_over(ends);
  done(result);
}

task<void> run_end(reactor_core& core, move_ends ends, bool committed,
                   data_plane::callback<errc, std::chrono::nanoseconds> done) {
  std::chrono::nanoseconds closed{0};
  auto status = co_await core.moves().end(ends, committed, closed);
  done(status, closed);
}

task<void> run_stop(reactor_core& core, boot_time deadline, data_plane::callback<errc> done) {
  auto status = co_await core.stop(deadline);
  done(status);
}

/// Makes what a killed predecessor acknowledged durable, before anybody can ask for a FLUSH: that covers shards which
/// nobody has opened yet.
bool sync_folder_tree(const std::string& directory, std::string& problem) {
  auto fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const auto ok = fd >= 0 && ::syncfs(fd) == 0;
  if (!ok)
    problem = directory + ": " + std::strerror(errno);
  if (fd >= 0)
    ::close(fd);
  return ok;
}

} // namespace

std::unique_ptr<reactor_data_plane> reactor_data_plane::make(data_plane_options options, std::string& problem) {
  for (auto& tier : options.tiers)
    if (tier.kind == tier_kind::file &&
        !(sync_folder_tree(tier.directory, problem) && sweep_unfinished_shards(tier.directory, problem)))
      return nullptr;
  std::vector<std::unique_ptr<varve::ring>> rings;
  std::string refusal;
  for (uint32_t i = 0; i < std::max(options.reactors, 1u); ++i) {
    auto made = make_ring(options.ring);
    if (!made.ring) {
      problem = made.refusal;
      return nullptr;
    }
    if (!made.refusal.empty())
      refusal = made.refusal;
    rings.push_back(std::move(made.ring));
  }
  std::unique_ptr<reactor_data_plane> result{new reactor_data_plane{std::move(options), std::move(rings)}};
  result->ring_refusal_ = refusal;
  return result;
}

reactor_data_plane::reactor_data_plane(data_plane_options options, std::vector<std::unique_ptr<varve::ring>> rings)
  : options_(std::move(options)), rings_(std::move(rings)) {
  std::vector<reactor*> on;
  for (auto& x : rings_)
    on.push_back(reactors_.emplace_back(std::make_unique<reactor>(*x)).get());
  make_cores(on);
  for (size_t i = 0; i < on.size(); ++i)
    threads_.emplace_back([this, i] { run(i); });
}

reactor_data_plane::reactor_data_plane(data_plane_options options, const std::vector<reactor*>& on)
  : options_(std::move(options)) {
  make_cores(on);
}

void reactor_data_plane::make_cores(const std::vector<reactor*>& on) {
  budget_.set(options_.copy_bytes_per_second);
  for (uint32_t i = 0; i < on.size(); ++i) {
    auto* x = on[i];
    std::vector<std::unique_ptr<shard_store>> stores;
    for (auto& tier : options_.tiers) {
      if (options_.make_store)
        stores.push_back(options_.make_store(*x, tier));
      else
        stores.push_back(tier.kind == tier_kind::memory ? make_memory_store(*x, tier) : make_file_store(*x, tier));
    }
    auto peers = options_.make_peers ? options_.make_peers(*x, i) : nullptr;
    if (peers)
      for (auto& store : peers->make_stores())
        stores.push_back(std::move(store));
    auto carrier = options_.make_fabric ? options_.make_fabric(*x) : std::make_unique<local_fabric>();
    cores_.push_back(std::make_unique<reactor_core>(*x, std::move(stores), std::move(carrier), budget_, options_.nbd,
                                                    options_.moves, std::move(peers)));
  }
}

reactor_data_plane::~reactor_data_plane() {
  if (threads_.empty())
    return;
  // Shared: a reactor that a hung device keeps busy may answer when nobody waits any more.
  auto stopped = std::make_shared<std::promise<void>>();
  auto over = stopped->get_future();
  stop([stopped](errc) { stopped->set_value(); });
  const auto in_time = over.wait_for(options_.stop_time + std::chrono::seconds{1}) == std::future_status::ready;
  abandon_ = !in_time;
  for (auto& x : reactors_)
    x->stop();
  for (auto& x : threads_)
    x.join();
  if (in_time)
    return;
  // The hung device may still write into what these own.
  for (auto& x : cores_)
    x.release();
  for (auto& x : reactors_)
    x.release();
  for (auto& x : rings_)
    x.release();
}

void reactor_data_plane::run(size_t index) {
  auto& on = *reactors_[index];
  on.run();
  if (abandon_)
    return;
  // Here, since a ring belongs to its thread: what the stores close and cancel as they end is waited for.
  cores_[index].reset();
  for (int rounds = 0; rounds < 100 && on.step(on.now() + std::chrono::milliseconds{1}); ++rounds) {
  }
}

void reactor_data_plane::stop(callback<errc> done) {
  struct gathered {
    std::atomic<size_t> left;
    std::atomic<errc> status{errc::none};
    callback<errc> done;
  };
  auto all = std::make_shared<gathered>();
  all->left = cores_.size();
  all->done = std::move(done);
  for (auto& core : cores_)
    core->on().post([all, &core = *core, limit = options_.stop_time] {
      start(run_stop(core, core.on().now() + limit, [all](errc status) {
        if (status != errc::none)
          all->status = status;
        if (--all->left == 0)
          all->done(all->status);
      }));
    });
}

uint32_t reactor_data_plane::reactor_of(volume_id volume) {
  std::lock_guard guard{mutex_};
  return pins_.try_emplace(volume, static_cast<uint32_t>(volume.value() % cores_.size())).first->second;
}

block_backend* reactor_data_plane::backend(volume_id volume) {
  return cores_[reactor_of(volume)]->port(volume);
}

void reactor_data_plane::on_core_of(volume_id volume, std::function<void(reactor_core&)> f) {
  auto& core = *cores_[reactor_of(volume)];
  core.on().post([&core, f = std::move(f)] { f(core); });
}

template <class T>
void reactor_data_plane::on_all(std::function<void(reactor_core&, T&)> each, callback<T> done) {
  struct gathered {
    std::mutex mutex;
    T made;
    size_t left;
  };
  auto all = std::make_shared<gathered>();
  all->left = cores_.size();
  for (auto& core : cores_)
    core->on().post([all, &core = *core, each, done] {
      std::unique_lock guard{all->mutex};
      each(core, all->made);
      if (--all->left > 0)
        return;
      guard.unlock();
      done(std::move(all->made));
    });
}

void reactor_data_plane::open_port(port_options options, callback<errc> done) {
  if (!options_.make_peers) {
    std::lock_guard guard{mutex_};
    pins_.try_emplace(options.volume, options.reactor % static_cast<uint32_t>(cores_.size()));
  }
  on_core_of(options.volume, [options, done](reactor_core& core) { start(run_open(core, options, done)); });
}

void reactor_data_plane::close_port(volume_id volume, bool force, callback<errc> done) {
  on_core_of(volume, [=](reactor_core& core) { start(run_close(core, volume, force, done)); });
}

void reactor_data_plane::resize_port(volume_id volume, uint64_t size_bytes, callback<errc> done) {
  on_core_of(volume, [=](reactor_core& core) {
    auto* port = core.port(volume);
    if (port && size_bytes <= volume_size_max)
      port->resize(size_bytes);
    done(!port ? errc::not_found : size_bytes <= volume_size_max ? errc::none : errc::invalid_argument);
  });
}

void reactor_data_plane::set_routes(volume_id volume, std::vector<route> routes) {
  if (!options_.routes_end)
    for (auto& x : routes)
      x.valid_until = boot_time::max();
  on_core_of(volume, [volume, routes = std::move(routes)](reactor_core& core) {
    if (auto* port = core.port(volume))
      port->set_routes(routes);
  });
}

void reactor_data_plane::refuse_needs(volume_id volume, shard_index first, uint64_t count, bool write, errc why) {
  on_core_of(volume, [=](reactor_core& core) {
    if (auto* port = core.port(volume))
      port->refuse_needs(first, count, write, why);
  });
}

void reactor_data_plane::drop_routes(volume_id volume, shard_index first, uint64_t count, callback<errc> done) {
  on_core_of(volume, [=](reactor_core& core) { start(run_drop(core, volume, first, count, done)); });
}

void reactor_data_plane::extend_routes(volume_id volume, boot_time valid_until) {
  on_core_of(volume, [=](reactor_core& core) {
    if (auto* port = core.port(volume))
      port->extend_routes(valid_until);
  });
}

void reactor_data_plane::port_counters(callback<std::map<volume_id, volume_counters>> done) {
  on_all<std::map<volume_id, volume_counters>>([](reactor_core& core, auto& into) { core.counters(into); },
                                               std::move(done));
}

void reactor_data_plane::observe(volume_id volume, std::function<void(std::vector<io_observation>)> sink) {
  on_core_of(volume, [volume, sink = std::move(sink)](reactor_core& core) {
    if (auto* port = core.port(volume))
      port->observe(sink);
  });
}

void reactor_data_plane::create_shard(std::string tier, shard_header header, callback<shard_summary> done) {
  on_core_of(header.id.volume, [=](reactor_core& core) { start(run_create(core, tier, header, done)); });
}

void reactor_data_plane::activate_shard(std::string tier, shard_id id, generation of, callback<shard_summary> done) {
  on_core_of(id.volume, [=](reactor_core& core) { start(run_activate(core, tier, id, of, done)); });
}

void reactor_data_plane::passivate_shard(std::string tier, shard_id id, generation of, callback<errc> done) {
  on_core_of(id.volume, [=](reactor_core& core) { start(run_passivate(core, tier, id, of, done)); });
}

void reactor_data_plane::raise_fence(std::string tier, shard_id id, generation of, epoch to, callback<errc> done) {
  on_core_of(id.volume, [=](reactor_core& core) { start(run_raise(core, tier, id, of, to, done)); });
}

void reactor_data_plane::remove_shard(std::string tier, shard_id id, generation of, callback<errc> done) {
  on_core_of(id.volume, [=](reactor_core& core) { start(run_remove(core, tier, id, of, done)); });
}

void reactor_data_plane::verify_shard(std::string tier, shard_id id, generation of, callback<errc, uint64_t> done) {
  on_core_of(id.volume, [=](reactor_core& core) { start(run_verify(core, tier, id, of, done)); });
}

void reactor_data_plane::list_active(std::string tier, callback<std::vector<shard_counters>> done) {
  on_all<std::vector<shard_counters>>(
    [tier = std::move(tier)](reactor_core& core, auto& into) {
      const auto index = core.shards().tier_of(tier);
      core.shards().for_each([&](active_shard& x) {
        if (x.key.tier != index || x.header->incomplete)
          return;
        shard_counters out;
        out.id = x.key.id;
        out.reads = x.reads;
        out.writes = x.writes;
        out.read_bytes = x.read_bytes;
        out.written_bytes = x.written_bytes;
        out.allocated_bytes = x.shard->allocated_bytes();
        out.dirty = x.shard->dirty();
        out.of = x.key.generation;
        out.size = x.header->size;
        out.fence = x.header->fence;
        into.push_back(out);
      });
    },
    std::move(done));
}

void reactor_data_plane::tier_statistics(callback<std::map<std::string, device_statistics>> done) {
  on_all<std::map<std::string, device_statistics>>(
    [](reactor_core& core, auto& into) {
      for (size_t i = 0; i < core.shards().tiers(); ++i) {
        auto& store = core.shards().store(static_cast<uint16_t>(i));
        const auto mine = store.statistics();
        auto& sum = into[store.options().name];
        // Means are weighed by what they are means of; rates add up.
        auto mean = [](auto a, uint64_t na, auto b, uint64_t nb) {
          return na + nb == 0 ? a
                              : std::chrono::nanoseconds{
                                  static_cast<int64_t>((static_cast<double>(a.count()) * static_cast<double>(na) +
                                                        static_cast<double>(b.count()) * static_cast<double>(nb)) /
                                                       static_cast<double>(na + nb))};
        };
        sum.read_latency_mean = mean(sum.read_latency_mean, sum.reads, mine.read_latency_mean, mine.reads);
        sum.write_latency_mean = mean(sum.write_latency_mean, sum.writes, mine.write_latency_mean, mine.writes);
        sum.sync_latency_mean = mean(sum.sync_latency_mean, sum.syncs, mine.sync_latency_mean, mine.syncs);
        sum.reads += mine.reads;
        sum.writes += mine.writes;
        sum.syncs += mine.syncs;
        sum.read_bytes += mine.read_bytes;
        sum.written_bytes += mine.written_bytes;
        sum.read_bytes_per_second += mine.read_bytes_per_second;
        sum.written_bytes_per_second += mine.written_bytes_per_second;
        sum.checksum_mismatches += mine.checksum_mismatches;
      }
    },
    std::move(done));
}

void reactor_data_plane::begin_move(move_ends ends, callback<errc> done) {
  on_core_of(ends.shard.volume, [=](reactor_core& core) { start(run_begin(core, ends, done)); });
}

void reactor_data_plane::copy_some(move_ends ends, uint64_t bytes_max, callback<copy_round> done) {
  on_core_of(ends.shard.volume, [=](reactor_core& core) { start(run_copy(core, ends, bytes_max, done)); });
}

void reactor_data_plane::switch_move(move_ends ends, callback<switch_result> done) {
  on_core_of(ends.shard.volume, [=](reactor_core& core) { start(run_switch(core, ends, done)); });
}

void reactor_data_plane::end_move(move_ends ends, bool committed, callback<errc, std::chrono::nanoseconds> done) {
  on_core_of(ends.shard.volume, [=](reactor_core& core) { start(run_end(core, ends, committed, done)); });
}

void reactor_data_plane::set_copy_budget(uint64_t bytes_per_second) {
  budget_.set(bytes_per_second);
}

std::unique_ptr<data_plane> make_data_plane(data_plane_options options, std::string& problem) {
  return reactor_data_plane::make(std::move(options), problem);
}

} // namespace varve
