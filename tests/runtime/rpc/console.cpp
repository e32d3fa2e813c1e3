#include <atomic>
#include <filesystem>
#include <mutex>

#include <boost/test/unit_test.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "runtime/rpc/rpc_client.hpp"
#include "runtime/rpc/rpc_server.hpp"
#include "tests/runtime/rpc/sharing_config.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

/// A lease manager that says how it is, and counts what it is made to do.
using talking_leases_actor = lease_manager_actor::extend_with<inspected_actor>;

talking_leases_actor::behavior_type talking_leases(talking_leases_actor::pointer,
                                                   std::shared_ptr<std::atomic<int>> broken) {
  return {
    [](atom::acquire, const lease_request&, const lease_holder_actor&) -> caf::result<std::vector<lease_grant>> {
      return make_error(errc::unsupported);
    },
    [](atom::change, const lease_request&) -> caf::result<std::vector<lease_grant>> {
      return make_error(errc::unsupported);
    },
    [](atom::renew, holder_id) -> caf::result<lease_renewal> { return make_error(errc::unsupported); },
    [](atom::release, holder_id, shard_id, uint64_t) {},
    [broken](atom::evict, shard_id) { ++*broken; },
    [](atom::refresh, const shard_home&) {},
    [](atom::list, volume_id) { return std::vector<lease_info>{}; },
    [](atom::list, uint64_t, uint64_t) { return lease_history{}; },
    [](atom::report) {
      return actor_report{3, {count_fact("leases", 12), text_fact("note", "fine"), time_fact("term", 45s)}};
    },
  };
}

volume_directory_actor::behavior_type one_volume(volume_directory_actor::pointer) {
  return {
    [](atom::create, const volume_spec&) -> caf::result<volume_record> { return make_error(errc::unsupported); },
    [](atom::get, const std::string& name) -> caf::result<volume_record> {
      if (name != "vm1")
        return make_error(errc::not_found, "volume " + name);
      volume_record x;
      x.id = volume_id{7};
      x.spec = {"vm1", 64ull << 20, 4ull << 20, false, "", sensitivity::normal};
      return x;
    },
    [](atom::open, volume_id) -> caf::result<volume_actor> { return make_error(errc::unsupported); },
    [](atom::list) { return std::vector<volume_record>{}; },
  };
}

node_root_actor::behavior_type fake_root(node_root_actor::pointer, std::shared_ptr<std::string> killed) {
  return {
    [](atom::list) { return std::vector<actor_info>{}; },
    [killed](atom::kill, const std::string& path) { *killed = path; },
    [](atom::stop) {},
  };
}

struct console_fixture {
  console_fixture() {
    char name[] = "/tmp/varve-console-XXXXXX";
    folder = ::mkdtemp(name);
    rpc_options limits;
    limits.socket_path = folder + "/s";
    root = system.spawn(fake_root, killed);
    directory->put(path::leases, system.spawn(talking_leases, broken));
    directory->put(path::volumes, system.spawn(one_volume));
    auto tree = std::make_shared<actor_tree>();
    tree->started("management", "varve.management-supervisor", boot_time{0});
    tree->died("management", "boom");
    tree->started(path::leases, "varve.lease-manager", boot_time{0});
    gateway::parts parts;
    parts.system = &system;
    parts.directory = directory;
    parts.tree = tree;
    parts.now = [] { return boot_time{5s}; };
    parts.root = [this] { return root; };
    parts.stop = [this] { stopped = true; };
    parts.publish = [this](std::string code, std::string text) {
      std::lock_guard guard{mutex};
      events.emplace_back(std::move(code), std::move(text));
    };
    gateway_options options;
    options.timeout = options.timeout_long = 1s;
    options.allow_kill = true;
    options.node = "n1";
    options.patience = 300ms;
    to = std::make_unique<gateway>(parts, options);
    std::string problem;
    server = rpc_server::start(*to, nullptr, limits, problem);
    BOOST_REQUIRE_MESSAGE(server, problem);
    node = rpc_client::connect(limits.socket_path, 5s, problem);
    BOOST_REQUIRE_MESSAGE(node, problem);
  }

