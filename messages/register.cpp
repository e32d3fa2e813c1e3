#include "messages/register.hpp"

#include "messages/all.hpp"

namespace varve {

namespace {

struct registrar {
  caf::actor_system_config& config;

  template <class T>
  void operator()(const char* name) {
    config.add_message_type<T>(name);
  }
};

} // namespace

caf::actor_system_config& add_messages(caf::actor_system_config& config) {
  for_each_message_type(registrar{config});
  config.add_message_type<inspected_actor>("varve::inspected_actor");
  config.add_message_type<catalog_actor>("varve::catalog_actor");
  config.add_message_type<volume_actor>("varve::volume_actor");
  config.add_message_type<volume_directory_actor>("varve::volume_directory_actor");
  config.add_message_type<lease_holder_actor>("varve::lease_holder_actor");
  config.add_message_type<lease_manager_actor>("varve::lease_manager_actor");
  config.add_message_type<migration_supervisor_actor>("varve::migration_supervisor_actor");
  config.add_message_type<placement_actor>("varve::placement_actor");
  config.add_message_type<tier_actor>("varve::tier_actor");
  config.add_message_type<vm_agent_actor>("varve::vm_agent_actor");
  config.add_message_type<host_supervisor_actor>("varve::host_supervisor_actor");
  config.add_message_type<monitor_actor>("varve::monitor_actor");
  config.add_message_type<membership_actor>("varve::membership_actor");
  config.add_message_type<attachments_actor>("varve::attachments_actor");
  config.add_message_type<data_keeper_actor>("varve::data_keeper_actor");
  config.add_message_type<mover_actor>("varve::mover_actor");
  config.add_message_type<node_gate_actor>("varve::node_gate_actor");
  config.add_message_type<node_steward_actor>("varve::node_steward_actor");
  config.add_message_type<node_root_actor>("varve::node_root_actor");
  config.add_error_category(caf::atom("varve"), [](uint8_t code, caf::atom_value, const caf::message& context) {
    std::string result = to_string(static_cast<errc>(code));
    if (context.match_elements<std::string>() && !context.get_as<std::string>(0).empty())
      result += ": " + context.get_as<std::string>(0);
    return result;
  });
  return config;
}

} // namespace varve
