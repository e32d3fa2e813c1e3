@0xd4ae58426b09fe5d;
# Varve as programs see it: a node of block volumes, and all that can be asked of it. In a cluster every node answers for
# all of it: what the leading manager keeps is asked of that one.
#
# varved listens on a Unix socket (mode 0600; the peer must be its own user or root) and speaks Cap'n Proto's two-party
# protocol. The bootstrap capability is a Node. There is no login beyond that: who may open the socket may do everything,
# unless it gives that up for its connection (Node.console).
#
# Every method answers with an Error first. Its code is `none` when the rest of the results holds; otherwise the rest is
# empty and must not be looked at. A Cap'n Proto exception means that the conversation itself failed (the daemon stops,
# a message was malformed): nothing is known then about what was asked.
#
# A volume is named by its name or by its number in decimal. Bytes are bytes, durations nanoseconds, points in time
# seconds since 1970 (UTC), since they are for people only.
#
# Compatibility: ordinals, enumerants and their order are never reused or changed. Fields and methods are added at the end;
# a reader takes an absent field for its default, and an enumerant that it does not know for "something newer".

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("varve::wire");

# ----------------------------------------------------------------------------------------------------------------------
# Errors

enum ErrorCode {
  # Why something was refused, and so what to do. The same numbers as varve::errc, in logs and in --json.

  none @0;
  # Nothing was refused.

  leaseHeld @1;
  # Another holder's lease has not ended. Wait, or ask it to give way.

  staleEpoch @2;
  # Older than the shard's newest epoch.

  shardMoved @3;
  # The shard's home is elsewhere by now. Ask again.

  notFound @4;
  # No volume, shard, tier, lease, migration or actor of that name.

  alreadyExists @5;
  # One of that name is already there.

  invalidArgument @6;
  # An argument outside its range; the context says which.

  tierFull @7;
  # The tier has no room. Nothing was changed.

  deviceFailed @8;
  # The device failed a read, a write or a sync.

  checksumMismatch @9;
  # A block is not what was written.

  unavailable @10;
  # Not now: starting, draining or stopping. Ask again.

  conflict @11;
  # Somebody else was faster, or the thing is in a state that does not allow it.

  volumeAttached @12;
  # Detach first.

  volumeDetached @13;
  # It is not attached.

  volatileTier @14;
  # A durable shard must not live on a volatile tier alone.

  badFormat @15;
  # Data of a newer version, or not Varve's.

  cancelled @16;
  # Was cancelled by request.

  timedOut @17;
  # No answer within the node's time. It may still happen.

  shardFailed @18;
  # A sync failed earlier: the shard serves nothing until it is verified.

  needsConfirmation @19;
  # Data may be lost: say so in the request's own field for that.

  unsupported @20;
  # This build or this machine cannot.

  limitReached @21;
  # A limit of the node's configuration is reached.

  readOnly @22;
  # This connection has become one that only reads. Nothing was changed.

  deposed @23;
  # A newer manager has asked: this one grants nothing any more. Ask again.
}

struct Error {
  code @0 :ErrorCode;

  context @1 :Text;
  # For people: which name, which range, what was expected. May be empty. Not to be parsed.
}

# ----------------------------------------------------------------------------------------------------------------------
# Volumes

enum Sensitivity {
  # How far data may be trusted to shared places.

  low @0;
  normal @1;
  high @2;
}

enum WorkloadProfile {
  # What a volume's I/O is like: what new shards are placed by.

  balanced @0;
  # Fast, and of equally fast tiers the cheapest.

  latency @1;
  # As fast as there is, whatever it costs; near the VM where that is as fast.

  capacity @2;
  # Cheap.
}

struct VolumeSpec {
  name @0 :Text;
  # 1 to 63 of a-z, A-Z, 0-9, '-', '_', '.'; starts with a letter or digit. Names of digits only are refused: they would
  # hide volumes' numbers.

  sizeBytes @1 :UInt64;
  # A multiple of 512, at most 64 TiB. No space is taken until something is written.

  shardSize @2 :UInt64;
  # A power of two, 256 KiB to 1 GiB. 0: as the node is configured.

