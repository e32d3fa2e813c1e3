#include "runtime/recovery/rebuild_rules.hpp"

#include <boost/test/unit_test.hpp>

#include "runtime/catalog/records.hpp"

namespace varve {

namespace {

struct rules_fixture {
  shard_header header(uint64_t of, uint64_t index = 0, uint64_t volume = 7) {
    shard_header x;
    x.id = {volume_id{volume}, shard_index{index}};
    x.size = shard_size_default;
    x.generation = generation{of};
    x.fence = epoch{3ull << 32 | 5};
    return x;
  }
  shard_header& add(const std::string& tier, const shard_header& x) {
    in.files.push_back({tier, x});
    return in.files.back().header;
  }
  static void seal(shard_header& x, uint64_t by, uint64_t replaced_by) {
    x.sealed_by = migration_id{by};
    x.sealed_for = generation{replaced_by};
  }
  void know(uint64_t id, const std::string& name, uint64_t size = 1 << 30, uint64_t next = 100) {
    volume_record x;
    x.id = volume_id{id};
    x.spec.name = name;
    x.spec.size_bytes = size;
    x.spec.shard_size = shard_size_default;
    in.known.entries.push_back({key::volume(x.id), encode(x)});
    in.known.entries.push_back({key::next_volume, encode(next)});
  }
  void know_tier(const std::string& name, const std::string& id) {
    in.known.entries.push_back({key::tier(name), encode(tier_record{id, name})});
  }
  /// "fast.1": tier and generation of the one home.
  std::string home() {
    out = rebuild(in);
    if (out.homes.size() != 1)
      return std::to_string(out.homes.size()) + " homes";
    return out.homes[0].tier + "." + std::to_string(out.homes[0].of.value());
  }
  bool noted(const std::string& part) const { return has(out.notes, part); }
  bool conflicts(const std::string& part) const { return has(out.conflicts, part); }
  static bool has(const std::vector<std::string>& in, const std::string& part) {
    for (const auto& x : in)
      if (x.find(part) != std::string::npos)
        return true;
    return false;
  }

