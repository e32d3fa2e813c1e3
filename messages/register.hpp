#pragma once

#include <caf/actor_system_config.hpp>

namespace varve {

/// Names every type that a message carries, once for each actor system: CAF 0.17 sends an unregistered one to another
/// node as nothing, without an error. Also teaches CAF to print our errors. (CAF 0.18 and later: type id blocks
/// instead.)
caf::actor_system_config& add_messages(caf::actor_system_config& config);

} // namespace varve
