#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include <caf/all.hpp>
#include <caf/proxy_registry.hpp>
#include <caf/scoped_execution_unit.hpp>

#include "runtime/caf/cluster_link.hpp"
#include "runtime/reactor/simulated_world.hpp"

namespace varve::test {

struct control_options {
  /// Of a message between two nodes.
  boot_time delay_min{std::chrono::microseconds{100}}, delay_max{std::chrono::milliseconds{2}};
  /// How often one takes much longer, and how long at most; what comes behind it waits, too.
  double slow_chance = 0;
  boot_time slow_max{std::chrono::milliseconds{400}};
  /// More than a TCP connection does: messages that are lost, arrive twice, or out of order.
  double loss_chance = 0, repeat_chance = 0, reorder_chance = 0;
  /// After so long without a word that arrives a connection is given up by both ends, each for itself.
  boot_time silence{std::chrono::seconds{10}};
};

class control_end;

/// CAF networking between the actor systems of one simulation: what a TCP connection between two nodes does to CAF's
/// messages. Every message that crosses is serialised, waits, and is made anew from its bytes at the other end; actors
/// of another node are proxies, which end with the connection or with the actor. One thread.
class control_network {
public:
  explicit control_network(simulated_world& world, control_options options = {}) : world_(world), options_(options) {}
  control_network(const control_network&) = delete;

  control_options& options() noexcept { return options_; }

  /// What `from` says does not reach `to` any more (or does again).
  void cut(const std::string& from, const std::string& to, bool on);
  bool is_cut(const std::string& from, const std::string& to) const { return cuts_.count({from, to}) != 0; }

  /// When something is to be delivered or given up next; boot_time::max(): never, as it is now.
  boot_time next_event() const;
  /// Delivers what is due; whether anything was.
  bool deliver();

  /// Messages that arrived, connections that were made and that were given up for silence, so far.
  uint64_t delivered = 0, connections = 0, silenced = 0;
  /// Connections that were made between two that had one already: CAF 0.17.6 breaks then.
  uint64_t second_connections = 0;
  /// Handles of a third node's actors that a message carried: they arrive invalid.
  uint64_t third_node_handles = 0;

private:
  friend class control_end;

  enum class frame_kind : uint8_t { message, announce, down, end };
  struct frame {
    boot_time at{0};
    uint64_t sequence = 0;
    frame_kind kind = frame_kind::message;
    caf::actor_id actor = 0; // the receiver's; of announce and down: whose
    caf::message_id mid;
    std::vector<char> bytes;
    size_t elements = 0; // of the message
  };
  struct connection;
  /// Where a connection's next frame stands among those of all: when it is due, which it is, whose, who said it.
  using place = std::tuple<boot_time, uint64_t, connection*, int>;
  struct connection {
    std::shared_ptr<control_end> ends[2];
    bool open[2] = {true, true};
    std::deque<frame> from[2]; // on their way, by who said them
    /// As it stands in `due_`, by who said it.
    std::optional<place> listed[2];
    /// One of the machines is gone without a word.
    bool vanished = false;
    /// Since when nothing gets through; boot_time::max(): it does.
    boot_time blocked_since = boot_time::max();
  };
  struct attempt {
    boot_time at{0};
    std::weak_ptr<control_end> from;
    std::string to;
    std::function<void(caf::expected<node_gate_actor>)> done;
  };

  bool blocked(const connection& x) const;
  /// Whether what `from` says on it waits, however long it has been on its way.
  bool held_up(const connection& x, int from) const;
  void look_at_cuts();
  /// To be called when the first frame that `from` has said is another than before.
  void list(connection& x, int from);
  void clear(connection& x, int from);
  void remove_closed();
  void push(connection& on, int from, frame x);
  void arrive(connection& on, int from, frame x);
  void close(connection& x, int side);
  /// The one of the two that is open at `a`.
  static connection* between(const control_end* a, const control_end* b);
  static connection* between(const control_end* a, const caf::node_id& b);
  control_end* living(const std::string& node);
  void carry_out(attempt x);
  boot_time delay();

  simulated_world& world_;
  control_options options_;
  std::set<std::pair<std::string, std::string>> cuts_;
  std::vector<std::shared_ptr<connection>> connections_;
  /// The first frames of all, in the order in which they arrive if nothing holds them up. (Of equal times and numbers,
  /// which do not occur, the rest of a place says nothing.)
  std::set<place> due_;
  /// Connections on which nothing gets through; those that neither end has any more and that are to be removed.
  size_t blocked_ = 0, closed_ = 0;
  std::vector<std::shared_ptr<control_end>> ends_;
  std::vector<attempt> attempts_;
  uint64_t sequence_ = 0;
  uint32_t processes_ = 0;
};

/// The part of one process: of one life of a node.
class control_end final : public cluster_link,
                          public caf::proxy_registry::backend,
                          public std::enable_shared_from_this<control_end> {
public:
  /// Gives `system` its name, so that it is called before anything is spawned. The system outlives this end's `shut`.
  static std::shared_ptr<control_end> make(control_network& on, std::string node, caf::actor_system& system);
  ~control_end() override;

  void publish(const node_gate_actor& gate, std::function<void(caf::error)> done) override;
  void connect(const std::string& node, std::function<void(caf::expected<node_gate_actor>)> done) override;
  void disconnect(const std::string& node) override;

  /// The process is stopped (SIGSTOP): what arrives waits.
  void pause(bool on) { paused_ = on; }
  /// The process is dead: nothing leaves and nothing arrives any more. `with_a_word`: its machine lives and tells the
  /// others.
  void die(bool with_a_word);
  /// After `die`: lets go of all actors.
  void shut();

  const std::string& node() const noexcept { return node_; }
  size_t connections() const;

private:
  friend class control_network;
  friend class control_proxy;

  control_end(control_network& on, std::string node, caf::actor_system& system);
  caf::strong_actor_ptr make_proxy(caf::node_id node, caf::actor_id actor) override;
  void set_last_hop(caf::node_id*) override {}

  void say(const caf::node_id& to, caf::actor_id actor, caf::message_id mid, const caf::strong_actor_ptr& sender,
           const std::vector<caf::strong_actor_ptr>& stages, const caf::message& content);
  void hear(control_network::connection& on, int from, control_network::frame& x);

  control_network& network_;
  std::string node_;
  caf::actor_system& system_;
  caf::node_id id_;
  caf::scoped_execution_unit context_;
  std::unique_ptr<caf::proxy_registry> proxies_;
  /// Its connections by the other end, in the order of their making, with the side that is this end's.
  std::unordered_map<caf::node_id, std::vector<std::pair<control_network::connection*, int>>> by_peer_;
  /// What stands at the node's control address: the gate, whichever lives.
  caf::strong_actor_ptr gate_;
  bool dead_ = false, paused_ = false;
};

} // namespace varve::test
