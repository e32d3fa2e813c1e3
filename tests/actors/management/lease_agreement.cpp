#include <boost/test/unit_test.hpp>

#include "tests/actors/management/lease_fixture.hpp"

// What management and storage agree on: terms, renewals, changes of mode; and what is told of it.

namespace varve {

namespace {

/// The catalog as the store of a cluster is: compares the leader's key with each batch.
class led_store : public catalog_store {
public:
  explicit led_store(std::shared_ptr<catalog_store> of) : of_(std::move(of)) {}
  void commit(catalog_batch batch, callback done) override {
    if (deposed) {
      ++refused;
      catalog_result x;
      x.status = errc::unavailable;
      x.context = "this node does not lead any more: another manager does";
      done(std::move(x));
      return;
    }
    of_->commit(std::move(batch), std::move(done));
    if (auto then = std::exchange(after_commit, {}))
      then();
  }
  void list(std::string prefix, std::string after, size_t limit, callback done) override {
    of_->list(std::move(prefix), std::move(after), limit, std::move(done));
  }

  bool deposed = false;
  unsigned refused = 0;
  std::function<void()> after_commit;

private:
  std::shared_ptr<catalog_store> of_;
};

struct agreement_fixture : lease_fixture {
  agreement_fixture() {
    auto x = spec("scratch");
    x.is_volatile = true;
    scratch = make(x);
    // Ann has a shard on each tier.
    one(acquire(ann, 0, lease_mode::write));
    const lease_request there{ann, {scratch.id, shard_index{0}}, 1, lease_mode::write, {}};
    one(ask<grants>(manager, atom::acquire_v, there, holders[ann]));
  }

  caf::expected<lease_renewal> renew(holder_id holder = ann) {
    return ask<lease_renewal>(manager, atom::renew_v, holder);
  }
  caf::expected<grants> change(holder_id holder, uint64_t first, lease_mode mode, uint64_t count = 1) {
    return ask<grants>(manager, atom::change_v, request(holder, first, mode, count));
  }
  std::vector<lease_event> told(lease_change what) {
    auto x = ask<lease_history>(manager, atom::list_v, uint64_t{0}, uint64_t{1000});
    BOOST_REQUIRE(x);
    std::erase_if(x->events, [&](auto& e) { return e.what != what; });
    return x->events;
  }
  bool alive() { return find<lease_manager_actor>(path::leases) == manager && !ended(); }
  /// A manager that leads (1) starts; after it has got its number, `then`.
  void lead(std::function<void()> then) {
    led = std::make_shared<led_store>(store);
    led->after_commit = std::move(then);
    auto x = std::make_shared<node_context>(*context);
    x->options.roles.manager = true;
    x->store = led;
    x->leadership = leads;
    leads->set({true, {}, 1});
    context = x;
    kill(find<catalog_actor>(path::catalog));
    put(path::catalog, spawn(catalog, context));
    restart_manager();
  }
  /// The newest manager's, as the catalog has it.
  std::string number() {
    std::string result;
    store->list("meta/incarnation", "", 1, [&](catalog_result x) {
      if (!x.entries.empty())
        result = x.entries.front().value;
    });
    return result;
  }
  bool ended() { return refusal<std::vector<lease_info>>(manager, atom::list_v, v.id) != errc::none; }

