#include "runtime/nbd/nbd_connection.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <new>

#include <sys/socket.h>

namespace varve {

namespace {

/// More than this in unsent replies, and reading on waits until the socket has taken them.
constexpr size_t send_ahead_bytes = 1u << 20;
/// What the answer to a block status request may take, in memory.
constexpr size_t block_status_cost = 64u << 10;
/// Handshake answers beyond this wait until the client has taken some.
constexpr size_t said_bytes_max = 64u << 10;

nbd::error to_nbd(errc x, bool refusing) {
  switch (x) {
  case errc::none: return nbd::error::none;
  case errc::tier_full: return nbd::error::no_space;
  case errc::invalid_argument: return nbd::error::invalid;
  case errc::unsupported: return nbd::error::not_supported;
  case errc::limit_reached: return nbd::error::no_memory;
  case errc::cancelled:
  case errc::unavailable: return refusing ? nbd::error::shutdown : nbd::error::io;
  default: return nbd::error::io;
  }
}

} // namespace

nbd_connection::nbd_connection(reactor& on, int fd, export_directory& exports, const nbd_options& options,
                               nbd_counters& counters, std::function<void(nbd_connection&)> on_end)
  : reactor_(on), fd_(fd), options_(options), counters_(counters), on_end_(std::move(on_end)),
    headers_(std::make_unique<std::byte[]>(batch_max * header_max)) {
  negotiation_.emplace(options, exports);
  vectors_.reserve(2 * batch_max);
  in_ = reactor_.buffers().take(options.receive_bytes);
}

nbd_connection::~nbd_connection() {
  assert(closing_ && requests_ == 0);
  reactor_.buffers().give(std::move(in_));
}

template <void (nbd_connection::*F)(int32_t)>
void nbd_connection::prepare(operation& x, ring_op op) {
  x.self = this;
  x.x.op = op;
  x.x.fd = fd_;
  x.x.complete = [](ring_operation& done) {
    auto* self = reinterpret_cast<operation&>(done).self;
    (self->*F)(done.result);
  };
}

void nbd_connection::cancel(operation& x) {
  if (!std::exchange(x.cancelled, true))
    reactor_.ring().cancel(x.x);
}

void nbd_connection::start() {
  if (options_.socket_buffer_bytes > 0) {
    // Beyond the system's limit where we may; where not, as much as there is.
    auto bytes = static_cast<int>(options_.socket_buffer_bytes);
    for (auto [forced, plain] : {std::pair{SO_SNDBUFFORCE, SO_SNDBUF}, std::pair{SO_RCVBUFFORCE, SO_RCVBUF}})
      if (::setsockopt(fd_, SOL_SOCKET, forced, &bytes, sizeof(bytes)) != 0)
        ::setsockopt(fd_, SOL_SOCKET, plain, &bytes, sizeof(bytes));
  }
  prepare<&nbd_connection::received>(receive_, ring_op::receive);
  prepare<&nbd_connection::sent>(send_, ring_op::send);
  prepare<&nbd_connection::timed_out>(timer_, ring_op::timeout);
  prepare<&nbd_connection::closed>(close_, ring_op::close);
  timer_.x.deadline = reactor_.now() + options_.negotiation_time;
  timing_ = true;
  reactor_.ring().submit(timer_.x);
  negotiation_->greet(said_);
  pump(true);
}

void nbd_connection::close(bool force) {
  if (intake_ == intake::open) {
    intake_ = negotiation_ ? intake::ended : intake::refusing;
    if (receiving_)
      cancel(receive_);
  }
  if (force)
    broken();
  pump(false);
}

void nbd_connection::pump(bool direct) {
  if (pumping_ || closing_)
    return;
  pumping_ = true;
  parsed_ = 0;
  for (unsigned round = 0;; ++round) {
    parse();
    flush(direct && options_.direct);
    if (stalled_ && said_.empty() && room_for(stalled_for_)) // the flush has made room
      continue;
    if (!wants_bytes())
      break;
    // Looking at once pays when something is likely to be there: the rest of a payload, or a client that keeps several
    // requests going. A client that waits for its answer would only cost us the call.
    auto likely = filling_ || parsed_ > 1;
    if (!direct || !options_.direct || !likely || round >= rounds_max || !receive_now()) {
      if (wants_bytes())
        receive_later();
      break;
    }
  }
  pumping_ = false;
  finish();
}

/// Ends the connection once nothing refers to it. Last in every function that gets here.
void nbd_connection::finish() {
  if (pumping_ || closing_)
    return;
  if (intake_ == intake::refusing && !receiving_ && !stalled_)
    stop_intake(); // all that had arrived has been answered; half a request is nobody's
  if (intake_ != intake::ended)
    return;
  if (receiving_ || sending_ || at_backend_ > 0 || batch_open_ || !replies_.empty() || pump_posted_)
    return;
  if (timing_) {
    // Its completion comes back here.
    cancel(timer_);
    return;
  }
  // A write that has not arrived as a whole is nobody's.
  if (filling_)
    recycle(*std::exchange(filling_, nullptr));
  if (whole_)
    recycle(*std::exchange(whole_, nullptr));
  closing_ = true;
  reactor_.ring().submit(close_.x);
}

void nbd_connection::closed(int32_t) {
  fd_ = -1;
  auto on_end = std::move(on_end_);
  on_end(*this);
}

void nbd_connection::timed_out(int32_t result) {
  timing_ = false;
  if (result == -ETIME && negotiation_ && intake_ == intake::open) {
    ++counters_.protocol_errors;
    stop_intake();
    broken();
  }
  finish();
}

void nbd_connection::stop_intake() {
  intake_ = intake::ended;
  head_ = tail_ = 0;
  stalled_ = false;
  if (receiving_)
    cancel(receive_);
}

// -- receiving

bool nbd_connection::wants_bytes() const {
  return intake_ == intake::open && !receiving_ && !stalled_ && !broken_;
}

void nbd_connection::prepare_receive() {
  // What is left is the beginning of one header or option: moving it is cheaper than wrapping around it.
  if (head_ > 0) {
    std::memmove(in_.data(), in_.data() + head_, tail_ - head_);
    tail_ -= head_;
    head_ = 0;
  }
  uint32_t count = 0;
  if (filling_)
    receive_vectors_[count++] = {filling_->payload.data() + filled_, filling_->length - filled_};
  // Where the next write is probably a large one too, take little more than its header: the rest of its payload then
  // goes straight to where it belongs.
  auto room = in_.size() - tail_;
  if (expect_large_)
    room = std::min<size_t>(room, block_size);
  if (whole_left_ == 0)
    receive_vectors_[count++] = {in_.data() + tail_, room};
  receive_.x.vectors = receive_vectors_;
  receive_.x.vector_count = count;
}

void nbd_connection::receive_later() {
  prepare_receive();
  receiving_ = true;
  reactor_.ring().submit(receive_.x);
}

/// False: nothing is there, or the stream has ended.
bool nbd_connection::receive_now() {
  prepare_receive();
  msghdr message{};
  message.msg_iov = receive_vectors_;
  message.msg_iovlen = receive_.x.vector_count;
  auto n = ::recvmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n > 0) {
    took(static_cast<size_t>(n));
    return true;
  }
  if (n == 0)
    stop_intake();
  else if (errno != EAGAIN && errno != EINTR)
    broken();
  return false;
}