  rebuild_evidence in;
  rebuilt_catalog out;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(rebuild_rules, rules_fixture)

// -- a move from "fast" generation 1 to "slow" generation 2, crashed behind each of its steps

BOOST_AUTO_TEST_CASE(before_a_move_there_is_one_file) {
  add("fast", header(1));
  BOOST_TEST(home() == "fast.1");
  BOOST_TEST(out.conflicts.empty());
  BOOST_TEST((out.homes[0].fence == epoch{3ull << 32 | 5}));
}

BOOST_AUTO_TEST_CASE(while_it_copies_the_sink_is_unfinished) {
  add("fast", header(1));
  add("slow", header(2)).incomplete = true;
  BOOST_TEST(home() == "fast.1");
  BOOST_TEST(noted("unfinished sink"));
  BOOST_TEST(out.conflicts.empty());
  BOOST_TEST(out.to_take_back.empty());
}

BOOST_AUTO_TEST_CASE(a_sink_that_is_whole_is_no_home_before_its_source_is_sealed) {
  add("fast", header(1));
  add("slow", header(2));
  BOOST_TEST(home() == "fast.1");
  BOOST_TEST(noted("not switched"));
  BOOST_TEST(out.conflicts.empty());
}

BOOST_AUTO_TEST_CASE(once_the_source_is_sealed_the_sink_is_home) {
  seal(add("fast", header(1)), 9, 2);
  add("slow", header(2));
  BOOST_TEST(home() == "slow.2");
  BOOST_TEST(noted("replaced by generation 2"));
  BOOST_TEST(out.to_take_back.empty());
  BOOST_TEST(out.next_migration == 10u);
}

BOOST_AUTO_TEST_CASE(when_the_source_is_gone_the_sink_is_home) {
  add("slow", header(2));
  BOOST_TEST(home() == "slow.2");
  BOOST_TEST(out.conflicts.empty());
}

BOOST_AUTO_TEST_CASE(taken_back_before_the_seal_was_undone_the_source_is_home_again) {
  // The abort removes the sink last; power loss may undo the unsealing and not the removal of the sink.
  seal(add("fast", header(1)), 9, 2);
  BOOST_TEST(home() == "fast.1");
  BOOST_TEST(noted("home again"));
  BOOST_REQUIRE(out.to_take_back.size() == 1u);
  const auto& x = out.to_take_back[0];
  BOOST_TEST((x.id == migration_id{9}));
  BOOST_TEST((x.state == migration_state::aborted));
  BOOST_TEST(x.ended_at == 0u); // so that the node carries it out
  BOOST_TEST((x.from == generation{1} && x.to == generation{2}));
  BOOST_TEST(x.from_tier == "fast");
  BOOST_TEST(out.next_migration == 10u);
}

BOOST_AUTO_TEST_CASE(a_sealed_source_beside_an_unfinished_sink_is_home_again) {
  seal(add("fast", header(1)), 9, 2);
  add("slow", header(2)).incomplete = true;
  BOOST_TEST(home() == "fast.1");
  BOOST_TEST(out.to_take_back.size() == 1u);
}

// -- more than one move

BOOST_AUTO_TEST_CASE(a_chain_of_moves_ends_at_its_end) {
  seal(add("fast", header(1)), 9, 2);
  seal(add("slow", header(2)), 10, 3);
  add("fast", header(3));
  BOOST_TEST(home() == "fast.3");
  BOOST_TEST(out.conflicts.empty());
}

BOOST_AUTO_TEST_CASE(a_former_home_that_power_loss_brought_back_is_left_out) {
  seal(add("fast", header(1)), 9, 2);
  add("slow", header(4)); // 2 and 3 are gone
  BOOST_TEST(home() == "slow.4");
  BOOST_TEST(out.conflicts.empty());
}

BOOST_AUTO_TEST_CASE(a_second_move_that_was_not_switched_leaves_the_first_ones_sink_at_home) {
  seal(add("fast", header(1)), 9, 2);
  add("slow", header(2));
  add("fast", header(3));
  BOOST_TEST(home() == "slow.2");
  BOOST_TEST(out.conflicts.empty());
}

BOOST_AUTO_TEST_CASE(two_sinks_of_one_generation_that_never_took_over_are_no_conflict) {
  add("fast", header(1));
  add("slow", header(2));
  add("slower", header(2));
  BOOST_TEST(home() == "fast.1");
  BOOST_TEST(out.conflicts.empty());
}

BOOST_AUTO_TEST_CASE(two_whole_files_of_one_generation_are_a_conflict) {
  add("slow", header(2)).fence = epoch{4ull << 32};
  add("fast", header(2));
  BOOST_TEST(home() == "slow.2"); // the higher fence
  BOOST_TEST(conflicts("two files of one generation"));
}

BOOST_AUTO_TEST_CASE(a_gap_without_a_seal_is_a_conflict) {
  add("fast", header(1));
  add("slow", header(3));
  BOOST_TEST(home() == "slow.3");
  BOOST_TEST(conflicts("never sealed"));
}

BOOST_AUTO_TEST_CASE(a_seal_for_what_comes_after_the_newest_is_a_conflict) {
  seal(add("fast", header(1)), 9, 3);
  add("slow", header(2));
  BOOST_TEST(home() == "slow.2");
  BOOST_TEST(conflicts("is sealed for generation 3"));
}

BOOST_AUTO_TEST_CASE(a_shard_of_which_only_a_sink_is_left_is_a_conflict_and_no_home) {
  add("slow", header(2)).incomplete = true;
  BOOST_TEST(home() == "0 homes");
  BOOST_TEST(conflicts("only unfinished sinks"));
}

BOOST_AUTO_TEST_CASE(an_unreadable_file_is_a_conflict) {
  in.unreadable = {"/d/x.shard: no valid header"};
  home();
  BOOST_TEST(conflicts("no valid header"));
}

// -- volumes

BOOST_AUTO_TEST_CASE(a_known_volume_keeps_its_name_and_its_size) {
  know(7, "vm1", 10ull << 30);
  add("fast", header(1, 3));
  home();
  BOOST_REQUIRE(out.volumes.size() == 1u);
  BOOST_TEST(out.volumes[0].spec.name == "vm1");
  BOOST_TEST(out.volumes[0].spec.size_bytes == 10ull << 30);
  BOOST_TEST(out.notes.empty());
}

BOOST_AUTO_TEST_CASE(an_unknown_volume_gets_a_name_and_the_size_that_its_shards_need) {
  know(8, "volume-7", 1 << 30, 7); // somebody has the name
  add("fast", header(1, 3));
  home();
  BOOST_REQUIRE(out.volumes.size() == 2u);
  BOOST_TEST(out.volumes[0].spec.name == "volume-7-found");
  BOOST_TEST(out.volumes[0].spec.size_bytes == 4 * shard_size_default);
  BOOST_TEST(out.volumes[0].spec.shard_size == shard_size_default);
  BOOST_TEST(noted("nothing tells its name"));
}

BOOST_AUTO_TEST_CASE(a_volume_that_was_removed_does_not_come_back) {
  know(8, "vm2"); // and the next is 100: 7 was there once
  add("fast", header(1));
  BOOST_TEST(home() == "0 homes");
  BOOST_REQUIRE(out.volumes.size() == 1u);
  BOOST_TEST(noted("removed before"));
  BOOST_TEST(out.next_volume == 100u);
}

BOOST_AUTO_TEST_CASE(a_volume_that_grew_since_has_room_for_its_last_shard) {
  know(7, "vm1", 1 << 20);
  add("fast", header(1, 3));
  home();
  BOOST_TEST(out.volumes[0].spec.size_bytes == 4 * shard_size_default);
  know(7, "vm1", 4 * shard_size_default - 512); // the last shard reaches beyond the volume's end
  home();
  BOOST_TEST(out.volumes[0].spec.size_bytes == 4 * shard_size_default - 512);
}

BOOST_AUTO_TEST_CASE(a_file_whose_size_is_not_the_volumes_is_a_conflict) {
  know(7, "vm1");
  add("fast", header(1)).size = shard_size_min;
  BOOST_TEST(home() == "0 homes");
  BOOST_TEST(conflicts("left out"));
}

BOOST_AUTO_TEST_CASE(a_volume_without_shards_is_kept) {
  know(7, "vm1");
  home();
  BOOST_TEST(out.volumes.size() == 1u);
}

// -- tiers and counters

BOOST_AUTO_TEST_CASE(a_known_tier_that_is_not_here_is_a_conflict) {
  know_tier("fast", "aa");
  know_tier("slow", "bb");
  in.tiers = {{"fast", "aa"}};
  home();
  BOOST_TEST(out.conflicts.size() == 1u);
  BOOST_TEST(conflicts("tier \"slow\" (bb) is not here"));
  in.tiers["slow"] = "cc";
  home();
  BOOST_TEST(conflicts("its folder is cc"));
  in.tiers["slow"] = "bb";
  home();
  BOOST_TEST(out.conflicts.empty());
}

BOOST_AUTO_TEST_CASE(counters_begin_above_everything_seen) {
  know(7, "vm1", 1 << 30, 5);
  in.known.entries.push_back({key::incarnation, encode(uint64_t{2})});
  in.known.entries.push_back({key::next_migration, encode(uint64_t{4})});
  in.known.entries.push_back({"meta/next-holder", encode(uint64_t{6})});
  add("fast", header(1)); // fenced by incarnation 3
  seal(add("fast", header(1, 1)), 20, 2);
  add("slow", header(9, 0, 50)).incomplete = true; // also what is left out
  in.files.back().header.fence = epoch{8ull << 32 | 1};
  out = rebuild(in);
  BOOST_TEST(out.incarnation == 8u);
  BOOST_TEST(out.next_volume == 51u);
  BOOST_TEST(out.next_migration == 21u);
  BOOST_TEST(out.next_holder == 6u);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