  volume_record scratch;
  std::shared_ptr<leadership> leads = std::make_shared<leadership>();
  std::shared_ptr<led_store> led;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(lease_agreement_, agreement_fixture)

BOOST_AUTO_TEST_CASE(a_keep_alive_is_answered_once_storage_has_confirmed_it) {
  tier().renews_never = true;
  auto asked = begin<lease_renewal>(manager, atom::renew_v, ann);
  run();
  BOOST_TEST(!asked.done());
  tier().renews_never = false;
  BOOST_REQUIRE(renew());
  BOOST_TEST(tier().renewals.size() >= 1u);
}

BOOST_AUTO_TEST_CASE(a_tier_that_does_not_answer_keeps_only_its_own_leases_from_being_renewed) {
  tier().renews_never = true;
  for (int i = 0; i < 4; ++i) {
    const auto began = now();
    auto x = renew();
    BOOST_REQUIRE(x);
    BOOST_TEST(x->renewed == 1u);
    BOOST_REQUIRE(x->gaps.size() == 1u);
    BOOST_TEST(x->gaps.front().tier == "fast");
    BOOST_TEST(!x->gaps.front().why.empty());
    BOOST_TEST((now() - began < context->options.request_timeout));
    advance(12s);
  }
  // One term after the last time that storage agreed, and no sooner or later.
  BOOST_TEST(leases().empty());
  BOOST_TEST(told(lease_change::expired).size() == 1u);
  BOOST_TEST(ask<std::vector<lease_info>>(manager, atom::list_v, scratch.id)->size() == 1u);
  BOOST_TEST(published_count("LEASES_NOT_RENEWED") >= 3u);
  tier().renews_never = false;
  BOOST_TEST(renew()->gaps.empty());
}

BOOST_AUTO_TEST_CASE(a_refused_renewal_renews_nothing_there_and_says_why) {
  advance(20s);
  tier().renew_refusals = {errc::unavailable};
  auto x = renew();
  BOOST_REQUIRE(x);
  BOOST_REQUIRE(x->gaps.size() == 1u);
  BOOST_TEST(x->gaps.front().why.find("as the test says") != std::string::npos);
  BOOST_TEST((leases().front().remaining < 26s));
  BOOST_TEST(renew()->gaps.empty());
  BOOST_TEST((leases().front().remaining > 44s));
}

BOOST_AUTO_TEST_CASE(what_comes_while_a_tier_is_asked_goes_with_the_next_question) {
  for (uint64_t n = 10; n < 40; ++n) {
    holders[holder_id{n}] = holders[ben];
    acquire(holder_id{n}, n, lease_mode::write);
  }
  tier().renewal_batches = 0;
  std::vector<pending<lease_renewal>> all;
  for (uint64_t n = 10; n < 40; ++n)
    all.push_back(begin<lease_renewal>(manager, atom::renew_v, holder_id{n}));
  run();
  for (auto& x : all)
    BOOST_TEST((x.code() == errc::none));
  BOOST_TEST(tier().renewals.size() >= 30u);
  BOOST_TEST(tier().renewal_batches < 15u);
}

BOOST_AUTO_TEST_CASE(storage_may_shorten_a_renewal_and_lengthen_it_again) {
  tier().term_max = 20s;
  tier().limit = term_limit::draining;
  auto x = renew();
  BOOST_REQUIRE(x);
  BOOST_TEST((x->term == 20s));
  BOOST_TEST((leases().front().grant.term == 20s));
  BOOST_TEST((leases().front().grant.limit == term_limit::draining));
  BOOST_REQUIRE(!told(lease_change::changed).empty());
  BOOST_TEST(told(lease_change::changed).back().why.find("draining") != std::string::npos);
  tier().term_max = 1h;
  BOOST_TEST((renew()->term == context->options.leases.term));
  BOOST_TEST((leases().front().grant.limit == term_limit::none));
}

BOOST_AUTO_TEST_CASE(a_grant_says_why_it_is_short) {
  auto x = spec("secret");
  x.sensitive = sensitivity::high;
  const auto secret = make(x);
  const lease_request there{ann, {secret.id, shard_index{0}}, 1, lease_mode::write, {}};
  BOOST_TEST((one(ask<grants>(manager, atom::acquire_v, there, holders[ann])).limit == term_limit::sensitive));
  tier().term_max = 20s;
  tier().limit = term_limit::overloaded;
  BOOST_TEST((one(acquire(ann, 5, lease_mode::write)).limit == term_limit::overloaded));
  BOOST_TEST(told(lease_change::granted).back().why.find("overloaded") != std::string::npos);
  tier().fence_refusals = {errc::unavailable};
  BOOST_TEST((code_of(acquire(ann, 6, lease_mode::write).error()) == errc::unavailable));
  BOOST_REQUIRE(told(lease_change::refused).size() == 1u);
  BOOST_TEST(told(lease_change::refused).back().why.find("as the test says") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(what_several_want_is_granted_for_a_short_term) {
  auto contended = one(acquire(ben, 0, lease_mode::write));
  BOOST_TEST((contended.term == context->options.leases.term_sensitive));
  BOOST_TEST((contended.limit == term_limit::contended));
  BOOST_TEST((one(acquire(ben, 1, lease_mode::write)).term == context->options.leases.term));
  // And for as long again once nobody else has wanted it for a term.
  for (int i = 0; i < 6; ++i) {
    advance(9s);
    BOOST_REQUIRE(renew(ben));
  }
  BOOST_TEST((renew(ben)->term == context->options.leases.term));
}

BOOST_AUTO_TEST_CASE(a_manager_that_storage_does_not_heed_ends) {
  tier().incarnation = 99;
  BOOST_TEST(
    (refusal<grants>(manager, atom::acquire_v, request(ann, 7, lease_mode::write), holders[ann]) != errc::none));
  BOOST_TEST(ended());
}

BOOST_AUTO_TEST_CASE(a_manager_whose_renewals_are_not_heeded_ends) {
  tier().renew_refusals = {errc::deposed};
  BOOST_TEST((refusal<lease_renewal>(manager, atom::renew_v, ann) != errc::none));
  BOOST_TEST(ended());
}

BOOST_AUTO_TEST_CASE(a_manager_of_an_older_catalog_takes_a_number_that_storage_heeds) {
  // The first tier has told what is outstanding there before the second refuses.
  auto& outstanding = tier().outstanding;
  outstanding = {2, leases().front().grant};
  outstanding[1].home.id.index = shard_index{1};
  tiers["ram"]->incarnation = 9;
  // One is given back between that inventory and the next.
  lead([&] { led->after_commit = [&] { outstanding.resize(1); }; });
  advance(1s);
  BOOST_TEST(tiers["ram"]->incarnation >= 9u);
  BOOST_TEST(tier().incarnation == tiers["ram"]->incarnation);
  // What was learnt under the number before was learnt once more, and ends in time.
  BOOST_TEST(leases().size() == 1u);
  BOOST_TEST(context->directory->count(path::leases + "/") == 1u);
  advance(50s);
  BOOST_TEST(leases().empty());
  BOOST_TEST(context->directory->count(path::leases + "/") == 0u);
  BOOST_TEST((one(acquire(ann, 7, lease_mode::write)).manager == tier().incarnation));
}

BOOST_AUTO_TEST_CASE(a_manager_that_leads_no_more_gets_no_number_and_ends) {
  // Another one leads, and has been to storage; this one has not been told of it.
  tier().incarnation = 99;
  std::string first;
  lead([&] {
    // Whatever it writes from its first number on is compared with the other's key.
    first = number();
    led->deposed = true;
  });
  advance(5s);
  BOOST_TEST(led->refused == 1u);
  BOOST_TEST(!first.empty());
  BOOST_TEST(number() == first);
  BOOST_TEST(tier().incarnation == 99u);
  BOOST_TEST(ended());
}

BOOST_AUTO_TEST_CASE(a_manager_of_an_earlier_leadership_takes_no_number_of_the_next) {
  tier().incarnation = 99;
  std::string first;
  lead([&] {
    first = number();
    leads->set({true, {}, 3}); // lost and won again: what leads now is its successor
  });
  advance(5s);
  BOOST_TEST(!first.empty());
  BOOST_TEST(number() == first);
  BOOST_TEST(ended());
}

BOOST_AUTO_TEST_CASE(a_tier_that_is_back_is_told_of_the_manager_and_of_what_is_outstanding_there) {
  const auto fences = tier().fences.size();
  tier().incarnation = 0;
  kill(find<tier_actor>(path::tier("fast")));
  put(path::tier("fast"), spawn(fake_tier, tiers["fast"]));
  advance(2s);
  BOOST_TEST(tier().incarnation > 0u);
  BOOST_REQUIRE(tier().fences.size() == fences + 1);
  BOOST_TEST((tier().fences.back().holder == ann));
  BOOST_TEST(renew()->gaps.empty());
}

BOOST_AUTO_TEST_CASE(leases_end_with_their_own_terms) {
  // One timer for all: a short one begun later ends first, and a renewed one is not ended by the look meant for it.
  one(acquire(ann, 1, lease_mode::write));
  advance(1s);
  auto brief = request(ben, 2, lease_mode::write);
  brief.term = 10s;
  one(ask<grants>(manager, atom::acquire_v, brief, holders[ben]));
  BOOST_TEST(leases().size() == 3u);
  advance(10s + context->options.leases.drift_bound + 20ms);
  BOOST_TEST(leases().size() == 2u);
  BOOST_REQUIRE(renew());
  advance(44s);
  BOOST_TEST(leases().size() == 2u);
  advance(1s + context->options.leases.drift_bound + 20ms);
  BOOST_TEST(leases().empty());
  BOOST_TEST(told(lease_change::expired).size() == 4u); // and the one of the other volume
}

BOOST_AUTO_TEST_CASE(a_lease_changes_its_mode_and_stays_the_same_lease) {
  const auto before = leases().front().grant;
  auto read = change(ann, 0, lease_mode::read);
  BOOST_REQUIRE(read);
  BOOST_REQUIRE(read->size() == 1u);
  BOOST_TEST((read->front().mode == lease_mode::read));
  BOOST_TEST((read->front().id == before.id));
  BOOST_TEST((read->front().fence == before.fence));
  BOOST_TEST((tier().fences.back().mode == lease_mode::read));
  // Beside another reader it waits until that one has given way, and reads meanwhile.
  BOOST_REQUIRE(acquire(ben, 0, lease_mode::read));
  ben_world->gives_way = false;
  auto write = begin<grants>(manager, atom::change_v, request(ann, 0, lease_mode::write));
  advance(1s);
  BOOST_TEST(!write.done());
  BOOST_TEST(leases().size() == 2u);
  advance(5s);
  BOOST_REQUIRE((write.code() == errc::none));
  BOOST_TEST((write.get()->front().id == before.id));
  BOOST_TEST((write.get()->front().mode == lease_mode::write));
  BOOST_TEST((write.get()->front().fence > before.fence)); // ben was broken
  BOOST_TEST(ann_world->revoked.empty());
  BOOST_TEST(told(lease_change::broken).size() == 1u);
}

BOOST_AUTO_TEST_CASE(only_what_is_held_can_be_changed) {
  BOOST_TEST((code_of(change(ben, 0, lease_mode::write).error()) == errc::not_found));
  BOOST_TEST((code_of(change(ann, 8, lease_mode::write).error()) == errc::not_found));
  BOOST_TEST((code_of(change(ann, 0, lease_mode::migration).error()) == errc::invalid_argument));
  // Of a wider range that part.
  auto x = change(ann, 0, lease_mode::read, 10);
  BOOST_REQUIRE(x);
  BOOST_TEST(x->size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_writer_goes_on_reading_when_another_wants_to_read) {
  const auto before = leases().front().grant;
  auto read = one(acquire(ben, 0, lease_mode::read));
  BOOST_TEST(ann_world->lowered.size() == 1u);
  BOOST_TEST(ann_world->revoked.empty());
  BOOST_TEST((read.fence == before.fence));
  BOOST_REQUIRE(leases().size() == 2u);
  for (auto& x : leases())
    BOOST_TEST((x.grant.mode == lease_mode::read));
}

BOOST_AUTO_TEST_CASE(a_writer_that_does_not_answer_is_fenced_for_a_reader) {
  const auto before = leases().front().grant;
  ann_world->reads_only = ann_world->gives_way = false;
  auto read = one(acquire(ben, 0, lease_mode::read));
  BOOST_TEST((read.fence > before.fence));
  BOOST_TEST(leases().size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_reader_that_is_becoming_a_writer_is_asked_to_give_way_only_when_it_knows_that_it_is_one) {
  one(acquire(ben, 0, lease_mode::read));
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::release_v, ben, shard_id{v.id, {}}, uint64_t{0}));
  ann_world->lowered.clear();
  tier().held_shards.insert(shard_index{0});
  auto writes = begin<grants>(manager, atom::change_v, request(ann, 0, lease_mode::write));
  run();
  auto reads = begin_acquire(ben, 0, lease_mode::read);
  run();
  // It reads only, as far as it knows: it would say so, and then be told that it may write.
  BOOST_TEST(ann_world->lowered.empty());
  tier().answer_held();
  advance(1s);
  BOOST_REQUIRE(writes.done());
  BOOST_TEST((one(writes.get()).mode == lease_mode::write));
  BOOST_TEST(ann_world->lowered.size() == 1u);
  BOOST_REQUIRE(reads.done());
  BOOST_TEST(bool(reads.get()));
  for (auto& x : leases())
    BOOST_TEST((x.grant.mode == lease_mode::read));
}

BOOST_AUTO_TEST_CASE(who_is_asked_to_read_only_is_not_told_meanwhile_that_it_may_write) {
  ann_world->reads_only = false;
  auto reads = begin_acquire(ben, 0, lease_mode::read);
  run();
  BOOST_REQUIRE(ann_world->lowered.size() == 1u);
  auto writes = begin_acquire(ann, 0, lease_mode::write);
  run();
  BOOST_TEST(!writes.done());
  BOOST_TEST(ann_world->lowered.size() == 1u); // nor is it asked twice
}

BOOST_AUTO_TEST_CASE(who_is_asked_to_give_back_one_shard_is_not_told_of_it_with_the_others_of_its_range) {
  tier().held_shards.insert(shard_index{6});
  auto both = begin_acquire(ann, 5, lease_mode::write, 2);
  run();
  ann_world->gives_way = false;
  auto other = begin_acquire(ben, 5, lease_mode::write);
  run();
  BOOST_REQUIRE(ann_world->revoked.size() == 1u);
  tier().answer_held();
  run();
  BOOST_REQUIRE(both.done());
  BOOST_TEST((one(both.get()).home.id.index == shard_index{6}));
}

BOOST_AUTO_TEST_CASE(a_manager_whose_time_to_lead_is_over_neither_grants_nor_ends_anything) {
  lead({});
  advance(60s);
  one(acquire(ben, 3, lease_mode::write));
  // Nobody has told it yet, as after its process was stopped.
  leads->extend(1, now() + 1s);
  advance(300s);
  BOOST_TEST(told(lease_change::expired).empty());
  BOOST_TEST((refusal<lease_renewal>(manager, atom::renew_v, ben) == errc::unavailable));
  BOOST_TEST(!bool(acquire(ben, 4, lease_mode::read)));
  BOOST_TEST(alive());
  // Another term is not this manager's to lead.
  leads->extend(2, now() + 100s);
  BOOST_TEST((refusal<lease_renewal>(manager, atom::renew_v, ben) == errc::unavailable));
}

BOOST_AUTO_TEST_CASE(what_a_tier_may_have_forgotten_is_fenced_once_by_the_next_manager) {
  const auto before = tier().shards.at({shard_id{v.id, shard_index{0}}, generation{1}});
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::release_v, ann, shard_id{v.id, {}}, uint64_t{0}));
  tier().complete = false;
  restart_manager();
  advance(2s);
  const auto read = one(acquire(ann, 0, lease_mode::read));
  BOOST_TEST((read.fence > before));
  BOOST_TEST((tier().shards.at({shard_id{v.id, shard_index{0}}, generation{1}}) == read.fence));
  // Whoever could be left is shut out: what is granted from now on shares that epoch.
  const auto changed = one(acquire(ann, 0, lease_mode::write));
  BOOST_TEST((changed.fence == read.fence));
}

BOOST_AUTO_TEST_CASE(what_was_made_under_a_manager_that_knows_all_is_not_fenced) {
  restart_manager();
  advance(2s);
  const auto before = tier().shards.at({shard_id{v.id, shard_index{0}}, generation{1}});
  BOOST_TEST((one(acquire(ann, 0, lease_mode::read)).fence == before));
}

BOOST_AUTO_TEST_CASE(who_was_broken_is_fenced_also_when_storage_is_not_there_at_first) {
  const auto before = leases().front().grant;
  ann_world->reads_only = ann_world->gives_way = false;
  // The first who comes after gets no answer from storage, and is gone.
  tier().fence_refusals = {errc::unavailable};
  BOOST_TEST((code_of(acquire(ben, 0, lease_mode::write).error()) == errc::unavailable));
  BOOST_TEST(leases().empty());
  auto next = one(acquire(ben, 0, lease_mode::write));
  BOOST_TEST((next.fence > before.fence));
  BOOST_TEST((tier().shards.at({shard_id{v.id, shard_index{0}}, generation{1}}) == next.fence));
}

BOOST_AUTO_TEST_CASE(all_that_happens_is_told_in_order) {
  auto x = ask<lease_history>(manager, atom::list_v, uint64_t{0}, uint64_t{1000});
  BOOST_REQUIRE(x);
  BOOST_TEST(x->newest == x->events.size());
  const auto newest = x->newest;
  BOOST_TEST(ask<lease_history>(manager, atom::list_v, newest, uint64_t{1000})->events.empty());
  BOOST_REQUIRE(ask<caf::unit_t>(manager, atom::release_v, ann, shard_id{v.id, {}}, uint64_t{0}));
  auto more = ask<lease_history>(manager, atom::list_v, newest, uint64_t{1000});
  BOOST_REQUIRE(more->events.size() == 1u);
  BOOST_TEST(more->events.front().number == newest + 1);
  BOOST_TEST((more->events.front().what == lease_change::released));
  BOOST_TEST(ask<lease_history>(manager, atom::list_v, uint64_t{0}, uint64_t{1})->events.size() == 1u);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace varve
