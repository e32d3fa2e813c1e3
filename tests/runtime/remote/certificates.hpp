#pragma once

#include <memory>
#include <string>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

namespace varve::test {

/// A key and a certificate, as PEM.
struct certified {
  std::string key, certificate;
  std::shared_ptr<EVP_PKEY> pair;
  std::shared_ptr<X509> signed_by_issuer;
};

inline std::string pem_of(BIO* from) {
  char* bytes = nullptr;
  const auto size = BIO_get_mem_data(from, &bytes);
  std::string result{bytes, static_cast<size_t>(size)};
  BIO_free(from);
  return result;
}

/// An authority when there is no issuer. `names`: as in "IP:127.0.0.1,DNS:node1".
inline certified certify(const std::string& subject, const std::string& names = {}, const certified* issuer = nullptr) {
  certified x;
  x.pair.reset(EVP_EC_gen("P-256"), EVP_PKEY_free);
  x.signed_by_issuer.reset(X509_new(), X509_free);
  auto* made = x.signed_by_issuer.get();
  X509_set_version(made, 2);
  static long serial = 1;
  ASN1_INTEGER_set(X509_get_serialNumber(made), serial++);
  X509_gmtime_adj(X509_getm_notBefore(made), -3600);
  X509_gmtime_adj(X509_getm_notAfter(made), 86400);
  X509_set_pubkey(made, x.pair.get());
  auto* name = X509_get_subject_name(made);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(subject.c_str()), -1, -1,
                             0);
  X509_set_issuer_name(made, issuer ? X509_get_subject_name(issuer->signed_by_issuer.get()) : name);
  auto extend = [made](int what, const char* value) {
    auto* extension = X509V3_EXT_conf_nid(nullptr, nullptr, what, value);
    X509_add_ext(made, extension, -1);
    X509_EXTENSION_free(extension);
  };
  extend(NID_basic_constraints, issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
  if (!names.empty())
    extend(NID_subject_alt_name, names.c_str());
  X509_sign(made, issuer ? issuer->pair.get() : x.pair.get(), EVP_sha256());
  auto* to = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(to, made);
  x.certificate = pem_of(to);
  to = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(to, x.pair.get(), nullptr, nullptr, 0, nullptr, nullptr);
  x.key = pem_of(to);
  return x;
}

} // namespace varve::test