  isVolatile @3 :Bool;
  # Set: it lives in memory and is lost when the node stops.

  tier @4 :Text;
  # Where new shards go. Empty: the node's placement decides.

  sensitivity @5 :Sensitivity = normal;

  profile @6 :WorkloadProfile = balanced;
}

struct Volume {
  id @0 :UInt64;
  # For ever: numbers are never used again.

  spec @1 :VolumeSpec;

  createdAt @2 :UInt64;

  attachments @3 :List(VolumeAttachment);
  # Where it is attached: at one host, unless an attach said `shared`.

  removing @4 :Bool;
  # Deletion has begun.

  shards @5 :UInt64;
  # Those that exist, because something was written there.

  allocatedBytes @6 :UInt64;

  uri @7 :Text;
  # Where a client of NBD connects: nbd+unix:///NAME?socket=PATH. Empty while detached.

  connections @8 :UInt64;
  # Of NBD, now.

  contentsKnown @9 :Bool = true;
  # Unset: the volume's map or one of its tiers could not be asked. Then `allocatedBytes` says nothing, nor does `shards`
  # if it is 0.

  clientsKnown @10 :Bool = true;
  # Unset: attached, but where it is served could not be asked. Then `connections` says nothing, nor does `uri` if it is
  # empty.
}

struct VolumeAttachment {
  holder @0 :UInt64;
  # As leases name it; new for each attach.

  host @1 :Text;
  # The node's name.
}

struct Attachment {
  volume @0 :UInt64;
  holder @1 :UInt64;

  uri @2 :Text;
  # nbd+unix:///NAME?socket=PATH

  socketPath @3 :Text;

  host @4 :Text;
  # The node's name: the socket is there.
}

# ----------------------------------------------------------------------------------------------------------------------
# Shards and tiers

struct Shard {
  # A range of a volume that has a home. Ranges that nothing was written to have none and are not listed.

  volume @0 :UInt64;
  index @1 :UInt64;
  offset @2 :UInt64;
  size @3 :UInt64;

  tier @4 :Text;
  # Its home: where it durably lives.

  generation @5 :UInt64;
  # Counts its homes.

  epoch @6 :UInt64;
  # The fence that the catalog knows; storage may know a higher one.

  allocatedBytes @7 :UInt64;
  # Known while the shard is active, else 0.

  active @8 :Bool;
  # Open on its tier, because somebody uses it.

  reads @9 :UInt64;
  writes @10 :UInt64;
  # Since it became active.

  lease @11 :Text;
  # "read", "write" or empty.

  migration @12 :UInt64;
  # The move under way, or 0.

  node @13 :Text;
  # Whose the tier is. Empty: not known.
}

struct Tier {
  name @0 :Text;

  kind @1 :Text;
  # "memory" or "file"; more may come.

  isVolatile @2 :Bool;

  io @3 :Text;
  # "direct" or "buffered"; empty for memory.

  directory @4 :Text;

  capacityBytes @5 :UInt64;
  usedBytes @6 :UInt64;
  # Allocated by shards, and promised to moves under way.

  shards @7 :UInt64;
  activeShards @8 :UInt64;

  cost @9 :Float64;
  # Of a month and GiB, in the currency of the configuration.

  emulated @10 :Bool;
  # Slower than its device, because the configuration says so.

  state @11 :Text;
  # "up", "failed", "refused" (what its folder says is not what the catalog expects: nothing on it is touched) or
  # "unknown".

  problem @12 :Text;
  # Why it is not up.

  readLatency @13 :UInt64;
  writeLatency @14 :UInt64;
  syncLatency @15 :UInt64;
  # Measured means, decayed. 0: nothing measured yet.

  readBytesPerSecond @16 :Float64;
  writtenBytesPerSecond @17 :Float64;

  reads @18 :UInt64;
  writes @19 :UInt64;
  syncs @20 :UInt64;
  readBytes @21 :UInt64;
  writtenBytes @22 :UInt64;
  # Since the node started.

