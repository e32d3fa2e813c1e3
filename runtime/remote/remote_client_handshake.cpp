// The client's side of a session's beginning.

#include <algorithm>

#include "runtime/remote/remote_client.hpp"

namespace varve {

namespace {

constexpr uint32_t slots_max = 4096;

std::string said_of(const remote::refusal& x) {
  auto result = std::string{"refused: "} + remote::to_string(x.reason);
  if (x.reason == remote::refusal_reason::version)
    result += " (this end speaks " + std::to_string(remote::version_min) + " to " +
              std::to_string(remote::version_max) + ", the server " + std::to_string(x.server_min) + " to " +
              std::to_string(x.server_max) + ")";
  return result;
}

} // namespace

task<bool> remote_client::read_frame(std::vector<std::byte>& whole) {
  whole.resize(remote::frame_header_bytes);
  size_t at = 0;
  while (at < whole.size()) {
    iovec room{whole.data() + at, whole.size() - at};
    const auto got = co_await stream_->receive(&room, 1);
    if (got <= 0)
      co_return false;
    at += static_cast<size_t>(got);
    if (at == whole.size() && at == remote::frame_header_bytes) {
      const auto rest = remote::frame_rest_bytes(whole);
      if (!rest)
        co_return false;
      whole.resize(at + *rest);
    }
  }
  co_return true;
}

task<bool> remote_client::say(std::vector<std::byte> frame) {
  iovec bytes{frame.data(), frame.size()};
  stream_->begin_send({&bytes, 1}, false);
  const auto sent = co_await stream_->finish_send();
  co_return sent == 0;
}

/// Empty when the server has welcomed us, else why not.
task<std::string> remote_client::shake_hands() {
  session_key key;
  if (!options_.key || !options_.key(key))
    co_return std::string{"no key yet"};
  const auto secure = co_await stream_->secure();
  if (!secure)
    co_return "TLS: " + stream_->problem();
  remote::hello hello;
  hello.key = key.id;
  hello.incarnation = options_.incarnation;
  // Each try is a session of its own: the server may have taken the last one for begun.
  hello.session = ++session_;
  options_.random(hello.nonce);
  const auto said = encode(hello);
  auto sent = co_await say(said);
  std::vector<std::byte> asked;
  auto got = sent && co_await read_frame(asked);
  if (!got)
    co_return std::string{"hung up in the handshake"};
  auto refused = [this](const std::vector<std::byte>& frame) {
    remote::refusal no;
    if (remote::kind_of(frame) != remote::frame::refusal || !decode(frame, no))
      return std::string{"a malformed handshake"};
    // Of this very incarnation: a number that was lost on the way, say.
    if (no.reason == remote::refusal_reason::old_session && no.incarnation == options_.incarnation)
      session_ = std::max(session_, no.session);
    return said_of(no);
  };
  remote::challenge challenge;
  if (remote::kind_of(asked) != remote::frame::challenge || !decode(asked, challenge) ||
      challenge.version < remote::version_min || challenge.version > remote::version_max)
    co_return refused(asked);
  remote::proof proof;
  proof.mac = remote::prove(key.secret, remote::prover::client, said, asked, stream_->binding());
  sent = co_await say(encode(proof));
  std::vector<std::byte> answer;
  got = sent && co_await read_frame(answer);
  if (!got)
    co_return std::string{"hung up in the handshake"};
  remote::welcome welcome;
  if (remote::kind_of(answer) != remote::frame::welcome || !decode(answer, welcome))
    co_return refused(answer);
  if (!remote::same(welcome.mac, remote::prove(key.secret, remote::prover::server, said, asked, stream_->binding())))
    co_return std::string{"the server does not have the key"};
  if (welcome.bytes_max < remote::payload_bytes_max)
    co_return std::string{"a malformed welcome"};
  sequence_ = 0;
  bytes_max_ = welcome.bytes_max;
  slots_.assign(std::min(welcome.requests_max, slots_max), slot{});
  for (uint32_t i = 0; i < slots_.size(); ++i)
    slots_[i].next_free = i + 1;
  free_slot_ = 0;
  for (size_t i = 0; i < tier_names_.size(); ++i) {
    auto at =
      std::find_if(welcome.tiers.begin(), welcome.tiers.end(), [&](auto& x) { return x.name == tier_names_[i]; });
    tier_positions_[i] =
      at == welcome.tiers.end() ? remote::tiers_max : static_cast<uint16_t>(at - welcome.tiers.begin());
    if (at == welcome.tiers.end())
      continue;
    const auto before = std::exchange(tier_boots_[i], at->boot);
    if (before != 0 && before != at->boot && options_.on_boot)
      options_.on_boot(tier_names_[i], before, at->boot);
  }
  co_return std::string{};
}

} // namespace varve
