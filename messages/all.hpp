#pragma once

#include "messages/interfaces.hpp"
#include "messages/lists.hpp"
#include "messages/stock.hpp"

namespace varve {

/// Calls f.template operator()<T>(name) for every value type of ours that a message carries: the one list that
/// registration and the round-trip test go by.
template <class F>
void for_each_message_type(F&& f) {
#define VARVE_MESSAGE(type) f.template operator()<type>(#type);
  VARVE_MESSAGE_TYPES(VARVE_MESSAGE)
#undef VARVE_MESSAGE
}

} // namespace varve