void nbd_connection::received(int32_t result) {
  receiving_ = false;
  if (result > 0 && intake_ != intake::ended)
    took(static_cast<size_t>(result));
  else if (result == 0)
    stop_intake(); // what was asked is answered: the client may only have closed its sending half
  else if (result < 0 && result != -EAGAIN && result != -EINTR && result != -ECANCELED)
    broken();
  pump(true);
}

/// Accounts for bytes that a receive has put where prepare_receive() said.
void nbd_connection::took(size_t bytes) {
  if (filling_) {
    auto here = std::min<size_t>(bytes, filling_->length - filled_);
    filled_ += here;
    bytes -= here;
  }
  tail_ += bytes;
}

void nbd_connection::parse() {
  stalled_ = false;
  if (negotiation_) {
    negotiate();
    if (negotiation_)
      return;
  }
  while (intake_ != intake::ended) {
    if (filling_ && !fill())
      return;
    if (whole_) {
      if (!next_piece())
        return;
      continue;
    }
    if (skip_ > 0) {
      auto here = std::min<uint64_t>(skip_, tail_ - head_);
      head_ += here;
      skip_ -= here;
    }
    if (tail_ - head_ < nbd::request_size)
      return;
    auto x = nbd::load_request(in_.data() + head_);
    if (x.magic != nbd::request_magic) {
      // The stream is out of step for good.
      ++counters_.protocol_errors;
      return stop_intake();
    }
    stalled_for_ = cost_of(x);
    if (!room_for(stalled_for_)) {
      stalled_ = true;
      return;
    }
    head_ += nbd::request_size;
    ++parsed_;
    request(x);
  }
}

