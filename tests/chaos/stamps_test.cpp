// Stamped blocks and logs: what a client writes down is what the checker gets.
#include <filesystem>
#include <fstream>

#include <boost/test/unit_test.hpp>
#include <unistd.h>

#include "tests/chaos/history_check.hpp"
#include "tests/chaos/stamped_block.hpp"

using namespace varve::chaos;

namespace {

struct folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("varve-history." + std::to_string(::getpid()));
  folder() { std::filesystem::create_directory(path); }
  ~folder() { std::filesystem::remove_all(path); }
};

struct block_fixture {
  alignas(8) std::array<std::byte, block_bytes> block{};
  const stamp value{3, 2, 77};
};

} // namespace

BOOST_FIXTURE_TEST_CASE(a_block_gives_back_its_stamp, block_fixture) {
  BOOST_TEST((read_block(block, 1, 5) == blank));
  fill_block(block, 1, 5, value);
  BOOST_TEST((read_block(block, 1, 5) == value));
}

BOOST_FIXTURE_TEST_CASE(a_block_of_another_place_is_no_stamp, block_fixture) {
  fill_block(block, 1, 5, value);
  BOOST_TEST(!read_block(block, 1, 6));
  BOOST_TEST(!read_block(block, 2, 5));
}

BOOST_FIXTURE_TEST_CASE(a_torn_or_damaged_block_is_no_stamp, block_fixture) {
  fill_block(block, 1, 5, value);
  auto newer = block;
  fill_block(newer, 1, 5, {3, 2, 78});
  for (size_t sectors = 1; sectors < 8; ++sectors) {
    auto torn = block;
    std::copy_n(newer.begin(), sectors * 512, torn.begin());
    BOOST_TEST(!read_block(torn, 1, 5));
    std::fill_n(torn.begin() + static_cast<long>(sectors) * 512, 512, std::byte{0});
    BOOST_TEST(!read_block(torn, 1, 5));
  }
  for (size_t i = 0; i < block_bytes; i += 37) {
    auto damaged = block;
    damaged[i] ^= std::byte{1};
    BOOST_TEST(!read_block(damaged, 1, 5));
    std::array<std::byte, block_bytes> zero{};
    zero[i] = std::byte{1};
    BOOST_TEST(!read_block(zero, 1, 5));
  }
}

BOOST_FIXTURE_TEST_CASE(logs_of_several_clients_make_one_history, folder) {
  {
    history_log a(path / "a", 7), b(path / "b", 7);
    a.append({1, 10, 3, {1, 1, 1}, log_event::write_begins});
    b.append({1, 12, 3, blank, log_event::read_begins});
    a.append({2, 13, 4, {1, 1, 2}, log_event::write_begins});
    a.append({1, 20, 3, {1, 1, 1}, log_event::done});
    b.append({1, 22, 3, {1, 1, 1}, log_event::done});
    a.append({2, 23, 4, {1, 1, 2}, log_event::lost});
    b.append({2, 25, 4, blank, log_event::read_begins});
    b.append({2, 27, 4, blank, log_event::failed, 5});
    b.append({3, 30, 4, blank, log_event::read_begins});
    a.append({3, 31, 3, {1, 1, 3}, log_event::write_begins});
  }
  const std::vector<std::filesystem::path> logs{path / "a", path / "b"};
  auto all = read_logs(logs);
  BOOST_TEST(all.writes == 3u);
  BOOST_TEST(all.reads == 3u);
  BOOST_TEST(all.lost == 1u);
  BOOST_TEST(all.failed == 1u);
  BOOST_TEST(all.unanswered == 2u);
  BOOST_REQUIRE(all.operations.size() == 4u); // three writes and the read that says something
  BOOST_TEST(all.operations[1].block == 3u);
  BOOST_TEST(all.operations[1].op.end == 22);
  BOOST_TEST((all.operations[2].op.value == stamp{1, 1, 3}));
  BOOST_TEST(all.operations[2].op.end == never);
  BOOST_TEST(all.operations[3].op.end == never);
  auto result = check_history(all);
  BOOST_TEST(result.blocks == 2u);
  BOOST_TEST(result.violations.empty());

  // Within 15 to 26 of block 4: a write lost at 23, a read that is still under way.
  std::vector<wait_window> windows{{15, 26, 7, {4}}, {15, 26, 8, {4}}, {15, 26, 7, {3}}};
  find_waits(logs, windows);
  BOOST_TEST(windows[0].longest == 8);
  BOOST_TEST(windows[0].answered == 0u);
  BOOST_TEST(windows[0].refused == 1u);
  BOOST_TEST(windows[0].waiting == 1u);
  BOOST_TEST(windows[1].longest == 0);
  // Of block 3: a write until 20, a read until 22.
  BOOST_TEST(windows[2].longest == 7);
  BOOST_TEST(windows[2].answered == 2u);
}

BOOST_FIXTURE_TEST_CASE(a_violation_is_that_of_its_block, folder) {
  {
    history_log a(path / "a", 7);
    for (uint64_t block = 1; block <= 3; ++block) {
      a.append({block * 10, 10, block, {1, 1, block}, log_event::write_begins});
      a.append({block * 10, 20, block, {1, 1, block}, log_event::done});
      a.append({block * 10 + 1, 30, block, blank, log_event::read_begins});
      a.append({block * 10 + 1, 40, block, block == 2 ? blank : stamp{1, 1, block},
                block == 3 ? log_event::garbled : log_event::done});
    }
  }
  auto result = check_history(read_logs({path / "a"}));
  BOOST_REQUIRE(result.violations.size() == 2u);
  BOOST_TEST(result.violations[0].block == 2u);
  BOOST_TEST(result.violations[1].block == 3u);
}

BOOST_FIXTURE_TEST_CASE(a_killed_clients_log_is_read_and_what_is_none_is_named, folder) {
  { history_log(path / "a", 7).append({1, 10, 3, {1, 1, 1}, log_event::write_begins}); }
  std::ofstream(path / "a", std::ios::app) << "half";
  BOOST_TEST(read_logs({path / "a"}).unanswered == 1u);
  std::ofstream(path / "b") << "something else, long enough to have a head";
  BOOST_CHECK_EXCEPTION(read_logs({path / "b"}), std::runtime_error, [&](auto& e) {
    return std::string(e.what()).find((path / "b").string()) != std::string::npos;
  });
  BOOST_CHECK_THROW(history_log(path / "a", 7), std::system_error);
}
