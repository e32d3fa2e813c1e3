#include "rdma/verbs_link.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "rdma/copy.hpp"
#include "rdma/verbs_port.hpp"

namespace varve {

namespace {

/// In the number of a work request: a message that came in, by slot. Others are counted.
constexpr uint64_t receive_bit = 1ull << 63;
/// Work requests between two that the device is asked to tell of.
constexpr uint32_t signal_every = 16;
/// Completions taken at a time, and how many times before others have their turn.
constexpr int batch = 32;
constexpr int batches_max = 64;

std::error_code error_of(ibv_wc_status x) noexcept {
  switch (x) {
  case IBV_WC_SUCCESS: return {};
  case IBV_WC_REM_ACCESS_ERR:
  case IBV_WC_REM_INV_REQ_ERR:
  case IBV_WC_REM_OP_ERR: return std::make_error_code(std::errc::permission_denied);
  case IBV_WC_RETRY_EXC_ERR:
  case IBV_WC_RNR_RETRY_EXC_ERR:
  case IBV_WC_RESP_TIMEOUT_ERR: return std::make_error_code(std::errc::host_unreachable);
  case IBV_WC_LOC_PROT_ERR:
  case IBV_WC_LOC_LEN_ERR: return std::make_error_code(std::errc::bad_address);
  case IBV_WC_WR_FLUSH_ERR: return std::make_error_code(std::errc::operation_canceled);
  default: return std::make_error_code(std::errc::io_error);
  }
}

bool set_nonblocking(int fd) {
  const auto flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

std::string with_errno(const char* what) {
  return std::string{what} + ": " + std::strerror(errno);
}

} // namespace

verbs_link::verbs_link(verbs_port& of, rdma_cm_id* id, user& told, verbs_options options)
  : port_(of), id_(id), user_(told), options_(options) {
  assert(options_.message_bytes_max > 0 && options_.messages_max > 0 && options_.writes_max > 0);
  id_->context = this;
}

verbs_link::~verbs_link() {
  assert(!looking_);
  user_told_ = false;
  end_now("destroyed");
  port_.forget(*this);
}

std::string verbs_link::device() const {
  return id_ && id_->verbs ? ::ibv_get_device_name(id_->verbs->device) : "";
}

std::span<std::byte> verbs_link::slot(uint32_t x) noexcept {
  return slots_.bytes().subspan(size_t{x} * options_.message_bytes_max, options_.message_bytes_max);
}

// -- beginning

bool verbs_link::prepare(std::string& problem) {
  auto* device = id_->verbs;
  if (auto* made = ::ibv_alloc_pd(device))
    domain_ = std::shared_ptr<ibv_pd>{made, ::ibv_dealloc_pd};
  if (!domain_) {
    problem = with_errno("no protection domain");
    return false;
  }
  ibv_port_attr port{};
  if (const auto refused = ::ibv_query_port(device, id_->port_num, &port)) {
    problem = std::string{"the device's port: "} + std::strerror(refused);
    return false;
  }
  part_bytes_max_ = std::min<uint64_t>(port.max_msg_sz, 1u << 30);
  if (part_bytes_max_ == 0) {
    problem = "the device's port says that it carries nothing";
    return false;
  }
  channel_ = ::ibv_create_comp_channel(device);
  if (!channel_ || !set_nonblocking(channel_->fd)) {
    problem = with_errno("no completion channel");
    return false;
  }
  const auto entries = 2 * options_.messages_max + options_.writes_max;
  completions_ = ::ibv_create_cq(device, static_cast<int>(entries), this, channel_, 0);
  if (!completions_ || ::ibv_req_notify_cq(completions_, 0) != 0) {
    problem = with_errno("no completion queue");
    return false;
  }
  slots_ = buffer{2 * size_t{options_.messages_max} * options_.message_bytes_max};
  std::error_code refused;
  slots_region_ = register_memory(slots_.bytes(), verbs_access::local, refused);
  if (slots_region_.empty()) {
    problem = "memory for messages cannot be registered: " + refused.message();
    return false;
  }
  if (!make_queue_pair(problem))
    return false;
  for (uint32_t i = 0; i < options_.messages_max; ++i)
    received_.push_back(i);
  if (!post_receives(received_)) {
    problem = "no messages can be received";
    return false;
  }
  received_.clear();
  return port_.watch(channel_->fd, port_.find(*this), problem);
}

bool verbs_link::make_queue_pair(std::string& problem) {
  // Devices differ in how much they take inline, and say so by refusing.
  for (auto wanted : {options_.inline_bytes_max, std::min(options_.inline_bytes_max, 64u), 0u}) {
    ibv_qp_init_attr how{};
    how.send_cq = how.recv_cq = completions_;
    how.qp_type = IBV_QPT_RC;
    how.cap.max_send_wr = options_.messages_max + options_.writes_max;
    how.cap.max_recv_wr = options_.messages_max;
    how.cap.max_send_sge = how.cap.max_recv_sge = 1;
    how.cap.max_inline_data = wanted;
    if (::rdma_create_qp(id_, domain_.get(), &how) == 0) {
      has_queue_pair_ = true;
      inline_bytes_ = std::min(wanted, how.cap.max_inline_data);
      return true;
    }
  }
  problem = with_errno("no queue pair");
  return false;
}

verbs_region verbs_link::register_memory(std::span<std::byte> memory, verbs_access access, std::error_code& refused) {
  if (!domain_ || memory.empty()) {
    refused = std::make_error_code(std::errc::invalid_argument);
    return {};
  }
  const int flags =
    access == verbs_access::peer_writes ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE : IBV_ACCESS_LOCAL_WRITE;
  auto* made = ::ibv_reg_mr(domain_.get(), memory.data(), memory.size(), flags);
  if (!made) {
    refused = std::error_code{errno, std::generic_category()};
    return {};
  }
  return {domain_, made};
}

bool verbs_link::post_receives(std::span<const uint32_t> slots) {
  std::array<ibv_recv_wr, batch> work;
  std::array<ibv_sge, batch> where;
  while (!slots.empty()) {
    const auto count = std::min<size_t>(slots.size(), batch);
    for (size_t i = 0; i < count; ++i) {
      const auto room = slot(slots[i]);
      where[i] = {reinterpret_cast<uint64_t>(room.data()), static_cast<uint32_t>(room.size()),
                  slots_region_.local_key()};
      work[i] = {};
      work[i].wr_id = receive_bit | slots[i];
      work[i].sg_list = &where[i];
      work[i].num_sge = 1;
      work[i].next = i + 1 < count ? &work[i + 1] : nullptr;
    }
    ibv_recv_wr* bad = nullptr;
    if (::ibv_post_recv(id_->qp, work.data(), &bad) != 0)
      return false;
    slots = slots.subspan(count);
  }
  return true;
}

void verbs_link::established() {
  if (state_ != state::connecting)
    return;
  state_ = state::connected;
  tell_peer_ = true;
  user_.connected(*this);
}

void verbs_link::made() {
  looking_ = true;
  established();
  flush();
  looking_ = false;
  if (ending_)
    end_now(why_); // this may be no more
}

// -- sending

bool verbs_link::send(std::span<const std::byte> message) {
  assert(!message.empty() && message.size() <= options_.message_bytes_max);
  if (!connected() || sending_ >= options_.messages_max)
    return false;
  ++sending_;
  // Messages are done in order, so the oldest slot is free when fewer than all are under way.
  const auto to = options_.messages_max + next_slot_;
  next_slot_ = (next_slot_ + 1) % options_.messages_max;
  copy_bytes(slot(to), message);
  begun_.push_back({nullptr, to, static_cast<uint32_t>(message.size())});
  return true;
}

void verbs_link::write(verbs_write& x) {
  assert(x.of && !x.from.empty());
  x.status = {};
  const auto in = std::as_const(*x.of).bytes();
  if (x.from.data() < in.data() || x.from.data() + x.from.size() > in.data() + in.size() || x.to_offset > x.to.bytes ||
      x.from.size() > x.to.bytes - x.to_offset) {
    x.status = std::make_error_code(std::errc::invalid_argument);
    x.complete(x);
    return;
  }
  if (!connected()) {
    x.status = std::make_error_code(std::errc::operation_canceled);
    x.complete(x);
    return;
  }
  begun_.push_back({&x, 0, 0});
}

void verbs_link::flush() {
  std::string problem;
  if (connected() && !post(problem))
    end_soon(problem);
}

/// One chain of work requests, rung for once.
bool verbs_link::post(std::string& problem) {
  while (!begun_.empty()) {
    std::array<ibv_send_wr, batch> work;
    std::array<ibv_sge, batch> where;
    size_t count = 0;
    while (count < batch && !begun_.empty()) {
      auto& x = begun_.front();
      if (x.write && writing_ >= options_.writes_max)
        break;
      auto& wr = work[count];
      auto& sge = where[count];
      wr = {};
      wr.wr_id = first_posted_ + posted_.size();
      wr.sg_list = &sge;
      wr.num_sge = 1;
      if (x.write) {
        auto& write = *x.write;
        const auto part = std::min(part_bytes_max_, write.from.size() - begun_offset_);
        sge = {reinterpret_cast<uint64_t>(write.from.data() + begun_offset_), static_cast<uint32_t>(part),
               write.of->local_key()};
        wr.opcode = IBV_WR_RDMA_WRITE;
        wr.wr.rdma.remote_addr = write.to.address + write.to_offset + begun_offset_;
        wr.wr.rdma.rkey = write.to.key;
        begun_offset_ += part;
        const auto last = begun_offset_ == write.from.size();
        posted_.push_back({&write, last});
        ++writing_;
        counters_.written_bytes += part;
        if (last) {
          ++counters_.writes;
          begun_offset_ = 0;
          begun_.pop_front();
        }
      } else {
        sge = {reinterpret_cast<uint64_t>(slot(x.slot).data()), x.bytes, slots_region_.local_key()};
        wr.opcode = IBV_WR_SEND;
        wr.send_flags = x.bytes <= inline_bytes_ ? IBV_SEND_INLINE : 0;
        posted_.push_back({nullptr, true});
        ++counters_.messages_sent;
        begun_.pop_front();
      }
      if (++count % signal_every == 0)
        wr.send_flags |= IBV_SEND_SIGNALED;
    }
    if (count == 0)
      return true; // waits for room
    work[count - 1].send_flags |= IBV_SEND_SIGNALED;
    for (size_t i = 0; i < count; ++i) {
      work[i].next = i + 1 < count ? &work[i + 1] : nullptr;
      counters_.signals += (work[i].send_flags & IBV_SEND_SIGNALED) != 0;
    }
    ++counters_.doorbells;
    ibv_send_wr* bad = nullptr;
    if (const auto refused = ::ibv_post_send(id_->qp, work.data(), &bad)) {
      problem = std::string{"the device takes no work: "} + std::strerror(refused);
      return false;
    }
  }
  return true;
}

// -- completions

bool verbs_link::look() {
  if (state_ == state::ended || !completions_)
    return true;
  if (ending_) {
    end_now(why_); // this may be no more
    return true;
  }
  looking_ = true;
  ibv_cq* queue = nullptr;
  void* ignored = nullptr;
  unsigned told = 0;
  while (::ibv_get_cq_event(channel_, &queue, &ignored) == 0)
    ++told;
  if (told > 0)
    ::ibv_ack_cq_events(completions_, told);
  // Asked for first: what is done between the last look and this tells again.
  auto more = ::ibv_req_notify_cq(completions_, 0) == 0;
  if (!more)
    end("the device does not tell of completions");
  for (int round = 0; more && round < batches_max; ++round) {
    std::array<ibv_wc, batch> done;
    const auto count = ::ibv_poll_cq(completions_, batch, done.data());
    if (count < 0)
      end("the completion queue has failed");
    for (int i = 0; i < count; ++i)
      took(done[static_cast<size_t>(i)]);
    if (!ending_ && !received_.empty() && !post_receives(received_))
      end("the device takes no room for messages");
    received_.clear();
    more = count == batch && !ending_;
  }
  if (flushed_ && !ending_)
    end("the connection broke");
  flush();
  looking_ = false;
  if (ending_)
    end_now(why_); // this may be no more
  else
    return !more;
  return true;
}

void verbs_link::took(const ibv_wc& x) {
  if (x.status != IBV_WC_SUCCESS) {
    failed(x);
    return;
  }
  if (!(x.wr_id & receive_bit)) {
    done(x);
    return;
  }
  if (ending_)
    return;
  // A write with immediate data is told of here, too, with its own length; and so is a message of nothing.
  if (x.opcode != IBV_WC_RECV || x.byte_len == 0 || x.byte_len > options_.message_bytes_max) {
    end("what came is no message");
    return;
  }
  // It may come before the connection manager's word that the connection is made.
  established();
  const auto from = static_cast<uint32_t>(x.wr_id);
  ++counters_.messages_received;
  if (!ending_)
    user_.received(*this, slot(from).first(x.byte_len));
  received_.push_back(from);
}

void verbs_link::failed(const ibv_wc& x) {
  if (x.status == IBV_WC_WR_FLUSH_ERR) {
    flushed_ = true; // because of something else, which may be told of later
    return;
  }
  if (!(x.wr_id & receive_bit))
    done(x);
  end(::ibv_wc_status_str(x.status));
}

/// It, and all before it.
void verbs_link::done(const ibv_wc& x) {
  done_until(x.wr_id - 1, {});
  done_until(x.wr_id, error_of(x.status));
}

void verbs_link::done_until(uint64_t number, std::error_code status) {
  while (!posted_.empty() && first_posted_ <= number) {
    const auto x = posted_.front();
    posted_.pop_front();
    ++first_posted_;
    if (!x.write) {
      --sending_;
      continue;
    }
    --writing_;
    auto& write = *x.write;
    if (status && !write.status)
      write.status = status;
    if (x.last)
      write.complete(write);
  }
}

// -- the end

void verbs_link::end(const std::string& why) {
  if (state_ == state::ended || std::exchange(ending_, true))
    return;
  why_ = why;
  if (!looking_)
    end_now(why_);
}

void verbs_link::end_soon(const std::string& why) {
  if (state_ == state::ended || std::exchange(ending_, true))
    return;
  why_ = why;
  if (!looking_)
    port_.again(*this);
}

void verbs_link::end_now(const std::string& why) {
  if (state_ == state::ended)
    return;
  state_ = state::ended;
  ending_ = true;
  // What the device says weighs more than that the other end hung up because of it.
  auto reason = why;
  if (const auto said = take_what_is_done(); !said.empty())
    reason = said;
  release();
  cancel_writes();
  if (user_told_)
    user_.ended(*this, reason); // this may be no more
}

/// Of what was sent, before the queue pair goes; why the device has stopped, if it says so.
std::string verbs_link::take_what_is_done() {
  std::string why;
  const auto entries = 2 * options_.messages_max + options_.writes_max;
  for (uint32_t i = 0; completions_ && i < entries; ++i) {
    ibv_wc x;
    if (::ibv_poll_cq(completions_, 1, &x) != 1)
      break;
    if (x.status == IBV_WC_WR_FLUSH_ERR)
      continue;
    if (x.status != IBV_WC_SUCCESS && why.empty())
      why = ::ibv_wc_status_str(x.status);
    if (!(x.wr_id & receive_bit))
      done(x);
  }
  return why;
}

void verbs_link::release() {
  if (channel_)
    port_.unwatch(channel_->fd);
  if (has_queue_pair_) {
    if (tell_peer_)
      ::rdma_disconnect(id_);
    ::rdma_destroy_qp(id_);
  }
  if (completions_) {
    ibv_cq* queue = nullptr;
    void* ignored = nullptr;
    unsigned told = 0;
    while (::ibv_get_cq_event(channel_, &queue, &ignored) == 0)
      ++told;
    if (told > 0)
      ::ibv_ack_cq_events(completions_, told);
    ::ibv_destroy_cq(completions_);
  }
  if (channel_)
    ::ibv_destroy_comp_channel(channel_);
  slots_region_ = {};
  domain_.reset();
  ::rdma_destroy_id(id_);
  id_ = nullptr;
  channel_ = nullptr;
  completions_ = nullptr;
  has_queue_pair_ = false;
}

void verbs_link::cancel_writes() {
  std::vector<verbs_write*> left;
  auto add = [&](verbs_write* x) {
    if (x && (left.empty() || left.back() != x))
      left.push_back(x);
  };
  for (const auto& x : posted_)
    add(x.write);
  for (const auto& x : begun_)
    add(x.write);
  posted_.clear();
  begun_.clear();
  for (auto* x : left) {
    if (!x->status)
      x->status = std::make_error_code(std::errc::operation_canceled);
    x->complete(*x);
  }
}

} // namespace varve