void nbd_connection::negotiate() {
  stalled_for_ = 0;
  while (intake_ == intake::open) {
    if (sending_ || said_.size() >= said_bytes_max) {
      stalled_ = true;
      return;
    }
    auto used = negotiation_->feed({in_.data() + head_, tail_ - head_}, said_);
    head_ += used;
    if (negotiation_->state() == nbd_negotiation::phase::transmission) {
      backend_ = negotiation_->chosen();
      structured_ = negotiation_->structured_replies();
      allocation_ = negotiation_->allocation_context();
      negotiation_.reset();
      if (timing_)
        cancel(timer_);
      return;
    }
    if (negotiation_->state() == nbd_negotiation::phase::closed)
      return stop_intake();
    if (used == 0)
      return;
  }
}

size_t nbd_connection::cost_of(const nbd::request_header& x) const {
  switch (x.type) {
  case nbd::command::read: return x.length <= options_.payload_bytes_max ? x.length : 0;
  case nbd::command::write: return x.length <= piece_bytes ? x.length : 0; // else each piece counts for itself
  case nbd::command::block_status: return block_status_cost;
  default: return 0;
  }
}

bool nbd_connection::room_for(size_t bytes) const {
  return requests_ < options_.requests_max && (bytes_ == 0 || bytes_ + bytes <= options_.bytes_in_flight_max) &&
         replies_bytes_ < send_ahead_bytes;
}

/// What is wrong with a request by the protocol, apart from the backend's opinion.
nbd::error nbd_connection::check(const nbd::request_header& x) const {
  if (intake_ == intake::refusing)
    return nbd::error::shutdown;
  uint16_t allowed = nbd::command_flag_fua; // the protocol allows it with every command
  bool writes = false;
  switch (x.type) {
  case nbd::command::read: allowed |= structured_ ? nbd::command_flag_df : 0; break;
  case nbd::command::write:
  case nbd::command::trim: writes = true; break;
  case nbd::command::write_zeroes:
    writes = true;
    allowed |= nbd::command_flag_no_hole | nbd::command_flag_fast_zero;
    break;
  case nbd::command::block_status:
    allowed |= nbd::command_flag_req_one;
    if (!allocation_)
      return nbd::error::invalid;
    break;
  case nbd::command::flush:
    return x.flags & ~allowed || x.offset != 0 || x.length != 0 ? nbd::error::invalid : nbd::error::none;
  case nbd::command::cache: break;
  default: return nbd::error::invalid;
  }
  if (x.flags & ~allowed)
    return nbd::error::invalid;
  if (writes && backend_->read_only())
    return nbd::error::not_permitted;
  if (x.length == 0)
    return nbd::error::invalid;
  auto size = backend_->size_bytes();
  if (x.offset > size || x.length > size - x.offset)
    return x.type == nbd::command::write || x.type == nbd::command::write_zeroes ? nbd::error::no_space
                                                                                 : nbd::error::invalid;
  if (x.length > options_.payload_bytes_max) {
    if (x.type == nbd::command::read)
      return x.flags & nbd::command_flag_df ? nbd::error::overflow : nbd::error::invalid;
    if (x.type == nbd::command::write)
      return nbd::error::invalid;
  }
  return nbd::error::none;
}

void nbd_connection::request(const nbd::request_header& x) {
  if (x.type == nbd::command::disconnect)
    return stop_intake(); // no answer; what is in flight is finished first
  ++counters_.requests;
  auto& r = take_request();
  r.type = x.type;
  r.cookie = x.cookie;
  r.length = x.length;
  r.one_extent = x.flags & nbd::command_flag_req_one;
  r.block.offset = x.offset;
  r.block.length = x.length;
  r.block.fua = x.flags & nbd::command_flag_fua;
  r.block.no_hole = x.flags & nbd::command_flag_no_hole;
  auto wrong = check(x);
  if (wrong == nbd::error::none) {
    r.cost = cost_of(x);
    bytes_ += r.cost;
  }
  r.status = nbd::error::none;
  if (x.type != nbd::command::write) {
    expect_large_ = false;
    return wrong == nbd::error::none ? submit(r) : reply(r, wrong);
  }
  if (wrong == nbd::error::none)
    return write(r);
  skip_ = x.length;
  reply(r, wrong);
}

void nbd_connection::write(nbd_request& x) {
  expect_large_ = x.length > piece_bytes / 2;
  if (x.length > piece_bytes) {
    x.pieces = 1;
    whole_ = &x;
    whole_left_ = x.length;
    return;
  }
  try {
    x.payload = reactor_.buffers().take(x.length);
  } catch (const std::bad_alloc&) {
    skip_ = x.length;
    return reply(x, nbd::error::no_memory);
  }
  filling_ = &x;
  filled_ = 0;
}

