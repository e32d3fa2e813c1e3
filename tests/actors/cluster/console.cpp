#include <boost/test/unit_test.hpp>

#include "runtime/rpc/cluster_console.hpp"
#include "tests/actors/cluster/cluster_fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

/// Something that a node runs.
inspected_actor::behavior_type machine(inspected_actor::pointer, std::string name) {
  return {
    [name](atom::report) {
      return actor_report{3, {text_fact("name", name)}};
    },
  };
}

node_root_actor::behavior_type root_of(node_root_actor::pointer, std::vector<std::string>* killed) {
  return {
    [](atom::list) { return std::vector<actor_info>{}; },
    [killed](atom::kill, const std::string& path) { killed->push_back(path); },
    [](atom::stop) {},
  };
}

struct node : cluster_test_node {
  std::unique_ptr<gateway> to;
  std::unique_ptr<cluster_console> people;
  std::vector<std::string> killed;
  cluster_supervisor_actor supervisor;
};

/// A manager "m", which hears all, and the hosts "a" and "b", which do not hear each other.
struct consoles_fixture : cluster_fixture<node> {
  consoles_fixture() {
    cluster.nodes = {{"m", {true, false, false}, {"h", 1}, {"h", 2}},
                     {"a", {false, false, true}, {"h", 3}, {"h", 4}},
                     {"b", {false, false, true}, {"h", 5}, {"h", 6}}};
    for (auto* name : {"m", "a", "b"})
      start(name);
    advance(3s);
  }

  void start(const std::string& name) {
    auto& x = make(name);
    auto& context = *x.context;
    gateway::parts parts;
    parts.system = &system;
    parts.directory = context.directory;
    parts.tree = context.tree;
    parts.now = context.now;
    parts.publish = context.publish;
    parts.root = [&x] { return x.find<node_root_actor>(path::root); };
    gateway_options o;
    o.node = name;
    o.nodes = {"m", "a", "b"};
    o.managers = {"m"};
    x.to = std::make_unique<gateway>(std::move(parts), std::move(o));
    x.people = std::make_unique<cluster_console>(*x.to, cluster_console::asked_by::people);
    context.console = std::make_shared<cluster_console>(*x.to, cluster_console::asked_by::nodes);
    context.directory->put(path::root, spawn(root_of, &x.killed));
    context.tree->started(path::root, "varve.node-root", now());
    context.directory->put(path::host, spawn(machine, name));
    context.tree->started(path::host, "varve.host-supervisor", now());
    x.supervisor = spawn(cluster_supervisor, x.context);
  }
  void lose(const std::string& name) {
    network.cut.insert(name);
    auto& x = nodes[name];
    kill(x.supervisor);
    end(x);
    run();
  }