  ~console_fixture() {
    node.reset();
    server.reset();
    directory->clear();
    caf::anon_send_exit(root, caf::exit_reason::kill);
    root = nullptr;
    system.await_actors_before_shutdown(false);
    std::filesystem::remove_all(folder);
  }

  std::vector<std::pair<std::string, std::string>> seen() {
    std::lock_guard guard{mutex};
    return events;
  }

  std::string folder;
  std::shared_ptr<std::atomic<int>> broken = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<std::string> killed = std::make_shared<std::string>();
  std::atomic<bool> stopped{false};
  std::mutex mutex;
  std::vector<std::pair<std::string, std::string>> events; // guarded by mutex
  std::shared_ptr<varve::directory> directory = std::make_shared<varve::directory>();
  sharing_config config;
  caf::actor_system system{config};
  node_root_actor root;
  std::unique_ptr<gateway> to;
  std::unique_ptr<rpc_server> server;
  std::unique_ptr<rpc_client> node;
};

errc code(const caf::error& e) {
  return code_of(e);
}
template <class T>
errc code(const caf::expected<T>& x) {
  return x ? errc::none : code_of(x.error());
}

const std::string leases = "/n1/management/leases";
const std::vector<argument_value> shard_3{std::string{"vm1"}, uint64_t{3}};

} // namespace

BOOST_FIXTURE_TEST_SUITE(the_console_by_rpc, console_fixture)

BOOST_AUTO_TEST_CASE(shows_the_tree_and_what_an_actor_says) {
  BOOST_REQUIRE(!node->console_open(false));
  const auto rows = node->console_tree("/", 0);
  BOOST_REQUIRE(rows);
  BOOST_REQUIRE(rows->size() == 3u);
  BOOST_TEST(rows->at(0).info.path == "/n1/management");
  BOOST_TEST((rows->at(0).condition == actor_condition::restarting));
  BOOST_TEST(rows->at(0).info.last_error == "boom");
  BOOST_TEST(rows->at(1).info.path == leases);
  BOOST_TEST((rows->at(1).condition == actor_condition::running));
  BOOST_TEST(rows->at(1).mailbox == 3u);
  BOOST_TEST((rows->at(1).info.age == 5s));
  const auto x = node->console_inspect(leases);
  BOOST_REQUIRE(x);
  BOOST_REQUIRE(x->facts.size() == 3u);
  BOOST_TEST(x->facts[0].name == "leases");
  BOOST_TEST(x->facts[0].number == 12u);
  BOOST_TEST(x->facts[1].text == "fine");
  BOOST_TEST((x->facts[2].unit == fact_unit::nanoseconds));
  const auto messages = node->console_messages(leases);
  BOOST_REQUIRE(messages);
  BOOST_REQUIRE(messages->size() == 1u);
  BOOST_TEST(messages->at(0).name == "break");
  BOOST_TEST((messages->at(0).arguments.at(1).type == argument_type::number));
}

BOOST_AUTO_TEST_CASE(says_which_nodes_and_actors_there_are_not) {
  BOOST_REQUIRE(!node->console_open(true));
  BOOST_TEST(context_of(node->console_tree("/n2", 0).error()) == "node n2; there is: n1");
  BOOST_TEST((code(node->console_inspect("/n1/none")) == errc::not_found));
  BOOST_TEST((code(node->console_messages("n1")) == errc::invalid_argument));
  BOOST_TEST((code(node->console_kill("/n1/none")) == errc::not_found));
  BOOST_TEST((code(node->console_send("/n1/none", "break", shard_3)) == errc::not_found));
  BOOST_TEST(seen().size() == 1u); // nothing was done
}

