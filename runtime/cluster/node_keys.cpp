#include "runtime/cluster/node_keys.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/storage/durable_file.hpp"

namespace varve {

namespace {

template <class T, void (*Free)(T*)>
struct free_with {
  void operator()(T* x) const noexcept { Free(x); }
};
using key_ptr = std::unique_ptr<EVP_PKEY, free_with<EVP_PKEY, EVP_PKEY_free>>;
using certificate_ptr = std::unique_ptr<X509, free_with<X509, X509_free>>;
using bio_ptr = std::unique_ptr<BIO, free_with<BIO, BIO_free_all>>;
using file_ptr = std::unique_ptr<FILE, decltype([](FILE* x) { std::fclose(x); })>;

/// A clock that is a little behind must not take a new certificate for one of the future.
constexpr long backdated_seconds = 3600;

std::string openssl_problem(const std::string& what) {
  char text[256] = "unknown";
  if (const auto code = ERR_get_error())
    ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return what + ": " + text;
}

certificate_ptr read_certificate(const std::string& path, std::string& problem) {
  file_ptr in{std::fopen(path.c_str(), "re")};
  if (!in) {
    problem = path + ": " + std::strerror(errno);
    return {};
  }
  certificate_ptr x{PEM_read_X509(in.get(), nullptr, nullptr, nullptr)};
  if (!x)
    problem = openssl_problem(path + " is no certificate");
  return x;
}

key_ptr read_key(const std::string& path, std::string& problem) {
  file_ptr in{std::fopen(path.c_str(), "re")};
  if (!in) {
    problem = path + ": " + std::strerror(errno);
    return {};
  }
  key_ptr x{PEM_read_PrivateKey(in.get(), nullptr, nullptr, nullptr)};
  if (!x)
    problem = openssl_problem(path + " is no key");
  return x;
}

/// What `write` puts into a memory BIO, as a file.
template <class Write>
std::string write_pem(const std::string& path, Write write) {
  bio_ptr out{BIO_new(BIO_s_mem())};
  if (!out || write(out.get()) != 1)
    return openssl_problem(path);
  char* text = nullptr;
  const auto size = BIO_get_mem_data(out.get(), &text);
  std::string problem;
  return write_file_durably(path, {text, static_cast<size_t>(size)}, problem) ? std::string{} : problem;
}

std::string write_pair(const std::string& base, X509* certificate, EVP_PKEY* key) {
  // The key first: a certificate without one would be taken for made.
  auto problem = write_pem(base + ".key", [&](BIO* out) {
    return PEM_write_bio_PKCS8PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
  return problem.empty() ? write_pem(base + ".pem", [&](BIO* out) { return PEM_write_bio_X509(out, certificate); })
                         : problem;
}

bool extend(X509* certificate, X509* issuer, int kind, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  auto* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
  const bool done = extension && X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return done;
}

/// A certificate for `key`; its own issuer where `issuer` is null.
certificate_ptr sign(const std::string& name, const std::string& cluster, EVP_PKEY* key, X509* issuer,
                     EVP_PKEY* issuer_key, std::chrono::seconds valid) {
  certificate_ptr x{X509_new()};
  // RFC 5280, section 4.1.2.2: positive, at most 20 bytes, unique for the issuer; so random it is.
  unsigned char serial[16];
  if (!x || RAND_bytes(serial, sizeof serial) != 1)
    return {};
  serial[0] = static_cast<unsigned char>((serial[0] & 0x7f) | 0x40);
  std::unique_ptr<BIGNUM, free_with<BIGNUM, BN_free>> number{BN_bin2bn(serial, sizeof serial, nullptr)};
  auto* subject = X509_get_subject_name(x.get());
  auto add = [&](const char* field, const std::string& text) {
    return X509_NAME_add_entry_by_txt(subject, field, MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(text.data()),
                                      static_cast<int>(text.size()), -1, 0) == 1;
  };
  const bool ca = !issuer;
  auto* by = ca ? x.get() : issuer;
  const bool done =
    number && X509_set_version(x.get(), 2) == 1 && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(x.get())) &&
    X509_gmtime_adj(X509_getm_notBefore(x.get()), -backdated_seconds) &&
    X509_gmtime_adj(X509_getm_notAfter(x.get()), static_cast<long>(valid.count())) && add("O", "varve " + cluster) &&
    add("CN", name) && X509_set_issuer_name(x.get(), X509_get_subject_name(by)) == 1 &&
    X509_set_pubkey(x.get(), key) == 1 &&
    extend(x.get(), by, NID_basic_constraints, ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
    extend(x.get(), by, NID_key_usage, ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature") &&
    (ca || extend(x.get(), by, NID_ext_key_usage, "serverAuth,clientAuth")) &&
    (ca || extend(x.get(), by, NID_subject_alt_name, ("DNS:" + name).c_str())) &&
    extend(x.get(), by, NID_subject_key_identifier, "hash") &&
    extend(x.get(), by, NID_authority_key_identifier, "keyid:always") &&
    X509_sign(x.get(), issuer_key, EVP_sha256()) > 0;
  return done ? std::move(x) : certificate_ptr{};
}

int64_t seconds_of(const ASN1_TIME* x) {
  tm parts{};
  return ASN1_TIME_to_tm(x, &parts) == 1 ? static_cast<int64_t>(::timegm(&parts)) : 0;
}

std::string serial_of(X509* certificate) {
  std::unique_ptr<BIGNUM, free_with<BIGNUM, BN_free>> number{
    ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr)};
  std::unique_ptr<char, decltype([](char* x) { OPENSSL_free(x); })> text{number ? BN_bn2hex(number.get()) : nullptr};
  return text ? text.get() : "";
}

std::string subject_of(X509* certificate) {
  char text[256] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, text, sizeof text);
  return text;
}

/// Whether others could be this node; empty: not by its key's file.
std::string too_open(const std::string& path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0 || (s.st_mode & 077) == 0)
    return {};
  char mode[8];
  std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(s.st_mode & 07777));
  return path + " can be read by other users: its mode is " + mode + ", expected 0600";
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

std::string date(int64_t seconds) {
  char text[32];
  const time_t at = static_cast<time_t>(seconds);
  tm parts{};
  ::gmtime_r(&at, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

certificate_info check(const std::string& folder, const std::string& name, X509* ca, bool needs_key, int64_t now) {
  certificate_info x;
  x.name = name;
  const auto base = folder + '/' + name;
  auto certificate = read_certificate(base + ".pem", x.problem);
  if (!certificate)
    return x;
  x.serial = serial_of(certificate.get());
  x.not_before = seconds_of(X509_get0_notBefore(certificate.get()));
  x.not_after = seconds_of(X509_get0_notAfter(certificate.get()));
  if (now < x.not_before)
    x.problem = base + ".pem is not in force before " + date(x.not_before);
  else if (now > x.not_after)
    x.problem = base + ".pem has expired at " + date(x.not_after);
  else if (ca && X509_verify(certificate.get(), X509_get0_pubkey(ca)) != 1)
    x.problem = base + ".pem is not signed by ca.pem";
  else if (const auto subject = subject_of(certificate.get()); needs_key && subject != name)
    x.problem = base + ".pem is the certificate of \"" + subject + '"';
  ERR_clear_error();
  if (!x.problem.empty() || (!needs_key && !exists(base + ".key")))
    return x;
  if (auto key = read_key(base + ".key", x.problem); key && X509_check_private_key(certificate.get(), key.get()) != 1)
    x.problem = base + ".key is not the key of " + name + ".pem";
  if (x.problem.empty())
    x.problem = too_open(base + ".key");
  ERR_clear_error();
  return x;
}

} // namespace

key_files key_files_of(const std::string& folder, const std::string& node) {
  return {folder + "/ca.pem", folder + '/' + node + ".pem", folder + '/' + node + ".key"};
}

std::string make_keys(const std::string& folder, const std::string& cluster, const std::vector<std::string>& nodes,
                      const key_options& options, std::vector<std::string>& made) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return folder + ": " + std::strerror(errno);
  std::string problem;
  certificate_ptr ca;
  key_ptr ca_key;
  if (exists(folder + "/ca.pem")) {
    ca = read_certificate(folder + "/ca.pem", problem);
    if (problem.empty())
      ca_key = read_key(folder + "/ca.key", problem);
    if (problem.empty() && X509_check_private_key(ca.get(), ca_key.get()) != 1)
      problem = openssl_problem(folder + "/ca.key is not the key of ca.pem");
  } else {
    ca_key.reset(EVP_EC_gen("P-256"));
    ca = ca_key ? sign("varve cluster " + cluster, cluster, ca_key.get(), nullptr, ca_key.get(), options.ca_valid)
                : certificate_ptr{};
    problem = ca ? write_pair(folder + "/ca", ca.get(), ca_key.get()) : openssl_problem("making the CA");
    if (problem.empty())
      made.push_back("ca");
  }
  if (!problem.empty())
    return problem;
  for (const auto& node : nodes) {
    const auto base = folder + '/' + node;
    if (exists(base + ".pem") && !options.renew)
      continue;
    key_ptr key{EVP_EC_gen("P-256")};
    auto certificate =
      key ? sign(node, cluster, key.get(), ca.get(), ca_key.get(), options.node_valid) : certificate_ptr{};
    problem = certificate ? write_pair(base, certificate.get(), key.get()) : openssl_problem("making " + node);
    if (!problem.empty())
      return problem;
    made.push_back(node);
  }
  return {};
}

std::vector<certificate_info> check_keys(const std::string& folder, const std::vector<std::string>& nodes,
                                         int64_t now) {
  std::string problem;
  auto ca = read_certificate(folder + "/ca.pem", problem);
  std::vector<certificate_info> result{check(folder, "ca", ca.get(), false, now)};
  for (const auto& node : nodes)
    result.push_back(check(folder, node, ca.get(), true, now));
  return result;
}

} // namespace varve
