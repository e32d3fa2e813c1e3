#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/reactor/async.hpp"
#include "runtime/remote/remote_protocol.hpp"
#include "runtime/remote/remote_stream.hpp"
#include "runtime/remote/session_keys.hpp"

namespace varve {

struct remote_client_options {
  /// A connection on its way to the server: a descriptor, or -errno.
  std::function<int()> connect;
  /// The key to use now; false: there is none yet. `initiator`, `rights` and `expires` are the server's business.
  std::function<bool(session_key&)> key;
  /// Of the initiator: higher at each start of its process.
  uint64_t incarnation = 1;

  /// Null: plain, for networks that are trusted.
  std::shared_ptr<const tls_context> tls;
  /// What the server's certificate must be of: a host's name or numeric address. Empty: any that is trusted.
  std::string server_name;

  /// Until the server has welcomed a connection, draining of an older session included.
  std::chrono::nanoseconds connect_time{std::chrono::seconds{15}};
  /// Between tries, doubling.
  std::chrono::nanoseconds retry_min{std::chrono::milliseconds{20}}, retry_max{std::chrono::seconds{2}};
  /// A request ends with errc::timed_out when it has no answer so long after it was submitted, over however many
  /// connections. Whether a change that timed out was made is not known, and it may yet be; but not once anything that
  /// was submitted later is: the connection is cut, and the next session begins when the server has drained this one.
  std::chrono::nanoseconds request_time{std::chrono::seconds{30}};
  /// How often a payload is sent again that did not arrive as it was sent, in either direction.
  unsigned attempts = 3;

  size_t receive_bytes = 256u << 10;
  /// Tries the socket before the ring. Off where descriptors are not real.
  bool direct = true;

  /// The write verifier of a tier is another than it was: what was acknowledged before and not flushed may be gone.
  /// Before any request of the new session is sent. May be empty.
  std::function<void(const std::string& tier, uint64_t before, uint64_t now)> on_boot;
  /// A session has opened (empty) or ended, or could not be opened (why). May be empty.
  std::function<void(const std::string& why)> on_session;
  std::function<void(std::span<std::byte>)> random = remote::fill_random;
};

/// One request to a remote shard. It belongs to whoever submits it, and neither moves nor dies, nor do the bytes that
/// it refers to, until `complete`.
struct remote_request {
  /// `tag`, `sequence`, `tier` and `payload` are the client's to fill in. Ranges as remote::request says.
  remote::request header;
  /// What remote_client::tier gave.
  uint16_t tier = 0;
  /// write, write_with_sums: `length` bytes.
  std::span<const std::byte> from;
  /// read, read_with_sums: `length` bytes; indeterminate unless it ends well.
  std::span<std::byte> into;
  /// write_with_sums: what is written. read_with_sums, sums: what came is appended.
  block_sums* sums = nullptr;

  errc status = errc::none;
  remote::reply reply;
  /// Of summaries and extents: the payload.
  std::vector<std::byte> answer;
  /// Called once, on the client's reactor, perhaps from within `submit`.
  void (*complete)(remote_request& self) = nullptr;

  /// The submitter's own.
  void* owner = nullptr;

  // The client's own.
  remote_request* next = nullptr;
  boot_time since{0};
  unsigned attempts = 0;
  bool in_batch = false; // the socket may still read what it refers to
  bool replied = false;
  /// Over a session that ended without an answer.
  bool sent_before = false;
  std::byte few_sums[16];
  std::vector<std::byte> many_sums;
};

struct remote_client_counters {
  uint64_t sessions = 0;
  uint64_t requests = 0;
  /// Over a later session, because the one that they were sent over had ended.
  uint64_t sent_again = 0;
  uint64_t broken_payloads = 0;
  uint64_t timed_out = 0;
  uint64_t protocol_errors = 0;
  /// System calls or ring operations that sent requests.
  uint64_t batches = 0;
};

/// One connection from this reactor to one server's reactor, made again whenever it ends. Requests are numbered, sent
/// together where several come in one round, and answered in any order; what was sent and not answered when a session
/// ends is sent again in the next, which begins when nothing of the last can be carried out any more. So a `create` may
/// end with errc::already_exists because of itself. Reactor's thread
/// only.
///
///     submit -> waiting_ -> (credits) -> slots_, batch -> socket ... socket -> in_ -> slot -> complete
///                  ^------------------- session ended ------------------'
class remote_client {
public:
  remote_client(reactor& on, remote_client_options options);
  remote_client(const remote_client&) = delete;
  /// Not while it is open: `close` has ended, or `start` was never called.
  ~remote_client();

  void start();
  /// What has no answer ends with errc::cancelled; returns when nothing is under way.
  task<void> close();