BOOST_AUTO_TEST_CASE(sends_and_kills_with_the_right_to_and_every_use_is_an_event) {
  BOOST_REQUIRE(!node->console_open(true));
  BOOST_TEST((code(node->console_send(leases, "break", shard_3)) == errc::none));
  BOOST_TEST(*broken == 1);
  BOOST_TEST((code(node->console_kill(leases)) == errc::none));
  BOOST_TEST(*killed == path::leases);
  const auto events = seen();
  BOOST_REQUIRE(events.size() == 3u);
  const auto me = "user " + std::to_string(::geteuid()) + ", process " + std::to_string(::getpid());
  BOOST_TEST(events[0].first == "CONSOLE_WRITER");
  BOOST_TEST(events[0].second == "a console that may act on actors: " + me);
  BOOST_TEST(events[1].first == "CONSOLE_SEND");
  BOOST_TEST(events[1].second == leases + ": break vm1 3, by " + me);
  BOOST_TEST(events[2].first == "CONSOLE_KILL");
  BOOST_TEST(events[2].second == leases + ", by " + me);
}

BOOST_AUTO_TEST_CASE(refuses_messages_and_arguments_that_do_not_fit) {
  BOOST_REQUIRE(!node->console_open(true));
  auto x = node->console_send(leases, "grant", {});
  BOOST_TEST((code(x) == errc::not_found));
  BOOST_TEST(context_of(x.error()) == "message \"grant\" for a varve.lease-manager; there are: break");
  x = node->console_send(leases, "break", {std::string{"vm1"}, std::string{"three"}});
  BOOST_TEST((code(x) == errc::invalid_argument));
  BOOST_TEST(context_of(x.error()) == "argument 2 of \"break\" (SHARD) must be a number");
  // As the actor refuses.
  BOOST_TEST((code(node->console_send(leases, "break", {std::string{"vm9"}, uint64_t{3}})) == errc::not_found));
  BOOST_TEST(*broken == 0);
}

BOOST_AUTO_TEST_CASE(reads_only_for_the_whole_connection_when_it_was_opened_so) {
  // A right that was had before is gone too.
  BOOST_REQUIRE(!node->console_open(true));
  BOOST_REQUIRE(!node->console_open(false));
  BOOST_TEST((code(node->console_send(leases, "break", shard_3)) == errc::read_only));
  BOOST_TEST((code(node->console_kill(leases)) == errc::read_only));
  // There is no way back, and none around.
  BOOST_TEST((code(node->console_open(true)) == errc::read_only));
  BOOST_TEST((code(node->volume_create({})) == errc::read_only));
  BOOST_TEST((code(node->volume_resize("vm1", 1)) == errc::read_only));
  BOOST_TEST((code(node->volume_remove("vm1", true)) == errc::read_only));
  BOOST_TEST((code(node->volume_attach("vm1", "", false)) == errc::read_only));
  BOOST_TEST((code(node->volume_detach("vm1", true, "")) == errc::read_only));
  BOOST_TEST((code(node->shard_move("vm1", 0, 1, "slow")) == errc::read_only));
  BOOST_TEST((code(node->shard_verify("vm1", 0)) == errc::read_only));
  BOOST_TEST((code(node->lease_break("vm1", 3)) == errc::read_only));
  BOOST_TEST((code(node->migration_cancel(migration_id{1})) == errc::read_only));
  BOOST_TEST((code(node->migration_pause(migration_id{1})) == errc::read_only));
  BOOST_TEST((code(node->migration_resume(migration_id{1})) == errc::read_only));
  BOOST_TEST((code(node->actor_kill(path::leases)) == errc::read_only));
  BOOST_TEST((code(node->trace_start("vm1", "/tmp/none")) == errc::read_only));
  BOOST_TEST((code(node->stop()) == errc::read_only));
  BOOST_TEST(*broken == 0);
  BOOST_TEST(*killed == "");
  BOOST_TEST(!stopped);
  // Reading goes on.
  BOOST_TEST((code(node->console_tree("/", 0)) == errc::none));
  BOOST_TEST((code(node->lease_list("vm1")) == errc::none));
}

BOOST_AUTO_TEST_CASE(leaves_other_connections_their_rights) {
  BOOST_REQUIRE(!node->console_open(false));
  node.reset();
  std::string problem;
  node = rpc_client::connect(folder + "/s", 5s, problem);
  BOOST_REQUIRE(node);
  BOOST_TEST((code(node->lease_break("vm1", 3)) == errc::none));
  BOOST_TEST(*broken == 1);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
