#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "runtime/remote/session_keys.hpp"

namespace varve {

/// One session of a reactor of this node at a reactor of another.
struct remote_session_state {
  bool open = false;
  /// Why it is not, for people.
  std::string why;
};

/// What the actors tell the data path of the other nodes of the cluster: who may do I/O on this node's shards, and with
/// which keys this node does I/O on theirs. Any thread; `set_key` and `allow` count from when they are called, on every
/// reactor that they concern.
class remote_io {
public:
  virtual ~remote_io() = default;

  /// How many reactors this node has. Each listens at the data port plus its number, and serves the volumes whose
  /// number modulo this is its own.
  virtual uint32_t reactors() const noexcept = 0;

  /// Lets a key open sessions at one of this node's reactors; again: with a new expiry.
  virtual void allow(uint32_t reactor, session_key key) = 0;
  /// Opens nothing any more, and what it has opened ends.
  virtual void disallow(uint32_t reactor, uint64_t key) = 0;

  /// The key with which this node's reactor `own` opens sessions at reactor `theirs` of `node`, which listens at the
  /// node's data address, its port plus `port`. Again: a newer one. Before the first there is no session, and requests
  /// wait.
  virtual void set_key(const std::string& node, uint32_t theirs, uint32_t own, uint16_t port, session_key key) = 0;
  /// How many reactors the node has: known with its keys. Another number after the node's restart: the sessions of the
  /// old ones end.
  virtual void set_reactors(const std::string& node, uint32_t count) = 0;

  /// Called whenever a session opens or ends, on a reactor's thread: must only pass it on. Null ends it.
  virtual void
  on_session(std::function<void(std::string node, uint32_t theirs, uint32_t own, remote_session_state state)> told) = 0;
};

} // namespace varve
