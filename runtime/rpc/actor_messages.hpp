#pragma once

#include <string>
#include <vector>

#include "messages/console.hpp"
#include "runtime/rpc/gateway.hpp"

namespace varve {

/// What actors of a kind ("varve.tier") may be sent by people; empty when nothing.
std::vector<actor_message> messages_of(const std::string& kind);

/// Whether arguments fit a message: errc::invalid_argument, which says what was expected.
caf::error check_arguments(const actor_message& to, const std::vector<argument_value>& arguments);

/// Sends a message to the actor of that kind at `local`, a path of the directory: errc::not_found for a kind or a
/// message that is not known, errc::invalid_argument; else as the actor answers.
void send_message(const gateway& by, const std::string& kind, const std::string& local, const std::string& message,
                  const std::vector<argument_value>& arguments, answer<actor_facts> done);

} // namespace varve
