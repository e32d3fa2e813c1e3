// Two nodes' data planes over real sockets, threads and files.

#include <atomic>
#include <filesystem>
#include <future>
#include <random>

#include <boost/test/unit_test.hpp>

#include "runtime/data_plane/reactor_data_plane.hpp"
#include "runtime/remote/host_names.hpp"
#include "runtime/remote/remote_address.hpp"
#include "runtime/remote/remote_plane.hpp"
#include "tests/runtime/remote/certificates.hpp"

using namespace varve;
using namespace varve::test;
using namespace std::chrono_literals;

namespace {

constexpr uint64_t shard_size = 1u << 20;
constexpr auto patience = 30s;

struct io : block_request {
  std::vector<std::byte> bytes;
  std::promise<errc> over;
};

struct real_cluster {
  struct member {
    std::string name, folder, address;
    uint32_t reactors = 2;
    uint64_t life = 0;
    tls_credentials credentials; // empty: plain
    std::shared_ptr<remote_plane> remote;
    std::unique_ptr<reactor_data_plane> plane;
    std::atomic<reactor_data_plane*> serving{nullptr}; // of `plane`, for other threads
  };

  explicit real_cluster(bool tls, const std::string& name_of_b = "b") {
    char pattern[] = "/tmp/varve-planes-XXXXXX";
    folder = ::mkdtemp(pattern);
    const auto authority = certify("ca");
    for (auto* x : {&a, &b}) {
      x->name = x == &a ? "a" : "b";
      x->folder = folder + "/" + x->name;
      std::filesystem::create_directory(x->folder);
      if (!tls)
        continue;
      const auto own = certify(x->name, "DNS:" + (x == &b ? name_of_b : x->name), &authority);
      x->credentials = {own.certificate, own.key, authority.certificate};
    }
    boot(a);
    boot(b);
    introduce();
  }
  ~real_cluster() {
    a.plane.reset();
    b.plane.reset();
    std::filesystem::remove_all(folder);
  }

  std::vector<shard_store_options> tiers_of(const member& x) {
    std::vector<shard_store_options> result(1);
    result[0].name = x.name + "-files";
    result[0].kind = tier_kind::file;
    result[0].directory = x.folder;
    result[0].io = file_io::buffered;
    return result;
  }
  void boot(member& x) {
    ++x.life;
    auto& other = &x == &a ? b : a;
    remote_plane_options options;
    options.name = x.name;
    options.incarnation = x.life;
    options.reactors = x.reactors;
    options.nodes.push_back({other.name, {}, tiers_of(other)});
    // Where the other one listens is known only once it does.
    options.connect = [this](const std::string& node, uint16_t port) {
      std::lock_guard guard{mutex};
      return remote::connect_tcp(remote::port_above(node == "a" ? a.address : b.address, port));
    };
    std::string problem;
    if (!x.credentials.key.empty()) {
      options.server_tls = tls_context::make_server(x.credentials, problem);
      options.client_tls = tls_context::make_client(x.credentials, problem);
      BOOST_REQUIRE_MESSAGE(options.server_tls && options.client_tls, problem);
    }
    for (auto tries = 0; tries < 20 && !x.remote; ++tries) {
      std::lock_guard guard{mutex};
      options.address = x.address.empty() ? "127.0.0.1:0" : x.address;
      x.remote = remote_plane::make(options, problem); // the next ports may be somebody's
      if (x.remote)
        x.address = x.remote->address();
    }
    BOOST_REQUIRE_MESSAGE(x.remote, problem);
    x.remote->on_session([this](std::string node, uint32_t, uint32_t, remote_session_state state) {
      std::lock_guard guard{mutex};
      said.push_back(node + ": " + state.why);
    });
    data_plane_options plane;
    plane.tiers = tiers_of(x);
    plane.reactors = x.reactors;
    plane.make_peers = x.remote->peers();
    x.plane = reactor_data_plane::make(plane, problem);
    BOOST_REQUIRE_MESSAGE(x.plane, problem);
    x.serving = x.plane.get();
  }
  void stop(member& x) {
    x.serving = nullptr;
    x.plane.reset();
    x.remote.reset();
  }
  /// Keys for all of their reactors.
  void introduce() {
    for (auto [from, to] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
      from->remote->set_reactors(to->name, to->reactors);
      for (uint32_t theirs = 0; theirs < to->reactors; ++theirs)
        for (uint32_t own = 0; own < from->reactors; ++own) {
          session_key key;
          key.id = ++keys;
          key.initiator = from->name[0] * 100u + own;
          key.rights = remote_rights::control;
          key.secret[0] = static_cast<std::byte>(keys);
          key.expires = boot_time::max();
          to->remote->allow(theirs, key);
          from->remote->set_key(to->name, theirs, own, static_cast<uint16_t>(theirs), key);
        }
    }
  }

