#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include <caf/stateful_actor.hpp>

#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

/// What the actors' root is now; replaced when it is started again. Any thread.
class root_place {
public:
  /// Invalid between two lives.
  node_root_actor get() const {
    std::lock_guard guard{mutex_};
    return actor_;
  }
  void set(node_root_actor x) {
    std::lock_guard guard{mutex_};
    actor_ = std::move(x);
  }

private:
  mutable std::mutex mutex_;
  node_root_actor actor_;
};

struct root_keeper_state {
  static inline const char* name = "varve.node-keeper";
};

/// Starts node_root, puts it into the directory and the tree, and starts it again when it dies, until it dies too
/// often: then the process ends, for its own supervisor. `give_up` is called once, on a thread of the actors.
caf::behavior root_keeper(caf::stateful_actor<root_keeper_state>* self, context_ptr context,
                          std::shared_ptr<root_place> place, std::function<void()> give_up);

} // namespace varve
