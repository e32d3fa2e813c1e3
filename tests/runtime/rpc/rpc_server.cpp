#include "runtime/rpc/rpc_server.hpp"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <random>
#include <thread>

#include <boost/test/unit_test.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/rpc/rpc_client.hpp"
#include "tests/runtime/fake_plane.hpp"
#include "tests/runtime/rpc/sharing_config.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

volume_record vm1() {
  volume_record x;
  x.id = volume_id{7};
  x.spec = {"vm1", 64ull << 20, 4ull << 20, false, "", sensitivity::normal};
  x.attachments = {{holder_id{1}, "h"}};
  return x;
}

shard_home home(uint64_t index, const char* tier) {
  return {{volume_id{7}, shard_index{index}}, tier, generation{1}, epoch{1}};
}

// Shards 1, 3 and 5 of 16 exist.
volume_actor::behavior_type fake_volume(volume_actor::pointer self) {
  return {
    [](atom::get) { return volume_info{vm1(), 3, 12 << 20, "", 0, true, false}; },
    [](atom::locate, shard_index first, uint64_t count) {
      shard_map_part x{first, shard_index{first.value() + count}, {}};
      for (uint64_t i : {1, 3, 5})
        if (i >= first.value() && i < first.value() + count)
          x.homes.push_back(home(i, i == 5 ? "slow" : "fast"));
      return x;
    },
    [](atom::create, shard_index) -> caf::result<shard_home> { return make_error(errc::unsupported); },
    [](atom::commit, const migration_record&) -> caf::result<migration_record> {
      return make_error(errc::unsupported);
    },
    [](atom::resize, uint64_t size) -> caf::result<volume_record> {
      auto x = vm1();
      if (size < x.spec.size_bytes)
        return make_error(errc::invalid_argument, "smaller");
      x.spec.size_bytes = size;
      return x;
    },
    [](atom::attach, const volume_attachment&, bool) { return vm1(); },
    [](atom::detach, holder_id) { return vm1(); },
    [self](atom::remove) -> caf::result<volume_record> { return make_error(errc::volume_attached, "vm1"); },
  };
}

volume_directory_actor::behavior_type fake_directory(volume_directory_actor::pointer, volume_actor volume) {
  return {
    [](atom::create, const volume_spec& spec) -> caf::result<volume_record> {
      if (spec.name == "vm1")
        return make_error(errc::already_exists, "volume vm1");
      volume_record x;
      x.id = volume_id{8};
      x.spec = spec;
      return x;
    },
    [](atom::get, const std::string& name) -> caf::result<volume_record> {
      if (name == "vm1" || name == "7")
        return vm1();
      return make_error(errc::not_found, "volume " + name);
    },
    [volume](atom::open, volume_id) { return volume; },
    [](atom::list) { return std::vector<volume_record>{vm1()}; },
  };
}

host_supervisor_actor::behavior_type fake_host(host_supervisor_actor::pointer self, std::shared_ptr<uint64_t> resized) {
  return {
    [](atom::revoke, shard_id, uint64_t) {},
    [](atom::change, shard_id) {},
    [](atom::refresh, const shard_home&) {},
    [](atom::attach, volume_id id, bool) {
      return attachment{id, holder_id{1}, "nbd+unix:///vm1?socket=/s", "/s", "h"};
    },
    [self](atom::detach, volume_id, bool force) -> caf::result<void> {
      if (force)
        return caf::unit;
      return make_error(errc::volume_detached, "vm1");
    },
    [resized](atom::resize, volume_id, uint64_t size) { *resized = size; },
    [](atom::list) {
      return std::vector<attachment>{{volume_id{7}, holder_id{1}, "nbd+unix:///vm1?socket=/s", "/s", "h"}};
    },
  };
}

migration_supervisor_actor::behavior_type fake_migrations(migration_supervisor_actor::pointer) {
  auto one = [](migration_id id) -> caf::result<migration_progress> {
    if (id.value() != 1)
      return make_error(errc::not_found, "migration");
    migration_progress x;
    x.record.id = id;
    x.record.shard = {volume_id{7}, shard_index{3}};
    return x;
  };
  return {
    [](atom::start, const migration_spec& x) -> caf::result<std::vector<migration_id>> {
      if (x.to_tier == "memory")
        return make_error(errc::volatile_tier, "volume vm1 is durable");
      return std::vector<migration_id>{migration_id{x.first.value()}, migration_id{x.count}};
    },
    [one](atom::cancel, migration_id id) { return one(id); },
    [one](atom::pause, migration_id id) { return one(id); },
    [one](atom::resume, migration_id id) { return one(id); },
    [](atom::list) {
      migration_progress x;
      x.record.id = migration_id{1};
      x.record.shard = {volume_id{7}, shard_index{3}};
      return std::vector<migration_progress>{x};
    },
  };
}

