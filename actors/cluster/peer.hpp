#pragma once

#include <map>
#include <string>
#include <vector>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

/// An actor of another node, and where it is to stand in this node's directory.
struct remote_path {
  std::string there;
  std::string here;
};

using peer_actor = caf::typed_actor<caf::reacts_to<atom::tick, uint64_t>, caf::reacts_to<atom::renew, uint64_t>,
                                    caf::reacts_to<atom::open, std::string>, caf::reacts_to<returned>>;

/// Keeps the connection to one other node: connects, again after a loss, and keeps the actors of that node that this
/// one needs in the directory, each as long as it lives. So everyone else finds them by path, as if they were here.
class peer_state {
public:
  static inline const char* name = "varve.peer";
  explicit peer_state(peer_actor::pointer self) : self_(self) {}
  ~peer_state();
  peer_actor::behavior_type make_behavior(context_ptr context, std::string node, std::vector<remote_path> wanted);

private:
  struct entry {
    std::string here;
    caf::actor_addr actor; // invalid: not found yet
    unsigned attempts = 0;
  };

  void connect();
  void connected(const caf::expected<node_gate_actor>& gate);
  void recognised(const node_announcement& x);
  /// Whether it still answers: a cut network does not say so.
  void greet();
  void open(const std::string& there);
  void found(const std::string& there, const caf::strong_actor_ptr& actor);
  void on_down(const caf::down_msg& x);
  void lost(const std::string& why);
  void connect_later(const std::string& why);
  void forget(entry& x);

  peer_actor::pointer self_;
  context_ptr context_;
  std::string node_;
  std::map<std::string, entry> wanted_; // by the path there
  node_gate_actor gate_;
  /// Of the connection, or the try at one: what was asked under an earlier one is not listened to.
  uint64_t round_ = 0;
  unsigned attempts_ = 0;
  bool known_ = false;  // the node said who it is
  std::string trouble_; // what was said last, so that it is said once
};

peer_actor::behavior_type peer(peer_actor::stateful_pointer<peer_state> self, context_ptr context, std::string node,
                               std::vector<remote_path> wanted);

} // namespace varve
