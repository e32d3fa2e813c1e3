#include "messages/wire.hpp"

namespace varve {

namespace {

// Negative durations do not occur; a clock that steps must not make them 584 years.
uint64_t nanoseconds(caf::timespan x) {
  return x.count() < 0 ? 0 : static_cast<uint64_t>(x.count());
}

caf::timespan duration(uint64_t x) {
  return caf::timespan{static_cast<int64_t>(x & INT64_MAX)};
}

static_assert(static_cast<int>(wire::ErrorCode::READ_ONLY) == static_cast<int>(errc::read_only));
static_assert(static_cast<int>(wire::ErrorCode::DEPOSED) == static_cast<int>(errc::deposed));
static_assert(static_cast<int>(wire::LeaseChange::REFUSED) == static_cast<int>(lease_change::refused));
static_assert(static_cast<int>(wire::MigrationState::ABORTED) == static_cast<int>(migration_state::aborted));
static_assert(static_cast<int>(wire::LeaseMode::MIGRATION) == static_cast<int>(lease_mode::migration));
static_assert(static_cast<int>(wire::Condition::SILENT) == static_cast<int>(actor_condition::silent));
static_assert(static_cast<int>(wire::ArgumentType::FLAG) == static_cast<int>(argument_type::flag));
static_assert(static_cast<int>(wire::MemberState::DOWN) == static_cast<int>(member_state::down));
static_assert(static_cast<int>(wire::WorkloadProfile::CAPACITY) == static_cast<int>(workload_profile::capacity));
static_assert(static_cast<int>(wire::Sensitivity::HIGH) == static_cast<int>(sensitivity::high));

term_limit term_limit_of(std::string_view name) {
  for (auto x : {term_limit::sensitive, term_limit::contended, term_limit::migrating, term_limit::draining,
                 term_limit::overloaded})
    if (name == to_string(x))
      return x;
  return term_limit::none;
}

} // namespace

void to_wire(wire::Error::Builder to, const caf::error& x) {
  to.setCode(static_cast<wire::ErrorCode>(code_of(x)));
  to.setContext(context_of(x));
}

caf::error from_wire(wire::Error::Reader x) {
  if (x.getCode() == wire::ErrorCode::NONE)
    return {};
  return make_error(static_cast<errc>(x.getCode()), x.getContext());
}

void to_wire(wire::VolumeSpec::Builder to, const volume_spec& x) {
  to.setName(x.name);
  to.setSizeBytes(x.size_bytes);
  to.setShardSize(x.shard_size);
  to.setIsVolatile(x.is_volatile);
  to.setTier(x.tier);
  to.setSensitivity(static_cast<wire::Sensitivity>(x.sensitive));
  to.setProfile(static_cast<wire::WorkloadProfile>(x.profile));
}

volume_spec from_wire(wire::VolumeSpec::Reader x) {
  volume_spec to;
  to.name = x.getName();
  to.size_bytes = x.getSizeBytes();
  to.shard_size = x.getShardSize();
  to.is_volatile = x.getIsVolatile();
  to.tier = x.getTier();
  to.sensitive = static_cast<sensitivity>(x.getSensitivity());
  to.profile = static_cast<workload_profile>(x.getProfile());
  return to;
}

void to_wire(wire::Volume::Builder to, const volume_info& x) {
  to.setId(x.record.id.value());
  to_wire(to.initSpec(), x.record.spec);
  to.setCreatedAt(x.record.created_at);
  auto attachments = to.initAttachments(static_cast<unsigned>(x.record.attachments.size()));
  for (unsigned i = 0; i < attachments.size(); ++i) {
    attachments[i].setHolder(x.record.attachments[i].holder.value());
    attachments[i].setHost(x.record.attachments[i].host);
  }
  to.setRemoving(x.record.removing);
  to.setShards(x.shards);
  to.setAllocatedBytes(x.allocated_bytes);
  to.setUri(x.uri);
  to.setConnections(x.connections);
  to.setContentsKnown(x.contents_known);
  to.setClientsKnown(x.clients_known);
}

volume_info from_wire(wire::Volume::Reader x) {
  volume_info to;
  to.record.id = decltype(to.record.id){x.getId()};
  to.record.spec = from_wire(x.getSpec());
  to.record.created_at = x.getCreatedAt();
  for (auto a : x.getAttachments())
    to.record.attachments.push_back({holder_id{a.getHolder()}, a.getHost()});
  to.record.removing = x.getRemoving();
  to.shards = x.getShards();
  to.allocated_bytes = x.getAllocatedBytes();
  to.uri = x.getUri();
  to.connections = x.getConnections();
  to.contents_known = x.getContentsKnown();
  to.clients_known = x.getClientsKnown();
  return to;
}

void to_wire(wire::Attachment::Builder to, const attachment& x) {
  to.setVolume(x.volume.value());
  to.setHolder(x.holder.value());
  to.setUri(x.uri);
  to.setSocketPath(x.socket_path);
  to.setHost(x.host);
}

attachment from_wire(wire::Attachment::Reader x) {
  attachment to;
  to.volume = decltype(to.volume){x.getVolume()};
  to.holder = decltype(to.holder){x.getHolder()};
  to.uri = x.getUri();
  to.socket_path = x.getSocketPath();
  to.host = x.getHost();
  return to;
}

void to_wire(wire::Shard::Builder to, const shard_row& x) {
  to.setVolume(x.home.id.volume.value());
  to.setIndex(x.home.id.index.value());
  to.setOffset(x.offset);
  to.setSize(x.size);
  to.setTier(x.home.tier);
  to.setGeneration(x.home.of.value());
  to.setEpoch(x.home.fence.value());
  to.setAllocatedBytes(x.allocated_bytes);
  to.setActive(x.active);
  to.setReads(x.reads);
  to.setWrites(x.writes);
  to.setLease(x.lease);
  to.setMigration(x.migration.value());
  to.setNode(x.node);
}

shard_row from_wire(wire::Shard::Reader x) {
  shard_row to;
  to.home.id.volume = decltype(to.home.id.volume){x.getVolume()};
  to.home.id.index = decltype(to.home.id.index){x.getIndex()};
  to.offset = x.getOffset();
  to.size = x.getSize();
  to.home.tier = x.getTier();
  to.home.of = decltype(to.home.of){x.getGeneration()};
  to.home.fence = decltype(to.home.fence){x.getEpoch()};
  to.allocated_bytes = x.getAllocatedBytes();
  to.active = x.getActive();
  to.reads = x.getReads();
  to.writes = x.getWrites();
  to.lease = x.getLease();
  to.migration = decltype(to.migration){x.getMigration()};
  to.node = x.getNode();
  return to;
}

void to_wire(wire::CatalogBackup::Builder to, const catalog_backup_info& x) {
  to.setRevision(x.revision);
  to.setEntries(x.entries);
  to.setBytes(x.bytes);
  to.setCrc(x.crc);
  to.setSchema(x.schema);
}

catalog_backup_info from_wire(wire::CatalogBackup::Reader x) {
  return {x.getRevision(), x.getEntries(), x.getBytes(), x.getCrc(), x.getSchema()};
}

void to_wire(wire::Tier::Builder to, const tier_row& x) {
  to.setName(x.name);
  to.setKind(x.kind);
  to.setIsVolatile(x.is_volatile);
  to.setIo(x.io);
  to.setDirectory(x.directory);
  to.setCapacityBytes(x.capacity_bytes);
  to.setUsedBytes(x.used_bytes);
  to.setShards(x.shards);
  to.setActiveShards(x.active_shards);
  to.setCost(x.cost);
  to.setEmulated(x.emulated);
  to.setState(x.state);
  to.setProblem(x.problem);
  to.setReadLatency(nanoseconds(x.read_latency));
  to.setWriteLatency(nanoseconds(x.write_latency));
  to.setSyncLatency(nanoseconds(x.sync_latency));
  to.setReadBytesPerSecond(x.read_bytes_per_second);
  to.setWrittenBytesPerSecond(x.written_bytes_per_second);
  to.setReads(x.reads);
  to.setWrites(x.writes);
  to.setSyncs(x.syncs);
  to.setReadBytes(x.read_bytes);
  to.setWrittenBytes(x.written_bytes);
  to.setChecksumMismatches(x.checksum_mismatches);
  to.setId(x.id);
  to.setNode(x.node);
}

tier_row from_wire(wire::Tier::Reader x) {
  tier_row to;
  to.name = x.getName();
  to.kind = x.getKind();
  to.is_volatile = x.getIsVolatile();
  to.io = x.getIo();
  to.directory = x.getDirectory();
  to.capacity_bytes = x.getCapacityBytes();
  to.used_bytes = x.getUsedBytes();
  to.shards = x.getShards();
  to.active_shards = x.getActiveShards();
  to.cost = x.getCost();
  to.emulated = x.getEmulated();
  to.state = x.getState();
  to.problem = x.getProblem();
  to.read_latency = duration(x.getReadLatency());
  to.write_latency = duration(x.getWriteLatency());
  to.sync_latency = duration(x.getSyncLatency());
  to.read_bytes_per_second = x.getReadBytesPerSecond();
  to.written_bytes_per_second = x.getWrittenBytesPerSecond();
  to.reads = x.getReads();
  to.writes = x.getWrites();
  to.syncs = x.getSyncs();
  to.read_bytes = x.getReadBytes();
  to.written_bytes = x.getWrittenBytes();
  to.checksum_mismatches = x.getChecksumMismatches();
  to.id = x.getId();
  to.node = x.getNode();
  return to;
}

void to_wire(wire::Lease::Builder to, const lease_info& x) {
  to.setId(x.grant.id.value());
  to.setHolder(x.grant.holder.value());
  to.setVolume(x.grant.home.id.volume.value());
  to.setIndex(x.grant.home.id.index.value());
  to.setCount(x.grant.count);
  to.setMode(static_cast<wire::LeaseMode>(x.grant.mode));
  to.setEpoch(x.grant.fence.value());
  to.setTerm(nanoseconds(x.grant.term));
  to.setRemaining(nanoseconds(x.remaining));
  to.setState(x.state);
  to.setTier(x.grant.home.tier);
  to.setLimit(to_string(x.grant.limit));
}

lease_info from_wire(wire::Lease::Reader x) {
  lease_info to;
  to.grant.id = decltype(to.grant.id){x.getId()};
  to.grant.holder = decltype(to.grant.holder){x.getHolder()};
  to.grant.home.id.volume = decltype(to.grant.home.id.volume){x.getVolume()};
  to.grant.home.id.index = decltype(to.grant.home.id.index){x.getIndex()};
  to.grant.count = x.getCount();
  to.grant.mode = static_cast<lease_mode>(x.getMode());
  to.grant.fence = decltype(to.grant.fence){x.getEpoch()};
  to.grant.term = duration(x.getTerm());
  to.remaining = duration(x.getRemaining());
  to.state = x.getState();
  to.grant.home.tier = x.getTier();
  to.grant.limit = term_limit_of(x.getLimit().cStr());
  return to;
}

void to_wire(wire::LeaseEvent::Builder to, const lease_event& x) {
  to.setNumber(x.number);
  to.setAt(x.at);
  to.setWhat(static_cast<wire::LeaseChange>(x.what));
  to_wire(to.initLease(), {x.grant, {}, {}});
  to.setWhy(x.why);
}

lease_event from_wire(wire::LeaseEvent::Reader x) {
  return {x.getNumber(), x.getAt(), static_cast<lease_change>(x.getWhat()), from_wire(x.getLease()).grant, x.getWhy()};
}

void to_wire(wire::Migration::Builder to, const migration_progress& x) {
  to.setId(x.record.id.value());
  to.setVolume(x.record.shard.volume.value());
  to.setIndex(x.record.shard.index.value());
  to.setFromTier(x.record.from_tier);
  to.setToTier(x.record.to_tier);
  to.setFromGeneration(x.record.from.value());
  to.setToGeneration(x.record.to.value());
  to.setState(static_cast<wire::MigrationState>(x.record.state));
  to.setReason(x.record.reason);
  to.setStartedAt(x.record.started_at);
  to.setEndedAt(x.record.ended_at);
  to.setBytesDone(x.bytes_done);
  to.setBytesTotal(x.bytes_total);
  to.setPercent(x.percent);
  to.setBytesPerSecond(x.bytes_per_second);
  to.setRemaining(nanoseconds(x.remaining));
  to.setPaused(x.paused);
  to.setThrottledBy(x.throttled_by);
  to.setLastError(x.last_error);
  to.setBlocksVerified(x.blocks_verified);
  to.setVerifyFailures(x.verify_failures);
  to.setGateClosed(nanoseconds(x.gate_closed));
  to.setMirroring(x.mirroring);
}

migration_progress from_wire(wire::Migration::Reader x) {
  migration_progress to;
  to.record.id = decltype(to.record.id){x.getId()};
  to.record.shard.volume = decltype(to.record.shard.volume){x.getVolume()};
  to.record.shard.index = decltype(to.record.shard.index){x.getIndex()};
  to.record.from_tier = x.getFromTier();
  to.record.to_tier = x.getToTier();
  to.record.from = decltype(to.record.from){x.getFromGeneration()};
  to.record.to = decltype(to.record.to){x.getToGeneration()};
  to.record.state = static_cast<migration_state>(x.getState());
  to.record.reason = x.getReason();
  to.record.started_at = x.getStartedAt();
  to.record.ended_at = x.getEndedAt();
  to.bytes_done = x.getBytesDone();
  to.bytes_total = x.getBytesTotal();
  to.percent = x.getPercent();
  to.bytes_per_second = x.getBytesPerSecond();
  to.remaining = duration(x.getRemaining());
  to.paused = x.getPaused();
  to.throttled_by = x.getThrottledBy();
  to.last_error = x.getLastError();
  to.blocks_verified = x.getBlocksVerified();
  to.verify_failures = x.getVerifyFailures();
  to.gate_closed = duration(x.getGateClosed());
  to.mirroring = x.getMirroring();
  return to;
}

void to_wire(wire::NodeStatus::Builder to, const node_status& x) {
  to.setNode(x.node);
  to.setVersion(x.version);
  to.setUpTime(nanoseconds(x.up_time));
  to.setHealth(x.health);
  list_to_wire<wire::HealthFinding>(to.initFindings(static_cast<unsigned>(x.findings.size())), x.findings);
  to.setVolumes(x.volumes);
  to.setAttachedVolumes(x.attached_volumes);
  to.setShards(x.shards);
  to.setLeases(x.leases);
  to.setMigrationsRunning(x.migrations_running);
  to.setManagerIncarnation(x.manager_incarnation);
  to.setRing(x.ring);
}

node_status from_wire(wire::NodeStatus::Reader x) {
  node_status to;
  to.node = x.getNode();
  to.version = x.getVersion();
  to.up_time = duration(x.getUpTime());
  to.health = x.getHealth();
  to.findings = list_from_wire<wire::HealthFinding>(x.getFindings());
  to.volumes = x.getVolumes();
  to.attached_volumes = x.getAttachedVolumes();
  to.shards = x.getShards();
  to.leases = x.getLeases();
  to.migrations_running = x.getMigrationsRunning();
  to.manager_incarnation = x.getManagerIncarnation();
  to.ring = x.getRing();
  return to;
}

void to_wire(wire::HealthFinding::Builder to, const health_finding& x) {
  to.setCode(x.code);
  to.setSeverity(x.severity);
  to.setText(x.text);
}

health_finding from_wire(wire::HealthFinding::Reader x) {
  health_finding to;
  to.code = x.getCode();
  to.severity = x.getSeverity();
  to.text = x.getText();
  return to;
}

void to_wire(wire::Member::Builder to, const member_info& x) {
  to.setNode(x.node);
  to.setRoles(x.roles);
  to.setState(static_cast<wire::MemberState>(x.state));
  to.setIncarnation(x.incarnation);
  to.setVersion(x.version);
  to.setSilent(nanoseconds(x.silent));
  to.setControl(x.control);
  to.setData(x.data);
  to.setJoins(x.joins);
}

member_info from_wire(wire::Member::Reader x) {
  member_info to;
  to.node = x.getNode();
  to.roles = x.getRoles();
  to.state = static_cast<member_state>(x.getState());
  to.incarnation = x.getIncarnation();
  to.version = x.getVersion();
  to.silent = duration(x.getSilent());
  to.control = x.getControl();
  to.data = x.getData();
  to.joins = x.getJoins();
  return to;
}

void to_wire(wire::NodeCondition::Builder to, const node_condition& x) {
  to.setNode(x.node);
  to.setCordoned(x.cordoned);
  to.setDraining(x.draining);
  to.setCounted(x.counted);
  to.setShards(x.shards);
  to.setMoving(x.moving);
  to.setStuck(x.stuck);
  to.setVolumesAttached(x.volumes_attached);
  to.setProblem(x.problem);
}

node_condition from_wire(wire::NodeCondition::Reader x) {
  node_condition to;
  to.node = x.getNode();
  to.cordoned = x.getCordoned();
  to.draining = x.getDraining();
  to.counted = x.getCounted();
  to.shards = x.getShards();
  to.moving = x.getMoving();
  to.stuck = x.getStuck();
  to.volumes_attached = x.getVolumesAttached();
  to.problem = x.getProblem();
  return to;
}

void to_wire(wire::NodeVerdict::Builder to, const node_verdict& x) {
  to.setOk(x.ok);
  auto reasons = to.initReasons(static_cast<unsigned>(x.reasons.size()));
  for (unsigned i = 0; i < reasons.size(); ++i)
    to_wire(reasons[i], x.reasons[i]);
}

node_verdict from_wire(wire::NodeVerdict::Reader x) {
  node_verdict to;
  to.ok = x.getOk();
  for (auto r : x.getReasons())
    to.reasons.push_back(from_wire(r));
  return to;
}

void to_wire(wire::ClusterStatus::Builder to, const cluster_view& x) {
  to.setCluster(x.cluster);
  to.setNode(x.node);
  to.setLeader(x.leader);
  to.setSeenBy(x.seen_by);
  list_to_wire<wire::Member>(to.initMembers(static_cast<unsigned>(x.members.size())), x.members);
  to.setHealth(x.health);
  list_to_wire<wire::HealthFinding>(to.initFindings(static_cast<unsigned>(x.findings.size())), x.findings);
}

cluster_view from_wire(wire::ClusterStatus::Reader x) {
  cluster_view to;
  to.cluster = x.getCluster();
  to.node = x.getNode();
  to.leader = x.getLeader();
  to.seen_by = x.getSeenBy();
  to.members = list_from_wire<wire::Member>(x.getMembers());
  to.health = x.getHealth();
  to.findings = list_from_wire<wire::HealthFinding>(x.getFindings());
  return to;
}

void to_wire(wire::Event::Builder to, const event& x) {
  to.setAt(x.at);
  to.setCode(x.code);
  to.setText(x.text);
}

event from_wire(wire::Event::Reader x) {
  event to;
  to.at = x.getAt();
  to.code = x.getCode();
  to.text = x.getText();
  return to;
}

void to_wire(wire::Actor::Builder to, const actor_info& x) {
  to.setPath(x.path);
  to.setType(x.type);
  to.setAlive(x.alive);
  to.setRestarts(x.restarts);
  to.setAge(nanoseconds(x.age));
  to.setLastError(x.last_error);
}

actor_info from_wire(wire::Actor::Reader x) {
  actor_info to;
  to.path = x.getPath();
  to.type = x.getType();
  to.alive = x.getAlive();
  to.restarts = x.getRestarts();
  to.age = duration(x.getAge());
  to.last_error = x.getLastError();
  return to;
}

void to_wire(wire::Fact::Builder to, const actor_fact& x) {
  to.setName(x.name);
  switch (x.unit) {
  case fact_unit::text: to.setText(x.text); break;
  case fact_unit::count: to.setCount(x.number); break;
  case fact_unit::bytes: to.setBytes(x.number); break;
  case fact_unit::nanoseconds: to.setNanoseconds(x.number); break;
  case fact_unit::flag: to.setFlag(x.number != 0); break;
  }
}

actor_fact from_wire(wire::Fact::Reader x) {
  switch (x.which()) {
  case wire::Fact::COUNT: return count_fact(x.getName(), x.getCount());
  case wire::Fact::BYTES: return bytes_fact(x.getName(), x.getBytes());
  case wire::Fact::NANOSECONDS: return time_fact(x.getName(), duration(x.getNanoseconds()));
  case wire::Fact::FLAG: return flag_fact(x.getName(), x.getFlag());
  case wire::Fact::TEXT: return text_fact(x.getName(), x.getText());
  }
  return text_fact(x.getName(), "?"); // of a newer node
}

void to_wire(wire::ActorRow::Builder to, const actor_row& x) {
  to_wire(to.initActor(), x.info);
  to.setCondition(static_cast<wire::Condition>(x.condition));
  to.setMailbox(x.mailbox);
  to.setHidden(x.hidden);
}

actor_row from_wire(wire::ActorRow::Reader x) {
  actor_row to;
  to.info = from_wire(x.getActor());
  to.condition = static_cast<actor_condition>(x.getCondition());
  to.mailbox = x.getMailbox();
  to.hidden = x.getHidden();
  return to;
}

void to_wire(wire::ActorMessage::Builder to, const actor_message& x) {
  to.setName(x.name);
  to.setAbout(x.about);
  auto list = to.initArguments(static_cast<unsigned>(x.arguments.size()));
  for (unsigned i = 0; i < list.size(); ++i) {
    list[i].setName(x.arguments[i].name);
    list[i].setType(static_cast<wire::ArgumentType>(x.arguments[i].type));
  }
}

actor_message from_wire(wire::ActorMessage::Reader x) {
  actor_message to;
  to.name = x.getName();
  to.about = x.getAbout();
  for (auto a : x.getArguments())
    to.arguments.push_back({a.getName(), static_cast<argument_type>(a.getType())});
  return to;
}

void to_wire(wire::Argument::Builder to, const argument_value& x) {
  if (const auto* number = std::get_if<uint64_t>(&x))
    to.setNumber(*number);
  else if (const auto* flag = std::get_if<bool>(&x))
    to.setFlag(*flag);
  else
    to.setText(std::get<std::string>(x));
}

argument_value from_wire(wire::Argument::Reader x) {
  switch (x.which()) {
  case wire::Argument::NUMBER: return x.getNumber();
  case wire::Argument::FLAG: return x.getFlag();
  default: return std::string{x.getText()};
  }
}

} // namespace varve
