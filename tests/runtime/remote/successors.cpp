// What a node's process leaves unflushed at other nodes when it is killed: the VM goes on with the next process.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/remote/unsynced_book.hpp"
#include "tests/runtime/remote/cluster_fixture.hpp"

namespace varve::test {

namespace {

constexpr volume_id vm{7};
constexpr holder_id holder{3};

struct successor_fixture : cluster_fixture {
  void open_port(holder_id as = holder, std::chrono::nanoseconds error_after = 0s) {
    open("a", vm, 16 * shard_size, error_after, as);
  }
  void restart(const std::string& name, bool power = false) {
    kill(node(name), power);
    boot(node(name));
  }
  size_t noted() {
    size_t result = 0;
    for (size_t at = 0; at < node("a").unsynced.size(); at += unsynced_book::record_bytes)
      result += node("a").unsynced[at + 4] != std::byte{0};
    return result;
  }
};

/// Records in memory, as a file keeps them.
struct records {
  unsynced_book::writer writer() {
    return [this](uint64_t slot, std::span<const std::byte> record) {
      if (full)
        return false;
      bytes.resize(std::max<size_t>(bytes.size(), (slot + 1) * record.size()));
      std::copy(record.begin(), record.end(), bytes.begin() + static_cast<ptrdiff_t>(slot * record.size()));
      return true;
    };
  }
  std::vector<std::byte> bytes;
  bool full = false;
};

inherited_shard shard_at(const std::string& tier, uint64_t index, uint64_t verifier = 9) {
  return {tier, {vm, shard_index{index}}, generation{1}, verifier};
}

} // namespace

BOOST_AUTO_TEST_SUITE(successors)

BOOST_FIXTURE_TEST_CASE(a_flush_covers_what_a_killed_predecessor_wrote, successor_fixture) {
  open_port();
  // Power loss takes some of what is not synced, not all.
  for (uint64_t i = 0; i < 16; ++i)
    BOOST_TEST((write("a", vm, i * shard_size, 64 << 10, 1) == errc::none));
  // Its session hangs: the end of it would have the storage sync, some time later.
  wire("a", "b").hold();
  restart("a");
  open_port();
  io x{block_op::flush, 0, 0};
  submit("a", vm, x);
  wire("a", "b").release();
  BOOST_TEST((finish(x) && x.status == errc::none));
  kill(node("b"), true);
  boot(node("b"));
  for (uint64_t i = 0; i < 16; ++i)
    BOOST_TEST(read("a", vm, i * shard_size, 64 << 10) == 1);
  BOOST_TEST(noted() == 0u);
}

BOOST_FIXTURE_TEST_CASE(power_that_was_lost_meanwhile_fails_the_flush, successor_fixture) {
  open_port();
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  kill(node("a"));
  restart("b", true);
  boot(node("a"));
  open_port();
  BOOST_TEST((flush("a", vm) == errc::shard_failed));
  // Also when it has used the shard before.
  BOOST_TEST((write("a", vm, 0, 4096, 2) == errc::none));
  BOOST_TEST((flush("a", vm) == errc::shard_failed));
  // And whoever comes after.
  restart("a");
  open_port();
  BOOST_TEST((flush("a", vm) == errc::shard_failed));
}

BOOST_FIXTURE_TEST_CASE(the_first_use_by_the_successor_hides_nothing, successor_fixture) {
  open_port();
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  kill(node("a"));
  restart("b", true);
  boot(node("a"));
  open_port();
  BOOST_TEST((write("a", vm, 8192, 4096, 2) == errc::none));
  BOOST_TEST((flush("a", vm) == errc::shard_failed));
}

BOOST_FIXTURE_TEST_CASE(what_was_flushed_is_nobodys_worry, successor_fixture) {
  open_port();
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  BOOST_TEST(noted() == 1u);
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(noted() == 0u);
  kill(node("a"));
  restart("b", true);
  boot(node("a"));
  open_port();
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(read("a", vm, 0, 4096) == 1);
}

BOOST_FIXTURE_TEST_CASE(another_attachment_begins_anew, successor_fixture) {
  open_port();
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  kill(node("a"));
  restart("b", true);
  boot(node("a"));
  open_port(holder_id{4});
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(noted() == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_flush_waits_for_the_node_that_may_hold_some, successor_fixture) {
  open_port();
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  kill(node("b"));
  restart("a");
  open_port();
  io waits{block_op::flush, 0, 0};
  submit("a", vm, waits);
  world.advance(20s);
  BOOST_TEST(!waits.done);
  boot(node("b"));
  BOOST_TEST((finish(waits, 30s) && waits.status == errc::none));
  // With a limit it fails instead.
  BOOST_TEST((write("a", vm, 0, 4096, 2) == errc::none));
  kill(node("b"));
  restart("a");
  open_port(holder, 2s);
  BOOST_TEST((flush("a", vm) != errc::none));
}

BOOST_FIXTURE_TEST_CASE(what_has_moved_meanwhile_is_durable_there, successor_fixture) {
  open_port();
  BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  kill(node("a"));
  const auto move = ends_of({vm, shard_index{0}}, node("c").files());
  BOOST_REQUIRE((begin(move) == errc::none));
  while (copy(move).remaining_bytes > 0)
    ;
  BOOST_REQUIRE((switch_over(move).status == errc::none));
  commit(move);
  BOOST_TEST((end(move, true) == errc::none));
  boot(node("a"));
  open_port();
  BOOST_TEST((flush("a", vm) == errc::none));
  BOOST_TEST(read("a", vm, 0, 4096) == 1);
}

/// Of a change at node b whose answer is lost, with the lease; `meanwhile` is what others do until it is back.
struct unanswered_fixture : cluster_fixture {
  static constexpr shard_id shard{vm, shard_index{0}};

  unanswered_fixture() {
    open("a", vm);
    open("b", vm);
    BOOST_TEST((write("a", vm, 0, 4096, 1) == errc::none));
  }
  template <class F>
  errc repeated(F meanwhile) {
    // The first of its lease: what was heard under one before does not count.
    node("a").plane->set_routes(vm, {route_to(shard)});
    wire("a", "b").deaf = true;
    io x{block_op::write, 0, 4096, 2};
    submit("a", vm, x);
    world.advance(100ms);
    BOOST_TEST(!x.done);
    BOOST_TEST((raise_fence(shard) == errc::none));
    granting = false;
    node("b").plane->set_routes(vm, {route_to(shard)});
    BOOST_TEST(read("b", vm, 0, 4096) == 2); // it was made
    meanwhile();
    wire("a", "b").deaf = false;
    wire("a", "b").cut();
    wire("a", "b").release();
    granting = true;
    BOOST_TEST(finish(x, 1min));
    return x.status;
  }
};

BOOST_FIXTURE_TEST_CASE(an_unanswered_change_is_not_made_again_over_that_of_another, unanswered_fixture) {
  const auto status = repeated([this] { BOOST_TEST((write("b", vm, 0, 4096, 3) == errc::none)); });
  BOOST_TEST((status == errc::conflict), to_string(status));
  BOOST_TEST(read("b", vm, 0, 4096) == 3);
  // What is begun later is a change of its own.
  BOOST_TEST((write("a", vm, 0, 4096, 4) == errc::none));
  BOOST_TEST(read("b", vm, 0, 4096) == 4);
}

BOOST_FIXTURE_TEST_CASE(an_unanswered_change_is_made_again_where_others_have_only_read, unanswered_fixture) {
  BOOST_TEST((repeated([] {}) == errc::none));
  BOOST_TEST(read("b", vm, 0, 4096) == 2);
}

BOOST_FIXTURE_TEST_CASE(an_unanswered_change_is_made_again_by_a_storage_that_was_started_anew, unanswered_fixture) {
  // Who has changed what before that it does not know; the VM is not to fail for it.
  const auto status = repeated([this] {
    kill(node("b"));
    boot(node("b"));
  });
  BOOST_TEST((status == errc::none));
}

BOOST_AUTO_TEST_CASE(a_book_is_read_as_it_was_written) {
  records file;
  {
    unsynced_book book{1, {}, file.writer()};
    BOOST_TEST(book.begin(vm, holder).empty());
    BOOST_TEST(book.note(shard_at("one", 1)));
    BOOST_TEST(book.note(shard_at("two", 1)));
    BOOST_TEST(book.note(shard_at(std::string(63, 'x'), 2, 10)));
    // The first verifier is the one that counts.
    BOOST_TEST(book.note(shard_at("one", 1, 11)));
    book.forget(shard_at("two", 1));
    // A volume that has no port here.
    BOOST_TEST(book.note({"one", {volume_id{8}, shard_index{0}}, generation{1}, 9}));
    BOOST_TEST(book.size() == 2u);
  }
  unsynced_book book{1, file.bytes, file.writer()};
  const auto found = book.begin(vm, holder);
  BOOST_REQUIRE(found.size() == 2u);
  BOOST_TEST((found[0].tier == "one" && found[0].verifier == 9 && found[0].id.index == shard_index{1}));
  BOOST_TEST((found[1].tier == std::string(63, 'x') && found[1].verifier == 10 && found[1].of == generation{1}));
  // A slot that became free is used again.
  const auto before = file.bytes.size();
  BOOST_TEST(book.note(shard_at("three", 3)));
  BOOST_TEST(file.bytes.size() == before);
}

BOOST_AUTO_TEST_CASE(a_book_of_another_boot_or_a_broken_record_says_nothing) {
  records file;
  unsynced_book book{1, {}, file.writer()};
  book.begin(vm, holder);
  BOOST_TEST(book.note(shard_at("one", 1)));
  BOOST_TEST(book.note(shard_at("two", 2)));
  records other = file;
  BOOST_TEST((unsynced_book{2, other.bytes, other.writer()}.begin(vm, holder).empty()));
  file.bytes[unsynced_book::record_bytes + 60] ^= std::byte{1};
  file.bytes.resize(file.bytes.size() + 5); // ends within a record
  unsynced_book again{1, file.bytes, file.writer()};
  const auto found = again.begin(vm, holder);
  BOOST_REQUIRE(found.size() == 1u);
  BOOST_TEST(found[0].tier == "one");
}

BOOST_AUTO_TEST_CASE(what_cannot_be_written_down_is_counted) {
  records file;
  unsynced_book book{1, {}, file.writer()};
  book.begin(vm, holder);
  file.full = true;
  BOOST_TEST(!book.note(shard_at("one", 1)));
  BOOST_TEST(book.failures() == 1u);
  file.full = false;
  BOOST_TEST(book.note(shard_at("one", 1)));
  BOOST_TEST(book.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_book_in_a_file) {
  auto folder = std::filesystem::temp_directory_path() / "varve-unsynced-XXXXXX";
  std::string name = folder;
  BOOST_REQUIRE(::mkdtemp(name.data()));
  const auto path = name + "/unsynced";
  std::string problem;
  {
    auto book = open_unsynced_book(path, 1, problem);
    BOOST_REQUIRE(book);
    book->begin(vm, holder);
    BOOST_TEST(book->note(shard_at("one", 1)));
  }
  BOOST_TEST((std::filesystem::status(path).permissions() == std::filesystem::perms(0600)));
  auto book = open_unsynced_book(path, 1, problem);
  BOOST_REQUIRE(book);
  BOOST_TEST(book->begin(vm, holder).size() == 1u);
  BOOST_TEST(!open_unsynced_book(name + "/none/unsynced", 1, problem));
  BOOST_TEST(problem.find("/none/unsynced") != std::string::npos);
  std::filesystem::remove_all(name);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve::test