// One holder with a run of absent shards, in which it wrote shard 1 and read shard 3; shard 5 moves meanwhile.
lease_manager_actor::behavior_type fake_leases(lease_manager_actor::pointer) {
  auto lease = [](const shard_home& of, lease_mode mode, uint64_t count = 1) {
    lease_info x;
    x.grant.home = of;
    x.grant.mode = mode;
    x.grant.count = count;
    return x;
  };
  return {
    [](atom::acquire, const lease_request&, const lease_holder_actor&) -> caf::result<std::vector<lease_grant>> {
      return make_error(errc::unsupported);
    },
    [](atom::change, const lease_request&) -> caf::result<std::vector<lease_grant>> {
      return make_error(errc::unsupported);
    },
    [](atom::renew, holder_id) -> caf::result<lease_renewal> { return make_error(errc::unsupported); },
    [](atom::release, holder_id, shard_id, uint64_t) {},
    [](atom::evict, shard_id) {},
    [](atom::refresh, const shard_home&) {},
    [lease](atom::list, volume_id id) {
      const shard_home absent{{id, shard_index{1}}, {}, {}, {}};
      return std::vector<lease_info>{
        lease(home(1, "fast"), lease_mode::write), lease(home(3, "fast"), lease_mode::read),
        lease(home(5, "slow"), lease_mode::migration), lease(absent, lease_mode::read, 15)};
    },
    [](atom::list, uint64_t after, uint64_t limit) {
      lease_history x;
      x.incarnation = 9;
      x.newest = 3;
      for (auto n = after + 1; n <= 3 && x.events.size() < limit; ++n)
        x.events.push_back({n, 1000 + n, lease_change::broken, {}, "why"});
      return x;
    },
  };
}

monitor_actor::behavior_type fake_monitor(monitor_actor::pointer) {
  return {
    [](atom::get) {
      node_status x;
      x.node = "n";
      return x;
    },
    [](atom::list, uint64_t count) {
      return std::vector<event>(count, {1, "CODE", "text"});
    },
    [](atom::publish, const event&) {},
  };
}

node_root_actor::behavior_type fake_root(node_root_actor::pointer, std::shared_ptr<std::string> killed) {
  return {
    [](atom::list) {
      return std::vector<actor_info>{{"management", "varve.management-supervisor", false, 3, caf::timespan{5}, "boom"}};
    },
    [killed](atom::kill, const std::string& path) { *killed = path; },
    [](atom::stop) {},
  };
}

struct rpc_fixture {
  explicit rpc_fixture(gateway_options options = {1s, 1s, {"fast", "gone"}, true}, rpc_options limits = {}) {
    char name[] = "/tmp/varve-rpc-XXXXXX";
    folder = ::mkdtemp(name);
    socket = folder + "/s";
    limits.socket_path = socket;
    volume = system.spawn(fake_volume);
    keep(path::volumes, system.spawn(fake_directory, volume));
    keep(path::host, system.spawn(fake_host, resized));
    keep(path::migrations, system.spawn(fake_migrations));
    keep(path::monitor, system.spawn(fake_monitor));
    root = system.spawn(fake_root, killed);
    gateway::parts parts;
    parts.system = &system;
    parts.directory = directory;
    parts.plane = plane;
    parts.root = [this] { return root; };
    parts.stop = [this] {
      stopped = true;
      if (at_stop)
        at_stop();
    };
    parts.not_ready = [] { return "not yet"; };
    plane->counters[volume_id{7}].connections = 5;
    to = std::make_unique<gateway>(parts, options);
    std::string problem;
    server = rpc_server::start(*to, plane, limits, problem);
    BOOST_REQUIRE_MESSAGE(server, problem);
  }

