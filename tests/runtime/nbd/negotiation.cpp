#include <boost/test/unit_test.hpp>

#include "runtime/nbd/nbd_negotiation.hpp"
#include "tests/runtime/nbd/nbd_fixture.hpp"

using namespace varve;
using namespace varve::test;
using phase = nbd_negotiation::phase;

namespace {

struct null_backend final : block_backend {
  explicit null_backend(uint64_t size, bool read_only = false) : size(size), sealed(read_only) {}
  uint64_t size_bytes() const noexcept override { return size; }
  bool read_only() const noexcept override { return sealed; }
  void submit(block_request& x) override { x.complete(x); }
  task<errc> extents(uint64_t, uint64_t, size_t, std::vector<volume_extent>&) override { co_return errc::none; }
  uint64_t size;
  bool sealed;
};

struct reply {
  uint32_t option = 0;
  nbd::option_reply type{};
  bytes data;
};

struct negotiation_fixture {
  negotiation_fixture() {
    exports.known[""] = exports.known["vm1"] = &volume;
    exports.known["sealed"] = &sealed;
    bytes in, out;
    nbd::append(in, uint32_t{nbd::flag_fixed_newstyle | nbd::flag_no_zeroes});
    greeted.feed(in, out);
  }

  nbd_negotiation agree(uint32_t flags = nbd::flag_fixed_newstyle | nbd::flag_no_zeroes) {
    nbd_negotiation x{options, exports};
    bytes in, out;
    nbd::append(in, flags);
    BOOST_TEST(x.feed(in, out) == 4u);
    BOOST_TEST(out.empty());
    return x;
  }

  std::vector<reply> ask(nbd_negotiation& x, uint32_t what, const bytes& data = {}) {
    auto in = option_bytes(what, data);
    bytes out;
    BOOST_TEST(x.feed(in, out) == in.size());
    return replies(out);
  }
  std::vector<reply> ask(nbd_negotiation& x, nbd::option what, const bytes& data = {}) {
    return ask(x, static_cast<uint32_t>(what), data);
  }
  /// Of an option with one reply, its type.
  nbd::option_reply told(nbd_negotiation& x, nbd::option what, const bytes& data = {}) {
    auto all = ask(x, what, data);
    BOOST_REQUIRE(!all.empty());
    return all.back().type;
  }

  static std::vector<reply> replies(const bytes& out) {
    std::vector<reply> result;
    for (size_t at = 0; at < out.size();) {
      BOOST_REQUIRE(out.size() - at >= 20);
      BOOST_TEST(nbd::load<uint64_t>(&out[at]) == nbd::option_reply_magic);
      reply x;
      x.option = nbd::load<uint32_t>(&out[at + 8]);
      x.type = static_cast<nbd::option_reply>(nbd::load<uint32_t>(&out[at + 12]));
      auto length = nbd::load<uint32_t>(&out[at + 16]);
      BOOST_REQUIRE(out.size() - at - 20 >= length);
      x.data.assign(out.begin() + at + 20, out.begin() + at + 20 + length);
      result.push_back(x);
      at += 20 + length;
    }
    return result;
  }

  static std::string text(const bytes& x, size_t from = 0) {
    return {reinterpret_cast<const char*>(x.data()) + from, x.size() - from};
  }

