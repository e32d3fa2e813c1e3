#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/reactor/rings.hpp"
#include "runtime/storage/file_store.hpp"
#include "tests/runtime/storage/storage_fixture.hpp"

using namespace varve;
using namespace varve::test;

// The same code over the machine's own files, since a model of a disk is only a model.

namespace {

struct real_fixture {
  real_fixture() : made(make_ring({})), on(*made.ring) {
    char name[] = "/tmp/varve-shards-XXXXXX";
    folder = mkdtemp(name);
  }
  ~real_fixture() {
    for (auto i = 0; i < 20; ++i)
      on.step(on.now() + std::chrono::milliseconds{1});
    std::filesystem::remove_all(folder);
  }

  template <class T>
  T run(task<T> x) {
    std::optional<T> result;
    start(store_result(std::move(x), result));
    while (!result)
      on.step(on.now() + std::chrono::seconds{1});
    return std::move(*result);
  }
  opened_shard create(shard_store& store, uint64_t size, uint64_t index = 3) {
    std::optional<opened_shard> result;
    start(create_into(store, header_for(size, index), result));
    while (!result)
      on.step(on.now() + std::chrono::seconds{1});
    return std::move(*result);
  }
  opened_shard open(shard_store& store, uint64_t index = 3) {
    std::optional<opened_shard> result;
    start(open_into(store, header_for(0, index).id, generation{1}, result));
    while (!result)
      on.step(on.now() + std::chrono::seconds{1});
    return std::move(*result);
  }

  made_ring made;
  reactor on;
  std::string folder;
};

} // namespace

BOOST_FIXTURE_TEST_CASE(shards_work_on_real_files_in_both_modes, real_fixture) {
  for (auto io : {file_io::direct, file_io::buffered}) {
    shard_store_options options;
    options.directory = folder;
    options.io = io;
    auto store = make_file_store(on, options);
    auto opened = create(*store, 4 << 20);
    BOOST_REQUIRE((opened.status == errc::none));
    auto x = std::move(opened.shard);
    simulated_random random{7};
    std::vector<std::byte> model(4 << 20), seen(model.size());
    for (auto i = 0; i < 300; ++i) {
      auto length = random.between(1, 50000), offset = random.below(model.size() - length);
      if (i % 3)
        offset = offset / 4096 * 4096;
      std::span part{model.data() + offset, length};
      if (i % 7 == 0) {
        std::fill(part.begin(), part.end(), std::byte{0});
        BOOST_REQUIRE((run(x->write_zeroes(offset, length, i % 2)) == errc::none));
      } else {
        for (auto& b : part)
          b = static_cast<std::byte>(random.next());
        BOOST_REQUIRE((run(x->write(offset, part)) == errc::none));
      }
      if (i % 50 == 0)
        BOOST_REQUIRE((run(x->flush()) == errc::none));
      if (i % 100 == 99) {
        if (i != 199) // closed without a checkpoint: recovered
          BOOST_REQUIRE((run(x->checkpoint()) == errc::none));
        x.reset();
        opened = open(*store);
        BOOST_REQUIRE((opened.status == errc::none));
        x = std::move(opened.shard);
      }
    }
    BOOST_TEST((run(x->read(0, seen)) == errc::none));
    BOOST_TEST((seen == model));
    x.reset();
    BOOST_TEST((run(store->remove(header_for(0).id, generation{1})) == errc::none));
  }
}

BOOST_FIXTURE_TEST_CASE(what_crashes_during_creations_left_is_swept_and_nothing_else, real_fixture) {
  const auto name = to_string(shard_file_name{header_for(0, 7).id, generation{1}});
  auto make = [&](const std::string& x) { std::ofstream{folder + "/" + x} << "x"; };
  auto there = [&](const std::string& x) { return std::filesystem::exists(folder + "/" + x); };
  for (const auto& x : {name, name + ".new", std::string{"notes.new"}, std::string{"v1-s2.shard.new"}})
    make(x);
  std::filesystem::create_directory(folder + "/" + to_string(shard_file_name{header_for(0, 8).id, generation{1}}) +
                                    ".new");
  std::string problem;
  BOOST_TEST(sweep_unfinished_shards(folder, problem));
  BOOST_TEST(there(name));
  BOOST_TEST(!there(name + ".new"));
  BOOST_TEST(there("notes.new"));
  BOOST_TEST(there("v1-s2.shard.new"));
  BOOST_TEST(there(to_string(shard_file_name{header_for(0, 8).id, generation{1}}) + ".new"));
  BOOST_TEST(!sweep_unfinished_shards(folder + "/none", problem));
  BOOST_TEST(problem.find("none") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(a_scan_lists_headers_and_names_what_is_not_a_shard, real_fixture) {
  shard_store_options options;
  options.directory = folder;
  auto store = make_file_store(on, options);
  for (uint64_t index : {5, 2, 900})
    BOOST_REQUIRE((create(*store, 256 << 10, index).status == errc::none));
  std::ofstream{folder + "/" + to_string(shard_file_name{header_for(0, 77).id, generation{1}})} << "not a shard";
  std::ofstream{folder + "/strange.shard"} << "x";
  std::ofstream{folder + "/notes.txt"} << "x";
  std::filesystem::copy(folder + "/" + to_string(shard_file_name{header_for(0, 5).id, generation{1}}),
                        folder + "/" + to_string(shard_file_name{header_for(0, 6).id, generation{1}}));
  std::vector<std::string> problems;
  auto found = scan_shard_files(folder, problems);
  BOOST_REQUIRE(found.size() == 3u);
  BOOST_TEST((found[0].id.index == shard_index{2}));
  BOOST_TEST((found[2].id.index == shard_index{900}));
  BOOST_TEST(found[1].size == 256u << 10);
  BOOST_TEST(problems.size() == 3u);
  problems.clear();
  BOOST_TEST(scan_shard_files(folder + "/none", problems).empty());
  BOOST_TEST(problems.size() == 1u);
}
