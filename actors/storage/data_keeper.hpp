#pragma once

#include <chrono>
#include <memory>

#include "actors/node_context.hpp"
#include "actors/storage/key_book.hpp"
#include "messages/interfaces.hpp"

namespace varve {

using data_keeper_self = data_keeper_actor::extend_with<inspected_actor>;

/// Hands out the keys with which the reactors of other nodes open sessions at this node's, and tells those which keys
/// there are. A node with storage may do what its data plane needs for moves, one that is only a host may read and
/// write.
class data_keeper_state {
public:
  static inline const char* name = "varve.data-keeper";
  /// Of a key, unless it is asked for again; which is at a third of it.
  static constexpr caf::timespan term = std::chrono::seconds{60};

  explicit data_keeper_state(data_keeper_self::pointer self) : self_(self) {}
  data_keeper_self::behavior_type make_behavior(context_ptr context, std::shared_ptr<key_book> book);

private:
  caf::result<data_access> get(const data_access_request& x);

  data_keeper_self::pointer self_;
  context_ptr context_;
  std::shared_ptr<key_book> book_;
};

/// `book` is the node's one, which lives as long as its storage is served.
data_keeper_self::behavior_type data_keeper(data_keeper_self::stateful_pointer<data_keeper_state> self,
                                            context_ptr context, std::shared_ptr<key_book> book);

} // namespace varve
