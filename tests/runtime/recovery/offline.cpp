#include <filesystem>
#include <fstream>
#include <future>

#include <boost/test/unit_test.hpp>
#include <sys/stat.h>

#include "runtime/catalog/backup_file.hpp"
#include "runtime/catalog/records.hpp"
#include "runtime/recovery/catalog_rebuild.hpp"
#include "runtime/recovery/tier_claims.hpp"
#include "runtime/recovery/tier_keeping.hpp"
#include "runtime/storage/file_store.hpp"
#include "runtime/storage/shard_format.hpp"
#include "tests/runtime/catalog/temporary_folder.hpp"

namespace varve {

namespace {

struct offline_fixture {
  offline_fixture() {
    config.name = "n1";
    config.data_dir = place.path;
    for (auto name : {"fast", "slow"}) {
      tier_config x;
      x.name = name;
      x.path = place.path + "/" + name;
      config.tiers.push_back(x);
    }
  }

  std::unique_ptr<stopped_node> take() {
    caf::error problem;
    auto node = stopped_node::take(config, problem);
    BOOST_REQUIRE(node);
    return node;
  }
  std::shared_ptr<sqlite_store> open() {
    caf::error problem;
    auto store = sqlite_store::open({place.path, 0}, problem);
    BOOST_REQUIRE(store);
    return store;
  }
  void put(catalog_store& store, const std::string& key, const std::string& value) {
    BOOST_REQUIRE(commit_now(store, {{}, {{key, value, false}}}).status == errc::none);
  }
  std::string get(catalog_store& store, const std::string& key) {
    const auto x = list_now(store, key);
    return x.entries.empty() || x.entries[0].key != key ? std::string{} : x.entries[0].value;
  }
  /// A node as it runs: its tiers are known, and it has a volume with shards 0 and 1.
  void make_node() {
    auto store = open();
    std::vector<tier_claim> claims;
    std::string problem;
    BOOST_REQUIRE(claim_tiers(config.tiers, config.name, *store, claims, problem));
    volume_record volume;
    volume.id = volume_id{1};
    volume.spec.name = "vm1";
    volume.spec.size_bytes = 64 << 20;
    volume.spec.shard_size = shard_size_default;
    put(*store, key::volume(volume.id), encode(volume));
    put(*store, key::volume_name("vm1"), "1");
    put(*store, key::next_volume, "2");
    put(*store, key::incarnation, "3");
    put_home(*store, 0, "fast", 1);
    put_home(*store, 1, "slow", 1);
    add_file("fast", 0, 1);
    add_file("slow", 1, 1);
  }
  void put_home(catalog_store& store, uint64_t index, const std::string& tier, uint64_t of) {
    const shard_home x{{volume_id{1}, shard_index{index}}, tier, generation{of}, epoch{1}};
    put(store, key::shard(x.id), encode(x));
  }
  void add_file(const std::string& tier, uint64_t index, uint64_t of, uint64_t incarnation = 1, uint64_t volume = 1) {
    shard_header x;
    x.id = {volume_id{volume}, shard_index{index}};
    x.size = shard_size_default;
    x.generation = generation{of};
    x.fence = epoch{incarnation << 32};
    auto record = record_of(x);
    record.sequence = 1;
    finish(record);
    std::ofstream file{place.path + "/" + tier + "/" + to_string(shard_file_name{x.id, x.generation}),
                       std::ios::binary};
    for (int slot = 0; slot < 2; ++slot)
      file.write(reinterpret_cast<const char*>(&record), sizeof record);
  }
  catalog_backup_info back_up(const std::string& name) {
    auto store = open();
    std::promise<catalog_result> promise;
    store->copy_to(place.path + "/part", [&](catalog_result x) { promise.set_value(std::move(x)); });
    const auto copied = promise.get_future().get();
    BOOST_REQUIRE((copied.status == errc::none));
    catalog_backup_info info;
    BOOST_REQUIRE(!finish_backup(place.path + "/part", place.path + "/" + name, info));
    BOOST_TEST(info.revision == copied.revision);
    return info;
  }
  std::string backup(const std::string& name) const { return place.path + "/" + name; }

