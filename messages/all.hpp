#pragma once

#include "messages/interfaces.hpp"
#include "messages/stock.hpp"

namespace varve {

/// Calls f.template operator()<T>(name) for every value type of ours that a message carries: the one list that
/// registration and the round-trip test go by.
template <class F>
void for_each_message_type(F&& f) {
#define VARVE_MESSAGE(type) f.template operator()<type>("varve::" #type)
  // Not errc: CAF makes an error of it, which it knows how to send.
  VARVE_MESSAGE(volume_id);
  VARVE_MESSAGE(shard_index);
  VARVE_MESSAGE(generation);
  VARVE_MESSAGE(epoch);
  VARVE_MESSAGE(lease_id);
  VARVE_MESSAGE(migration_id);
  VARVE_MESSAGE(holder_id);
  VARVE_MESSAGE(shard_id);
  VARVE_MESSAGE(catalog_entry);
  VARVE_MESSAGE(catalog_comparison);
  VARVE_MESSAGE(catalog_change);
  VARVE_MESSAGE(catalog_batch);
  VARVE_MESSAGE(catalog_page);
  VARVE_MESSAGE(lease_mode);
  VARVE_MESSAGE(term_limit);
  VARVE_MESSAGE(lease_change);
  VARVE_MESSAGE(lease_request);
  VARVE_MESSAGE(lease_grant);
  VARVE_MESSAGE(tier_inventory);
  VARVE_MESSAGE(lease_gap);
  VARVE_MESSAGE(lease_renewal);
  VARVE_MESSAGE(holder_renewal);
  VARVE_MESSAGE(tier_renewal);
  VARVE_MESSAGE(renewal_terms);
  VARVE_MESSAGE(lease_event);
  VARVE_MESSAGE(lease_history);
  VARVE_MESSAGE(lease_info);
  VARVE_MESSAGE(migration_state);
  VARVE_MESSAGE(migration_spec);
  VARVE_MESSAGE(migration_record);
  VARVE_MESSAGE(migration_progress);
  VARVE_MESSAGE(mover_term);
  VARVE_MESSAGE(move_ends);
  VARVE_MESSAGE(copy_round);
  VARVE_MESSAGE(switch_result);
  VARVE_MESSAGE(data_access_request);
  VARVE_MESSAGE(data_key);
  VARVE_MESSAGE(data_access);
  VARVE_MESSAGE(actor_info);
  VARVE_MESSAGE(fact_unit);
  VARVE_MESSAGE(actor_fact);
  VARVE_MESSAGE(actor_report);
  VARVE_MESSAGE(actor_condition);
  VARVE_MESSAGE(actor_row);
  VARVE_MESSAGE(actor_inspection);
  VARVE_MESSAGE(argument_type);
  VARVE_MESSAGE(message_argument);
  VARVE_MESSAGE(actor_message);
  VARVE_MESSAGE(sent_argument);
  VARVE_MESSAGE(console_message);
  VARVE_MESSAGE(health_finding);
  VARVE_MESSAGE(node_status);
  VARVE_MESSAGE(event);
  VARVE_MESSAGE(tier_info);
  VARVE_MESSAGE(found_shard);
  VARVE_MESSAGE(member_state);
  VARVE_MESSAGE(node_announcement);
  VARVE_MESSAGE(member_info);
  VARVE_MESSAGE(sensitivity);
  VARVE_MESSAGE(workload_profile);
  VARVE_MESSAGE(volume_spec);
  VARVE_MESSAGE(volume_attachment);
  VARVE_MESSAGE(volume_record);
  VARVE_MESSAGE(volume_info);
  VARVE_MESSAGE(attachment);
  VARVE_MESSAGE(shard_home);
  VARVE_MESSAGE(shard_map_part);
  VARVE_MESSAGE(shard_info);
  VARVE_MESSAGE(shard_page);
  VARVE_MESSAGE(node_condition);
  VARVE_MESSAGE(node_verdict);
  VARVE_MESSAGE(std::vector<volume_record>);
  VARVE_MESSAGE(std::vector<lease_grant>);
  VARVE_MESSAGE(std::vector<lease_info>);
  VARVE_MESSAGE(std::vector<renewal_terms>);
  VARVE_MESSAGE(std::vector<migration_id>);
  VARVE_MESSAGE(std::vector<migration_progress>);
  VARVE_MESSAGE(std::vector<shard_info>);
  VARVE_MESSAGE(std::vector<found_shard>);
  VARVE_MESSAGE(std::vector<attachment>);
  VARVE_MESSAGE(std::vector<event>);
  VARVE_MESSAGE(std::vector<node_condition>);
  VARVE_MESSAGE(std::vector<std::string>);
  VARVE_MESSAGE(std::vector<member_info>);
  VARVE_MESSAGE(std::vector<actor_info>);
  VARVE_MESSAGE(std::vector<actor_row>);
  VARVE_MESSAGE(std::vector<actor_message>);
#undef VARVE_MESSAGE
}

} // namespace varve
