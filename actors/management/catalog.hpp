#pragma once

#include <map>
#include <string>
#include <vector>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"
#include "runtime/caf/returned.hpp"

namespace varve {

/// The interface, and what the actor says to itself.
using catalog_self = catalog_actor::extend<caf::reacts_to<returned>>::extend_with<inspected_actor>;

/// Hands batches to the store and answers when the store has; gives numbers of its counters. Keeps nothing: the store
/// is the truth, also after a restart.
class catalog_state {
public:
  static inline const char* name = "varve.catalog";
  explicit catalog_state(catalog_self::pointer self) : self_(self) {}
  catalog_self::behavior_type make_behavior(context_ptr context);

private:
  caf::typed_response_promise<uint64_t> commit(catalog_batch& batch);
  caf::typed_response_promise<catalog_page> list(std::string& prefix, std::string& after, uint64_t limit);
  caf::typed_response_promise<uint64_t> incarnation();
  caf::typed_response_promise<uint64_t> take(const std::string& counter, uint64_t count);
  /// For all that wait for numbers of it at that moment.
  void take_for_all(const std::string& counter, unsigned attempts);
  void raise_incarnation(caf::typed_response_promise<uint64_t> promise, unsigned attempts);

  actor_facts facts() const;

  catalog_self::pointer self_;
  context_ptr context_;
  /// The highest that the store has told, and how much it has not answered yet: for people only.
  uint64_t revision_ = 0;
  uint64_t pending_ = 0, commits_ = 0, refused_ = 0;
  struct taker {
    uint64_t count = 0;
    caf::typed_response_promise<uint64_t> promise;
  };
  /// Who waits for numbers of which counter; while one is here the store is being asked. Bounded.
  std::map<std::string, std::vector<taker>> takers_;
};

catalog_self::behavior_type catalog(catalog_self::stateful_pointer<catalog_state> self, context_ptr context);

} // namespace varve
