#include <boost/test/unit_test.hpp>

#include "actors/node_root.hpp"
#include "runtime/rpc/actor_console.hpp"
#include "tests/actors/fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

/// Takes the question and never answers: as an actor that is busy for ever.
inspected_actor::behavior_type hung(inspected_actor::pointer self) {
  return {
    [self](atom::report) -> caf::result<actor_report> { return self->make_response_promise<actor_report>(); },
  };
}

template <class T>
std::string why(const caf::expected<T>& x) {
  return x ? "" : context_of(x.error());
}

/// A node and its console, over a data plane that takes notes.
struct console_fixture : actor_fixture {
  console_fixture() {
    for (auto* name : {"ram", "fast", "slow"}) {
      tier_settings x;
      x.store.name = name;
      x.store.kind = std::string{name} == "ram" ? tier_kind::memory : tier_kind::file;
      x.capacity_bytes = 1ull << 40;
      options.tiers.push_back(x);
    }
    options.socket_folder = "/nowhere";
    make_context();
    auto root = spawn(node_root, context);
    context->directory->put(path::root, root); // as the program does
    context->tree->started(path::root, node_root_state::name, now());
    gateway::parts parts;
    parts.system = &system;
    parts.directory = context->directory;
    parts.tree = context->tree;
    parts.now = context->now;
    parts.plane = plane;
    parts.publish = context->publish;
    parts.root = [this] { return find<node_root_actor>(path::root); };
    gateway_options o;
    o.node = "n";
    o.tiers = {"ram", "fast", "slow"};
    to = std::make_unique<gateway>(std::move(parts), std::move(o));
    console = std::make_unique<actor_console>(*to);
    advance(1s);
  }

  /// Asks; what is answered at once, or within a patience of the virtual clock.
  template <class T, class Ask>
  caf::expected<T> get(Ask ask, caf::timespan patience = 60s) {
    auto result = std::make_shared<std::optional<caf::expected<T>>>();
    ask(answer<T>{[result](caf::error e, T x) {
      if (e)
        *result = caf::expected<T>{std::move(e)};
      else
        *result = caf::expected<T>{std::move(x)};
    }});
    run();
    for (; !*result && patience.count() > 0; patience -= 1ms)
      advance(1ms);
    return *result ? **result : caf::expected<T>{make_error(errc::timed_out, "no answer in the test's patience")};
  }

  std::vector<actor_row> tree(const std::string& path = "/", caf::timespan patience = 60s) {
    auto rows = get<std::vector<actor_row>>([&](auto done) { console->tree(path, 0, std::move(done)); }, patience);
    BOOST_REQUIRE(rows);
    return *rows;
  }
  static const actor_row* find_row(const std::vector<actor_row>& rows, const std::string& path) {
    for (const auto& x : rows)
      if (x.info.path == path)
        return &x;
    return nullptr;
  }
  actor_row row(const std::string& path) {
    const auto rows = tree();
    const auto* x = find_row(rows, path);
    BOOST_REQUIRE_MESSAGE(x, path);
    return *x;
  }
  std::map<std::string, actor_fact> facts(const std::string& path) {
    auto x = get<actor_inspection>([&](auto done) { console->inspect(path, std::move(done)); });
    BOOST_REQUIRE_MESSAGE(x, path);
    std::map<std::string, actor_fact> result;
    for (const auto& f : x->facts)
      result[f.name] = f;
    return result;
  }
  caf::expected<actor_facts> send(const std::string& path, const std::string& message,
                                  std::vector<argument_value> arguments) {
    return get<actor_facts>(
      [&](auto done) { console->send(path, message, std::move(arguments), "me", std::move(done)); });
  }
  errc kill_by_console(const std::string& path) {
    auto done = get<nothing>([&](auto done) { console->kill(path, "me", std::move(done)); });
    run();
    return done ? errc::none : code_of(done.error());
  }

  volume_id attach(const std::string& name) {
    volume_spec spec;
    spec.name = name;
    spec.size_bytes = 1ull << 30;
    auto made = ask<volume_record>(find<volume_directory_actor>(path::volumes), atom::create_v, spec);
    BOOST_REQUIRE(made);
    BOOST_REQUIRE(ask<attachment>(find<host_supervisor_actor>(path::host), atom::attach_v, made->id, false));
    return made->id;
  }
  /// A VM writes to a shard, so that it exists and is leased.
  void write(volume_id id, uint64_t index) {
    for (int i = 0; i < 30; ++i) {
      const auto* route = plane->find_route(id, shard_index{index});
      if (route && route->writable && route->valid_until > now())
        return;
      plane->need(id, shard_index{index}, 1, true);
      advance(1s);
    }
    BOOST_FAIL("no route");
  }

