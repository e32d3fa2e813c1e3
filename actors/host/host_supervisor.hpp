#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <caf/typed_event_based_actor.hpp>

#include "actors/host/vm_agent.hpp"
#include "actors/node_context.hpp"
#include "actors/supervision/children.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

using host_supervisor_self = host_supervisor_actor::extend<
  // Looks for attachments that the catalog knows and no agent serves, and the other way round: (round).
  caf::reacts_to<atom::open, uint64_t>,
  // Whether the manager is another now, or an attach is in doubt.
  caf::reacts_to<atom::tick>, caf::reacts_to<returned>, VARVE_SUPERVISOR_MESSAGES>::extend_with<inspected_actor>;

/// Attaches volumes to the VMs of this host: one agent for each. After a restart, of its own or of the node, it starts
/// the agents of all volumes that the catalog says are attached, as the holders that they were. With each manager that
/// it finds it compares again: what was given up while nobody heard of this host is served no longer.
class host_supervisor_state {
public:
  static inline const char* name = "varve.host-supervisor";
  explicit host_supervisor_state(host_supervisor_self::pointer self) : self_(self) {}
  host_supervisor_self::behavior_type make_behavior(context_ptr context);

private:
  using attach_promise = caf::typed_response_promise<attachment>;
  using done_promise = caf::typed_response_promise<void>;

  attach_promise attach(volume_id volume, bool shared);
  done_promise detach(volume_id volume, bool force);
  done_promise resize(volume_id volume, uint64_t size_bytes);
  std::vector<attachment> list() const;
  actor_facts facts() const;

  caf::result<void> revoke(shard_id first, uint64_t count);
  caf::result<void> lower(shard_id shard);
  /// No agent is there now, but what the one before gave the data path may be. Its successor asks for its own.
  caf::typed_response_promise<void> drop(shard_id first, uint64_t count);
  void refresh(const shard_home& home);
  void look();
  void restore(uint64_t round);
  void compare(const std::vector<volume_record>& records, uint64_t serves);
  /// The attach of a volume got no answer: it may have been recorded, now or a little later.
  void settle_doubt(volume_id volume);
  void stop_serving(volume_id volume);
  void take_holder(volume_id volume, bool shared);
  void record(volume_id volume, const volume_attachment& to, bool shared);
  /// The catalog says that the volume is attached here: serves it, then answers whoever asked.
  void serve(const volume_record& record);
  void await_port(volume_id volume);
  void attach_failed(volume_id volume, const caf::error& e, bool recorded);
  void end_record(volume_id volume, holder_id holder, done_promise promise);
  void open(volume_id volume, std::function<void(volume_actor)> then, std::function<void(const caf::error&)> refused);

  host_supervisor_self::pointer self_;
  context_ptr context_;
  std::optional<children> children_;
  std::map<volume_id, attachment> attached_;
  /// Attaches under way, with everyone who asked for the same.
  std::map<volume_id, std::vector<attach_promise>> attaching_;
  /// When each was begun to be served, counted: an older listing says nothing of it.
  std::map<volume_id, uint64_t> served_;
  uint64_t serves_ = 0;
  /// Attaches in doubt, and how often they are still asked after.
  std::map<volume_id, unsigned> doubtful_;
  /// The manager's volumes with which all was compared; none: to be compared again.
  caf::actor_addr compared_with_;
  bool comparing_ = false;
  unsigned restore_attempts_ = 0;
  uint64_t restore_round_ = 0;
};

host_supervisor_self::behavior_type host_supervisor(host_supervisor_self::stateful_pointer<host_supervisor_state> self,
                                                    context_ptr context);

} // namespace varve
