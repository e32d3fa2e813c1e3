#include "runtime/catalog/records.hpp"

#include <boost/test/unit_test.hpp>

#include "messages/errors.hpp"

using namespace varve;

BOOST_AUTO_TEST_SUITE(catalog_records)

BOOST_AUTO_TEST_CASE(records_are_read_as_they_were_written) {
  volume_record v;
  v.id = volume_id{7};
  v.spec = {"vm1", 1ull << 40, 4ull << 20, true, "fast", sensitivity::high, workload_profile::latency};
  v.created_at = 1'700'000'000;
  v.attachments = {{holder_id{~0ull}, "a"}, {holder_id{1}, "b"}};
  v.removing = true;
  volume_record v2;
  BOOST_REQUIRE(!decode(encode(v), v2));
  BOOST_TEST(encode(v2) == encode(v));
  BOOST_TEST((v2.attachments == v.attachments));
  BOOST_TEST(v2.spec.name == "vm1");
  BOOST_TEST((v2.spec.profile == workload_profile::latency));

  shard_home h{{volume_id{7}, shard_index{12}}, "slow", generation{3}, epoch{5ull << 32 | 1}}, h2;
  BOOST_REQUIRE(!decode(key::shard(h.id), encode(h), h2));
  BOOST_TEST((h2.id == h.id));
  BOOST_TEST((h2.fence == h.fence));
  BOOST_TEST((h2.of == h.of));
  BOOST_TEST(h2.tier == "slow");

  migration_record m{migration_id{9}, h.id, "a", "b", generation{1}, generation{2}, migration_state::committed,
                     "why \"not\"",   1,    2},
    m2;
  BOOST_REQUIRE(!decode(encode(m), m2));
  BOOST_TEST(encode(m2) == encode(m));
  BOOST_TEST((m2.state == migration_state::committed));
  BOOST_TEST(m2.reason == m.reason);
}

BOOST_AUTO_TEST_CASE(keys_sort_as_their_numbers) {
  BOOST_TEST(key::shard({volume_id{1}, shard_index{9}}) < key::shard({volume_id{1}, shard_index{10}}));
  BOOST_TEST(key::shard({volume_id{1}, shard_index{~0ull}}) < key::shard({volume_id{2}, shard_index{0}}));
  BOOST_TEST(key::volume(volume_id{255}) == "volume/00000000000000ff");
  BOOST_TEST(!key::volume_name("x").starts_with(key::volumes));
}

BOOST_AUTO_TEST_CASE(unknown_fields_are_ignored_and_missing_ones_have_their_default) {
  volume_record v;
  BOOST_REQUIRE(!decode(R"({"id":1,"name":"a","size":512,"shard_size":4194304,"colour":{"r":1}})", v));
  BOOST_TEST(!v.attached());
  BOOST_TEST((v.spec.sensitive == sensitivity::normal));
}

BOOST_AUTO_TEST_CASE(what_is_no_record_is_refused) {
  volume_record v;
  for (auto text :
       {"", "null", "[]", "{", "{}", R"({"id":0,"shard_size":4194304})", R"({"id":-1,"shard_size":4194304})",
        R"({"id":1,"shard_size":0})", R"({"id":1,"shard_size":4194305})", R"({"id":1,"shard_size":4194304,"name":5})",
        R"({"id":1,"shard_size":4194304,"sensitivity":3})", R"({"id":1,"shard_size":4194304,"attachments":1})",
        R"({"id":1,"shard_size":4194304,"attachments":[1]})",
        R"({"id":1,"shard_size":4194304,"attachments":[{"holder":"a"}]})"})
    BOOST_TEST((code_of(decode(text, v)) == errc::bad_format), text);
  shard_home h;
  const auto good = key::shard({volume_id{1}, shard_index{1}});
  BOOST_TEST((code_of(decode(good, R"({"tier":"fast"})", h)) == errc::bad_format));
  BOOST_TEST((code_of(decode(good, R"({"generation":1})", h)) == errc::bad_format));
  for (auto key :
       {"", "shard/1/2", "shard/000000000000000g/0000000000000000", "volume/0000000000000001/0000000000000000"})
    BOOST_TEST((code_of(decode(key, R"({"tier":"fast","generation":1})", h)) == errc::bad_format), key);
  migration_record m;
  BOOST_TEST((code_of(decode(R"({"id":1,"state":6})", m)) == errc::bad_format));
  uint64_t n = 0;
  for (auto text : {"", "x", "1x", "-1", "99999999999999999999"})
    BOOST_TEST((code_of(decode(text, n)) == errc::bad_format), text);
}

BOOST_AUTO_TEST_SUITE_END()
