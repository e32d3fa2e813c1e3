#include "runtime/recovery/tier_claims.hpp"

#include <filesystem>
#include <fstream>

#include <boost/test/unit_test.hpp>
#include <sys/stat.h>

#include "runtime/catalog/memory_store.hpp"
#include "runtime/catalog/records.hpp"
#include "runtime/storage/file_store.hpp"
#include "runtime/storage/random_id.hpp"
#include "tests/runtime/catalog/temporary_folder.hpp"

namespace varve {

namespace {

const std::string id_a(32, 'a'), id_b(32, 'b');

struct claims_fixture {
  tier_config& tier(const std::string& name, const std::string& folder = {}) {
    tier_config x;
    x.name = name;
    x.path = place.path + "/" + (folder.empty() ? name : folder);
    tiers.push_back(x);
    return tiers.back();
  }
  std::string folder(const std::string& name) const { return place.path + "/" + name; }

  /// As at a start of the node.
  std::map<std::string, tier_claim> claim(const std::string& node = "n1") {
    std::vector<tier_claim> claims;
    std::string problem;
    BOOST_REQUIRE(claim_tiers(tiers, node, store, claims, problem));
    std::map<std::string, tier_claim> result;
    for (auto& x : claims)
      result[x.tier] = x;
    return result;
  }

  void add_home(uint64_t index, const std::string& tier) {
    const shard_home home{{volume_id{1}, shard_index{index}}, tier, generation{1}, epoch{1}};
    BOOST_REQUIRE(commit_now(store, {{}, {{key::shard(home.id), encode(home), false}}}).status == errc::none);
  }
  void add_shard_file(const std::string& name, uint64_t index) {
    std::filesystem::create_directories(folder(name));
    std::ofstream{folder(name) + "/" + to_string(shard_file_name{{volume_id{1}, shard_index{index}}, generation{1}})};
  }

