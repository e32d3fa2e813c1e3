#include "actors/host/host_supervisor.hpp"

#include <boost/test/unit_test.hpp>

#include "tests/actors/host/fakes.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

constexpr volume_id volume{7};

struct supervisor_fixture : host_fixture {
  void start() {
    host = spawn(host_supervisor, context);
    context->directory->put(path::host, host);
    run();
  }
  vm_agent_actor agent() { return find<vm_agent_actor>(path::vm_agent(7)); }

  host_supervisor_self host;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(host_supervisor_, supervisor_fixture)

BOOST_AUTO_TEST_CASE(an_attach_is_recorded_and_served) {
  start();
  auto x = ask<attachment>(host, atom::attach_v, volume, false);
  BOOST_REQUIRE(x);
  BOOST_TEST(record().attached());
  BOOST_TEST((record().attachments.at(0).holder == x->holder));
  BOOST_TEST(plane->ports.count(volume) == 1u);
  BOOST_TEST(ask<std::vector<attachment>>(host, atom::list_v)->size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_second_attach_gets_the_attachment_that_is_there) {
  start();
  auto first = begin<attachment>(host, atom::attach_v, volume, false);
  auto second = begin<attachment>(host, atom::attach_v, volume, false);
  run();
  BOOST_REQUIRE(first.done());
  BOOST_REQUIRE(second.done());
  auto third = ask<attachment>(host, atom::attach_v, volume, false);
  BOOST_TEST((first.get()->holder == second.get()->holder));
  BOOST_TEST((first.get()->holder == third->holder));
}

BOOST_AUTO_TEST_CASE(each_attach_is_a_new_holder) {
  start();
  auto first = ask<attachment>(host, atom::attach_v, volume, false);
  BOOST_TEST((refusal<caf::unit_t>(host, atom::detach_v, volume, false) == errc::none));
  BOOST_TEST(ask<std::vector<attachment>>(host, atom::list_v)->empty());
  auto second = ask<attachment>(host, atom::attach_v, volume, false);
  BOOST_REQUIRE(first);
  BOOST_REQUIRE(second);
  BOOST_TEST((first->holder < second->holder));
}

BOOST_AUTO_TEST_CASE(what_is_not_there_or_not_attached_is_refused) {
  start();
  BOOST_TEST((refusal<attachment>(host, atom::attach_v, volume_id{99}, false) == errc::not_found));
  BOOST_TEST((refusal<caf::unit_t>(host, atom::detach_v, volume, false) == errc::volume_detached));
  BOOST_TEST((refusal<caf::unit_t>(host, atom::detach_v, volume_id{99}, false) == errc::not_found));
  BOOST_TEST((refusal<caf::unit_t>(host, atom::resize_v, volume, uint64_t{4096}) == errc::volume_detached));
}

BOOST_AUTO_TEST_CASE(a_port_that_cannot_be_opened_takes_the_attachment_back) {
  start();
  plane->fail_next["open_port"] = errc::invalid_argument;
  plane->hold(true);
  auto asked = begin<attachment>(host, atom::attach_v, volume, false);
  run();
  plane->hold(false);
  run();
  BOOST_TEST((asked.code() == errc::invalid_argument));
  BOOST_TEST(!record().attached());
  BOOST_TEST(!agent());
  BOOST_TEST((refusal<attachment>(host, atom::attach_v, volume, false) == errc::none));
}

BOOST_AUTO_TEST_CASE(attached_volumes_are_served_again_after_a_restart_by_the_same_holder) {
  record().attachments = {{holder_id{42}, context->options.name}};
  start();
  advance(100ms);
  BOOST_REQUIRE(!!agent());
  BOOST_TEST(ask<attachment>(host, atom::attach_v, volume, false)->holder.value() == 42u);
  kill(host);
  BOOST_TEST(!agent());
  BOOST_TEST(plane->ports.count(volume) == 1u);
  start();
  advance(100ms);
  BOOST_REQUIRE(!!agent());
  BOOST_TEST(ask<attachment>(host, atom::attach_v, volume, false)->holder.value() == 42u);
}

BOOST_AUTO_TEST_CASE(restoring_waits_for_the_volumes) {
  record().attachments = {{holder_id{42}, context->options.name}};
  context->directory->remove(path::volumes, volumes.address());
  start();
  advance(5s);
  BOOST_TEST(!agent());
  BOOST_TEST((refusal<attachment>(host, atom::attach_v, volume_id{8}, false) == errc::unavailable));
  start_volumes();
  advance(2s);
  BOOST_TEST(!!agent());
}

BOOST_AUTO_TEST_CASE(a_killed_agent_is_started_again_as_the_same_holder) {
  start();
  auto x = ask<attachment>(host, atom::attach_v, volume, false);
  for (int i = 0; i < 5; ++i) {
    kill(agent());
    advance(10s);
    BOOST_REQUIRE(!!agent());
  }
  BOOST_TEST((ask<attachment>(agent(), atom::get_v)->holder == x->holder));
  BOOST_TEST((refusal<caf::unit_t>(host, atom::detach_v, volume, false) == errc::none));
}

BOOST_AUTO_TEST_CASE(what_a_holder_is_told_reaches_its_agent) {
  start();
  BOOST_REQUIRE(ask<attachment>(host, atom::attach_v, volume, false));
  plane->need(volume, shard_index{5}, 1, true);
  run();
  auto route = [&] { return plane->find_route(volume, shard_index{5}); };
  BOOST_REQUIRE(route());
  BOOST_TEST(route()->writable);
  BOOST_TEST((refusal<caf::unit_t>(host, atom::change_v, shard_id{volume, shard_index{5}}) == errc::none));
  BOOST_REQUIRE(route());
  BOOST_TEST(!route()->writable);
  BOOST_TEST((refusal<caf::unit_t>(host, atom::revoke_v, shard_id{volume, shard_index{5}}, uint64_t{1}) == errc::none));
  BOOST_TEST(!route());
  // Of a volume without an agent there is nothing to lower.
  BOOST_TEST((refusal<caf::unit_t>(host, atom::change_v, shard_id{volume_id{8}, shard_index{5}}) == errc::none));
}

BOOST_AUTO_TEST_CASE(a_resize_reaches_the_port_by_way_of_the_agent) {
  start();
  BOOST_REQUIRE(ask<attachment>(host, atom::attach_v, volume, false));
  BOOST_TEST((refusal<caf::unit_t>(host, atom::resize_v, volume, uint64_t{2} << 30) == errc::none));
  BOOST_TEST(plane->ports.at(volume).options.size_bytes == 2ull << 30);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
