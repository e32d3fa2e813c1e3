#include "messages/wire.hpp"

#include <capnp/message.h>

#include <boost/test/unit_test.hpp>
#include <caf/deep_to_string.hpp>

namespace varve {

namespace {

// There and back; CAF prints all fields.
template <class Wire, class T>
void goes_there_and_back(const T& x) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<Wire>();
  to_wire(root, x);
  const auto back = from_wire(root.asReader());
  BOOST_TEST(caf::deep_to_string(back) == caf::deep_to_string(x));
  // A field that is not carried over would be equal only by chance.
  BOOST_TEST(caf::deep_to_string(back) != caf::deep_to_string(T{}));
}

constexpr caf::timespan t(int64_t x) {
  return caf::timespan{x};
}

} // namespace

BOOST_AUTO_TEST_CASE(every_value_survives_the_wire_field_by_field) {
  volume_spec spec{"vm1", 20ull << 30, 1 << 20, true, "fast", sensitivity::high, workload_profile::capacity};
  goes_there_and_back<wire::VolumeSpec>(spec);
  volume_record record{volume_id{1}, spec, 2, {{holder_id{3}, "a"}, {holder_id{4}, "b"}}, true};
  goes_there_and_back<wire::Volume>(volume_info{record, 4, 5, "nbd+unix:///vm1?socket=/s", 6, true, false});
  goes_there_and_back<wire::Volume>(volume_info{record, 4, 5, "nbd+unix:///vm1?socket=/s", 6, false, true});
  goes_there_and_back<wire::Attachment>(attachment{volume_id{1}, holder_id{2}, "u", "p", "h"});
  shard_home home{{volume_id{1}, shard_index{2}}, "fast", generation{3}, epoch{4}};
  goes_there_and_back<wire::Shard>(shard_row{{home, 5, 6, 7, true, 8, 9, "write", migration_id{10}}, "n"});
  tier_info tier{"fast", "file", true, "direct", "/t", 1,  2,  3,  4,  5.5, true, "up", "p",
                 t(6),   t(7),   t(8), 9.5,      10.5, 11, 12, 13, 14, 15,  16,   "id"};
  goes_there_and_back<wire::Tier>(tier_row{tier, "n"});
  goes_there_and_back<wire::CatalogBackup>(catalog_backup_info{1, 2, 3, 4, 5});
  lease_grant grant{lease_id{1}, holder_id{2},          {{volume_id{3}, shard_index{4}}, "fast", {}, {}},
                    5,           lease_mode::migration, epoch{6},
                    t(7),        term_limit::draining};
  goes_there_and_back<wire::Lease>(lease_info{grant, t(8), "revoking"});
  goes_there_and_back<wire::LeaseEvent>(lease_event{1, 2, lease_change::broken, grant, "why"});
  migration_record moved{migration_id{1}, {volume_id{2}, shard_index{3}}, "a",   "b", generation{4},
                         generation{5},   migration_state::switching,     "why", 6,   7};
  goes_there_and_back<wire::Migration>(
    migration_progress{moved, 8, 9, 10.5, 11.5, t(12), true, true, "budget", "e", 13, 14, t(15)});
  node_status status{"n", "v", t(1), "warning", {{"CODE", "warning", "text"}}, 2, 3, 4, 5, 6, 7, "threads"};
  goes_there_and_back<wire::NodeStatus>(status);
  member_info member{"n", "host", member_state::suspect, 1, "v", t(2), "c:1", "d:2", 3};
  goes_there_and_back<wire::Member>(member);
  goes_there_and_back<wire::ClusterStatus>(
    cluster_view{"lab", "n", "l", "s", {member}, "warning", {{"CODE", "warning", "text"}}});
  goes_there_and_back<wire::Event>(event{1, "CODE", "text"});
  goes_there_and_back<wire::Actor>(actor_info{"p", "t", true, 1, t(2), "e"});
  for (const auto& x :
       {text_fact("n", "t"), count_fact("n", 1), bytes_fact("n", 2), time_fact("n", t(3)), flag_fact("n", true)})
    goes_there_and_back<wire::Fact>(x);
}

BOOST_AUTO_TEST_CASE(what_the_console_shows_and_sends_survives_the_wire) {
  capnp::MallocMessageBuilder message;
  auto row = message.initRoot<wire::ActorRow>();
  to_wire(row, actor_row{{"p", "t", true, 1, t(2), "e"}, actor_condition::silent, 3, 4});
  const auto back = from_wire(row.asReader());
  BOOST_TEST(caf::deep_to_string(back.info) == caf::deep_to_string(actor_info{"p", "t", true, 1, t(2), "e"}));
  BOOST_TEST((back.condition == actor_condition::silent));
  BOOST_TEST(back.mailbox == 3u);
  BOOST_TEST(back.hidden == 4u);
  auto declared = message.initRoot<wire::ActorMessage>();
  to_wire(declared, actor_message{"m", {{"A", argument_type::size}, {"B", argument_type::flag}}, "about"});
  const auto again = from_wire(declared.asReader());
  BOOST_TEST(again.name == "m");
  BOOST_TEST(again.about == "about");
  BOOST_REQUIRE(again.arguments.size() == 2u);
  BOOST_TEST(again.arguments[1].name == "B");
  BOOST_TEST((again.arguments[0].type == argument_type::size));
  for (const argument_value& x :
       {argument_value{uint64_t{1}}, argument_value{std::string{"a"}}, argument_value{true}}) {
    auto argument = message.initRoot<wire::Argument>();
    to_wire(argument, x);
    BOOST_TEST((from_wire(argument.asReader()) == x));
  }
}

BOOST_AUTO_TEST_CASE(every_error_code_survives_with_its_context) {
  for (int i = 0; i <= static_cast<int>(errc::read_only); ++i) {
    capnp::MallocMessageBuilder message;
    auto root = message.initRoot<wire::Error>();
    const auto x = i == 0 ? caf::error{} : make_error(static_cast<errc>(i), "context");
    to_wire(root, x);
    const auto back = from_wire(root.asReader());
    BOOST_TEST((code_of(back) == static_cast<errc>(i)));
    BOOST_TEST(context_of(back) == (i == 0 ? "" : "context"));
    // The names in the schema are the enumerators', in another spelling.
  }
}

BOOST_AUTO_TEST_CASE(nonsense_durations_do_not_become_negative) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<wire::Actor>();
  root.setAge(UINT64_MAX);
  BOOST_TEST((from_wire(root.asReader()).age.count() >= 0));
  to_wire(root, actor_info{"p", "t", true, 1, t(-5), ""});
  BOOST_TEST(root.getAge() == 0u);
}

} // namespace varve
