#pragma once

#include <caf/detail/message_data.hpp>
#include <caf/detail/tuple_vals.hpp>
#include <caf/detail/type_erased_value_impl.hpp>

#include "messages/lists.hpp"
#include "messages/stock.hpp"

/// The end of interfaces.hpp, which whoever sends messages includes. CAF 0.17 makes four classes of a few dozen virtual
/// functions for each combination of types that is sent, in each file that sends it: nearly half of what the actors'
/// files compiled to. Here most are declared to exist elsewhere; prebuilt_*.cpp define them once. (Of
/// mailbox_element_vals two functions: one of its others cannot be compiled, so nobody may ask for all of them.)
#define VARVE_INSTANTIATE_VALUE(prefix, ...) prefix template class caf::detail::type_erased_value_impl<__VA_ARGS__>;
#define VARVE_INSTANTIATE_TUPLE(prefix, ...)                                                                           \
  prefix template class caf::detail::tuple_vals_impl<caf::detail::message_data, __VA_ARGS__>;                          \
  prefix template class caf::detail::tuple_vals<__VA_ARGS__>;                                                          \
  prefix template class caf::detail::tuple_vals_impl<caf::type_erased_tuple, __VA_ARGS__>;                             \
  prefix template caf::message caf::mailbox_element_vals<__VA_ARGS__>::move_content_to_message();                      \
  prefix template caf::message caf::mailbox_element_vals<__VA_ARGS__>::copy_content_to_message() const;

#define VARVE_ELSEWHERE(...) VARVE_INSTANTIATE_VALUE(extern, __VA_ARGS__)
VARVE_MESSAGE_TYPES(VARVE_ELSEWHERE)
VARVE_COMMON_TYPES(VARVE_ELSEWHERE)
#undef VARVE_ELSEWHERE

#define VARVE_ELSEWHERE(...) VARVE_INSTANTIATE_TUPLE(extern, __VA_ARGS__)
VARVE_ANSWERS(VARVE_ELSEWHERE)
VARVE_ELSEWHERE(caf::atom_value)
#undef VARVE_ELSEWHERE

#define VARVE_ELSEWHERE(...) VARVE_INSTANTIATE_TUPLE(extern, caf::atom_value, __VA_ARGS__)
VARVE_REQUESTS(VARVE_ELSEWHERE)
#undef VARVE_ELSEWHERE