  checksumMismatches @23 :UInt64;
  # Blocks that were not what was written. Anything but 0 is a reason to replace the device.

  id @24 :Text;
  # Of a file tier: what its folder says that it is, wherever it is mounted. 32 hexadecimal digits; empty while refused.

  node @25 :Text;
  # Whose it is.
}

struct CatalogBackup {
  revision @0 :UInt64;
  # The catalog's, which counts its commits: the backup is all of it, as it was then.

  entries @1 :UInt64;
  bytes @2 :UInt64;

  crc @3 :UInt32;
  # CRC32C of all entries; `catalog restore` compares it.

  schema @4 :UInt64;
}

# ----------------------------------------------------------------------------------------------------------------------
# Leases and migrations

enum LeaseMode {
  read @0;
  # Shared.

  write @1;
  # Excludes reading and writing of others.

  migration @2;
  # One for each shard, beside a read or write lease.
}

struct Lease {
  id @0 :UInt64;
  holder @1 :UInt64;
  volume @2 :UInt64;
  index @3 :UInt64;

  count @4 :UInt64;
  # 1, or the length of a run of shards that do not exist.

  mode @5 :LeaseMode;
  epoch @6 :UInt64;

  term @7 :UInt64;
  remaining @8 :UInt64;

  state @9 :Text;
  # "granted" or "revoking".

  tier @10 :Text;
  # The home of the shard; empty when it does not exist.

  limit @11 :Text;
  # Why the term is shorter than the holder wished: "sensitive" or "contended" by management, "migrating", "draining" or
  # "overloaded" by storage. Empty: it is not.
}

enum LeaseChange {
  granted @0;
  changed @1;
  # Its mode, or the term that storage agrees to.

  released @2;
  # Given back by its holder.

  broken @3;
  # Taken away: its holder did not give way in time.

  expired @4;
  # Not renewed in time.

  refused @5;
  # Asked for and not granted; `why` says what storage said.
}

struct LeaseEvent {
  number @0 :UInt64;
  # Counts from 1 in each life of the manager, without gaps.

  at @1 :UInt64;
  what @2 :LeaseChange;
  lease @3 :Lease;
  # As it is then: without state and remaining time. Of a refusal: what was asked for.

  why @4 :Text;
}

enum MigrationState {
  planned @0;
  # Room is reserved.

  copying @1;
  catchingUp @2;
  # Copying what changed meanwhile.

  switching @3;
  # The gate is closed: I/O of this shard waits, for milliseconds.

  committed @4;
  aborted @5;
}

struct Migration {
  # One move of one shard. The same numbers are in the metrics.

  id @0 :UInt64;
  volume @1 :UInt64;
  index @2 :UInt64;
  fromTier @3 :Text;
  toTier @4 :Text;
  fromGeneration @5 :UInt64;
  toGeneration @6 :UInt64;
  state @7 :MigrationState;

  reason @8 :Text;
  # Why it was aborted: an error's name and context.

  startedAt @9 :UInt64;
  endedAt @10 :UInt64;

  bytesDone @11 :UInt64;
  bytesTotal @12 :UInt64;

  percent @13 :Float64;
  # Never goes back, and ends at 100.

  bytesPerSecond @14 :Float64;

  remaining @15 :UInt64;
  # Until the end, by the present rate. 0: unknown.

  paused @16 :Bool;

  throttledBy @17 :Text;
  # "budget", "foreground" or empty.

  lastError @18 :Text;

  blocksVerified @19 :UInt64;
  verifyFailures @20 :UInt64;

  gateClosed @21 :UInt64;
  # How long I/O of the shard waited for the switch.

  mirroring @22 :Bool;
  # The shard changes faster than it is copied: each change is made at both ends before it is answered.
}

# ----------------------------------------------------------------------------------------------------------------------
# The node

struct HealthFinding {
  code @0 :Text;
  # Stable, such as TIER_FAILED.

  severity @1 :Text;
  # "warning" or "error".

  text @2 :Text;
}

struct NodeStatus {
  node @0 :Text;
  version @1 :Text;
  upTime @2 :UInt64;

