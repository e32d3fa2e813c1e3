#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <caf/actor_addr.hpp>
#include <caf/actor_cast.hpp>
#include <caf/actor_control_block.hpp>

namespace varve {

/// The paths under which a node's actors are found.
namespace path {
/// node_root itself.
inline const std::string root = "node";
inline const std::string catalog = "management/catalog";
inline const std::string volumes = "management/volumes";
inline const std::string leases = "management/leases";
inline const std::string placement = "management/placement";
inline const std::string migrations = "management/migrations";
inline const std::string monitor = "management/monitor";
inline const std::string membership = "management/membership";
inline const std::string nodes = "management/nodes";
inline const std::string attachments = "management/attachments";
inline const std::string host = "host";
/// Of this node's data plane, for the others.
inline const std::string data_keeper = "data/keys";
inline const std::string mover = "data/moves";
/// The same of another node; `node` empty: of this one.
inline std::string host_of(const std::string& node) {
  return node.empty() ? host : "cluster/" + node + "/host";
}
inline std::string data_keeper_of(const std::string& node) {
  return node.empty() ? data_keeper : "cluster/" + node + "/keys";
}
inline std::string mover_of(const std::string& node) {
  return node.empty() ? mover : "cluster/" + node + "/moves";
}
inline const std::string gate = "cluster/gate";
inline const std::string announcer = "cluster/announcer";
/// Answers the consoles of other nodes; of another node.
inline const std::string console = "cluster/console";
inline std::string console_of(const std::string& node) {
  return "cluster/" + node + "/console";
}
/// Keeps this node's right to do I/O on the shards of another.
inline std::string data_link(const std::string& node) {
  return "cluster/" + node + "/data-link";
}
inline std::string peer(const std::string& node) {
  return "cluster/" + node;
}
/// Another manager's membership.
inline std::string membership_of(const std::string& node) {
  return "cluster/" + node + "/membership";
}
inline std::string volume(uint64_t id) {
  return "management/volumes/" + std::to_string(id);
}
inline std::string tier(const std::string& name) {
  return "storage/" + name;
}
inline std::string vm_agent(uint64_t volume) {
  return "host/" + std::to_string(volume);
}
} // namespace path

/// Where the actors of a node are found by path. A restarted actor stands under its old path, so whoever keeps a path
/// instead of a handle finds the living one. One per actor system, handed to every actor; any thread (the lock is
/// held for a map look-up; nothing of the data path comes here).
class directory {
public:
  /// Replaces what stands there.
  template <class Handle>
  void put(const std::string& path, const Handle& actor) {
    std::lock_guard guard{mutex_};
    actors_[path] = caf::actor_cast<caf::strong_actor_ptr>(actor);
  }

  /// Takes the entry away if it is still this actor's.
  void remove(const std::string& path, const caf::actor_addr& actor) {
    caf::strong_actor_ptr last; // released after the lock: it may end the actor
    std::lock_guard guard{mutex_};
    auto at = actors_.find(path);
    if (at == actors_.end() || !(caf::actor_cast<caf::actor_addr>(at->second) == actor))
      return;
    last = std::move(at->second);
    actors_.erase(at);
  }

  /// An invalid handle (tests false) where there is none now: answer errc::unavailable, or try again later.
  template <class Handle>
  Handle get(const std::string& path) const {
    std::lock_guard guard{mutex_};
    auto at = actors_.find(path);
    return at == actors_.end() ? Handle{} : caf::actor_cast<Handle>(at->second);
  }

  /// The paths that begin with `prefix`, in order.
  std::vector<std::string> list(const std::string& prefix) const {
    std::lock_guard guard{mutex_};
    std::vector<std::string> result;
    for (auto at = actors_.lower_bound(prefix); at != actors_.end() && at->first.starts_with(prefix); ++at)
      result.push_back(at->first);
    return result;
  }

  /// How many of them.
  size_t count(const std::string& prefix) const {
    std::lock_guard guard{mutex_};
    size_t result = 0;
    for (auto at = actors_.lower_bound(prefix); at != actors_.end() && at->first.starts_with(prefix); ++at)
      ++result;
    return result;
  }

  void clear() {
    std::map<std::string, caf::strong_actor_ptr> last;
    std::lock_guard guard{mutex_};
    last.swap(actors_);
  }

private:
  mutable std::mutex mutex_;
  std::map<std::string, caf::strong_actor_ptr> actors_;
};

} // namespace varve
