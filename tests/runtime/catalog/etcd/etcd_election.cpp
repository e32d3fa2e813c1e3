#include "runtime/catalog/etcd_keys.hpp"
#include "tests/runtime/catalog/etcd/etcd_fixture.hpp"
#include "tests/runtime/catalog/etcd/tcp_relay.hpp"

using namespace varve;

namespace {

etcd_election_options candidate(const std::string& prefix, const std::string& name, const std::string& identity = {}) {
  return {prefix, name, identity, 3s};
}

} // namespace

BOOST_AUTO_TEST_SUITE(etcd_elections)

BOOST_AUTO_TEST_CASE(one_leads_and_the_next_does_when_it_resigns) {
  const auto prefix = fresh_prefix();
  auto client = connect({shared_etcd().endpoint()});
  election_log one, two;
  auto first = std::make_unique<etcd_election>(*client, candidate(prefix, "one"), one.events());
  const auto old = one.leadership();
  etcd_election second{*client, candidate(prefix, "two"), two.events()};
  BOOST_TEST(two.said("waiting: node one leads"), two.all());
  std::this_thread::sleep_for(4s); // beyond the term: it is kept alive
  BOOST_TEST(one.leads());
  BOOST_TEST(!two.leads());
  const auto began = std::chrono::steady_clock::now();
  first.reset();
  const auto next = two.leadership();
  BOOST_TEST((std::chrono::steady_clock::now() - began < 2s)); // it did not wait for the term
  BOOST_TEST(next.incarnation == old.incarnation + 1);
  BOOST_TEST(next.created > old.created);
}

BOOST_AUTO_TEST_CASE(of_many_campaigners_one_leads_at_a_time) {
  const auto prefix = fresh_prefix();
  std::vector<std::unique_ptr<etcd_client>> clients;
  std::vector<std::unique_ptr<election_log>> logs;
  std::vector<std::unique_ptr<etcd_election>> elections;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(connect({shared_etcd().endpoint()}));
    logs.push_back(std::make_unique<election_log>());
    elections.push_back(
      std::make_unique<etcd_election>(*clients.back(), candidate(prefix, std::to_string(i)), logs.back()->events()));
  }
  uint64_t last = 0;
  for (size_t round = 0; round < elections.size(); ++round) {
    size_t leader = elections.size();
    for (int tries = 0; tries < 1000 && leader == elections.size(); ++tries, std::this_thread::sleep_for(10ms))
      for (size_t i = 0; i < elections.size(); ++i)
        if (elections[i] && logs[i]->leads())
          leader = i;
    BOOST_REQUIRE(leader < elections.size());
    std::this_thread::sleep_for(200ms);
    for (size_t i = 0; i < elections.size(); ++i)
      BOOST_TEST((i == leader || !elections[i] || !logs[i]->leads()));
    const auto incarnation = logs[leader]->leadership().incarnation;
    BOOST_TEST(incarnation > last);
    last = incarnation;
    elections[leader].reset();
  }
}

// Goal: who cannot reach etcd any more stops before another begins. Method: its network is lost, another waits.
BOOST_AUTO_TEST_CASE(a_leader_that_is_cut_off_stops_before_the_next_begins) {
  const auto prefix = fresh_prefix();
  tcp_relay relay{shared_etcd().port()};
  auto here = connect({relay.endpoint()}, 500ms), there = connect({shared_etcd().endpoint()});
  election_log one, two;
  etcd_election first{*here, candidate(prefix, "one"), one.events()};
  one.leadership();
  etcd_election second{*there, candidate(prefix, "two"), two.events()};
  BOOST_REQUIRE(two.said("node one leads"));
  relay.lose_answers(true);
  relay.lose_requests(true);
  while (one.leads()) {
    BOOST_REQUIRE(!two.leads());
    std::this_thread::sleep_for(5ms);
  }
  BOOST_TEST(one.said("lost: the leader's lease could not be renewed: etcd at " + relay.endpoint(), 0s), one.all());
  two.leadership();
  relay.lose_answers(false);
  relay.lose_requests(false);
  relay.cut();
  BOOST_TEST(one.said("waiting: node two leads"), one.all());
}

BOOST_AUTO_TEST_CASE(a_leader_that_was_not_told_so_finds_out) {
  const auto prefix = fresh_prefix();
  tcp_relay relay{shared_etcd().port()};
  auto client = connect({relay.endpoint()}, 300ms);
  election_log log;
  relay.lose_answers_after("\"identity\"");
  etcd_election election{*client, {prefix, "one", {}, 20s}, log.events()};
  relay.wait_for_it();
  std::this_thread::sleep_for(500ms); // it gave up, and asks again in vain
  BOOST_TEST(log.said("waiting: etcd at " + relay.endpoint() + ": no answer in time"), log.all());
  BOOST_TEST(!log.leads());
  relay.lose_answers(false);
  relay.cut();
  const auto x = log.leadership();
  BOOST_TEST(x.incarnation == 1u);
  BOOST_TEST(log.all().find("waiting: node") == std::string::npos, log.all());
}

// Goal: no two leaders have one incarnation. Method: between looking and running of one, another leads and resigns.
BOOST_AUTO_TEST_CASE(who_runs_late_gets_a_higher_incarnation) {
  const auto prefix = fresh_prefix();
  tcp_relay relay{shared_etcd().port()};
  auto slow = connect({relay.endpoint()}), quick = connect({shared_etcd().endpoint()});
  election_log one, two;
  relay.hold_requests_from("\"identity\"");
  etcd_election first{*slow, candidate(prefix, "one"), one.events()};
  relay.wait_for_it();
  {
    etcd_election second{*quick, candidate(prefix, "two"), two.events()};
    BOOST_TEST(two.leadership().incarnation == 1u);
  }
  relay.release();
  BOOST_TEST(one.leadership().incarnation == 2u);
}

