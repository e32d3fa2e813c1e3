#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "messages/types.hpp"
#include "runtime/remote/remote_protocol.hpp"

namespace varve {

/// What a session may ask for beyond data.
enum class remote_rights : uint8_t {
  data = 0,
  /// Making, sealing, removing shards, raising fences: what another node's data plane asks for.
  control = 1,
};

/// What lets one initiator open sessions at a server. Made by the control side and handed to both ends over its own,
/// encrypted channel. The secret is never sent on a data connection.
struct session_key {
  uint64_t id = 0;
  std::array<std::byte, 32> secret{};
  /// Whose sessions these are: one reactor of one node. Sessions of one initiator follow one another.
  uint64_t initiator = 0;
  remote_rights rights = remote_rights::data;
  /// Opens nothing from then on, and what it opened ends.
  boot_time expires{0};
};

/// The keys that a server knows; filled by the control side. On the server's reactor only.
class session_keys {
public:
  virtual ~session_keys() = default;
  /// Null when there is none, or no longer. Valid until the next call.
  virtual const session_key* find(uint64_t id) = 0;
};

namespace remote {

/// Which end proves that it has the key: neither's proof is the other's.
enum class prover : uint8_t { client = 1, server = 2 };

/// HMAC-SHA256 under the secret of who proves, the two nonces, and all that was said and agreed. `binding` is what both
/// ends know of the channel around it (TLS's exported keying material), so that a proof is no use on another channel.
mac prove(std::span<const std::byte, 32> secret, prover who, std::span<const std::byte> hello_frame,
          std::span<const std::byte> challenge_frame, std::span<const std::byte> binding);

/// In constant time.
bool same(const mac& a, const mac& b) noexcept;

/// From the system; ends the process when that has none.
void fill_random(std::span<std::byte> x);

} // namespace remote

} // namespace varve
