#pragma once

/// What messages are made of, in lists that take a macro: registration, the round-trip test and the one compilation of
/// CAF's templates for them (prebuilt.hpp) go by these. Types by their full names: the macros expand in any namespace.

// clang-format off

/// Every value type of ours that a message carries. Not errc: CAF makes an error of it, which it knows how to send.
#define VARVE_MESSAGE_TYPES(X) \
  X(varve::volume_id) \
  X(varve::shard_index) \
  X(varve::generation) \
  X(varve::epoch) \
  X(varve::lease_id) \
  X(varve::migration_id) \
  X(varve::holder_id) \
  X(varve::shard_id) \
  X(varve::catalog_entry) \
  X(varve::catalog_comparison) \
  X(varve::catalog_change) \
  X(varve::catalog_batch) \
  X(varve::catalog_page) \
  X(varve::lease_mode) \
  X(varve::term_limit) \
  X(varve::lease_change) \
  X(varve::lease_request) \
  X(varve::lease_grant) \
  X(varve::tier_inventory) \
  X(varve::lease_gap) \
  X(varve::lease_renewal) \
  X(varve::holder_renewal) \
  X(varve::tier_renewal) \
  X(varve::renewal_terms) \
  X(varve::lease_event) \
  X(varve::lease_history) \
  X(varve::lease_info) \
  X(varve::migration_state) \
  X(varve::migration_spec) \
  X(varve::migration_record) \
  X(varve::migration_progress) \
  X(varve::mover_term) \
  X(varve::move_ends) \
  X(varve::copy_round) \
  X(varve::switch_result) \
  X(varve::data_access_request) \
  X(varve::data_key) \
  X(varve::data_access) \
  X(varve::actor_info) \
  X(varve::fact_unit) \
  X(varve::actor_fact) \
  X(varve::actor_report) \
  X(varve::actor_condition) \
  X(varve::actor_row) \
  X(varve::actor_inspection) \
  X(varve::argument_type) \
  X(varve::message_argument) \
  X(varve::actor_message) \
  X(varve::sent_argument) \
  X(varve::console_message) \
  X(varve::health_finding) \
  X(varve::node_status) \
  X(varve::event) \
  X(varve::tier_info) \
  X(varve::found_shard) \
  X(varve::member_state) \
  X(varve::node_announcement) \
  X(varve::member_info) \
  X(varve::sensitivity) \
  X(varve::workload_profile) \
  X(varve::volume_spec) \
  X(varve::volume_attachment) \
  X(varve::volume_record) \
  X(varve::volume_info) \
  X(varve::attachment) \
  X(varve::shard_home) \
  X(varve::shard_map_part) \
  X(varve::shard_info) \
  X(varve::shard_page) \
  X(varve::node_condition) \
  X(varve::node_verdict) \
  X(std::vector<varve::volume_record>) \
  X(std::vector<varve::shard_index>) \
  X(std::vector<varve::shard_home>) \
  X(std::vector<varve::lease_grant>) \
  X(std::vector<varve::lease_info>) \
  X(std::vector<varve::renewal_terms>) \
  X(std::vector<varve::migration_id>) \
  X(std::vector<varve::migration_progress>) \
  X(std::vector<varve::shard_info>) \
  X(std::vector<varve::found_shard>) \
  X(std::vector<varve::attachment>) \
  X(std::vector<varve::event>) \
  X(std::vector<varve::node_condition>) \
  X(std::vector<std::string>) \
  X(std::vector<varve::member_info>) \
  X(std::vector<varve::actor_fact>) \
  X(std::vector<varve::actor_info>) \
  X(std::vector<varve::actor_row>) \
  X(std::vector<varve::actor_message>)

/// What else CAF wraps one by one.
#define VARVE_COMMON_TYPES(X) \
  X(bool) \
  X(uint32_t) \
  X(uint64_t) \
  X(std::string) \
  X(caf::atom_value) \
  X(caf::error) \
  X(caf::exit_msg) \
  X(caf::strong_actor_ptr) \
  X(caf::timespan) \
  X(varve::lease_holder_actor) \
  X(varve::node_gate_actor) \
  X(varve::volume_actor)

