#pragma once

#include <coroutine>
#include <memory>
#include <span>
#include <vector>

#include "runtime/reactor/reactor.hpp"
#include "runtime/remote/remote_tls.hpp"

namespace varve {

/// One connection's bytes, plain or within TLS. One receive and one send at a time, which may overlap. Reactor's thread
/// only; the awaited task must have ended before it dies.
class remote_stream {
public:
  /// Owns `fd`. `direct`: tries the socket at once before it asks the ring; off where descriptors are not real.
  remote_stream(reactor& on, int fd, bool direct, std::unique_ptr<tls_session> tls);
  remote_stream(const remote_stream&) = delete;
  /// Not before `close` has ended.
  ~remote_stream();

  /// The handshake of TLS; nothing in plain. false: it failed, `problem` says how.
  task<bool> secure();
  /// What both ends know of the channel: empty in plain.
  const std::vector<std::byte>& binding() const noexcept { return binding_; }
  const std::string& problem() const noexcept { return problem_; }

  /// At least one byte, scattered in order: > 0; 0 at the end of the stream; -errno.
  task<int32_t> receive(const iovec* vectors, uint32_t count);
  /// What is there already: also -EAGAIN.
  int32_t receive_now(const iovec* vectors, uint32_t count);

  /// Sends all of `vectors`, which are changed on the way and live, as their bytes do, until it is over. True: it is
  /// over. Else `finish_send` says when and how.
  bool begin_send(std::span<iovec> vectors, bool at_once);
  /// 0 or -errno.
  task<int32_t> finish_send();

  /// What is under way ends soon, and nothing begins any more.
  void cut();
  bool is_cut() const noexcept { return cut_; }
  /// After `cut`, when no receive and no send is under way.
  task<void> close();

private:
  struct operation {
    ring_operation x; // first: its address is the operation's
    std::coroutine_handle<> waiting;
    bool in_flight = false;
  };
  class transfer;

  bool prepare();
  bool encrypt_gathered();
  void advance(size_t bytes);
  int32_t read_open(const iovec* vectors, uint32_t count);

  reactor& reactor_;
  int fd_;
  bool direct_;
  bool cut_ = false;
  operation receive_, send_;
  std::span<iovec> sending_; // what is left of it
  int32_t send_error_ = 0;

  std::unique_ptr<tls_session> tls_;
  std::vector<std::byte> binding_;
  std::string problem_;
  std::unique_ptr<std::byte[]> cipher_in_;
  std::vector<std::byte> gathered_;   // small pieces, to be encrypted together
  std::vector<std::byte> cipher_out_; // [cipher_at_, end) is not sent
  size_t cipher_at_ = 0;
  iovec cipher_vector_{};
};

} // namespace varve
