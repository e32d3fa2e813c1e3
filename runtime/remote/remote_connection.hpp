#pragma once

#include <memory>

#include "runtime/remote/remote_protocol.hpp"
#include "runtime/remote/remote_server.hpp"
#include "runtime/remote/remote_stream.hpp"

namespace varve {

/// One request at the server, from its header's arrival until its reply has left. Recycled; its connection's.
struct incoming_request {
  remote::request header;
  remote::reply reply;
  incoming_request* next = nullptr;
  uint64_t cost = 0;
  /// What precedes the bytes, in the direction that the payload travels.
  std::vector<std::byte> prefix;
  /// The bytes: `length` of them, or none.
  buffer data;
  uint32_t data_bytes = 0;
  block_sums sums;
};

/// First in, first out, linked through the requests.
class incoming_list {
public:
  bool empty() const noexcept { return first_ == nullptr; }
  void push(incoming_request& x) noexcept {
    x.next = nullptr;
    (first_ ? last_->next : first_) = &x;
    last_ = &x;
  }
  incoming_request* pop() noexcept {
    auto* x = first_;
    if (x)
      first_ = x->next;
    return x;
  }

private:
  incoming_request* first_ = nullptr;
  incoming_request* last_ = nullptr;
};

/// One client's connection at a remote_server, from the accepted socket to the closed one.
///
///     socket -> in_ -> parse() -> execute() -> shard -> completed() -> replies_ -> flush() -> socket
///
/// Nothing is begun once it has ended; what was begun is waited for before its session counts as drained. A request's
/// buffers go back to their pool when neither a shard nor the socket can use them any more.
class remote_connection {
public:
  /// Owns `fd`.
  remote_connection(remote_server& of, int fd);
  remote_connection(const remote_connection&) = delete;
  ~remote_connection();

  void start();
  /// No more requests are begun. `why`: for the log; empty says nothing.
  void end(const std::string& why);
  /// Of its key; 0 before the proof.
  uint64_t key() const noexcept { return key_; }
  uint64_t initiator() const noexcept { return initiator_; }
  /// Ends it if its time has run out; whether it has to be looked after further.
  bool look_after(boot_time now);

private:
  friend class remote_server;

  static constexpr size_t batch_max = 128; // replies per sendmsg
  static constexpr unsigned rounds_max = 8;

  task<void> run();

  // -- remote_handshake.cpp
  task<std::string> shake_hands();
  task<bool> read_frame(std::vector<std::byte>& whole);
  task<bool> say(std::vector<std::byte> frame);
  task<std::string> refuse(remote::refusal x, const std::string& why);

  // -- receiving
  task<std::string> take_requests();
  /// Empty as long as what came is right.
  std::string parse();
  bool fill();
  bool may_go_on();
  uint32_t prepare_receive();
  void took(size_t bytes);

  // -- carrying out (remote_execution.cpp)
  void execute(incoming_request& x);
  bool at_once(incoming_request& x);
  task<void> serve(incoming_request& x);
  task<errc> on_shard(incoming_request& x);
  task<errc> enter(const incoming_request& x, active_shard*& shard, bool of_move);
  task<errc> data(incoming_request& x, active_shard& shard);
  task<errc> change(incoming_request& x, active_shard& shard);
  task<errc> control(incoming_request& x, const shard_key& key);
  void summarize(incoming_request& x, active_shard& shard);
  void completed(incoming_request& x, errc status);

  // -- sending
  void flush(bool at_once);
  bool build_batch();
  task<void> send_rest();
  void end_batch();

  incoming_request& take_request();
  void recycle(incoming_request& x);

  remote_server& server_;
  reactor& reactor_;
  std::string peer_;
  remote_stream stream_;
  bool shaking_ = true;
  bool ended_ = false;
  std::string why_;
  boot_time shake_until_{0};
  async_event* claims_ = nullptr; // while it waits for older sessions

  uint64_t key_ = 0;
  uint64_t initiator_ = 0;
  remote_rights rights_ = remote_rights::data;
  boot_time key_expires_{0};
  uint64_t sequence_ = 0; // the last

  buffer in_; // [head_, tail_) is received and not parsed
  size_t head_ = 0;
  size_t tail_ = 0;
  incoming_request* filling_ = nullptr; // whose payload is being received
  size_t filled_ = 0;
  bool expect_large_ = false;
  bool short_of_room_ = false; // what is next waits until others' bytes are given back
  uint64_t room_seen_ = 0;
  size_t parsed_ = 0;
  iovec receive_vectors_[3] = {};
  boot_time received_{0};
  boot_time sent_{0};

  incoming_list replies_;
  incoming_list batch_;
  bool batch_open_ = false;
  std::vector<iovec> vectors_;
  std::unique_ptr<std::byte[]> headers_;
  bool sending_ = false; // by the ring
  bool pumping_ = false; // replies gather until the round is over

  size_t requests_ = 0;  // taken and not recycled
  size_t at_shards_ = 0; // begun and not complete
  uint64_t bytes_ = 0;
  async_event idle_;
  std::vector<std::unique_ptr<incoming_request>> owned_;
  incoming_request* free_ = nullptr;
};

} // namespace varve
