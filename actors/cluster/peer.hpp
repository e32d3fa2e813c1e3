#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actors/cluster/leading.hpp"
#include "actors/cluster/needs.hpp"
#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

using peer_actor = caf::typed_actor<
  // The other node has connected, and hands over its gate: as node_gate_actor answers.
  caf::replies_to<atom::join, node_announcement, caf::strong_actor_ptr>::with<node_announcement>,
  caf::reacts_to<atom::tick, uint64_t>, caf::reacts_to<atom::renew, uint64_t>, caf::reacts_to<atom::open, std::string>,
  caf::reacts_to<returned>>::extend_with<inspected_actor>;

/// Keeps the connection to one other node, and the actors of that node that this one needs in the directory, each as
/// long as it lives: so everyone else finds them by path, as if they were here. One of the two nodes connects, again
/// after a loss, and hands its gate to the other, which waits for that.
class peer_state {
public:
  static inline const char* name = "varve.peer";
  explicit peer_state(peer_actor::pointer self) : self_(self) {}
  ~peer_state();
  peer_actor::behavior_type make_behavior(context_ptr context, std::string node, std::vector<remote_path> wanted,
                                          std::shared_ptr<leader_watch> leaders);

private:
  struct entry {
    std::string here;
    bool of_leader = false;
    caf::actor_addr actor; // invalid: not found yet
    bool asking = false;
    unsigned attempts = 0;
  };

  actor_facts facts() const;

  // Who connects.
  void connect();
  void connected(const caf::expected<node_gate_actor>& gate);
  void introduce();
  // Who waits for it.
  caf::result<node_announcement> join(const node_announcement& x, const caf::strong_actor_ptr& gate);

  void recognised(const node_announcement& x);
  /// Whether it still answers: a cut network does not say so.
  void greet();
  void greeted(const node_announcement& x);
  void not_greeted(const caf::error& e);
  /// Under which number it manages, and so whether its actors are the ones to talk to.
  void led(uint64_t term);
  void open(const std::string& there);
  void open_later(const std::string& there);
  void found(const std::string& there, const caf::strong_actor_ptr& actor);
  void on_down(const caf::down_msg& x);
  void lost(const std::string& why);
  void drop_gate();
  void complain(const std::string& why);
  void forget(entry& x);

  peer_actor::pointer self_;
  context_ptr context_;
  std::string node_;
  bool dials_ = false;
  std::shared_ptr<leader_watch> leaders_;
  std::map<std::string, entry> wanted_; // by the path there
  node_gate_actor gate_;
  /// Of the connection, or the try at one: what was asked under an earlier one is not listened to.
  uint64_t round_ = 0;
  unsigned attempts_ = 0;
  bool known_ = false;       // the node said who it is
  uint64_t incarnation_ = 0; // the latest life that was heard
  uint64_t leads_ = 0;       // it manages, and nobody later is known
  std::string trouble_;      // what was said last, so that it is said once
};

peer_actor::behavior_type peer(peer_actor::stateful_pointer<peer_state> self, context_ptr context, std::string node,
                               std::vector<remote_path> wanted, std::shared_ptr<leader_watch> leaders);

} // namespace varve
