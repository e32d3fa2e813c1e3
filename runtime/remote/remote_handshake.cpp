// The server's side of a session's beginning.

#include <algorithm>

#include "runtime/remote/remote_connection.hpp"

namespace varve {

task<bool> remote_connection::read_frame(std::vector<std::byte>& whole) {
  whole.resize(remote::frame_header_bytes);
  size_t at = 0;
  while (at < whole.size()) {
    iovec room{whole.data() + at, whole.size() - at};
    const auto got = co_await stream_.receive(&room, 1);
    if (got <= 0)
      co_return false;
    at += static_cast<size_t>(got);
    if (at == whole.size() && at == remote::frame_header_bytes) {
      const auto rest = remote::frame_rest_bytes(whole);
      if (!rest) {
        why_ = "not Varve's protocol";
        co_return false;
      }
      whole.resize(at + *rest);
    }
  }
  co_return true;
}

task<bool> remote_connection::say(std::vector<std::byte> frame) {
  iovec bytes{frame.data(), frame.size()};
  stream_.begin_send({&bytes, 1}, true);
  const auto sent = co_await stream_.finish_send();
  co_return sent == 0;
}

task<std::string> remote_connection::refuse(remote::refusal x, const std::string& why) {
  auto& counters = server_.counters_;
  switch (x.reason) {
  case remote::refusal_reason::version: ++counters.refused_version; break;
  case remote::refusal_reason::key: ++counters.refused_key; break;
  case remote::refusal_reason::old_session: ++counters.refused_old_session; break;
  case remote::refusal_reason::draining: ++counters.refused_draining; break;
  default: ++counters.protocol_errors; break;
  }
  auto copy = why; // a parameter by reference must not be looked at after a wait
  co_await say(encode(x));
  co_return copy;
}

/// Empty when a session is open, else why not.
task<std::string> remote_connection::shake_hands() {
  const auto secure = co_await stream_.secure();
  if (!secure) {
    if (!ended_)
      ++server_.counters_.protocol_errors;
    co_return "TLS: " + stream_.problem();
  }
  std::vector<std::byte> said;
  auto got = co_await read_frame(said);
  remote::hello hello;
  if (!got) {
    if (!why_.empty())
      ++server_.counters_.protocol_errors;
    co_return why_.empty() ? "hung up in the handshake" : why_;
  }
  remote::refusal no;
  if (remote::kind_of(said) != remote::frame::hello || !decode(said, hello)) {
    no.reason = remote::refusal_reason::malformed;
    co_return co_await refuse(no, "a malformed hello");
  }
  no.client_min = hello.version_min;
  no.client_max = hello.version_max;
  if (hello.version_max < remote::version_min || hello.version_min > remote::version_max) {
    no.reason = remote::refusal_reason::version;
    co_return co_await refuse(no, "speaks versions " + std::to_string(hello.version_min) + " to " +
                                    std::to_string(hello.version_max) + ", this server " +
                                    std::to_string(remote::version_min) + " to " + std::to_string(remote::version_max));
  }
  remote::challenge challenge;
  challenge.version = std::min(hello.version_max, remote::version_max);
  challenge.features = hello.features & remote::features_known;
  server_.options_.random(challenge.nonce);
  const auto asked = encode(challenge);
  auto sent = co_await say(asked);
  std::vector<std::byte> answer;
  got = sent && co_await read_frame(answer);
  if (!got)
    co_return why_.empty() ? "hung up in the handshake" : why_;
  remote::proof proof;
  if (remote::kind_of(answer) != remote::frame::proof || !decode(answer, proof)) {
    no.reason = remote::refusal_reason::malformed;
    co_return co_await refuse(no, "a malformed proof");
  }
  const auto* key = server_.keys_.find(hello.key);
  // An unknown key takes the same path and the same time as one that is not proven.
  const session_key nobody{};
  const auto& tried = key ? *key : nobody;
  const auto expected = remote::prove(tried.secret, remote::prover::client, said, asked, stream_.binding());
  const auto proven = remote::same(expected, proof.mac);
  if (!key || !proven || key->initiator == 0 || reactor_.now() >= key->expires) {
    no.reason = remote::refusal_reason::key;
    co_return co_await refuse(no, !key ? "an unknown key" : !proven ? "a proof of another key" : "an expired key");
  }
  const auto claimed_by = key->initiator;
  const auto secret = key->secret; // the table may change while this waits
  const auto rights = key->rights;
  const auto expires = key->expires;
  no = co_await server_.claim_session(*this, claimed_by, hello.incarnation, hello.session);
  if (no.reason != remote::refusal_reason::none) {
    no.client_min = hello.version_min;
    no.client_max = hello.version_max;
    co_return co_await refuse(no, no.reason == remote::refusal_reason::draining
                                    ? "an older session takes long to drain"
                                    : "a session that is not newer than the last");
  }
  initiator_ = claimed_by;
  key_ = hello.key;
  rights_ = rights;
  key_expires_ = expires;
  if (ended_)
    co_return std::string{};
  remote::welcome welcome;
  welcome.mac = remote::prove(secret, remote::prover::server, said, asked, stream_.binding());
  welcome.requests_max = server_.options_.requests_max;
  welcome.bytes_max = server_.options_.bytes_max;
  welcome.tiers = server_.tiers_;
  sent = co_await say(encode(welcome));
  co_return sent ? "" : "hung up in the handshake";
}

} // namespace varve
