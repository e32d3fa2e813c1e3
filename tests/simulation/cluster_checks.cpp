#include "tests/simulation/cluster_checks.hpp"

#include <algorithm>
#include <cstdlib>

#include "actors/shard_name.hpp"
#include "runtime/catalog/records.hpp"

namespace varve::test {

class cluster_checks::machine final : public plane_watcher {
public:
  machine(cluster_checks& checks, int number, std::function<boot_time()> now,
          std::function<boot_time(boot_time)> world_at)
    : clock(std::move(now)), world_at_(std::move(world_at)), checks_(checks), number_(number) {}

  /// When its clock showed, or will show, that.
  boot_time world_at(boot_time local) const {
    return world_at_ ? world_at_(local) : checks_.world_.now() + local - clock();
  }

  void routes_set(volume_id volume, const std::vector<route>& routes) override {
    auto& mine = held[volume];
    for (const auto& x : routes) {
      const right made{x, checks_.world_.now(), ++checks_.order_};
      if (!x.exists) {
        mine.runs.push_back(made);
        for (auto i = x.first.value(); i < x.first.value() + std::min<uint64_t>(x.count, 4096); ++i)
          checks_.look(volume, i);
        continue;
      }
      const shard_id id{volume, x.first};
      // Storage has agreed to it, or there would be no grant.
      checks_.agreed(id, x.fence);
      auto& now = mine.shards[x.first.value()];
      if (now.of.writable && !x.writable)
        mine.lowered[x.first.value()] = checks_.world_.now();
      now = made;
      if (x.writable)
        ++checks_.handovers;
      checks_.look(volume, x.first.value());
    }
  }

  void routes_extended(volume_id volume, boot_time valid_until) override {
    auto& mine = held[volume];
    // What was over is dropped by now, and only what has begun by it goes on.
    const auto extend = [&, now = clock()](right& x) {
      if (x.of.valid_until > now)
        x.of.valid_until = std::max(x.of.valid_until, valid_until);
    };
    for (auto& [shard, x] : mine.shards)
      extend(x);
    for (auto& x : mine.runs)
      extend(x);
    for (auto& [shard, x] : mine.shards)
      checks_.look(volume, shard);
  }

  uint64_t drop_began() override { return ++checks_.order_; }

  void routes_dropped(volume_id volume, shard_index first, uint64_t count, uint64_t began) override {
    auto& mine = held[volume];
    const auto begin = first.value(), end = begin + std::min(count, UINT64_MAX - begin);
    const auto now = checks_.world_.now();
    for (auto at = mine.shards.lower_bound(begin); at != mine.shards.end() && at->first < end;)
      at = at->second.order < began ? mine.shards.erase(at) : std::next(at);
    std::vector<right> left;
    for (const auto& x : mine.runs) {
      if (x.order > began) {
        left.push_back(x);
        continue;
      }
      const auto x_begin = x.of.first.value(), x_end = x_begin + x.of.count;
      auto keep = [&](uint64_t from, uint64_t to) {
        if (from >= to)
          return;
        auto part = x;
        part.of.first = shard_index{from};
        part.of.count = to - from;
        left.push_back(part);
      };
      keep(x_begin, std::min(x_end, std::max(begin, x_begin)));
      keep(std::max(x_begin, std::min(end, x_end)), x_end);
    }
    mine.runs = std::move(left);
    for (auto i = begin; i < std::min(end, begin + 4096); ++i)
      mine.dropped[i] = now;
  }

  void port_closed(volume_id volume) override {
    auto& mine = held[volume];
    mine = {};
    mine.all_dropped = checks_.world_.now();
  }

  void shard_activated(const std::string& tier, const shard_header& x) override {
    if (x.incomplete || x.sealed_by.value() != 0)
      return;
    const auto seen = checks_.durable_[{x.id, x.generation}];
    if (x.fence < seen)
      checks_.violated("storage forgot an epoch: shard " + name_of(x.id) + " generation " +
                       std::to_string(x.generation.value()) + " on " + tier + " has " +
                       std::to_string(x.fence.value()) + ", and had agreed to " + std::to_string(seen.value()));
  }

  void fence_raised(const std::string&, shard_id id, generation of, epoch to) override {
    ++checks_.fences_raised;
    auto& known = checks_.durable_[{id, of}];
    known = std::max(known, to);
    checks_.agreed(id, to);
  }

