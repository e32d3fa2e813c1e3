#include "runtime/remote/remote_tls.hpp"

#include <cstdlib>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace varve {

namespace {

template <class T, void (*Free)(T*)>
struct free_with {
  void operator()(T* x) const noexcept { Free(x); }
};
using bio_ptr = std::unique_ptr<BIO, free_with<BIO, BIO_free_all>>;
using certificate_ptr = std::unique_ptr<X509, free_with<X509, X509_free>>;
using key_ptr = std::unique_ptr<EVP_PKEY, free_with<EVP_PKEY, EVP_PKEY_free>>;

std::string last_error() {
  std::string result;
  while (auto code = ERR_get_error()) {
    char text[256];
    ERR_error_string_n(code, text, sizeof(text));
    result = text; // the last one says what it was about
  }
  return result.empty() ? "unknown error" : result;
}

/// For a message: PEM itself is not shown.
std::string shown(const std::string& x) {
  return x.starts_with("-----BEGIN") ? "the given PEM" : x;
}

bio_ptr open_pem(const std::string& x) {
  if (x.starts_with("-----BEGIN"))
    return bio_ptr{BIO_new_mem_buf(x.data(), static_cast<int>(x.size()))};
  return bio_ptr{BIO_new_file(x.c_str(), "r")};
}

} // namespace

struct tls_context::parts {
  std::unique_ptr<SSL_CTX, free_with<SSL_CTX, SSL_CTX_free>> context;

  std::string use_own(const tls_credentials& x) {
    auto from = open_pem(x.certificate);
    certificate_ptr first{from ? PEM_read_bio_X509(from.get(), nullptr, nullptr, nullptr) : nullptr};
    if (!first || SSL_CTX_use_certificate(context.get(), first.get()) != 1)
      return "certificate " + shown(x.certificate) + ": " + last_error();
    while (auto* next = PEM_read_bio_X509(from.get(), nullptr, nullptr, nullptr))
      SSL_CTX_add_extra_chain_cert(context.get(), next); // takes it over
    ERR_clear_error();                                   // the end of the file is one
    from = open_pem(x.key);
    key_ptr key{from ? PEM_read_bio_PrivateKey(from.get(), nullptr, nullptr, nullptr) : nullptr};
    if (!key || SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1)
      return "key " + shown(x.key) + ": " + last_error();
    if (SSL_CTX_check_private_key(context.get()) != 1)
      return "key " + shown(x.key) + " is not of certificate " + shown(x.certificate);
    return {};
  }

  std::string trust(const std::string& authorities) {
    auto from = open_pem(authorities);
    auto* store = SSL_CTX_get_cert_store(context.get());
    auto found = 0;
    while (from) {
      certificate_ptr one{PEM_read_bio_X509(from.get(), nullptr, nullptr, nullptr)};
      if (!one)
        break;
      found += X509_STORE_add_cert(store, one.get());
    }
    if (found == 0)
      return "authorities " + shown(authorities) + ": " + last_error();
    ERR_clear_error();
    return {};
  }
};

tls_context::tls_context(std::unique_ptr<parts> x) : parts_(std::move(x)) {}
tls_context::~tls_context() = default;

namespace {

SSL_CTX* make_context(const SSL_METHOD* method) {
  auto* x = SSL_CTX_new(method);
  if (!x)
    std::abort();
  SSL_CTX_set_min_proto_version(x, TLS1_3_VERSION);
  SSL_CTX_set_num_tickets(x, 0);
  SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(x, SSL_MODE_RELEASE_BUFFERS);
  return x;
}

} // namespace

