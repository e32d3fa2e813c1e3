// Both ends of remote I/O as programs, to measure them with real clients:
//
//   remote_bench_node serve FOLDER [direct] [tls]           a storage node with the tiers "files" (in FOLDER) and
//                                                           "memory", on a free port of 127.0.0.1, which it prints
//   remote_bench_node export SOCKET ADDRESS TIER MIB [tls]  a volume by NBD, all of whose shards are at that node
//   remote_bench_node drive ADDRESS TIER MIB OP BYTES DEPTH SECONDS [tls]
//                                                           reads or writes (OP: randread, randwrite, read, write)
//                                                           without NBD, and prints figures as JSON
//
// `tls`: with the certificate and key in the environment's REMOTE_CERTIFICATE and REMOTE_KEY, which is its own
// authority. Ends at SIGTERM or SIGINT.

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include <unistd.h>

#include "rdma/local_fabric.hpp"
#include "runtime/data_plane/reactor_core.hpp"
#include "runtime/reactor/rings.hpp"
#include "runtime/remote/remote_address.hpp"
#include "runtime/remote/remote_server.hpp"
#include "runtime/remote/remote_shard.hpp"

using namespace varve;

namespace {

volatile std::sig_atomic_t asked_to_stop = 0;
bool with_tls = false;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "remote_bench_node: %s\n", why.c_str());
  std::exit(1);
}

std::string environment(const char* name) {
  const auto* found = std::getenv(name);
  if (!found)
    give_up(std::string{name} + " is not set");
  return found;
}

/// Everybody has one: each client process is an initiator.
struct any_key final : session_keys {
  static session_key of(uint64_t id) {
    session_key x;
    x.id = x.initiator = id;
    x.rights = remote_rights::control;
    x.expires = boot_time::max();
    return x;
  }
  const session_key* find(uint64_t id) override {
    key = of(id);
    return &key;
  }
  session_key key;
};

struct nobody final : shard_watcher {
  void retry(const shard_key&) override {}
  void forget(active_shard&, bool) override {}
};

void until_stopped(reactor& on) {
  while (!asked_to_stop)
    on.step(on.now() + std::chrono::milliseconds{200});
}

template <class T>
task<void> note(task<T> what, bool& over) {
  (void)co_await std::move(what);
  over = true;
}
template <>
task<void> note(task<void> what, bool& over) {
  co_await std::move(what);
  over = true;
}
template <class T>
void finish(reactor& on, task<T> what) {
  auto over = false;
  start(note(std::move(what), over));
  while (!over)
    on.step(on.now() + std::chrono::milliseconds{200});
}

int serve(reactor& on, const std::string& folder, bool direct) {
  nobody watcher;
  any_key keys;
  foreground_load load;
  std::vector<std::unique_ptr<shard_store>> stores;
  shard_store_options x;
  x.name = "files";
  x.kind = tier_kind::file;
  x.directory = folder;
  x.io = direct ? file_io::direct : file_io::buffered;
  stores.push_back(make_file_store(on, x));
  x = {};
  x.name = "memory";
  stores.push_back(make_memory_store(on, x));
  shard_table shards{on, std::move(stores), watcher};
  remote_server_options options;
  options.boot = 1;
  options.log = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  if (with_tls) {
    std::string problem;
    options.tls = tls_context::make_server({environment("REMOTE_CERTIFICATE"), environment("REMOTE_KEY"), {}}, problem);
    if (!options.tls)
      give_up(problem);
  }
  remote_server server{on, shards, load, keys, options};
  const auto fd = remote::listen_tcp("127.0.0.1:0");
  if (fd < 0)
    give_up(std::string{"cannot listen: "} + std::strerror(-fd));
  std::printf("%s\n", remote::local_address(fd).c_str());
  std::fflush(stdout);
  server.listen(fd);
  until_stopped(on);
  finish(on, server.close());
  finish(on, shards.close_all(on.now() + std::chrono::seconds{10}));
  return 0;
}

remote_client_options client_of(const std::string& address) {
  remote_client_options options;
  options.connect = [address] { return remote::connect_tcp(address); };
  options.key = [](session_key& x) {
    x = any_key::of(static_cast<uint64_t>(::getpid()));
    return true;
  };
  // A new process each time.
  options.incarnation = static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  options.on_session = [](const std::string& why) {
    if (!why.empty() && why != "closed")
      std::fprintf(stderr, "session: %s\n", why.c_str());
  };
  if (with_tls) {
    std::string problem;
    options.tls = tls_context::make_client({{}, {}, environment("REMOTE_CERTIFICATE")}, problem);
    if (!options.tls)
      give_up(problem);
  }
  return options;
}

