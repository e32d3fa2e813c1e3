#include "runtime/monitoring/node_metrics.hpp"

#include <algorithm>
#include <set>

#include "runtime/monitoring/metrics_text.hpp"

namespace varve {

namespace {

constexpr double duration_bounds[] = {0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000};
constexpr double gate_bounds[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1};

double seconds(caf::timespan x) {
  return std::chrono::duration<double>(x).count();
}

template <size_t N>
void note(std::vector<uint64_t>& counts, const double (&bounds)[N], double x) {
  counts.resize(N + 1);
  ++counts[static_cast<size_t>(std::lower_bound(bounds, bounds + N, x) - bounds)];
}

} // namespace

void node_metrics::add_volumes(const node_snapshot& x) {
  // Ports that closed: their last counts are in the totals.
  std::erase_if(last_volumes_, [&](const auto& v) { return !x.counters.contains(v.first); });
  for (const auto& [id, now] : x.counters) {
    auto& last = last_volumes_[id];
    operations_[0].add(now.reads, last.reads);
    operations_[1].add(now.writes, last.writes);
    operations_[2].add(now.flushes, last.flushes);
    operations_[3].add(now.trims, last.trims);
    operations_[4].add(now.zeroes, last.zeroes);
    read_bytes_.add(now.read_bytes, last.read_bytes);
    written_bytes_.add(now.written_bytes, last.written_bytes);
    errors_.add(now.errors, last.errors);
    parked_.add(now.parked, last.parked);
    fenced_stale_.add(now.fenced_stale_epoch, last.fenced_stale_epoch);
    fenced_moved_.add(now.fenced_moved, last.fenced_moved);
    for (size_t i = 0; i < latency_buckets; ++i)
      latency_[i].add(now.latency_us_buckets[i], last.latency_us_buckets[i]);
    latency_sum_us_.add(now.latency_us_sum, last.latency_us_sum);
  }
}

void node_metrics::add_migrations(const node_snapshot& x) {
  std::set<uint64_t> present;
  for (const auto& m : x.migrations) {
    const auto id = m.record.id.value();
    present.insert(id);
    auto& seen = moves_[id];
    if (m.bytes_done > seen.bytes) {
      moved_bytes_[{m.record.from_tier, m.record.to_tier}] += m.bytes_done - seen.bytes;
      seen.bytes = m.bytes_done;
    }
    if (m.verify_failures > seen.verify_failures) {
      verify_failures_ += m.verify_failures - seen.verify_failures;
      seen.verify_failures = m.verify_failures;
    }
    if (m.record.state < migration_state::committed || seen.ended)
      continue;
    seen.ended = true;
    const bool committed = m.record.state == migration_state::committed;
    ++(committed ? committed_ : aborted_);
    const auto took = static_cast<double>(m.record.ended_at - std::min(m.record.ended_at, m.record.started_at));
    note(durations_, duration_bounds, took);
    durations_sum_ += took;
    if (committed) {
      note(gates_, gate_bounds, seconds(m.gate_closed));
      gates_sum_ += seconds(m.gate_closed);
    }
  }
  std::erase_if(moves_, [&](const auto& m) { return !present.contains(m.first); });
}

void node_metrics::add_tiers(const node_snapshot& x) {
  for (const auto& t : x.tiers) {
    auto& of = tiers_[t.name];
    of.reads.add(t.reads, of.last.reads);
    of.writes.add(t.writes, of.last.writes);
    of.syncs.add(t.syncs, of.last.syncs);
    of.read_bytes.add(t.read_bytes, of.last.read_bytes);
    of.written_bytes.add(t.written_bytes, of.last.written_bytes);
    of.mismatches.add(t.checksum_mismatches, of.last.checksum_mismatches);
  }
}

std::string node_metrics::render(const node_snapshot& x) {
  add_volumes(x);
  add_migrations(x);
  add_tiers(x);
  metrics_text m;

  m.gauge("varve_build_info", "The version that runs; the value is always 1.");
  m.sample(uint64_t{1}, {{"version", x.version}});
  m.gauge("varve_health_status", "1 for each finding of the node's health, and for code OK when there is none.");
  if (!x.status)
    m.sample(uint64_t{1}, {{"code", "UNKNOWN"}});
  else if (x.status->findings.empty())
    m.sample(uint64_t{1}, {{"code", "OK"}});
  else {
    std::set<std::string> codes;
    for (const auto& f : x.status->findings)
      if (codes.insert(f.code).second)
        m.sample(uint64_t{1}, {{"code", f.code}});
  }
  if (x.status) {
    m.gauge("varve_uptime_seconds", "Since the node started.");
    m.sample(seconds(x.status->up_time));
    m.gauge("varve_manager_incarnation", "The upper half of every epoch; rises with each start.");
    m.sample(x.status->manager_incarnation);
  }

  if (x.volumes) {
    uint64_t sizes = 0, allocated = 0, attached = 0, unknown = 0;
    for (const auto& v : *x.volumes) {
      sizes += v.record.spec.size_bytes;
      attached += v.record.attached();
      if (v.contents_known)
        allocated += v.allocated_bytes;
      else
        ++unknown;
    }
    const uint64_t count = x.volumes->size();
    m.gauge("varve_volumes", "Volumes by whether they are attached.");
    m.sample(attached, {{"state", "attached"}});
    m.sample(count - attached, {{"state", "detached"}});
    m.gauge("varve_volume_size_bytes", "Sizes of all volumes together.");
    m.sample(sizes);
    if (count == 0 || unknown < count) {
      m.gauge("varve_volume_allocated_bytes",
              "What the volumes together take, without those of varve_volume_contents_unknown.");
      m.sample(allocated);
    }
    m.gauge("varve_volume_contents_unknown", "Volumes of which not every tier says what they take.");
    m.sample(unknown);
  }
  m.counter("varve_volume_io_operations_total", "Requests of VMs.");
  constexpr const char* names[] = {"read", "write", "flush", "trim", "write_zeroes"};
  for (size_t i = 0; i < operations; ++i)
    m.sample(operations_[i].sum(), {{"op", names[i]}});
  m.counter("varve_volume_io_errors_total", "Requests of VMs that were answered with an error.");
  m.sample(errors_.sum());
  m.counter("varve_volume_io_bytes_total", "Bytes that VMs read and wrote.");
  m.sample(read_bytes_.sum(), {{"op", "read"}});
  m.sample(written_bytes_.sum(), {{"op", "write"}});
  m.histogram("varve_volume_io_duration_seconds", "From a request's arrival to its answer.");
  double bounds[latency_buckets - 1];
  uint64_t counts[latency_buckets];
  for (size_t i = 0; i < latency_buckets; ++i) {
    if (i + 1 < latency_buckets)
      bounds[i] = static_cast<double>(uint64_t{1} << i) / 1e6;
    counts[i] = latency_[i].sum();
  }
  m.buckets(bounds, counts, static_cast<double>(latency_sum_us_.sum()) / 1e6);
  m.counter("varve_volume_io_parked_total", "Requests that waited for a lease.");
  m.sample(parked_.sum());
  uint64_t parked_now = 0, connections = 0;
  for (const auto& [id, c] : x.counters) {
    parked_now += c.parked_now;
    connections += c.connections;
  }
  m.gauge("varve_volume_io_parked", "Requests that wait for a lease now.");
  m.sample(parked_now);
  m.gauge("varve_nbd_connections", "Clients of NBD.");
  m.sample(connections);
  m.counter("varve_fenced_requests_total", "Requests that storage refused and that were tried again with a new route.");
  m.sample(fenced_stale_.sum(), {{"reason", "stale_epoch"}});
  m.sample(fenced_moved_.sum(), {{"reason", "shard_moved"}});

  auto of_tiers = [&](auto value) {
    for (const auto& t : x.tiers)
      m.sample(value(t), {{"tier", t.name}});
  };
  m.gauge("varve_tier_up", "1 when the tier works.");
  of_tiers([](const tier_info& t) { return uint64_t{t.state == "up"}; });
  m.gauge("varve_tier_capacity_bytes", "What the tier may hold.");
  of_tiers([](const tier_info& t) { return t.capacity_bytes; });
  m.gauge("varve_tier_used_bytes", "What its shards take, and what moves under way were promised.");
  of_tiers([](const tier_info& t) { return t.used_bytes; });
  m.gauge("varve_tier_latency_seconds", "Decayed mean of the device.");
  for (const auto& t : x.tiers) {
    m.sample(seconds(t.read_latency), {{"tier", t.name}, {"op", "read"}});
    m.sample(seconds(t.write_latency), {{"tier", t.name}, {"op", "write"}});
    m.sample(seconds(t.sync_latency), {{"tier", t.name}, {"op", "sync"}});
  }
  m.counter("varve_tier_operations_total", "Operations of the device.");
  for (const auto& [name, t] : tiers_) {
    m.sample(t.reads.sum(), {{"tier", name}, {"op", "read"}});
    m.sample(t.writes.sum(), {{"tier", name}, {"op", "write"}});
    m.sample(t.syncs.sum(), {{"tier", name}, {"op", "sync"}});
  }
  m.counter("varve_tier_io_bytes_total", "Bytes that the device read and wrote.");
  for (const auto& [name, t] : tiers_) {
    m.sample(t.read_bytes.sum(), {{"tier", name}, {"op", "read"}});
    m.sample(t.written_bytes.sum(), {{"tier", name}, {"op", "write"}});
  }
  m.counter("varve_checksum_mismatches_total", "Blocks that were not what was written.");
  for (const auto& [name, t] : tiers_)
    m.sample(t.mismatches.sum(), {{"tier", name}});
  m.gauge("varve_shards", "Shards by tier; active ones are open.");
  for (const auto& t : x.tiers) {
    m.sample(t.active_shards, {{"tier", t.name}, {"state", "active"}});
    m.sample(t.shards - std::min(t.shards, t.active_shards), {{"tier", t.name}, {"state", "idle"}});
  }

  std::map<std::pair<std::string, std::string>, uint64_t> leases;
  for (const auto* kind : {"read", "write", "migration"})
    leases[{kind, "granted"}] = 0;
  for (const auto& l : x.leases)
    ++leases[{to_string(l.grant.mode), l.state}];
  m.gauge("varve_leases", "Leases by kind and state.");
  for (const auto& [key, count] : leases)
    m.sample(count, {{"kind", key.first}, {"state", key.second}});

  uint64_t states[4] = {};
  double eta = 0;
  for (const auto& mig : x.migrations)
    if (mig.record.state < migration_state::committed) {
      ++states[static_cast<size_t>(mig.record.state)];
      eta = std::max(eta, seconds(mig.remaining));
    }
  m.gauge("varve_migrations", "Migrations under way.");
  for (size_t i = 0; i < 4; ++i)
    m.sample(states[i], {{"state", to_string(static_cast<migration_state>(i))}});
  m.counter("varve_migrations_total", "Migrations that ended.");
  m.sample(committed_, {{"result", "committed"}});
  m.sample(aborted_, {{"result", "aborted"}});
  m.counter("varve_migration_bytes_total", "Bytes that migrations copied.");
  for (const auto& [tiers, bytes] : moved_bytes_)
    m.sample(bytes, {{"from", tiers.first}, {"to", tiers.second}});
  m.histogram("varve_migration_duration_seconds", "From a migration's start to its end.");
  durations_.resize(std::size(duration_bounds) + 1);
  m.buckets(duration_bounds, durations_, durations_sum_);
  m.histogram("varve_migration_gate_closed_seconds", "How long I/O of a shard waited for its switch.");
  gates_.resize(std::size(gate_bounds) + 1);
  m.buckets(gate_bounds, gates_, gates_sum_);
  m.counter("varve_migration_verify_failures_total", "Blocks that did not arrive as they were sent.");
  m.sample(verify_failures_);
  m.gauge("varve_migration_eta_seconds",
          "Until the last migration under way ends, by the present rates; 0 when unknown.");
  m.sample(eta);

  std::map<std::string, uint64_t> alive;
  for (const auto& a : x.actors) {
    alive[a.type] += a.alive;
    restarts_[a.type].add(a.restarts, last_restarts_[a.path]);
  }
  std::erase_if(last_restarts_, [&](const auto& r) {
    return std::none_of(x.actors.begin(), x.actors.end(), [&](const auto& a) { return a.path == r.first; });
  });
  m.gauge("varve_actors", "Actors that are alive.");
  for (const auto& [type, count] : alive)
    m.sample(count, {{"type", type}});
  m.counter("varve_actor_restarts_total", "Actors that died and were started again.");
  for (const auto& [type, count] : restarts_)
    m.sample(count.sum(), {{"type", type}});
  m.gauge("varve_rpc_connections", "Clients of the RPC.");
  m.sample(x.rpc_connections);
  render_cluster(m, x);
  return m.text();
}

void node_metrics::render_cluster(metrics_text& m, const node_snapshot& x) {
  if (!x.members.empty()) {
    std::map<std::string, uint64_t> states;
    for (auto state : {member_state::unknown, member_state::up, member_state::suspect, member_state::down})
      states[to_string(state)] = 0;
    for (const auto& node : x.members)
      ++states[to_string(node.state)];
    m.gauge("varve_cluster_nodes", "Nodes by state, as this manager hears them.");
    for (const auto& [state, count] : states)
      m.sample(count, {{"state", state}});
  }
  if (!x.remote)
    return;
  const auto& r = *x.remote;
  m.gauge("varve_remote_sessions", "Open sessions of the data path: of other nodes here, and of this one elsewhere.");
  m.sample(r.served_sessions_now, {{"side", "server"}});
  m.sample(r.sessions_now, {{"side", "client"}});
  m.counter("varve_remote_sessions_total", "Sessions that were opened.");
  m.sample(r.served_sessions, {{"side", "server"}});
  m.sample(r.sessions, {{"side", "client"}});
  m.counter("varve_remote_sessions_refused_total", "Sessions that were not: key, version, an old one, too many.");
  m.sample(r.refused_sessions);
  m.counter("varve_remote_requests_total", "Requests for shards of another node.");
  m.sample(r.served_requests, {{"side", "server"}});
  m.sample(r.requests, {{"side", "client"}});
  m.gauge("varve_remote_requests", "Requests of this node that others have not answered yet.");
  m.sample(r.requests_now);
  m.counter("varve_remote_bytes_total", "Bytes of shards of another node.");
  m.sample(r.served_read_bytes, {{"side", "server"}, {"op", "read"}});
  m.sample(r.served_written_bytes, {{"side", "server"}, {"op", "write"}});
  m.sample(r.read_bytes, {{"side", "client"}, {"op", "read"}});
  m.sample(r.written_bytes, {{"side", "client"}, {"op", "write"}});
  m.counter("varve_remote_refused_total", "Requests that this node's storage refused to others.");
  m.sample(r.refused_stale_epoch, {{"reason", "stale_epoch"}});
  m.sample(r.refused_moved, {{"reason", "shard_moved"}});
  m.counter("varve_remote_faults_total", "What went wrong between nodes and was tried again, or ended a session.");
  m.sample(r.sent_again, {{"kind", "sent_again"}});
  m.sample(r.timed_out, {{"kind", "timed_out"}});
  m.sample(r.broken_payloads, {{"kind", "broken_payload"}});
  m.sample(r.protocol_errors, {{"kind", "protocol"}});
  m.gauge("varve_remote_open_shards", "Shards of other nodes that are open here.");
  m.sample(r.open_shards_now);
  m.counter("varve_remote_lost_shards_total", "Of these, what may have lost acknowledged writes: FLUSH failed.");
  m.sample(r.lost_shards);
  m.counter("varve_remote_unnoted_shards_total", "Unflushed shards that could not be noted for the next process.");
  m.sample(r.unnoted_shards);
}

} // namespace varve