  nbd_options options;
  null_backend volume{1u << 30};
  null_backend sealed{4096, true};
  named_exports exports;
  nbd_negotiation greeted{options, exports};
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(negotiation, negotiation_fixture)

BOOST_AUTO_TEST_CASE(the_greeting_is_fixed_newstyle_without_zeroes) {
  bytes out;
  nbd_negotiation{options, exports}.greet(out);
  BOOST_REQUIRE(out.size() == 18u);
  BOOST_TEST(text(out).substr(0, 16) == "NBDMAGICIHAVEOPT");
  BOOST_TEST(nbd::load<uint16_t>(&out[16]) == 3u);
}

BOOST_AUTO_TEST_CASE(unknown_client_flags_end_it) {
  nbd_negotiation x{options, exports};
  bytes in, out;
  nbd::append(in, uint32_t{4 | 1});
  BOOST_TEST(x.feed(in, out) == 4u);
  BOOST_TEST((x.state() == phase::closed));
}

BOOST_AUTO_TEST_CASE(bytes_may_come_one_at_a_time) {
  auto message = option_bytes(nbd::option::go, info_request("vm1", {nbd::info::block_size}));
  for (size_t size = 0; size < message.size(); ++size) {
    bytes out;
    BOOST_TEST(greeted.feed({message.data(), size}, out) == 0u);
    BOOST_TEST(out.empty());
  }
  bytes out;
  BOOST_TEST(greeted.feed(message, out) == message.size());
  BOOST_TEST((greeted.state() == phase::transmission));
}

BOOST_AUTO_TEST_CASE(a_wrong_option_magic_ends_it) {
  auto message = option_bytes(nbd::option::list);
  message[0] = std::byte{0};
  bytes out;
  greeted.feed(message, out);
  BOOST_TEST((greeted.state() == phase::closed));
  BOOST_TEST(out.empty());
}

BOOST_AUTO_TEST_CASE(unknown_options_are_unsupported_and_harmless) {
  for (uint32_t what : {0u, 4u, 11u, 99u, ~0u}) {
    auto all = ask(greeted, what, pattern(17, what));
    BOOST_REQUIRE(all.size() == 1u);
    BOOST_TEST((all[0].type == nbd::option_reply::error_unsupported));
    BOOST_TEST(all[0].option == what);
  }
  BOOST_TEST((told(greeted, nbd::option::go, info_request("vm1")) == nbd::option_reply::ack));
}

BOOST_AUTO_TEST_CASE(tls_is_refused) {
  BOOST_TEST((told(greeted, nbd::option::starttls) == nbd::option_reply::error_unsupported));
  BOOST_TEST((told(greeted, nbd::option::starttls, bytes(1)) == nbd::option_reply::error_invalid));
}

BOOST_AUTO_TEST_CASE(abort_is_acknowledged_and_ends_it) {
  BOOST_TEST((told(greeted, nbd::option::abort) == nbd::option_reply::ack));
  BOOST_TEST((greeted.state() == phase::closed));
}

BOOST_AUTO_TEST_CASE(a_listing_names_every_export) {
  auto all = ask(greeted, nbd::option::list);
  BOOST_REQUIRE(all.size() == 3u);
  BOOST_TEST((all[0].type == nbd::option_reply::server));
  BOOST_TEST(text(all[0].data, 4) == "sealed");
  BOOST_TEST(text(all[1].data, 4) == "vm1");
  BOOST_TEST((all[2].type == nbd::option_reply::ack));
  BOOST_TEST((told(greeted, nbd::option::list, bytes(1)) == nbd::option_reply::error_invalid));
}

BOOST_AUTO_TEST_CASE(go_tells_size_flags_and_what_was_asked_for) {
  auto all =
    ask(greeted, nbd::option::go,
        info_request("", {nbd::info::name, nbd::info::description, nbd::info::block_size, static_cast<nbd::info>(77)}));
  BOOST_REQUIRE(all.size() == 5u);
  BOOST_TEST(nbd::load<uint16_t>(&all[0].data[0]) == 0u);
  BOOST_TEST(nbd::load<uint64_t>(&all[0].data[2]) == 1u << 30);
  auto flags = nbd::load<uint16_t>(&all[0].data[10]);
  BOOST_TEST(flags == (1 | 4 | 8 | 32 | 64 | 256 | 1024 | 2048));
  BOOST_TEST(text(all[1].data, 2) == "vm1");
  BOOST_TEST(text(all[2].data, 2) == options.description);
  BOOST_REQUIRE(all[3].data.size() == 14u);
  BOOST_TEST(nbd::load<uint32_t>(&all[3].data[2]) == 1u);
  BOOST_TEST(nbd::load<uint32_t>(&all[3].data[6]) == 4096u);
  BOOST_TEST(nbd::load<uint32_t>(&all[3].data[10]) == 32u << 20);
  BOOST_TEST((all[4].type == nbd::option_reply::ack));
  BOOST_TEST((greeted.state() == phase::transmission));
  BOOST_TEST(greeted.chosen() == &volume);
}

BOOST_AUTO_TEST_CASE(a_read_only_export_says_so) {
  auto flags = nbd_negotiation::transmission_flags(sealed, true);
  BOOST_TEST((flags & nbd::transmission_read_only));
  BOOST_TEST((flags & nbd::transmission_send_df));
  BOOST_TEST(!(flags & (nbd::transmission_send_trim | nbd::transmission_send_write_zeroes)));
}

BOOST_AUTO_TEST_CASE(info_chooses_nothing) {
  auto all = ask(greeted, nbd::option::info, info_request("vm1"));
  BOOST_TEST(all.size() == 2u);
  BOOST_TEST((greeted.state() == phase::options));
}

BOOST_AUTO_TEST_CASE(an_unknown_export_is_refused_and_may_be_asked_again) {
  for (auto what : {nbd::option::info, nbd::option::go})
    BOOST_TEST((told(greeted, what, info_request("nothing")) == nbd::option_reply::error_unknown));
  BOOST_TEST((told(greeted, nbd::option::go, info_request("vm1")) == nbd::option_reply::ack));
}

BOOST_AUTO_TEST_CASE(malformed_info_requests_are_invalid) {
  auto good = info_request("vm1", {nbd::info::name});
  for (size_t size = 0; size < good.size(); ++size)
    BOOST_TEST(
      (told(greeted, nbd::option::go, bytes(good.begin(), good.begin() + size)) == nbd::option_reply::error_invalid));
  auto longer = good;
  longer.push_back({});
  for (auto x : {longer, info_request(std::string(4097, 'x')), info_request(std::string_view{"v\0m", 3})}) {
    auto fresh = agree();
    BOOST_TEST((told(fresh, nbd::option::go, x) == nbd::option_reply::error_invalid));
  }
}

BOOST_AUTO_TEST_CASE(export_name_answers_with_or_without_the_old_zeroes) {
  for (auto [flags, size] : {std::pair{3u, 10u}, {1u, 134u}, {0u, 134u}}) {
    auto x = agree(flags);
    auto in = option_bytes(nbd::option::export_name, {std::byte{'v'}, std::byte{'m'}, std::byte{'1'}});
    bytes out;
    x.feed(in, out);
    BOOST_TEST(out.size() == size);
    BOOST_TEST((x.state() == phase::transmission));
  }
}

BOOST_AUTO_TEST_CASE(export_name_can_only_be_refused_by_hanging_up) {
  auto in = option_bytes(nbd::option::export_name, bytes(5, std::byte{'x'}));
  bytes out;
  greeted.feed(in, out);
  BOOST_TEST(out.empty());
  BOOST_TEST((greeted.state() == phase::closed));
}

BOOST_AUTO_TEST_CASE(without_fixed_newstyle_only_export_name_is_answered) {
  auto x = agree(0);
  bytes out;
  x.feed(option_bytes(nbd::option::list), out);
  BOOST_TEST(out.empty());
  BOOST_TEST((x.state() == phase::closed));
}

BOOST_AUTO_TEST_CASE(structured_replies_take_no_data) {
  BOOST_TEST((told(greeted, nbd::option::structured_reply, bytes(1)) == nbd::option_reply::error_invalid));
  BOOST_TEST(!greeted.structured_replies());
  BOOST_TEST((told(greeted, nbd::option::structured_reply) == nbd::option_reply::ack));
  BOOST_TEST(greeted.structured_replies());
}

BOOST_AUTO_TEST_CASE(contexts_need_structured_replies) {
  for (auto what : {nbd::option::list_meta_context, nbd::option::set_meta_context})
    BOOST_TEST((told(greeted, what, meta_request("vm1", {"base:allocation"})) == nbd::option_reply::error_invalid));
}

BOOST_AUTO_TEST_CASE(contexts_are_listed_by_name_by_namespace_or_all) {
  told(greeted, nbd::option::structured_reply);
  for (auto& query : {meta_request("vm1", {}), meta_request("vm1", {"base:"}),
                      meta_request("vm1", {"qemu:", "base:allocation", "base:allocation"})}) {
    auto all = ask(greeted, nbd::option::list_meta_context, query);
    BOOST_REQUIRE(all.size() == 2u);
    BOOST_TEST(text(all[0].data, 4) == "base:allocation");
  }
  BOOST_TEST(ask(greeted, nbd::option::list_meta_context, meta_request("vm1", {"other:x"})).size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_context_is_set_by_its_full_name_only) {
  told(greeted, nbd::option::structured_reply);
  for (auto& query : {meta_request("vm1", {}), meta_request("vm1", {"base:"}), meta_request("vm1", {"base:alloc"})})
    BOOST_TEST(ask(greeted, nbd::option::set_meta_context, query).size() == 1u);
  BOOST_TEST(ask(greeted, nbd::option::set_meta_context, meta_request("vm1", {"base:allocation"})).size() == 2u);
  told(greeted, nbd::option::go, info_request("vm1"));
  BOOST_TEST(greeted.allocation_context());
}

BOOST_AUTO_TEST_CASE(a_context_of_one_export_does_not_hold_for_another) {
  told(greeted, nbd::option::structured_reply);
  told(greeted, nbd::option::set_meta_context, meta_request("vm1", {"base:allocation"}));
  told(greeted, nbd::option::go, info_request("sealed"));
  BOOST_TEST(!greeted.allocation_context());
}

BOOST_AUTO_TEST_CASE(a_failed_set_undoes_the_one_before) {
  told(greeted, nbd::option::structured_reply);
  told(greeted, nbd::option::set_meta_context, meta_request("vm1", {"base:allocation"}));
  BOOST_TEST((told(greeted, nbd::option::set_meta_context, meta_request("nothing", {"base:allocation"})) ==
              nbd::option_reply::error_unknown));
  told(greeted, nbd::option::go, info_request("vm1"));
  BOOST_TEST(!greeted.allocation_context());
}

BOOST_AUTO_TEST_CASE(malformed_context_requests_are_invalid) {
  told(greeted, nbd::option::structured_reply);
  auto good = meta_request("vm1", {"base:allocation", "x"});
  for (size_t size = 0; size < good.size(); ++size)
    BOOST_TEST((told(greeted, nbd::option::list_meta_context, bytes(good.begin(), good.begin() + size)) ==
                nbd::option_reply::error_invalid));
  bytes huge_count;
  nbd::append(huge_count, uint32_t{0});
  nbd::append(huge_count, ~uint32_t{0});
  BOOST_TEST((told(greeted, nbd::option::list_meta_context, huge_count) == nbd::option_reply::error_invalid));
}

BOOST_AUTO_TEST_CASE(an_overlong_option_is_skipped_and_refused) {
  auto length = static_cast<uint32_t>(options.option_bytes_max + 1);
  auto in = option_bytes(static_cast<uint32_t>(nbd::option::info), {}, length);
  bytes out;
  BOOST_TEST(greeted.feed(in, out) == in.size());
  auto all = replies(out);
  BOOST_REQUIRE(all.size() == 1u);
  BOOST_TEST((all[0].type == nbd::option_reply::error_too_big));
  bytes data(1000);
  for (size_t left = length; left > 0;) {
    bytes nothing;
    auto used = greeted.feed(data, nothing);
    BOOST_TEST(used == std::min(left, data.size()));
    BOOST_TEST(nothing.empty());
    left -= used;
  }
  BOOST_TEST((told(greeted, nbd::option::go, info_request("vm1")) == nbd::option_reply::ack));
}

BOOST_AUTO_TEST_CASE(too_many_options_end_it) {
  for (size_t i = 0; i < options.options_max; ++i)
    BOOST_TEST(!ask(greeted, nbd::option::list).empty());
  BOOST_TEST((greeted.state() == phase::options));
  bytes out;
  greeted.feed(option_bytes(nbd::option::list), out);
  BOOST_TEST(out.empty());
  BOOST_TEST((greeted.state() == phase::closed));
}

BOOST_AUTO_TEST_SUITE_END()
