// Over real sockets, rings and files.

#include <filesystem>
#include <fstream>
#include <random>

#include "runtime/reactor/rings.hpp"
#include "runtime/remote/remote_address.hpp"
#include "tests/runtime/remote/certificates.hpp"
#include "tests/runtime/remote/remote_fixture.hpp"

using namespace varve;
using namespace varve::test;

namespace {

/// Client and server on one reactor, over loopback.
struct socket_fixture {
  explicit socket_fixture(ring_kind kind = ring_kind::automatic) {
    ring_options how;
    how.kind = kind;
    made = make_ring(how);
    on = std::make_unique<reactor>(*made.ring);
    char pattern[] = "/tmp/varve-remote-XXXXXX";
    folder = ::mkdtemp(pattern);
    session_key key;
    key.id = 7;
    key.initiator = 1;
    key.rights = remote_rights::control;
    key.secret[0] = std::byte{5};
    key.expires = boot_time::max();
    keys.known[7] = key;
    server_options.boot = 1;
    server_options.log = [this](const std::string& x) { logged.push_back(x); };
    client_options.key = [key](session_key& x) {
      x = key;
      return true;
    };
    client_options.on_session = [this](const std::string& why) { sessions.push_back(why); };
  }
  ~socket_fixture() {
    x.reset();
    store.reset();
    if (client)
      run(client->close());
    client.reset();
    if (served) {
      run(served->server->close());
      auto close_all = [this]() -> task<void> { (void)co_await served->shards->close_all(on->now() + 10s); };
      run(close_all());
      served.reset();
    }
    on.reset();
    std::filesystem::remove_all(folder);
  }

  void serve() {
    const auto fd = remote::listen_tcp("127.0.0.1:0");
    BOOST_REQUIRE(fd >= 0);
    address = remote::local_address(fd);
    served = std::make_unique<served_shards>(*on, folder, keys, server_options);
    served->server->listen(fd);
  }
  bool connect() {
    client_options.connect = [this] { return remote::connect_tcp(address); };
    client = std::make_unique<remote_client>(*on, client_options);
    client->tier("files");
    client->tier("memory");
    client->start();
    return step_until([this] { return client->connected() || sessions.size() >= 2; }) && client->connected();
  }
  void open(const std::string& tier, uint64_t size) {
    x.reset();
    remote_store_options options;
    options.as.name = options.tier = tier;
    store = make_remote_store(*on, *client, options);
    auto create = [this, size]() -> task<void> {
      auto opened = co_await store->create(header_for(size));
      BOOST_TEST((opened.status == errc::none));
      x = std::move(opened.shard);
    };
    run(create());
    BOOST_REQUIRE(x);
  }
  template <class F>
  bool step_until(F done, std::chrono::milliseconds limit = 20s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end)
        return false;
      on->step(on->now() + 1ms);
    }
    return true;
  }
  void run(task<void> what) {
    auto over = false;
    start(remote_fixture::noting(std::move(what), over));
    BOOST_REQUIRE(step_until([&] { return over; }));
  }
  errc run(task<errc> what) {
    std::optional<errc> result;
    start(store_result(std::move(what), result));
    BOOST_REQUIRE(step_until([&] { return result.has_value(); }));
    return *result;
  }
  /// Writes and reads sizes from a byte to several MiB, several at a time.
  void exercise() {
    for (auto tier : {"files", "memory"}) {
      open(tier, 16u << 20);
      std::mt19937_64 random{3};
      std::vector<std::byte> model(16u << 20), seen(16u << 20);
      for (auto size : {1u, 511u, 4096u, 5000u, 65536u, 1u << 20, 9u << 20}) {
        std::vector<std::byte> bytes(size);
        for (auto& b : bytes)
          b = static_cast<std::byte>(random());
        const auto offset = random() % (model.size() - size);
        BOOST_TEST((run(x->write(offset, bytes)) == errc::none));
        std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<ptrdiff_t>(offset));
      }
      constexpr size_t pieces = 64;
      const auto piece = model.size() / pieces;
      std::optional<errc> ended[pieces];
      for (size_t i = 0; i < pieces; ++i)
        start(store_result(x->read(i * piece, std::span{seen}.subspan(i * piece, piece)), ended[i]));
      BOOST_REQUIRE(
        step_until([&] { return std::all_of(ended, ended + pieces, [](auto& e) { return e.has_value(); }); }));
      BOOST_TEST((std::all_of(ended, ended + pieces, [](auto& e) { return *e == errc::none; })));
      BOOST_TEST((seen == model));
      for (auto& e : ended)
        e.reset();
      for (size_t i = 0; i < pieces; ++i)
        start(store_result(x->write(i * piece, std::span{model}.subspan((i + 1) % pieces * piece, piece)), ended[i]));
      BOOST_REQUIRE(
        step_until([&] { return std::all_of(ended, ended + pieces, [](auto& e) { return e.has_value(); }); }));
      BOOST_TEST((run(x->flush()) == errc::none));
      BOOST_TEST((run(x->read(0, seen)) == errc::none));
      std::rotate(model.begin(), model.begin() + static_cast<ptrdiff_t>(piece), model.end());
      BOOST_TEST((seen == model));
    }
    BOOST_TEST(client->counters().sessions == 1u);
    BOOST_TEST(served->server->counters().bytes_now == 0u);
  }
  bool said(const std::string& part) const {
    return std::any_of(logged.begin(), logged.end(), [&](auto& x) { return x.find(part) != std::string::npos; });
  }
  bool heard(const std::string& part) const {
    return std::any_of(sessions.begin(), sessions.end(), [&](auto& x) { return x.find(part) != std::string::npos; });
  }

  made_ring made;
  std::unique_ptr<reactor> on;
  std::string folder, address;
  key_table keys;
  remote_server_options server_options;
  remote_client_options client_options;
  std::vector<std::string> logged, sessions;
  std::unique_ptr<served_shards> served;
  std::unique_ptr<remote_client> client;
  std::unique_ptr<shard_store> store;
  std::unique_ptr<shard> x;
};