  /// What was answered, within a minute of the virtual clock.
  template <class T, class Ask>
  caf::expected<T> get(Ask ask) {
    auto result = std::make_shared<std::optional<caf::expected<T>>>();
    ask(answer<T>{
      [result](caf::error e, T x) { *result = e ? caf::expected<T>{std::move(e)} : caf::expected<T>{std::move(x)}; }});
    run();
    for (auto left = 60'000; !*result && left > 0; --left)
      advance(1ms);
    return *result ? **result : caf::expected<T>{make_error(errc::timed_out, "no answer in the test's patience")};
  }
  std::vector<actor_row> tree(const std::string& at, const std::string& path = "/") {
    auto rows = get<std::vector<actor_row>>([&](auto done) { nodes[at].people->tree(path, 0, std::move(done)); });
    BOOST_REQUIRE_MESSAGE(rows, (rows ? "" : context_of(rows.error())));
    return *rows;
  }
  caf::expected<actor_inspection> inspect(const std::string& at, const std::string& path) {
    return get<actor_inspection>([&](auto done) { nodes[at].people->inspect(path, std::move(done)); });
  }
  static const actor_row* row(const std::vector<actor_row>& rows, const std::string& path) {
    for (auto& x : rows)
      if (x.info.path == path)
        return &x;
    return nullptr;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(consoles, consoles_fixture)

BOOST_AUTO_TEST_CASE(each_shows_the_actors_of_all_nodes_its_own_first) {
  for (auto* at : {"m", "a", "b"}) {
    const auto rows = tree(at);
    BOOST_TEST(rows.front().info.path == std::string{"/"} + at);
    for (auto* of : {"m", "a", "b"}) {
      const auto* x = row(rows, std::string{"/"} + of + "/host");
      BOOST_REQUIRE_MESSAGE(x, of << " at " << at);
      BOOST_TEST((x->condition == actor_condition::running));
      BOOST_TEST(x->mailbox == 3u);
      auto found = inspect(at, x->info.path);
      BOOST_REQUIRE(found);
      BOOST_REQUIRE(found->facts.size() == 1u);
      BOOST_TEST(found->facts[0].text == of);
    }
  }
  BOOST_TEST(tree("a", "/b/host").size() == 1u);
}

BOOST_AUTO_TEST_CASE(what_connects_the_nodes_says_how_it_is) {
  auto facts = [&](const std::string& path) {
    std::map<std::string, std::string> result;
    auto x = inspect("a", path);
    BOOST_REQUIRE_MESSAGE(x, path);
    for (auto& f : x->facts)
      result[f.name] = f.unit == fact_unit::text ? f.text : std::to_string(f.number);
    return result;
  };
  BOOST_TEST(facts("/m/cluster/b")["state"] == "connected");
  BOOST_TEST(facts("/m/cluster/b")["connects"] == "1");
  BOOST_TEST(facts("/b/cluster/gate")["roles"] == "host");
  BOOST_TEST(facts("/b/cluster/announcer")["managers-refusing"] == "0");
  lose("b");
  advance(20s);
  BOOST_TEST(facts("/m/cluster/b")["state"] == "not connected");
  BOOST_TEST(facts("/m/cluster/b")["trouble"] == "no route to b");
}

BOOST_AUTO_TEST_CASE(a_kill_is_carried_out_where_the_actor_lives_and_names_who_did_it) {
  BOOST_REQUIRE(get<nothing>([&](auto done) { nodes["a"].people->kill("/b/host", "me", std::move(done)); }));
  BOOST_TEST(nodes["a"].killed.empty());
  BOOST_REQUIRE(nodes["b"].killed.size() == 1u);
  BOOST_TEST(nodes["b"].killed[0] == path::host);
  BOOST_TEST(nodes["b"].has_said("CONSOLE_KILL: /b/host, by me, node a"));
  BOOST_TEST(!nodes["a"].has_said("CONSOLE_KILL"));
}

BOOST_AUTO_TEST_CASE(what_is_sent_keeps_its_words_and_refusals_on_the_way) {
  auto sent = get<actor_facts>([&](auto done) {
    nodes["a"].people->send("/b/host", "dance", {uint64_t{7}, std::string{"x"}, true}, "me", std::move(done));
  });
  BOOST_REQUIRE(!sent);
  BOOST_TEST((code_of(sent.error()) == errc::not_found));
  BOOST_TEST(context_of(sent.error()).starts_with("message \"dance\" for a varve.host-supervisor"));
  BOOST_TEST(nodes["b"].has_said("CONSOLE_SEND: /b/host: dance 7 x true, by me, node a"));
  auto messages = get<std::vector<actor_message>>(
    [&](auto done) { nodes["a"].people->messages("/b/management/none", std::move(done)); });
  BOOST_REQUIRE(!messages);
  BOOST_TEST((code_of(messages.error()) == errc::not_found));
}

BOOST_AUTO_TEST_CASE(a_node_that_is_not_there_is_told_from_one_that_is_not_heard) {
  auto none = inspect("a", "/z/host");
  BOOST_REQUIRE(!none);
  BOOST_TEST((code_of(none.error()) == errc::not_found));
  BOOST_TEST(context_of(none.error()) == "node z; there are: m, a, b");
  lose("b");
  advance(20s);
  for (auto* at : {"m", "a"}) {
    const auto rows = tree(at);
    const auto* x = row(rows, "/b");
    BOOST_REQUIRE(x);
    BOOST_TEST((x->condition == actor_condition::silent));
    BOOST_TEST(x->info.last_error == "node b is not heard by node m");
    BOOST_TEST(row(rows, "/m/host"));
    BOOST_TEST((code_of(inspect(at, "/b/host").error()) == errc::unavailable));
  }
}

BOOST_AUTO_TEST_CASE(a_question_goes_over_one_node_between_at_most) {
  // m is lost: a, asked by people, has nobody to ask; and asked by another node it asks nobody else.
  lose("m");
  advance(20s);
  auto x = inspect("a", "/b/host");
  BOOST_REQUIRE(!x);
  BOOST_TEST(context_of(x.error()) == "node b is not heard by node a");
  auto asked =
    get<actor_inspection>([&](auto done) { nodes["a"].context->console->inspect("/b/host", std::move(done)); });
  BOOST_REQUIRE(!asked);
  BOOST_TEST(context_of(asked.error()) == "node b is not heard by node a");
}

BOOST_AUTO_TEST_SUITE_END()
