#pragma once

#include <deque>
#include <map>
#include <set>
#include <tuple>

#include "runtime/data_plane/data_plane.hpp"

namespace varve {

/// A data plane that keeps what it is told instead of doing it: shards are headers, routes are kept for tests to look
/// at. Answers at once, or when `hold` is on, as `release` is called (in order).
class fake_data_plane : public data_plane {
public:
  using shard_key = std::tuple<std::string, shard_id, generation>;

  // -- for tests -----------------------------------------------------------------------------------------------------

  struct shard_row {
    shard_header header;
    uint64_t allocated_bytes = 0;
    bool active = false;
    uint64_t reads = 0, writes = 0;
    /// What raise_fence answers; errc::none for success.
    errc fence_fails = errc::none;
  };
  struct port_row {
    port_options options;
    std::map<shard_index, route> routes;
    boot_time extended_until{0};
    uint64_t extensions = 0;
  };

  std::map<shard_key, shard_row> shards;
  std::map<volume_id, port_row> ports;
  std::map<volume_id, volume_counters> counters;
  std::map<std::string, device_statistics> devices;
  /// The next call of that name answers so, once: {"create_shard", errc::tier_full}.
  std::map<std::string, errc> fail_next;
  /// Every call's name, in order.
  std::vector<std::string> calls;
  /// What copy_some answers, in order; afterwards nothing is left to copy.
  std::deque<copy_round> rounds;
  /// Moves begun and not ended.
  std::set<migration_id> moves;
  uint64_t copy_budget = 0;
  /// Where the shards of other nodes' tiers are; those not named are here.
  std::map<std::string, fake_data_plane*> elsewhere;
  /// What parked requests were answered.
  std::vector<std::pair<route_need, errc>> refused;

  void hold(bool on) {
    held_ = on;
    if (!on)
      while (release()) {
      }
  }
  bool release() {
    if (waiting_.empty())
      return false;
    auto next = std::move(waiting_.front());
    waiting_.pop_front();
    next();
    return true;
  }
  size_t waiting() const { return waiting_.size(); }
  /// Ports and active shards are gone with the process; durable shards stay (those of `volatile_tiers` do not).
  void crash(const std::set<std::string>& volatile_tiers = {}) {
    waiting_.clear();
    ports.clear();
    moves.clear();
    std::erase_if(shards, [&](auto& x) { return volatile_tiers.count(std::get<0>(x.first)) != 0; });
    for (auto& [key, row] : shards)
      row.active = false;
  }
  /// What the VM would do: ask for routes.
  void need(volume_id volume, shard_index first, uint64_t count, bool write) {
    if (auto at = ports.find(volume); at != ports.end() && at->second.options.on_need)
      at->second.options.on_need({route_need{volume, first, count, write}});
  }
  const route* find_route(volume_id volume, shard_index index) const {
    auto at = ports.find(volume);
    if (at == ports.end())
      return nullptr;
    for (const auto& [first, x] : at->second.routes)
      if (x.first <= index && index.value() < x.first.value() + x.count)
        return &x;
    return nullptr;
  }

  // -- ports ---------------------------------------------------------------------------------------------------------

