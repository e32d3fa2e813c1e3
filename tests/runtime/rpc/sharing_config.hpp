#pragma once

#include <caf/actor_system_config.hpp>

namespace varve {

/// With the scheduler that nodes run on.
struct sharing_config : caf::actor_system_config {
  sharing_config() { set("scheduler.policy", caf::atom("sharing")); }
};

} // namespace varve
