#pragma once

#include <string>
#include <vector>

#include <caf/expected.hpp>

#include "messages/console.hpp"

namespace varve::console {

/// "resize SIZE"
std::string usage_of(const actor_message& x);

/// For people: "a size in bytes, such as 20GiB".
std::string expectation_of(argument_type x);

/// What was typed, as the message wants it: errc::invalid_argument, which says which argument and what was expected.
caf::expected<std::vector<argument_value>> read_arguments(const actor_message& to,
                                                          const std::vector<std::string>& words);

} // namespace varve::console
