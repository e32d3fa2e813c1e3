#include <boost/test/unit_test.hpp>

#include "actors/node_root.hpp"
#include "tests/actors/cluster/cluster_fixture.hpp"
#include "tests/actors/cluster/fake_remote_io.hpp"

using namespace varve;
using namespace std::chrono_literals;

namespace {

/// The catalog as a manager reaches it: only while it leads.
class led_store : public catalog_store {
public:
  led_store(std::shared_ptr<catalog_store> of, std::shared_ptr<leadership> leads)
    : of_(std::move(of)), leads_(std::move(leads)) {}
  void commit(catalog_batch batch, callback done) override {
    if (leads_->get().leads)
      of_->commit(std::move(batch), std::move(done));
    else
      done(refusal());
  }
  void list(std::string prefix, std::string after, size_t limit, callback done) override {
    if (leads_->get().leads)
      of_->list(std::move(prefix), std::move(after), limit, std::move(done));
    else
      done(refusal());
  }

private:
  static catalog_result refusal() {
    catalog_result x;
    x.status = errc::unavailable;
    return x;
  }
  std::shared_ptr<catalog_store> of_;
  std::shared_ptr<leadership> leads_;
};

struct node : cluster_test_node {
  std::shared_ptr<fake_data_plane> plane = std::make_shared<fake_data_plane>();
  std::shared_ptr<fake_remote_io> remote = std::make_shared<fake_remote_io>();
  std::shared_ptr<leadership> leads = std::make_shared<leadership>();
  node_root_self root;
};

/// Two managers, "m" and "n", of which the first leads; "a" and "b" are storage and host, with the tiers "fast" and
/// "slow".
struct nodes_fixture : cluster_fixture<node> {
  nodes_fixture() {
    cluster.nodes = {{"m", {true, false, false}, {"h", 1}, {"h", 2}},
                     {"n", {true, false, false}, {"h", 3}, {"h", 4}},
                     {"a", {false, true, true}, {"h", 5}, {"h", 6}},
                     {"b", {false, true, true}, {"h", 7}, {"h", 8}}};
    for (auto* name : {"m", "n", "a", "b"})
      start(name);
    lead("m", 1);
    advance(3s);
  }
  ~nodes_fixture() {
    for (auto& [name, x] : nodes)
      x.plane->hold(false);
  }

  void start(const std::string& name, uint64_t incarnation = 1) {
    auto& x = make(name, incarnation);
    auto& context = *x.context;
    context.plane = x.plane;
    context.remote = x.remote;
    context.fill_random = [](std::span<std::byte> out) {
      static uint64_t next = 0;
      ++next;
      for (size_t i = 0; i < out.size(); ++i)
        out[i] = std::byte(next >> (8 * (i % 8)));
    };
    context.leadership = x.leads;
    context.store = std::make_shared<led_store>(store, x.leads);
    context.scan_tier = [plane = x.plane](const std::string& tier, std::function<void(tier_scan)> done) {
      tier_scan found;
      for (auto& [key, row] : plane->shards)
        if (std::get<0>(key) == tier) {
          found.shards.push_back(row.header);
          found.allocated_bytes.push_back(row.allocated_bytes);
        }
      done(found);
    };
    context.options.shard_size = shard_size_min;
    context.options.tiers.clear();
    for (auto* of : {"a", "b"}) {
      tier_settings tier;
      tier.store.name = std::string{of} == "a" ? "fast" : "slow";
      tier.store.kind = tier_kind::file;
      tier.node = name == of ? "" : of;
      tier.capacity_bytes = 64 << 20;
      context.options.tiers.push_back(tier);
    }
    nodes["a"].plane->elsewhere = {{"slow", nodes["b"].plane.get()}};
    nodes["b"].plane->elsewhere = {{"fast", nodes["a"].plane.get()}};
    x.root = spawn(node_root, x.context);
  }
  /// Its process dies.
  void lose(const std::string& name) {
    auto& x = nodes[name];
    kill(x.root);
    end(x);
    run();
    x.plane->hold(false);
    x.plane->crash();
    x.said.clear();
  }
  void lead(const std::string& name, uint64_t term) {
    for (auto& [other, x] : nodes)
      if (other != name)
        x.leads->set({false, name + " leads"});
    nodes[name].leads->set({true, {}, term});
  }

