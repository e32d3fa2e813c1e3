#include "runtime/trace/trace_recorder.hpp"

#include <filesystem>

#include <boost/test/unit_test.hpp>

#include "tests/runtime/fake_plane.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

struct recorder_fixture {
  recorder_fixture() {
    char name[] = "/tmp/varve-recorder-XXXXXX";
    folder = ::mkdtemp(name);
    path = folder + "/t.trace";
  }
  ~recorder_fixture() { std::filesystem::remove_all(folder); }

  std::shared_ptr<trace_recorder> start(trace_recorder::options options = {}) {
    return trace_recorder::start(plane, volume_id{3}, {"vm1", 1 << 30, 1}, path, options, problem);
  }

  std::shared_ptr<fake_plane> plane = std::make_shared<fake_plane>();
  std::string folder, path, problem;
};

} // namespace

BOOST_FIXTURE_TEST_CASE(what_is_observed_is_in_the_file_after_the_stop, recorder_fixture) {
  auto recorder = start();
  BOOST_REQUIRE(recorder);
  BOOST_TEST(plane->observed.value() == 3u);
  plane->sink({{1s, 4096, 512, 1}, {1s + 5us, 0, 0, 4}});
  const auto x = recorder->stop();
  BOOST_TEST(x.records == 2u);
  BOOST_TEST(x.dropped == 0u);
  BOOST_TEST(x.problem == "");
  BOOST_TEST(!plane->sink);
  BOOST_TEST(recorder->stop().records == 2u);
  trace_summary summary;
  BOOST_REQUIRE_EQUAL(summarize(path, summary), "");
  BOOST_TEST(summary.records == 2u);
  BOOST_TEST((summary.duration == 5us));
  BOOST_TEST(summary.file_bytes == x.file_bytes);
}

BOOST_FIXTURE_TEST_CASE(what_the_file_cannot_keep_up_with_is_counted, recorder_fixture) {
  auto recorder = start({2, 1h});
  plane->sink({{1s, 0, 512, 0}, {1s, 512, 512, 0}, {1s, 1024, 512, 0}});
  plane->sink({{1s, 0, 512, 0}});
  const auto x = recorder->stop();
  BOOST_TEST(x.records == 2u);
  BOOST_TEST(x.dropped == 2u);
  trace_summary summary;
  BOOST_REQUIRE_EQUAL(summarize(path, summary), "");
  BOOST_TEST(summary.records == 2u);
  BOOST_TEST(summary.dropped == 2u);
}

BOOST_FIXTURE_TEST_CASE(what_the_data_plane_dropped_meanwhile_is_counted_too, recorder_fixture) {
  plane->counters[volume_id{3}].observations_dropped = 100;
  auto recorder = start();
  plane->counters[volume_id{3}].observations_dropped = 103;
  BOOST_TEST(recorder->stop().dropped == 3u);
  trace_summary summary;
  BOOST_REQUIRE_EQUAL(summarize(path, summary), "");
  BOOST_TEST(summary.dropped == 3u);
}

BOOST_FIXTURE_TEST_CASE(dropping_the_recorder_completes_the_file, recorder_fixture) {
  auto recorder = start();
  auto late = plane->sink;
  plane->sink({{1s, 0, 512, 0}});
  recorder.reset();
  late({{1s, 0, 512, 0}}); // a batch that was under way
  trace_summary summary;
  BOOST_REQUIRE_EQUAL(summarize(path, summary), "");
  BOOST_TEST(summary.records == 1u);
}

BOOST_FIXTURE_TEST_CASE(a_file_that_cannot_be_had_is_a_problem_and_nothing_is_observed, recorder_fixture) {
  path = folder + "/none/t.trace";
  BOOST_TEST(!start());
  BOOST_TEST(problem.find("No such file") != std::string::npos);
  BOOST_TEST(!plane->sink);
}

BOOST_FIXTURE_TEST_CASE(a_full_disk_ends_the_writing_and_says_so, recorder_fixture) {
  path = "/dev/full";
  // Not a regular file that could be read back, but it opens and refuses to be written.
  BOOST_TEST(!start());
  BOOST_TEST(problem.find("No space left") != std::string::npos);
}

} // namespace varve
