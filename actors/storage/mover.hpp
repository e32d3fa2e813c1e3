#pragma once

#include <map>
#include <memory>
#include <vector>

#include "actors/node_context.hpp"
#include "actors/storage/move_book.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

using mover_self = mover_actor::extend<caf::reacts_to<returned>>::extend_with<inspected_actor>;

/// Has this node's data plane do its part of moves, for whoever manages them. What is asked again while it is under way
/// is answered with it.
class mover_state {
public:
  static inline const char* name = "varve.mover";
  explicit mover_state(mover_self::pointer self) : self_(self) {}
  mover_self::behavior_type make_behavior(context_ptr context, std::shared_ptr<move_book> book);

private:
  /// Acts of one kind that are under way, with all who wait for each.
  template <class T>
  using waiting = std::map<migration_id, std::vector<caf::typed_response_promise<T>>>;

  caf::typed_response_promise<void> start(const move_ends& ends);
  caf::typed_response_promise<copy_round> copy(const move_ends& ends, uint64_t bytes_max);
  caf::typed_response_promise<switch_result> seal(const move_ends& ends);
  caf::typed_response_promise<caf::timespan> end(const move_ends& ends, bool committed);
  /// errc::stale_epoch when somebody of a higher term has asked.
  caf::error check(mover_term term);
  /// Whether it is the first, so that the act is to begin.
  template <class T>
  static bool join(waiting<T>& acts, migration_id id, caf::typed_response_promise<T> promise);
  template <class T, class F>
  static void answer(waiting<T>& acts, migration_id id, F f);

  mover_self::pointer self_;
  context_ptr context_;
  std::shared_ptr<move_book> book_;
  waiting<void> starting_;
  waiting<copy_round> copying_;
  waiting<switch_result> sealing_;
  waiting<caf::timespan> committing_, aborting_;
};

/// `book` is the node's one, which lives as long as its storage is served.
mover_self::behavior_type mover(mover_self::stateful_pointer<mover_state> self, context_ptr context,
                                std::shared_ptr<move_book> book);

} // namespace varve