std::shared_ptr<const tls_context> tls_context::make_server(const tls_credentials& x, std::string& problem) {
  auto made = std::make_unique<parts>();
  made->context.reset(make_context(TLS_server_method()));
  problem = x.certificate.empty() || x.key.empty() ? "a server needs a certificate and its key" : made->use_own(x);
  if (problem.empty() && !x.authorities.empty()) {
    problem = made->trust(x.authorities);
    SSL_CTX_set_verify(made->context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  if (!problem.empty())
    return nullptr;
  return std::shared_ptr<const tls_context>{new tls_context{std::move(made)}};
}

std::shared_ptr<const tls_context> tls_context::make_client(const tls_credentials& x, std::string& problem) {
  auto made = std::make_unique<parts>();
  made->context.reset(make_context(TLS_client_method()));
  SSL_CTX_set_verify(made->context.get(), SSL_VERIFY_PEER, nullptr);
  problem = x.authorities.empty() ? "a client needs authorities to trust" : made->trust(x.authorities);
  if (problem.empty() && !x.certificate.empty())
    problem = made->use_own(x);
  if (!problem.empty())
    return nullptr;
  return std::shared_ptr<const tls_context>{new tls_context{std::move(made)}};
}

struct tls_session::parts {
  std::shared_ptr<const tls_context> context;
  std::unique_ptr<SSL, free_with<SSL, SSL_free>> ssl;
  BIO* in = nullptr; // both are the SSL's
  BIO* out = nullptr;

  explicit parts(std::shared_ptr<const tls_context> of) : context(std::move(of)) {
    ssl.reset(SSL_new(context->parts_->context.get()));
    in = BIO_new(BIO_s_mem());
    out = BIO_new(BIO_s_mem());
    if (!ssl || !in || !out)
      std::abort();
    SSL_set_bio(ssl.get(), in, out);
  }
};

tls_session::tls_session(std::unique_ptr<parts> x) : parts_(std::move(x)) {}
tls_session::~tls_session() = default;

std::unique_ptr<tls_session> tls_session::server(std::shared_ptr<const tls_context> context) {
  auto x = std::make_unique<parts>(std::move(context));
  SSL_set_accept_state(x->ssl.get());
  return std::unique_ptr<tls_session>{new tls_session{std::move(x)}};
}

std::unique_ptr<tls_session> tls_session::client(std::shared_ptr<const tls_context> context, const std::string& name) {
  auto x = std::make_unique<parts>(std::move(context));
  SSL_set_connect_state(x->ssl.get());
  if (!name.empty()) {
    unsigned char address[16];
    if (::inet_pton(AF_INET, name.c_str(), address) == 1 || ::inet_pton(AF_INET6, name.c_str(), address) == 1) {
      X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(x->ssl.get()), name.c_str());
    } else {
      SSL_set_tlsext_host_name(x->ssl.get(), name.c_str());
      SSL_set1_host(x->ssl.get(), name.c_str());
    }
  }
  return std::unique_ptr<tls_session>{new tls_session{std::move(x)}};
}

void tls_session::fail() {
  const auto verdict = SSL_get_verify_result(parts_->ssl.get());
  problem_ = verdict != X509_V_OK ? X509_verify_cert_error_string(verdict) : last_error();
}

tls_session::state tls_session::shake_hands() {
  ERR_clear_error();
  const auto result = SSL_do_handshake(parts_->ssl.get());
  if (result == 1)
    return state::open;
  if (SSL_get_error(parts_->ssl.get(), result) == SSL_ERROR_WANT_READ)
    return state::working;
  fail();
  return state::failed;
}

void tls_session::put(std::span<const std::byte> cipher) {
  if (BIO_write(parts_->in, cipher.data(), static_cast<int>(cipher.size())) != static_cast<int>(cipher.size()))
    std::abort(); // out of memory
}

int tls_session::read(std::span<std::byte> into) {
  ERR_clear_error();
  size_t got = 0;
  const auto result = SSL_read_ex(parts_->ssl.get(), into.data(), into.size(), &got);
  if (result == 1)
    return static_cast<int>(got);
  switch (SSL_get_error(parts_->ssl.get(), result)) {
  case SSL_ERROR_WANT_READ: return 0;
  case SSL_ERROR_ZERO_RETURN: return -1;
  default: fail(); return -2;
  }
}

bool tls_session::write(std::span<const std::byte> from) {
  ERR_clear_error();
  size_t put = 0;
  if (SSL_write_ex(parts_->ssl.get(), from.data(), from.size(), &put) == 1 && put == from.size())
    return true;
  fail();
  return false;
}

void tls_session::take(std::vector<std::byte>& to) {
  const auto size = BIO_ctrl_pending(parts_->out);
  if (size == 0)
    return;
  const auto at = to.size();
  to.resize(at + size);
  if (BIO_read(parts_->out, to.data() + at, static_cast<int>(size)) != static_cast<int>(size))
    std::abort();
}

std::vector<std::byte> tls_session::binding() const {
  static constexpr char label[] = "EXPORTER-varve-remote-io";
  std::vector<std::byte> result(32);
  if (SSL_export_keying_material(parts_->ssl.get(), reinterpret_cast<unsigned char*>(result.data()), result.size(),
                                 label, sizeof(label) - 1, nullptr, 0, 0) != 1)
    std::abort();
  return result;
}

} // namespace varve
