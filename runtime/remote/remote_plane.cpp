#include "runtime/remote/remote_plane.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <fstream>

#include <unistd.h>

#include "runtime/remote/remote_address.hpp"
#include "runtime/remote/remote_reactor.hpp"

namespace varve {

uint64_t machine_boot() {
  // A UUID in hexadecimal digits: its first half is enough.
  std::ifstream file{"/proc/sys/kernel/random/boot_id"};
  uint64_t result = 0;
  for (auto digits = 0; digits < 16;) {
    const auto c = file.get();
    if (c == std::ifstream::traits_type::eof())
      break;
    if (c == '-')
      continue;
    result = result << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    ++digits;
  }
  return result;
}

remote_plane::shared::shared(remote_plane_options x)
  : options(std::move(x)), parts(options.reactors), listening(options.reactors, -1), reactors(options.nodes.size()) {
  for (uint32_t i = 0; i < options.reactors; ++i)
    keys.push_back(std::make_unique<shared_keys>());
}

remote_plane::shared::~shared() {
  for (auto fd : listening)
    if (fd >= 0)
      ::close(fd);
}

void remote_plane::shared::post(const std::shared_ptr<shared>& self, uint32_t reactor,
                                std::function<void(remote_reactor&)> f) {
  std::lock_guard guard{self->mutex};
  if (reactor >= self->parts.size() || !self->parts[reactor])
    return;
  // A part ends on its reactor's thread: one that is there when this runs is there until it is over.
  self->parts[reactor]->on().post([self, reactor, f = std::move(f)] {
    remote_reactor* part = nullptr;
    {
      std::lock_guard guard{self->mutex};
      part = self->parts[reactor];
    }
    if (part)
      f(*part);
  });
}

size_t remote_plane::shared::find(const std::string& node) const noexcept {
  const auto& all = options.nodes;
  return static_cast<size_t>(std::find_if(all.begin(), all.end(), [&](auto& x) { return x.name == node; }) -
                             all.begin());
}

std::shared_ptr<remote_plane> remote_plane::make(remote_plane_options options, std::string& problem) {
  options.reactors = std::max(options.reactors, 1u);
  if (options.server.boot == 0)
    options.server.boot = machine_boot();
  if (options.server.volatile_boot == 0) {
    std::byte x[sizeof(options.server.volatile_boot)];
    options.server.random(x);
    std::memcpy(&options.server.volatile_boot, x, sizeof(x));
  }
  auto made = std::make_shared<shared>(std::move(options));
  const auto& of = made->options;
  std::string at;
  if (!of.listen && !of.address.empty() && (at = host_names::look_up(of.address, problem)).empty()) {
    problem = "data address " + problem;
    return nullptr;
  }
  for (uint32_t i = 0; i < of.reactors && !of.listen && !of.address.empty(); ++i) {
    const auto address = i == 0 ? at : remote::port_above(at, static_cast<uint16_t>(i));
    const auto fd = address.empty() ? -EINVAL : remote::listen_tcp(address);
    if (fd < 0) {
      problem = "data address " + (address.empty() ? of.address + " and " + std::to_string(i) + " above" : address) +
                ": " + std::strerror(-fd);
      return nullptr;
    }
    made->listening[i] = fd;
    if (i == 0)
      at = remote::local_address(fd); // where any port was asked for
  }
  return std::shared_ptr<remote_plane>{new remote_plane{std::move(made)}};
}

remote_plane::~remote_plane() {
  on_session(nullptr);
}

std::function<std::unique_ptr<reactor_peers>(reactor&, uint32_t)> remote_plane::peers() {
  return [of = shared_](reactor& on, uint32_t index) -> std::unique_ptr<reactor_peers> {
    assert(index < of->options.reactors);
    return std::make_unique<remote_reactor>(on, index, of);
  };
}

std::string remote_plane::address() const {
  std::lock_guard guard{shared_->mutex};
  return shared_->listening.empty() || shared_->listening[0] < 0 ? std::string{}
                                                                 : remote::local_address(shared_->listening[0]);
}

void remote_plane::counters(std::function<void(remote_plane_counters)> done) {
  struct gathered {
    std::mutex mutex;
    remote_plane_counters made;
    size_t left = 0;
    std::function<void(remote_plane_counters)> done;
  };
  auto all = std::make_shared<gathered>();
  all->done = std::move(done);
  if (const auto& book = shared_->options.unsynced)
    all->made.unnoted_shards = book->failures();
  std::unique_lock guard{shared_->mutex};
  for (uint32_t i = 0; i < shared_->parts.size(); ++i)
    all->left += shared_->parts[i] != nullptr;
  const auto none = all->left == 0;
  for (uint32_t i = 0; i < shared_->parts.size(); ++i)
    if (shared_->parts[i])
      shared_->parts[i]->on().post([of = shared_, all, i] {
        remote_reactor* part = nullptr;
        {
          std::lock_guard guard{of->mutex};
          part = of->parts[i];
        }
        std::unique_lock guard{all->mutex};
        if (part)
          part->counters(all->made);
        if (--all->left > 0)
          return;
        guard.unlock();
        all->done(all->made);
      });
  guard.unlock();
  if (none)
    all->done({});
}

// -- remote_io

uint32_t remote_plane::reactors() const noexcept {
  return shared_->options.reactors;
}

void remote_plane::allow(uint32_t reactor, session_key key) {
  if (reactor < shared_->keys.size())
    shared_->keys[reactor]->allow(key);
}

void remote_plane::disallow(uint32_t reactor, uint64_t key) {
  if (reactor >= shared_->keys.size())
    return;
  shared_->keys[reactor]->disallow(key);
  shared::post(shared_, reactor, [key](remote_reactor& x) { x.revoke(key); });
}

void remote_plane::set_key(const std::string& node, uint32_t theirs, uint32_t own, uint16_t port, session_key key) {
  const auto at = shared_->find(node);
  if (at == shared_->options.nodes.size() || own >= shared_->options.reactors)
    return;
  {
    std::lock_guard guard{shared_->mutex};
    shared_->ways[{at, theirs, own}] = {key, port};
  }
  shared::post(shared_, own, [at, theirs](remote_reactor& x) { x.reach(at, theirs); });
}

void remote_plane::set_reactors(const std::string& node, uint32_t count) {
  const auto at = shared_->find(node);
  if (at == shared_->options.nodes.size())
    return;
  {
    std::lock_guard guard{shared_->mutex};
    shared_->reactors[at] = count;
    std::erase_if(shared_->ways, [&](auto& x) { return x.first.node == at && x.first.theirs >= count; });
  }
  for (uint32_t own = 0; own < shared_->options.reactors; ++own)
    shared::post(shared_, own, [at, count](remote_reactor& x) { x.set_reactors(at, count); });
}

void remote_plane::on_session(
  std::function<void(std::string node, uint32_t theirs, uint32_t own, remote_session_state state)> told) {
  std::lock_guard guard{shared_->told_mutex};
  shared_->told = std::move(told);
}

} // namespace varve