/// What nodes say to each other is all in these: each type that they carry is one of the above. Not vm_agent_actor,
/// which only its own node speaks to.
#define VARVE_INTERFACES(X) \
  X(varve::inspected_actor) \
  X(varve::catalog_actor) \
  X(varve::volume_actor) \
  X(varve::volume_directory_actor) \
  X(varve::lease_holder_actor) \
  X(varve::lease_manager_actor) \
  X(varve::migration_supervisor_actor) \
  X(varve::placement_actor) \
  X(varve::tier_actor) \
  X(varve::host_supervisor_actor) \
  X(varve::monitor_actor) \
  X(varve::membership_actor) \
  X(varve::attachments_actor) \
  X(varve::data_keeper_actor) \
  X(varve::mover_actor) \
  X(varve::node_gate_actor) \
  X(varve::node_steward_actor) \
  X(varve::node_root_actor) \
  X(varve::console_actor)

/// What requests carry beside their atom, where more than one file sends it.
#define VARVE_REQUESTS(X) \
  X(varve::volume_spec) \
  X(bool) \
  X(varve::catalog_batch) \
  X(varve::event) \
  X(varve::holder_id) \
  X(varve::holder_id, varve::shard_id, uint64_t) \
  X(varve::lease_grant) \
  X(varve::lease_id, bool) \
  X(varve::lease_request, varve::lease_holder_actor) \
  X(varve::migration_id) \
  X(varve::migration_record) \
  X(varve::migration_spec) \
  X(varve::mover_term, varve::move_ends, bool) \
  X(varve::node_announcement, caf::strong_actor_ptr) \
  X(varve::shard_home) \
  X(varve::shard_home, bool) \
  X(varve::shard_home, uint64_t) \
  X(varve::shard_id) \
  X(varve::shard_id, varve::generation) \
  X(varve::shard_id, uint64_t) \
  X(varve::shard_index) \
  X(varve::shard_index, uint64_t) \
  X(std::string) \
  X(std::string, bool) \
  X(std::string, bool, bool) \
  X(std::string, std::string, uint64_t) \
  X(std::string, uint64_t) \
  X(varve::tier_renewal) \
  X(uint64_t) \
  X(uint64_t, uint64_t) \
  X(varve::volume_attachment, bool) \
  X(varve::volume_id) \
  X(varve::volume_id, bool) \
  X(varve::volume_id, std::string, bool) \
  X(varve::volume_id, uint64_t) \
  X(varve::volume_record, varve::shard_index)

/// What answers carry, where more than one file receives it.
#define VARVE_ANSWERS(X) \
  X(varve::actor_inspection) \
  X(varve::actor_report) \
  X(varve::attachment) \
  X(varve::catalog_page) \
  X(varve::copy_round) \
  X(varve::data_access) \
  X(varve::lease_grant) \
  X(varve::lease_history) \
  X(varve::lease_renewal) \
  X(varve::migration_progress) \
  X(varve::migration_record) \
  X(varve::node_announcement) \
  X(varve::node_condition) \
  X(varve::node_status) \
  X(varve::node_verdict) \
  X(varve::shard_home) \
  X(varve::shard_map_part) \
  X(varve::switch_result) \
  X(varve::tier_info) \
  X(varve::tier_inventory) \
  X(varve::volume_actor) \
  X(varve::volume_info) \
  X(varve::volume_record) \
  X(std::string) \
  X(uint64_t) \
  X(std::vector<varve::actor_info>) \
  X(std::vector<varve::actor_message>) \
  X(std::vector<varve::actor_row>) \
  X(std::vector<varve::attachment>) \
  X(std::vector<varve::event>) \
  X(std::vector<varve::found_shard>) \
  X(std::vector<varve::lease_grant>) \
  X(std::vector<varve::lease_info>) \
  X(std::vector<varve::member_info>) \
  X(std::vector<varve::migration_id>) \
  X(std::vector<varve::migration_progress>) \
  X(std::vector<varve::node_condition>) \
  X(std::vector<varve::renewal_terms>) \
  X(std::vector<varve::shard_info>) \
  X(std::vector<varve::volume_record>) \
  X(caf::error) \
  X(caf::exit_msg)

// clang-format on
