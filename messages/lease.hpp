#pragma once

#include <string>
#include <vector>

#include <caf/timespan.hpp>

#include "messages/types.hpp"
#include "messages/volume.hpp"

namespace varve {

/// read is shared; write excludes read and write of other holders; migration is one per shard, beside read or write.
enum class lease_mode : uint8_t { read = 0, write = 1, migration = 2 };

inline const char* to_string(lease_mode x) noexcept {
  return x == lease_mode::read ? "read" : x == lease_mode::write ? "write" : "migration";
}

/// Why a term is shorter than the holder wished. Never renumbered.
enum class term_limit : uint8_t {
  none = 0,
  /// By management: the volume's sensitivity; others have asked for the shard lately.
  sensitive = 1,
  contended = 2,
  /// By storage: the shard is being moved; its tier is being emptied; its tier has more to do than it can.
  migrating = 3,
  draining = 4,
  overloaded = 5,
};

inline const char* to_string(term_limit x) noexcept {
  switch (x) {
  case term_limit::none: return "";
  case term_limit::sensitive: return "sensitive";
  case term_limit::contended: return "contended";
  case term_limit::migrating: return "migrating";
  case term_limit::draining: return "draining";
  case term_limit::overloaded: return "overloaded";
  }
  return "unknown";
}

/// Whether leases of two holders may stand beside each other on one shard.
constexpr bool compatible(lease_mode a, lease_mode b) noexcept {
  if (a == lease_mode::migration || b == lease_mode::migration)
    return a != b;
  return a == lease_mode::read && b == lease_mode::read;
}

/// Asks for leases on a range of shards of one volume, for one holder.
struct lease_request {
  holder_id holder;
  shard_id first;
  uint64_t count = 1;
  lease_mode mode = lease_mode::read;
  /// What the holder would like; the answer may be shorter.
  caf::timespan term{0};
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_request& x) {
  return f(caf::meta::type_name("varve::lease_request"), x.holder, x.first, x.count, x.mode, x.term);
}

/// The right to use one shard for a while, as its holder knows it. Of shards that do not exist a single read lease
/// covers a whole run (`count`): their reads give zeros.
struct lease_grant {
  lease_id id;
  holder_id holder;
  shard_home home;
  uint64_t count = 1;
  lease_mode mode = lease_mode::read;
  /// Storage refuses any epoch below the highest it has seen.
  epoch fence;
  /// The holder counts from when it asked, the server from when it answered.
  caf::timespan term{0};
  term_limit limit = term_limit::none;
  /// The incarnation of the manager that grants it. Storage refuses those of lower ones than it was asked by.
  uint64_t manager = 0;
  /// As lease_renewal's, in an answer to a holder.
  uint64_t revision = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_grant& x) {
  return f(caf::meta::type_name("varve::lease_grant"), x.id, x.holder, x.home, x.count, x.mode, x.fence, x.term,
           x.limit, x.manager, x.revision);
}

/// What is outstanding on one tier.
struct tier_inventory {
  std::vector<lease_grant> grants;
  /// Those are all. Not so of a tier that has run for less than a term: what its earlier life agreed to it does not
  /// know.
  bool complete = true;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, tier_inventory& x) {
  return f(caf::meta::type_name("varve::tier_inventory"), x.grants, x.complete);
}

/// Leases of a holder that were not renewed: those on one tier.
struct lease_gap {
  std::string tier;
  /// Why: "overloaded: ...", "request_timeout".
  std::string why;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_gap& x) {
  return f(caf::meta::type_name("varve::lease_gap"), x.tier, x.why);
}

/// The answer to one keep-alive, which renews all leases of a holder: storage has confirmed it.
struct lease_renewal {
  /// Of all leases but those on the tiers of `gaps`, whose terms go on as they were.
  caf::timespan term{0};
  std::vector<lease_gap> gaps;
  uint64_t renewed = 0;
  /// Higher with each lease of this holder that has ended without the holder's word (expired, broken), and with each
  /// manager. A holder who knows a lower number has lost something, and is to ask again for all that it has.
  uint64_t revision = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_renewal& x) {
  return f(caf::meta::type_name("varve::lease_renewal"), x.term, x.gaps, x.renewed, x.revision);
}

/// Asks storage to renew all leases of a holder on one tier.
struct holder_renewal {
  holder_id holder;
  /// The longest of these leases' terms.
  caf::timespan term{0};
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, holder_renewal& x) {
  return f(caf::meta::type_name("varve::holder_renewal"), x.holder, x.term);
}

/// Renewals of many holders at once.
struct tier_renewal {
  /// The manager's incarnation.
  uint64_t manager = 0;
  std::vector<holder_renewal> holders;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, tier_renewal& x) {
  return f(caf::meta::type_name("varve::tier_renewal"), x.manager, x.holders);
}

/// What storage agrees to for one holder.
struct renewal_terms {
  holder_id holder;
  /// At most what was asked; 0: none of its leases is known here.
  caf::timespan term{0};
  term_limit limit = term_limit::none;
  /// How many of its leases the tier has recorded.
  uint64_t leases = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, renewal_terms& x) {
  return f(caf::meta::type_name("varve::renewal_terms"), x.holder, x.term, x.limit, x.leases);
}

/// What happened to a lease. Never renumbered.
enum class lease_change : uint8_t { granted = 0, changed = 1, released = 2, broken = 3, expired = 4, refused = 5 };

inline const char* to_string(lease_change x) noexcept {
  switch (x) {
  case lease_change::granted: return "granted";
  case lease_change::changed: return "changed";
  case lease_change::released: return "released";
  case lease_change::broken: return "broken";
  case lease_change::expired: return "expired";
  case lease_change::refused: return "refused";
  }
  return "unknown";
}

/// One line of `lease watch`.
struct lease_event {
  /// Counts from 1 in each life of the manager, without gaps.
  uint64_t number = 0;
  /// Seconds since 1970, UTC: for people only.
  uint64_t at = 0;
  lease_change what = lease_change::granted;
  lease_grant grant;
  /// Of a refusal, and of what storage shortened: why.
  std::string why;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_event& x) {
  return f(caf::meta::type_name("varve::lease_event"), x.number, x.at, x.what, x.grant, x.why);
}

/// What has happened since an event that somebody knows.
struct lease_history {
  /// Of the manager; with another one numbers begin anew.
  uint64_t incarnation = 0;
  /// Of the newest event there is; 0: none.
  uint64_t newest = 0;
  /// In order. Only the latest are kept: a first one that does not follow the one known says that some were lost.
  std::vector<lease_event> events;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_history& x) {
  return f(caf::meta::type_name("varve::lease_history"), x.incarnation, x.newest, x.events);
}

/// One lease for `lease ls`.
struct lease_info {
  lease_grant grant;
  caf::timespan remaining{0};
  /// "granting", "granted" or "revoking".
  std::string state;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_info& x) {
  return f(caf::meta::type_name("varve::lease_info"), x.grant, x.remaining, x.state);
}

} // namespace varve
