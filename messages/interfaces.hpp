#pragma once

#include <string>
#include <vector>

#include <caf/replies_to.hpp>
#include <caf/timespan.hpp>
#include <caf/typed_actor.hpp>

#include "messages/atoms.hpp"
#include "messages/catalog.hpp"
#include "messages/cluster.hpp"
#include "messages/console.hpp"
#include "messages/lease.hpp"
#include "messages/migration.hpp"
#include "messages/node.hpp"
#include "messages/node_tools.hpp"
#include "messages/tier.hpp"
#include "messages/volume.hpp"

/// Who may be told what. What an actor says only to itself stands in its own header, which extends these.
/// Requests not answered as said are refused with the errc named; all may be refused with errc::unavailable (starting,
/// stopping).
///
///   VM ── data plane ──need──▶ vm_agent ──acquire──▶ lease_manager ──locate/create──▶ volume ──commit──▶ catalog
///                                 ▲                      │  ▲ fence                     │ create
///                                 └──────revoke──────────┘  └────────▶ tier ◀───────────┘
namespace varve {

/// What every actor answers besides its own: how it is, for people. Ask with high priority, so that the mailbox is
/// counted and not waited for. Never refused.
using inspected_actor = caf::typed_actor<caf::replies_to<atom::report>::with<actor_report>>;

// -- management ----------------------------------------------------------------------------------------------------

/// The one writer of the catalog store.
using catalog_actor = caf::typed_actor<
  // Commits a batch durably; its revision. errc::conflict when a comparison fails, errc::device_failed.
  caf::replies_to<atom::commit, catalog_batch>::with<uint64_t>,
  // Entries by prefix, after a key (exclusive), at most a number.
  caf::replies_to<atom::list, std::string, std::string, uint64_t>::with<catalog_page>,
  // An incarnation for a new manager: one higher than any before, durable before it is told.
  caf::replies_to<atom::get>::with<uint64_t>,
  // Takes so many numbers of a durable counter ("meta/next-migration" and its like, in decimal, starting at 1): the
  // first of them. What is taken is never given again, also if it comes to nothing. Those that ask while others are
  // answered share a commit. errc::conflict: another manager took numbers at the same time too often; errc::bad_format,
  // errc::limit_reached (the counter's end, or too many wait), errc::device_failed.
  caf::replies_to<atom::acquire, std::string, uint64_t>::with<uint64_t>>;

/// The shard map of one volume. Its listing says what its tiers say; of clients it does not know.
using volume_actor = caf::typed_actor<caf::replies_to<atom::get>::with<volume_info>,
                                      // The homes of a range of shards (first, count).
                                      caf::replies_to<atom::locate, shard_index, uint64_t>::with<shard_map_part>,
                                      // Makes a shard exist: places it, creates it on its tier, commits its record. One
                                      // that exists: its home. errc::tier_full.
                                      caf::replies_to<atom::create, shard_index>::with<shard_home>,
                                      // Journals a migration's step in one batch with, at `committed`, the shard's new
                                      // home. errc::conflict when the shard's home is not `from` any more.
                                      caf::replies_to<atom::commit, migration_record>::with<migration_record>,
                                      // Grows (or, when nothing is lost, shrinks) the volume. errc::invalid_argument.
                                      caf::replies_to<atom::resize, uint64_t>::with<volume_record>,
                                      // Records an attachment. errc::volume_attached when there is another one already
                                      // and it is not said (true) that there may be, or another one at this host.
                                      caf::replies_to<atom::attach, volume_attachment, bool>::with<volume_record>,
                                      // Its end; one that is over already is none.
                                      caf::replies_to<atom::detach, holder_id>::with<volume_record>,
                                      // Removes all shards, then the record. errc::volume_attached. Ends the actor.
                                      caf::replies_to<atom::remove>::with<volume_record>>;

/// Which volumes there are; starts a volume actor for each.
using volume_directory_actor = caf::typed_actor<
  // errc::already_exists, errc::invalid_argument.
  caf::replies_to<atom::create, volume_spec>::with<volume_record>,
  // By name or id (errc::not_found).
  caf::replies_to<atom::get, std::string>::with<volume_record>,
  caf::replies_to<atom::open, volume_id>::with<volume_actor>,
  caf::replies_to<atom::list>::with<std::vector<volume_record>>>;

/// Told what a holder must stop using; answers when no I/O uses it any more.
using lease_holder_actor = caf::typed_actor<
  // The leases of a range of shards end: drop the routes, drain, answer.
  caf::replies_to<atom::revoke, shard_id, uint64_t>::with<void>,
  // The lease of a shard is for reading from now on: no more writes, answered once none is under way. One that is not
  // held, or is read only already, is no refusal.
  caf::replies_to<atom::change, shard_id>::with<void>,
  // A shard has a new home, under the same lease and epoch.
  caf::reacts_to<atom::refresh, shard_home>>;

/// Grants the leases of all volumes: any number of readers, or one writer, for each shard, and one migration beside.
using lease_manager_actor = caf::typed_actor<
  // Grants what can be granted of the range: one grant per existing shard, one per run of absent ones (read only; a
  // write lease makes the shard exist first). errc::lease_held when nothing can be granted within the options' time.
  caf::replies_to<atom::acquire, lease_request, lease_holder_actor>::with<std::vector<lease_grant>>,
  // Makes what the holder has of the range a lease of another mode, without losing it meanwhile: read to write once
  // no other holder reads, write to read at once. Only of existing shards. errc::not_found when it has none of them.
  caf::replies_to<atom::change, lease_request>::with<std::vector<lease_grant>>,
  // Renews all leases of a holder: storage is asked before this is answered. A tier that does not answer in time, or
  // refuses, is named in the answer. errc::not_found when it has none.
  caf::replies_to<atom::renew, holder_id>::with<lease_renewal>,
  // Gives back a range early (count 0: everything of the volume and holder).
  caf::replies_to<atom::release, holder_id, shard_id, uint64_t>::with<void>,
  // Takes a shard's leases away from whoever holds them, fencing them.
  caf::replies_to<atom::evict, shard_id>::with<void>,
  // A home has changed: tells the holders.
  caf::reacts_to<atom::refresh, shard_home>, caf::replies_to<atom::list, volume_id>::with<std::vector<lease_info>>,
  // What has happened since the event of that number; at most so many.
  caf::replies_to<atom::list, uint64_t, uint64_t>::with<lease_history>>;

/// Moves shards between tiers.
using migration_supervisor_actor = caf::typed_actor<
  // One migration per existing shard of the range that is not on the tier yet. errc::volatile_tier, errc::tier_full,
  // errc::not_found, errc::already_exists.
  caf::replies_to<atom::start, migration_spec>::with<std::vector<migration_id>>,
  // errc::not_found; errc::conflict when it is switching or over.
  caf::replies_to<atom::cancel, migration_id>::with<migration_progress>,
  caf::replies_to<atom::pause, migration_id>::with<migration_progress>,
  caf::replies_to<atom::resume, migration_id>::with<migration_progress>,
  // The running ones and the latest that ended (bounded).
  caf::replies_to<atom::list>::with<std::vector<migration_progress>>>;

/// Attaches volumes at the hosts of all nodes.
using attachments_actor = caf::typed_actor<
  // As the host_supervisor of that node answers. errc::not_found: no such host; errc::unavailable: it is not there now.
  caf::replies_to<atom::attach, volume_id, std::string, bool>::with<attachment>,
  // At the host named, or at the only one when it is empty. (volume, host, force)
  caf::replies_to<atom::detach, volume_id, std::string, bool>::with<void>,
  // Tells every host that has it.
  caf::replies_to<atom::resize, volume_id, uint64_t>::with<void>,
  // Of all hosts that answer.
  caf::replies_to<atom::list>::with<std::vector<attachment>>>;

/// Takes nodes out of use and back, and says what that would cost. errc::not_found: no such node.
using node_steward_actor = caf::typed_actor<
  // Cordoned or not; draining or not (which is cordoned, too). Durable when it is answered.
  caf::replies_to<atom::change, std::string, bool, bool>::with<node_condition>,
  // Of all nodes, in the order of the configuration.
  caf::replies_to<atom::list>::with<std::vector<node_condition>>,
  // Whether a node may be stopped for a while, or (true) be taken away for good.
  caf::replies_to<atom::verify, std::string, bool>::with<node_verdict>>;

/// Chooses the tier of a new shard.
using placement_actor = caf::typed_actor<
  // errc::tier_full when none has room, errc::not_found for a named tier that is not there, errc::volatile_tier.
  caf::replies_to<atom::place, volume_record, shard_index>::with<std::string>,
  // These nodes get nothing until it is said again.
  caf::reacts_to<atom::change, std::vector<std::string>>>;

// -- storage -------------------------------------------------------------------------------------------------------

/// Owns one tier's capacity and its shards.
using tier_actor = caf::typed_actor<
  caf::replies_to<atom::get>::with<tier_info>,
  // Makes a shard durably (of holes). errc::tier_full, errc::already_exists. (home, shard size in bytes)
  caf::replies_to<atom::create, shard_home, uint64_t>::with<shard_home>,
  // Storage's part of a lease: raises the shard's fence if the grant's is higher (durable in the node's epoch log, then
  // in the shard, after draining), records the grant, and answers with the term it accepts: maybe shorter, then with
  // why. errc::stale_epoch for a lower epoch, errc::deposed, errc::not_found, errc::shard_moved, errc::unavailable (a
  // move's sink; overloaded).
  caf::replies_to<atom::fence, lease_grant>::with<lease_grant>,
  // Renews, for as long as it accepts from now on. errc::deposed.
  caf::replies_to<atom::renew, tier_renewal>::with<std::vector<renewal_terms>>,
  // Leases end (holder, shard; count 0 = all of the holder's): forget them, so that idle shards may passivate.
  caf::reacts_to<atom::release, holder_id, shard_id, uint64_t>,
  // The outstanding grants, for a new manager: (incarnation). It is durable before the answer; errc::deposed when a
  // newer one has asked.
  caf::replies_to<atom::inventory, uint64_t>::with<tier_inventory>,
  // It is to be emptied, or (false) no more: terms are short meanwhile, and no shard is made here. Not remembered over
  // a restart: who drains says it again.
  caf::reacts_to<atom::drain, bool>,
  // Promises room for a move's sink (shard, bytes), or gives it back (0). errc::tier_full.
  caf::replies_to<atom::reserve, shard_id, uint64_t>::with<void>,
  caf::replies_to<atom::remove, shard_id, generation>::with<void>,
  // After a migration: the shard lives here from now on / no more.
  caf::reacts_to<atom::publish, shard_home, bool>,
  // Reads all and compares: number of bad blocks.
  caf::replies_to<atom::verify, shard_id, generation>::with<uint64_t>,
  // The shards of a volume: allocated bytes, and counters of the active ones. errc::unavailable until the tier knows
  // all that it has.
  caf::replies_to<atom::list, volume_id>::with<std::vector<shard_info>>>;

/// Lets other nodes' reactors open sessions at this node's.
using data_keeper_actor = caf::typed_actor<
  // errc::not_found: no node of this cluster; errc::conflict: of an earlier life of it.
  caf::replies_to<atom::get, data_access_request>::with<data_access>>;

/// Carries out the data plane's part of moves whose source is on this node (data_plane.hpp says what each does). All
/// are refused with errc::stale_epoch once somebody of a higher term has asked for anything: one who commanded before
/// and does not know yet that he is replaced must not take back what his successor has committed. Each may be asked
/// again when its answer does not come: what is under way is joined, not begun twice.
using mover_actor = caf::typed_actor<caf::replies_to<atom::start, mover_term, move_ends>::with<void>,
                                     // At most so many bytes. What stopped it stands in the answer.
                                     caf::replies_to<atom::copy, mover_term, move_ends, uint64_t>::with<copy_round>,
                                     caf::replies_to<atom::seal, mover_term, move_ends>::with<switch_result>,
                                     // Committed or not; how long the gate was closed.
                                     caf::replies_to<atom::end, mover_term, move_ends, bool>::with<caf::timespan>>;

// -- host ----------------------------------------------------------------------------------------------------------

/// One per attached volume: holds its leases and routes.
using vm_agent_actor =
  lease_holder_actor::extend<caf::replies_to<atom::get>::with<attachment>,
                             caf::replies_to<atom::resize, uint64_t>::with<void>,
                             // Closes the port (force: parked requests fail), gives back all leases, then ends.
                             caf::replies_to<atom::detach, bool>::with<void>>;

/// Attaches volumes to VMs of this host. What a holder is told it passes on to the volume's agent: so a manager that
/// has not heard of the agent yet finds it.
using host_supervisor_actor = lease_holder_actor::extend<
  // By id; attached here already: its attachment. Answered once the socket listens. errc::volume_attached at another
  // host, unless it is said (true) that it may be.
  caf::replies_to<atom::attach, volume_id, bool>::with<attachment>,
  // (volume, force). errc::volume_detached.
  caf::replies_to<atom::detach, volume_id, bool>::with<void>,
  caf::replies_to<atom::resize, volume_id, uint64_t>::with<void>,
  caf::replies_to<atom::list>::with<std::vector<attachment>>>;

// -- node ----------------------------------------------------------------------------------------------------------

/// Gathers what people and Prometheus ask.
using monitor_actor = caf::typed_actor<caf::replies_to<atom::get>::with<node_status>,
                                       // The latest events, at most a number.
                                       caf::replies_to<atom::list, uint64_t>::with<std::vector<event>>,
                                       caf::reacts_to<atom::publish, event>>;

/// Which nodes of the cluster there are, and how they are.
using membership_actor = caf::typed_actor<
  // A node says that it lives: who hears it. errc::unsupported: another protocol, both are named; errc::not_found: no
  // node of this cluster; errc::conflict: a later life of it was heard already.
  caf::replies_to<atom::join, node_announcement>::with<std::string>,
  caf::replies_to<atom::list>::with<std::vector<member_info>>>;

/// Where the actors of a node are found by the other nodes. Of two nodes that need each other the one that stands
/// earlier in the cluster's file connects.
using node_gate_actor = caf::typed_actor<
  // Which node this is.
  caf::replies_to<atom::get>::with<node_announcement>,
  // The node that has connected says who it is, and hands over its own gate; who it has reached. Said again each
  // heartbeat. errc::unsupported: another protocol, both are named; errc::not_found: no node of this cluster, or not
  // one that connects to this one; errc::conflict: a later life of it was heard already.
  caf::replies_to<atom::join, node_announcement, caf::strong_actor_ptr>::with<node_announcement>,
  // The actor of that path here. errc::not_found: none now, errc::unsupported: none that others may talk to.
  caf::replies_to<atom::open, std::string>::with<caf::strong_actor_ptr>>;

/// Answers the console of another node, about this node's actors and those of the nodes that this one hears. A path
/// begins with the name of a node. errc::not_found: no such node or actor; errc::unavailable: that node is not heard;
/// errc::timed_out: it did not answer.
using console_actor = caf::typed_actor<
  // The actors from a path on, parents before children, of each at most so many children (0: as many as are shown).
  caf::replies_to<atom::list, std::string, uint64_t>::with<std::vector<actor_row>>,
  caf::replies_to<atom::report, std::string>::with<actor_inspection>,
  // What the actor may be sent.
  caf::replies_to<atom::get, std::string>::with<std::vector<actor_message>>,
  // Which the asking node has allowed. An event of the node whose actor it is.
  caf::replies_to<atom::send, console_message>::with<actor_facts>,
  // (path, who does it)
  caf::replies_to<atom::kill, std::string, std::string>::with<void>>;

/// The root of a node's hierarchy.
using node_root_actor = caf::typed_actor<
  // The whole tree, dead ones included.
  caf::replies_to<atom::list>::with<std::vector<actor_info>>,
  // Kills the actor of that path (for tests and the console); its supervisor restarts it. errc::not_found.
  caf::replies_to<atom::kill, std::string>::with<void>,
  // Stops everything in order: hosts (drain, flush), management, storage. Ends the actor.
  caf::replies_to<atom::stop>::with<void>>;

} // namespace varve

#include "messages/prebuilt.hpp"
