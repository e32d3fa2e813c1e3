#pragma once

#include "messages/catalog.hpp"
#include "messages/cluster_view.hpp"
#include "messages/console.hpp"
#include "messages/errors.hpp"
#include "messages/lease.hpp"
#include "messages/migration.hpp"
#include "messages/node.hpp"
#include "messages/tier.hpp"
#include "messages/varve.capnp.h"
#include "messages/volume.hpp"

/// What actors say and what programs are told mean the same; here one becomes the other, both ways, field by field.
namespace varve {

void to_wire(wire::Error::Builder to, const caf::error& x);
caf::error from_wire(wire::Error::Reader x);

void to_wire(wire::VolumeSpec::Builder to, const volume_spec& x);
volume_spec from_wire(wire::VolumeSpec::Reader x);

void to_wire(wire::Volume::Builder to, const volume_info& x);
volume_info from_wire(wire::Volume::Reader x);

void to_wire(wire::Attachment::Builder to, const attachment& x);
attachment from_wire(wire::Attachment::Reader x);

void to_wire(wire::Shard::Builder to, const shard_row& x);
shard_row from_wire(wire::Shard::Reader x);

void to_wire(wire::Tier::Builder to, const tier_row& x);
tier_row from_wire(wire::Tier::Reader x);

void to_wire(wire::CatalogBackup::Builder to, const catalog_backup_info& x);
catalog_backup_info from_wire(wire::CatalogBackup::Reader x);

void to_wire(wire::Lease::Builder to, const lease_info& x);
lease_info from_wire(wire::Lease::Reader x);
void to_wire(wire::LeaseEvent::Builder to, const lease_event& x);
lease_event from_wire(wire::LeaseEvent::Reader x);

void to_wire(wire::Migration::Builder to, const migration_progress& x);
migration_progress from_wire(wire::Migration::Reader x);

void to_wire(wire::NodeStatus::Builder to, const node_status& x);
node_status from_wire(wire::NodeStatus::Reader x);

void to_wire(wire::HealthFinding::Builder to, const health_finding& x);
health_finding from_wire(wire::HealthFinding::Reader x);

void to_wire(wire::Member::Builder to, const member_info& x);
member_info from_wire(wire::Member::Reader x);

void to_wire(wire::NodeCondition::Builder to, const node_condition& x);
node_condition from_wire(wire::NodeCondition::Reader x);
void to_wire(wire::NodeVerdict::Builder to, const node_verdict& x);
node_verdict from_wire(wire::NodeVerdict::Reader x);
void to_wire(wire::ClusterStatus::Builder to, const cluster_view& x);
cluster_view from_wire(wire::ClusterStatus::Reader x);

void to_wire(wire::Event::Builder to, const event& x);
event from_wire(wire::Event::Reader x);

void to_wire(wire::Actor::Builder to, const actor_info& x);
actor_info from_wire(wire::Actor::Reader x);

void to_wire(wire::Fact::Builder to, const actor_fact& x);
actor_fact from_wire(wire::Fact::Reader x);

void to_wire(wire::ActorRow::Builder to, const actor_row& x);
actor_row from_wire(wire::ActorRow::Reader x);

void to_wire(wire::ActorMessage::Builder to, const actor_message& x);
actor_message from_wire(wire::ActorMessage::Reader x);

void to_wire(wire::Argument::Builder to, const argument_value& x);
argument_value from_wire(wire::Argument::Reader x);

/// Lists, by the functions above. Longer than a Cap'n Proto list can be is cut.
template <class Wire, class T>
void list_to_wire(typename capnp::List<Wire>::Builder to, const std::vector<T>& from) {
  for (unsigned i = 0; i < to.size(); ++i)
    to_wire(to[i], from[i]);
}

template <class Wire>
auto list_from_wire(typename capnp::List<Wire>::Reader from) {
  std::vector<decltype(from_wire(from[0]))> result;
  result.reserve(from.size());
  for (auto x : from)
    result.push_back(from_wire(x));
  return result;
}

} // namespace varve