  volume_record create(const std::string& name, const std::string& tier) {
    volume_spec spec;
    spec.name = name;
    spec.size_bytes = 64 * shard_size_min;
    spec.shard_size = shard_size_min;
    spec.tier = tier;
    // From a node that does not manage.
    auto made = ask<volume_record>(nodes["b"].find<volume_directory_actor>(path::volumes), atom::create_v, spec);
    BOOST_REQUIRE_MESSAGE(made, (made ? "" : context_of(made.error())));
    return *made;
  }
  caf::expected<attachment> attach(volume_id volume, const std::string& host, bool shared = false) {
    auto attachments = nodes["a"].find<attachments_actor>(path::attachments);
    if (!attachments)
      attachments = nodes["b"].find<attachments_actor>(path::attachments);
    return ask<attachment>(attachments, atom::attach_v, volume, host, shared);
  }
  const route* route_at(const std::string& host, volume_id volume, uint64_t index) {
    const auto* x = nodes[host].plane->find_route(volume, shard_index{index});
    return x && x->valid_until > now() ? x : nullptr;
  }
  bool route_comes(const std::string& host, volume_id volume, uint64_t index, bool write, caf::timespan within = 30s) {
    for (; within.count() > 0; within -= 500ms) {
      if (const auto* x = route_at(host, volume, index); x && (!write || x->writable))
        return true;
      nodes[host].plane->need(volume, shard_index{index}, 1, write);
      advance(500ms);
    }
    return false;
  }
  node_status status(const std::string& of) {
    auto x = ask<node_status>(nodes[of].find<monitor_actor>(path::monitor), atom::get_v);
    BOOST_REQUIRE(x);
    return *x;
  }
  static bool finds(const node_status& x, const std::string& code, const std::string& text) {
    return std::any_of(x.findings.begin(), x.findings.end(),
                       [&](auto& f) { return f.code == code && f.text.find(text) != std::string::npos; });
  }
  caf::expected<std::vector<migration_id>> move(volume_id volume, uint64_t index, const std::string& to) {
    return ask<std::vector<migration_id>>(nodes["b"].find<migration_supervisor_actor>(path::migrations), atom::start_v,
                                          migration_spec{volume, shard_index{index}, 1, to});
  }
  /// Begins a move and answers the data plane's calls until one of that name waits.
  migration_id hold_move_at(volume_id volume, uint64_t index, const std::string& to, const char* call) {
    auto& plane = *nodes["a"].plane;
    plane.hold(true);
    auto asked = begin<std::vector<migration_id>>(nodes["b"].find<migration_supervisor_actor>(path::migrations),
                                                  atom::start_v, migration_spec{volume, shard_index{index}, 1, to});
    auto called = [&] { return std::count(plane.calls.begin(), plane.calls.end(), call) > 0; };
    for (int i = 0; i < 10'000 && !called(); ++i) {
      run();
      if (!called() && !plane.release())
        advance(10ms);
    }
    BOOST_REQUIRE(called());
    BOOST_REQUIRE(asked.done());
    BOOST_REQUIRE(asked.get());
    return asked.get()->front();
  }
  migration_record moved(const std::string& by, migration_id id) {
    auto all =
      ask<std::vector<migration_progress>>(nodes[by].find<migration_supervisor_actor>(path::migrations), atom::list_v);
    if (all)
      for (auto& x : *all)
        if (x.record.id == id)
          return x.record;
    return {};
  }
  std::vector<lease_info> leases(volume_id volume) {
    auto x = ask<std::vector<lease_info>>(nodes["b"].find<lease_manager_actor>(path::leases), atom::list_v, volume);
    return x ? *x : std::vector<lease_info>{};
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(whole_nodes, nodes_fixture)

BOOST_AUTO_TEST_CASE(a_volume_is_made_attached_and_served_on_different_nodes) {
  const auto v = create("vm1", "fast");
  auto at = attach(v.id, "b");
  BOOST_REQUIRE(at);
  BOOST_TEST(at->host == "b");
  BOOST_REQUIRE(route_comes("b", v.id, 3, true));
  BOOST_TEST(route_at("b", v.id, 3)->tier == "fast");
  // Its shard was made by the node of its tier, and nowhere else.
  BOOST_TEST(nodes["a"].plane->shards.size() == 1u);
  BOOST_TEST(nodes["b"].plane->shards.empty());
  auto all = ask<std::vector<attachment>>(nodes["b"].find<attachments_actor>(path::attachments), atom::list_v);
  BOOST_REQUIRE(all);
  BOOST_REQUIRE(all->size() == 1u);
  BOOST_TEST(all->front().host == "b");
  // It stays served for longer than any term.
  advance(120s);
  BOOST_TEST(route_at("b", v.id, 3));
  BOOST_TEST(status("a").health == "ok");
  auto attachments = nodes["a"].find<attachments_actor>(path::attachments);
  BOOST_TEST((refusal<caf::unit_t>(attachments, atom::detach_v, v.id, std::string{}, false) == errc::none));
  BOOST_TEST(nodes["b"].plane->ports.empty());
  BOOST_TEST((refusal<caf::unit_t>(attachments, atom::detach_v, v.id, std::string{}, false) == errc::volume_detached));
}

BOOST_AUTO_TEST_CASE(attachments_refuse_what_no_host_can_do) {
  const auto v = create("vm1", "fast");
  BOOST_TEST((code_of(attach(v.id, "z").error()) == errc::not_found));
  BOOST_TEST((code_of(attach(v.id, "m").error()) == errc::not_found));
  BOOST_TEST((code_of(attach(volume_id{99}, "a").error()) == errc::not_found));
  BOOST_REQUIRE(attach(v.id, "a"));
  BOOST_TEST((code_of(attach(v.id, "b").error()) == errc::volume_attached));
  BOOST_REQUIRE(attach(v.id, "b", true));
  auto attachments = nodes["a"].find<attachments_actor>(path::attachments);
  // At which of the two?
  BOOST_TEST((refusal<caf::unit_t>(attachments, atom::detach_v, v.id, std::string{}, false) == errc::invalid_argument));
  BOOST_TEST((refusal<caf::unit_t>(attachments, atom::resize_v, v.id, uint64_t{1} << 30) == errc::none));
  for (auto* host : {"a", "b"})
    BOOST_TEST(nodes[host].plane->ports.at(v.id).options.size_bytes == uint64_t{1} << 30);
  lose("b");
  advance(1s);
  BOOST_TEST((code_of(attach(v.id, "b", true).error()) == errc::unavailable));
}

BOOST_AUTO_TEST_CASE(a_host_that_is_lost_can_be_given_up_and_then_serves_no_more) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "b"));
  BOOST_REQUIRE(route_comes("b", v.id, 0, true));
  // Only its connections: its port is open, and it has leases.
  auto& b = nodes["b"];
  kill(b.find<caf::actor>("cluster"));
  network.cut.insert("b");
  advance(1s);
  auto attachments = nodes["a"].find<attachments_actor>(path::attachments);
  BOOST_TEST((refusal<caf::unit_t>(attachments, atom::detach_v, v.id, std::string{}, false) == errc::unavailable));
  BOOST_TEST((refusal<caf::unit_t>(attachments, atom::detach_v, v.id, std::string{}, true) == errc::none));
  BOOST_REQUIRE(attach(v.id, "a"));
  BOOST_TEST(b.plane->ports.size() == 1u);
  network.cut.clear();
  advance(10s);
  BOOST_TEST(b.plane->ports.empty());
  BOOST_TEST(b.has_said("ATTACHMENT_ENDED"));
  BOOST_TEST(nodes["a"].plane->ports.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_lost_node_is_a_finding_and_its_shards_wait_until_it_is_back) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "b"));
  BOOST_REQUIRE(route_comes("b", v.id, 0, true));
  lose("a");
  advance(4s);
  auto now = status("b");
  BOOST_TEST(finds(now, "TIER_UNREACHABLE", "tier fast of node a"));
  BOOST_TEST(finds(now, "NODE_SUSPECT", "node a"));
  advance(8s);
  now = status("b");
  BOOST_TEST(finds(now, "NODE_DOWN", "node a"));
  BOOST_TEST(now.health == "error");
  // What may lie elsewhere is placed elsewhere; what may not waits and is not refused.
  const auto w = create("vm2", "");
  BOOST_REQUIRE(attach(w.id, "b"));
  BOOST_REQUIRE(route_comes("b", w.id, 0, true));
  BOOST_TEST(route_at("b", w.id, 0)->tier == "slow");
  BOOST_TEST(!route_comes("b", v.id, 1, true, 10s));
  BOOST_TEST(nodes["b"].plane->refused.empty());
  // The manager knows of its lease.
  BOOST_REQUIRE(leases(v.id).size() == 1u);
  start("a", 2);
  advance(5s);
  // Storage of a new life is told who holds what.
  auto shards = ask<std::vector<shard_info>>(nodes["a"].find<tier_actor>(path::tier("fast")), atom::list_v, v.id);
  BOOST_REQUIRE(shards);
  BOOST_REQUIRE(!shards->empty()); // and perhaps what was asked for meanwhile
  BOOST_TEST(shards->front().lease == "write");
  BOOST_TEST(route_comes("b", v.id, 1, true));
  now = status("b");
  BOOST_TEST(now.health == "ok");
}

