#pragma once

#include <functional>
#include <memory>
#include <string>

#include "runtime/reactor/ring.hpp"
#include "runtime/remote/remote_tls.hpp"
#include "runtime/remote/session_keys.hpp"

namespace varve {

/// The limits of a remote_server. What its clients can make it hold is bounded by total_bytes_max plus
/// connections_max * (receive_bytes + requests_max small objects), and one request.
struct remote_server_options {
  /// The write verifiers, of which another one says that what was acknowledged and not flushed may be gone: of file
  /// tiers the machine's boot (a process that ends takes nothing of theirs with it), of volatile ones the process's.
  uint64_t boot = 0;
  uint64_t volatile_boot = 0;

  /// Only volumes whose number modulo `parts` is `part` are on this reactor. Requests for others are refused with
  /// errc::unavailable: a client that thinks of another number of reactors must not open what another one has open.
  uint32_t part = 0, parts = 1;

  /// Those beyond are accepted and closed at once.
  size_t connections_max = 256;
  /// Of these, not authenticated yet.
  size_t handshakes_max = 32;
  /// From the connection to its first request: TLS, proofs, and the draining of the older session.
  std::chrono::nanoseconds handshake_time{std::chrono::seconds{10}};

  /// Credits of one connection: requests that are not answered (or whose answer the client has not taken), and the
  /// bytes of their payloads, at least remote::payload_bytes_max + 64 KiB. Who exceeds them is hung up on.
  uint32_t requests_max = 256;
  uint64_t bytes_max = 64u << 20;
  /// Of all connections together. Beyond, nothing more is received until something is answered.
  uint64_t total_bytes_max = 256u << 20;

  /// A client that for so long takes nothing of its replies, or sends nothing of a request that it has begun, is hung
  /// up on.
  std::chrono::nanoseconds stall_time{std::chrono::seconds{30}};
  /// How long a request waits at a closed gate before errc::unavailable.
  std::chrono::nanoseconds gate_time{std::chrono::seconds{30}};

  /// Null: plain, for networks that are trusted.
  std::shared_ptr<const tls_context> tls;

  /// Of one connection.
  size_t receive_bytes = 256u << 10;
  /// Tries the socket before the ring. Off where descriptors are not real.
  bool direct = true;

  /// One line for people; at most one a minute for the same peer and reason. May be empty.
  std::function<void(const std::string&)> log;
  std::function<void(std::span<std::byte>)> random = remote::fill_random;
};

/// Since the server was made; monotonic but for `_now`.
struct remote_server_counters {
  uint64_t accepted = 0;
  uint64_t refused_busy = 0;
  uint64_t refused_key = 0;
  uint64_t refused_version = 0;
  uint64_t refused_old_session = 0;
  uint64_t refused_draining = 0;
  uint64_t sessions = 0;
  /// Hung up on: garbage, broken sums, sequence, credits, too slow.
  uint64_t protocol_errors = 0;
  uint64_t requests = 0;
  /// Requests that storage refused.
  uint64_t refused_stale_epoch = 0, refused_moved = 0;
  /// Payloads that did not arrive as they were sent.
  uint64_t broken_payloads = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t connections_now = 0;
  uint64_t bytes_now = 0;
  uint64_t bytes_now_max = 0;
};

} // namespace varve
