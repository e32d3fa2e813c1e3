#include "messages/register.hpp"

#include "messages/all.hpp"

namespace varve {

namespace {

/// What CAF's add_message_type does for T; and not, as that does, for a vector and a stream of T too, which nobody
/// sends unless it is in the list itself: they were two thirds of two minutes of compiling.
struct registrar {
  caf::actor_system_config& config;

  template <class T>
  void operator()(const char* name) {
    config.type_names_by_rtti.emplace(typeid(T), name);
    config.value_factories_by_name.emplace(name, &caf::make_type_erased_value<T>);
    config.value_factories_by_rtti.emplace(typeid(T), &caf::make_type_erased_value<T>);
  }
};

} // namespace

caf::actor_system_config& add_messages(caf::actor_system_config& config) {
  registrar add{config};
  for_each_message_type(add);
#define VARVE_INTERFACE(type) add.operator()<type>(#type);
  VARVE_INTERFACES(VARVE_INTERFACE)
#undef VARVE_INTERFACE
  config.add_error_category(caf::atom("varve"), [](uint8_t code, caf::atom_value, const caf::message& context) {
    std::string result = to_string(static_cast<errc>(code));
    if (context.match_elements<std::string>() && !context.get_as<std::string>(0).empty())
      result += ": " + context.get_as<std::string>(0);
    return result;
  });
  return config;
}

} // namespace varve
