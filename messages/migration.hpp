#pragma once

#include <string>
#include <vector>

#include <caf/timespan.hpp>

#include "messages/errors.hpp"
#include "messages/types.hpp"

namespace varve {

/// DESIGN section 7; each step is journalled in the catalog before it is acted on. The numbers are on disk.
enum class migration_state : uint8_t {
  planned = 0,
  copying = 1,
  catching_up = 2,
  switching = 3,
  committed = 4,
  aborted = 5,
};

inline const char* to_string(migration_state x) noexcept {
  constexpr const char* names[] = {"planned", "copying", "catching_up", "switching", "committed", "aborted"};
  return static_cast<size_t>(x) < 6 ? names[static_cast<size_t>(x)] : "unknown";
}

/// Asks to move the shards of a byte range to a tier.
struct migration_spec {
  volume_id volume;
  shard_index first;
  uint64_t count = 1;
  std::string to_tier;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, migration_spec& x) {
  return f(caf::meta::type_name("varve::migration_spec"), x.volume, x.first, x.count, x.to_tier);
}

/// One migration as the catalog journals it.
struct migration_record {
  migration_id id;
  shard_id shard;
  std::string from_tier, to_tier;
  generation from, to;
  migration_state state = migration_state::planned;
  /// Why it was aborted, as an errc's name and context; empty otherwise.
  std::string reason;
  /// Seconds since 1970, UTC: for people only.
  uint64_t started_at = 0, ended_at = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, migration_record& x) {
  return f(caf::meta::type_name("varve::migration_record"), x.id, x.shard, x.from_tier, x.to_tier, x.from, x.to,
           x.state, x.reason, x.started_at, x.ended_at);
}

/// Who commands moves: a later migration_supervisor, of whichever manager, has a higher number.
using mover_term = named<uint64_t, struct mover_term_tag>;

/// What is moved where: both homes of one shard.
struct move_ends {
  migration_id id;
  shard_id shard;
  std::string from_tier, to_tier;
  generation from, to;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, move_ends& x) {
  return f(caf::meta::type_name("varve::move_ends"), x.id, x.shard, x.from_tier, x.to_tier, x.from, x.to);
}

/// How far a migration's copying is.
struct copy_round {
  errc status = errc::none;
  /// Copied in this round, and the bytes that changed meanwhile.
  uint64_t copied_bytes = 0;
  uint64_t changed_bytes = 0;
  uint64_t blocks_verified = 0;
  uint64_t verify_failures = 0;
  /// Still to be copied now, `changed_bytes` included: 0 when the ends are alike.
  uint64_t remaining_bytes = 0;
  /// From now on each change is made at the sink, too, before its VM is answered. Begins after three rounds in which as
  /// much changed as in the one before.
  bool mirroring = false;
  /// False after three such rounds in spite of mirroring (the sink is too slow for the VM to wait for it), or where it
  /// cannot be: more rounds will not help, switch.
  bool shrinking = true;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, copy_round& x) {
  return f(caf::meta::type_name("varve::copy_round"), x.status, x.copied_bytes, x.changed_bytes, x.blocks_verified,
           x.verify_failures, x.remaining_bytes, x.mirroring, x.shrinking);
}

struct switch_result {
  errc status = errc::none;
  /// How long the gate has been closed so far.
  std::chrono::nanoseconds gate_closed{0};
  uint64_t copied_bytes = 0;
  /// Of these, with the gate closed.
  uint64_t gated_bytes = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, switch_result& x) {
  return f(caf::meta::type_name("varve::switch_result"), x.status, x.gate_closed, x.copied_bytes, x.gated_bytes);
}

/// The one progress record: the same numbers in CLI, RPC and metrics. Percent is monotonic and ends at 100.
struct migration_progress {
  migration_record record;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  double percent = 0;
  double bytes_per_second = 0;
  /// Zero: unknown.
  caf::timespan remaining{0};
  bool paused = false;
  /// Changes come faster than they are copied: each is made at both ends before the VM is answered.
  bool mirroring = false;
  /// "budget", "foreground" or empty.
  std::string throttled_by;
  std::string last_error;
  uint64_t blocks_verified = 0;
  uint64_t verify_failures = 0;
  caf::timespan gate_closed{0};
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, migration_progress& x) {
  return f(caf::meta::type_name("varve::migration_progress"), x.record, x.bytes_done, x.bytes_total, x.percent,
           x.bytes_per_second, x.remaining, x.paused, x.mirroring, x.throttled_by, x.last_error, x.blocks_verified,
           x.verify_failures, x.gate_closed);
}

} // namespace varve