  template <class T, class F>
  T call_for(F command) {
    auto promise = std::make_shared<std::promise<T>>();
    auto result = promise->get_future();
    command([promise](T x) { promise->set_value(std::move(x)); });
    if (result.wait_for(patience) != std::future_status::ready)
      throw std::runtime_error("the command does not end");
    return result.get();
  }

  // -- a volume at `a` whose shards are made at `b`

  void open(volume_id volume) {
    port_options options;
    options.volume = volume;
    options.name = "vm";
    options.size_bytes = 8 * shard_size;
    options.shard_size = shard_size;
    // Not by what the test may reset meanwhile.
    options.on_need = [this, to = a.plane.get()](std::vector<route_need> needs) {
      for (auto& x : needs)
        for (auto i = x.first.value(); i < x.first.value() + x.count; ++i)
          answer({x.volume, shard_index{i}}, *to);
    };
    BOOST_REQUIRE((call_for<errc>([&](auto done) { a.plane->open_port(options, done); }) == errc::none));
  }
  void answer(shard_id id, reactor_data_plane& to) {
    std::lock_guard guard{mutex};
    auto& at = homes.try_emplace(id, "b-files", generation{1}).first->second;
    auto grant = [&to, id, at] {
      route x;
      x.first = id.index;
      x.exists = x.writable = true;
      x.tier = at.first;
      x.generation = at.second;
      x.fence = epoch{5};
      x.valid_until = boot_time::max();
      to.set_routes(id.volume, {x});
    };
    auto* home = b.serving.load();
    if (at.second != generation{1} || !home)
      return grant();
    shard_header header;
    header.id = id;
    header.size = shard_size;
    header.generation = at.second;
    header.fence = epoch{5};
    home->create_shard(at.first, header, [grant](shard_summary) { grant(); });
  }
  void submit(volume_id volume, std::shared_ptr<io> x) {
    x->payload = x->op == block_op::write ? std::span<const std::byte>{x->bytes} : std::span<const std::byte>{};
    x->complete = [](block_request& self) {
      auto& mine = static_cast<io&>(self);
      if (mine.op == block_op::read && mine.status == errc::none) {
        const auto from =
          mine.view.empty() ? std::span<const std::byte>{mine.data.bytes().first(mine.length)} : mine.view;
        mine.bytes.assign(from.begin(), from.end());
        if (!mine.view.empty())
          mine.release(mine);
      }
      mine.over.set_value(mine.status);
    };
    auto& on = a.plane->reactor_at(a.plane->reactor_of(volume));
    on.post([plane = a.plane.get(), volume, x] { plane->backend(volume)->submit(*x); });
  }
  std::shared_ptr<io> begin(volume_id volume, block_op what, uint64_t offset, std::vector<std::byte> bytes) {
    auto x = std::make_shared<io>();
    x->op = what;
    x->offset = offset;
    x->length = what == block_op::flush ? 0 : bytes.size();
    x->bytes = std::move(bytes);
    submit(volume, x);
    return x;
  }
  errc finish(io& x) {
    auto result = x.over.get_future();
    BOOST_REQUIRE((result.wait_for(patience) == std::future_status::ready));
    return result.get();
  }
  errc run(volume_id volume, block_op what, uint64_t offset, std::vector<std::byte> bytes) {
    return finish(*begin(volume, what, offset, std::move(bytes)));
  }
  std::vector<std::byte> read(volume_id volume, uint64_t offset, uint64_t length) {
    auto x = begin(volume, block_op::read, offset, std::vector<std::byte>(length));
    BOOST_TEST((finish(*x) == errc::none));
    return x->bytes;
  }
  remote_plane_counters counters(member& x) {
    return call_for<remote_plane_counters>([&](auto done) { x.remote->counters(done); });
  }
  bool was_said(const std::string& part) {
    for (auto end = std::chrono::steady_clock::now() + patience; std::chrono::steady_clock::now() < end;) {
      {
        std::lock_guard guard{mutex};
        for (auto& x : said)
          if (x.find(part) != std::string::npos)
            return true;
      }
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }

  void exercise() {
    constexpr volume_id volumes[] = {volume_id{1}, volume_id{2}};
    std::mt19937_64 random{5};
    std::vector<std::byte> model[2];
    for (auto v = 0; v < 2; ++v) {
      open(volumes[v]);
      model[v].resize(4 * shard_size);
      for (auto& x : model[v])
        x = static_cast<std::byte>(random());
    }
    std::vector<std::shared_ptr<io>> all;
    for (auto v = 0; v < 2; ++v)
      for (uint64_t at = 0, size = 0; at < model[v].size(); at += size) {
        size = std::min<uint64_t>(random() % 200'000 + 1, model[v].size() - at);
        const auto from = model[v].begin() + static_cast<ptrdiff_t>(at);
        all.push_back(begin(volumes[v], block_op::write, at, {from, from + static_cast<ptrdiff_t>(size)}));
      }
    for (auto& x : all)
      BOOST_TEST((finish(*x) == errc::none));
    for (auto v = 0; v < 2; ++v) {
      BOOST_TEST((read(volumes[v], 0, model[v].size()) == model[v]));
      BOOST_TEST((run(volumes[v], block_op::flush, 0, {}) == errc::none));
    }
    const auto there = counters(b);
    BOOST_TEST(there.served_sessions_now >= 2u);
    BOOST_TEST(there.served_written_bytes >= 2 * model[0].size());

    // A shard comes here while it is written.
    move_ends x{migration_id{1}, {volumes[0], shard_index{1}}, "b-files", "a-files", generation{1}, generation{2}};
    BOOST_REQUIRE((call_for<errc>([&](auto done) { b.plane->begin_move(x, done); }) == errc::none));
    for (auto more = true; more;) {
      const auto round = call_for<copy_round>([&](auto done) { b.plane->copy_some(x, 128 << 10, done); });
      BOOST_REQUIRE((round.status == errc::none && round.verify_failures == 0));
      more = round.remaining_bytes > 0;
      const auto at = shard_size + random() % (shard_size - 9000);
      std::vector<std::byte> bytes(more ? 9000 : 1, static_cast<std::byte>(random()));
      std::copy(bytes.begin(), bytes.end(), model[0].begin() + static_cast<ptrdiff_t>(at));
      BOOST_TEST((run(volumes[0], block_op::write, at, bytes) == errc::none));
    }
    const auto over = call_for<switch_result>([&](auto done) { b.plane->switch_move(x, done); });
    BOOST_REQUIRE((over.status == errc::none));
    {
      std::lock_guard guard{mutex};
      homes[x.shard] = {"a-files", generation{2}};
    }
    BOOST_TEST((call_for<errc>([&](auto done) {
                  b.plane->end_move(x, true, [done](errc e, std::chrono::nanoseconds) { done(e); });
                }) == errc::none));
    BOOST_TEST((read(volumes[0], 0, model[0].size()) == model[0]));
    BOOST_TEST((run(volumes[0], block_op::flush, 0, {}) == errc::none));

    // The node ends and comes back; what is asked meanwhile waits.
    stop(b);
    std::vector<std::byte> bytes(50'000, std::byte{7});
    std::copy(bytes.begin(), bytes.end(), model[1].begin() + 1000);
    auto written = begin(volumes[1], block_op::write, 1000, bytes);
    auto synced = begin(volumes[0], block_op::flush, 0, {});
    std::this_thread::sleep_for(200ms);
    boot(b);
    introduce();
    BOOST_TEST((finish(*written) == errc::none));
    BOOST_TEST((finish(*synced) == errc::none));
    for (auto v = 0; v < 2; ++v) {
      BOOST_TEST((read(volumes[v], 0, model[v].size()) == model[v]));
      BOOST_TEST((run(volumes[v], block_op::flush, 0, {}) == errc::none));
      BOOST_TEST((call_for<errc>([&](auto done) { a.plane->close_port(volumes[v], false, done); }) == errc::none));
    }
    const auto here = counters(a);
    BOOST_TEST((here.open_shards_now == 0u && here.lost_shards == 0u && here.requests_now == 0u));
  }

  std::string folder;
  member a, b;
  uint64_t keys = 0;
  std::mutex mutex;
  std::vector<std::string> said;
  std::map<shard_id, std::pair<std::string, generation>> homes;
};

} // namespace

BOOST_AUTO_TEST_SUITE(remote_plane_sockets)

BOOST_AUTO_TEST_CASE(two_nodes_in_plain) {
  real_cluster{false}.exercise();
}

BOOST_AUTO_TEST_CASE(two_nodes_with_tls) {
  real_cluster{true}.exercise();
}

BOOST_AUTO_TEST_CASE(a_certificate_of_another_name_is_no_node) {
  real_cluster x{true, "c"};
  BOOST_TEST(x.was_said("b: TLS: "));
  BOOST_TEST(x.counters(x.a).sessions == 0u);
  x.open(volume_id{1});
  auto late = x.begin(volume_id{1}, block_op::write, 0, std::vector<std::byte>(4096));
  std::this_thread::sleep_for(300ms);
  // And stops in time, although it waits.
  const auto began = std::chrono::steady_clock::now();
  x.a.plane.reset();
  BOOST_TEST((std::chrono::steady_clock::now() - began < 11s));
  BOOST_TEST((x.finish(*late) != errc::none));
}

BOOST_AUTO_TEST_CASE(hosts_have_names) {
  host_names names;
  BOOST_TEST(names.find("192.0.2.1:5") == "192.0.2.1:5");
  BOOST_TEST(names.find("[2001:db8::1]:5") == "[2001:db8::1]:5");
  auto found = names.find("localhost:7411");
  for (auto end = std::chrono::steady_clock::now() + patience; found.empty() && std::chrono::steady_clock::now() < end;
       found = names.find("localhost:7411"))
    std::this_thread::sleep_for(5ms);
  BOOST_TEST((found == "127.0.0.1:7411" || found == "[::1]:7411"));
}

BOOST_AUTO_TEST_CASE(an_address_that_is_taken_is_said) {
  const auto fd = remote::listen_tcp("127.0.0.1:0");
  remote_plane_options options;
  options.address = remote::local_address(fd);
  std::string problem;
  BOOST_TEST(!remote_plane::make(options, problem));
  BOOST_TEST((problem.find(options.address) != std::string::npos && problem.find("in use") != std::string::npos));
  options.address = "127.0.0.1:65535";
  options.reactors = 2;
  BOOST_TEST(!remote_plane::make(options, problem));
  options.address = "somewhere";
  BOOST_TEST(!remote_plane::make(options, problem));
  BOOST_TEST(problem.find("somewhere") != std::string::npos);
  options.address = "no-such-host.invalid:7411";
  BOOST_TEST(!remote_plane::make(options, problem));
  BOOST_TEST(problem.find("no-such-host.invalid: ") != std::string::npos);
  ::close(fd);
}

BOOST_AUTO_TEST_SUITE_END()