  void submit(remote_request& x);
  /// As submit, for coroutines; the status.
  class [[nodiscard]] done;
  done perform(remote_request& x);

  /// The number of a tier of the server's, by name, over all its restarts. A request to one that the server does not
  /// have ends with errc::not_found.
  uint16_t tier(const std::string& name);

  /// Something has changed, a new key say: the next try to connect is now.
  void hurry();

  bool connected() const noexcept { return open_; }
  const remote_client_counters& counters() const noexcept { return counters_; }
  size_t in_flight() const noexcept { return in_flight_; }

private:
  static constexpr size_t batch_max = 128; // requests per sendmsg

  struct list {
    remote_request* first = nullptr;
    remote_request* last = nullptr;
    bool empty() const noexcept { return first == nullptr; }
    void push(remote_request& x) noexcept {
      x.next = nullptr;
      (first ? last->next : first) = &x;
      last = &x;
    }
    void push_front(remote_request& x) noexcept {
      x.next = first;
      first = &x;
      if (!last || !x.next)
        last = &x;
    }
    remote_request* pop() noexcept {
      auto* x = first;
      if (x && !(first = x->next))
        last = nullptr;
      return x;
    }
  };
  struct operation {
    ring_operation x; // first: its address is the operation's
    remote_client* self = nullptr;
    bool in_flight = false;
  };
  struct slot {
    remote_request* request = nullptr;
    uint32_t next_free = 0;
  };

  task<void> run();
  task<std::string> session();
  task<void> pause(std::chrono::nanoseconds time);
  void cut(const std::string& why);

  // -- remote_client_handshake.cpp
  task<std::string> shake_hands();
  task<bool> read_frame(std::vector<std::byte>& whole);
  task<bool> say(std::vector<std::byte> frame);

  // -- sending
  void flush_soon();
  void flush(bool at_once);
  bool build_batch();
  task<void> send_rest();
  void end_batch();
  std::span<std::byte> prefix_of(remote_request& x, size_t bytes);

  // -- receiving
  task<std::string> take_replies();
  std::string parse();
  std::string begin_reply(const remote::reply& x);
  bool fill();
  void arrived(remote_request& x);
  uint32_t prepare_receive();
  void took(size_t bytes);

  void release_slot(remote_request& x);
  void finish(remote_request& x, errc status);
  void take_back();
  void expire();
  void watch();
  void tick();
  void settle();

  reactor& reactor_;
  const remote_client_options options_;
  remote_client_counters counters_;
  std::vector<std::string> tier_names_;
  std::vector<uint16_t> tier_positions_; // by number, in this session
  std::vector<uint64_t> tier_boots_;     // 0: not seen yet

  std::unique_ptr<remote_stream> stream_;
  bool open_ = false;
  bool closing_ = false;
  bool running_ = false;
  bool hurried_ = false;
  std::string why_; // the session was cut
  uint64_t session_ = 0;
  boot_time shake_until_{-1};
  uint64_t sequence_ = 0;
  uint64_t bytes_max_ = 0;

  list waiting_;
  list nowhere_; // of a tier that the server does not have
  std::vector<slot> slots_;
  uint32_t free_slot_ = 0; // slots_.size(): none
  size_t in_flight_ = 0;
  uint64_t bytes_ = 0;

  list batch_;
  std::vector<iovec> vectors_;
  std::unique_ptr<std::byte[]> headers_;
  bool sending_ = false;
  bool flush_posted_ = false;

  buffer in_; // [head_, tail_) is received and not parsed
  size_t head_ = 0;
  size_t tail_ = 0;
  remote_request* filling_ = nullptr;
  std::span<std::byte> filling_prefix_;
  std::span<std::byte> filling_into_;
  size_t filled_ = 0;
  iovec receive_vectors_[3] = {};

  operation timer_;
  async_event wake_; // of a pause
  async_event idle_;
  async_event over_;
};

class remote_client::done {
public:
  done(remote_client& on, remote_request& x) : client_(on), x_(x) {}
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> waiting) {
    waiting_ = waiting;
    x_.next = nullptr;
    x_.complete = [](remote_request& x) {
      auto& self = *static_cast<done*>(x.owner);
      self.over_ = true;
      if (self.suspended_)
        self.waiting_.resume();
    };
    x_.owner = this;
    client_.submit(x_);
    if (over_)
      return false;
    return suspended_ = true;
  }
  errc await_resume() const noexcept { return x_.status; }

private:
  remote_client& client_;
  remote_request& x_;
  std::coroutine_handle<> waiting_;
  bool over_ = false;
  bool suspended_ = false;
};

inline remote_client::done remote_client::perform(remote_request& x) {
  return {*this, x};
}

} // namespace varve
