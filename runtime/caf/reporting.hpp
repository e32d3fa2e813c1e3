#pragma once

#include <utility>

#include <caf/scheduled_actor.hpp>

#include "messages/console.hpp"

namespace varve {

/// The answer to `report`. Only within a handler of `self`: its mailbox is counted by the one thread that may.
inline actor_report report_of(caf::scheduled_actor* self, actor_facts facts) {
  return {self->mailbox().size(), std::move(facts)};
}

} // namespace varve