  std::function<boot_time()> clock;
  std::map<volume_id, rights> held;

private:
  std::function<boot_time(boot_time)> world_at_;
  cluster_checks& checks_;
  [[maybe_unused]] int number_;
};

cluster_checks::cluster_checks(simulated_world& world) : world_(world) {}
cluster_checks::~cluster_checks() = default;

plane_watcher& cluster_checks::add(std::function<boot_time()> clock, std::function<boot_time(boot_time)> world_at) {
  machines_.push_back(
    std::make_unique<machine>(*this, static_cast<int>(machines_.size()), std::move(clock), std::move(world_at)));
  return *machines_.back();
}

void cluster_checks::died(int host) {
  auto& x = *machines_[static_cast<size_t>(host)];
  for (auto& [volume, mine] : x.held) {
    mine = {};
    mine.all_dropped = world_.now();
  }
}

void cluster_checks::violated(std::string what) {
  violations.push_back("at " + std::to_string(world_.now() / std::chrono::milliseconds{1}) + " ms: " + what);
}

epoch cluster_checks::highest(shard_id shard) const {
  auto at = raises_.find(shard);
  return at == raises_.end() ? epoch{} : at->second.back().to;
}

void cluster_checks::agreed(shard_id shard, epoch to) {
  auto& x = raises_[shard];
  if (x.empty() || x.back().to < to)
    x.push_back({world_.now(), to});
}

cluster_checks::access cluster_checks::may(int host, volume_id volume, uint64_t shard) const {
  const auto& x = *machines_[static_cast<size_t>(host)];
  auto of = x.held.find(volume);
  if (of == x.held.end())
    return access::none;
  const auto now = x.clock();
  if (auto at = of->second.shards.find(shard); at != of->second.shards.end()) {
    const auto& r = at->second.of;
    if (r.valid_until <= now || r.fence < highest({volume, shard_index{shard}}))
      return access::none;
    return r.writable ? access::write : access::read;
  }
  for (const auto& r : of->second.runs)
    if (r.of.valid_until > now && r.of.first.value() <= shard && shard < r.of.first.value() + r.of.count)
      return access::read;
  return access::none;
}

void cluster_checks::look(volume_id volume, uint64_t shard) {
  int writer = -1;
  for (int i = 0; i < static_cast<int>(machines_.size()); ++i)
    if (may(i, volume, shard) == access::write) {
      if (writer >= 0)
        violated("two writers of shard " + name_of({volume, shard_index{shard}}) + ": machines " +
                 std::to_string(writer) + " and " + std::to_string(i));
      writer = i;
    }
  if (writer < 0)
    return;
  for (int i = 0; i < static_cast<int>(machines_.size()); ++i)
    if (i != writer && may(i, volume, shard) == access::read)
      violated("machine " + std::to_string(i) + " may read shard " + name_of({volume, shard_index{shard}}) +
               " while machine " + std::to_string(writer) + " may write it");
}

void cluster_checks::lease_expired(const std::string& text) {
  // "holder 3, shard 1.2"
  auto number_after = [&](const std::string& what, size_t from) {
    const auto at = text.find(what, from);
    return at == std::string::npos ? uint64_t{0} : std::strtoull(text.c_str() + at + what.size(), nullptr, 10);
  };
  const holder_id holder{number_after("holder ", 0)};
  const volume_id volume{number_after("shard ", 0)};
  const auto shard = number_after(".", text.find("shard "));
  auto of = holders_.find(holder);
  if (of == holders_.end())
    return;
  ++expiries_checked;
  // What storage fences it still cannot use; but it must have stopped by itself, whatever storage does.
  const auto& x = *machines_[static_cast<size_t>(of->second)];
  auto mine = x.held.find(volume);
  if (mine == x.held.end())
    return;
  if (auto at = mine->second.shards.find(shard);
      at != mine->second.shards.end() && at->second.of.valid_until > x.clock())
    violated("the manager ended a lease that its holder still counts on: " + text);
}

void cluster_checks::committed(const catalog_batch& batch) {
  for (const auto& x : batch.changes) {
    if (x.erase || x.key.rfind("shard/", 0) != 0)
      continue;
    shard_home home;
    if (decode(x.key, x.value, home)) {
      violated("the catalog has an unreadable home: " + x.key);
      continue;
    }
    auto& tier = homes_[{home.id, home.of}];
    if (!tier.empty() && tier != home.tier)
      violated("generation " + std::to_string(home.of.value()) + " of shard " + name_of(home.id) +
               " has two homes: " + tier + " and " + home.tier);
    tier = home.tier;
    auto& current = current_[home.id];
    if (home.of < current)
      violated("shard " + name_of(home.id) + " went back to generation " + std::to_string(home.of.value()));
    current = std::max(current, home.of);
  }
}

boot_time cluster_checks::lost_at(int host, shard_id shard, bool write) const {
  if (may(host, shard.volume, shard.index.value()) >= (write ? access::write : access::read))
    return boot_time::max();
  const auto& x = *machines_[static_cast<size_t>(host)];
  auto of = x.held.find(shard.volume);
  if (of == x.held.end())
    return boot_time::max(); // never had any; whoever asks knows better
  const auto& mine = of->second;
  auto result = mine.all_dropped;
  if (auto at = mine.dropped.find(shard.index.value()); at != mine.dropped.end())
    result = std::max(result, at->second);
  // Lowered, it may still be there to read.
  if (auto at = mine.lowered.find(shard.index.value()); write && at != mine.lowered.end())
    result = std::max(result, at->second);
  const auto behind = [&](boot_time local) { return std::min(world_.now(), x.world_at(local)); };
  auto ended = [&](const right& r, bool fenced) {
    if (write && !r.of.writable)
      return;
    auto at = behind(r.of.valid_until);
    if (auto raised = raises_.find(shard); fenced && raised != raises_.end())
      for (const auto& y : raised->second)
        if (y.to > r.of.fence) {
          at = std::min(at, y.at);
          break;
        }
    result = std::max(result, at);
  };
  if (auto at = mine.shards.find(shard.index.value()); at != mine.shards.end())
    ended(at->second, true);
  for (const auto& r : mine.runs)
    if (r.of.first.value() <= shard.index.value() && shard.index.value() < r.of.first.value() + r.of.count)
      ended(r, false);
  return result;
}

void cluster_checks::done(int host, shard_id shard, bool write, boot_time began) {
  const auto lost = lost_at(host, shard, write);
  if (lost < began)
    violated(std::string("a ") + (write ? "write" : "read") + " of shard " + name_of(shard) + " by machine " +
             std::to_string(host) + " was done, begun " +
             std::to_string((began - lost) / std::chrono::microseconds{1}) +
             " us after its right had ended or been fenced");
}

} // namespace varve::test
