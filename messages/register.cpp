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
  add.operator()<inspected_actor>("varve::inspected_actor");
  add.operator()<catalog_actor>("varve::catalog_actor");
  add.operator()<volume_actor>("varve::volume_actor");
  add.operator()<volume_directory_actor>("varve::volume_directory_actor");
  add.operator()<lease_holder_actor>("varve::lease_holder_actor");
  add.operator()<lease_manager_actor>("varve::lease_manager_actor");
  add.operator()<migration_supervisor_actor>("varve::migration_supervisor_actor");
  add.operator()<placement_actor>("varve::placement_actor");
  add.operator()<tier_actor>("varve::tier_actor");
  add.operator()<vm_agent_actor>("varve::vm_agent_actor");
  add.operator()<host_supervisor_actor>("varve::host_supervisor_actor");
  add.operator()<monitor_actor>("varve::monitor_actor");
  add.operator()<membership_actor>("varve::membership_actor");
  add.operator()<attachments_actor>("varve::attachments_actor");
  add.operator()<data_keeper_actor>("varve::data_keeper_actor");
  add.operator()<mover_actor>("varve::mover_actor");
  add.operator()<node_gate_actor>("varve::node_gate_actor");
  add.operator()<node_steward_actor>("varve::node_steward_actor");
  add.operator()<node_root_actor>("varve::node_root_actor");
  config.add_error_category(caf::atom("varve"), [](uint8_t code, caf::atom_value, const caf::message& context) {
    std::string result = to_string(static_cast<errc>(code));
    if (context.match_elements<std::string>() && !context.get_as<std::string>(0).empty())
      result += ": " + context.get_as<std::string>(0);
    return result;
  });
  return config;
}

} // namespace varve