struct tls_fixture : socket_fixture {
  certified authority = certify("Varve test authority");
  certified node = certify("node1", "DNS:node1,IP:127.0.0.1", &authority);
  std::string problem;

  std::shared_ptr<const tls_context> server_tls(const certified& who, const std::string& trusts = {}) {
    auto made = tls_context::make_server({who.certificate, who.key, trusts}, problem);
    BOOST_REQUIRE_MESSAGE(made, problem);
    return made;
  }
  std::shared_ptr<const tls_context> client_tls(const certified& trusted, const certified* who = nullptr) {
    auto made = tls_context::make_client(
      {who ? who->certificate : std::string{}, who ? who->key : std::string{}, trusted.certificate}, problem);
    BOOST_REQUIRE_MESSAGE(made, problem);
    return made;
  }
};

} // namespace

BOOST_AUTO_TEST_SUITE(remote_sockets)

BOOST_AUTO_TEST_CASE(real_files_are_served_over_loopback) {
  for (auto kind : {ring_kind::automatic, ring_kind::threads}) {
    socket_fixture f{kind};
    f.serve();
    BOOST_REQUIRE(f.connect());
    f.exercise();
  }
}

BOOST_AUTO_TEST_CASE(nobody_listening_is_an_answer) {
  socket_fixture f;
  f.address = "127.0.0.1:1";
  BOOST_TEST(!f.connect());
  BOOST_TEST(f.heard("hung up in the handshake"));
  BOOST_TEST(remote::connect_tcp("node1:7411") == -EINVAL);
  BOOST_TEST(remote::connect_tcp("127.0.0.1") == -EINVAL);
  BOOST_TEST(remote::listen_tcp("[::1") == -EINVAL);
}

BOOST_FIXTURE_TEST_CASE(within_tls_all_is_the_same, tls_fixture) {
  server_options.tls = server_tls(node);
  client_options.tls = client_tls(authority);
  client_options.server_name = "127.0.0.1";
  serve();
  BOOST_REQUIRE(connect());
  exercise();
}

BOOST_FIXTURE_TEST_CASE(tls_works_over_the_other_ring_and_with_client_certificates, tls_fixture) {
  const auto host = certify("host1", {}, &authority);
  server_options.tls = server_tls(node, authority.certificate);
  client_options.tls = client_tls(authority, &host);
  client_options.server_name = "node1";
  client_options.direct = server_options.direct = false;
  serve();
  BOOST_REQUIRE(connect());
  exercise();
}

