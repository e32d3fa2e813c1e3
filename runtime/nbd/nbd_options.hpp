#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace varve {

/// The limits of an NBD server, and how it uses its sockets. What a client can make it hold is bounded by
/// connections_max * (bytes_in_flight_max + receive_bytes + requests_max small objects), plus one payload.
struct nbd_options {
  /// Those beyond are accepted and closed at once.
  size_t connections_max = 64;

  /// Of the negotiation: how many options, how long each one's data (longer data is skipped and refused), how much
  /// time.
  size_t options_max = 64;
  size_t option_bytes_max = 16u << 10;
  std::chrono::nanoseconds negotiation_time{std::chrono::seconds{10}};

  /// Of one read or write, as NBD_INFO_BLOCK_SIZE says.
  uint32_t payload_bytes_max = 32u << 20;
  /// Of one connection: requests that are not answered (or whose answer the client has not taken), and their bytes.
  /// Beyond, nothing more is received from it.
  size_t requests_max = 256;
  size_t bytes_in_flight_max = 64u << 20;
  /// Extents in one answer to NBD_CMD_BLOCK_STATUS.
  size_t extents_max = 2048;

  /// How long a close waits for clients to take their answers.
  std::chrono::nanoseconds drain_time{std::chrono::seconds{5}};

  /// Of one connection; at least 32 KiB above option_bytes_max.
  size_t receive_bytes = 256u << 10;
  /// SO_SNDBUF and SO_RCVBUF in bytes; 0 leaves the system's.
  size_t socket_buffer_bytes = 4u << 20;
  /// Tries a non-blocking recvmsg or sendmsg before an operation of the ring. Off where descriptors are not real.
  bool direct = true;

  int backlog = 64;
  /// What NBD_INFO_DESCRIPTION says.
  std::string description = "Varve volume";
};

} // namespace varve
