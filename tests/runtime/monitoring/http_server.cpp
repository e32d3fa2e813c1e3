#include "runtime/monitoring/http_server.hpp"

#include <boost/test/unit_test.hpp>
#include <httplib.h>

namespace varve {

BOOST_AUTO_TEST_CASE(the_pages_are_served_and_nothing_else) {
  std::string why = "starting";
  std::string problem;
  auto server = http_server::start("127.0.0.1", 0, {[] { return "m 1\n"; }, [&] { return why; }, "{}"}, problem);
  BOOST_REQUIRE_MESSAGE(server, problem);
  httplib::Client http{"127.0.0.1", server->port()};
  BOOST_TEST(http.Get("/livez")->status == 200);
  BOOST_TEST(http.Get("/readyz")->status == 503);
  BOOST_TEST(http.Get("/readyz")->body == "starting\n");
  why.clear();
  BOOST_TEST(http.Get("/readyz")->status == 200);
  BOOST_TEST(http.Get("/metrics")->body == "m 1\n");
  BOOST_TEST(http.Get("/version")->body == "{}");
  BOOST_TEST(http.Get("/else")->status == 404);
  BOOST_TEST(http.Post("/metrics", "x", "text/plain")->status == 404);
}

BOOST_AUTO_TEST_CASE(a_port_that_is_taken_is_a_problem) {
  std::string problem;
  http_pages pages{[] { return ""; }, [] { return ""; }, ""};
  auto first = http_server::start("127.0.0.1", 0, pages, problem);
  BOOST_REQUIRE(first);
  BOOST_TEST(!http_server::start("127.0.0.1", first->port(), pages, problem));
  BOOST_TEST(problem.find("127.0.0.1:") == 0u);
}

} // namespace varve
