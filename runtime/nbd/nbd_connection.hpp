#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/nbd/block_backend.hpp"
#include "runtime/nbd/nbd_negotiation.hpp"
#include "runtime/nbd/nbd_options.hpp"
#include "runtime/nbd/nbd_protocol.hpp"
#include "runtime/nbd/nbd_request.hpp"

namespace varve {

/// What a server's connections have done since it was made; monotonic, but for `open`.
struct nbd_counters {
  uint64_t open = 0;
  uint64_t accepted = 0;
  /// Beyond connections_max.
  uint64_t refused = 0;
  uint64_t requests = 0;
  /// Answered with an error, whatever it was.
  uint64_t errors = 0;
  /// Hung up on: broken handshake or bad request magic, or too slow to negotiate.
  uint64_t protocol_errors = 0;
};

/// One client, from the greeting to the closed socket. Reactor's thread only.
///
///     socket -> in_ -> parse() -> backend -> complete() -> replies_ -> flush() -> socket
///
/// One round (`pump`) parses all that one receive brought, hands it to the backend, and sends whatever was complete
/// by then with one sendmsg. What completes later is sent through the ring. Nothing is received while the limits of
/// the options are reached, so a client that does not take its replies holds up only itself. A tier's memory (`view`)
/// is held no longer than one round: what the socket does not take at once is copied, because writers wait for views.
class nbd_connection {
public:
  /// Owns `fd` from now on. `on_end` is called once and last, when nothing refers to the connection any more; it may
  /// destroy it.
  nbd_connection(reactor& on, int fd, export_directory& exports, const nbd_options& options, nbd_counters& counters,
                 std::function<void(nbd_connection&)> on_end);
  nbd_connection(const nbd_connection&) = delete;
  ~nbd_connection();

  void start();

  /// Takes no more requests (what has arrived gets ESHUTDOWN), waits for those at the backend, sends the replies, ends.
  /// `force` does not send them: it waits for the backend only.
  void close(bool force);

private:
  /// One of ours in the ring; knows whose it is.
  struct operation {
    ring_operation x; // first, so that the address of the one is the address of the other
    nbd_connection* self = nullptr;
    bool cancelled = false;
  };

  /// Open; answering only with ESHUTDOWN; not taking any more bytes.
  enum class intake : uint8_t { open, refusing, ended };

  static constexpr size_t batch_max = 128; // replies per sendmsg
  static constexpr size_t header_max = 40; // of one reply, without its payload
  static constexpr size_t rounds_max = 8;  // before others have their turn
  // A write's payload goes to the backend in pieces of so much at most, while the rest is still arriving: the client
  // is not held up by the backend's copying, and a piece stays in the processor's cache until it is written.
  static constexpr size_t piece_bytes = 256u << 10;

  template <void (nbd_connection::*F)(int32_t)>
  void prepare(operation& x, ring_op op);
  /// Once and for all: what is cancelled is not used again.
  void cancel(operation& x);

  /// One round. `direct`: what is complete by then is sent at once; else through the ring, so that what completes in
  /// the meantime goes with the next send.
  void pump(bool direct);
  void finish();
  void timed_out(int32_t result);
  void closed(int32_t result);

  // -- receiving
  void parse();
  void negotiate();
  void request(const nbd::request_header& x);
  nbd::error check(const nbd::request_header& x) const;
  size_t cost_of(const nbd::request_header& x) const;
  bool room_for(size_t bytes) const;
  void write(nbd_request& x);
  bool next_piece();
  bool fill();
  void piece_over(nbd_request& whole, errc status);
  void submit(nbd_request& x);
  task<void> block_status(nbd_request& x);
  void completed(nbd_request& x);
  bool wants_bytes() const;
  void prepare_receive();
  bool receive_now();
  void receive_later();
  void received(int32_t result);
  void took(size_t bytes);
  void stop_intake();

  // -- sending
  void reply(nbd_request& x, nbd::error status);
  void flush(bool direct);
  bool build_batch();
  std::byte* build_header(std::byte* to, const nbd_request& x) const;
  void add_vector(const std::byte* data, size_t size);
  bool advance(size_t bytes);
  void let_go_of_views();
  void end_batch();
  void sent(int32_t result);
  void broken();

  nbd_request& take_request();
  void recycle(nbd_request& x);

  reactor& reactor_;
  int fd_;
  const nbd_options& options_;
  nbd_counters& counters_;
  std::function<void(nbd_connection&)> on_end_;

  std::optional<nbd_negotiation> negotiation_; // until transmission
  std::vector<std::byte> said_;                // its answers; sent before any reply
  block_backend* backend_ = nullptr;
  bool structured_ = false;
  bool allocation_ = false;

  intake intake_ = intake::open;
  bool broken_ = false;  // nothing can be sent any more
  bool pumping_ = false; // complete() is being called from within submit()
  bool pump_posted_ = false;
  bool stalled_ = false; // what is next in in_ waits for room
  bool closing_ = false; // the descriptor's close is under way

  buffer in_;              // [head_, tail_) is received and not parsed
  size_t stalled_for_ = 0; // so much room
  size_t head_ = 0;
  size_t tail_ = 0;
  nbd_request* filling_ = nullptr; // a write, or a piece of one, whose payload is being received where it belongs
  size_t filled_ = 0;
  nbd_request* whole_ = nullptr; // the large write whose pieces are being received
  uint64_t whole_left_ = 0;      // its bytes that are in no piece yet
  uint64_t skip_ = 0;            // bytes of a failed write's payload that are still to come
  bool expect_large_ = false;
  size_t parsed_ = 0; // requests of this round
  operation receive_;
  iovec receive_vectors_[2] = {};
  bool receiving_ = false;

  nbd_request_list replies_; // complete, not in a batch yet
  size_t replies_bytes_ = 0;
  nbd_request_list batch_; // being sent
  bool batch_open_ = false;
  std::vector<iovec> vectors_; // of the batch; [vector_, end) is not sent
  size_t vector_ = 0;
  std::unique_ptr<std::byte[]> headers_;
  operation send_;
  bool sending_ = false;

  operation timer_; // of the negotiation
  bool timing_ = false;
  operation close_;

  size_t requests_ = 0;   // taken and not recycled
  size_t at_backend_ = 0; // submitted and not complete
  size_t bytes_ = 0;      // of all those requests
  nbd_request_pool pool_;
};

} // namespace varve