  void open_port(port_options options, callback<errc> done) override {
    const auto id = options.volume;
    then("open_port", done, [this, id, options = std::move(options)]() mutable {
      ports[id].options = std::move(options);
      return errc::none;
    });
  }
  void close_port(volume_id volume, bool, callback<errc> done) override {
    then("close_port", done, [this, volume] { return ports.erase(volume) ? errc::none : errc::not_found; });
  }
  void resize_port(volume_id volume, uint64_t size_bytes, callback<errc> done) override {
    then("resize_port", done, [this, volume, size_bytes] {
      auto at = ports.find(volume);
      if (at == ports.end())
        return errc::not_found;
      at->second.options.size_bytes = size_bytes;
      return errc::none;
    });
  }
  void set_routes(volume_id volume, std::vector<route> routes) override {
    calls.push_back("set_routes");
    if (auto at = ports.find(volume); at != ports.end())
      for (auto& x : routes)
        at->second.routes[x.first] = x;
  }
  void refuse_needs(volume_id volume, shard_index first, uint64_t count, bool write, errc why) override {
    calls.push_back("refuse_needs");
    refused.push_back({route_need{volume, first, count, write}, why});
  }
  void drop_routes(volume_id volume, shard_index first, uint64_t count, callback<errc> done) override {
    then("drop_routes", done, [this, volume, first, count] {
      if (auto at = ports.find(volume); at != ports.end())
        std::erase_if(at->second.routes, [&](auto& x) {
          return x.second.first.value() < first.value() + count &&
                 first.value() < x.second.first.value() + x.second.count;
        });
      return errc::none;
    });
  }
  void extend_routes(volume_id volume, boot_time valid_until) override {
    calls.push_back("extend_routes");
    if (auto at = ports.find(volume); at != ports.end()) {
      at->second.extended_until = valid_until;
      ++at->second.extensions;
      for (auto& [first, x] : at->second.routes)
        x.valid_until = valid_until;
    }
  }
  void port_counters(callback<std::map<volume_id, volume_counters>> done) override {
    later("port_counters", [this, done] { done(counters); });
  }
  void observe(volume_id, std::function<void(std::vector<io_observation>)>) override { calls.push_back("observe"); }

  // -- shards --------------------------------------------------------------------------------------------------------

  void create_shard(std::string tier, shard_header header, callback<shard_summary> done) override {
    later("create_shard", [this, tier, header, done] {
      const shard_key key{tier, header.id, header.generation};
      if (auto e = failure("create_shard"); e != errc::none)
        return done({e, {}, 0});
      if (shards.count(key))
        return done({errc::already_exists, shards[key].header, shards[key].allocated_bytes});
      shards[key] = {.header = header, .active = true};
      done({errc::none, header, 0});
    });
  }
  void activate_shard(std::string tier, shard_id id, generation of, callback<shard_summary> done) override {
    later("activate_shard", [this, key = shard_key{tier, id, of}, done] {
      if (auto e = failure("activate_shard"); e != errc::none)
        return done({e, {}, 0});
      auto at = shards.find(key);
      if (at == shards.end())
        return done({errc::not_found, {}, 0});
      at->second.active = true;
      done({errc::none, at->second.header, at->second.allocated_bytes});
    });
  }
  void passivate_shard(std::string tier, shard_id id, generation of, callback<errc> done) override {
    then("passivate_shard", done, [this, key = shard_key{tier, id, of}] {
      auto at = shards.find(key);
      if (at == shards.end())
        return errc::not_found;
      at->second.active = false;
      return errc::none;
    });
  }
  void raise_fence(std::string tier, shard_id id, generation of, epoch to, callback<errc> done) override {
    then("raise_fence", done, [this, key = shard_key{tier, id, of}, to] {
      auto at = shards.find(key);
      if (at == shards.end())
        return errc::not_found;
      if (at->second.fence_fails != errc::none)
        return at->second.fence_fails;
      at->second.header.fence = std::max(at->second.header.fence, to);
      return errc::none;
    });
  }
  void remove_shard(std::string tier, shard_id id, generation of, callback<errc> done) override {
    then("remove_shard", done,
         [this, key = shard_key{tier, id, of}] { return shards.erase(key) ? errc::none : errc::not_found; });
  }
  void verify_shard(std::string tier, shard_id id, generation of, callback<errc, uint64_t> done) override {
    later("verify_shard",
          [this, key = shard_key{tier, id, of}, done] { done(shards.count(key) ? errc::none : errc::not_found, 0); });
  }
  void list_active(std::string tier, callback<std::vector<shard_counters>> done) override {
    later("list_active", [this, tier, done] {
      std::vector<shard_counters> result;
      for (const auto& [key, row] : shards)
        if (std::get<0>(key) == tier && row.active) {
          shard_counters x;
          x.id = row.header.id;
          x.reads = row.reads;
          x.writes = row.writes;
          x.allocated_bytes = row.allocated_bytes;
          x.of = row.header.generation;
          x.size = row.header.size;
          x.fence = row.header.fence;
          result.push_back(x);
        }
      done(std::move(result));
    });
  }
  void tier_statistics(callback<std::map<std::string, device_statistics>> done) override {
    later("tier_statistics", [this, done] { done(devices); });
  }