  health @3 :Text;
  # "ok", "warning", "error" or "starting".

  findings @4 :List(HealthFinding);
  volumes @5 :UInt64;
  attachedVolumes @6 :UInt64;
  shards @7 :UInt64;
  leases @8 :UInt64;
  migrationsRunning @9 :UInt64;

  managerIncarnation @10 :UInt64;
  # Rises with each start of the node: the upper half of every epoch.

  ring @11 :Text;
  # How the data path does I/O: "io_uring" or "threads".
}

enum MemberState {
  unknown @0;
  # Of the configuration, and never heard by the manager that was asked.

  up @1;
  suspect @2;
  # Not heard for a while: perhaps only slow.

  down @3;
  # Not heard for long, or stopped.
}

struct Member {
  # A node of the cluster, as a manager sees it.

  node @0 :Text;

  roles @1 :Text;
  # "manager,storage,host", as far as they hold.

  state @2 :MemberState;

  incarnation @3 :UInt64;
  # Of its latest life; each is higher than the last. 0: never heard.

  version @4 :Text;

  silent @5 :UInt64;
  # Since it was last heard.

  control @6 :Text;
  data @7 :Text;
  # "HOST:PORT": where its actors, and its shards, are reached.

  joins @8 :UInt64;
  # Lives of it that this manager has heard.
}

struct ClusterStatus {
  cluster @0 :Text;
  # Its name.

  node @1 :Text;
  # Who answers.

  leader @2 :Text;
  # The manager that decides now. Empty: none that this node knows of.

  seenBy @3 :Text;
  # The manager whose view of the members this is.

  members @4 :List(Member);
  # As the configuration has them.

  health @5 :Text;
  # "ok", "warning" or "error".

  findings @6 :List(HealthFinding);
}

struct NodeCondition {
  # What is wanted of a node, and how far it is.

  node @0 :Text;

  cordoned @1 :Bool;
  # Nothing new is placed there.

  draining @2 :Bool;
  # And what is there moves to other nodes.

  counted @3 :Bool;
  # Unset: `shards` and `volumesAttached` are not known yet.

  shards @4 :UInt64;
  # That have their home there.

  moving @5 :UInt64;
  stuck @6 :UInt64;
  # Of these, on their way; and not moving, for the reason in `problem`.

  volumesAttached @7 :UInt64;

  problem @8 :Text;
}

struct NodeVerdict {
  ok @0 :Bool;

  reasons @1 :List(HealthFinding);
  # Against it. Codes are stable: NODE_HAS_SHARDS, NODE_HAS_USED_SHARDS, NODE_HOSTS_VOLUMES, NODE_MOVES_SHARDS,
  # LAST_MANAGER.
}

struct Event {
  at @0 :UInt64;

  code @1 :Text;
  # Stable, such as CHECKSUM_MISMATCH.

  text @2 :Text;
}

struct Actor {
  path @0 :Text;
  # Its place in the hierarchy: "management/volumes/1".

  type @1 :Text;
  # "varve.volume"

  alive @2 :Bool;
  restarts @3 :UInt64;
  age @4 :UInt64;
  # Since it was last started.

  lastError @5 :Text;
  # Why it last died; empty if it never did.
}

# ----------------------------------------------------------------------------------------------------------------------
# The console: actors, for people

struct Fact {
  # One thing that an actor says of itself, or answers to a message.

  name @0 :Text;
  # Words with hyphens. Which there are depends on the kind of actor; programs should take those that they do not know.

  union {
    text @1 :Text;
    count @2 :UInt64;
    bytes @3 :UInt64;
    nanoseconds @4 :UInt64;
    flag @5 :Bool;
  }
}

enum Condition {
  running @0;
  # It answers.

  restarting @1;
  # Dead; its supervisor starts it again after a while.

  silent @2;
  # It lives and did not answer in time: busy for long, or hung. Its mailbox is not known.
}

struct ActorRow {
  actor @0 :Actor;
  # `path` begins with the node: "/node1/management/catalog"; the node itself is "/node1". Age 0: not known.

  condition @1 :Condition;

