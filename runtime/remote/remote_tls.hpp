#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace varve {

/// Each is the path of a PEM file, or PEM itself (then it begins with "-----BEGIN").
struct tls_credentials {
  /// Of this end, with what it needs to be trusted. A server must have both; a client may.
  std::string certificate;
  std::string key;
  /// Whom to trust. A client must have it. A server that has it asks clients for certificates, and refuses those
  /// without.
  std::string authorities;
};

/// One end's TLS configuration: TLS 1.3 only, no tickets, no renegotiation. Immutable; any thread.
class tls_context {
public:
  /// Null, and `problem` says which of the credentials is wrong and how.
  static std::shared_ptr<const tls_context> make_server(const tls_credentials& x, std::string& problem);
  static std::shared_ptr<const tls_context> make_client(const tls_credentials& x, std::string& problem);
  ~tls_context();

private:
  friend class tls_session;
  struct parts;
  explicit tls_context(std::unique_ptr<parts> x);
  std::unique_ptr<parts> parts_;
};

/// TLS over memory: bytes from the socket are put in, bytes for it taken out; it never waits. Reactor's thread only.
class tls_session {
public:
  enum class state : uint8_t { working, open, failed };

  static std::unique_ptr<tls_session> server(std::shared_ptr<const tls_context> context);
  /// The server's certificate must be of `name`, a host's name or numeric address; empty: of anybody whom the
  /// authorities trust.
  static std::unique_ptr<tls_session> client(std::shared_ptr<const tls_context> context, const std::string& name);
  ~tls_session();

  /// Goes on with the handshake, as far as what was put in allows.
  state shake_hands();
  /// From the socket.
  void put(std::span<const std::byte> cipher);
  /// Bytes, or 0 when more must be put in, or -1 when the other end has closed, or -2 when what came is not right.
  int read(std::span<std::byte> into);
  /// Encrypts all of it; false when it cannot.
  bool write(std::span<const std::byte> from);
  /// Moves what is for the socket behind what `to` holds.
  void take(std::vector<std::byte>& to);
  /// 32 bytes that only the two ends of this channel know. Of an open session.
  std::vector<std::byte> binding() const;
  /// Of a failed session.
  const std::string& problem() const noexcept { return problem_; }

private:
  struct parts;
  explicit tls_session(std::unique_ptr<parts> x);
  void fail();

  std::unique_ptr<parts> parts_;
  std::string problem_;
};

} // namespace varve
