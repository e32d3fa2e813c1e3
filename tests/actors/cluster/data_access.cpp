#include <boost/test/unit_test.hpp>

#include "actors/storage/data_keeper.hpp"
#include "actors/storage/storage_supervisor.hpp"
#include "tests/actors/cluster/cluster_fixture.hpp"
#include "tests/actors/cluster/fake_remote_io.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

std::function<void(std::span<std::byte>)> counting() {
  return [next = uint8_t{0}](std::span<std::byte> x) mutable {
    ++next;
    for (auto& b : x)
      b = std::byte{next};
  };
}

struct book_fixture {
  book_fixture() {
    cluster.name = "lab";
    cluster.nodes = {
      {"m", {true, false, false}, {}, {}}, {"h", {false, false, true}, {}, {}}, {"s", {false, true, true}, {}, {}}};
  }
  key_book::answer give(const std::string& node, uint64_t incarnation, uint32_t reactor, boot_time now = 0s) {
    key_book::answer out;
    refused = code_of(book.give(cluster, {node, incarnation, reactor}, now, 60s, out));
    return out;
  }

  cluster_config cluster;
  key_book book{2, counting()};
  errc refused = errc::none;
};

struct node : cluster_test_node {
  std::shared_ptr<fake_remote_io> remote;
  cluster_supervisor_actor supervisor;
  storage_supervisor_actor storage;
};