  mailbox @2 :UInt64;
  # Messages that wait, of one that runs.

  hidden @3 :UInt64;
  # Children that are not listed, because there are more than was asked for.
}

enum ArgumentType {
  number @0;
  size @1;
  # Bytes.

  text @2;

  volume @3;
  # Its name, or its number in decimal.

  tier @4;
  flag @5;
}

struct ActorMessage {
  # A message that an actor may be sent.

  name @0 :Text;
  arguments @1 :List(Parameter);

  about @2 :Text;
  # A sentence for people.

  struct Parameter {
    name @0 :Text;
    type @1 :ArgumentType;
  }
}

struct Argument {
  union {
    number @0 :UInt64;
    # Also of a size.

    text @1 :Text;
    # Also of a volume and of a tier.

    flag @2 :Bool;
  }
}

interface Console {
  # Looks at actors. All of them are asked at the same time and for a limited time: an actor that does not answer is
  # shown as silent and holds up nothing.

  tree @0 (path :Text, childrenMax :UInt32) -> (error :Error, actors :List(ActorRow));
  # The actors from a path on, parents before children; all nodes when the path is empty or "/". Of each actor's children
  # at most so many; 0: up to 4096. `notFound`.

  inspect @1 (path :Text) -> (error :Error, actor :ActorRow, facts :List(Fact));
  # What the actor says of itself; no facts unless it runs. `notFound`.

  messages @2 (path :Text) -> (error :Error, messages :List(ActorMessage));
  # What an actor of its kind may be sent. `notFound`.
}

interface ConsoleWriter {
  # The right to act on actors. Each use is an event of the node: CONSOLE_SEND, CONSOLE_KILL.

  send @0 (path :Text, message :Text, arguments :List(Argument)) -> (error :Error, answer :List(Fact));
  # `notFound` for an actor or a message that is not there, `invalidArgument` for arguments that do not fit; else as the
  # message is refused.

  kill @1 (path :Text) -> (error :Error);
  # Ends the actor as a crash would; its supervisor starts it again. `notFound`.
}

struct TraceProgress {
  records @0 :UInt64;
  # Written, or about to be.

  dropped @1 :UInt64;
  # Lost because the file could not keep up; the trace says where.

  fileBytes @2 :UInt64;
}

interface TraceRecording {
  # A recording under way. It ends, with the file complete, by stop() or when the last reference to this is dropped: so
  # also when the client dies.

  progress @0 () -> (error :Error, progress :TraceProgress);
  # `deviceFailed` when the file cannot be written any more.

  stop @1 () -> (error :Error, progress :TraceProgress);
  # Answers when all that was asked before is in the file and synced. Again: the same answer.
}

interface Node {
  status @0 () -> (error :Error, status :NodeStatus);

  events @1 (limit :UInt32) -> (error :Error, events :List(Event));
  # The latest, oldest first.

  volumeCreate @2 (spec :VolumeSpec) -> (error :Error, volume :Volume);
  # `alreadyExists`, `invalidArgument`.

  volumeList @3 () -> (error :Error, volumes :List(Volume));

  volumeShow @4 (volume :Text) -> (error :Error, volume :Volume);

  volumeResize @5 (volume :Text, sizeBytes :UInt64) -> (error :Error, volume :Volume);
  # Larger, also while attached. Smaller only where nothing was written: else `invalidArgument`.

  volumeRemove @6 (volume :Text, confirmed :Bool) -> (error :Error);
  # All data of the volume is lost: `needsConfirmation` unless confirmed. `volumeAttached`.

  volumeAttach @7 (volume :Text, host :Text, shared :Bool) -> (error :Error, attachment :Attachment);
  # At a node of the cluster; empty: at this one. Answers when the socket listens, which is at that node. Attached there
  # already: the same attachment. `volumeAttached` at another host, unless it is `shared`: a VM on its way between two.

  volumeDetach @8 (volume :Text, force :Bool, host :Text) -> (error :Error);
  # Waits for requests under way. With `force`, those that wait for a lease fail, and the VM sees an error. `host` may be
  # empty where there is only one. `volumeDetached`.

