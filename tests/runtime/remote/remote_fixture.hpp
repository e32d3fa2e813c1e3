#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include "rdma/checksum.hpp"

#include "runtime/remote/remote_client.hpp"
#include "runtime/remote/remote_server.hpp"
#include "runtime/remote/remote_shard.hpp"
#include "tests/runtime/remote/simulated_wire.hpp"
#include "tests/runtime/storage/storage_fixture.hpp"

namespace varve::test {

using namespace std::chrono_literals;

struct key_table final : session_keys {
  std::map<uint64_t, session_key> known;
  const session_key* find(uint64_t id) override {
    auto at = known.find(id);
    return at == known.end() ? nullptr : &at->second;
  }
};

/// A server's side: its tiers "files" (on a disk of its own) and "memory", its shard table, the server.
struct served_shards final : shard_watcher {
  served_shards(reactor& on, const std::string& folder, session_keys& keys, remote_server_options options) {
    std::vector<std::unique_ptr<shard_store>> stores;
    shard_store_options x;
    x.name = "files";
    x.kind = tier_kind::file;
    x.directory = folder;
    x.io = file_io::buffered;
    stores.push_back(make_file_store(on, x));
    x = {};
    x.name = "memory";
    stores.push_back(make_memory_store(on, x));
    shards = std::make_unique<shard_table>(on, std::move(stores), *this);
    server = std::make_unique<remote_server>(on, *shards, load, keys, std::move(options));
  }
  void retry(const shard_key& key) override {
    if (server)
      server->retry(key);
  }
  void forget(active_shard&, bool) override {}

  foreground_load load;
  std::unique_ptr<shard_table> shards;
  std::unique_ptr<remote_server> server; // below the table: ends first
};

/// A client on one simulated machine, a server on another, a wire between them.
struct remote_fixture : simulated_machine {
  static constexpr uint64_t shard_size = shard_size_min;

  explicit remote_fixture(uint64_t seed = 1)
    : simulated_machine(seed), server_disk(world), wire(world, network, "front", "back") {
    server_disk.make_folder("/s");
    keys.known[7] = make_key(7, 1001);
    server_options.boot = 1;
    server_options.direct = false;
    server_options.log = [this](const std::string& x) { logged.push_back(x); };
    server_options.random = [this](std::span<std::byte> x) {
      for (auto& b : x)
        b = static_cast<std::byte>(world.random().next());
    };
    listening = network.listen("back");
    boot_server();
    client_options.connect = [this] { return network.connect(way); };
    client_options.key = [this](session_key& x) {
      x = used;
      return x.id != 0;
    };
    used = keys.known[7];
    client_options.direct = false;
    client_options.random = server_options.random;
    client_options.on_session = [this](const std::string& why) { sessions.push_back(why); };
    client_options.on_boot = [this](const std::string& tier, uint64_t before, uint64_t now) {
      if (tier == "files")
        boots.emplace_back(before, now);
    };
  }
  ~remote_fixture() {
    x.reset();
    store.reset();
    if (client)
      stop_client();
    stop_server();
    world.run_until_idle();
  }

  session_key make_key(uint64_t id, uint64_t initiator, remote_rights rights = remote_rights::control) {
    session_key x;
    x.id = id;
    for (auto& b : x.secret)
      b = static_cast<std::byte>(world.random().next());
    x.initiator = initiator;
    x.rights = rights;
    x.expires = world.now() + 24h;
    return x;
  }

  void boot_server() {
    server_ring = std::make_unique<simulated_ring>(world, &server_disk, &network);
    server_on = std::make_unique<reactor>(*server_ring);
    world.attach(*server_on);
    served = std::make_unique<served_shards>(*server_on, "/s", keys, server_options);
    served->server->listen(listening);
  }
  remote_server& server() { return *served->server; }
  remote_server_counters counters() { return served->server->counters(); }
  void stop_server() {
    if (!served)
      return;
    wait_for(served->server->close());
    wait_for(close_all());
    served.reset();
    server_on.reset();
    server_ring.reset();
  }
  task<void> close_all() { (void)co_await served->shards->close_all(world.now() + 10s); }
  /// Its process is gone, or its machine; the same machine comes up again.
  void crash_server(bool power, uint64_t boot) {
    if (power)
      server_disk.power_loss();
    else
      server_disk.kill();
    (void)served.release();
    (void)server_on.release();
    (void)server_ring.release();
    server_options.boot = boot;
    listening = network.listen("back");
    boot_server();
  }

