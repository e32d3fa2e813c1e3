#pragma once

#include <cstdint>
#include <string>

#include <caf/atom.hpp>
#include <caf/error.hpp>
#include <caf/make_message.hpp>

namespace varve {

/// Why something was refused, and so what to do. The numbers travel and are logged: append only.
enum class errc : uint8_t {
  /// Reserved: an error with code 0 tests as no error.
  none = 0,
  /// Another holder's lease has not ended. Wait, or ask it to give way.
  lease_held = 1,
  /// Older than the shard's newest epoch. Fetch the route again, then retry.
  stale_epoch = 2,
  /// The shard's home is elsewhere by now (another generation, or sealed). Fetch the route again, then retry.
  shard_moved = 3,
  /// No volume, shard, tier, lease or migration of that name.
  not_found = 4,
  /// A volume (attachment, migration) of that name is already there.
  already_exists = 5,
  /// An argument outside its range; the context says which.
  invalid_argument = 6,
  /// The tier has no room for it. Nothing was changed.
  tier_full = 7,
  /// The device failed a read, write or sync.
  device_failed = 8,
  /// A block does not match its checksum: never wrong bytes, always this.
  checksum_mismatch = 9,
  /// Not now: starting, draining or stopping. Retry.
  unavailable = 10,
  /// The compared revision is not the current one. Read again, then retry.
  conflict = 11,
  /// Attached: detach first.
  volume_attached = 12,
  /// Not attached.
  volume_detached = 13,
  /// A durable shard must not live on a volatile tier alone.
  volatile_tier = 14,
  /// On-disk data of a newer version, or not ours.
  bad_format = 15,
  /// Was cancelled by request.
  cancelled = 16,
  /// No answer within the options' time.
  timed_out = 17,
  /// A sync failed earlier: the shard serves nothing until it is verified.
  shard_failed = 18,
  /// The verb needs its --yes (or --force) because data may be lost.
  needs_confirmation = 19,
  /// What was asked cannot be done by this build or on this machine.
  unsupported = 20,
  /// A limit of the options (connections, volumes, queue) is reached.
  limit_reached = 21,
  /// The session was opened to read only.
  read_only = 22,
  /// A newer manager has asked: this one must not grant or renew anything any more.
  deposed = 23,
};

/// The enumerator's own name, as in logs and JSON: "lease_held".
const char* to_string(errc code) noexcept;

/// An error with a context that a person can read (a name, a range, what was expected).
caf::error make_error(errc code, std::string context = {});

/// The code of an error made by make_error; errc::unavailable for CAF's own (request receiver down, ...) and
/// errc::timed_out for its time-outs; errc::none for no error.
errc code_of(const caf::error& error) noexcept;

/// The context of an error, or CAF's rendering of its own errors.
std::string context_of(const caf::error& error);

} // namespace varve