BOOST_AUTO_TEST_CASE(a_tier_that_is_back_is_cleared_of_what_moves_left_there) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "b"));
  BOOST_REQUIRE(route_comes("b", v.id, 0, true));
  lose("b");
  auto& left = nodes["b"].plane->shards[{"slow", {v.id, shard_index{0}}, generation{2}}];
  left.header.id = {v.id, shard_index{0}};
  left.header.generation = generation{2};
  left.header.incomplete = true;
  start("b", 2);
  advance(5s);
  BOOST_TEST(nodes["b"].plane->shards.empty());
  BOOST_TEST(nodes["m"].has_said("LEFTOVER_REMOVED: tier slow: the unfinished sink of shard"));
}

BOOST_AUTO_TEST_CASE(another_manager_leads_and_nobody_s_leases_end) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "b"));
  BOOST_REQUIRE(route_comes("b", v.id, 0, true));
  const auto before = nodes["a"].find<lease_manager_actor>(path::leases);
  lose("m");
  lead("n", 2);
  for (int i = 0; i < 120; ++i) {
    advance(1s);
    BOOST_REQUIRE(route_at("b", v.id, 0));
  }
  BOOST_TEST((nodes["a"].find<lease_manager_actor>(path::leases) != before));
  BOOST_TEST(leases(v.id).size() == 1u);
  BOOST_TEST(route_comes("b", v.id, 1, true));
  // The first is back, and does not lead.
  start("m", 2);
  advance(5s);
  BOOST_TEST(
    (nodes["m"].find<lease_manager_actor>(path::leases) == nodes["n"].find<lease_manager_actor>(path::leases)));
}

