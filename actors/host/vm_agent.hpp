#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <caf/typed_event_based_actor.hpp>

#include "actors/host/need_book.hpp"
#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, route_need& x) {
  return f(caf::meta::type_name("varve::route_need"), x.volume, x.first, x.count, x.write);
}

/// Where the VM finds a volume of that name.
attachment attachment_of(const node_context& context, volume_id volume, const std::string& name, holder_id holder);

using vm_agent_self = vm_agent_actor::extend<
  // The port's requests wait for these routes.
  caf::reacts_to<atom::need, std::vector<route_need>>,
  // Timers, with what they were set for: opening the port (again), the keep-alive, refused needs.
  caf::reacts_to<atom::open, uint64_t>, caf::reacts_to<atom::renew, uint64_t>, caf::reacts_to<atom::tick, uint64_t>,
  caf::reacts_to<returned>>::extend_with<inspected_actor>;

/// Serves one attachment of a volume: opens its port, gets the leases that its requests need, keeps them alive and
/// turns them into routes. It may die at any time: routes stay valid until their term, the port stays open, and the
/// next agent of the same holder takes both over.
class vm_agent_state {
public:
  static inline const char* name = "varve.vm-agent";
  explicit vm_agent_state(vm_agent_self::pointer self) : self_(self) {}
  vm_agent_self::behavior_type make_behavior(context_ptr context, volume_id volume, holder_id holder);

private:
  caf::result<attachment> get();
  caf::typed_response_promise<void> resize(uint64_t size_bytes);
  caf::typed_response_promise<void> detach(bool force);
  caf::typed_response_promise<void> revoke(shard_id first, uint64_t count);
  caf::typed_response_promise<void> lower(shard_id shard);
  void refresh(const shard_home& home);
  void need(const std::vector<route_need>& needs);

  void open(uint64_t round);
  void open_port(const volume_record& record);
  void open_failed(const caf::error& e);
  void opened();
  void pump();
  actor_facts facts() const;
  void acquire(const need_book::range& range);
  /// Whether all of a range exists and is leased for reading.
  bool reads_all(const need_book::range& range) const;
  void forget(const need_book::range& range);
  /// Of the acquire that was numbered so: whether it still waits for its answer. From now on it does not.
  bool answered(uint64_t number) { return acquiring_.erase(number) > 0; }
  void on_down(const caf::down_msg& x);
  void granted(const need_book::range& range, boot_time asked_at, const std::vector<lease_grant>& grants);
  /// Adds a run's route, but for the shards in it that have come to exist since the manager looked.
  void add_run(const route& run, std::vector<route>& routes);
  void refused(const need_book::range& range, const caf::error& e);
  void keep_alive_within(caf::timespan in);
  void renew(uint64_t round);
  void renewed(boot_time asked_at, const lease_renewal& x);
  /// Whether the number is not an earlier manager's. With a higher one than before all that is held is asked for again.
  bool heard(uint64_t revision);
  void hold(bool exists, const route& x) { held_.insert_or_assign({x.first.value(), exists}, held_route{x, round_}); }
  void acquire_all_again();
  void port_closed(errc status);
  void release_leases(unsigned attempts);
  void record_end(unsigned attempts);
  void detached(const caf::error& e);
  void on_exit(const caf::exit_msg& x);
  template <class F>
  void later(unsigned attempts, F f);

  struct held_route : route {
    uint64_t round = 0;
  };
  /// Where a route begins, and whether its shard exists: a run of absent shards may lie around existing ones.
  using route_key = std::pair<uint64_t, bool>;

  vm_agent_self::pointer self_;
  context_ptr context_;
  volume_id volume_;
  holder_id holder_;
  attachment attachment_;
  bool open_ = false;
  unsigned open_attempts_ = 0;
  uint64_t open_round_ = 0;
  std::vector<caf::typed_response_promise<attachment>> waiting_for_port_;

  need_book book_;
  uint64_t tick_round_ = 0;
  /// An acquire that waits for its answer, and who owes it.
  struct acquiring {
    need_book::range range;
    caf::actor_addr manager;
  };
  std::map<uint64_t, acquiring> acquiring_;
  uint64_t acquires_ = 0;
  /// The manager whose death would be told.
  caf::actor_addr watched_;
  /// What was granted and not taken back, as the data plane has it.
  std::map<route_key, held_route> held_;
  /// Shards granted as existing while acquires were under way: an answer that was found before and comes after may
  /// still call them absent, and would read as zeros what was written.
  std::set<uint64_t> made_;

  uint64_t renew_round_ = 0;
  /// When the next one is sent, if one is armed.
  std::optional<boot_time> keep_alive_at_;
  unsigned renew_attempts_ = 0;
  /// Of lease_renewal, the highest heard; 0: none yet. With a higher one `round_` rises: what was granted in an earlier
  /// round may be lost, and is not extended before it is granted again.
  uint64_t revision_ = 0, round_ = 0;

  bool detaching_ = false;
  std::vector<caf::typed_response_promise<void>> waiting_for_detach_;
};

vm_agent_self::behavior_type vm_agent(vm_agent_self::stateful_pointer<vm_agent_state> self, context_ptr context,
                                      volume_id volume, holder_id holder);

} // namespace varve
