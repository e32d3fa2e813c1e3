#include "runtime/monitoring/logging.hpp"

#include "runtime/monitoring/service_manager.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <boost/test/unit_test.hpp>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace varve {

BOOST_AUTO_TEST_CASE(values_cannot_break_a_line) {
  BOOST_TEST(log_value("plain-1.2/x") == "plain-1.2/x");
  BOOST_TEST(log_value("") == "\"\"");
  BOOST_TEST(log_value("two words") == "\"two words\"");
  BOOST_TEST(log_value("a\nlevel=error \"x\"") == "\"a\\x0alevel=error \\\"x\\\"\"");
}

BOOST_AUTO_TEST_CASE(a_line_is_one_event) {
  char folder[] = "/tmp/varve-log-XXXXXX";
  const auto file = std::string{::mkdtemp(folder)} + "/log";
  BOOST_REQUIRE_EQUAL(start_logging("info", file, "n1"), "");
  spdlog::info("event=test n={}", 1);
  spdlog::debug("event=hidden");
  std::ifstream in{file};
  std::string line, more;
  std::getline(in, line);
  BOOST_TEST(line.find("time=2") == 0u);
  BOOST_TEST(line.find(" level=info node=n1 event=test n=1") != std::string::npos);
  BOOST_TEST(!std::getline(in, more));
  BOOST_TEST(start_logging("info", "/nonexistent/log", "n1") != "");
  std::filesystem::remove_all(folder);
}

BOOST_AUTO_TEST_CASE(the_service_manager_is_told) {
  char folder[] = "/tmp/varve-notify-XXXXXX";
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  const auto path = std::string{::mkdtemp(folder)} + "/n";
  path.copy(at.sun_path, sizeof at.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  BOOST_REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  notify_service_manager("READY=1");
  char text[64] = {};
  BOOST_TEST(::recv(fd, text, sizeof text, 0) == 7);
  BOOST_TEST(std::string{text} == "READY=1");
  ::unsetenv("NOTIFY_SOCKET");
  notify_service_manager("READY=1"); // nobody to tell
  ::close(fd);
  std::filesystem::remove_all(folder);
}

BOOST_AUTO_TEST_CASE(the_watchdog_is_for_the_process_that_it_names) {
  ::unsetenv("WATCHDOG_USEC");
  BOOST_TEST(watchdog_time().count() == 0);
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  BOOST_TEST((watchdog_time() == std::chrono::seconds{30}));
  ::setenv("WATCHDOG_PID", "1", 1);
  BOOST_TEST(watchdog_time().count() == 0);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  BOOST_TEST((watchdog_time() == std::chrono::seconds{30}));
  ::setenv("WATCHDOG_USEC", "soon", 1);
  BOOST_TEST(watchdog_time().count() == 0);
  ::unsetenv("WATCHDOG_USEC");
  ::unsetenv("WATCHDOG_PID");
}

} // namespace varve