BOOST_AUTO_TEST_CASE(a_shard_moves_to_another_node_under_its_vm) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "b"));
  BOOST_REQUIRE(route_comes("b", v.id, 0, true));
  auto ids = move(v.id, 0, "slow");
  BOOST_REQUIRE(ids);
  advance(3s);
  BOOST_TEST((moved("n", ids->front()).state == migration_state::committed));
  BOOST_TEST(nodes["a"].plane->shards.empty());
  BOOST_TEST(nodes["b"].plane->shards.size() == 1u);
  // The data plane of the source's node has done it.
  BOOST_TEST(std::count(nodes["a"].plane->calls.begin(), nodes["a"].plane->calls.end(), "switch_move") == 1);
  BOOST_REQUIRE(route_at("b", v.id, 0));
  BOOST_TEST(route_at("b", v.id, 0)->tier == "slow");
  auto info = ask<tier_info>(nodes["b"].find<tier_actor>(path::tier("slow")), atom::get_v);
  BOOST_REQUIRE(info);
  BOOST_TEST(info->shards == 1u);
}

BOOST_AUTO_TEST_CASE(a_manager_that_is_lost_with_a_gate_closed_is_replaced_by_one_that_opens_it_at_once) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "b"));
  BOOST_REQUIRE(route_comes("b", v.id, 0, true));
  auto& plane = *nodes["a"].plane;
  const auto id = hold_move_at(v.id, 0, "slow", "switch_move");
  lose("m");
  plane.hold(false); // the gate closes, and nobody hears of it
  run();
  BOOST_TEST(plane.moves.size() == 1u);
  lead("n", 2);
  advance(4s);
  BOOST_TEST(plane.moves.empty());
  BOOST_TEST((moved("n", id).state == migration_state::committed));
  // Where the old route leads nothing is any more: the data plane asks for another.
  BOOST_TEST(nodes["a"].plane->shards.empty());
  BOOST_TEST(nodes["b"].plane->shards.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_move_whose_source_s_node_dies_ends_when_that_is_back) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "b"));
  BOOST_REQUIRE(route_comes("b", v.id, 0, true));
  auto& plane = *nodes["a"].plane;
  plane.rounds.push_back({.copied_bytes = 4096, .remaining_bytes = 1 << 20});
  const auto id = hold_move_at(v.id, 0, "slow", "copy_some");
  lose("a");
  plane.rounds.clear();
  advance(60s);
  start("a", 2);
  advance(20s);
  BOOST_TEST((moved("n", id).state == migration_state::aborted));
  BOOST_TEST(moved("n", id).ended_at != 0u);
  BOOST_TEST(plane.moves.empty());
  BOOST_TEST(nodes["b"].plane->shards.empty());
  BOOST_TEST(route_comes("b", v.id, 0, true));
}