  shardList @9 (volume :Text, first :UInt64, limit :UInt32) -> (error :Error, shards :List(Shard), next :UInt64);
  # Those that exist, from an index on, in order; at most 4096 at a time. `next` is where to go on; 0 at the end.

  shardShow @10 (volume :Text, index :UInt64) -> (error :Error, shard :Shard);

  shardMove @11 (volume :Text, first :UInt64, count :UInt64, toTier :Text) -> (error :Error, migrations :List(UInt64));
  # Starts moving what exists of a range and is not there yet. `volatileTier`, `tierFull`, `alreadyExists` when one of them
  # moves already.

  shardVerify @12 (volume :Text, index :UInt64) -> (error :Error, badBlocks :UInt64);
  # Reads the shard as a whole and compares every block with its checksum.

  tierList @13 () -> (error :Error, tiers :List(Tier));

  leaseList @14 (volume :Text) -> (error :Error, leases :List(Lease));
  # Of one volume; of all when empty.

  leaseBreak @15 (volume :Text, index :UInt64) -> (error :Error);
  # Takes a shard's leases away from whoever holds them and fences them. A holder that lives asks for a new one; one that
  # does not can do no harm.

  migrationList @16 () -> (error :Error, migrations :List(Migration));
  # Those under way, and the latest that ended.

  migrationShow @17 (id :UInt64) -> (error :Error, migration :Migration);

  migrationCancel @18 (id :UInt64) -> (error :Error, migration :Migration);
  # The shard stays where it was. `conflict` when it is too late.

  migrationPause @19 (id :UInt64) -> (error :Error, migration :Migration);
  migrationResume @20 (id :UInt64) -> (error :Error, migration :Migration);

  actorList @21 () -> (error :Error, actors :List(Actor));
  # The whole hierarchy, dead ones included.

  actorKill @22 (path :Text) -> (error :Error);
  # For tests of supervision; `unsupported` unless the configuration has debug.allow_kill.

  traceRecord @23 (volume :Text, file :Text) -> (error :Error, recording :TraceRecording);
  # Writes what the volume is asked from now on to a file (an absolute path at the node; appended to if it is a trace).
  # One recording for each volume: `alreadyExists`.

  stop @24 () -> (error :Error);
  # Stops the node in order: requests under way end, everything is flushed. Answers when that has begun.

  catalogBackup @25 (file :Text) -> (error :Error, backup :CatalogBackup);
  # Writes all of the catalog to a file (an absolute path at the node, readable by its owner only) while the node goes on;
  # the file is there when it is whole, and not before. `alreadyExists` when there is one of that name.

  console @26 (allowWrite :Bool) -> (error :Error, console :Console, writer :ConsoleWriter);
  # Without `allowWrite` there is no writer, and this connection only reads from now on: every method that changes
  # something, here or of a console asked for later, is refused with `readOnly` until the connection ends. With it, the
  # node notes an event, CONSOLE_WRITER, that says who asked.

  clusterStatus @27 () -> (error :Error, cluster :ClusterStatus);
  # `unsupported` of a node by itself; `unavailable` when no manager can be asked.

  nodeList @29 () -> (error :Error, nodes :List(NodeCondition));

  nodeChange @30 (node :Text, cordoned :Bool, draining :Bool) -> (error :Error, condition :NodeCondition);
  # Draining is cordoned, too. Both unset: the node is used again. `notFound`.

  nodeVerify @31 (node :Text, remove :Bool) -> (error :Error, verdict :NodeVerdict);
  # Whether it may be stopped for a while, or be taken away for good. `notFound`.

  ready @28 () -> (error :Error, notReady :Text);
  # Empty when the node serves all that it is there for, as /readyz says; else what it waits for.

  leaseHistory @32 (after :UInt64, limit :UInt32) -> (error :Error, incarnation :UInt64, newest :UInt64,
                                                      events :List(LeaseEvent));
  # What happened to leases after the event of that number, in order. Only the latest are kept: a first number that does
  # not follow `after` says that some were lost; another `incarnation`, that numbers have begun anew.
}