/// "a" has storage, "b" is a host: their connection, keys and links.
struct access_fixture : cluster_fixture<node> {
  access_fixture() {
    cluster.nodes = {{"a", {false, true, false}, {"h", 1}, {"h", 2}}, {"b", {false, false, true}, {"h", 3}, {"h", 4}}};
  }
  node& start(const std::string& name, uint64_t incarnation = 1) {
    auto& x = make(name, incarnation);
    if (!x.remote)
      x.remote = std::make_shared<fake_remote_io>(name == "a" ? 2 : 3);
    x.context->remote = x.remote;
    x.context->fill_random = counting();
    x.supervisor = spawn(cluster_supervisor, x.context);
    if (x.context->options.roles.storage)
      x.storage = spawn(storage_supervisor, x.context);
    run();
    return x;
  }
  void lose(const std::string& name) {
    auto& x = nodes[name];
    kill(x.supervisor);
    if (x.storage)
      kill(x.storage);
    x.said.clear();
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(key_book_, book_fixture)

BOOST_AUTO_TEST_CASE(each_pair_of_reactors_has_a_key_of_its_own_with_the_rights_of_who_asks) {
  auto first = give("h", 1, 0).keys, second = give("h", 1, 1).keys, third = give("s", 1, 0).keys;
  BOOST_REQUIRE(first.size() == 2u);
  std::set<uint64_t> ids;
  std::set<std::byte> secrets;
  for (auto* all : {&first, &second, &third})
    for (auto& x : *all) {
      ids.insert(x.id);
      secrets.insert(x.secret[0]);
    }
  BOOST_TEST(ids.size() == 6u);
  BOOST_TEST(secrets.size() == 6u);
  BOOST_TEST((first[0].rights == remote_rights::data));
  BOOST_TEST((third[0].rights == remote_rights::control));
  // One initiator is one reactor of one node, wherever it goes.
  BOOST_TEST(first[0].initiator == first[1].initiator);
  BOOST_TEST(first[0].initiator != second[0].initiator);
  BOOST_TEST(first[0].initiator != third[0].initiator);
  BOOST_TEST(first[0].initiator != 0u);
  BOOST_TEST((first[0].expires == 60s));
  BOOST_TEST(book.keys() == 6u);
}

BOOST_AUTO_TEST_CASE(asked_again_in_time_the_same_keys_hold_on_and_too_late_there_are_others) {
  const auto before = give("h", 1, 0).keys;
  const auto again = give("h", 1, 0, 20s);
  BOOST_TEST(again.keys[1].id == before[1].id);
  BOOST_TEST((again.keys[1].expires == 80s));
  BOOST_TEST(again.revoked.empty());
  const auto late = give("h", 1, 0, 80s);
  BOOST_TEST(late.keys[1].id != before[1].id);
  BOOST_REQUIRE(late.revoked.size() == 2u);
  BOOST_TEST(late.revoked[1].key == before[1].id);
  BOOST_TEST(late.revoked[1].reactor == 1u);
}

BOOST_AUTO_TEST_CASE(a_new_life_of_a_node_takes_the_keys_of_the_one_before) {
  const auto before = give("h", 3, 0).keys;
  give("h", 3, 1);
  give("h", 2, 0);
  BOOST_TEST((refused == errc::conflict));
  const auto after = give("h", 4, 0);
  BOOST_TEST(after.revoked.size() == 4u);
  BOOST_TEST(after.keys[0].id != before[0].id);
  BOOST_TEST(after.keys[0].initiator == before[0].initiator);
  BOOST_TEST(book.keys() == 2u);
}

BOOST_AUTO_TEST_CASE(strangers_managers_and_endless_reactors_get_no_keys) {
  give("z", 1, 0);
  BOOST_TEST((refused == errc::not_found));
  give("m", 1, 0);
  BOOST_TEST((refused == errc::not_found));
  give("h", 1, key_book::reactors_max);
  BOOST_TEST((refused == errc::invalid_argument));
  BOOST_TEST(book.keys() == 0u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(data_access_, access_fixture)

BOOST_AUTO_TEST_CASE(a_host_gets_its_keys_and_renews_them_before_they_end) {
  auto& a = start("a");
  auto& b = start("b");
  advance(3s);
  BOOST_TEST(a.remote->allowed.size() == 6u);
  BOOST_TEST(b.remote->keys.size() == 6u);
  BOOST_TEST(b.remote->counts["a"] == 2u);
  BOOST_TEST((b.remote->ports[{"a", 1}] == 1u));
  for (auto& [of, key] : b.remote->keys) {
    auto at = a.remote->allowed.find({std::get<1>(of), key.id});
    BOOST_REQUIRE((at != a.remote->allowed.end()));
    BOOST_TEST((at->second.secret == key.secret));
    BOOST_TEST((at->second.rights == remote_rights::data));
    // The holder stops first.
    BOOST_TEST((key.expires <= at->second.expires));
  }
  const auto ids = a.remote->allowed;
  advance(300s);
  for (auto& [of, key] : b.remote->keys)
    BOOST_TEST((key.expires > now() + 30s));
  BOOST_TEST(a.remote->allowed.size() == 6u);
  BOOST_TEST((a.remote->allowed.begin()->first == ids.begin()->first));
  BOOST_TEST(a.remote->disallowed == 0u);
}

BOOST_AUTO_TEST_CASE(a_keeper_that_died_gives_the_same_keys_and_takes_them_back_from_an_earlier_life) {
  auto& a = start("a");
  auto& b = start("b");
  advance(3s);
  const auto before = a.remote->allowed;
  const auto set = b.remote->keys_set;
  kill(a.find<data_keeper_actor>(path::data_keeper));
  advance(5s);
  BOOST_TEST(b.remote->keys_set > set); // asked at once, not at a third of the term
  BOOST_TEST(a.remote->allowed.size() == before.size());
  BOOST_TEST((a.remote->allowed.begin()->first == before.begin()->first));
  lose("b");
  start("b", 2);
  advance(3s);
  BOOST_TEST(a.remote->disallowed == before.size());
  BOOST_TEST(a.remote->allowed.size() == before.size());
  BOOST_TEST((a.remote->allowed.begin()->first != before.begin()->first));
}

BOOST_AUTO_TEST_CASE(a_node_that_is_back_gives_new_keys_at_once) {
  start("a");
  auto& b = start("b");
  advance(3s);
  const auto before = b.remote->keys;
  lose("a");
  nodes["a"].remote = std::make_shared<fake_remote_io>(1);
  advance(20s);
  auto& a = start("a", 2);
  advance(5s);
  BOOST_TEST(b.remote->counts["a"] == 1u);
  BOOST_TEST(a.remote->allowed.size() == 3u);
  for (auto& [of, key] : a.remote->allowed)
    BOOST_TEST((std::count_if(b.remote->keys.begin(), b.remote->keys.end(),
                              [&](auto& x) { return x.second.id == of.second; }) == 1));
}

BOOST_AUTO_TEST_CASE(data_that_cannot_be_reached_for_a_while_is_told_of_once_and_that_it_is_back) {
  start("a");
  auto& b = start("b");
  advance(3s);
  BOOST_REQUIRE(b.remote->session);
  auto told = [&](uint32_t theirs, bool open) {
    b.remote->session("a", theirs, 0, {open, open ? "" : "connection refused"});
    run();
  };
  // A short interruption is nobody's business.
  told(0, false);
  advance(2s);
  told(0, true);
  advance(10s);
  BOOST_TEST(!b.has_said("DATA_"));
  for (int i = 0; i < 10; ++i) {
    told(0, false); // each try tells
    told(1, false);
    advance(1s);
  }
  BOOST_TEST(b.times("DATA_UNREACHABLE: the shards of node a can be neither read nor written: connection refused") ==
             1u);
  told(0, true);
  BOOST_TEST(!b.has_said("DATA_REACHABLE"));
  told(1, true);
  BOOST_TEST(b.times("DATA_REACHABLE: the shards of node a") == 1u);
}

BOOST_AUTO_TEST_CASE(nothing_is_handed_out_without_a_source_of_secrets) {
  auto& a = make("a");
  a.remote = std::make_shared<fake_remote_io>();
  a.context->remote = a.remote;
  a.storage = spawn(storage_supervisor, a.context);
  advance(1s);
  BOOST_TEST(a.times("DATA_KEYS_UNAVAILABLE") == 1u);
  BOOST_TEST(!a.find<data_keeper_actor>(path::data_keeper));
}

BOOST_AUTO_TEST_SUITE_END()
