#include "runtime/reactor/simulated_network.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "runtime/reactor/simulated_ring.hpp"

namespace varve {

namespace {

// Calls f(byte&) for `count` bytes from the `at`th on.
template <class F>
void for_bytes(const ring_operation& x, uint64_t at, uint64_t count, F f) {
  for (uint32_t i = 0; i < x.vector_count && count > 0; ++i) {
    const auto& vector = x.vectors[i];
    if (at >= vector.iov_len) {
      at -= vector.iov_len;
      continue;
    }
    for (; at < vector.iov_len && count > 0; ++at, --count)
      f(static_cast<std::byte*>(vector.iov_base)[at]);
    at = 0;
  }
}

} // namespace

simulated_network::~simulated_network() {
  for (auto* ring : rings_)
    ring->network_ = nullptr;
}

std::pair<int, int> simulated_network::pair() {
  const auto a = next_fd_++, b = next_fd_++;
  ends_[a].peer = b;
  ends_[b].peer = a;
  return {a, b};
}

int simulated_network::listen(const std::string& address, int host) {
  const auto fd = next_fd_++;
  ends_[fd].listens_at = address;
  ends_[fd].host = host;
  return fd;
}

int simulated_network::connect(const std::string& address, int host) {
  for (auto& [fd, end] : ends_)
    if (!end.listens_at.empty() && end.listens_at == address) {
      if (is_cut(host, end.host) || is_cut(end.host, host))
        return -EHOSTUNREACH;
      auto [mine, theirs] = pair();
      ends_[mine].host = ends_[theirs].peer_host = host;
      ends_[theirs].host = ends_[mine].peer_host = end.host;
      end.backlog.push_back(theirs);
      changed(fd);
      return mine;
    }
  return -ECONNREFUSED;
}

void simulated_network::close(int fd) {
  auto found = ends_.find(fd);
  if (found == ends_.end())
    return;
  auto end = std::move(found->second);
  ends_.erase(found);
  for (auto waiting : end.backlog)
    close(waiting);
  if (auto peer = ends_.find(end.peer); peer != ends_.end()) {
    peer->second.peer = -1;
    if (is_cut(end.host, peer->second.host))
      peer->second.end_held_back = true;
    else
      changed(peer->first);
  }
  changed(fd);
}

void simulated_network::cut(int from, int to, bool on) {
  if (on) {
    cuts_.emplace(from, to);
    return;
  }
  cuts_.erase({from, to});
  std::vector<int> again;
  for (auto& [fd, end] : ends_) {
    // Whoever waits for room, or for the end.
    if (end.host == from && end.peer_host == to)
      again.push_back(fd);
    if (end.host == to && end.peer_host == from && std::exchange(end.end_held_back, false))
      again.push_back(fd);
  }
  for (auto fd : again)
    changed(fd);
}

size_t simulated_network::push(int fd, std::span<const std::byte> bytes) {
  auto found = ends_.find(fd);
  if (found == ends_.end() || found->second.peer < 0)
    return 0;
  auto& inbox = ends_[found->second.peer].inbox;
  const auto count = std::min(bytes.size(), options_.buffer_bytes - std::min(options_.buffer_bytes, inbox.size()));
  inbox.insert(inbox.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(count));
  if (count)
    changed(found->second.peer);
  return count;
}

std::vector<std::byte> simulated_network::pull(int fd, size_t bytes_max) {
  auto found = ends_.find(fd);
  if (found == ends_.end())
    return {};
  auto& inbox = found->second.inbox;
  const auto end = inbox.begin() + static_cast<ptrdiff_t>(std::min(bytes_max, inbox.size()));
  std::vector<std::byte> result(inbox.begin(), end);
  inbox.erase(inbox.begin(), end);
  if (!result.empty() && found->second.peer >= 0)
    changed(found->second.peer);
  return result;
}

size_t simulated_network::readable(int fd) const {
  auto found = ends_.find(fd);
  return found == ends_.end() ? 0 : found->second.inbox.size();
}

bool simulated_network::ended(int fd) const {
  auto found = ends_.find(fd);
  return found == ends_.end() || (found->second.peer < 0 && found->second.inbox.empty());
}

int32_t simulated_network::try_receive(const ring_operation& x, uint64_t done) {
  auto found = ends_.find(x.fd);
  if (found == ends_.end())
    return -EBADF;
  auto& end = found->second;
  if (end.inbox.empty())
    return end.peer < 0 && !end.end_held_back ? 0 : would_block;
  auto count = std::min<uint64_t>(detail::bytes_of(x) - done, end.inbox.size());
  if (count > 1 && !(x.flags & MSG_WAITALL) && world_.random().chance(options_.short_chance))
    count = world_.random().between(1, count - 1);
  auto next = end.inbox.begin();
  for_bytes(x, done, count, [&](std::byte& to) { to = *next++; });
  end.inbox.erase(end.inbox.begin(), next);
  if (end.peer >= 0)
    changed(end.peer);
  return static_cast<int32_t>(count);
}

int32_t simulated_network::try_send(const ring_operation& x, uint64_t done) {
  auto found = ends_.find(x.fd);
  if (found == ends_.end())
    return -EBADF;
  if (found->second.end_held_back || is_cut(found->second.host, found->second.peer_host))
    return would_block;
  if (found->second.peer < 0)
    return -EPIPE;
  auto& inbox = ends_[found->second.peer].inbox;
  if (inbox.size() >= options_.buffer_bytes)
    return would_block;
  auto count = std::min<uint64_t>(detail::bytes_of(x) - done, options_.buffer_bytes - inbox.size());
  if (count > 1 && !(x.flags & MSG_WAITALL) && world_.random().chance(options_.short_chance))
    count = world_.random().between(1, count - 1);
  for_bytes(x, done, count, [&](std::byte from) { inbox.push_back(from); });
  changed(found->second.peer);
  return static_cast<int32_t>(count);
}

int32_t simulated_network::try_accept(const ring_operation& x, simulated_ring* owner) {
  auto found = ends_.find(x.fd);
  if (found == ends_.end())
    return -EBADF;
  auto& backlog = found->second.backlog;
  if (found->second.listens_at.empty())
    return -EINVAL;
  if (backlog.empty())
    return would_block;
  const auto result = backlog.front();
  backlog.pop_front();
  own(result, owner);
  return result;
}

void simulated_network::own(int fd, simulated_ring* owner) {
  if (auto found = ends_.find(fd); found != ends_.end() && !found->second.owner)
    found->second.owner = owner;
}

void simulated_network::close_all_of(simulated_ring* owner) {
  std::vector<int> theirs;
  for (auto& [fd, end] : ends_)
    if (end.owner == owner)
      theirs.push_back(fd);
  for (auto fd : theirs)
    close(fd);
}

void simulated_network::changed(int fd) {
  for (auto* ring : rings_)
    ring->retry(fd);
}

} // namespace varve
