#include "actors/root_keeper.hpp"

#include <boost/test/unit_test.hpp>

#include "tests/actors/fixture.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

struct keeper_fixture : actor_fixture {
  keeper_fixture() {
    options.restarts.restarts_max = 3;
    make_context();
    keeper = spawn(root_keeper, context, place, std::function<void()>{[this] { ++given_up; }});
  }
  ~keeper_fixture() {
    if (auto root = place->get())
      keep(root);
  }

  std::shared_ptr<root_place> place = std::make_shared<root_place>();
  caf::actor keeper;
  int given_up = 0;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(keeping_the_root_alive, keeper_fixture)

BOOST_AUTO_TEST_CASE(it_is_started_again_until_it_dies_too_often) {
  for (uint64_t i = 0; i <= options.restarts.restarts_max; ++i) {
    BOOST_REQUIRE(!!place->get());
    BOOST_TEST((find<node_root_actor>(path::root) == place->get()));
    BOOST_TEST(given_up == 0);
    kill(place->get());
    BOOST_TEST(!place->get());
    BOOST_TEST(!find<node_root_actor>(path::root));
    advance(5s);
  }
  BOOST_TEST(!place->get());
  BOOST_TEST(given_up == 1);
  BOOST_TEST(published_count("NODE_ROOT_DIED") == options.restarts.restarts_max + 1);
}

BOOST_AUTO_TEST_CASE(what_died_long_ago_does_not_count) {
  for (uint64_t i = 0; i <= options.restarts.restarts_max; ++i) {
    BOOST_REQUIRE(!!place->get());
    kill(place->get());
    advance(options.restarts.window);
  }
  BOOST_TEST(!!place->get());
  BOOST_TEST(given_up == 0);
}

BOOST_AUTO_TEST_CASE(one_that_was_stopped_stays_stopped) {
  auto root = place->get();
  BOOST_TEST((ask_for<caf::unit_t>(60s, root, atom::stop_v) == caf::expected<caf::unit_t>{caf::unit}));
  caf::anon_send_exit(root, caf::exit_reason::user_shutdown);
  advance(60s);
  BOOST_TEST(!place->get());
  BOOST_TEST(given_up == 0);
  BOOST_TEST(published_count("NODE_ROOT_DIED") == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