  temporary_folder place;
  node_config config;
};

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(offline, offline_fixture)

BOOST_AUTO_TEST_CASE(a_node_that_runs_is_left_alone) {
  auto first = take();
  caf::error problem;
  BOOST_TEST(!stopped_node::take(config, problem));
  BOOST_TEST((problem == errc::unavailable));
  BOOST_TEST(says(context_of(problem), "varved runs"));
  first.reset();
  BOOST_TEST(static_cast<bool>(stopped_node::take(config, problem)));
  config.data_dir += "/absent";
  BOOST_TEST(!stopped_node::take(config, problem));
  BOOST_TEST((problem == errc::not_found));
  config.catalog.kind = catalog_kind::etcd;
  BOOST_TEST(!stopped_node::take(config, problem));
  BOOST_TEST((problem == errc::unsupported));
}

BOOST_AUTO_TEST_CASE(a_node_without_the_clusters_catalog_knows_its_tiers) {
  config.cluster.nodes = {{"n1", {true, true, true}, {}, {}}};
  BOOST_TEST(!take()->knows_tiers_only());
  config.catalog.kind = catalog_kind::etcd;
  BOOST_TEST(take()->knows_tiers_only()); // and can be taken: there is something in its folder to do
  config.catalog.kind = catalog_kind::sqlite;
  config.roles.manager = false;
  const auto node = take();
  BOOST_TEST(node->knows_tiers_only());
  BOOST_TEST(node->catalog_path() == place.path + "/tier-ids/catalog.db");
  caf::error problem;
  BOOST_TEST(!node->open_catalog(problem));
  BOOST_TEST((problem == errc::not_found));
  std::filesystem::create_directory(tier_ids_folder(config));
  BOOST_TEST(static_cast<bool>(sqlite_store::open({tier_ids_folder(config), 0}, problem)));
  BOOST_TEST(static_cast<bool>(node->open_catalog(problem)));
}

// -- backup and restore

BOOST_AUTO_TEST_CASE(a_backup_is_one_revision_also_while_commits_go_on) {
  auto store = open();
  const std::string filler(2000, 'x');
  for (int i = 0; i < 3000; ++i)
    store->commit({{}, {{"shard/" + std::to_string(i), filler, false}}}, [](catalog_result) {});
  // Each commit changes both: in a backup they are equal.
  auto both = [](int i) {
    const auto value = std::to_string(i);
    return catalog_batch{{}, {{"a", value, false}, {"z", value, false}}};
  };
  std::promise<catalog_result> promise;
  auto copied = promise.get_future();
  for (int i = 0; i < 20; ++i)
    store->commit(both(i), [](catalog_result) {});
  store->copy_to(backup("part"), [&](catalog_result x) { promise.set_value(std::move(x)); });
  int commits = 20;
  for (; copied.wait_for(std::chrono::seconds{0}) != std::future_status::ready; ++commits)
    BOOST_REQUIRE((commit_now(*store, both(commits)).status == errc::none));
  BOOST_TEST(commits > 21); // it did go on
  const auto result = copied.get();
  BOOST_REQUIRE((result.status == errc::none));
  catalog_backup_info info, checked;
  BOOST_REQUIRE(!finish_backup(backup("part"), backup("b"), info));
  BOOST_TEST(info.entries == 3002u);
  BOOST_TEST(info.revision == result.revision);
  BOOST_TEST(!std::filesystem::exists(backup("part")));
  struct stat s {};
  BOOST_REQUIRE(::stat(backup("b").c_str(), &s) == 0);
  BOOST_TEST((s.st_mode & 0777) == 0600u);
  BOOST_REQUIRE(!check_backup(backup("b"), checked));
  BOOST_TEST(checked.crc == info.crc);
  store.reset();
  auto node = take();
  restored out;
  BOOST_REQUIRE(!restore(*node, backup("b"), true, out));
  store = open();
  BOOST_TEST(get(*store, "a") != "");
  BOOST_TEST(get(*store, "a") == get(*store, "z"));
}

BOOST_AUTO_TEST_CASE(a_backup_replaces_no_file_and_only_one_is_made_at_a_time) {
  make_node();
  back_up("b");
  catalog_backup_info info;
  std::filesystem::copy_file(backup("b"), backup("part"));
  BOOST_TEST(
    static_cast<bool>(finish_backup(backup("part"), backup("b"), info))); // it is one already, and the name is taken
  auto store = open();
  std::promise<catalog_result> promise;
  store->copy_to(backup("b"), [&](catalog_result x) { promise.set_value(std::move(x)); });
  BOOST_TEST((promise.get_future().get().status == errc::already_exists));
}

BOOST_AUTO_TEST_CASE(a_spoilt_backup_is_refused) {
  make_node();
  back_up("b");
  catalog_backup_info info;
  std::ifstream file{backup("b"), std::ios::binary};
  const std::string good{std::istreambuf_iterator<char>{file}, {}};
  const auto at = good.find("vm1");
  BOOST_REQUIRE(at != std::string::npos);
  auto spoilt = good;
  spoilt[at] = 'w';
  std::ofstream{backup("spoilt"), std::ios::binary} << spoilt;
  auto problem = check_backup(backup("spoilt"), info);
  BOOST_TEST((problem == errc::bad_format));
  BOOST_TEST(says(context_of(problem), "spoilt"));
  std::ofstream{backup("short"), std::ios::binary} << good.substr(0, good.size() / 2);
  BOOST_TEST((check_backup(backup("short"), info) == errc::bad_format));
  std::ofstream{backup("text")} << "no backup";
  BOOST_TEST((check_backup(backup("text"), info) == errc::bad_format));
  BOOST_TEST((check_backup(backup("absent"), info) == errc::not_found));
  { open(); }
  problem = check_backup(place.path + "/catalog.db", info);
  BOOST_TEST((problem == errc::bad_format));
  BOOST_TEST(says(context_of(problem), "no backup"));
  auto node = take();
  restored out;
  BOOST_TEST((restore(*node, backup("spoilt"), true, out) == errc::bad_format));
  BOOST_TEST(out.aside == "");
}

BOOST_AUTO_TEST_CASE(a_newer_catalog_is_replaced_only_by_force_and_kept) {
  make_node();
  const auto info = back_up("b");
  {
    auto store = open();
    put(*store, "volume/later", "x");
  }
  auto node = take();
  restored out;
  auto problem = restore(*node, backup("b"), false, out);
  BOOST_TEST((problem == errc::conflict));
  BOOST_TEST(says(context_of(problem), "is newer"));
  { BOOST_TEST(get(*open(), "volume/later") == "x"); }
  BOOST_REQUIRE(!restore(*node, backup("b"), true, out));
  BOOST_TEST(out.replaced_revision == info.revision + 1);
  auto store = open();
  BOOST_TEST(get(*store, "volume/later") == "");
  BOOST_TEST(get(*store, key::volume_name("vm1")) == "1");
  // From now on it is the newest that there ever was.
  BOOST_TEST(list_now(*store, "x").revision > info.revision + 1);
  BOOST_REQUIRE(std::filesystem::exists(out.aside));
  std::filesystem::create_directory(backup("old"));
  std::filesystem::copy_file(out.aside, backup("old/catalog.db"));
  caf::error old_problem;
  auto old = sqlite_store::open({backup("old"), 0}, old_problem);
  BOOST_REQUIRE(old);
  BOOST_TEST(get(*old, "volume/later") == "x");
}

BOOST_AUTO_TEST_CASE(a_catalog_that_cannot_be_read_is_replaced_only_by_force) {
  make_node();
  back_up("b");
  std::ofstream{place.path + "/catalog.db"} << std::string(8192, 'r');
  auto node = take();
  restored out;
  BOOST_TEST((restore(*node, backup("b"), false, out) == errc::conflict));
  BOOST_REQUIRE(!restore(*node, backup("b"), true, out));
  BOOST_TEST(get(*open(), key::volume_name("vm1")) == "1");
}

BOOST_AUTO_TEST_CASE(restored_counters_are_above_what_headers_have_seen_since) {
  make_node();
  back_up("b");
  std::filesystem::remove(place.path + "/catalog.db");
  std::filesystem::remove(place.path + "/fast/" +
                          to_string(shard_file_name{{volume_id{1}, shard_index{0}}, generation{1}}));
  add_file("slow", 0, 2, 8);    // moved, and fenced by a later manager
  add_file("slow", 0, 1, 2, 5); // of a volume that was made since
  auto node = take();
  restored out;
  BOOST_REQUIRE(!restore(*node, backup("b"), false, out));
  BOOST_TEST(out.homes == 2u);
  BOOST_TEST(out.homes_missing == 1u);
  BOOST_TEST(out.aside == "");
  auto store = open();
  BOOST_TEST(get(*store, key::incarnation) == "8");
  BOOST_TEST(get(*store, key::next_volume) == "6");
}

// -- rebuilding

BOOST_AUTO_TEST_CASE(a_catalog_is_made_again_from_headers_and_extracts) {
  make_node();
  {
    auto store = open();
    extract_options options;
    options.folders = {config.tiers[0].path};
    extracting_store writes{store, options};
  }
  std::filesystem::remove(place.path + "/catalog.db");
  add_file("fast", 1, 2); // a sink that was not switched: the header says no more of it
  auto node = take();
  std::vector<std::string> notes;
  const auto evidence = gather(*node, notes);
  const auto made = rebuild(evidence);
  BOOST_TEST(made.conflicts.empty());
  std::string aside;
  BOOST_REQUIRE(!write_rebuilt(*node, evidence, made, aside));
  BOOST_TEST(aside == "");
  auto store = open();
  volume_record volume;
  BOOST_REQUIRE(!decode(get(*store, key::volume(volume_id{1})), volume));
  BOOST_TEST(volume.spec.name == "vm1");
  BOOST_TEST(volume.spec.size_bytes == 64u << 20);
  BOOST_TEST(get(*store, key::volume_name("vm1")) == "1");
  BOOST_TEST(get(*store, key::incarnation) == "3");
  BOOST_TEST(get(*store, key::next_volume) == "2");
  const shard_id second{volume_id{1}, shard_index{1}};
  shard_home home;
  BOOST_REQUIRE(!decode(key::shard(second), get(*store, key::shard(second)), home));
  BOOST_TEST(home.tier == "slow");
  BOOST_TEST(list_now(*store, key::all_shards).entries.size() == 2u);
  BOOST_TEST(list_now(*store, "x").revision > evidence.known.revision);
  // The tiers are the same ones as before.
  std::vector<tier_claim> claims;
  std::string problem;
  BOOST_REQUIRE(claim_tiers(config.tiers, config.name, *store, claims, problem));
  for (const auto& x : claims) {
    BOOST_TEST(x.refused == "");
    BOOST_TEST(!x.is_new);
  }
}

BOOST_AUTO_TEST_CASE(the_newest_of_what_is_known_counts) {
  make_node();
  for (const auto& [tier, name, revision] : {std::tuple{"fast", "older", 7}, std::tuple{"slow", "newer", 900}}) {
    volume_record volume;
    volume.id = volume_id{1};
    volume.spec.name = name;
    volume.spec.size_bytes = 64 << 20;
    volume.spec.shard_size = shard_size_default;
    const catalog_extract x{static_cast<uint64_t>(revision), {{key::volume(volume.id), encode(volume), 0}}};
    std::ofstream{place.path + "/" + tier + "/catalog.extract"} << encode(x);
  }
  auto node = take();
  std::vector<std::string> notes;
  auto made = rebuild(gather(*node, notes));
  BOOST_REQUIRE(made.volumes.size() == 1u);
  BOOST_TEST(made.volumes[0].spec.name == "newer");
  std::ofstream{place.path + "/slow/catalog.extract"} << "rot";
  made = rebuild(gather(*node, notes));
  BOOST_TEST(made.volumes[0].spec.name == "vm1"); // of the catalog in place
}

BOOST_AUTO_TEST_CASE(a_file_without_a_header_and_a_tier_that_is_away_are_conflicts) {
  make_node();
  std::ofstream{place.path + "/fast/" + to_string(shard_file_name{{volume_id{1}, shard_index{9}}, generation{1}})};
  std::filesystem::rename(place.path + "/slow", place.path + "/away");
  auto node = take();
  std::vector<std::string> notes;
  const auto made = rebuild(gather(*node, notes));
  BOOST_REQUIRE(made.conflicts.size() == 2u);
  BOOST_TEST(says(made.conflicts[0], "too short"));
  BOOST_TEST(says(made.conflicts[1], "tier \"slow\""));
}

// -- tiers

BOOST_AUTO_TEST_CASE(a_tier_that_is_given_up_takes_its_shards_along_and_does_not_come_back) {
  make_node();
  auto store = open();
  tier_loss loss;
  BOOST_TEST((weigh_tier(*store, "absent", loss) == errc::not_found));
  BOOST_REQUIRE(!weigh_tier(*store, "slow", loss));
  BOOST_TEST(loss.shards == 1u);
  BOOST_TEST(loss.volumes.at("vm1") == 1u);
  BOOST_TEST(list_now(*store, key::all_shards).entries.size() == 2u);
  BOOST_REQUIRE(!forget_tier(*store, "slow", loss));
  BOOST_TEST(list_now(*store, key::all_shards).entries.size() == 1u);
  std::vector<tier_claim> claims;
  std::string problem;
  BOOST_REQUIRE(claim_tiers(config.tiers, config.name, *store, claims, problem));
  BOOST_TEST(claims[0].refused == "");
  BOOST_TEST(says(claims[1].refused, "was given up"));
  std::filesystem::remove_all(place.path + "/slow");
  claims.clear();
  BOOST_REQUIRE(claim_tiers(config.tiers, config.name, *store, claims, problem));
  BOOST_TEST(claims[1].refused == "");
  BOOST_TEST(claims[1].is_new);
}

BOOST_AUTO_TEST_CASE(a_folder_is_accepted_for_a_tier_after_a_word) {
  make_node();
  auto node = take();
  auto store = open();
  tier_acceptance x;
  BOOST_TEST((accept_tier(*node, *store, "slow", true, x) == errc::already_exists));
  BOOST_TEST((accept_tier(*node, *store, "absent", true, x) == errc::not_found));
  const auto id = std::string(32, 'b');
  std::string problem;
  BOOST_REQUIRE(write_tier_identity(place.path + "/slow", {id, "slow", "n2"}, problem));
  put_home(*store, 2, "slow", 1); // is not there
  BOOST_TEST((accept_tier(*node, *store, "slow", false, x) == errc::needs_confirmation));
  BOOST_TEST(x.homes == 2u);
  BOOST_TEST(x.missing == 1u);
  BOOST_TEST(x.was_called == "\"slow\" on node \"n2\"");
  std::vector<tier_claim> claims;
  BOOST_REQUIRE(claim_tiers(config.tiers, config.name, *store, claims, problem));
  BOOST_TEST(claims[1].refused != "");
  BOOST_REQUIRE(!accept_tier(*node, *store, "slow", true, x));
  claims.clear();
  BOOST_REQUIRE(claim_tiers(config.tiers, config.name, *store, claims, problem));
  BOOST_TEST(claims[1].id == id);
  // No shard is forgotten by it.
  BOOST_TEST(list_now(*store, key::all_shards).entries.size() == 3u);
  // Another tier's folder is never accepted.
  config.tiers[1].path = config.tiers[0].path;
  node.reset();
  node = take();
  BOOST_TEST((accept_tier(*node, *store, "slow", true, x) == errc::invalid_argument));
}

BOOST_AUTO_TEST_CASE(a_folder_whose_identity_is_lost_gets_another) {
  make_node();
  std::filesystem::remove(place.path + "/slow/tier.identity");
  auto node = take();
  auto store = open();
  tier_acceptance x;
  BOOST_REQUIRE(!accept_tier(*node, *store, "slow", true, x));
  BOOST_TEST(x.is_new);
  BOOST_TEST(x.missing == 0u);
  std::vector<tier_claim> claims;
  std::string problem;
  BOOST_REQUIRE(claim_tiers(config.tiers, config.name, *store, claims, problem));
  BOOST_TEST(claims[1].id == x.id);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