  // -- migration -----------------------------------------------------------------------------------------------------

  void begin_move(move_ends ends, callback<errc> done) override {
    then("begin_move", done, [this, ends] {
      if (!shards.count({ends.from_tier, ends.shard, ends.from}))
        return errc::not_found;
      auto& sink = shards_at(ends.to_tier)[{ends.to_tier, ends.shard, ends.to}];
      sink.header = shards[{ends.from_tier, ends.shard, ends.from}].header;
      sink.header.generation = ends.to;
      sink.header.incomplete = true;
      moves.insert(ends.id);
      return errc::none;
    });
  }
  void copy_some(move_ends ends, uint64_t, callback<copy_round> done) override {
    later("copy_some", [this, ends, done] {
      copy_round round;
      if (auto e = failure("copy_some"); e != errc::none)
        round.status = e;
      else if (!moves.count(ends.id))
        round.status = errc::not_found;
      else if (!rounds.empty()) {
        round = rounds.front();
        rounds.pop_front();
      }
      done(round);
    });
  }
  void switch_move(move_ends ends, callback<switch_result> done) override {
    later("switch_move", [this, ends, done] {
      if (auto e = failure("switch_move"); e != errc::none)
        return done({e, {}, 0});
      auto& source = shards[{ends.from_tier, ends.shard, ends.from}];
      source.header.sealed_by = ends.id;
      source.header.sealed_for = ends.to;
      auto& sink = shards_at(ends.to_tier)[{ends.to_tier, ends.shard, ends.to}];
      sink.header.incomplete = false;
      sink.allocated_bytes = source.allocated_bytes;
      done({errc::none, std::chrono::microseconds{100}, 0});
    });
  }
  void end_move(move_ends ends, bool committed, callback<errc, std::chrono::nanoseconds> done) override {
    later("end_move", [this, ends, committed, done] {
      if (auto e = failure("end_move"); e != errc::none)
        return done(e, std::chrono::nanoseconds{0});
      moves.erase(ends.id);
      if (committed)
        shards.erase({ends.from_tier, ends.shard, ends.from});
      else {
        shards_at(ends.to_tier).erase({ends.to_tier, ends.shard, ends.to});
        if (auto at = shards.find({ends.from_tier, ends.shard, ends.from}); at != shards.end()) {
          at->second.header.sealed_by = {};
          at->second.header.sealed_for = {};
        }
      }
      done(errc::none, std::chrono::microseconds{200});
    });
  }
  void set_copy_budget(uint64_t bytes_per_second) override { copy_budget = bytes_per_second; }

private:
  std::map<shard_key, shard_row>& shards_at(const std::string& tier) {
    auto at = elsewhere.find(tier);
    return at == elsewhere.end() ? shards : at->second->shards;
  }
  errc failure(const std::string& call) {
    auto at = fail_next.find(call);
    if (at == fail_next.end())
      return errc::none;
    const auto result = at->second;
    fail_next.erase(at);
    return result;
  }
  template <class F>
  void later(const char* name, F f) {
    calls.push_back(name);
    if (held_)
      waiting_.push_back(std::move(f));
    else
      f();
  }
  template <class F>
  void then(const char* name, callback<errc> done, F f) {
    later(name, [this, name, done = std::move(done), f = std::move(f)]() mutable {
      auto e = failure(name);
      if (e == errc::none)
        e = f();
      if (done)
        done(e);
    });
  }

  std::deque<std::function<void()>> waiting_;
  bool held_ = false;
};

} // namespace varve
