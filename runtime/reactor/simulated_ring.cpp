#include "runtime/reactor/simulated_ring.hpp"

#include <algorithm>
#include <cerrno>

namespace varve {

namespace {

constexpr auto page_size = simulated_disk::page_size;

bool is_transfer(ring_op op) {
  return op == ring_op::read || op == ring_op::write;
}

bool is_socket_op(ring_op op) {
  return op == ring_op::accept || op == ring_op::receive || op == ring_op::send;
}

// What a killed process had in flight never ends; its coroutines stay as they are. Remembered so that a leak checker
// takes it for what it is.
void abandon(ring_operation& x) {
  static auto* abandoned = new std::vector<ring_operation*>;
  abandoned->push_back(&x);
}

} // namespace

simulated_ring::simulated_ring(simulated_world& world, simulated_disk* disk, simulated_network* network,
                               simulated_ring_options options)
  : world_(world), disk_(disk), network_(network), options_(options) {
  world_.rings_.push_back(this);
  if (disk_)
    disk_->rings_.push_back(this);
  if (network_)
    network_->rings_.push_back(this);
}

simulated_ring::~simulated_ring() {
  if (disk_)
    std::erase(disk_->rings_, this);
  die();
  if (network_)
    std::erase(network_->rings_, this);
  std::replace(world_.rings_.begin(), world_.rings_.end(), this, static_cast<simulated_ring*>(nullptr));
}

void simulated_ring::submit(ring_operation& x) {
  if (dead_)
    abandon(x);
  else
    queued_.push(x);
}

void simulated_ring::cancel(ring_operation& x) {
  if (dead_)
    return;
  const auto end_soon = [&](entry_pointer e) {
    e->cancelled = true;
    const auto due = world_.now() + latency_of(x);
    plan(std::move(e), due);
  };
  if (queued_.remove(x)) {
    auto e = std::make_unique<entry>();
    e->x = &x;
    e->sequence = world_.next_sequence();
    return end_soon(std::move(e));
  }
  for (auto at = timeouts_.begin(); at != timeouts_.end(); ++at)
    if (at->second->x == &x) {
      auto e = std::move(at->second);
      timeouts_.erase(at);
      return end_soon(std::move(e));
    }
  for (auto at = parked_.begin(); at != parked_.end(); ++at)
    if ((*at)->x == &x) {
      auto e = std::move(*at);
      parked_.erase(at);
      return end_soon(std::move(e));
    }
  // A socket operation on its way may be too late to cancel, a disk's always is; a hung one stays hung.
  for (auto& [due, e] : scheduled_)
    if (e->x == &x && is_socket_op(x.op)) {
      e->no_waiting = true; // should it find nothing to do
      if (e->done == 0 && world_.random().chance(0.5))
        e->cancelled = true;
    }
}

boot_time simulated_ring::latency_of(const ring_operation& x) {
  auto bounds = options_.other;
  switch (x.op) {
  case ring_op::read: bounds = options_.read; break;
  case ring_op::write: bounds = options_.write; break;
  case ring_op::sync: bounds = options_.sync; break;
  case ring_op::accept:
  case ring_op::receive:
  case ring_op::send: bounds = options_.socket; break;
  default: break;
  }
  return boot_time{static_cast<int64_t>(
    world_.random().between(static_cast<uint64_t>(bounds.low.count()), static_cast<uint64_t>(bounds.high.count())))};
}

void simulated_ring::plan(entry_pointer x, boot_time due) {
  x->due = due;
  auto& where = x->x->op == ring_op::timeout ? timeouts_ : scheduled_;
  const std::pair key{due, x->sequence};
  where.emplace(key, std::move(x));
}

void simulated_ring::hand_on(ring_operation& x) {
  auto e = std::make_unique<entry>();
  e->x = &x;
  e->sequence = world_.next_sequence();
  if (x.op == ring_op::timeout)
    return plan(std::move(e), clock_.world(x.deadline));
  const auto due = world_.now() + latency_of(x);
  const auto of_network = is_socket_op(x.op) || (x.op == ring_op::close && simulated_network::is_socket(x.fd));
  if (of_network) {
    if (!network_)
      e->error = -EBADF;
    else if (x.op != ring_op::close)
      network_->own(x.fd, this);
    return plan(std::move(e), due);
  }
  if (!disk_) {
    e->error = -ENODEV;
    return plan(std::move(e), due);
  }
  e->mark = disk_->mark();
  e->error = disk_->check(x);
  if (e->error == 0) {
    const auto verdict = disk_->judge(x);
    e->error = -verdict.error;
    if (verdict.hang)
      return hung_.push_back(std::move(e));
  }
  if (is_transfer(x.op)) {
    e->length = detail::bytes_of(x);
    auto& random = world_.random();
    if (e->length > page_size && random.chance(disk_->options().short_chance))
      e->length = random.between(1, e->length / page_size) * page_size;
    const auto pages = e->length == 0 ? 0 : (x.offset + e->length - 1) / page_size - x.offset / page_size + 1;
    e->moved.resize(pages);
    if (pages > 1) {
      e->ends = due;
      const auto first =
        boot_time{static_cast<int64_t>(random.below(static_cast<uint64_t>((due - world_.now()).count())))};
      return plan(std::move(e), world_.now() + first);
    }
  }
  plan(std::move(e), due);
}

// Moves each page that is still to be moved, with that chance.
void simulated_ring::move_some(entry& x, double share) {
  const auto& op = *x.x;
  const auto end = op.offset + x.length;
  for (size_t i = 0; i < x.moved.size(); ++i) {
    if (x.moved[i] || !world_.random().chance(share))
      continue;
    const auto from = std::max(op.offset, (op.offset / page_size + i) * page_size);
    const auto to = std::min(end, (op.offset / page_size + i + 1) * page_size);
    if (auto error = disk_->move_piece(op, from, to - from)) {
      x.error = error;
      return;
    }
    x.moved[i] = true;
  }
}

int32_t simulated_ring::carry_out(entry& x) {
  auto& op = *x.x;
  switch (op.op) {
  case ring_op::open: return disk_->open(op.path, op.flags);
  case ring_op::close: return disk_->close(op.fd);
  case ring_op::sync: return disk_->sync(op.fd, x.mark);
  case ring_op::allocate: return disk_->allocate(op);
  case ring_op::truncate: return disk_->truncate(op);
  case ring_op::unlink: return disk_->unlink(op.path);
  case ring_op::rename: return disk_->rename(op.path, op.path2);
  case ring_op::read: {
    const auto size = disk_->size_of(op.fd);
    move_some(x, 1);
    return x.error ? x.error : static_cast<int32_t>(std::min(x.length, size - std::min(size, op.offset)));
  }
  case ring_op::write: {
    move_some(x, 1);
    if (!x.error)
      return static_cast<int32_t>(x.length);
    // As a kernel: what came before the page without room counts.
    const auto pages = static_cast<uint64_t>(std::find(x.moved.begin(), x.moved.end(), false) - x.moved.begin());
    const auto end = std::max(op.offset, (op.offset / page_size + pages) * page_size);
    return pages > 0 ? static_cast<int32_t>(end - op.offset) : x.error;
  }
  default: return -EINVAL;
  }
}

// False when it goes on later, and then `x` is taken.
bool simulated_ring::run_socket(entry_pointer& x) {
  auto& op = *x->x;
  int32_t result;
  switch (op.op) {
  case ring_op::close:
    network_->close(op.fd);
    result = 0;
    break;
  case ring_op::accept: result = network_->try_accept(op, this); break;
  case ring_op::receive: result = network_->try_receive(op, x->done); break;
  default: result = network_->try_send(op, x->done); break;
  }
  const auto transfer = op.op == ring_op::receive || op.op == ring_op::send;
  if (transfer && result > 0) {
    x->done += static_cast<uint64_t>(result);
    // With MSG_WAITALL only all of it, the end of the stream or an error ends it.
    if ((op.flags & MSG_WAITALL) && x->done < detail::bytes_of(op))
      result = simulated_network::would_block;
  }
  if (result == simulated_network::would_block && x->no_waiting)
    result = -ECANCELED;
  if (result == simulated_network::would_block) {
    parked_.push_back(std::move(x));
    return false;
  }
  x->error = transfer && x->done > 0 ? static_cast<int32_t>(x->done) : result;
  return true;
}

void simulated_ring::end(entry_pointer x, int32_t result) {
  auto& op = *x->x;
  world_.note(static_cast<uint64_t>(op.op), op.offset + static_cast<uint64_t>(op.fd),
              static_cast<uint64_t>(static_cast<int64_t>(result)));
  x.reset();
  finish(op, result);
}

void simulated_ring::run(entry_pointer x) {
  auto& op = *x->x;
  if (x->cancelled)
    return end(std::move(x), -ECANCELED);
  if (op.op == ring_op::timeout)
    return end(std::move(x), -ETIME);
  if (is_socket_op(op.op) || (op.op == ring_op::close && simulated_network::is_socket(op.fd))) {
    if (x->error || !network_)
      return end(std::move(x), -EBADF);
    if (run_socket(x)) {
      const auto result = x->error;
      end(std::move(x), result);
    }
    return;
  }
  if (!disk_)
    return end(std::move(x), -ENODEV);
  if (x->ends != boot_time{0}) {
    // The first part. Not where it may run out of room: then the rest must not be there.
    const auto due = std::exchange(x->ends, boot_time{0});
    if (x->error == 0 && disk_->check(op) == 0 && (op.op == ring_op::read || disk_->has_room(op))) {
      move_some(*x, 0.5);
      world_.note(100, op.offset);
    }
    return plan(std::move(x), due);
  }
  auto result = x->error ? x->error : disk_->check(op);
  if (result == 0) {
    result = carry_out(*x);
  } else if (op.op == ring_op::write && result == -EIO && x->moved.size() > 0) {
    x->error = 0;
    move_some(*x, 0.5);
  } else if (op.op == ring_op::sync) {
    disk_->fail_sync(op.fd, x->mark);
  }
  end(std::move(x), result);
}

boot_time simulated_ring::next_event(bool timeouts) const noexcept {
  if (dead_ || paused_)
    return boot_time::max();
  auto result = scheduled_.empty() ? boot_time::max() : scheduled_.begin()->first.first;
  if (timeouts && !timeouts_.empty())
    result = std::min(result, timeouts_.begin()->first.first);
  return result;
}

void simulated_ring::wait(boot_time deadline) {
  while (auto* x = queued_.pop())
    hand_on(*x);
  const auto woken = woken_.exchange(false, std::memory_order_acq_rel);
  if (!woken && !dead_ && deadline > now() && next_event(true) > world_.now()) {
    const auto next = std::min(clock_.world(deadline), world_.next_event(true));
    if (next != boot_time::max())
      world_.set_now(next);
  }
  // Each due event once; what they lead to comes with the next wait.
  const auto last = std::pair{world_.now(), world_.sequence_};
  const auto due = [&](const schedule& where) { return !where.empty() && where.begin()->first <= last; };
  while (!dead_ && (due(scheduled_) || due(timeouts_))) {
    auto& where = !due(timeouts_) || (due(scheduled_) && scheduled_.begin()->first < timeouts_.begin()->first)
                    ? scheduled_
                    : timeouts_;
    auto x = std::move(where.begin()->second);
    where.erase(where.begin());
    run(std::move(x));
  }
}

void simulated_ring::retry(int fd) {
  for (size_t i = 0; i < parked_.size();)
    if (parked_[i]->x->fd == fd) {
      auto x = std::move(parked_[i]);
      parked_.erase(parked_.begin() + static_cast<ptrdiff_t>(i));
      const auto due = world_.now() + latency_of(*x->x);
      plan(std::move(x), due);
    } else {
      ++i;
    }
}

void simulated_ring::release_hung() {
  for (auto& x : std::exchange(hung_, {})) {
    if (is_transfer(x->x->op)) {
      x->length = detail::bytes_of(*x->x);
      x->moved.assign(x->length == 0 ? 0 : (x->x->offset + x->length - 1) / page_size - x->x->offset / page_size + 1,
                      false);
    }
    const auto due = world_.now() + latency_of(*x->x);
    plan(std::move(x), due);
  }
}

void simulated_ring::apply_some_in_flight() {
  auto& random = world_.random();
  for (auto& [due, x] : scheduled_) {
    auto& op = *x->x;
    if (x->error || x->cancelled || is_socket_op(op.op) || op.op == ring_op::read || op.op == ring_op::close ||
        disk_->check(op) != 0)
      continue;
    if (op.op == ring_op::write) {
      if (disk_->has_room(op))
        move_some(*x, 0.5);
    } else if (random.chance(0.5)) {
      carry_out(*x);
    }
  }
}

void simulated_ring::die() {
  if (dead_)
    return;
  dead_ = true;
  while (auto* x = queued_.pop())
    abandon(*x);
  for (auto* where : {&scheduled_, &timeouts_})
    for (auto& [due, x] : *where)
      abandon(*x->x);
  for (auto* where : {&parked_, &hung_})
    for (auto& x : *where)
      abandon(*x->x);
  scheduled_.clear();
  timeouts_.clear();
  parked_.clear();
  hung_.clear();
  disk_ = nullptr;
  if (network_)
    network_->close_all_of(this);
  std::erase_if(world_.reactors_, [&](const auto& x) { return x.first == this; });
}

} // namespace varve