/// Starts the next piece of a large write; false when there is no room for it now.
bool nbd_connection::next_piece() {
  if (whole_->status != nbd::error::none)
    skip_ = std::exchange(whole_left_, 0); // no use in writing the rest
  if (whole_left_ == 0) {
    piece_over(*std::exchange(whole_, nullptr), errc::none);
    return true;
  }
  // The first piece ends at a block's boundary, so that the others are whole blocks.
  auto offset = whole_->block.offset + whole_->length - whole_left_;
  auto length = std::min<uint64_t>(whole_left_, piece_bytes - offset % block_size);
  stalled_for_ = length;
  if (!room_for(length)) {
    stalled_ = true;
    return false;
  }
  buffer payload;
  try {
    payload = reactor_.buffers().take(length);
  } catch (const std::bad_alloc&) {
    whole_->status = nbd::error::no_memory;
    return true;
  }
  auto& x = take_request();
  x.type = nbd::command::write;
  x.whole = whole_;
  x.length = static_cast<uint32_t>(length);
  x.cost = length;
  x.block.offset = offset;
  x.block.length = length;
  x.block.fua = whole_->block.fua;
  x.block.no_hole = false;
  x.payload = std::move(payload);
  bytes_ += length;
  whole_left_ -= length;
  ++whole_->pieces;
  filling_ = &x;
  filled_ = 0;
  return true;
}

/// Takes what has arrived of filling_'s payload; true when it was all, and has gone to the backend.
bool nbd_connection::fill() {
  auto here = std::min<size_t>(filling_->length - filled_, tail_ - head_);
  std::memcpy(filling_->payload.data() + filled_, in_.data() + head_, here);
  head_ += here;
  filled_ += here;
  if (filled_ < filling_->length)
    return false;
  submit(*std::exchange(filling_, nullptr));
  return true;
}

void nbd_connection::piece_over(nbd_request& whole, errc status) {
  if (whole.status == nbd::error::none)
    whole.status = to_nbd(status, intake_ == intake::refusing);
  if (--whole.pieces == 0)
    reply(whole, whole.status);
}

void nbd_connection::submit(nbd_request& x) {
  ++at_backend_;
  switch (x.type) {
  case nbd::command::read: x.block.op = block_op::read; break;
  case nbd::command::write:
    x.block.op = block_op::write;
    x.block.payload = {x.payload.data(), x.length};
    break;
  case nbd::command::flush: x.block.op = block_op::flush; break;
  case nbd::command::trim: x.block.op = block_op::trim; break;
  case nbd::command::cache: x.block.op = block_op::cache; break;
  case nbd::command::write_zeroes: x.block.op = block_op::write_zeroes; break;
  case nbd::command::block_status: varve::start(block_status(x)); return;
  case nbd::command::disconnect: assert(false);
  }
  backend_->submit(x.block);
}

task<void> nbd_connection::block_status(nbd_request& x) {
  x.extents.clear();
  auto extents_max = x.one_extent ? size_t{1} : options_.extents_max;
  auto status = co_await backend_->extents(x.block.offset, x.length, extents_max, x.extents);
  x.descriptors.clear();
  if (status == errc::none) {
    nbd::append(x.descriptors, nbd::allocation_context_id);
    uint64_t left = x.length;
    uint32_t last_flags = 0;
    for (auto& extent : x.extents) {
      auto flags = (extent.hole ? nbd::state_hole : 0) | (extent.zero ? nbd::state_zero : 0);
      auto length = static_cast<uint32_t>(std::min<uint64_t>(extent.length, left));
      if (length == 0)
        break;
      left -= length;
      // The protocol wants neighbours to differ.
      if (x.descriptors.size() > 4 && flags == last_flags) {
        auto* previous = x.descriptors.data() + x.descriptors.size() - 8;
        nbd::store(previous, nbd::load<uint32_t>(previous) + length);
        continue;
      }
      last_flags = flags;
      nbd::append(x.descriptors, length);
      nbd::append(x.descriptors, flags);
    }
    if (x.descriptors.size() == 4)
      status = errc::device_failed; // at least one extent is owed
  }
  x.block.status = status;
  completed(x);
}

/// May destroy the connection when it is not called from within pump().
void nbd_connection::completed(nbd_request& x) {
  --at_backend_;
  if (x.type == nbd::command::write) {
    // Early, so that the next write finds it warm in the cache.
    reactor_.buffers().give(std::exchange(x.payload, {}));
    bytes_ -= std::exchange(x.cost, 0);
  }
  if (auto* whole = std::exchange(x.whole, nullptr)) {
    auto status = x.block.status;
    recycle(x);
    piece_over(*whole, status);
  } else {
    reply(x, to_nbd(x.block.status, intake_ == intake::refusing));
  }
  if (at_backend_ == 0 || sending_ || pumping_)
    return pump(true);
  // What completes in the same round goes with it.
  if (!std::exchange(pump_posted_, true))
    reactor_.post([this] {
      pump_posted_ = false;
      pump(true);
    });
}

} // namespace varve
