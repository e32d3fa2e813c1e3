#include "actors/storage/tier_ledger.hpp"

#include <random>

#include <boost/test/unit_test.hpp>

namespace varve {

using namespace std::chrono_literals;

namespace {

shard_id shard(uint64_t index, uint64_t volume = 1) {
  return {volume_id{volume}, shard_index{index}};
}

shard_home home(uint64_t index, uint64_t of = 1, uint64_t fence = 0) {
  return {shard(index), "fast", generation{of}, epoch{fence}};
}

lease_grant grant(uint64_t holder, const shard_home& of, uint64_t fence = 0, caf::timespan term = 10s,
                  lease_mode mode = lease_mode::write) {
  lease_grant x;
  x.id = lease_id{holder * 1000 + of.id.index.value()};
  x.holder = holder_id{holder};
  x.home = of;
  x.mode = mode;
  x.fence = epoch{fence};
  x.term = term;
  return x;
}

ledger_row row(uint64_t allocated, uint64_t fence = 0) {
  ledger_row x;
  x.size = 1 << 20;
  x.allocated = allocated;
  x.fence = epoch{fence};
  return x;
}

} // namespace

BOOST_AUTO_TEST_SUITE(tier_ledger_)

BOOST_AUTO_TEST_CASE(a_shard_costs_what_is_written_of_it) {
  tier_ledger ledger{1000};
  ledger.put(shard(1), generation{1}, row(0));
  BOOST_TEST(ledger.used_bytes() == 0u);
  ledger.measure(shard(1), generation{1}, 700, 1, 1s);
  BOOST_TEST(ledger.used_bytes() == 700u);
  ledger.measure(shard(1), generation{1}, 300, 2, 2s);
  BOOST_TEST(ledger.used_bytes() == 300u);
  ledger.put(shard(1), generation{1}, row(500));
  BOOST_TEST(ledger.used_bytes() == 500u);
  ledger.erase(shard(1), generation{1});
  BOOST_TEST(ledger.used_bytes() == 0u);
  ledger.measure(shard(1), generation{1}, 300, 2, 2s); // not here any more
  BOOST_TEST(ledger.used_bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(a_full_tier_takes_no_new_shard) {
  tier_ledger ledger{1000};
  ledger.put(shard(1), generation{1}, row(999));
  BOOST_TEST((ledger.admit(home(2)) == errc::none));
  ledger.measure(shard(1), generation{1}, 1000, 1, 1s);
  BOOST_TEST((ledger.admit(home(2)) == errc::tier_full));
}

BOOST_AUTO_TEST_CASE(reserved_room_is_used_room_until_it_is_given_back) {
  tier_ledger ledger{1000};
  ledger.put(shard(1), generation{1}, row(400));
  BOOST_TEST((ledger.reserve(shard(7), 600) == errc::none));
  BOOST_TEST((ledger.admit(home(2)) == errc::tier_full));
  BOOST_TEST((ledger.reserve(shard(8), 1) == errc::tier_full));
  // Again, for the same sink: it replaces.
  BOOST_TEST((ledger.reserve(shard(7), 500) == errc::none));
  BOOST_TEST(ledger.used_bytes() == 900u);
  BOOST_TEST((ledger.reserve(shard(7), 601) == errc::tier_full));
  BOOST_TEST(ledger.used_bytes() == 900u);
  BOOST_TEST((ledger.reserve(shard(7), 0) == errc::none));
  BOOST_TEST((ledger.reserve(shard(9), 0) == errc::none));
  BOOST_TEST(ledger.used_bytes() == 400u);
}

BOOST_AUTO_TEST_CASE(moving_onto_an_overfull_tier_is_refused_and_giving_back_is_not) {
  tier_ledger ledger{1000};
  ledger.put(shard(1), generation{1}, row(5000));
  BOOST_TEST((ledger.reserve(shard(7), 1) == errc::tier_full));
  BOOST_TEST((ledger.reserve(shard(7), 0) == errc::none));
}

BOOST_AUTO_TEST_CASE(only_an_empty_shard_of_a_lower_epoch_is_adopted) {
  tier_ledger ledger{10'000};
  ledger.put(shard(1), generation{1}, row(0, 5));
  BOOST_TEST((ledger.admit(home(1, 1, 5)) == errc::none));
  BOOST_TEST((ledger.admit(home(1, 1, 4)) == errc::already_exists));
  ledger.measure(shard(1), generation{1}, 4096, 1, 1s);
  BOOST_TEST((ledger.admit(home(1, 1, 5)) == errc::already_exists));
  BOOST_TEST((ledger.admit(home(1, 2, 5)) == errc::none));
}

BOOST_AUTO_TEST_CASE(a_grant_is_refused_for_what_is_not_here_has_moved_on_or_has_a_higher_epoch) {
  tier_ledger ledger{1000};
  ledger.put(shard(1), generation{2}, row(0, 7));
  BOOST_TEST((ledger.check(grant(1, home(1, 2), 7)) == errc::none));
  BOOST_TEST((ledger.check(grant(1, home(1, 2), 8)) == errc::none));
  BOOST_TEST((ledger.check(grant(1, home(1, 2), 6)) == errc::stale_epoch));
  BOOST_TEST((ledger.check(grant(1, home(1, 1), 9)) == errc::shard_moved));
  BOOST_TEST((ledger.check(grant(1, home(1, 3), 9)) == errc::not_found));
  BOOST_TEST((ledger.check(grant(1, home(2, 1), 9)) == errc::not_found));
  auto sink = row(0);
  sink.incomplete = true;
  ledger.put(shard(3), generation{2}, sink);
  BOOST_TEST((ledger.check(grant(1, home(3, 2))) == errc::unavailable));
  BOOST_TEST((ledger.check(grant(1, home(3, 1))) == errc::not_found)); // a sink is no newer home
}

BOOST_AUTO_TEST_CASE(recording_a_grant_raises_what_is_refused_from_then_on) {
  tier_ledger ledger{1000};
  ledger.put(shard(1), generation{1}, row(0, 1));
  ledger.record(grant(1, home(1), 5), 0s);
  BOOST_TEST((ledger.check(grant(2, home(1), 4)) == errc::stale_epoch));
  BOOST_TEST((ledger.check(grant(2, home(1), 5)) == errc::none));
}

BOOST_AUTO_TEST_CASE(a_lease_lasts_its_term_and_as_long_as_it_is_renewed) {
  tier_ledger ledger{1000};
  ledger.put(shard(1), generation{1}, row(0));
  ledger.record(grant(1, home(1)), 0s);
  BOOST_TEST(ledger.expire(9s) == 0u);
  ledger.renew(holder_id{1}, 9s, 10s);
  ledger.renew(holder_id{2}, 9s, 10s); // holds nothing
  BOOST_TEST(ledger.expire(18s) == 0u);
  BOOST_TEST(ledger.leased(shard(1)));
  BOOST_TEST(ledger.expire(19s) == 1u);
  BOOST_TEST(!ledger.leased(shard(1)));
  BOOST_TEST(ledger.leases() == 0u);
}

BOOST_AUTO_TEST_CASE(a_shard_is_held_until_its_last_holder_lets_go) {
  tier_ledger ledger{1000};
  ledger.put(shard(1), generation{1}, row(0));
  ledger.record(grant(1, home(1), 0, 10s, lease_mode::read), 0s);
  ledger.record(grant(2, home(1), 0, 10s, lease_mode::migration), 0s);
  ledger.record(grant(1, home(1)), 0s); // upgraded
  BOOST_TEST(ledger.leases() == 2u);
  BOOST_TEST(ledger.mode_of(shard(1)) == "write");
  ledger.release(holder_id{1}, shard(1), 1, 1s);
  BOOST_TEST(ledger.leased(shard(1)));
  BOOST_TEST(ledger.mode_of(shard(1)) == "migration");
  ledger.release(holder_id{2}, shard(0), 0, 1s);
  BOOST_TEST(!ledger.leased(shard(1)));
  BOOST_TEST(ledger.mode_of(shard(1)) == "");
}

BOOST_AUTO_TEST_CASE(a_grant_ends_what_it_excludes_and_was_not_heard_to_end) {
  tier_ledger ledger{1000};
  ledger.put(shard(1), generation{1}, row(0));
  ledger.record(grant(1, home(1)), 0s);
  ledger.record(grant(1, home(2)), 0s);
  ledger.record(grant(2, home(1), 0, 10s, lease_mode::migration), 0s);
  ledger.record(grant(3, home(1)), 1s);
  // A migration's stands beside any; and what is not of this shard is nobody's concern.
  const auto left = ledger.inventory(1s);
  BOOST_REQUIRE(left.size() == 3u);
  BOOST_TEST((left[0].holder == holder_id{2} && left[0].mode == lease_mode::migration));
  BOOST_TEST((left[1].holder == holder_id{3} && left[1].mode == lease_mode::write));
  BOOST_TEST((left[2].holder == holder_id{1} && left[2].home.id == shard(2)));
  // Others read beside a writer that has been lowered.
  ledger.record(grant(4, home(1), 0, 10s, lease_mode::read), 1s);
  const auto lowered = ledger.inventory(1s);
  BOOST_REQUIRE(lowered.size() == 4u);
  BOOST_TEST((lowered[1].holder == holder_id{3} && lowered[1].mode == lease_mode::read));
  BOOST_TEST((lowered[2].holder == holder_id{4} && lowered[2].mode == lease_mode::read));
  ledger.release(holder_id{2}, shard(1), 1, 1s);
  ledger.release(holder_id{3}, shard(1), 1, 1s);
  ledger.release(holder_id{4}, shard(1), 1, 1s);
  BOOST_TEST(!ledger.leased(shard(1)));
}

BOOST_AUTO_TEST_CASE(a_release_ends_a_range_of_one_volume) {
  tier_ledger ledger{1000};
  for (uint64_t i = 0; i < 5; ++i)
    ledger.record(grant(1, home(i)), 0s);
  auto other = home(2);
  other.id = shard(2, 2);
  ledger.record(grant(1, other), 0s);
  ledger.release(holder_id{1}, shard(1), 3, 1s);
  BOOST_TEST(ledger.leased(shard(0)));
  BOOST_TEST(!ledger.leased(shard(1)));
  BOOST_TEST(!ledger.leased(shard(3)));
  BOOST_TEST(ledger.leased(shard(4)));
  BOOST_TEST(ledger.leased(shard(2, 2)));
  ledger.drop(shard(4));
  ledger.drop(shard(9));
  BOOST_TEST(!ledger.leased(shard(4)));
  BOOST_TEST(ledger.leases() == 2u);
}

BOOST_AUTO_TEST_CASE(the_inventory_tells_what_is_outstanding_in_order) {
  tier_ledger ledger{1000};
  ledger.record(grant(2, home(1), 3, 10s), 0s);
  ledger.record(grant(1, home(5), 4, 20s), 0s);
  auto grants = ledger.inventory(5s);
  BOOST_REQUIRE(grants.size() == 2u);
  BOOST_TEST(grants[0].home.id.index.value() == 1u);
  BOOST_TEST(grants[0].term.count() == caf::timespan(5s).count());
  BOOST_TEST(grants[1].fence.value() == 4u);
  // What has ended is no more outstanding.
  BOOST_TEST(ledger.inventory(15s).size() == 1u);
}

BOOST_AUTO_TEST_CASE(lower_managers_are_not_heeded_once_a_higher_one_has_asked) {
  tier_ledger ledger{1000};
  BOOST_TEST(ledger.heeds(0));
  ledger.heed(2);
  ledger.heed(1);
  BOOST_TEST(!ledger.heeds(1));
  BOOST_TEST(ledger.heeds(2));
  BOOST_TEST(ledger.heeds(3));
}

BOOST_AUTO_TEST_CASE(a_shard_is_moving_while_a_migration_has_a_lease) {
  tier_ledger ledger{1000};
  auto move = grant(9, home(1), 1, 10s);
  move.mode = lease_mode::migration;
  ledger.record(grant(2, home(1), 1, 30s), 0s);
  ledger.record(move, 0s);
  BOOST_TEST(ledger.moving(home(1).id));
  BOOST_TEST(ledger.moving(holder_id{2}));
  BOOST_TEST(!ledger.moving(holder_id{3}));
  ledger.release(holder_id{9}, home(1).id, 1, 1s);
  BOOST_TEST(!ledger.moving(home(1).id));
  ledger.record(move, 0s);
  ledger.expire(20s);
  BOOST_TEST(!ledger.moving(holder_id{2}));
  BOOST_TEST(ledger.holds(holder_id{2}, home(1).id));
}

BOOST_AUTO_TEST_CASE(idle_is_active_and_neither_held_nor_used_for_a_while) {
  tier_ledger ledger{1000};
  auto active = row(0);
  active.active = true;
  for (uint64_t i = 1; i <= 4; ++i)
    ledger.put(shard(i), generation{1}, active);
  ledger.put(shard(5), generation{1}, row(0)); // passive
  ledger.record(grant(1, home(1)), 0s);
  ledger.measure(shard(2), generation{1}, 0, 10, 50s); // I/O
  ledger.record(grant(1, home(3)), 0s);
  ledger.release(holder_id{1}, shard(3), 1, 55s);
  auto idle = ledger.idle(60s, 60s);
  BOOST_REQUIRE(idle.size() == 1u);
  BOOST_TEST(idle[0].first.index.value() == 4u);
  ledger.measure(shard(2), generation{1}, 0, 10, 100s); // nothing since
  BOOST_TEST(ledger.idle(110s, 60s).size() == 2u);
  BOOST_TEST(ledger.idle(115s, 60s).size() == 3u);
  // What is not active any more is not idle either, nor is what is gone.
  BOOST_TEST(ledger.active() == 4u);
  ledger.activate(shard(2), generation{1}, false);
  ledger.erase(shard(4), generation{1});
  ledger.put(shard(3), generation{1}, row(0));
  ledger.activate(shard(4), generation{1}, true);
  BOOST_TEST(ledger.active() == 1u);
  BOOST_TEST(ledger.idle(200s, 60s).empty());
  ledger.activate(shard(5), generation{1}, true);
  BOOST_TEST(ledger.active() == 2u);
  BOOST_TEST(ledger.find(shard(5), generation{1})->active);
}

BOOST_AUTO_TEST_CASE(used_bytes_is_the_sum_of_rows_and_reservations_whatever_happens) {
  // Method: random acts from seeds, against a plain model of two maps.
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    std::minstd_rand random{static_cast<uint32_t>(seed)};
    tier_ledger ledger{100'000};
    std::map<uint64_t, uint64_t> rows, reservations;
    for (int i = 0; i < 400; ++i) {
      const uint64_t index = random() % 8, bytes = random() % 40'000;
      switch (random() % 4) {
      case 0:
        ledger.put(shard(index), generation{1}, row(bytes));
        rows[index] = bytes;
        break;
      case 1:
        ledger.erase(shard(index), generation{1});
        rows.erase(index);
        break;
      case 2:
        ledger.measure(shard(index), generation{1}, bytes, i, 1s);
        if (rows.count(index))
          rows[index] = bytes;
        break;
      case 3: {
        uint64_t others = 0;
        for (auto& [id, x] : rows)
          others += x;
        for (auto& [id, x] : reservations)
          others += id == index ? 0 : x;
        const bool fits = bytes == 0 || others + bytes <= 100'000;
        BOOST_TEST_REQUIRE((ledger.reserve(shard(index), bytes) == errc::none) == fits, "seed " << seed);
        if (fits)
          reservations[index] = bytes;
        break;
      }
      }
      uint64_t sum = 0;
      for (auto& [id, x] : rows)
        sum += x;
      for (auto& [id, x] : reservations)
        sum += x;
      BOOST_TEST_REQUIRE(ledger.used_bytes() == sum, "seed " << seed);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
