#include "runtime/remote/session_keys.hpp"

#include <cstdlib>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace varve::remote {

mac prove(std::span<const std::byte, 32> secret, prover who, std::span<const std::byte> hello_frame,
          std::span<const std::byte> challenge_frame, std::span<const std::byte> binding) {
  // Each part goes in with its length, so that no two transcripts are the same bytes.
  static constexpr char label[] = "varve remote I/O 1";
  std::vector<std::byte> said;
  auto add = [&said](std::span<const std::byte> x) {
    std::byte size[8];
    store(size, static_cast<uint64_t>(x.size()));
    said.insert(said.end(), size, size + sizeof(size));
    said.insert(said.end(), x.begin(), x.end());
  };
  add(std::as_bytes(std::span{label}));
  const auto by = static_cast<std::byte>(who);
  add({&by, 1});
  add(hello_frame);
  add(challenge_frame);
  add(binding);
  mac result{};
  unsigned size = 0;
  if (!HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
            reinterpret_cast<const unsigned char*>(said.data()), said.size(),
            reinterpret_cast<unsigned char*>(result.data()), &size) ||
      size != result.size())
    std::abort();
  return result;
}

bool same(const mac& a, const mac& b) noexcept {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void fill_random(std::span<std::byte> x) {
  if (RAND_bytes(reinterpret_cast<unsigned char*>(x.data()), static_cast<int>(x.size())) != 1)
    std::abort();
}

} // namespace varve::remote