BOOST_FIXTURE_TEST_CASE(a_certificate_of_another_authority_is_refused, tls_fixture) {
  const auto other = certify("somebody else's authority");
  server_options.tls = server_tls(certify("node1", "IP:127.0.0.1", &other));
  client_options.tls = client_tls(authority);
  serve();
  BOOST_TEST(!connect());
  BOOST_TEST(heard("TLS: "));
  BOOST_TEST(served->server->counters().sessions == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_certificate_of_another_name_is_refused, tls_fixture) {
  server_options.tls = server_tls(node);
  client_options.tls = client_tls(authority);
  client_options.server_name = "node2";
  serve();
  BOOST_TEST(!connect());
  BOOST_TEST(heard("hostname mismatch"));
}

BOOST_FIXTURE_TEST_CASE(a_client_without_the_certificate_that_is_asked_for_is_refused, tls_fixture) {
  server_options.tls = server_tls(node, authority.certificate);
  client_options.tls = client_tls(authority);
  serve();
  BOOST_TEST(!connect());
  BOOST_TEST(step_until([&] { return said("did not return a certificate"); }));
  BOOST_TEST(served->server->counters().sessions == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_plain_client_at_a_tls_port_is_refused, tls_fixture) {
  server_options.tls = server_tls(node);
  serve();
  BOOST_TEST(!connect());
  BOOST_TEST(step_until([&] { return said("TLS: "); }));
  BOOST_TEST(served->server->counters().sessions == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_tls_client_at_a_plain_port_is_refused, tls_fixture) {
  client_options.tls = client_tls(authority);
  serve();
  BOOST_TEST(!connect());
  BOOST_TEST(step_until([&] { return said("not Varve's protocol"); }));
}

BOOST_FIXTURE_TEST_CASE(a_proof_is_of_no_use_on_another_channel, tls_fixture) {
  // Both ends of a relay that ends TLS on each side have keying material of their own.
  server_options.tls = server_tls(node);
  auto hear = [](tls_session& from, tls_session& to) {
    std::vector<std::byte> bytes;
    from.take(bytes);
    to.put(bytes);
  };
  std::vector<std::byte> bindings[2][2];
  for (auto& pair : bindings) {
    auto a = tls_session::client(client_tls(authority), "node1");
    auto b = tls_session::server(server_options.tls);
    for (auto i = 0; i < 4; ++i) {
      (void)a->shake_hands();
      hear(*a, *b);
      (void)b->shake_hands();
      hear(*b, *a);
    }
    pair[0] = a->binding();
    pair[1] = b->binding();
  }
  BOOST_TEST((bindings[0][0] == bindings[0][1] && bindings[1][0] == bindings[1][1]));
  BOOST_TEST((bindings[0][0] != bindings[1][0]));
}

BOOST_FIXTURE_TEST_CASE(bad_credentials_are_named, tls_fixture) {
  BOOST_TEST(!tls_context::make_server({}, problem));
  BOOST_TEST(problem == "a server needs a certificate and its key");
  BOOST_TEST(!tls_context::make_server({"/nowhere/node.pem", node.key, {}}, problem));
  BOOST_TEST(problem.find("certificate /nowhere/node.pem: ") == 0u);
  BOOST_TEST(!tls_context::make_server({node.certificate, certify("x").key, {}}, problem));
  BOOST_TEST(problem.find("key the given PEM") == 0u);
  BOOST_TEST(!tls_context::make_client({{}, {}, folder + "/none"}, problem));
  BOOST_TEST(problem.find("authorities " + folder) == 0u);
  // From files, too.
  for (auto& [name, what] : {std::pair{"/c", node.certificate}, {"/k", node.key}, {"/a", authority.certificate}})
    std::ofstream{folder + name} << what;
  BOOST_TEST(tls_context::make_server({folder + "/c", folder + "/k", folder + "/a"}, problem));
  BOOST_TEST(tls_context::make_client({{}, {}, folder + "/a"}, problem));
}

BOOST_AUTO_TEST_SUITE_END()