shard_header header_of(uint64_t volume, uint64_t index) {
  shard_header x;
  x.id = {volume_id{volume}, shard_index{index}};
  x.size = shard_size_default;
  x.generation = generation{1};
  x.fence = epoch{1};
  return x;
}

/// Makes what is needed and lets everything be done: the least of a vm_agent.
struct granting {
  reactor_core& core;

  task<void> grant(route_need need) {
    for (auto i = need.first.value(); i < need.first.value() + need.count; ++i) {
      const auto header = header_of(need.volume.value(), i);
      active_shard* shard = nullptr;
      auto status = co_await core.shards().create(0, header, shard);
      if (status == errc::already_exists)
        status = co_await core.shards().activate({0, header.id, header.generation}, shard);
      auto* port = core.port(need.volume);
      if (status != errc::none || !port) {
        std::fprintf(stderr, "no shard %lu: %s\n", static_cast<unsigned long>(i), to_string(status));
        continue;
      }
      route x;
      x.first = shard_index{i};
      x.exists = x.writable = true;
      x.tier = "remote";
      x.generation = header.generation;
      x.fence = epoch{1};
      x.valid_until = boot_time::max();
      port->set_routes({x});
    }
  }
};

int serve_nbd(reactor& on, const std::string& socket, const std::string& address, const std::string& tier,
              uint64_t mib) {
  remote_client client{on, client_of(address)};
  copy_budget budget;
  remote_store_options how;
  how.as.name = "remote";
  how.tier = tier;
  std::vector<std::unique_ptr<shard_store>> stores;
  stores.push_back(make_remote_store(on, client, how));
  client.start();
  {
    reactor_core core{on, std::move(stores), std::make_unique<local_fabric>(), budget, {}, {}};
    granting agent{core};
    port_options options;
    options.volume = volume_id{static_cast<uint64_t>(::getpid())};
    options.name = "vm1";
    options.size_bytes = mib << 20;
    options.socket_path = socket;
    options.on_need = [&](std::vector<route_need> needs) {
      on.post([&agent, needs = std::move(needs)] {
        for (auto& x : needs)
          start(agent.grant(x));
      });
    };
    finish(on, core.open_port(options));
    until_stopped(on);
    finish(on, core.stop(on.now() + std::chrono::seconds{10}));
  }
  finish(on, client.close());
  return 0;
}

/// `depth` requests at a time, as long as it lasts.
struct driver {
  reactor& on;
  remote_client& client;
  uint16_t tier;
  uint64_t volume;
  uint64_t bytes_all;
  bool writes = false, random = true;
  uint32_t bytes = 4096;

  struct one {
    remote_request request;
    driver* of = nullptr;
    buffer memory;
    boot_time began{0};
  };
  std::vector<std::unique_ptr<one>> all;
  std::mt19937_64 chance{1};
  uint64_t next = 0;
  uint64_t done = 0, failed = 0, under_way = 0;
  bool stopping = false;
  std::vector<uint32_t> times_ns;

  void submit(one& x) {
    const auto slots = bytes_all / bytes;
    const auto at = (random ? chance() % slots : next++ % slots) * bytes;
    auto& header = x.request.header;
    header.op = writes ? remote::op::write : remote::op::read;
    header.id = {volume_id{volume}, shard_index{at / shard_size_default}};
    header.generation = generation{1};
    header.epoch = epoch{1};
    header.offset = static_cast<uint32_t>(at % shard_size_default);
    header.length = bytes;
    x.request.tier = tier;
    x.request.from = {};
    x.request.into = {};
    if (writes)
      x.request.from = x.memory.bytes().first(bytes);
    else
      x.request.into = x.memory.bytes().first(bytes);
    x.request.owner = &x;
    x.request.complete = [](remote_request& r) {
      auto& self = *static_cast<one*>(r.owner);
      self.of->ended(self);
    };
    x.began = std::chrono::steady_clock::now().time_since_epoch();
    ++under_way;
    client.submit(x.request);
  }
  void ended(one& x) {
    --under_way;
    ++done;
    failed += x.request.status != errc::none;
    times_ns.push_back(static_cast<uint32_t>((std::chrono::steady_clock::now().time_since_epoch() - x.began).count()));
    if (!stopping)
      submit(x);
  }
  void run(size_t depth, std::chrono::nanoseconds time) {
    while (all.size() < depth) {
      auto& x = *all.emplace_back(std::make_unique<one>());
      x.of = this;
      x.memory = buffer{bytes};
      std::memset(x.memory.data(), static_cast<int>(all.size()), bytes);
    }
    const auto until = on.now() + time;
    for (auto& x : all)
      submit(*x);
    while (on.now() < until && !asked_to_stop)
      on.step(until);
    stopping = true;
    while (under_way > 0)
      on.step(on.now() + std::chrono::milliseconds{100});
  }
};

