#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "rdma/buffer.hpp"
#include "rdma/verbs_region.hpp"

struct ibv_comp_channel;
struct ibv_cq;
struct ibv_wc;
struct rdma_cm_id;

namespace varve {

class verbs_port;
class verbs_request;

struct verbs_options {
  /// Of one message. Both ends say the same, or messages that are too long for the other end them.
  uint32_t message_bytes_max = 4096;
  /// Messages that may be on their way in each direction, at least 1. The other end's count, too: what it cannot take
  /// in time ends the connection, so users agree on credits.
  uint32_t messages_max = 64;
  /// Writes that are with the device at a time, at least 1; others wait here.
  uint32_t writes_max = 64;
  /// Messages up to here are given to the device as they are, without being read by it, if it can take as many.
  uint32_t inline_bytes_max = 256;
  /// Until the other end is found, each of its address and the way there.
  std::chrono::milliseconds resolve_time{2000};
};

/// One RDMA WRITE: bytes of this end's memory into that of the peer, which takes no part in it. It belongs to whoever
/// starts it, and neither moves nor dies, nor do its bytes, until `complete`.
struct verbs_write {
  /// Within `of`.
  std::span<const std::byte> from;
  const verbs_region* of = nullptr;
  remote_memory to;
  /// Where in `to`, in bytes.
  uint64_t to_offset = 0;

  /// Called once, from within `verbs_port::step` or the link's end; and from within `verbs_link::write` when it is not
  /// begun at all. Neither destroys the link nor throws. Without a status the bytes are in the peer's memory, before
  /// any message that was sent after this was begun. With one, any part of them may be. invalid_argument: it was not
  /// begun, since it does not fit; permission_denied: the peer does not allow it (any more); host_unreachable: no
  /// answer; operation_canceled: the link ended before its turn.
  void (*complete)(verbs_write& self) = nullptr;
  std::error_code status;
  /// The user's.
  void* owner = nullptr;
};

struct verbs_counters {
  uint64_t messages_sent = 0, messages_received = 0;
  uint64_t writes = 0;
  uint64_t written_bytes = 0;
  /// Calls that handed work to the device, and completions that it was asked for.
  uint64_t doorbells = 0, signals = 0;
};

/// A reliable connection between two processes by RDMA: messages in order, and writes into what the peer has registered
/// for it. It has a protection domain of its own, so that a peer reaches what was registered on this link and nothing
/// else. Made by a verbs_port, and used on its thread only; dies before it.
///
/// Writes and messages take effect in the order they were begun in. A peer that is silent is taken for well while
/// nothing is under way, and one that is asked to connect may take minutes: users agree on signs of life, and end what
/// is late.
class verbs_link {
public:
  /// Called from within `verbs_port::step` (and `ended` from `end`). None of them may destroy the link but `ended`, and
  /// none throws.
  class user {
  public:
    virtual void connected(verbs_link& on) = 0;
    /// `message` is the link's; gone when this returns.
    virtual void received(verbs_link& on, std::span<const std::byte> message) = 0;
    /// The last; all writes are complete, and the device uses none of their memory any more.
    virtual void ended(verbs_link& on, const std::string& why) = 0;

  protected:
    ~user() = default;
  };

  verbs_link(const verbs_link&) = delete;
  /// Ends it first, without a word to its user; writes complete with operation_canceled.
  ~verbs_link();

  /// From `connected` to `ended`.
  bool connected() const noexcept { return state_ == state::connected && !ending_; }

  /// Registers memory on this link's device, for this link's peer; from `connected` on. Empty when the system refuses
  /// (limit on locked memory, pages of a file).
  verbs_region register_memory(std::span<std::byte> memory, verbs_access access, std::error_code& refused);

  /// Sends a copy of `message`, 1 to message_bytes_max bytes. False when messages_max are under way already, or not
  /// connected. It is with the device after the next `flush`.
  bool send(std::span<const std::byte> message);
  /// As verbs_write says. It is with the device after the next `flush`, if fewer than writes_max are.
  void write(verbs_write& x);
  /// Hands what was begun to the device, at once. Each step of the port ends with one, too. Where the device refuses
  /// it, the next step ends the link.
  void flush();

  /// Ends the link; the peer is told. Nothing when it has ended.
  void end(const std::string& why);

  const verbs_counters& counters() const noexcept { return counters_; }
  /// What the device is called, "rxe0" say; empty before it is known.
  std::string device() const;

private:
  friend class verbs_port;
  friend class verbs_request;

  enum class state : uint8_t { connecting, connected, ended };

  /// What the device has, in the order it has it.
  struct posted {
    verbs_write* write = nullptr; // null: a message
    bool last = false;            // the write's last part
  };

  verbs_link(verbs_port& of, rdma_cm_id* id, user& told, verbs_options options);

  /// Makes what needs the device to be known; false: `problem`.
  bool prepare(std::string& problem);
  bool make_queue_pair(std::string& problem);
  /// The slots of messages that may come in again.
  bool post_receives(std::span<const uint32_t> slots);
  void established();
  /// So said by the connection manager.
  void made();
  /// Looks what the device has done. False: there may be more.
  bool look();
  void took(const ibv_wc& x);
  void failed(const ibv_wc& x);
  void done(const ibv_wc& x);
  void done_until(uint64_t number, std::error_code status);
  std::string take_what_is_done();
  bool post(std::string& problem);
  /// Gives back all that is the system's; the device uses no memory any more.
  void release();
  void cancel_writes();
  /// At the next step: who asks for it may not expect it now.
  void end_soon(const std::string& why);
  void end_now(const std::string& why);
  std::span<std::byte> slot(uint32_t x) noexcept;

  verbs_port& port_;
  rdma_cm_id* id_;
  user& user_;
  const verbs_options options_;
  verbs_counters counters_;
  state state_ = state::connecting;
  bool looking_ = false;  // then it ends when that is over
  bool ending_ = false;   // so
  bool user_told_ = true; // false: nobody is to be told of the end
  std::string why_;       // it ends
  bool flushed_ = false;  // work came back undone, and why is not known

  std::shared_ptr<ibv_pd> domain_;
  ibv_comp_channel* channel_ = nullptr;
  ibv_cq* completions_ = nullptr;
  bool has_queue_pair_ = false;
  bool tell_peer_ = false;
  uint32_t inline_bytes_ = 0;
  uint64_t part_bytes_max_ = 0; // of one work request

  // Slots of messages: those that come, then those that go.
  buffer slots_;
  verbs_region slots_region_;
  uint32_t next_slot_ = 0;         // of those that go
  uint32_t sending_ = 0;           // messages begun and not done
  std::vector<uint32_t> received_; // slots to be posted again

  struct begun {
    verbs_write* write = nullptr;
    uint32_t slot = 0, bytes = 0; // of a message
  };
  std::deque<begun> begun_;   // not with the device
  uint64_t begun_offset_ = 0; // of the first, a write: what is with the device already
  std::deque<posted> posted_; // with the device
  uint64_t first_posted_ = 1; // the number of the first of those
  uint32_t writing_ = 0;      // work requests of writes with the device
};

} // namespace varve