  temporary_folder place;
  std::vector<tier_config> tiers;
  memory_store store;
};

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

BOOST_AUTO_TEST_SUITE(identity)

BOOST_AUTO_TEST_CASE(what_was_written_is_read_and_anything_else_is_refused) {
  const tier_identity x{id_a, "fast", "node 1"};
  tier_identity read;
  std::string problem;
  const auto text = encode(x);
  BOOST_TEST((decode(text, read, problem) == errc::none));
  BOOST_TEST((read == x));
  // Every byte counts, and so does every one that is missing.
  for (size_t i = 0; i < text.size(); ++i) {
    auto spoilt = text;
    spoilt[i] = static_cast<char>(spoilt[i] ^ 1);
    BOOST_TEST((decode(spoilt, read, problem) == errc::bad_format), i);
    BOOST_TEST((decode(text.substr(0, i), read, problem) == errc::bad_format), i);
  }
  auto newer = text;
  newer.replace(newer.find(" 1\n"), 2, " 2");
  BOOST_TEST((decode(newer, read, problem) == errc::bad_format));
  BOOST_TEST(says(problem, "knows up to 1"));
}

BOOST_AUTO_TEST_CASE(the_file_is_its_owners_only_and_ids_differ) {
  temporary_folder place;
  std::string problem;
  tier_identity read;
  BOOST_TEST((read_tier_identity(place.path, read, problem) == errc::not_found));
  BOOST_TEST((read_tier_identity(place.path + "/absent", read, problem) == errc::not_found));
  const auto id = make_random_id();
  BOOST_TEST(valid_tier_id(id));
  BOOST_TEST(id != make_random_id());
  BOOST_REQUIRE(write_tier_identity(place.path, {id, "fast", "n"}, problem));
  struct stat s {};
  BOOST_REQUIRE(::stat((place.path + "/tier.identity").c_str(), &s) == 0);
  BOOST_TEST((s.st_mode & 0777) == 0600u);
  BOOST_TEST((read_tier_identity(place.path, read, problem) == errc::none));
  BOOST_TEST(read.id == id);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(tier_claims_, claims_fixture)

BOOST_AUTO_TEST_CASE(a_new_tier_gets_an_id_and_keeps_it) {
  tier("fast");
  tier("slow");
  auto first = claim();
  BOOST_TEST(first["fast"].is_new);
  BOOST_TEST(first["fast"].refused == "");
  BOOST_TEST(first["fast"].id != first["slow"].id);
  auto second = claim();
  BOOST_TEST(!second["fast"].is_new);
  BOOST_TEST(second["fast"].id == first["fast"].id);
  struct stat s {};
  BOOST_REQUIRE(::stat(folder("fast").c_str(), &s) == 0);
  BOOST_TEST((s.st_mode & 0777) == 0700u);
}

BOOST_AUTO_TEST_CASE(a_tier_under_another_path_is_the_same_tier) {
  tier("fast");
  const auto id = claim()["fast"].id;
  add_home(0, "fast");
  add_shard_file("fast", 0);
  std::filesystem::rename(folder("fast"), folder("elsewhere"));
  tiers[0].path = folder("elsewhere");
  auto after = claim()["fast"];
  BOOST_TEST(after.refused == "");
  BOOST_TEST(after.id == id);
}

BOOST_AUTO_TEST_CASE(the_wrong_disk_is_refused_and_both_ids_are_named) {
  tier("fast");
  const auto id = claim()["fast"].id;
  std::string problem;
  BOOST_REQUIRE(write_tier_identity(folder("fast"), {id_b, "fast", "n1"}, problem));
  auto after = claim()["fast"];
  BOOST_TEST(says(after.refused, id));
  BOOST_TEST(says(after.refused, id_b));
  BOOST_TEST(says(after.refused, "varve tier accept fast"));
  // Nothing was recorded: the right disk is taken again.
  BOOST_REQUIRE(write_tier_identity(folder("fast"), {id, "fast", "n1"}, problem));
  BOOST_TEST(claim()["fast"].refused == "");
}

BOOST_AUTO_TEST_CASE(an_empty_folder_is_refused_where_shards_are_expected_and_nothing_is_made_in_it) {
  tier("fast");
  claim();
  add_home(0, "fast");
  std::filesystem::remove_all(folder("fast"));
  BOOST_TEST(says(claim()["fast"].refused, "is its disk mounted?"));
  BOOST_TEST(!std::filesystem::exists(folder("fast")));
  std::filesystem::create_directories(folder("fast"));
  BOOST_TEST(says(claim()["fast"].refused, "the catalog has 1 shards"));
  BOOST_TEST(std::filesystem::is_empty(folder("fast")));
}

BOOST_AUTO_TEST_CASE(an_empty_folder_is_a_new_tier_where_no_shard_has_its_home) {
  tier("fast");
  tier("slow");
  const auto id = claim()["fast"].id;
  add_home(0, "slow");
  std::filesystem::remove_all(folder("fast"));
  auto after = claim()["fast"];
  BOOST_TEST(after.refused == "");
  BOOST_TEST(after.is_new);
  BOOST_TEST(after.id != id);
  BOOST_TEST(claim()["fast"].id == after.id);
}

BOOST_AUTO_TEST_CASE(a_lost_tier_does_not_keep_the_others_away) {
  tier("fast");
  tier("slow");
  claim();
  add_home(0, "fast");
  std::filesystem::remove_all(folder("fast"));
  auto after = claim();
  BOOST_TEST(after["fast"].refused != "");
  BOOST_TEST(after["slow"].refused == "");
}

BOOST_AUTO_TEST_CASE(one_disk_given_twice_serves_one_tier) {
  tier("fast", "same");
  tier("slow", "same");
  auto first = claim();
  BOOST_TEST(first["fast"].refused == "");
  BOOST_TEST(says(first["slow"].refused, "is the folder of tier \"fast\""));
  // Also when the tier whose id it is stands behind, and also as a copy.
  std::swap(tiers[0], tiers[1]);
  auto second = claim();
  BOOST_TEST(second["fast"].refused == "");
  BOOST_TEST(says(second["slow"].refused, "is the folder of tier \"fast\""));
  std::filesystem::copy(folder("same"), folder("copy"));
  tiers[0].path = folder("copy");
  BOOST_TEST(says(claim()["slow"].refused, "is the folder of tier \"fast\""));
}

BOOST_AUTO_TEST_CASE(a_spoilt_identity_is_refused) {
  tier("fast");
  claim();
  std::ofstream{folder("fast") + "/tier.identity"} << "varve-tier 1\nrot";
  BOOST_TEST(says(claim()["fast"].refused, "its identity cannot be read"));
}

BOOST_AUTO_TEST_CASE(shards_that_the_catalog_does_not_know_of_say_that_it_was_lost) {
  tier("fast");
  claim();
  add_home(0, "fast");
  add_shard_file("fast", 0);
  BOOST_TEST(claim()["fast"].refused == "");
  memory_store fresh;
  std::vector<tier_claim> claims;
  std::string problem;
  BOOST_REQUIRE(claim_tiers(tiers, "n1", fresh, claims, problem));
  BOOST_TEST(says(claims.front().refused, "varve catalog rebuild"));
}

BOOST_AUTO_TEST_CASE(a_folder_of_a_time_before_identities_gets_one) {
  tier("fast");
  add_home(0, "fast");
  add_shard_file("fast", 0);
  auto x = claim()["fast"];
  BOOST_TEST(x.refused == "");
  BOOST_TEST(x.is_new);
}

BOOST_AUTO_TEST_CASE(shards_without_an_identity_are_refused_where_one_is_known) {
  tier("fast");
  claim();
  add_home(0, "fast");
  add_shard_file("fast", 0);
  std::filesystem::remove(folder("fast") + "/tier.identity");
  BOOST_TEST(says(claim()["fast"].refused, "no identity"));
}

BOOST_AUTO_TEST_CASE(an_empty_disk_of_another_node_is_not_taken_by_itself) {
  std::filesystem::create_directories(folder("fast"));
  std::string problem;
  BOOST_REQUIRE(write_tier_identity(folder("fast"), {id_b, "fast", "n2"}, problem));
  tier("fast");
  BOOST_TEST(says(claim()["fast"].refused, "on node \"n2\""));
  // A crash between the file and the catalog leaves one of ours, which is.
  BOOST_REQUIRE(write_tier_identity(folder("fast"), {id_b, "fast", "n1"}, problem));
  BOOST_TEST(claim()["fast"].id == id_b);
}

BOOST_AUTO_TEST_CASE(a_tier_that_was_given_up_does_not_come_back) {
  tier("fast");
  const auto id = claim()["fast"].id;
  BOOST_REQUIRE(
    commit_now(store,
               {{}, {{key::tier("fast"), {}, true}, {key::former_tier(id), encode(tier_record{id, "fast"}), false}}})
      .status == errc::none);
  BOOST_TEST(says(claim()["fast"].refused, "was given up"));
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_written_is_refused_and_the_others_serve) {
  std::ofstream{folder("file")}; // a file where the folder's parent should be
  tier("fast", "file/fast");
  tier("slow");
  auto x = claim();
  BOOST_TEST(x["fast"].refused != "");
  BOOST_TEST(x["slow"].refused == "");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
