#include "runtime/remote/remote_client.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "runtime/reactor/deadline.hpp"

namespace varve {

namespace {

constexpr std::chrono::milliseconds tick_every{100};

} // namespace

remote_client::remote_client(reactor& on, remote_client_options options) : reactor_(on), options_(std::move(options)) {
  headers_ = std::make_unique<std::byte[]>(batch_max * remote::request_bytes);
  vectors_.reserve(3 * batch_max);
}

remote_client::~remote_client() {
  assert(!running_ && !timer_.in_flight && !flush_posted_ && waiting_.empty());
}

uint16_t remote_client::tier(const std::string& name) {
  auto at = std::find(tier_names_.begin(), tier_names_.end(), name);
  if (at != tier_names_.end())
    return static_cast<uint16_t>(at - tier_names_.begin());
  // In the middle of a session: its position comes with the next one.
  tier_names_.push_back(name);
  tier_positions_.push_back(static_cast<uint16_t>(remote::tiers_max));
  tier_boots_.push_back(0);
  if (open_)
    cut("asks for the position of another tier");
  return static_cast<uint16_t>(tier_names_.size() - 1);
}

// -- sessions

void remote_client::start() {
  running_ = true;
  varve::start(run());
}

task<void> remote_client::run() {
  auto wait = options_.retry_min;
  while (!closing_) {
    const auto before = counters_.sessions;
    auto why = co_await session();
    if (options_.on_session)
      options_.on_session(why);
    if (counters_.sessions != before)
      wait = options_.retry_min;
    expire();
    if (closing_)
      break;
    if (!std::exchange(hurried_, false))
      co_await pause(wait);
    wait = std::exchange(hurried_, false) ? options_.retry_min : std::min(wait * 2, options_.retry_max);
  }
  for (auto* of : {&waiting_, &nowhere_})
    while (auto* x = of->pop())
      finish(*x, errc::cancelled);
  running_ = false;
  if (timer_.in_flight)
    reactor_.ring().cancel(timer_.x); // its completion comes back here
  settle();
}

/// Last in whatever gets here: who waits for it may destroy us.
void remote_client::settle() {
  if (closing_ && !running_ && !timer_.in_flight && !flush_posted_)
    over_.set();
}

task<void> remote_client::pause(std::chrono::nanoseconds time) {
  wake_.reset();
  deadline limit{reactor_.ring(), reactor_.now() + time, wake_};
  co_await wake_.wait();
  co_await limit.stop();
}

void remote_client::hurry() {
  if (open_)
    return;
  hurried_ = true;
  wake_.set();
}

/// From the connection to its end: why it ended.
task<std::string> remote_client::session() {
  hurried_ = false;
  const auto fd = options_.connect();
  if (fd < 0)
    co_return "cannot connect: " + std::string{std::strerror(-fd)};
  stream_ = std::make_unique<remote_stream>(reactor_, fd, options_.direct,
                                            options_.tls ? tls_session::client(options_.tls, options_.server_name)
                                                         : std::unique_ptr<tls_session>{});
  why_.clear();
  shake_until_ = reactor_.now() + options_.connect_time;
  watch();
  auto why = co_await shake_hands();
  shake_until_ = boot_time{-1};
  if (why.empty() && !stream_->is_cut()) {
    ++counters_.sessions;
    open_ = true;
    if (options_.on_session)
      options_.on_session({});
    if (in_.empty())
      in_ = reactor_.buffers().take(options_.receive_bytes);
    head_ = tail_ = 0;
    flush(true);
    why = co_await take_replies();
  }
  open_ = false;
  cut(why);
  while (sending_) {
    idle_.reset();
    co_await idle_.wait();
  }
  end_batch();
  filling_ = nullptr;
  take_back();
  co_await stream_->close();
  stream_.reset();
  if (!in_.empty())
    reactor_.buffers().give(std::move(in_));
  co_return why_;
}

void remote_client::cut(const std::string& why) {
  if (!stream_ || stream_->is_cut())
    return;
  open_ = false;
  why_ = why.empty() ? "hung up" : why;
  stream_->cut();
}

/// What was sent and not answered waits again, in its old order, before what was never sent.
void remote_client::take_back() {
  std::vector<remote_request*> all;
  for (auto& x : slots_)
    if (x.request)
      all.push_back(x.request);
  std::sort(all.begin(), all.end(), [](auto* a, auto* b) { return a->header.sequence > b->header.sequence; });
  for (auto* x : all) {
    release_slot(*x);
    x->replied = false;
    x->sent_before = true;
    ++counters_.sent_again;
    waiting_.push_front(*x);
  }
  assert(in_flight_ == 0 && bytes_ == 0);
}

task<void> remote_client::close() {
  if (!std::exchange(closing_, true)) {
    cut("closed");
    wake_.set();
    settle();
  }
  co_await over_.wait();
}

// -- time

void remote_client::watch() {
  if (timer_.in_flight)
    return;
  timer_.self = this;
  timer_.in_flight = true;
  timer_.x.op = ring_op::timeout;
  timer_.x.deadline = reactor_.now() + tick_every;
  timer_.x.complete = [](ring_operation& x) {
    auto& mine = reinterpret_cast<operation&>(x);
    mine.in_flight = false;
    mine.self->tick();
  };
  reactor_.ring().submit(timer_.x);
}

void remote_client::tick() {
  if (!running_)
    return settle();
  const auto now = reactor_.now();
  if (shake_until_.count() >= 0 && now >= shake_until_)
    cut("no welcome in time");
  for (auto& x : slots_)
    if (x.request && now - x.request->since >= options_.request_time) {
      // Its buffers are the socket's until the session has ended; expire() tells it then.
      cut("a request without an answer");
      break;
    }
  if (shake_until_.count() >= 0 || in_flight_ > 0 || !waiting_.empty())
    watch();
  expire();
}

/// Of what waits to be sent.
void remote_client::expire() {
  const auto now = reactor_.now();
  list late, rest;
  while (auto* x = waiting_.pop())
    (now - x->since >= options_.request_time ? late : rest).push(*x);
  waiting_ = rest;
  while (auto* x = late.pop()) {
    ++counters_.timed_out;
    finish(*x, errc::timed_out);
  }
}

void remote_client::finish(remote_request& x, errc status) {
  x.status = status;
  x.complete(x);
}

// -- sending

void remote_client::submit(remote_request& x) {
  assert(x.tier < tier_names_.size() && (x.from.empty() || x.from.size() == x.header.length) &&
         (x.into.empty() || x.into.size() == x.header.length));
  x.since = reactor_.now();
  x.attempts = 0;
  x.in_batch = x.replied = x.sent_before = false;
  x.answer.clear();
  ++counters_.requests;
  if (closing_)
    return finish(x, errc::cancelled);
  const auto payload = x.header.op == remote::op::write || x.header.op == remote::op::write_with_sums;
  if (payload) {
    // Once, however often it is sent.
    const auto& header = x.header;
    auto prefix = prefix_of(x, remote::prefix_bytes(header.op, header.offset, header.length));
    if (x.header.op == remote::op::write)
      remote::store_sums(header.offset, x.from, prefix.data());
    else
      remote::store_states(*x.sums, prefix.data());
    if (x.header.op == remote::op::write_with_sums &&
        std::all_of(x.sums->states.begin(), x.sums->states.end(), [](auto s) { return s == block_state::hole; }))
      x.from = {};
    x.header.payload = static_cast<uint32_t>(prefix.size() + x.from.size());
  } else {
    x.header.payload = 0;
  }
  waiting_.push(x);
  watch();
  if (!open_ || sending_)
    return;
  // Alone: now. In company: with those that come in the same round.
  if (in_flight_ == 0 && !flush_posted_)
    flush(true);
  else
    flush_soon();
}

std::span<std::byte> remote_client::prefix_of(remote_request& x, size_t bytes) {
  if (bytes <= sizeof(x.few_sums))
    return {x.few_sums, bytes};
  x.many_sums.resize(bytes);
  return x.many_sums;
}

void remote_client::flush_soon() {
  if (std::exchange(flush_posted_, true))
    return;
  reactor_.post([this] {
    flush_posted_ = false;
    for (auto x = std::exchange(nowhere_, {}); auto* y = x.pop();)
      finish(*y, errc::not_found);
    flush(true);
    settle();
  });
}

void remote_client::flush(bool at_once) {
  while (open_ && !sending_ && build_batch()) {
    ++counters_.batches;
    if (stream_->begin_send(vectors_, at_once)) {
      end_batch();
      continue;
    }
    sending_ = true;
    varve::start(send_rest());
  }
}

task<void> remote_client::send_rest() {
  for (;;) {
    const auto status = co_await stream_->finish_send();
    if (status != 0) {
      cut("hung up");
      break; // the batch ends with the session
    }
    end_batch();
    if (!open_ || !build_batch())
      break;
    ++counters_.batches;
    stream_->begin_send(vectors_, false);
  }
  sending_ = false;
  idle_.set();
}

bool remote_client::build_batch() {
  vectors_.clear();
  auto* header = headers_.get();
  size_t count = 0;
  while (count < batch_max && !waiting_.empty() && free_slot_ < slots_.size()) {
    auto& x = *waiting_.first;
    const auto position = tier_positions_[x.tier];
    if (position >= remote::tiers_max) {
      // Not now: who is told may submit the next one, and this is no place to begin.
      nowhere_.push(*waiting_.pop());
      flush_soon();
      continue;
    }
    const auto cost = remote::cost_of(x.header);
    if (bytes_ > 0 && bytes_ + cost > bytes_max_)
      break;
    waiting_.pop();
    const auto tag = free_slot_;
    free_slot_ = slots_[tag].next_free;
    slots_[tag].request = &x;
    ++in_flight_;
    bytes_ += cost;
    x.header.tier = position;
    x.header.tag = tag;
    x.header.sequence = ++sequence_;
    x.in_batch = true;
    x.replied = false;
    batch_.push(x);
    ++count;
    encode(x.header, header);
    vectors_.push_back({header, remote::request_bytes});
    header += remote::request_bytes;
    if (x.header.payload > 0) {
      const auto prefix = prefix_of(x, x.header.payload - x.from.size());
      vectors_.push_back({prefix.data(), prefix.size()});
      if (!x.from.empty())
        vectors_.push_back({const_cast<std::byte*>(x.from.data()), x.from.size()});
    }
  }
  return count > 0;
}

/// The socket has done with what the batch refers to.
void remote_client::end_batch() {
  list answered;
  while (auto* x = batch_.pop()) {
    x->in_batch = false;
    if (x->replied)
      answered.push(*x);
  }
  while (auto* x = answered.pop())
    arrived(*x);
}

void remote_client::release_slot(remote_request& x) {
  auto& slot = slots_[x.header.tag];
  slot.request = nullptr;
  slot.next_free = free_slot_;
  free_slot_ = x.header.tag;
  --in_flight_;
  bytes_ -= remote::cost_of(x.header);
}

// -- receiving

task<std::string> remote_client::take_replies() {
  for (;;) {
    const auto count = prepare_receive();
    auto got = co_await stream_->receive(receive_vectors_, count);
    for (unsigned round = 0; got > 0; ++round) {
      took(static_cast<size_t>(got));
      auto wrong = parse();
      if (!wrong.empty()) {
        ++counters_.protocol_errors;
        co_return wrong;
      }
      if (!open_)
        co_return std::string{};
      // The rest of a payload is likely there, or on its way.
      if (!filling_ || round >= 8)
        break;
      const auto more = prepare_receive();
      const auto now = stream_->receive_now(receive_vectors_, more);
      if (now <= 0)
        break; // an end will be seen again
      got = now;
    }
    if (!open_)
      co_return std::string{};
    if (got <= 0)
      co_return got == -EPROTO ? "TLS: " + stream_->problem() : std::string{"hung up"};
    // Credits came back.
    if (!waiting_.empty() && !sending_)
      flush_soon();
  }
}

uint32_t remote_client::prepare_receive() {
  if (head_ > 0) {
    std::memmove(in_.data(), in_.data() + head_, tail_ - head_);
    tail_ -= head_;
    head_ = 0;
  }
  uint32_t count = 0;
  auto large = false;
  if (filling_) {
    if (filled_ < filling_prefix_.size())
      receive_vectors_[count++] = {filling_prefix_.data() + filled_, filling_prefix_.size() - filled_};
    const auto at = filled_ - std::min(filled_, filling_prefix_.size());
    if (at < filling_into_.size())
      receive_vectors_[count++] = {filling_into_.data() + at, filling_into_.size() - at};
    large = filling_into_.size() >= 128u << 10;
  }
  // Behind a large answer comes perhaps another one: what is received here would have to be copied.
  const auto room = in_.size() - tail_;
  receive_vectors_[count++] = {in_.data() + tail_, large ? std::min<size_t>(room, block_size) : room};
  return count;
}

void remote_client::took(size_t bytes) {
  if (filling_) {
    const auto here = std::min(bytes, filling_prefix_.size() + filling_into_.size() - filled_);
    filled_ += here;
    bytes -= here;
  }
  tail_ += bytes;
}

bool remote_client::fill() {
  while (head_ < tail_) {
    const auto in_prefix = filled_ < filling_prefix_.size();
    const auto to =
      in_prefix ? filling_prefix_.subspan(filled_) : filling_into_.subspan(filled_ - filling_prefix_.size());
    const auto here = std::min(to.size(), tail_ - head_);
    if (here == 0)
      break;
    std::memcpy(to.data(), in_.data() + head_, here);
    head_ += here;
    filled_ += here;
  }
  return filled_ == filling_prefix_.size() + filling_into_.size();
}

std::string remote_client::parse() {
  while (open_) {
    if (filling_) {
      if (!fill())
        return {};
      auto& x = *std::exchange(filling_, nullptr);
      if (x.in_batch)
        x.replied = true;
      else
        arrived(x);
      continue;
    }
    if (tail_ - head_ < remote::reply_bytes)
      return {};
    remote::reply reply;
    const auto wrong = remote::decode(std::span{in_.data() + head_, remote::reply_bytes}, reply);
    if (wrong != remote::malformed::none)
      return std::string{"a malformed reply: "} + remote::to_string(wrong);
    head_ += remote::reply_bytes;
    auto refused = begin_reply(reply);
    if (!refused.empty())
      return refused;
  }
  return {};
}

/// Finds out whose it is, and where its payload belongs.
std::string remote_client::begin_reply(const remote::reply& reply) {
  if (reply.tag >= slots_.size() || !slots_[reply.tag].request)
    return "a reply to nothing";
  auto& x = *slots_[reply.tag].request;
  if (x.header.sequence != reply.sequence || x.replied)
    return "a reply to nothing";
  if (reply.boot != tier_boots_[x.tier])
    return "a reply of another boot";
  const auto& header = x.header;
  const auto prefix = remote::prefix_bytes(header.op, header.offset, header.length);
  filling_prefix_ = {};
  filling_into_ = {};
  auto fits = reply.payload == 0;
  if (reply.status == errc::none) {
    switch (header.op) {
    case remote::op::read:
      if (reply.flags & remote::flag_zeros)
        break;
      filling_prefix_ = prefix_of(x, prefix);
      filling_into_ = x.into;
      fits = reply.payload == prefix + header.length;
      break;
    case remote::op::read_with_sums:
      filling_prefix_ = prefix_of(x, prefix);
      if (reply.payload != prefix)
        filling_into_ = x.into;
      fits = reply.payload == prefix || reply.payload == prefix + header.length;
      break;
    case remote::op::sums:
      filling_prefix_ = prefix_of(x, prefix);
      fits = reply.payload == prefix;
      break;
    case remote::op::extents:
      fits = reply.payload <= remote::extents_max * remote::extent_bytes && reply.payload % remote::extent_bytes == 0 &&
             reply.argument <= header.length;
      break;
    case remote::op::create:
    case remote::op::activate:
    case remote::op::look:
    case remote::op::checkpoint:
    case remote::op::complete:
    case remote::op::seal: fits = reply.payload == remote::summary_bytes; break;
    default: break;
    }
    if (fits && reply.payload > 0 && filling_prefix_.empty()) {
      x.answer.resize(reply.payload);
      filling_prefix_ = x.answer;
    }
  }
  if (!fits)
    return "a reply of the wrong length";
  x.reply = reply;
  filling_ = &x;
  filled_ = 0;
  return {};
}

/// A whole answer, of a request that nothing refers to any more.
void remote_client::arrived(remote_request& x) {
  const auto& header = x.header;
  auto status = x.reply.status;
  auto broken = status == errc::checksum_mismatch && x.reply.flags & remote::flag_broken;
  release_slot(x);
  if (status == errc::none && header.op == remote::op::read) {
    if (x.reply.flags & remote::flag_zeros)
      std::memset(x.into.data(), 0, x.into.size());
    else
      broken = !remote::sums_match(header.offset, x.into,
                                   prefix_of(x, remote::prefix_bytes(header.op, header.offset, header.length)).data());
  } else if (status == errc::none && remote::with_states(header.op) && header.op != remote::op::write_with_sums) {
    const auto blocks = remote::blocks_of(header.offset, header.length);
    const auto prefix = prefix_of(x, remote::prefix_bytes(header.op, header.offset, header.length));
    block_sums came;
    remote::load_states(prefix.data(), blocks, came);
    if (header.op == remote::op::read_with_sums) {
      const auto holes = x.reply.payload == prefix.size();
      for (uint32_t i = 0; i < blocks && !broken; ++i) {
        auto block = x.into.subspan(uint64_t{i} * block_size, block_size);
        if (came.states[i] == block_state::written)
          broken = holes || !remote::sums_match(0, block, prefix.data() + remote::sums_bytes(i));
        else
          std::memset(block.data(), 0, block.size());
      }
    }
    if (!broken) {
      x.sums->crcs.insert(x.sums->crcs.end(), came.crcs.begin(), came.crcs.end());
      x.sums->states.insert(x.sums->states.end(), came.states.begin(), came.states.end());
    }
  }
  if (broken) {
    ++counters_.broken_payloads;
    if (++x.attempts < options_.attempts) {
      waiting_.push(x);
      return flush_soon();
    }
    status = errc::checksum_mismatch;
  }
  finish(x, status);
}

} // namespace varve