BOOST_AUTO_TEST_CASE(a_restarted_node_takes_over_from_itself_at_once) {
  const auto prefix = fresh_prefix();
  tcp_relay relay{shared_etcd().port()};
  auto dying = connect({relay.endpoint()}, 300ms), next = connect({shared_etcd().endpoint()});
  election_log one, two;
  etcd_election first{*dying, {prefix, "one", "the same", 60s}, one.events()};
  const auto old = one.leadership();
  relay.lose_requests(true); // as dead as can be
  const auto began = std::chrono::steady_clock::now();
  etcd_election second{*next, {prefix, "one", "the same", 60s}, two.events()};
  BOOST_TEST(two.leadership().incarnation > old.incarnation);
  BOOST_TEST((std::chrono::steady_clock::now() - began < 10s));
}

BOOST_AUTO_TEST_CASE(a_leader_whose_key_is_removed_stops_and_is_elected_anew) {
  const auto prefix = fresh_prefix();
  auto client = connect({shared_etcd().endpoint()});
  election_log log;
  etcd_election election{*client, candidate(prefix, "one"), log.events()};
  const auto old = log.leadership();
  shared_etcd().ctl("del " + etcd_key::leader(prefix));
  BOOST_TEST(log.said("lost: the leader's key was removed"), log.all());
  BOOST_TEST(log.leadership().created > old.created);
  BOOST_TEST(log.leadership().incarnation > old.incarnation);
}

// Goal: what is missed while the watch is away is found, also when its history is gone. Method: etcd dies, and its
// history is compacted beyond what the waiting node saw, before that can watch again.
BOOST_AUTO_TEST_CASE(a_change_missed_while_away_is_found_after_a_compaction) {
  etcd_server server;
  tcp_relay relay{server.port()};
  auto here = connect({server.endpoint()}), far = connect({relay.endpoint()}, 500ms);
  election_log one, two;
  auto first = std::make_unique<etcd_election>(*here, candidate("/v/", "one"), one.events());
  one.leadership();
  etcd_election second{*far, candidate("/v/", "two"), two.events()};
  BOOST_REQUIRE(two.said("node one leads"));
  relay.lose_answers(true);
  first.reset();
  std::string revision;
  for (int i = 0; i < 20; ++i)
    server.ctl("put x " + std::to_string(i));
  revision = server.ctl("get x -w json");
  revision = revision.substr(revision.find("\"revision\":") + 11);
  server.ctl("compact --physical " + revision.substr(0, revision.find_first_not_of("0123456789")));
  BOOST_TEST(!two.leads());
  relay.lose_answers(false);
  relay.cut();
  two.leadership();
}

BOOST_AUTO_TEST_CASE(a_watch_of_what_is_compacted_says_so) {
  etcd_server server;
  auto client = connect({server.endpoint()});
  for (int i = 0; i < 20; ++i)
    server.ctl("put x " + std::to_string(i));
  server.ctl("compact --physical 15");
  std::promise<etcd_watch_report> told;
  std::unique_ptr<etcd_watch_handle> watch;
  client->loop().post([&] {
    watch = client->watch("x", 3, [&](const etcd_watch_report& x) {
      if (x.status != errc::none)
        told.set_value(x);
    });
  });
  const auto x = told.get_future().get();
  BOOST_TEST((x.status == errc::bad_format));
  BOOST_TEST(x.revision >= 15u);
  client->loop().run_here([&] { watch.reset(); });
}

BOOST_AUTO_TEST_CASE(a_watch_tells_of_puts_and_removals_in_order) {
  const auto key = fresh_prefix() + "watched";
  auto client = connect({shared_etcd().endpoint()});
  std::mutex mutex;
  std::string seen;
  std::unique_ptr<etcd_watch_handle> watch;
  client->loop().run_here([&] {
    watch = client->watch(key, 1, [&](const etcd_watch_report& x) {
      std::lock_guard guard{mutex};
      for (const auto& e : x.events)
        seen += e.erased ? "- " : e.entry.value + ' ';
    });
  });
  shared_etcd().ctl("put " + key + " 1");
  shared_etcd().ctl("put " + key + " 2");
  shared_etcd().ctl("del " + key);
  for (int i = 0; i < 500; ++i, std::this_thread::sleep_for(10ms))
    if (std::lock_guard guard{mutex}; seen.size() >= 6)
      break;
  client->loop().run_here([&] { watch.reset(); });
  BOOST_TEST(seen == "1 2 - ");
  shared_etcd().ctl("put " + key + " 3");
  client->loop().run_here([] {});
  BOOST_TEST(seen == "1 2 - ");
}

BOOST_AUTO_TEST_CASE(etcd_killed_and_back_within_the_term_changes_nothing) {
  etcd_server server;
  auto client = connect({server.endpoint()}, 500ms);
  election_log log;
  etcd_election election{*client, {"/v/", "one", {}, 5s}, log.events()};
  const auto leader = log.leadership();
  for (int i = 0; i < 2; ++i) {
    server.kill();
    std::this_thread::sleep_for(500ms);
    server.start();
    std::this_thread::sleep_for(3s);
    BOOST_TEST(log.leads(), log.all());
  }
  BOOST_TEST(log.leadership().created == leader.created);
}

BOOST_AUTO_TEST_SUITE_END()