BOOST_AUTO_TEST_CASE(who_commanded_moves_before_is_not_listened_to) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "b"));
  BOOST_REQUIRE(route_comes("b", v.id, 0, true));
  auto ids = move(v.id, 0, "slow");
  BOOST_REQUIRE(ids);
  advance(3s);
  BOOST_REQUIRE((moved("n", ids->front()).state == migration_state::committed));
  // Taking it back now would remove the only home.
  const move_ends ends{ids->front(), {v.id, shard_index{0}}, "fast", "slow", generation{1}, generation{2}};
  auto mover = nodes["a"].find<mover_actor>(path::mover);
  BOOST_TEST((refusal<caf::timespan>(mover, atom::end_v, mover_term{1}, ends, false) == errc::stale_epoch));
  // Nor does it become one who is listened to when the mover dies.
  kill(mover);
  advance(1s);
  mover = nodes["a"].find<mover_actor>(path::mover);
  BOOST_TEST((refusal<caf::timespan>(mover, atom::end_v, mover_term{1}, ends, false) == errc::stale_epoch));
  BOOST_TEST(nodes["b"].plane->shards.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_write_lease_goes_from_one_host_of_a_shared_volume_to_the_other) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "a"));
  BOOST_REQUIRE(route_comes("a", v.id, 0, true));
  BOOST_REQUIRE(attach(v.id, "b", true));
  // Past the time in which a new manager cannot know who reads which runs.
  advance(50s);
  BOOST_REQUIRE(route_comes("b", v.id, 0, true, 5s));
  BOOST_TEST(!route_at("a", v.id, 0));
  BOOST_REQUIRE(route_comes("a", v.id, 0, true, 5s));
  BOOST_TEST(!route_at("b", v.id, 0));
  // One that does not answer is fenced after the grace.
  const auto fence = route_at("a", v.id, 0)->fence;
  nodes["a"].plane->hold(true);
  nodes["b"].plane->need(v.id, shard_index{0}, 1, true);
  advance(1s);
  BOOST_TEST(!route_at("b", v.id, 0));
  advance(3s);
  nodes["a"].plane->hold(false);
  BOOST_REQUIRE(route_comes("b", v.id, 0, true, 5s));
  BOOST_TEST((route_at("b", v.id, 0)->fence > fence));
}

BOOST_AUTO_TEST_CASE(a_new_manager_finds_the_holder_that_it_was_not_told_of) {
  const auto v = create("vm1", "fast");
  BOOST_REQUIRE(attach(v.id, "a"));
  BOOST_REQUIRE(attach(v.id, "b", true));
  advance(50s);
  BOOST_REQUIRE(route_comes("a", v.id, 0, true));
  lose("m");
  lead("n", 2);
  advance(500ms);
  // Neither holder has asked the new manager for anything; the one that holds it is at another host than this one.
  BOOST_REQUIRE(route_comes("b", v.id, 0, true, 60s));
  BOOST_TEST(!route_at("a", v.id, 0)); // given back, not broken
  BOOST_TEST(!nodes["n"].has_said("LEASE_BROKEN"));
}

BOOST_AUTO_TEST_SUITE_END()