int drive(reactor& on, char** arguments) {
  remote_client client{on, client_of(arguments[0])};
  driver x{on, client, client.tier(arguments[1]), static_cast<uint64_t>(::getpid()),
           std::strtoull(arguments[2], nullptr, 10) << 20};
  const std::string what = arguments[3];
  x.random = what.starts_with("rand");
  x.writes = what.ends_with("write");
  x.bytes = static_cast<uint32_t>(std::strtoul(arguments[4], nullptr, 10));
  const auto depth = std::strtoul(arguments[5], nullptr, 10);
  const auto seconds = std::strtod(arguments[6], nullptr);
  client.start();
  remote_store_options how;
  how.as.name = how.tier = arguments[1];
  auto store = make_remote_store(on, client, how);
  auto make_all = [&]() -> task<void> {
    for (uint64_t i = 0; i < x.bytes_all / shard_size_default; ++i) {
      auto opened = co_await store->create(header_of(x.volume, i));
      if (opened.status != errc::none)
        give_up(std::string{"create: "} + to_string(opened.status));
      std::vector<std::byte> full(1u << 20, std::byte{1});
      for (uint64_t at = 0; at < shard_size_default; at += full.size())
        if (auto status = co_await opened.shard->write(at, full); status != errc::none)
          give_up(std::string{"write: "} + to_string(status));
    }
  };
  finish(on, make_all());
  const auto began = std::chrono::steady_clock::now();
  x.run(depth, std::chrono::nanoseconds{static_cast<int64_t>(seconds * 1e9)});
  const auto took = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::sort(x.times_ns.begin(), x.times_ns.end());
  auto percentile = [&](double p) {
    return x.times_ns.empty() ? 0.0
                              : x.times_ns[static_cast<size_t>(p * static_cast<double>(x.times_ns.size() - 1))] / 1e3;
  };
  std::printf("{\"iops\": %.0f, \"mb_per_second\": %.1f, \"failed\": %lu, \"p50_us\": %.1f, \"p99_us\": %.1f, "
              "\"batches\": %lu}\n",
              static_cast<double>(x.done) / took, static_cast<double>(x.done * x.bytes) / took / 1e6,
              static_cast<unsigned long>(x.failed), percentile(0.5), percentile(0.99),
              static_cast<unsigned long>(client.counters().batches));
  auto remove_all = [&]() -> task<void> {
    for (uint64_t i = 0; i < x.bytes_all / shard_size_default; ++i)
      (void)co_await store->remove(header_of(x.volume, i).id, generation{1});
  };
  finish(on, remove_all());
  finish(on, client.close());
  return x.failed ? 1 : 0;
}

} // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[argc - 1], "tls") == 0) {
    with_tls = true;
    --argc;
  }
  const std::string verb = argc > 1 ? argv[1] : "";
  const auto needed = verb == "serve" ? 3 : verb == "export" ? 6 : verb == "drive" ? 9 : 99;
  if (argc < needed) {
    std::fprintf(stderr,
                 "usage: remote_bench_node serve FOLDER [direct] [tls] | export SOCKET ADDRESS TIER MIB [tls] |\n"
                 "       drive ADDRESS TIER MIB OP BYTES DEPTH SECONDS [tls]\n");
    return 2;
  }
  for (auto signal : {SIGTERM, SIGINT})
    std::signal(signal, [](int) { asked_to_stop = 1; });
  auto made = make_ring({});
  reactor on{*made.ring};
  if (verb == "serve")
    return serve(on, argv[2], argc > 3 && std::strcmp(argv[3], "direct") == 0);
  if (verb == "export")
    return serve_nbd(on, argv[2], argv[3], argv[4], std::strtoull(argv[5], nullptr, 10));
  return drive(on, argv + 2);
}
