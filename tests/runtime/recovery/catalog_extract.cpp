#include "runtime/recovery/catalog_extract.hpp"

#include <filesystem>
#include <future>
#include <thread>

#include <boost/test/unit_test.hpp>

#include "runtime/catalog/memory_store.hpp"
#include "runtime/catalog/records.hpp"
#include "runtime/recovery/tier_claims.hpp"
#include "tests/runtime/catalog/temporary_folder.hpp"

namespace varve {

using namespace std::chrono_literals;

namespace {

volume_record volume(uint64_t id, const std::string& name) {
  volume_record x;
  x.id = volume_id{id};
  x.spec.name = name;
  x.spec.size_bytes = 1 << 30;
  x.spec.shard_size = shard_size_default;
  return x;
}

bool wait_until(const std::function<bool()>& done) {
  for (int i = 0; i < 2000 && !done(); ++i)
    std::this_thread::sleep_for(5ms);
  return done();
}

struct extract_fixture {
  std::shared_ptr<extracting_store> open() {
    extract_options options;
    options.folders = folders;
    options.delay = 1ms;
    options.retry = 10ms;
    options.on_problem = [this](std::string) { ++problems; };
    return std::make_shared<extracting_store>(store, std::move(options));
  }
  void put(catalog_store& into, const std::string& key, const std::string& value) {
    BOOST_REQUIRE(commit_now(into, {{}, {{key, value, false}}}).status == errc::none);
  }
  /// The value that the folder's extract has; empty: none.
  std::string in(const std::string& folder, const std::string& key) {
    catalog_extract x;
    std::string problem;
    if (read_extract(folder, x, problem) != errc::none)
      return {};
    const auto* found = x.find(key);
    return found ? *found : std::string{};
  }

  temporary_folder a, b;
  std::vector<std::string> folders{a.path, b.path};
  std::shared_ptr<memory_store> store = std::make_shared<memory_store>();
  std::atomic<int> problems{0};
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(extracts, extract_fixture)

BOOST_AUTO_TEST_CASE(what_was_written_is_read_and_anything_else_is_refused) {
  const catalog_extract x{17, {{"volume/1", "{\"a\": \"line\\nbreak\"}", 0}, {"meta/next-volume", "4", 0}}};
  catalog_extract read;
  std::string problem;
  const auto text = encode(x);
  BOOST_TEST((decode(text, read, problem) == errc::none));
  BOOST_TEST(read.revision == 17u);
  BOOST_REQUIRE(read.entries.size() == 2u);
  BOOST_TEST(read.entries[0].value == x.entries[0].value);
  for (size_t i = 0; i < text.size(); ++i) {
    BOOST_TEST((decode(text.substr(0, i), read, problem) == errc::bad_format), i);
    if (i <= text.find('\n'))
      continue; // numbers of the first line may be others
    auto spoilt = text;
    spoilt[i] = static_cast<char>(spoilt[i] ^ 1);
    BOOST_TEST((decode(spoilt, read, problem) == errc::bad_format), i);
  }
}

BOOST_AUTO_TEST_CASE(every_folder_learns_of_volumes_and_tiers_but_not_of_shards) {
  put(*store, key::volume(volume_id{1}), encode(volume(1, "before")));
  auto through = open();
  BOOST_TEST(wait_until([&] { return in(b.path, key::volume(volume_id{1})) == encode(volume(1, "before")); }));
  put(*through, key::volume(volume_id{2}), encode(volume(2, "vm2")));
  for (const auto& folder : folders)
    BOOST_TEST(wait_until([&] { return in(folder, key::volume(volume_id{2})) == encode(volume(2, "vm2")); }));
  put(*through, key::tier("fast"), encode(tier_record{"aa", "fast"}));
  put(*through, key::next_volume, "3");
  const shard_home home{{volume_id{1}, shard_index{1}}, "fast", generation{1}, epoch{1}};
  put(*through, key::shard(home.id), encode(home));
  BOOST_REQUIRE(commit_now(*through, {{}, {{key::volume(volume_id{1}), {}, true}}}).status == errc::none);
  BOOST_TEST(wait_until([&] { return in(a.path, key::volume(volume_id{1})).empty(); }));
  BOOST_TEST(in(a.path, key::next_volume) == "3");
  BOOST_TEST(in(a.path, key::tier("fast")) == encode(tier_record{"aa", "fast"}));
  BOOST_TEST(in(a.path, key::shard(home.id)) == "");
  BOOST_TEST(problems == 0);
}

BOOST_AUTO_TEST_CASE(what_is_due_at_the_end_is_written) {
  {
    auto through = open();
    put(*through, key::volume(volume_id{2}), encode(volume(2, "vm2")));
  }
  BOOST_TEST(in(a.path, key::volume(volume_id{2})) != "");
}

BOOST_AUTO_TEST_CASE(a_folder_that_takes_nothing_is_told_once_and_tried_again) {
  folders[0] += "/later";
  auto through = open();
  BOOST_TEST(wait_until([&] { return problems == 1; }));
  BOOST_TEST(wait_until([&] { return std::filesystem::exists(b.path + "/catalog.extract"); }));
  std::this_thread::sleep_for(50ms);
  BOOST_TEST(problems == 1);
  std::filesystem::create_directory(folders[0]);
  BOOST_TEST(wait_until([&] { return std::filesystem::exists(folders[0] + "/catalog.extract"); }));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