  ~rpc_fixture() {
    server.reset();
    directory->clear();
    caf::anon_send_exit(root, caf::exit_reason::kill);
    root = nullptr;
    volume = nullptr;
    system.await_actors_before_shutdown(false);
    std::filesystem::remove_all(folder);
  }

  template <class Actor>
  void keep(const std::string& at, Actor actor) {
    directory->put(at, actor);
  }

  std::unique_ptr<rpc_client> connect(std::chrono::nanoseconds timeout = 5s) {
    std::string problem;
    auto x = rpc_client::connect(socket, timeout, problem);
    BOOST_REQUIRE_MESSAGE(x, problem);
    return x;
  }

  // A second client, while this thread has one: each brings an event loop.
  template <class F>
  void elsewhere(F f) {
    std::thread{[&] {
      auto node = connect();
      f(*node);
    }}.join();
  }

  int raw() {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    socket.copy(at.sun_path, sizeof at.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BOOST_REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    timeval limit{5, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
  }

  // Reads until the other side closes; false when it does not within the time limit.
  static bool closed(int fd) {
    char bytes[4096];
    for (;;) {
      const auto n = ::read(fd, bytes, sizeof bytes);
      if (n <= 0)
        return n == 0 || errno == ECONNRESET;
    }
  }

  std::string folder, socket;
  std::shared_ptr<uint64_t> resized = std::make_shared<uint64_t>(0);
  std::shared_ptr<std::string> killed = std::make_shared<std::string>();
  std::atomic<bool> stopped{false};
  std::function<void()> at_stop;
  std::shared_ptr<varve::directory> directory = std::make_shared<varve::directory>();
  std::shared_ptr<fake_plane> plane = std::make_shared<fake_plane>();
  sharing_config config;
  caf::actor_system system{config};
  volume_actor volume;
  node_root_actor root;
  std::unique_ptr<gateway> to;
  std::unique_ptr<rpc_server> server;
};

struct strict_fixture : rpc_fixture {
  strict_fixture() : rpc_fixture({300ms, 300ms, {}, false}, {"", 2, 1024, 8}) {}
};

} // namespace

BOOST_FIXTURE_TEST_CASE(volumes_are_shown_with_their_uri_and_clients, rpc_fixture) {
  auto node = connect();
  auto x = node->volume_show("vm1");
  BOOST_REQUIRE(x);
  BOOST_TEST(x->uri == "nbd+unix:///vm1?socket=/s");
  BOOST_TEST(x->connections == 5u);
  BOOST_TEST(x->shards == 3u);
  auto all = node->volume_list();
  BOOST_REQUIRE(all);
  BOOST_REQUIRE(all->size() == 1u);
  BOOST_TEST(all->at(0).uri == x->uri);
  BOOST_TEST((x->contents_known && x->clients_known));
}

BOOST_FIXTURE_TEST_CASE(what_cannot_be_asked_is_unknown_and_not_nothing, rpc_fixture) {
  auto node = connect();
  auto only = [&] { return node->volume_list().value().at(0); };
  // Its port is not open yet, or not again.
  plane->counters.clear();
  BOOST_TEST((only().contents_known && !only().clients_known));
  BOOST_TEST(only().uri_known());
  plane->counters[volume_id{7}].connections = 5;
  directory->put(path::host, host_supervisor_actor{});
  BOOST_TEST((!only().clients_known && !only().uri_known()));
  // The volume's actor dies: its record is all that is known.
  caf::anon_send_exit(volume, caf::exit_reason::kill);
  BOOST_TEST((!only().contents_known && !only().shards_known()));
  BOOST_TEST(only().record.spec.name == "vm1");
  volume_spec spec;
  spec.name = "vm2";
  auto made = node->volume_create(spec);
  BOOST_TEST((made->contents_known && made->clients_known));
}

BOOST_FIXTURE_TEST_CASE(refusals_keep_their_code_and_context, rpc_fixture) {
  auto node = connect();
  auto x = node->volume_show("nope");
  BOOST_REQUIRE(!x);
  BOOST_TEST((code_of(x.error()) == errc::not_found));
  BOOST_TEST(context_of(x.error()) == "volume nope");
  volume_spec spec;
  spec.name = "vm1";
  BOOST_TEST((code_of(node->volume_create(spec).error()) == errc::already_exists));
  spec.name = "12";
  BOOST_TEST((code_of(node->volume_create(spec).error()) == errc::invalid_argument));
  spec.name = "vm2";
  BOOST_TEST(node->volume_create(spec)->record.spec.name == "vm2");
  BOOST_TEST((code_of(node->shard_move("vm1", 0, 1, "memory").error()) == errc::volatile_tier));
  BOOST_TEST((code_of(node->migration_cancel(migration_id{2}).error()) == errc::not_found));
  BOOST_TEST((code_of(node->migration_show(migration_id{2}).error()) == errc::not_found));
  BOOST_TEST((code_of(node->volume_detach("vm1", false, "")) == errc::volume_detached));
  BOOST_TEST((code_of(node->volume_remove("vm1", true)) == errc::volume_attached));
}

BOOST_FIXTURE_TEST_CASE(removing_needs_to_be_confirmed, rpc_fixture) {
  BOOST_TEST((code_of(connect()->volume_remove("vm1", false)) == errc::needs_confirmation));
}

BOOST_FIXTURE_TEST_CASE(a_resize_reaches_the_open_port_after_the_catalog, rpc_fixture) {
  auto node = connect();
  auto x = node->volume_resize("vm1", 128 << 20);
  BOOST_REQUIRE(x);
  BOOST_TEST((x->contents_known && x->clients_known));
  BOOST_TEST(x->shards == 3u);
  BOOST_TEST(*resized == 128u << 20);
  *resized = 0;
  BOOST_TEST((code_of(node->volume_resize("vm1", 1 << 20).error()) == errc::invalid_argument));
  BOOST_TEST(*resized == 0u);
}

BOOST_FIXTURE_TEST_CASE(shards_come_page_by_page_without_gaps_or_repeats, rpc_fixture) {
  auto node = connect();
  std::vector<uint64_t> seen;
  uint64_t first = 0, pages = 0;
  do {
    auto page = node->shard_list("vm1", first, 2);
    BOOST_REQUIRE(page);
    for (const auto& x : page->shards)
      seen.push_back(x.home.id.index.value());
    BOOST_TEST(page->shards.size() <= 2u);
    first = page->next.value();
    BOOST_REQUIRE(++pages < 10);
  } while (first != 0);
  BOOST_TEST((seen == std::vector<uint64_t>{1, 3, 5}));
  auto x = node->shard_show("vm1", 3);
  BOOST_REQUIRE(x);
  BOOST_TEST(x->offset == 12u << 20);
  BOOST_TEST(x->migration.value() == 1u);
  BOOST_TEST((code_of(node->shard_show("vm1", 2).error()) == errc::not_found));
  BOOST_TEST((code_of(node->shard_show("vm1", 16).error()) == errc::invalid_argument));
}

BOOST_FIXTURE_TEST_CASE(a_shard_is_shown_with_its_own_lease_and_not_that_of_the_run_around_it, rpc_fixture) {
  keep(path::leases, system.spawn(fake_leases));
  auto node = connect();
  auto page = node->shard_list("vm1", 0, 16);
  BOOST_REQUIRE(page);
  BOOST_REQUIRE(page->shards.size() == 3u);
  BOOST_TEST(page->shards[0].lease == "write");
  BOOST_TEST(page->shards[1].lease == "read");
  BOOST_TEST(page->shards[2].lease == "");
}

BOOST_FIXTURE_TEST_CASE(a_move_is_cut_at_the_end_of_the_volume, rpc_fixture) {
  auto node = connect();
  auto x = node->shard_move("vm1", 14, UINT64_MAX, "slow");
  BOOST_REQUIRE(x);
  BOOST_TEST(x->at(0).value() == 14u);
  BOOST_TEST(x->at(1).value() == 2u);
  BOOST_TEST((code_of(node->shard_move("vm1", 16, 1, "slow").error()) == errc::invalid_argument));
  BOOST_TEST((code_of(node->shard_move("vm1", 1, 0, "slow").error()) == errc::invalid_argument));
}

BOOST_FIXTURE_TEST_CASE(a_tier_that_does_not_answer_is_listed_as_unknown, rpc_fixture) {
  auto all = connect()->tier_list();
  BOOST_REQUIRE(all);
  BOOST_REQUIRE(all->size() == 2u);
  BOOST_TEST(all->at(1).name == "gone");
  BOOST_TEST(all->at(1).state == "unknown");
}

BOOST_FIXTURE_TEST_CASE(the_node_itself_can_be_asked, rpc_fixture) {
  auto node = connect();
  BOOST_TEST(node->status()->node == "n");
  BOOST_TEST(*node->not_ready() == "not yet");
  BOOST_TEST((code_of(node->cluster_status().error()) == errc::unsupported));
  BOOST_TEST(node->events(3)->size() == 3u);
  BOOST_TEST(node->actor_list()->at(0).last_error == "boom");
  BOOST_TEST(!node->actor_kill("management/catalog"));
  BOOST_TEST(*killed == "management/catalog");
  BOOST_TEST(!node->stop());
  BOOST_TEST(stopped.load());
}

BOOST_FIXTURE_TEST_CASE(the_end_that_a_client_asked_for_is_answered_before_it_comes, rpc_fixture) {
  std::thread end;
  at_stop = [&] {
    std::promise<void> begun;
    end = std::thread{[&] {
      begun.set_value();
      server.reset();
    }};
    begun.get_future().wait();
    // Until the server has been told to end, and waits for this thread of its own.
    std::this_thread::sleep_for(100ms);
  };
  auto node = connect();
  BOOST_TEST(!node->stop());
  BOOST_TEST(stopped.load());
  end.join();
  BOOST_TEST((code_of(node->status().error()) == errc::unavailable));
}

BOOST_FIXTURE_TEST_CASE(killing_needs_the_configuration_s_leave, strict_fixture) {
  BOOST_TEST((code_of(connect()->actor_kill("x")) == errc::unsupported));
  BOOST_TEST(killed->empty());
}

BOOST_FIXTURE_TEST_CASE(an_actor_that_is_not_there_is_waited_for_until_the_time_is_over, strict_fixture) {
  auto node = connect();
  // Nobody stands under path::leases.
  auto x = node->lease_break("vm1", 1);
  BOOST_TEST((code_of(x) == errc::timed_out));
  // Who comes back meanwhile is asked.
  std::thread later{[this] {
    std::this_thread::sleep_for(100ms);
    directory->put(path::leases, system.spawn([](caf::event_based_actor*) -> caf::behavior {
      return {[](atom::evict, shard_id) { return caf::unit; }};
    }));
  }};
  BOOST_TEST(!node->lease_break("vm1", 1));
  later.join();
}

BOOST_FIXTURE_TEST_CASE(the_client_gives_up_in_its_own_time, rpc_fixture) {
  auto node = connect(50ms);
  BOOST_TEST((code_of(node->lease_break("vm1", 1)) == errc::timed_out));
  BOOST_TEST(!node->lost());
  BOOST_TEST(node->status()->node == "n");
  BOOST_TEST(*node->not_ready() == "not yet");
  BOOST_TEST((code_of(node->cluster_status().error()) == errc::unsupported));
}

BOOST_FIXTURE_TEST_CASE(a_recording_ends_with_its_client, rpc_fixture) {
  const auto file = folder + "/t.trace";
  {
    auto node = connect();
    BOOST_TEST((code_of(node->trace_start("vm1", "relative.trace")) == errc::invalid_argument));
    BOOST_TEST((code_of(node->trace_start("nope", file)) == errc::not_found));
    BOOST_REQUIRE(!node->trace_start("vm1", file));
    elsewhere(
      [&](rpc_client& other) { BOOST_TEST((code_of(other.trace_start("vm1", file + "2")) == errc::already_exists)); });
    plane->sink({{1s, 0, 512, 0}});
    BOOST_TEST(node->trace_progress()->records == 1u);
  }
  for (int i = 0; i < 500; ++i) {
    {
      std::lock_guard guard{plane->mutex};
      if (!plane->sink)
        break;
    }
    std::this_thread::sleep_for(10ms);
  }
  BOOST_TEST(!plane->sink);
  auto node = connect();
  // The file is closed after the sink is gone; until then the volume counts as recorded.
  auto again = node->trace_start("vm1", file);
  for (int i = 0; i < 500 && code_of(again) == errc::already_exists; ++i) {
    std::this_thread::sleep_for(10ms);
    again = node->trace_start("vm1", file);
  }
  BOOST_REQUIRE(!again);
  const auto x = node->trace_stop();
  BOOST_REQUIRE(x);
  BOOST_TEST(node->trace_stop()->records == x->records);
}

BOOST_FIXTURE_TEST_CASE(the_socket_is_the_user_s_own_and_goes_with_the_server, rpc_fixture) {
  struct stat s {};
  BOOST_REQUIRE(::stat(socket.c_str(), &s) == 0);
  BOOST_TEST((s.st_mode & 0777) == 0600u);
  std::string problem;
  BOOST_TEST(!rpc_server::start(*to, nullptr, {socket}, problem));
  BOOST_TEST(problem.find("another process listens") != std::string::npos);
  server.reset();
  BOOST_TEST(::stat(socket.c_str(), &s) != 0);
  BOOST_TEST(!rpc_client::connect(socket, 1s, problem));
  std::ofstream{socket} << "a file";
  BOOST_TEST(!rpc_server::start(*to, nullptr, {socket}, problem));
  BOOST_TEST(problem.find("no socket") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(connections_beyond_the_limit_are_closed, strict_fixture) {
  auto node = connect();
  BOOST_REQUIRE(node->status());
  const int second = raw();
  for (int i = 0; i < 500 && server->connections() < 2; ++i)
    std::this_thread::sleep_for(10ms);
  const int third = raw();
  BOOST_TEST(closed(third));
  ::close(third);
  BOOST_TEST(node->status()->node == "n");
  BOOST_TEST(*node->not_ready() == "not yet");
  BOOST_TEST((code_of(node->cluster_status().error()) == errc::unsupported));
  ::close(second);
  for (int i = 0; i < 500 && server->connections() > 1; ++i)
    std::this_thread::sleep_for(10ms);
  elsewhere([](rpc_client& other) { BOOST_TEST(other.status()->node == "n"); });
}

BOOST_FIXTURE_TEST_CASE(hostile_bytes_end_their_connection_and_nothing_else, rpc_fixture) {
  auto node = connect();
  // A message that claims to be enormous, one of very many segments, and random ones.
  std::vector<std::string> attacks{std::string("\x00\x00\x00\x00\xff\xff\xff\x7f", 8),
                                   std::string("\xff\xff\xff\xff\x01\x00\x00\x00", 8), std::string(100'000, '\0')};
  std::mt19937_64 random{1};
  for (int i = 0; i < 100; ++i) {
    std::string bytes(8 + random() % 400, '\0');
    // A plausible head, then noise.
    bytes[4] = static_cast<char>((bytes.size() - 8) / 8);
    for (size_t k = 8; k < bytes.size(); ++k)
      bytes[k] = static_cast<char>(random());
    attacks.push_back(bytes);
  }
  for (const auto& x : attacks) {
    const int fd = raw();
    (void)!::send(fd, x.data(), x.size(), MSG_NOSIGNAL);
    ::shutdown(fd, SHUT_WR);
    BOOST_TEST(closed(fd));
    ::close(fd);
  }
  BOOST_TEST(node->status()->node == "n");
  BOOST_TEST(*node->not_ready() == "not yet");
  BOOST_TEST((code_of(node->cluster_status().error()) == errc::unsupported));
}

BOOST_FIXTURE_TEST_CASE(a_message_over_the_limit_is_not_read, strict_fixture) {
  auto node = connect();
  auto x = node->volume_show(std::string(100'000, 'x'));
  BOOST_TEST((code_of(x.error()) == errc::unavailable));
  elsewhere([](rpc_client& other) { BOOST_TEST(other.status()->node == "n"); });
}

BOOST_FIXTURE_TEST_CASE(a_server_that_ends_is_told_apart_from_a_refusal, rpc_fixture) {
  auto node = connect();
  BOOST_REQUIRE(node->status());
  std::thread end{[this] {
    std::this_thread::sleep_for(100ms);
    server.reset();
  }};
  BOOST_TEST((code_of(node->lease_break("vm1", 1)) == errc::unavailable));
  BOOST_TEST(node->lost());
  end.join();
}

// -- the command line, as its own process -----------------------------------------------------------------------------

namespace {

struct ended {
  int code = -1;
  std::string out, err;
};

struct cli_fixture : rpc_fixture {
  ended varve(const std::string& words) { return run("--socket " + socket + " " + words); }

  ended run(const std::string& words) {
    const auto errors = folder + "/err";
    FILE* p = ::popen((std::string{VARVE_PROGRAM} + " " + words + " 2>" + errors).c_str(), "r");
    ended x;
    for (char buffer[512]; std::fgets(buffer, sizeof buffer, p);)
      x.out += buffer;
    const int status = ::pclose(p);
    x.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    std::ifstream in{errors};
    x.err.assign(std::istreambuf_iterator<char>{in}, {});
    return x;
  }
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

BOOST_FIXTURE_TEST_CASE(each_way_to_fail_has_its_exit_code, cli_fixture) {
  BOOST_TEST(varve("volume ls").code == 0);
  BOOST_TEST(varve("volume show nope").code == 1);
  BOOST_TEST(varve("volume rm vm1").code == 1);
  BOOST_TEST(varve("volume create vm2").code == 2);
  BOOST_TEST(varve("volume create vm2 --size 5gigs").code == 2);
  BOOST_TEST(varve("shard move vm1 --to slow").code == 2);
  BOOST_TEST(varve("status --timeout soon").code == 2);
  BOOST_TEST(varve("").code == 2);
  BOOST_TEST(run("--socket /nonexistent/s status").code == 3);
  BOOST_TEST(varve("lease break vm1 1 --timeout 100ms").code == 4);
  BOOST_TEST(varve("--help").code == 0);
  BOOST_TEST(varve("volume --help").code == 0);
  BOOST_TEST(contains(varve("--version").out, "varve "));
}

BOOST_FIXTURE_TEST_CASE(failures_are_json_when_asked_for, cli_fixture) {
  for (const auto& [words, code] : std::vector<std::pair<std::string, std::string>>{
         {"volume show nope --json", "not_found"},
         {"--json volume rm vm1", "needs_confirmation"},
         {"volume --json create", "usage"},
         {"volume craete x --json", "usage"},
         {"shard move vm1 --offset 0 --to memory --json", "volatile_tier"}}) {
    const auto x = varve(words);
    BOOST_TEST(x.code != 0);
    BOOST_TEST(contains(x.out, "\"error\""));
    BOOST_TEST(contains(x.out, "\"code\": \"" + code + "\""));
    BOOST_TEST(x.err == "");
  }
  const auto x = varve("volume show nope");
  BOOST_TEST(x.out == "");
  BOOST_TEST(contains(x.err, "not_found: volume nope"));
}

BOOST_FIXTURE_TEST_CASE(a_typo_gets_the_nearest_verb_also_behind_options, cli_fixture) {
  BOOST_TEST(contains(varve("volme ls").err, "did you mean \"volume\""));
  BOOST_TEST(contains(varve("--timeout 5s volume craete x").err, "did you mean \"create\""));
  BOOST_TEST(contains(varve("volume banana").err, "there are create ls show"));
  // A name is no verb.
  BOOST_TEST(varve("volume show vm1").code == 0);
}

BOOST_FIXTURE_TEST_CASE(destroying_says_what_is_lost_and_what_to_add, cli_fixture) {
  const auto x = varve("volume rm vm1");
  BOOST_TEST(contains(x.err, "--yes"));
  BOOST_TEST(contains(x.err, "12 MiB of data in 3 shards"));
  BOOST_TEST(contains(varve("volume detach --help").out, "VM"));
}

BOOST_FIXTURE_TEST_CASE(attaching_prints_the_uri_alone_on_standard_output, cli_fixture) {
  const auto x = varve("volume attach vm1");
  BOOST_TEST(x.out == "nbd+unix:///vm1?socket=/s\n");
  BOOST_TEST(contains(x.err, "file.reconnect-delay=60"));
}

BOOST_FIXTURE_TEST_CASE(listings_are_tables_and_json, cli_fixture) {
  BOOST_TEST(contains(varve("volume ls").out, "NAME  ID"));
  BOOST_TEST(varve("volume ls --no-headers").out.starts_with("vm1"));
  BOOST_TEST(contains(varve("volume ls --json").out, "\"volumes\": ["));
  BOOST_TEST(contains(varve("shard ls vm1 --json").out, "\"offset\": 12582912"));
  BOOST_TEST(contains(varve("tier ls --json").out, "\"state\": \"unknown\""));
  BOOST_TEST(contains(varve("migration ls --json").out, "\"volume\": \"vm1\""));
  BOOST_TEST(contains(varve("events --json").out, "\"CODE\""));
  BOOST_TEST(contains(varve("actor ls").out, "dead"));
}

} // namespace varve