  std::unique_ptr<gateway> to;
  std::unique_ptr<actor_console> console;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(the_console, console_fixture)

BOOST_AUTO_TEST_CASE(draws_all_actors_of_the_node_as_running) {
  const auto id = attach("vm1");
  write(id, 0);
  const auto rows = tree();
  for (const auto& x : {path::root, path::catalog, path::volumes, path::leases, path::placement, path::migrations,
                        path::monitor, path::host, path::tier("ram"), path::tier("fast"), path::vm_agent(id.value()),
                        path::volume(id.value()), std::string{"storage"}, std::string{"management"}}) {
    const auto* found = find_row(rows, path_of("n", x));
    BOOST_TEST_CONTEXT(x) {
      BOOST_REQUIRE(found);
      BOOST_TEST((found->condition == actor_condition::running));
      BOOST_TEST(found->info.type.starts_with("varve."));
      BOOST_TEST(found->info.age.count() > 0);
      BOOST_TEST(found->mailbox == 0u);
    }
  }
  BOOST_TEST(rows.front().info.path == "/n");
  // Leases are actors too, though nobody's children.
  BOOST_TEST(std::count_if(rows.begin(), rows.end(), [](auto& x) { return x.info.type == "varve.lease"; }) > 0);
  BOOST_TEST(std::count_if(rows.begin(), rows.end(), [](auto& x) { return x.info.type == "varve.shard"; }) > 0);
  for (const auto& x : rows)
    BOOST_TEST((x.condition == actor_condition::running), x.info.path);
}

BOOST_AUTO_TEST_CASE(lets_every_kind_of_actor_say_how_it_is) {
  const auto id = attach("vm1");
  write(id, 0);
  plane->counters[id].connections = 2;
  const auto volume = facts(path_of("n", path::volume(id.value())));
  BOOST_TEST(volume.at("size").number == 1ull << 30);
  BOOST_TEST(volume.at("shards").number >= 1u);
  BOOST_TEST(volume.at("clients").number == 2u);
  BOOST_TEST(volume.at("attachments").number == 1u);
  const auto tier = facts("/n/storage/fast");
  BOOST_TEST(tier.at("capacity").number == 1ull << 40);
  BOOST_TEST(tier.at("shards").number + facts("/n/storage/slow").at("shards").number +
               facts("/n/storage/ram").at("shards").number ==
             volume.at("shards").number);
  BOOST_TEST(tier.contains("read-latency"));
  const auto leases = facts("/n/management/leases");
  BOOST_TEST(leases.at("leases").number >= 1u);
  BOOST_TEST(leases.at("incarnation").number == 1u);
  const auto agent = facts("/n/host/" + std::to_string(id.value()));
  BOOST_TEST(agent.at("volume").number == id.value());
  BOOST_TEST(agent.at("leases-held").number >= 1u);
  BOOST_TEST(agent.contains("needs-waiting"));
  const auto catalog = facts("/n/management/catalog");
  BOOST_TEST(catalog.at("revision").number >= 1u);
  BOOST_TEST(catalog.at("pending").number == 0u);
  const auto storage = facts("/n/storage");
  BOOST_TEST(storage.at("children").number == 4u);
  BOOST_TEST(storage.at("restarts-used").number == 0u);
  BOOST_TEST(facts("/n/management").at("children").number == 8u);
  // All others say something.
  for (const auto& x : tree())
    BOOST_TEST(!facts(x.info.path).empty(), x.info.path);
}

BOOST_AUTO_TEST_CASE(shows_a_killed_actor_as_restarting_and_then_as_restarted) {
  const std::string catalog = "/n/management/catalog";
  BOOST_TEST((kill_by_console(catalog) == errc::none));
  BOOST_TEST(published_count("CONSOLE_KILL") == 1u);
  // Its supervisor waits before it starts it again.
  const auto dead = row(catalog);
  BOOST_TEST((dead.condition == actor_condition::restarting));
  BOOST_TEST(dead.info.last_error != "");
  auto inspected = get<actor_inspection>([&](auto done) { console->inspect(catalog, std::move(done)); });
  BOOST_REQUIRE(inspected);
  BOOST_TEST((inspected->row.condition == actor_condition::restarting));
  BOOST_TEST(inspected->facts.empty());
  BOOST_TEST((kill_by_console(catalog) == errc::not_found));
  BOOST_TEST(facts("/n/management").at("children-restarting").number == 1u);
  advance(1s);
  const auto again = row(catalog);
  BOOST_TEST((again.condition == actor_condition::running));
  BOOST_TEST(again.info.restarts == 1u);
  BOOST_TEST((again.info.age <= 1s));
  BOOST_TEST(facts("/n/management").at("restarts-used").number == 1u);
}

BOOST_AUTO_TEST_CASE(shows_an_actor_that_does_not_answer_as_silent_and_waits_for_it_no_longer_than_its_patience) {
  context->directory->put("management/hung", spawn(hung));
  context->tree->started("management/hung", "varve.hung", now());
  const auto began = now();
  const auto rows = tree("/", 2s);
  BOOST_TEST((now() - began < 1100ms));
  const auto* x = find_row(rows, "/n/management/hung");
  BOOST_REQUIRE(x);
  BOOST_TEST((x->condition == actor_condition::silent));
  // It holds up nobody else.
  for (const auto& other : rows)
    if (&other != x)
      BOOST_TEST((other.condition == actor_condition::running), other.info.path);
  auto inspected =
    get<actor_inspection>([&](auto done) { console->inspect("/n/management/hung", std::move(done)); }, 2s);
  BOOST_REQUIRE(inspected);
  BOOST_TEST((inspected->row.condition == actor_condition::silent));
  kill(find<inspected_actor>("management/hung"));
  context->directory->clear();
}

BOOST_AUTO_TEST_CASE(does_not_wait_for_a_data_path_that_hangs) {
  const auto id = attach("vm1");
  plane->hold(true);
  const auto began = now();
  const auto volume = facts(path_of("n", path::volume(id.value())));
  BOOST_TEST((now() - began < 1100ms));
  BOOST_TEST(volume.at("size").number == 1ull << 30);
  BOOST_TEST(!volume.contains("clients"));
  plane->hold(false);
  BOOST_TEST(facts(path_of("n", path::volume(id.value()))).contains("clients"));
}

BOOST_AUTO_TEST_CASE(counts_the_mailbox_instead_of_waiting_in_it) {
  const auto placement = find<placement_actor>(path::placement);
  for (int i = 0; i < 5; ++i)
    begin<std::string>(placement, atom::place_v, volume_record{}, shard_index{1});
  // The questions are sent when their actors run, the probe when the console's does: let the first come first.
  for (int i = 0; i < 5; ++i)
    sched.try_run_once();
  auto rows = std::make_shared<std::vector<actor_row>>();
  console->tree("/n/management/placement", 0, [rows](const caf::error&, std::vector<actor_row> x) { *rows = x; });
  // The scheduler of tests takes the actor that became ready last.
  while (rows->empty() && sched.try_run_once()) {
  }
  BOOST_REQUIRE(rows->size() == 1u);
  BOOST_TEST(rows->front().mailbox > 0u);
  run();
}

BOOST_AUTO_TEST_CASE(sends_a_volume_its_new_size) {
  const auto id = attach("vm1");
  const auto path = path_of("n", path::volume(id.value()));
  auto answer = send(path, "resize", {uint64_t{2} << 30});
  BOOST_REQUIRE(answer);
  BOOST_TEST(facts(path).at("size").number == 2ull << 30);
  BOOST_TEST(published_count("CONSOLE_SEND") == 1u);
  answer = send(path, "resize", {std::string{"2GiB"}});
  BOOST_TEST((!answer && code_of(answer.error()) == errc::invalid_argument));
}

BOOST_AUTO_TEST_CASE(sends_tiers_lease_managers_and_hosts_what_they_take) {
  const auto id = attach("vm1");
  write(id, 0);
  const auto homes = facts("/n/storage/fast").at("shards").number > 0 ? "fast" : "slow";
  const auto others = std::string{homes} == "fast" ? "slow" : "fast";
  auto answer = send("/n/storage/" + std::string{homes}, "verify", {std::string{"vm1"}, uint64_t{0}});
  BOOST_REQUIRE_MESSAGE(answer, why(answer));
  BOOST_TEST(answer->at(0).name == "blocks-bad");
  answer = send("/n/storage/" + std::string{others}, "verify", {std::string{"vm1"}, uint64_t{0}});
  BOOST_TEST((!answer && code_of(answer.error()) == errc::shard_moved));
  BOOST_TEST(send("/n/management/leases", "break", {std::string{"vm1"}, uint64_t{0}}).operator bool());
  BOOST_TEST(send("/n/host/" + std::to_string(id.value()), "detach", {true}).operator bool());
  BOOST_TEST(!find<caf::actor>(path::vm_agent(id.value())));
}

BOOST_AUTO_TEST_CASE(sends_migrations_their_orders) {
  const auto id = attach("vm1");
  write(id, 0);
  const std::string from = facts("/n/storage/fast").at("shards").number > 0 ? "fast" : "slow";
  const std::string migrations = "/n/management/migrations";
  plane->hold(true); // the move does not end while it is looked at
  auto started = send(migrations, "start",
                      {std::string{"vm1"}, uint64_t{0}, uint64_t{1}, std::string{from == "fast" ? "slow" : "fast"}});
  BOOST_REQUIRE_MESSAGE(started, why(started));
  const auto number = started->at(0).number;
  const auto one = migrations + "/" + std::to_string(number);
  BOOST_TEST(facts(one).at("state").text != "");
  auto paused = send(one, "pause", {});
  BOOST_REQUIRE_MESSAGE(paused, why(paused));
  BOOST_TEST(facts(one).at("paused").number == 1u);
  auto resumed = send(migrations, "resume", {number});
  BOOST_REQUIRE(resumed);
  BOOST_TEST(facts(one).at("paused").number == 0u);
  auto unknown = send(migrations, "cancel", {uint64_t{999}});
  BOOST_TEST((!unknown && code_of(unknown.error()) == errc::not_found));
  BOOST_TEST(send(one, "cancel", {}).operator bool());
  plane->hold(false);
  advance(5s);
}

BOOST_AUTO_TEST_CASE(kills_the_root_too) {
  BOOST_TEST((kill_by_console("/n") == errc::none));
  BOOST_TEST((kill_by_console("/n/none") == errc::not_found));
}

BOOST_AUTO_TEST_SUITE_END()
