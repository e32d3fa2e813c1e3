#include "runtime/catalog/etcd_batch.hpp"
#include "runtime/catalog/etcd_keys.hpp"
#include "runtime/catalog/records.hpp"
#include "tests/runtime/catalog/etcd/etcd_fixture.hpp"
#include "tests/runtime/catalog/etcd/tcp_relay.hpp"

using namespace varve;
using namespace varve::store_cases;

namespace {

/// A manager that leads, and an empty catalog.
struct leading_manager : etcd_manager {
  leading_manager() {
    lead();
    BOOST_REQUIRE((store_cases::commit(*store, {{}, {{key::incarnation, {}, true}}}).status == errc::none));
  }
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

BOOST_AUTO_TEST_SUITE(etcd_stores)

BOOST_AUTO_TEST_CASE(it_keeps_the_contract_of_all_stores) {
  a_batch_is_made_as_a_whole_under_one_revision(*leading_manager{}.store);
  of_one_key_the_last_change_of_a_batch_counts(*leading_manager{}.store);
  a_comparison_that_fails_changes_nothing(*leading_manager{}.store);
  a_listing_has_a_prefix_a_start_and_an_end(*leading_manager{}.store);
  answers_come_in_the_order_of_the_calls(*leading_manager{}.store);
  random_batches_do_what_they_do_in_memory(*leading_manager{}.store, 100);
}

BOOST_AUTO_TEST_CASE(a_long_list_comes_in_pages_of_one_revision) {
  leading_manager manager;
  constexpr int count = 1300; // three pages
  for (int i = 0; i < count; i += 100) {
    catalog_batch batch;
    for (int n = i; n < i + 100; ++n)
      batch.changes.push_back({"k" + std::to_string(10000 + n), std::to_string(n), false});
    BOOST_REQUIRE((commit(*manager.store, batch).status == errc::none));
  }
  // Two keys that others always write together: pages of different revisions would show them apart.
  std::atomic<bool> stop{false};
  std::thread writer{[&] {
    for (int i = 0; !stop; ++i) {
      auto x = put_one(etcd_key::catalog(manager.prefix) + "k", std::to_string(i));
      x.then.push_back(x.then.front());
      x.then.back().key = etcd_key::catalog(manager.prefix) + "kz";
      manager.commit(x);
    }
  }};
  for (int i = 0; i < 20; ++i) {
    auto all = list(*manager.store, "k", "", 100000);
    BOOST_TEST((all.status == errc::none), all.context);
    BOOST_TEST(all.entries.size() >= size_t{count});
    if (all.entries.size() > size_t{count}) {
      BOOST_TEST(all.entries.size() == size_t{count} + 2);
      BOOST_TEST(all.entries.front().value == all.entries.back().value);
    }
  }
  stop = true;
  writer.join();
  BOOST_TEST(list(*manager.store, "k", "k10000", 600).entries.size() == 600u);
}

BOOST_AUTO_TEST_CASE(what_etcd_cannot_do_at_once_is_refused_and_not_done) {
  leading_manager manager;
  catalog_batch many;
  for (int i = 0; i < 127; ++i)
    many.changes.push_back({"a" + std::to_string(i), "x", false});
  BOOST_TEST((commit(*manager.store, many).status == errc::none));
  many.changes.push_back({"a127", "x", false});
  auto refused = commit(*manager.store, many);
  BOOST_TEST((refused.status == errc::limit_reached));
  BOOST_TEST(contains(refused.context, "129 operations"), refused.context);
  BOOST_TEST((commit(*manager.store, put("big", std::string(1500 << 10, 'x'))).status == errc::none));
  BOOST_TEST((commit(*manager.store, put("bigger", std::string(1536 << 10, 'x'))).status == errc::limit_reached));
  BOOST_TEST(list(*manager.store, "", "", 1000).entries.size() == 128u);
  // What is too much for our count of it is too much for etcd, too; what is not, is not.
  BOOST_TEST((commit(*manager.store, put("a", "1")).status == errc::none));
}

BOOST_AUTO_TEST_CASE(without_leading_nothing_is_done) {
  etcd_manager manager;
  BOOST_TEST((commit(*manager.store, put("a", "1")).status == errc::unavailable));
  manager.lead();
  BOOST_TEST((commit(*manager.store, put("a", "1")).status == errc::none));
  manager.store->follow("node other leads");
  auto refused = commit(*manager.store, put("a", "2"));
  BOOST_TEST((refused.status == errc::unavailable));
  BOOST_TEST(refused.context == "node other leads");
  BOOST_TEST((list(*manager.store, "").status == errc::unavailable));
}

// Goal: what a manager believes of itself does not matter. Method: another is made leader behind its back.
BOOST_AUTO_TEST_CASE(a_deposed_manager_changes_nothing) {
  etcd_manager first;
  first.lead();
  BOOST_REQUIRE((commit(*first.store, put("a", "first")).status == errc::none));
  const auto old = first.log.leadership();
  etcd_manager second{first.prefix, {shared_etcd().endpoint()}, "two"};
  first.election.reset(); // resigns; its store is not told
  BOOST_TEST(second.lead().incarnation > old.incarnation);
  BOOST_REQUIRE((commit(*second.store, put("a", "second")).status == errc::none));
  auto refused = commit(*first.store, put("a", "late"));
  BOOST_TEST((refused.status == errc::unavailable));
  BOOST_TEST(contains(refused.context, "does not lead any more"), refused.context);
  BOOST_TEST((list(*first.store, "").status == errc::unavailable));
  BOOST_TEST(list(*second.store, "a").entries.front().value == "second");
}

// The same when the lease is still there and only the key was taken: the comparison alone must refuse.
BOOST_AUTO_TEST_CASE(the_leaders_key_is_compared_by_its_creation) {
  leading_manager manager;
  BOOST_REQUIRE((commit(*manager.store, put("a", "1")).status == errc::none));
  auto store = std::make_unique<etcd_store>(*manager.client, etcd_store_options{manager.prefix});
  auto other = manager.log.leadership();
  --other.created;
  store->lead(other, [](const caf::error&) {});
  std::this_thread::sleep_for(500ms); // never gets ready
  BOOST_TEST((commit(*store, put("a", "2")).status == errc::unavailable));
  etcd_batch batch{other, etcd_key::catalog(manager.prefix), put("a", "2"), "1"};
  const etcd_mark mark{etcd_key::mark(manager.prefix, "0", "0"), 0};
  const auto answer = manager.commit(batch.make(mark));
  BOOST_TEST((answer.status == errc::none));
  BOOST_TEST((batch.read_made(answer, mark).what == etcd_batch::outcome::deposed));
  BOOST_TEST(list(*manager.store, "a").entries.front().value == "1");
}

BOOST_AUTO_TEST_CASE(a_newer_format_is_refused_and_named) {
  etcd_manager manager;
  const auto leader = manager.log.leadership();
  manager.commit(put_one(etcd_key::format(manager.prefix), "99"));
  const auto problem = manager.open(leader);
  BOOST_TEST((code_of(problem) == errc::bad_format));
  BOOST_TEST(contains(context_of(problem), "version 99"), context_of(problem));
  auto refused = commit(*manager.store, put("a", "1"));
  BOOST_TEST((refused.status == errc::unavailable));
  BOOST_TEST(contains(refused.context, "version 99"), refused.context);
}

// -- answers that are lost --------------------------------------------------------------------------------------------

namespace {

struct relayed_manager {
  tcp_relay relay{shared_etcd().port()};
  etcd_manager manager{fresh_prefix(), {relay.endpoint()}, "one", 300ms};
  relayed_manager() {
    manager.lead();
    BOOST_REQUIRE((commit(*manager.store, put("before", "1")).status == errc::none));
  }
  std::future<catalog_result> start(catalog_batch x) {
    auto promise = std::make_shared<std::promise<catalog_result>>();
    manager.store->commit(std::move(x), [promise](catalog_result r) { promise->set_value(std::move(r)); });
    return promise->get_future();
  }
};

} // namespace

// The comparison makes a second application of the batch fail: reported as failed it would be a lie.
BOOST_AUTO_TEST_CASE(a_commit_whose_answer_is_lost_is_found_to_be_made) {
  relayed_manager x;
  x.relay.lose_answers(true);
  auto made = x.start({{{"a", 0}}, {{"a", "1", false}}});
  BOOST_TEST((made.wait_for(900ms) == std::future_status::timeout)); // no answer as long as it is not known
  x.relay.lose_answers(false);
  x.relay.cut();
  const auto result = made.get();
  BOOST_TEST((result.status == errc::none), result.context);
  const auto found = list(*x.manager.store, "a");
  BOOST_REQUIRE(found.entries.size() == 1u);
  BOOST_TEST(found.entries.front().revision == result.revision);
  BOOST_TEST((commit(*x.manager.store, {{{"a", result.revision}}, {{"a", "2", false}}}).status == errc::none));
}

BOOST_AUTO_TEST_CASE(a_commit_that_never_arrived_is_made_when_it_is_known_not_to_be) {
  relayed_manager x;
  x.relay.lose_requests(true);
  auto made = x.start({{{"a", 0}}, {{"a", "1", false}}});
  BOOST_TEST((made.wait_for(900ms) == std::future_status::timeout));
  x.relay.lose_requests(false);
  x.relay.cut();
  const auto result = made.get();
  BOOST_TEST((result.status == errc::none), result.context);
  BOOST_TEST(list(*x.manager.store, "a").entries.size() == 1u);
}

BOOST_AUTO_TEST_CASE(many_commits_under_way_are_each_resolved) {
  relayed_manager x;
  std::vector<std::future<catalog_result>> all;
  for (int i = 0; i < 50; ++i) {
    if (i == 20)
      x.relay.lose_answers(true);
    all.push_back(x.start({{{"a" + std::to_string(i), 0}}, {{"a" + std::to_string(i), "1", false}}}));
  }
  std::this_thread::sleep_for(500ms);
  x.relay.lose_answers(false);
  x.relay.cut();
  for (auto& one : all) {
    const auto result = one.get();
    BOOST_TEST((result.status == errc::none), result.context);
  }
  BOOST_TEST(list(*x.manager.store, "a").entries.size() == 50u);
}

// Goal: a transaction that comes after it was given up is not made. Method: the steps by hand, in the bad order.
BOOST_AUTO_TEST_CASE(what_was_given_up_cannot_be_made_any_more) {
  leading_manager manager;
  const auto leader = manager.log.leadership();
  etcd_batch batch{leader, etcd_key::catalog(manager.prefix), put("a", "late"), "x1"};
  etcd_mark mark{etcd_key::mark(manager.prefix, "0", "0"), 0};
  auto taken = batch.read_taken(manager.commit(batch.take_place(mark)));
  BOOST_TEST((taken.what == etcd_batch::outcome::not_made));
  // The same question again, when its first answer was lost.
  const auto again = batch.read_taken(manager.commit(batch.take_place(mark)));
  BOOST_TEST((again.what == etcd_batch::outcome::not_made));
  BOOST_TEST(again.revision == taken.revision);
  auto late = batch.read_made(manager.commit(batch.make(mark)), mark);
  BOOST_TEST((late.what == etcd_batch::outcome::again));
  BOOST_TEST(list(*manager.store, "a").entries.empty());
  mark.revision = taken.revision;

  // Made, then asked: made. And a question from before, come late, takes nobody's place.
  etcd_batch second{leader, etcd_key::catalog(manager.prefix), put("a", "good"), "x2"};
  const auto made = second.read_made(manager.commit(second.make(mark)), mark);
  BOOST_TEST((made.what == etcd_batch::outcome::made));
  manager.commit(batch.take_place({mark.key, 0}));
  const auto found = second.read_taken(manager.commit(second.take_place(mark)));
  BOOST_TEST((found.what == etcd_batch::outcome::made));
  BOOST_TEST(found.revision == made.revision);
}

BOOST_AUTO_TEST_CASE(when_the_lease_ends_first_the_outcome_is_unknown_and_said_so) {
  relayed_manager x;
  const auto leader = x.manager.log.leadership();
  x.relay.lose_answers(true);
  auto made = x.start(put("a", "1"));
  std::this_thread::sleep_for(400ms);
  shared_etcd().ctl("lease revoke " + [&] {
    char hex[20];
    std::snprintf(hex, sizeof hex, "%llx", static_cast<unsigned long long>(leader.lease));
    return std::string{hex};
  }());
  x.relay.lose_answers(false);
  x.relay.cut();
  const auto result = made.get();
  BOOST_TEST((result.status == errc::timed_out));
  BOOST_TEST(contains(result.context, "whether the change was made"), result.context);
}

// -- etcd away --------------------------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_store_goes_on_when_etcd_comes_back) {
  etcd_server server;
  etcd_manager manager{"/varve-test/", {server.endpoint()}, "one", 500ms};
  const auto leader = manager.lead();
  BOOST_REQUIRE((commit(*manager.store, put("a", "1")).status == errc::none));
  server.kill();
  std::promise<catalog_result> answer;
  manager.store->commit({{{"b", 0}}, {{"b", "1", false}}}, [&](catalog_result x) { answer.set_value(std::move(x)); });
  std::this_thread::sleep_for(300ms);
  server.start();
  const auto result = answer.get_future().get();
  BOOST_TEST((result.status == errc::none), result.context);
  BOOST_TEST(list(*manager.store, "b", "", 1).entries.size() == 1u);
  BOOST_TEST(manager.log.leadership().created == leader.created); // it never lost its lease
  BOOST_TEST(!contains(manager.log.all(), "lost"), manager.log.all());
}

BOOST_AUTO_TEST_CASE(the_next_endpoint_is_asked_when_one_is_silent_or_gone) {
  // The first does not exist, the second takes connections and is silent.
  const int silent = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  BOOST_REQUIRE(::bind(silent, reinterpret_cast<sockaddr*>(&a), size) == 0);
  BOOST_REQUIRE(::listen(silent, 8) == 0);
  ::getsockname(silent, reinterpret_cast<sockaddr*>(&a), &size);
  etcd_manager manager{fresh_prefix(),
                       {"http://127.0.0.1:" + std::to_string(free_port()),
                        "http://127.0.0.1:" + std::to_string(ntohs(a.sin_port)), shared_etcd().endpoint()},
                       "one",
                       300ms};
  manager.lead();
  BOOST_TEST((commit(*manager.store, put("a", "1")).status == errc::none));
  BOOST_TEST(manager.log.said("127.0.0.1", 0s), manager.log.all());
  ::close(silent);
}

BOOST_AUTO_TEST_CASE(who_cannot_be_reached_is_named_within_the_deadline) {
  const auto nowhere = "http://127.0.0.1:" + std::to_string(free_port());
  auto client = connect({nowhere}, 300ms);
  const auto began = std::chrono::steady_clock::now();
  std::promise<etcd_answer> answer;
  client->loop().post([&] { client->commit(put_one("a", "1"), [&](etcd_answer x) { answer.set_value(x); }); });
  const auto x = answer.get_future().get();
  BOOST_TEST((x.status == errc::unavailable || x.status == errc::timed_out));
  BOOST_TEST(contains(x.context, "etcd at " + nowhere + ": "), x.context);
  BOOST_TEST((std::chrono::steady_clock::now() - began < 2s));
  BOOST_TEST_MESSAGE(x.context);
}

BOOST_AUTO_TEST_CASE(a_store_that_ends_answers_all) {
  etcd_server server;
  auto manager = std::make_unique<etcd_manager>("/varve-test/", std::vector{server.endpoint()}, "one", 500ms);
  manager->lead();
  server.pause();
  std::vector<errc> answers;
  for (int i = 0; i < 3; ++i)
    manager->store->commit(put("a", std::to_string(i)), [&](const catalog_result& x) { answers.push_back(x.status); });
  manager->store.reset();
  BOOST_REQUIRE(answers.size() == 3u);
  // The first may have been made; the others, on the same key, were not asked of etcd.
  BOOST_TEST((answers[0] == errc::timed_out));
  BOOST_TEST((answers[1] == errc::unavailable));
  manager.reset();
  server.go_on();
}

BOOST_AUTO_TEST_CASE(with_tls_both_sides_show_who_they_are) {
  temporary_folder keys;
  const auto in = "cd " + keys.path + " && ";
  shell(in + "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key "
             "-out ca.pem");
  for (std::string who : {"server", "client"})
    shell(in + "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + who + " -keyout " + who +
          ".key -out r.csr && printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth' > ext && "
          "openssl x509 -req -in r.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out " +
          who + ".pem");
  const auto file = [&](const char* name) { return keys.path + '/' + name; };
  etcd_server server{{"--cert-file", file("server.pem"), "--key-file", file("server.key"), "--trusted-ca-file",
                      file("ca.pem"), "--client-cert-auth"},
                     "https"};
  const auto ask = [&](etcd_options options, int tries = 1) {
    caf::error problem;
    options.endpoints = {server.endpoint()};
    auto client = etcd_client::make(options, problem);
    if (!client)
      return context_of(problem);
    // The server may listen a moment before it has a leader.
    etcd_answer x;
    for (int i = 0; i < tries; ++i) {
      std::promise<etcd_answer> answer;
      client->loop().post([&] { client->commit(put_one("a", "1"), [&](etcd_answer y) { answer.set_value(y); }); });
      x = answer.get_future().get();
      if (x.status == errc::none)
        return std::string{"good"};
      std::this_thread::sleep_for(100ms);
    }
    return x.context;
  };
  BOOST_TEST(ask({{}, file("ca.pem"), file("client.pem"), file("client.key")}, 20) == "good");
  BOOST_TEST(contains(ask({{}, file("ca.pem"), {}, {}}), "etcd at https://127.0.0.1"));
  BOOST_TEST(contains(ask({{}, {}, file("client.pem"), file("client.key")}), "etcd at https://127.0.0.1"));
  BOOST_TEST(ask({{}, file("nothing.pem"), {}, {}}) == file("nothing.pem") + ": cannot be read");
}

BOOST_AUTO_TEST_SUITE_END()