  void start_client() {
    client = std::make_unique<remote_client>(*on, client_options);
    client->tier("files");
    client->tier("memory");
    client->start();
  }
  void stop_client() {
    wait_for(client->close());
    client.reset();
  }
  void wait_for(task<void> what) {
    auto over = false;
    start(noting(std::move(what), over));
    BOOST_REQUIRE(world.run_until([&] { return over; }));
  }
  static task<void> noting(task<void> what, bool& over) {
    co_await std::move(what);
    over = true;
  }
  bool connect() {
    if (!client)
      start_client();
    return world.run_until([&] { return client->connected(); }, 30s);
  }

  /// One shard at the server, made and opened from here.
  void make_shard(const std::string& tier = "files", bool mirror = true) {
    if (!client)
      start_client();
    remote_store_options options;
    options.as.name = "server/" + tier;
    options.tier = tier;
    options.mirror_sums = mirror;
    store = make_remote_store(*on, *client, options);
    BOOST_REQUIRE(connect()); // the tier's position comes with the session
    auto header = header_for(shard_size);
    header.fence = epoch{5};
    auto opened = run_create(*this, *store, header);
    BOOST_REQUIRE_MESSAGE(opened.status == errc::none, "create: " << to_string(opened.status));
    x = std::move(opened.shard);
  }
  remote_shard& remote() { return static_cast<remote_shard&>(*x); }
  shard_key key_of(const std::string& tier = "files") {
    auto header = header_for(shard_size);
    return {static_cast<uint16_t>(served->shards->tier_of(tier)), header.id, header.generation};
  }
  active_shard* at_server(const std::string& tier = "files") { return served->shards->find(key_of(tier)); }

  struct pending {
    std::optional<errc> status;
    std::vector<std::byte> bytes;
  };
  /// Begins a write; its bytes live as long as the result.
  std::shared_ptr<pending> begin_write(uint64_t offset, size_t length, int value) {
    auto result = std::make_shared<pending>();
    result->bytes = filled(length, value);
    start(writing(*x, offset, result));
    return result;
  }
  static task<void> writing(shard& x, uint64_t offset, std::shared_ptr<pending> into) {
    into->status = co_await x.write(offset, into->bytes);
  }
  bool finish(pending& x, std::chrono::nanoseconds limit = 10min) {
    return world.run_until([&] { return x.status.has_value(); }, limit);
  }
  errc write(uint64_t offset, size_t length, int value) {
    auto one = begin_write(offset, length, value);
    BOOST_REQUIRE(finish(*one));
    return *one->status;
  }
  /// The value that all bytes have; -1: several; -2: an error.
  int read(uint64_t offset, size_t length) {
    std::vector<std::byte> bytes(length, std::byte{0xee});
    if (run(x->read(offset, bytes)) != errc::none)
      return -2;
    for (auto b : bytes)
      if (b != bytes[0])
        return -1;
    return static_cast<int>(bytes[0]);
  }
  /// As the server's own storage has it.
  int stored(uint64_t offset, size_t length, const std::string& tier = "files") {
    std::vector<std::byte> bytes(length);
    auto* shard = at_server(tier);
    if (!shard || run(shard->shard->read(offset, bytes)) != errc::none)
      return -2;
    for (auto b : bytes)
      if (b != bytes[0])
        return -1;
    return static_cast<int>(bytes[0]);
  }
  bool said(const std::string& part) const {
    for (auto& line : logged)
      if (line.find(part) != std::string::npos)
        return true;
    return false;
  }

  simulated_disk server_disk;
  simulated_wire wire;
  key_table keys;
  session_key used;
  remote_server_options server_options;
  remote_client_options client_options;
  std::string way = "front";
  std::vector<std::string> logged;
  std::vector<std::string> sessions;
  std::vector<std::pair<uint64_t, uint64_t>> boots;
  int listening = -1;
  std::unique_ptr<simulated_ring> server_ring;
  std::unique_ptr<reactor> server_on;
  std::unique_ptr<served_shards> served;
  std::unique_ptr<remote_client> client;
  std::unique_ptr<shard_store> store;
  std::unique_ptr<shard> x;
};

} // namespace varve::test
